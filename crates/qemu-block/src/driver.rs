//! The two roles of a driver: [`BlockDriver`] opens and creates images, [`BlockOps`] is an open one.
//!
//! Both are object-safe, because the node graph is dynamic: futures are boxed at this boundary, which costs less than
//! one system call. No method has a default that would be wrong for some driver; a driver that cannot do something
//! says so with [`ErrorKind::Unsupported`](crate::error::ErrorKind::Unsupported).
//!
//! Every future is `Send` and needs nothing but a waker, so any executor can drive it. Requests that arrive here have
//! been checked and aligned by the [`Node`]: they lie inside the device (or beyond its end, for
//! writes to a node that can grow), are never empty, and respect [`BlockLimits`]. When the length of a device is no
//! multiple of its request alignment, a read may reach past the end, up to the next multiple; those bytes read as zeros.
//!
//! QEMU: `BlockDriver` (include/block/block_int-common.h), split in two.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use qemu_util::buf::{IoVec, IoVecMut};

use crate::aio::CopySource;
use crate::compressed::CompressedRun;
use crate::debug::DebugOps;
use crate::error::Result;
use crate::manage::{AmendOps, BitmapOps, Measurement, SnapshotOps};
use crate::node::{Edge, Node};
use crate::options::{CreateOption, Options};
use crate::registry::OpenContext;
use crate::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, OpenFlags, Perm, PreallocMode, WriteFlags, ZeroFlags,
};

/// What the methods of a driver return.
pub type IoFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Where a driver stands in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// Stores bytes somewhere outside the graph: `file`, `null-co`.
    Protocol,
    /// Interprets the bytes of a node below it: `raw`, `qcow2`.
    Format,
    /// Passes on the bytes of a node below it: `throttle`. It is never probed, and has no place in a backing chain: its
    /// backing file is that of the node below.
    Filter {
        /// QEMU's name of the node below: `file`, or `image` for drivers that name it so.
        child: &'static str,
    },
}

impl DriverKind {
    /// Whether nodes of this kind have one below them that stores what they show.
    pub fn has_storage(self) -> bool {
        self != Self::Protocol
    }

    /// QEMU's name of the node below that stores what nodes of this kind show.
    pub fn storage_name(self) -> &'static str {
        match self {
            Self::Protocol | Self::Format => "file",
            Self::Filter { child } => child,
        }
    }
}

/// What a driver needs to open an image.
#[derive(Debug)]
pub struct OpenRequest {
    /// The name by which the image was asked for; a path for the `file` protocol. A driver may replace it by the one
    /// that the node shall have.
    pub filename: String,
    /// Options for this node. A driver takes out those it knows; what is left is an error that the registry reports.
    pub options: Options,
    /// How to open.
    pub flags: OpenFlags,
    /// The node that stores the image; always there for formats and filters, never for protocols. It is open and locked.
    pub storage: Option<Arc<Node>>,
    /// Access to the registry for opening further nodes.
    pub context: OpenContext,
}

/// What a driver needs to create an image.
#[derive(Debug)]
pub struct CreateRequest {
    /// Where to create it.
    pub filename: String,
    /// The creation options, as checked against [`BlockDriver::create_options`]. `size` is among them, in bytes.
    pub options: Options,
    /// Access to the registry: formats create and open the file that stores them.
    pub context: OpenContext,
}

/// Makes nodes of one kind. QEMU: the `bdrv_probe`, `bdrv_open` and `bdrv_co_create_opts` members of `BlockDriver`.
pub trait BlockDriver: fmt::Debug + Send + Sync {
    /// QEMU's name of the driver.
    fn name(&self) -> &'static str;

    /// Where it stands in the graph.
    fn kind(&self) -> DriverKind;

    /// How sure the driver is that an image beginning with `head` is its own: 0 (no) to 100.
    fn probe(&self, head: &[u8]) -> u8;

    /// What the storage node is used for, and lets others do, when this driver's node is used and shared like that.
    ///
    /// QEMU: `bdrv_child_perm`.
    fn storage_perms(&self, perm: Perm, shared: Perm, flags: OpenFlags) -> (Perm, Perm);

    /// Opens an image. Everything is validated before anything is written.
    ///
    /// Takes the options that the driver knows out of `request`; those left afterwards are unknown, and the registry
    /// closes the image again and reports them.
    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>>;

    /// The options that [`BlockDriver::create`] accepts; empty when images cannot be created.
    fn create_options(&self) -> &'static [CreateOption];

    /// The options that [`AmendOps::amend`] accepts; empty when nothing can be changed.
    fn amend_options(&self) -> &'static [CreateOption];

    /// How large an image created with `options` will be, with the data of `source` or, without one, with none.
    ///
    /// # Errors
    /// `Unsupported` when the driver cannot tell; those of creation options that are wrong; those of reading the source.
    fn measure<'a>(&'a self, options: Options, source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement>;

    /// Creates an image. On failure nothing that looks like one is left.
    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()>;
}

/// An open image.
#[expect(clippy::len_without_is_empty, reason = "drivers say how long they are; `Node` has the convenience")]
pub trait BlockOps: fmt::Debug + Send + Sync {
    /// Current length of the device in bytes.
    fn len(&self) -> u64;

    /// What requests must look like.
    fn limits(&self) -> BlockLimits;

    /// The nodes below.
    fn children(&self) -> Vec<Edge>;

    /// Facts about the image.
    fn info(&self) -> IoFuture<'_, DriverInfo>;

    /// Changes what the node is used for and what others may do with it; takes and releases image locks.
    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()>;

    /// Identity of the file behind this very node, so that loops in chains are found; none for other nodes.
    fn identity(&self) -> Option<FileIdentity>;

    /// Fills `buf` with the bytes from `offset` on and gives it back.
    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut>;

    /// Writes `data` at `offset`.
    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()>;

    /// Makes a range read as zeros, cheaply; `Unsupported` when the driver has no better way than writing zeros, which
    /// the node then does unless [`ZeroFlags::NO_FALLBACK`] is set.
    ///
    /// The range may begin and end between the units of [`BlockLimits`]: a driver that can zero only whole ones answers
    /// `Unsupported`, unless the range reads as zeros already. With `Unsupported` nothing was changed.
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()>;

    /// Gives up the content of a range. What it reads as afterwards is undefined unless the driver says more.
    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()>;

    /// Makes everything completed so far durable, unless the node was opened with [`OpenFlags::NO_FLUSH`].
    fn flush(&self) -> IoFuture<'_, ()>;

    /// The status of the extent at `offset`, at most `len` long.
    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus>;

    /// Sets the length in bytes.
    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()>;

    /// Where the bytes of a range are stored verbatim, for copying inside the kernel; `Unsupported` if nowhere.
    fn copy_source(&self, offset: u64, len: u64) -> IoFuture<'_, CopySource>;

    /// Copies `len` bytes from `source` to `offset` without moving them through this process.
    fn copy_range(&self, offset: u64, source: CopySource, len: u64) -> IoFuture<'_, ()>;

    /// Compresses whole clusters on the worker threads. Touches nothing in the image, so it may run out of order.
    fn compress(&self, offset: u64, data: IoVec) -> IoFuture<'_, CompressedRun>;

    /// Stores what [`BlockOps::compress`] made.
    fn write_compressed(&self, run: CompressedRun) -> IoFuture<'_, ()>;

    /// Checks the consistency of the metadata.
    fn check(&self, fixes: CheckFixes) -> IoFuture<'_, CheckReport>;

    /// Internal snapshots; none when the format has no such thing.
    fn snapshots(&self) -> Option<&dyn SnapshotOps>;

    /// Persistent bitmaps; none when the format has no such thing.
    fn bitmaps(&self) -> Option<&dyn BitmapOps>;

    /// Changes of the image's own properties; none when nothing can be changed.
    fn amending(&self) -> Option<&dyn AmendOps>;

    /// The listener to what the node above does. Only a driver for debugging is one; none is right for all others, also
    /// for filters: they do not hand on what they hear, as in QEMU.
    fn debugging(&self) -> Option<&dyn DebugOps> {
        None
    }

    /// Writes back everything, releases the locks, closes the nodes below. Later requests fail; a second close does
    /// nothing. The error of the first failing step is returned, after all steps were tried.
    fn close(&self) -> IoFuture<'_, ()>;
}

/// Identity of a file on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device number (`st_dev`).
    pub device: u64,
    /// Inode number (`st_ino`).
    pub inode: u64,
}
