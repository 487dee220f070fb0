//! Filters: drivers that show what the node below them stores, and change how it is read, written or allocated.
//!
//! ```text
//! --image-opts driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename=a.qcow2
//!
//!   throttle ── file ──► qcow2 ── file ──► file
//! ```
//!
//! | module | driver |
//! |---|---|
//! | [`pass`] | what all have in common: every request goes to the node below, unless the filter does it itself |
//! | [`driver`] | the drivers' common part |
//! | [`compress`] | `compress`: everything that is written is compressed |
//! | [`copy_on_read`] | `copy-on-read`: what is read from a backing file is kept |
//! | [`preallocate`] | `preallocate`: a file that grows gets more than it needs, until it is closed |
//! | [`blkdebug`] | `blkdebug`: requests fail, or stop, where a test wants them to |
//! | [`throttle`] | `throttle`: requests wait until their group's limits let them through |
//!
//! QEMU: block/throttle.c and others, whose `BlockDriver` says `is_filter`.

#![forbid(unsafe_code)]

pub mod blkdebug;
pub mod compress;
pub mod copy_on_read;
pub mod driver;
pub mod pass;
pub mod preallocate;
pub mod throttle;

use std::sync::Arc;

use qemu_block::driver::BlockDriver;

use crate::compress::Compress;
use crate::copy_on_read::CopyOnRead;
use crate::driver::FilterDriver;
use crate::preallocate::Preallocate;
pub use blkdebug::BlkdebugDriver;
pub use throttle::{ThrottleDriver, ThrottleGroups};

/// The drivers of all filters that need nothing but a node below them.
pub fn plain_drivers() -> [Arc<dyn BlockDriver>; 3] {
    [Arc::new(FilterDriver(Compress)), Arc::new(FilterDriver(CopyOnRead)), Arc::new(FilterDriver(Preallocate))]
}
