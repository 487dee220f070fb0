//! Raw images on the real `file` protocol, opened and created through the registry.

mod open;
mod requests;
mod support;
