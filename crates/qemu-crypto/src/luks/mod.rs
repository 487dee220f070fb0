//! LUKS version 1: a header, eight key slots, and the payload.
//!
//! ```text
//!   0        header: names of cipher and hash, digest of the master key, the state of the slots
//!   4096     key material of slot 0, spread over 4000 stripes and encrypted with its passphrase
//!   …        slots 1 to 7
//!   payload offset
//! ```
//!
//! Each active slot holds the same master key. The caller reads and writes the places that [`LuksHeader`] names.
//!
//! QEMU: crypto/block-luks.c; the format is cryptsetup's "LUKS On-Disk Format Specification", version 1.2.1

mod amend;
mod create;
mod header;
mod slots;

pub use self::amend::{AmendOptions, AmendStep, Materials, SlotState};
pub use self::create::{CreateOptions, NewLuks};
pub use self::header::{HEADER_BYTES, KeySlot, LuksHeader, probe};
pub use self::slots::{Material, SLOTS, SlotIndex};

/// Stripes of the key material in every slot.
pub const STRIPES: usize = 4000;

/// The key material of the first slot starts here, in bytes; slots and payload start no earlier.
pub const FIRST_SLOT_OFFSET: u64 = 4096;

/// Most iterations that an image may ask for: about a minute of a fast processor for each slot (rule R17). The
/// reference has no limit, so an image can keep it busy for hours.
pub const ITERATIONS_MAX: u32 = 200_000_000;

/// Fewest iterations that a new slot gets.
const ITERATIONS_MIN: u32 = 1000;

/// How long deriving a key shall take if nobody says, in milliseconds.
const DEFAULT_ITER_TIME_MS: u64 = 2000;

/// How often key material is overwritten when a slot is erased.
const ERASE_ROUNDS: usize = 40;
