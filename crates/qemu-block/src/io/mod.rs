//! Requests: what happens between a user of a [`Node`](crate::node::Node) and its driver.
//!
//! | file | concept |
//! |---|---|
//! | `request` | the checks that every request passes first |
//! | `align` | padding and bounce buffers for requests that the driver cannot take as they are |
//! | `range_lock` | keeps read-modify-write cycles and overlapping writes apart |
//! | `read`, `write`, `zero`, `discard`, `flush`, `truncate`, `copy_range`, `compress` | the requests |
//! | `status` | where the data is, in one node and along a backing chain |
//!
//! QEMU: block/io.c.

mod align;
mod compress;
mod copy_range;
mod discard;
mod flush;
mod range_lock;
mod read;
mod request;
mod status;
mod truncate;
mod write;
mod zero;

pub use range_lock::{RangeGuard, RangeLock, RangeMode};
pub use status::{ChainStatus, block_status_above};

#[cfg(all(test, not(qemu_loom)))]
pub(crate) mod test_disk;
#[cfg(all(test, not(qemu_loom)))]
mod tests;
