//! The crate against the reference: its LUKS images opened by us, ours by it.

mod luks;
mod secrets;
mod support;
