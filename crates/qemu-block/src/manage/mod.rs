//! What can be done to an image besides I/O on its disk: snapshots, bitmaps, changes of its own properties, and the
//! question how large one will be.
//!
//! Each is a capability that an open image has or has not; [`BlockOps`](crate::driver::BlockOps) hands out those that it
//! has. All of them are object-safe, and their futures need nothing but a waker.

mod amend;
mod bitmap;
mod measure;
mod snapshot;

pub use amend::{AmendOps, AmendRequest, BackingLink, Progress};
pub use bitmap::{BitmapInfo, BitmapOps, NewBitmap};
pub use measure::{Measurement, cannot_measure};
pub use snapshot::{NewSnapshot, SnapshotOps, SnapshotSelector};
