//! A disk for the tests of this module: bytes in memory behind a driver that insists on its limits.

use crate::manage::{AmendOps, BitmapOps, Measurement, SnapshotOps, cannot_measure};
use std::sync::Arc;

use qemu_util::buf::{IoVec, IoVecMut};
use qemu_util::primitive::Mutex;

use crate::aio::CopySource;
use crate::compressed::CompressedRun;
use crate::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, FileIdentity, IoFuture, OpenRequest};
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::{Edge, Node};
use crate::options::CreateOption;
use crate::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, OpenFlags, Perm, PreallocMode, StatusFlags,
    WriteFlags, ZeroFlags,
};

/// What the node did with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) reads: usize,
    pub(crate) writes: usize,
    pub(crate) zeroes: usize,
    /// Write-zeroes that were not aligned.
    pub(crate) zeroes_refused: usize,
    pub(crate) flushes: usize,
    pub(crate) closes: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) bytes: Vec<u8>,
    pub(crate) counts: Counts,
    pub(crate) discarded: Vec<std::ops::Range<u64>>,
}

/// The shared side of a [`TestOps`], for tests to look at.
pub(crate) type SharedState = Arc<Mutex<State>>;

/// How the disk behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) limits: BlockLimits,
    pub(crate) kind: DriverKind,
    /// Whether write-zeroes works.
    pub(crate) zeroes: bool,
    pub(crate) children: Vec<Edge>,
    /// What block status says, in order of offsets: end of the extent and its flags. Empty: all data.
    pub(crate) extents: Vec<(u64, StatusFlags)>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            limits: BlockLimits::UNLIMITED,
            kind: DriverKind::Protocol,
            zeroes: true,
            children: Vec::new(),
            extents: Vec::new(),
        }
    }
}

/// A node over `bytes`.
pub(crate) fn node(bytes: Vec<u8>, behaviour: Behaviour, flags: OpenFlags) -> (Arc<Node>, SharedState) {
    let state = Arc::new(Mutex::new(State { bytes, counts: Counts::default(), discarded: Vec::new() }));
    let driver = Arc::new(TestDriver { name: "test", kind: behaviour.kind, magic: b"" });
    let ops = TestOps { state: Arc::clone(&state), behaviour };
    (Node::new(driver, Box::new(ops), "test".to_owned(), flags), state)
}

/// A driver that recognises images by their first bytes; cannot open anything.
#[derive(Debug)]
pub(crate) struct TestDriver {
    pub(crate) name: &'static str,
    pub(crate) kind: DriverKind,
    pub(crate) magic: &'static [u8],
}

fn unsupported<T>() -> Result<T> {
    Err(BlockError::new(ErrorKind::Unsupported, "not for tests"))
}

impl BlockDriver for TestDriver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> DriverKind {
        self.kind
    }

    fn probe(&self, head: &[u8]) -> u8 {
        match (self.magic, head.starts_with(self.magic)) {
            (b"", _) => 1,
            (_, true) => 100,
            (_, false) => 0,
        }
    }

    fn storage_perms(&self, perm: Perm, shared: Perm, _flags: OpenFlags) -> (Perm, Perm) {
        (perm, shared)
    }

    fn open<'a>(&'a self, _request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async { unsupported() })
    }

    fn create_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(
        &'a self,
        _options: crate::options::Options,
        _source: Option<&'a Arc<Node>>,
    ) -> IoFuture<'a, Measurement> {
        Box::pin(async { Err(cannot_measure(self.name())) })
    }

    fn create(&self, _request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(async { unsupported() })
    }
}

/// The open disk.
#[derive(Debug)]
pub(crate) struct TestOps {
    pub(crate) state: SharedState,
    pub(crate) behaviour: Behaviour,
}

impl TestOps {
    fn assert_aligned(&self, offset: u64, len: u64) {
        let limits = &self.behaviour.limits;
        let align = u64::from(limits.request_alignment);
        assert!(len > 0 && len <= limits.transfer_max, "length {len}");
        assert!(offset.is_multiple_of(align) && len.is_multiple_of(align), "{offset}+{len} is not aligned to {align}");
    }

    fn assert_memory<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) {
        let align = self.behaviour.limits.memory_alignment as usize;
        for part in parts {
            assert!(part.as_ptr().addr().is_multiple_of(align) && part.len().is_multiple_of(align));
        }
    }

    /// Where the device ends for requests that are aligned.
    fn padded_len(&self) -> usize {
        self.state.lock().bytes.len().next_multiple_of(self.behaviour.limits.request_alignment as usize)
    }
}

impl BlockOps for TestOps {
    fn len(&self) -> u64 {
        self.state.lock().bytes.len() as u64
    }

    fn limits(&self) -> BlockLimits {
        self.behaviour.limits
    }

    fn children(&self) -> Vec<Edge> {
        self.behaviour.children.clone()
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        Box::pin(async { Ok(DriverInfo::default()) })
    }

    fn set_perm(&self, _perm: Perm, _shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn identity(&self) -> Option<FileIdentity> {
        None
    }

    fn read(&self, offset: u64, mut buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(async move {
            self.assert_aligned(offset, buf.len() as u64);
            self.assert_memory(buf.parts().iter().map(|part| &part[..]));
            let padded_len = self.padded_len();
            let mut at = usize::try_from(offset).unwrap();
            assert!(at + buf.len() <= padded_len, "reads reach at most to the padded end");
            // Others get their turn here, so that a read-modify-write cycle without a lock would lose an update.
            tokio::task::yield_now().await;
            let mut state = self.state.lock();
            state.counts.reads += 1;
            for part in buf.parts_mut() {
                for byte in part.iter_mut() {
                    *byte = state.bytes.get(at).copied().unwrap_or(0);
                    at += 1;
                }
            }
            Ok(buf)
        })
    }

    fn write(&self, offset: u64, data: IoVec, _flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.assert_aligned(offset, data.len() as u64);
            self.assert_memory(data.parts().iter().map(|part| &part[..]));
            let padded_len = self.padded_len();
            tokio::task::yield_now().await;
            let growable = self.behaviour.limits.growable;
            let mut state = self.state.lock();
            state.counts.writes += 1;
            let at = usize::try_from(offset).unwrap();
            let end = at + data.len();
            assert!(growable || end <= padded_len, "a device that cannot grow is not asked to");
            let len = state.bytes.len();
            if growable {
                state.bytes.resize(len.max(end), 0);
            }
            let room = state.bytes.len().min(end) - at;
            state.bytes[at..at + room].copy_from_slice(&data.to_vec()[..room]);
            Ok(())
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, _flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            if !self.behaviour.zeroes {
                return unsupported();
            }
            let align = u64::from(self.behaviour.limits.zero_alignment.max(self.behaviour.limits.request_alignment));
            let ends_well = len.is_multiple_of(align) || offset + len == self.len();
            assert!(len > 0, "empty ranges are not passed on");
            if !offset.is_multiple_of(align) || !ends_well {
                self.state.lock().counts.zeroes_refused += 1;
                return unsupported();
            }
            let (at, end) = (usize::try_from(offset).unwrap(), usize::try_from(offset + len).unwrap());
            let mut state = self.state.lock();
            state.counts.zeroes += 1;
            let longer = state.bytes.len().max(end);
            state.bytes.resize(longer, 0);
            state.bytes[at..end].fill(0);
            Ok(())
        })
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.state.lock().discarded.push(offset..offset + len);
            Ok(())
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async {
            self.state.lock().counts.flushes += 1;
            Ok(())
        })
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(async move {
            let extent = self.behaviour.extents.iter().find(|(end, _)| offset < *end);
            let (end, flags) = extent.copied().unwrap_or((u64::MAX, StatusFlags::DATA));
            let host_offset = flags.contains(StatusFlags::DATA).then_some(offset);
            Ok(BlockStatus { len: len.min(end - offset), flags, host_offset })
        })
    }

    fn truncate(&self, len: u64, _prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.state.lock().bytes.resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        })
    }

    fn copy_source(&self, _offset: u64, _len: u64) -> IoFuture<'_, CopySource> {
        Box::pin(async { unsupported() })
    }

    fn copy_range(&self, _offset: u64, _source: CopySource, _len: u64) -> IoFuture<'_, ()> {
        Box::pin(async { unsupported() })
    }

    fn compress(&self, _offset: u64, _data: IoVec) -> IoFuture<'_, CompressedRun> {
        Box::pin(async { unsupported() })
    }

    fn write_compressed(&self, _run: CompressedRun) -> IoFuture<'_, ()> {
        Box::pin(async { unsupported() })
    }

    fn check(&self, _fixes: CheckFixes) -> IoFuture<'_, CheckReport> {
        Box::pin(async { unsupported() })
    }

    fn snapshots(&self) -> Option<&dyn SnapshotOps> {
        None
    }

    fn bitmaps(&self) -> Option<&dyn BitmapOps> {
        None
    }

    fn amending(&self) -> Option<&dyn AmendOps> {
        None
    }

    fn close(&self) -> IoFuture<'_, ()> {
        Box::pin(async {
            self.state.lock().counts.closes += 1;
            Ok(())
        })
    }
}
