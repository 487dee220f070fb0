//! Tests of the file protocol through its nodes, on a disk file system and on tmpfs.

mod locks;
mod oracle;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use qemu_util::buf::{IoBuf, IoVec};
use tempfile::TempDir;

use crate::aio::Services;
use crate::aio::test_support::block_on;
use crate::error::{ErrorKind, Result};
use crate::node::Node;
use crate::options::Options;
use crate::registry::{OpenContext, Registry};
use crate::types::{InfoValue, OpenFlags, PreallocMode, WriteFlags, ZeroFlags};

const RW: OpenFlags = OpenFlags::WRITE.union(OpenFlags::RESIZE).union(OpenFlags::UNMAP);

fn context() -> OpenContext {
    OpenContext::new(Arc::new(Registry::new(Services::new())))
}

fn open_with(path: &Path, options: &[(&str, &str)], flags: OpenFlags) -> Result<Arc<Node>> {
    let mut map = Options::new();
    options.iter().for_each(|(key, value)| map.set(*key, *value));
    block_on(context().open_protocol(path.to_str().expect("UTF-8"), map, flags))
}

fn open(path: &Path, flags: OpenFlags) -> Arc<Node> {
    open_with(path, &[], flags).expect("it can be opened")
}

fn create(path: &Path, options: &[(&str, &str)]) -> Result<()> {
    let mut map = Options::new();
    options.iter().for_each(|(key, value)| map.set(*key, *value));
    block_on(context().create_storage(path.to_str().expect("UTF-8"), map))
}

fn directories() -> [TempDir; 2] {
    [tempfile::tempdir().expect("a directory"), TempDir::new_in("/dev/shm").expect("a directory on tmpfs")]
}

fn write(node: &Node, offset: u64, bytes: &[u8]) -> Result<()> {
    block_on(node.write(offset, IoVec::from(IoBuf::copy_of(bytes)), WriteFlags::empty()))
}

fn read(node: &Node, offset: u64, len: usize) -> Vec<u8> {
    block_on(node.read_bytes(offset, len)).expect("it can be read").to_vec()
}

#[test]
fn what_is_written_is_read_and_the_file_grows() {
    for dir in directories() {
        let path = dir.path().join("f");
        std::fs::write(&path, b"0123456789").expect("a new file");
        let node = open(&path, RW);
        assert_eq!(node.len(), 10);
        write(&node, 8, &[7; 100_000]).expect("it grows");
        assert_eq!(node.len(), 100_008);
        assert_eq!(read(&node, 6, 4), [b'6', b'7', 7, 7]);
        block_on(node.flush()).expect("it is a file");
        block_on(node.close()).expect("nothing fails");
        block_on(node.close()).expect("a second close does nothing");
        assert!(block_on(node.read_bytes(0, 1)).is_err());
        assert_eq!(std::fs::metadata(&path).expect("it exists").len(), 100_008);
    }
}

#[test]
fn holes_are_zeros_and_data_is_data() {
    for dir in directories() {
        let path = dir.path().join("f");
        std::fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("sparse");
        let node = open(&path, RW);
        write(&node, 1 << 20, &[1; 1 << 20]).expect("inside");
        let status = |offset| block_on(node.block_status(offset, 1 << 40)).expect("it is a file");
        assert!(status(0).is_zero() && status(0).is_allocated());
        assert_eq!((status(0).len, status(0).host_offset), (1 << 20, Some(0)));
        assert!(status((1 << 20) + 512).is_data());
        assert_eq!(status((1 << 20) + 512).len, (1 << 20) - 512);
        assert!(status(2 << 20).is_zero());
        assert_eq!(status(2 << 20).len, (1 << 40) - (2 << 20));
        // What was remembered about the data is forgotten when it goes.
        block_on(node.discard(1 << 20, 1 << 20)).expect("both file systems can");
        assert!(status(0).is_zero());
        assert_eq!(status(0).len, 1 << 40);
    }
}

#[test]
fn zeroing_keeps_or_frees_space() {
    for dir in directories() {
        let path = dir.path().join("f");
        std::fs::write(&path, vec![5; 1 << 20]).expect("a new file");
        let node = open(&path, RW);
        let allocated = || block_on(node.allocated_bytes()).expect("open").expect("files know");
        let before = allocated();
        block_on(node.write_zeroes(0, 1 << 19, ZeroFlags::empty())).expect("directly or by writing");
        assert_eq!((read(&node, (1 << 19) - 1, 2), allocated() >= before), (vec![0, 5], true));
        block_on(node.write_zeroes(0, 1 << 19, ZeroFlags::MAY_UNMAP)).expect("holes");
        assert!(allocated() <= before - (1 << 19));
        // Holes beyond the end make the file longer all the same.
        block_on(node.write_zeroes(1 << 20, 4096, ZeroFlags::MAY_UNMAP)).expect("holes");
        assert_eq!(std::fs::metadata(&path).expect("it exists").len(), (1 << 20) + 4096);
        block_on(node.write_zeroes((1 << 20) + 4096, 4096, ZeroFlags::empty())).expect("directly or by writing");
        assert_eq!((node.len(), read(&node, (1 << 20) + 8191, 1)), ((1 << 20) + 8192, vec![0]));
        // Unaligned ranges leave their neighbours alone.
        write(&node, 0, &[3; 10_000]).expect("inside");
        block_on(node.write_zeroes(1, 9998, ZeroFlags::MAY_UNMAP)).expect("holes");
        assert_eq!((read(&node, 0, 2), read(&node, 9998, 2)), (vec![3, 0], vec![0, 3]));
    }
}

#[test]
fn truncation_and_preallocation() {
    for dir in directories() {
        let path = dir.path().join("f");
        std::fs::write(&path, []).expect("a new file");
        let node = open(&path, RW);
        let allocated = || block_on(node.allocated_bytes()).expect("open").expect("files know");
        block_on(node.truncate(1 << 20, PreallocMode::Off)).expect("sparse");
        assert_eq!((node.len(), allocated()), (1 << 20, 4096));
        block_on(node.truncate(2 << 20, PreallocMode::Falloc)).expect("there is space");
        assert_eq!((node.len(), allocated() >= 1 << 20), (2 << 20, true));
        block_on(node.truncate((3 << 20) + 1, PreallocMode::Full)).expect("there is space");
        assert_eq!((node.len(), allocated() >= 2 << 20), ((3 << 20) + 1, true));
        let error = block_on(node.truncate(5 << 20, PreallocMode::Metadata)).expect_err("a file has none");
        assert_eq!(error.chain(), "Unsupported preallocation mode: metadata");
        let error = block_on(node.truncate(0, PreallocMode::Full)).expect_err("nothing to fill");
        assert_eq!(error.chain(), "Cannot use preallocation for shrinking files");
        let error = block_on(node.truncate((1 << 63) - 512, PreallocMode::Falloc)).expect_err("longer than any device");
        assert_eq!(error.chain(), "offset(9223372036854775296) exceeds maximum(9223372035781033984)");
        let error = block_on(node.truncate(1 << 62, PreallocMode::Falloc)).expect_err("too much");
        assert!(matches!(error.kind(), ErrorKind::NoSpace), "{error:?}");
        assert_eq!(std::fs::metadata(&path).expect("it exists").len(), (3 << 20) + 1);
        block_on(node.truncate(0, PreallocMode::Off)).expect("shorter is fine");
        assert_eq!(node.len(), 0);
    }
}

#[test]
fn direct_files_take_any_request() {
    for dir in directories() {
        let path = dir.path().join("f");
        let mut content: Vec<u8> = (0..20_001_u32).map(|i| u8::try_from(i % 253).expect("small")).collect();
        std::fs::write(&path, &content).expect("a new file");
        let node = match open_with(&path, &[], RW | OpenFlags::DIRECT) {
            Ok(node) => node,
            Err(error) => {
                // A file system without direct I/O says so.
                assert!(error.chain().contains("filesystem does not support O_DIRECT"), "{error:?}");
                continue;
            }
        };
        assert!(node.limits().request_alignment >= 512 || node.limits().request_alignment == 1);
        assert_eq!(read(&node, 0, 20_001), content);
        assert_eq!(read(&node, 5, 7000), content[5..7005]);
        write(&node, 1000, &[1; 9001]).expect("padded");
        content[1000..10_001].fill(1);
        assert_eq!(read(&node, 0, 20_001), content);
        block_on(node.flush()).expect("it is a file");
        block_on(node.close()).expect("nothing fails");
        assert_eq!(&std::fs::read(&path).expect("it exists")[..20_001], content);
    }
}

#[test]
fn copies_inside_the_kernel() {
    for dir in directories() {
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, vec![9; 300_000]).expect("a new file");
        std::fs::write(&to, []).expect("a new file");
        let (source, target) = (open(&from, OpenFlags::empty()), open(&to, RW));
        block_on(source.copy_range(100, &target, 50, 200_000)).expect("one file system");
        assert_eq!((target.len(), read(&target, 49, 2)), (200_050, vec![0, 9]));
    }
}

#[test]
fn facts_about_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("f");
    std::fs::write(&path, vec![1; 10_000]).expect("a new file");
    let node = open(&path, OpenFlags::empty());
    let info = block_on(node.info()).expect("open");
    let data = std::fs::metadata(&path).expect("it exists");
    assert_eq!(info.allocated_bytes, Some(data.blocks() * 512));
    let specific = info.format_specific.expect("files have it");
    assert_eq!((specific.type_name, specific.fields), ("file", Vec::<(&str, InfoValue)>::new()));
    let identity = node.identity().expect("files have one");
    assert_eq!((identity.device, identity.inode), (data.dev(), data.ino()));
    assert!(write(&node, 0, b"x").is_err(), "opened for reading");
}

#[test]
fn only_files_are_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let message = |path: &Path| open_with(path, &[], OpenFlags::empty()).expect_err("no image").chain();
    let folder = dir.path().display().to_string();
    assert!(message(dir.path()).ends_with(&format!("'file' driver requires '{folder}' to be a regular file")));
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("coreutils");
    assert!(made.success());
    assert!(message(&fifo).ends_with(&format!("'file' driver requires '{}' to be a regular file", fifo.display())));
    assert!(message(Path::new("/dev/zero")).contains("'host_device' driver requires '/dev/zero'"));
    let missing = dir.path().join("missing");
    let name = missing.display();
    assert!(message(&missing).ends_with(&format!("Could not open '{name}': No such file or directory")));
    let error = open_with(&missing, &[], OpenFlags::empty()).expect_err("it is missing");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, libc::ENOENT));
}

#[test]
fn options_are_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("f");
    std::fs::write(&path, [0; 512]).expect("a new file");
    let message = |option| open_with(&path, &[option], OpenFlags::empty()).expect_err("refused").chain();
    assert!(message(("aio", "foo")).ends_with("invalid parameter value: foo"));
    assert!(message(("aio", "io_uring")).ends_with("aio=io_uring was specified, but is not supported in this build."));
    assert!(message(("aio", "native")).contains("requires cache.direct=on"));
    assert!(message(("locking", "maybe")).ends_with("invalid parameter value: maybe"));
    assert!(message(("cache.direct", "x")).ends_with("Parameter 'cache.direct' expects 'on' or 'off'"));
    open_with(&path, &[("aio", "threads"), ("locking", "off")], OpenFlags::empty()).expect("all known");
}

#[test]
fn creation_leaves_nothing_broken() {
    for dir in directories() {
        let path = dir.path().join("f");
        create(&path, &[("size", "1000")]).expect("a new file");
        assert_eq!(std::fs::metadata(&path).expect("it exists").len(), 1024);
        create(&path, &[("size", "1M"), ("preallocation", "full"), ("nocow", "on")]).expect("it is emptied first");
        assert!(std::fs::metadata(&path).expect("it exists").blocks() >= 2048);
        // A file that was there stays, even though its content is lost by then; one that was not is removed.
        create(&path, &[("size", "1M"), ("preallocation", "metadata")]).expect_err("not for files");
        assert!(path.exists());
        let fresh = dir.path().join("fresh");
        let error = create(&fresh, &[("size", "1M"), ("preallocation", "metadata")]).expect_err("not for files");
        assert_eq!(error.chain(), "Unsupported preallocation mode: metadata");
        assert!(!fresh.exists());
        let error = create(&fresh, &[("size", "9223372036854775808")]).expect_err("too large");
        assert_eq!((error.errno(), error.chain().as_str()), (libc::EFBIG, "Could not resize file: File too large"));
        assert!(!fresh.exists());
        let error = create(dir.path(), &[("size", "1M")]).expect_err("a directory");
        assert_eq!(error.chain(), format!("Could not create '{}': Is a directory", dir.path().display()));
    }
}

#[test]
fn a_failed_sync_is_remembered() {
    // The descriptor of a directory cannot be written, but that of a pipe can: fdatasync refuses it.
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let file = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    let parts = super::node::Parts {
        file: crate::aio::AioFile::new(file, false),
        kind: super::FileKind::Regular,
        filename: "pipe".to_owned(),
        flags: RW,
        services: Services::new(),
        identity: crate::driver::FileIdentity { device: 0, inode: 0 },
        alignment: super::probe::Alignment::NONE,
        block_size: 1,
        len: 0,
    };
    let node = super::node::FileNode::new(parts, false);
    let flush = || block_on(crate::driver::BlockOps::flush(&node));
    flush().expect("nothing was written");
    node.changed(0);
    assert_eq!(flush().expect_err("a pipe").errno(), libc::EINVAL);
    assert_eq!(flush().expect_err("for good").errno(), libc::EINVAL);
    assert!(block_on(crate::driver::BlockOps::close(&node)).is_err(), "closing reports it");
}
