//! From a file name to an open node. QEMU: `raw_open_common`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use super::node::{FileNode, Parts};
use super::probe::{self, Alignment};
use super::{FileKind, lock};
use crate::aio::AioFile;
use crate::driver::{BlockOps, FileIdentity, OpenRequest};
use crate::error::{BlockError, ErrorKind, Result, shown};
use crate::options::Options;
use crate::types::OpenFlags;

/// The options that only these protocols have.
struct Config {
    lock: Locking,
}

/// The value of `locking`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locking {
    On,
    Off,
    Auto,
}

/// Opens a file or device that exists.
pub(super) fn open(request: &mut OpenRequest, kind: FileKind) -> Result<Box<dyn BlockOps>> {
    let config = take_options(&mut request.options, request.flags)?;
    let filename = request.filename.clone();
    if filename.is_empty() {
        let message = format!("The '{}' block driver requires a file name", kind.driver());
        return Err(BlockError::new(ErrorKind::InvalidArgument, message));
    }
    let file = open_descriptor(&filename, request.flags)?;
    let data = file.metadata().map_err(|error| BlockError::from(error).context("Could not stat file"))?;
    check_type(&data, &filename, kind)?;
    let write = request.flags.contains(OpenFlags::WRITE);
    if write && kind == FileKind::Device && probe::device_is_read_only(&file)? {
        return Err(BlockError::from_errno(libc::EACCES, "The device is not writable: Permission denied"));
    }
    let direct = request.flags.contains(OpenFlags::DIRECT);
    let alignment = if direct { probe::direct_alignment(&file, kind)? } else { Alignment::NONE };
    let len = match kind {
        FileKind::Regular => data.len(),
        FileKind::Device => probe::device_size(&file)?,
    };
    let locks = match config.lock {
        Locking::Off => false,
        Locking::On => true,
        Locking::Auto => lock::are_supported(&file),
    };
    let services = request.context.services().clone();
    let identity = FileIdentity { device: data.dev(), inode: data.ino() };
    let block_size = probe::logical_block_size(&file).filter(|_| kind == FileKind::Device).unwrap_or(1);
    let file = AioFile::new(file, direct);
    let parts = Parts { file, kind, filename, flags: request.flags, services, identity, alignment, block_size, len };
    Ok(Box::new(FileNode::new(parts, locks)))
}

fn take_options(options: &mut Options, flags: OpenFlags) -> Result<Config> {
    let known = |word: &str| ["threads", "native", "io_uring"].into_iter().find(|name| *name == word);
    match options.take_enum("aio", known)? {
        Some("native") if !flags.contains(OpenFlags::DIRECT) => {
            let message = "aio=native was specified, but it requires cache.direct=on, which was not specified.";
            return Err(BlockError::new(ErrorKind::InvalidArgument, message));
        }
        Some(name @ ("native" | "io_uring")) => {
            let message = format!("aio={name} was specified, but is not supported in this build.");
            return Err(BlockError::new(ErrorKind::InvalidArgument, message));
        }
        _ => {}
    }
    let locking = |word: &str| match word {
        "on" => Some(Locking::On),
        "off" => Some(Locking::Off),
        "auto" => Some(Locking::Auto),
        _ => None,
    };
    let lock = options.take_enum("locking", locking)?.unwrap_or(Locking::Auto);
    // Only hints for other back ends and for migration: nothing to do for the threads engine.
    options.take_number("aio-max-batch")?;
    options.take_bool("drop-cache")?;
    options.take_bool("x-check-cache-dropped")?;
    Ok(Config { lock })
}

/// Opens without ever waiting: a FIFO has no other end, perhaps for ever. What it is gets checked afterwards.
fn open_descriptor(filename: &str, flags: OpenFlags) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(flags.contains(OpenFlags::WRITE));
    let direct = if flags.contains(OpenFlags::DIRECT) { libc::O_DIRECT } else { 0 };
    // The standard library adds O_CLOEXEC and tries again after EINTR.
    match options.custom_flags(libc::O_NONBLOCK | direct).open(filename) {
        Ok(file) => Ok(file),
        Err(error) => Err(explain(error, filename, &mut options, direct)),
    }
}

fn explain(error: std::io::Error, filename: &str, options: &mut OpenOptions, direct: libc::c_int) -> BlockError {
    let no_direct = error.raw_os_error() == Some(libc::EINVAL) && direct != 0;
    if no_direct && options.custom_flags(libc::O_NONBLOCK).open(filename).is_ok() {
        let message = format!("Could not open '{}': filesystem does not support O_DIRECT", shown(filename));
        return BlockError::new(ErrorKind::InvalidArgument, message);
    }
    open_error(error, format!("Could not open '{}'", shown(filename)))
}

/// The error of a failed `open`. Those of a read-only file system count as refused access, as in QEMU.
pub(super) fn open_error(error: std::io::Error, message: String) -> BlockError {
    let error = BlockError::from(error).context(message);
    if error.errno() == libc::EROFS { error.with_errno(libc::EACCES) } else { error }
}

/// Rule R6: regular files and block devices, nothing whose content may never end.
fn check_type(data: &std::fs::Metadata, filename: &str, kind: FileKind) -> Result<()> {
    let (fits, wanted) = match kind {
        FileKind::Regular => (data.is_file(), "a regular file"),
        FileKind::Device if data.file_type().is_char_device() => (false, "a block device"),
        FileKind::Device => (data.file_type().is_block_device(), "either a character or block device"),
    };
    if fits {
        return Ok(());
    }
    let message = format!("'{}' driver requires '{filename}' to be {wanted}", kind.driver());
    Err(BlockError::new(ErrorKind::InvalidArgument, message))
}

impl FileKind {
    fn driver(self) -> &'static str {
        match self {
            Self::Regular => "file",
            Self::Device => "host_device",
        }
    }
}
