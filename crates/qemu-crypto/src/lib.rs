//! Encryption of disk images: LUKS version 1, the sector ciphers below it, qcow2's old AES, and secrets by name.
//!
//! Everything here works on bytes in memory. Whoever uses it reads and writes the image, and decides on which thread
//! the expensive parts run: deriving a key takes as long as the image's iteration count says.
//!
//! ```
//! use qemu_crypto::luks::{CreateOptions, LuksHeader};
//!
//! // A new header, and the key material of its first slot.
//! let options = CreateOptions { iter_time_ms: 1, ..CreateOptions::default() };
//! let new = LuksHeader::create(&options, b"passphrase")?;
//! let header = LuksHeader::parse(&new.header.serialize())?;
//!
//! // Later: the passphrase gives the key, the key the cipher.
//! let slot = header.active_slots().next().expect("the first slot");
//! let key = header.unlock_slot(slot, &new.material.bytes, b"passphrase")?.expect("the right passphrase");
//! let cipher = header.sector_cipher(&key)?;
//! let mut sector = [7; 512];
//! cipher.encrypt(0, &mut sector);
//! assert_ne!(sector, [7; 512]);
//! cipher.decrypt(0, &mut sector);
//! assert_eq!(sector, [7; 512]);
//! # Ok::<(), qemu_crypto::error::CryptoError>(())
//! ```
//!
//! | module | concept |
//! |---|---|
//! | [`mod@error`] | what can be wrong, in the reference's words |
//! | [`secret`], [`bytes`] | secrets by name; bytes that are wiped |
//! | [`hash`], [`pbkdf`], [`afsplit`] | hashes; keys from passphrases; spreading a key over a large area |
//! | [`cipher`] | ciphers, modes and IV generators, and runs of sectors encrypted with them |
//! | [`luks`] | the LUKS header and its key slots |
//!
//! Keys and passphrases are wiped when they are dropped, and never printed. Digests of keys are compared in constant
//! time. Random bytes come from the system.
//!
//! QEMU: crypto/
#![forbid(unsafe_code)]

pub mod afsplit;
mod base64;
pub mod bytes;
pub mod cipher;
pub mod error;
pub mod hash;
pub mod luks;
pub mod pbkdf;
pub mod secret;
