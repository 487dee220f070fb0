//! The raw format: the guest's bytes, stored as they are.
//!
//! A raw node hands every request to the node that stores it. Three things make it more than a name for that node:
//!
//! - the options `offset` and `size` cut a window out of the storage ([`RawDriver`] opens it),
//! - a device consists of whole 512-byte sectors, so the last bytes of an odd-sized file are padded with zeros,
//! - it is what everything is that no other format recognises, so its [`probe`](qemu_block::driver::BlockDriver::probe)
//!   gives the lowest score there is.
//!
//! ```text
//! guest offset ──► raw node ── + offset ──► file node
//! ```
//!
//! QEMU: block/raw-format.c.

#![forbid(unsafe_code)]

mod create;
mod image;
mod open;
mod window;

pub use open::RawDriver;
