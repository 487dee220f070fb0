//! The qcow2 image format.
#![forbid(unsafe_code)]

mod alloc;
mod bitmaps;
mod cache;
mod check;
mod compress;
mod create;
mod driver;
pub mod error;
pub mod format;
mod image;
mod info;
mod io;
pub mod limits;
mod map;
mod meta;
mod open;
mod overlap;
mod snapshots;
pub mod units;

pub use driver::Qcow2Driver;
