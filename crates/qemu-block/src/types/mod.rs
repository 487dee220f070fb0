//! Plain values that requests and drivers exchange. Offsets and lengths here are bytes, always `u64`.

mod flags;
mod info;
mod limits;
mod status;

pub use flags::{CacheMode, OpenFlags, Perm, PreallocMode, WriteFlags, ZeroFlags};
pub use info::{CheckFixes, CheckReport, DriverInfo, FormatSpecific, InfoValue, SnapshotInfo};
pub use limits::BlockLimits;
pub use status::{BlockStatus, StatusFlags};
