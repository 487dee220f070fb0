//! New files. QEMU: `raw_co_create`, and `bdrv_co_create_opts_simple` for devices.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use qemu_util::primitive::Arc;

use super::lock::{self, ImageLocks};
use super::open::open_error;
use super::probe;
use super::resize::resize_file;
use crate::aio::{AioFile, AioOp};
use crate::driver::CreateRequest;
use crate::error::{BlockError, ErrorKind, Result};
use crate::options::{CreateOption, OptionKind, Options};
use crate::types::{Perm, PreallocMode};

/// Sizes are rounded up to whole sectors of this many bytes.
const SECTOR: u64 = 512;

/// The extent size hint when none is given, in bytes: it keeps images on XFS in few pieces.
const EXTENT_SIZE_HINT_DEFAULT: u32 = 1 << 20;

const SIZE_OPTION: CreateOption =
    CreateOption { name: "size", help: "Virtual disk size", kind: OptionKind::Size, default: None };

/// What [`create_file`] understands.
pub(super) const FILE_OPTIONS: &[CreateOption] = &[
    CreateOption {
        name: "extent_size_hint",
        help: "Extent size hint for the image file, 0 to disable",
        kind: OptionKind::Size,
        default: None,
    },
    CreateOption {
        name: "nocow",
        help: "Turn off copy-on-write (valid only on btrfs)",
        kind: OptionKind::Bool,
        default: None,
    },
    CreateOption {
        name: "preallocation",
        help: "Preallocation mode (allowed values: off, falloc, full)",
        kind: OptionKind::Text,
        default: None,
    },
    SIZE_OPTION,
];

/// What [`create_on_device`] understands.
pub(super) const DEVICE_OPTIONS: &[CreateOption] = &[
    CreateOption {
        name: "preallocation",
        help: "Preallocation mode (allowed values: off)",
        kind: OptionKind::Text,
        default: None,
    },
    SIZE_OPTION,
];

struct Config {
    size: u64,
    prealloc: PreallocMode,
    nocow: bool,
    extent_size_hint: u32,
}

impl Config {
    fn take(options: &mut Options) -> Result<Self> {
        let size = options.take_size("size")?.unwrap_or(0);
        let size = size
            .checked_next_multiple_of(SECTOR)
            .ok_or_else(|| BlockError::from_errno(libc::EFBIG, "Image size is too large"))?;
        let hint = options.take_size("extent_size_hint")?;
        let too_large = |_| BlockError::new(ErrorKind::InvalidArgument, "Extent size hint is too large");
        Ok(Self {
            size,
            prealloc: options.take_enum("preallocation", PreallocMode::parse)?.unwrap_or_default(),
            nocow: options.take_bool("nocow")?.unwrap_or(false),
            extent_size_hint: hint.map_or(Ok(EXTENT_SIZE_HINT_DEFAULT), u32::try_from).map_err(too_large)?,
        })
    }
}

/// Creates a file, or empties one that exists and is not in use.
pub(super) async fn create_file(mut request: CreateRequest) -> Result<()> {
    let config = Config::take(&mut request.options)?;
    let (file, made) = open_or_make(&request.filename)?;
    let removal = Removal { filename: &request.filename, armed: made };
    fill_file(&request, &config, file).await?;
    removal.disarm();
    Ok(())
}

/// Removes a file that was only just made, unless it became a complete image. It acts when the creation fails as well as
/// when it is given up in the middle.
struct Removal<'a> {
    filename: &'a str,
    armed: bool,
}

impl Removal<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        if self.armed {
            // There is an error to report already, or nobody to report to.
            drop(std::fs::remove_file(self.filename));
        }
    }
}

/// Opens for writing without emptying: the content may belong to somebody else. Also says whether the file is new.
fn open_or_make(filename: &str) -> Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o644).custom_flags(libc::O_NONBLOCK);
    match options.clone().create_new(true).open(filename) {
        Ok(file) => return Ok((file, true)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(open_error(error, format!("Could not create '{filename}'"))),
    }
    // It exists, or is a symbolic link to something that does not: then the link's target is made and, should
    // something fail, stays.
    let opened = options.create(true).truncate(false).open(filename);
    opened.map(|file| (file, false)).map_err(|error| open_error(error, format!("Could not create '{filename}'")))
}

async fn fill_file(request: &CreateRequest, config: &Config, file: File) -> Result<()> {
    let services = request.context.services();
    let mut locks = ImageLocks::new();
    let use_locks = lock::are_supported(&file);
    if use_locks {
        // Everything is discarded and the length is promised; what others do with the content is their affair.
        let perm = Perm::WRITE | Perm::RESIZE;
        locks.change(&file, &request.filename, perm, Perm::all() - Perm::RESIZE)?;
    }
    let file = Arc::new(AioFile::new(file, false));
    let op = AioOp::Truncate { file: Arc::clone(&file), len: 0 };
    services.engine.submit(op).await.map_err(|error| error.context("Could not resize file"))?;
    if config.nocow {
        set_nocow(file.file());
    }
    set_extent_size_hint(file.file(), config.extent_size_hint);
    resize_file(services, &file, 0, config.size, config.prealloc).await?;
    if use_locks {
        locks.release(file.file())?;
    }
    match Arc::into_inner(file).map(|file| nix::unistd::close(file.into_file())) {
        Some(Err(errno)) if errno != nix::errno::Errno::EINTR => {
            Err(BlockError::from(errno).context("Could not close the new file"))
        }
        _ => Ok(()),
    }
}

/// "Creates" an image on a device: it must be large enough, and its first sector must not look like an old image.
pub(super) async fn create_on_device(mut request: CreateRequest) -> Result<()> {
    let config = Config::take(&mut request.options)?;
    if config.prealloc != PreallocMode::Off {
        let message = format!("Unsupported preallocation mode '{}'", config.prealloc.name());
        return Err(BlockError::new(ErrorKind::Unsupported, message));
    }
    let filename = &request.filename;
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(filename);
    let file = opened.map_err(|error| open_error(error, format!("Could not open '{filename}'")))?;
    let is_block = file.metadata()?.file_type().is_block_device();
    let len = if is_block { probe::device_size(&file)? } else { 0 };
    if config.size > len {
        return Err(BlockError::new(ErrorKind::InvalidArgument, "Cannot grow device files"));
    }
    if !is_block {
        return Ok(());
    }
    let mut locks = ImageLocks::new();
    if lock::are_supported(&file) {
        locks.change(&file, filename, Perm::WRITE | Perm::RESIZE, Perm::all() - Perm::RESIZE)?;
    }
    let services = request.context.services();
    let zeros = services.buffers.take_zeroed(usize::try_from(len.min(SECTOR)).unwrap_or(0));
    let op = AioOp::Write { file: Arc::new(AioFile::new(file, false)), offset: 0, data: zeros.into() };
    let cleared = services.engine.submit(op).await;
    cleared.map(drop).map_err(|error| error.context("Could not clear the first sector of the device"))
}

/// btrfs is slow with images whose blocks move at every write. Only a favour, so failures do not matter.
fn set_nocow(file: &File) {
    /// `FS_NOCOW_FL`.
    const NOCOW: libc::c_int = 0x0080_0000;
    let mut attributes = 0;
    // SAFETY: the descriptor is open, and the kernel stores an `int`.
    if unsafe { ioctl::get_flags(file.as_raw_fd(), &raw mut attributes) }.is_ok() {
        attributes |= NOCOW;
        // SAFETY: the descriptor is open, and the kernel reads an `int`.
        let _ignored = unsafe { ioctl::set_flags(file.as_raw_fd(), &raw const attributes) };
    }
}

/// Asks for large extents, on file systems that know the idea. Failures do not matter; zero asks for nothing.
fn set_extent_size_hint(file: &File, hint: u32) {
    /// `FS_XFLAG_EXTSIZE`.
    const EXTSIZE: u32 = 0x0000_0800;
    let mut attributes = ioctl::Attributes::default();
    // SAFETY: the descriptor is open, and the kernel fills in a structure of this size.
    if unsafe { ioctl::get_attributes(file.as_raw_fd(), &raw mut attributes) }.is_ok() {
        attributes.xflags |= EXTSIZE;
        attributes.extent_size = hint;
        // SAFETY: the descriptor is open, and the kernel reads a structure of this size.
        let _ignored = unsafe { ioctl::set_attributes(file.as_raw_fd(), &raw const attributes) };
    }
}

/// Requests to file systems.
mod ioctl {
    use nix::{
        ioctl_read, ioctl_read_bad, ioctl_write_ptr, ioctl_write_ptr_bad, request_code_read, request_code_write,
    };

    /// `struct fsxattr` (linux/fs.h).
    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Attributes {
        pub(super) xflags: u32,
        pub(super) extent_size: u32,
        extents: u32,
        project: u32,
        cow_extent_size: u32,
        padding: [u8; 8],
    }

    const _: () = assert!(size_of::<Attributes>() == 28, "the size is part of the request's number");

    ioctl_read!(get_attributes, b'X', 31, Attributes);
    ioctl_write_ptr!(set_attributes, b'X', 32, Attributes);
    // The numbers of these two were made with the size of `long`, the kernel uses an `int` all the same.
    ioctl_read_bad!(get_flags, request_code_read!(b'f', 1, size_of::<libc::c_long>()), libc::c_int);
    ioctl_write_ptr_bad!(set_flags, request_code_write!(b'f', 2, size_of::<libc::c_long>()), libc::c_int);
}
