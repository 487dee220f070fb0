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
//! | [`throttle`] | `throttle`: requests wait until their group's limits let them through |
//!
//! QEMU: block/throttle.c and others, whose `BlockDriver` says `is_filter`.

#![forbid(unsafe_code)]

pub mod pass;
pub mod throttle;

pub use throttle::{ThrottleDriver, ThrottleGroups};
