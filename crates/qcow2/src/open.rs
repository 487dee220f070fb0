//! Opening an image. Everything is validated before anything is written (rule R1).

use std::sync::Arc;

use qemu_block::driver::OpenRequest;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::OptionValue;
use qemu_block::types::{OpenFlags, WriteFlags};
use qemu_util::buf::IoBuf;

use crate::cache::sizes::CacheSizes;
use crate::compress::Level;
use crate::encryption;
use crate::error::FormatError;
use crate::format::features::{Autoclear, Compatible, Incompatible};
use crate::format::header::{FEATURES_OFFSET, Header, V2_BYTES, Version};
use crate::image::{Image, ImageParts};
use crate::repair::repair_dirty;

/// The autoclear features follow the incompatible and the compatible ones, eight bytes each.
const AUTOCLEAR_OFFSET: u64 = FEATURES_OFFSET + 16;

/// Opens the image that `request.storage` holds.
///
/// The backing file is opened by whoever drives this open, too, so a long chain needs no deep stack; see the registry of
/// `qemu_block`.
pub(crate) async fn open(request: &mut OpenRequest) -> Result<Box<Image>> {
    let mut parts = Box::pin(prepare(request)).await?;
    parts.data = Box::pin(open_data_file(request, &parts)).await?;
    parts.backing = match open_backing(request, &parts).await {
        Ok(backing) => backing,
        Err(error) => {
            close_in_vain(parts.data).await;
            return Err(error);
        }
    };
    Box::pin(finish(parts)).await
}

/// Reads the header and decides whether the image may be opened at all.
async fn prepare(request: &mut OpenRequest) -> Result<Box<ImageParts>> {
    let no_storage = || BlockError::new(ErrorKind::InvalidArgument, "A block device must be specified for \"file\"");
    let storage = request.storage.take().ok_or_else(no_storage)?;
    let header = read_header(&storage).await?;
    if !request.flags.contains(OpenFlags::CHECK) {
        header.check_file_len(storage.len())?;
    }
    check_policy(&header, request.flags)?;
    let discard_no_unref = request.options.take_bool("discard-no-unref")?.unwrap_or(false);
    if discard_no_unref && header.version < Version::V3 {
        let text = "discard-no-unref is only supported since qcow2 version 3";
        return Err(BlockError::new(ErrorKind::InvalidArgument, text));
    }
    let caches = CacheSizes::take(&mut request.options, header.geometry, header.virtual_size)?;
    let (encryption, cipher) = encryption::open(request, &storage, &header).await?;
    Ok(Box::new(ImageParts {
        lazy_refcounts: take_lazy_refcounts(request, &header)?,
        compression_level: Level::take(&mut request.options, header.compression)?,
        header,
        caches,
        discard_no_unref,
        sparse_storage: false,
        storage,
        encryption,
        cipher,
        data: None,
        backing: None,
        services: request.context.services().clone(),
        filename: request.filename.clone(),
        flags: request.flags,
    }))
}

/// Makes the image of its parts, and writes to it for the first time if need be.
async fn finish(mut parts: Box<ImageParts>) -> Result<Box<Image>> {
    // A check finds the image as it is, and a repair knows by itself what must be cleared.
    if parts.flags.contains(OpenFlags::WRITE) && !parts.flags.contains(OpenFlags::CHECK) {
        let ImageParts { storage, header, .. } = &mut *parts;
        if header.incompatible.contains(Incompatible::DIRTY) {
            repair_dirty(storage, header).await?;
        }
        clear_unmaintained(storage, header).await?;
    }
    parts.sparse_storage = has_holes(&parts.storage).await?;
    Ok(Box::new(Image::new(*parts)))
}

/// Reads and parses the first cluster.
pub(crate) async fn read_header(storage: &Node) -> Result<Header> {
    let file_len = storage.len();
    let start = read_start(storage, V2_BYTES as u64).await?;
    let wanted = Header::wanted_len(&start)?;
    let first_cluster = read_start(storage, wanted).await?;
    Ok(Header::parse(&first_cluster, file_len)?)
}

/// The first `len` bytes of the file, or all of it if it is shorter.
async fn read_start(storage: &Node, len: u64) -> Result<IoBuf> {
    let len = usize::try_from(len.min(storage.len())).expect("at most a cluster");
    if len == 0 {
        return Err(FormatError::NotQcow2.into());
    }
    storage.read_bytes(0, len).await
}

/// Refuses to write to images that say that they are corrupt, unless that is to be repaired.
fn check_policy(header: &Header, flags: OpenFlags) -> Result<()> {
    let is_written = flags.contains(OpenFlags::WRITE) && !flags.contains(OpenFlags::CHECK);
    if is_written && header.incompatible.contains(Incompatible::CORRUPT) {
        let text = "qcow2: Image is corrupt; cannot be opened read/write";
        return Err(BlockError::new(ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// Whether refcounts are written late: what the caller wants, or else what the image says.
fn take_lazy_refcounts(request: &mut OpenRequest, header: &Header) -> Result<bool> {
    let wanted = request.options.take_bool("lazy-refcounts")?;
    let lazy = wanted.unwrap_or(header.compatible.contains(Compatible::LAZY_REFCOUNTS));
    if lazy && header.version < Version::V3 {
        let text = "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level";
        return Err(BlockError::new(ErrorKind::InvalidArgument, text));
    }
    Ok(lazy)
}

/// Opens the file that has the guest's data, if it is another one and somebody wants the data.
async fn open_data_file(request: &mut OpenRequest, parts: &ImageParts) -> Result<Option<Arc<Node>>> {
    if let Some(name) = request.options.take_str("data-file") {
        let message = format!("Cannot find device='{name}' nor node-name='{name}'");
        return Err(BlockError::new(ErrorKind::NotFound, message));
    }
    let options = request.options.take_sub("data-file");
    let header = &parts.header;
    if request.flags.contains(OpenFlags::NO_IO) {
        return Ok(None);
    }
    if !header.has_data_file() {
        let message = match (options.is_empty(), header.is_data_file_raw()) {
            (true, false) => return Ok(None),
            (false, _) => "'data-file' can only be set for images with an external data file",
            (true, true) => "data-file-raw requires an external data file",
        };
        return Err(BlockError::new(ErrorKind::InvalidArgument, message));
    }
    let name = header.data_file_name();
    let identity = parts.storage.identity();
    request.context.open_data_file(identity, name.as_deref(), options, request.flags).await.map(Some)
}

/// Closes what was opened for an image that cannot be.
async fn close_in_vain(node: Option<Arc<Node>>) {
    if let Some(node) = node {
        // Nothing was written, so a failure to close loses nothing.
        drop(node.close().await);
    }
}

async fn open_backing(request: &mut OpenRequest, parts: &ImageParts) -> Result<Option<Arc<Node>>> {
    let refused = match request.options.take("backing") {
        None => false,
        Some(OptionValue::Null) => true,
        Some(OptionValue::Text(text)) if text.is_empty() => true,
        Some(_) => {
            let text = "qcow2: references to nodes by name are not supported for 'backing'";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
    };
    if refused || request.flags.contains(OpenFlags::NO_BACKING) {
        // Options for a backing file that is not opened stay, and are refused.
        return Ok(None);
    }
    let options = request.options.take_sub("backing");
    let name = parts.header.backing_name_text()?;
    if name.is_none() && options.is_empty() {
        return Ok(None);
    }
    let format = parts.header.backing_format();
    let format = format.as_deref().filter(|format| !format.is_empty());
    let (filename, identity, name) = (&request.filename, parts.storage.identity(), name.unwrap_or_default());
    let opening = request.context.open_backing(filename, identity, name, format, options, request.flags);
    Ok(Some(Box::pin(opening).await?))
}

/// Clears the features that this driver does not keep consistent when it writes (rule R16).
async fn clear_unmaintained(storage: &Node, header: &mut Header) -> Result<()> {
    let kept = header.autoclear & Autoclear::MAINTAINED;
    if kept == header.autoclear {
        return Ok(());
    }
    let word = IoBuf::copy_of(&kept.bits().to_be_bytes());
    storage.write(AUTOCLEAR_OFFSET, word.into(), WriteFlags::empty()).await?;
    storage.flush().await?;
    header.autoclear = kept;
    Ok(header.reparse_extensions()?)
}

/// Whether the file has so many holes that some of the image's data clusters probably are holes, too: an image with
/// preallocated metadata, for instance. QEMU: `qcow2_detect_metadata_preallocation`.
async fn has_holes(storage: &Node) -> Result<bool> {
    let allocated = storage.allocated_bytes().await?;
    Ok(allocated.is_some_and(|allocated| allocated < storage.len() / 4 * 3))
}
