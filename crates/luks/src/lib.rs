//! The LUKS format: a disk encrypted as a whole, sector by sector.
//!
//! ```text
//!   header and key slots │ payload                      all in one file, or
//!
//!   header and key slots    payload                     each in its own: the option `header.*` names the former
//! ```
//!
//! A passphrase opens a key slot, the slot gives the master key, the master key decrypts the payload. Sectors are numbered
//! from the start of the payload. What `info` tells is in the header, which is not encrypted, so it needs no passphrase.
//!
//! | file | concept |
//! |---|---|
//! | `driver` | [`LuksDriver`]: probing, permissions, options |
//! | `open` | finding header and payload, and unlocking |
//! | `area` | reading and writing the header and the key slots |
//! | `image` | an open image: requests |
//! | `amend` | changing key slots |
//! | `create`, `measure` | new images |
//!
//! What the format shares with encrypted qcow2 images is in [`qemu_block::crypt`]; the ciphers and LUKS itself are in
//! [`qemu_crypto`].
//!
//! QEMU: block/crypto.c.

#![forbid(unsafe_code)]

mod amend;
mod area;
mod create;
mod driver;
mod image;
mod measure;
mod open;

pub use driver::LuksDriver;
