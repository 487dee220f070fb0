//! The crate as its users see it: the examples, and what the types may be used for.

#![cfg(not(qemu_loom))]

mod examples;
mod traits;
