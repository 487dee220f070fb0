//! Tests of the threads engine on files in `/tmp` and on tmpfs.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use qemu_util::buf::{IoBuf, IoVec, IoVecMut};
use qemu_util::primitive::Arc;
use tempfile::TempDir;

use super::*;
use crate::aio::test_support::block_on;
use crate::aio::{AioFile, CopySource, FileExtent, RangeAction};
use crate::error::{ErrorKind, Result};

fn engine() -> ThreadsEngine {
    ThreadsEngine::new(WorkerPool::new("test", 4, Duration::from_secs(1)))
}

fn create(path: &Path) -> Arc<AioFile> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).expect("a new file");
    Arc::new(AioFile::new(file, false))
}

/// One directory on the disk, one in memory.
fn directories() -> [TempDir; 2] {
    [tempfile::tempdir().expect("a directory"), TempDir::new_in("/dev/shm").expect("a directory on tmpfs")]
}

fn run(op: AioOp) -> Result<AioResult> {
    block_on(engine().submit(op))
}

fn read(file: &Arc<AioFile>, offset: u64, buf: impl Into<IoVecMut>) -> Result<(Vec<u8>, usize)> {
    let op = AioOp::Read { file: Arc::clone(file), offset, buf: buf.into() };
    match run(op)? {
        AioResult::Read { buf, filled } => Ok((buf.to_vec(), filled)),
        other => panic!("not a read: {other:?}"),
    }
}

fn write(file: &Arc<AioFile>, offset: u64, bytes: &[u8]) {
    let data = IoVec::from(IoBuf::copy_of(bytes));
    run(AioOp::Write { file: Arc::clone(file), offset, data }).expect("it can be written");
}

fn range(file: &Arc<AioFile>, action: RangeAction, offset: u64, len: u64) -> Result<AioResult> {
    run(AioOp::Range { file: Arc::clone(file), action, offset, len })
}

fn extent(file: &Arc<AioFile>, offset: u64) -> FileExtent {
    match run(AioOp::Extent { file: Arc::clone(file), offset }).expect("look-ups do not fail") {
        AioResult::Extent(extent) => extent,
        other => panic!("not an extent: {other:?}"),
    }
}

#[test]
fn reads_stop_at_the_end_of_the_file() {
    for dir in directories() {
        let file = create(&dir.path().join("f"));
        write(&file, 0, b"hello");
        let (bytes, filled) = read(&file, 1, IoBuf::zeroed(10)).expect("a file");
        assert_eq!((&bytes[..4], filled), (&b"ello"[..], 4));
        assert_eq!(read(&file, 100, IoBuf::zeroed(10)).expect("a file").1, 0);
    }
}

#[test]
fn more_pieces_than_one_call_takes() {
    let content: Vec<u8> = (0..30_000_u32).map(|i| u8::try_from(i % 251).expect("small")).collect();
    for dir in directories() {
        let file = create(&dir.path().join("f"));
        let mut data = IoVec::default();
        content.chunks(10).for_each(|chunk| data.append(IoBuf::copy_of(chunk).into()));
        assert_eq!(data.parts().len(), 3000);
        run(AioOp::Write { file: Arc::clone(&file), offset: 7, data }).expect("it can be written");
        let mut buf = IoVecMut::default();
        (0..3000).for_each(|_| buf.push(IoBuf::zeroed(10)));
        let (bytes, filled) = read(&file, 7, buf).expect("a file");
        assert_eq!((bytes == content, filled), (true, 30_000));
    }
}

#[test]
fn ranges_become_zero_or_holes() {
    for dir in directories() {
        let file = create(&dir.path().join("f"));
        write(&file, 0, &[1; 1 << 20]);
        range(&file, RangeAction::PunchHole, 65536, 65536).expect("both file systems can");
        assert_eq!(extent(&file, 0), FileExtent::Data { end: 65536 });
        assert_eq!(extent(&file, 65536), FileExtent::Hole { end: 131_072 });
        assert_eq!(extent(&file, 1 << 20), FileExtent::NoMoreData);
        assert_eq!(read(&file, 65536, IoBuf::zeroed(1)).expect("a file").0, [0]);
        // Beyond the end: some actions make the file longer, others do not. tmpfs knows no zero ranges.
        match range(&file, RangeAction::ZeroRangeKeepSize, 1 << 20, 4096) {
            Ok(_) => {
                range(&file, RangeAction::ZeroRange, 1 << 20, 4096).expect("it worked a moment ago");
                assert_eq!(file.file().metadata().expect("open").len(), (1 << 20) + 4096);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
        }
        range(&file, RangeAction::Allocate, 2 << 20, 4096).expect("both file systems can");
        assert_eq!(file.file().metadata().expect("open").len(), (2 << 20) + 4096);
    }
}

#[test]
fn devices_are_told_from_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = create(&dir.path().join("f"));
    for action in [RangeAction::DeviceZero, RangeAction::DeviceDiscard] {
        assert_eq!(range(&file, action, 0, 4096).expect_err("a file").kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn copies_inside_the_kernel() {
    for dir in directories() {
        let (from, to) = (create(&dir.path().join("from")), create(&dir.path().join("to")));
        write(&from, 100, &[7; 100_000]);
        let source = CopySource { file: Arc::clone(&from), offset: 100 };
        let copy = |len| run(AioOp::CopyRange { from: source.clone(), file: Arc::clone(&to), offset: 5, len });
        copy(100_000).expect("one file system");
        assert_eq!(read(&to, 5, IoBuf::zeroed(100_000)).expect("a file").0, vec![7; 100_000]);
        // The source is too short: the caller shall go on in another way.
        assert_eq!(copy(100_001).expect_err("too short").kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn errors_keep_their_number() {
    let full = File::options().write(true).open("/dev/full").expect("the device exists");
    let full = Arc::new(AioFile::new(full, false));
    let data = || IoVec::from(IoBuf::zeroed(10));
    let no_space = run(AioOp::Write { file: full, offset: 0, data: data() }).expect_err("it is full");
    assert_eq!((no_space.errno(), no_space.kind()), (libc::ENOSPC, ErrorKind::NoSpace));
    let dir = tempfile::tempdir().expect("a directory");
    let file = create(&dir.path().join("f"));
    for offset in [u64::MAX - 100, (1 << 63) - 5] {
        let too_far = run(AioOp::Write { file: Arc::clone(&file), offset, data: data() }).expect_err("too far");
        assert!(matches!(too_far.errno(), libc::EFBIG | libc::EINVAL), "{too_far:?}");
    }
    let too_long = run(AioOp::Truncate { file: Arc::clone(&file), len: 1 << 63 }).expect_err("too long");
    assert_eq!(too_long.errno(), libc::EFBIG);
    let read_only = Arc::new(AioFile::new(File::open(dir.path().join("f")).expect("it exists"), false));
    let refused = run(AioOp::Write { file: read_only, offset: 0, data: data() }).expect_err("read-only");
    assert_eq!(refused.errno(), libc::EBADF);
}

#[test]
fn cached_reads_need_no_thread() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = create(&dir.path().join("f"));
    write(&file, 0, &[9; 100_000]);
    let engine = engine();
    let small = AioOp::Read { file: Arc::clone(&file), offset: 0, buf: IoBuf::zeroed(4096).into() };
    let mut future = engine.submit(small);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    // If the kernel supports it, the result is there at once; if not, the engine has noticed.
    assert!(future.as_mut().poll(&mut context).is_ready() || !file.can_nowait());
}

#[test]
fn files_are_synced_and_truncated() {
    for dir in directories() {
        let file = create(&dir.path().join("f"));
        run(AioOp::Truncate { file: Arc::clone(&file), len: 1 << 40 }).expect("sparse");
        for data_only in [false, true] {
            run(AioOp::Sync { file: Arc::clone(&file), data_only }).expect("it is a file");
        }
        assert_eq!(extent(&file, 0), FileExtent::NoMoreData);
    }
}

#[test]
fn extents_of_files_that_may_be_written_are_looked_up_by_a_worker() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("f");
    let written = create(&path);
    let read_only = Arc::new(AioFile::new(File::open(&path).expect("it exists"), false));
    assert!(read_only.is_read_only() && !written.is_read_only());
    let write_only = File::options().write(true).open(&path).expect("it exists");
    assert!(!AioFile::new(write_only, false).is_read_only());
    // The only worker is busy: what does not need it is ready at once, what needs it is not.
    let pool = WorkerPool::new("test", 1, Duration::from_secs(1));
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    drop(pool.run(move || receiver.recv().unwrap_or(())));
    let engine = ThreadsEngine::new(pool);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut inline = engine.submit(AioOp::Extent { file: read_only, offset: 0 });
    assert!(inline.as_mut().poll(&mut context).is_ready());
    let mut handed_over = engine.submit(AioOp::Extent { file: written, offset: 0 });
    assert!(handed_over.as_mut().poll(&mut context).is_pending());
    drop(sender);
    assert!(matches!(block_on(handed_over), Ok(AioResult::Extent(FileExtent::NoMoreData))));
}
