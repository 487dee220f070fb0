//! Encryption of guest data and LUKS headers, as far as nodes and worker threads are involved. The formats qcow2 and luks
//! share it; the ciphers and LUKS itself are in [`qemu_crypto`], which knows neither.
//!
//! | file | concept |
//! |---|---|
//! | `sectors` | runs of sectors, encrypted and decrypted on all processors |
//! | `luks` | what users ask for and are told about LUKS headers; trying and changing key slots |

mod luks;
mod sectors;

pub use luks::{LuksCreateOptions, LuksWrite, SlotChange, luks_info, try_slot};
pub use sectors::SectorCrypt;
