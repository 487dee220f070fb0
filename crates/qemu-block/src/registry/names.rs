//! Names of images: protocol prefixes and relative backing files.
//!
//! QEMU: `path_has_protocol`, `path_combine`, `bdrv_get_full_backing_filename_from_filename` (block.c).

use std::borrow::Cow;

use crate::error::{BlockError, ErrorKind, Result};

/// The protocol part of a name, if it has one: what stands before the first colon, unless a slash comes first.
///
/// A file whose name has a colon is therefore written `./a:b` or `file:a:b`.
pub(super) fn protocol_of(name: &str) -> Option<&str> {
    let end = name.find([':', '/'])?;
    name[end..].starts_with(':').then(|| &name[..end])
}

/// Whether a name begins with a protocol prefix, known or not.
pub fn path_has_protocol(name: &str) -> bool {
    protocol_of(name).is_some()
}

/// `filename` without the prefix of a protocol whose names are paths. A path that would then look as if it had a
/// protocol gets `./` in front.
///
/// QEMU: `bdrv_parse_filename_strip_prefix` (block.c).
pub(super) fn strip_protocol<'a>(filename: &'a str, protocol: &str) -> Cow<'a, str> {
    let stripped = filename.strip_prefix(protocol).and_then(|rest| rest.strip_prefix(':'));
    match stripped {
        Some(path) if path_has_protocol(path) => Cow::Owned(format!("./{path}")),
        Some(path) => Cow::Borrowed(path),
        None => Cow::Borrowed(filename),
    }
}

/// The one filter that file names can ask for: `blkdebug:CONFIG:IMAGE`.
pub(super) const NAMED_FILTER: &str = "blkdebug";

/// The configuration, if there is one, and the image of a name that begins with [`NAMED_FILTER`]; none for other names.
///
/// # Errors
/// There is no image in it.
pub(super) fn split_filter_name(filename: &str) -> Result<Option<(Option<&str>, &str)>> {
    if protocol_of(filename) != Some(NAMED_FILTER) {
        return Ok(None);
    }
    let rest = filename.get(NAMED_FILTER.len() + 1..).unwrap_or_default();
    let Some((config, image)) = rest.split_once(':') else {
        let message = format!("{NAMED_FILTER} requires both config file and image path");
        return Err(BlockError::new(ErrorKind::InvalidArgument, message));
    };
    Ok(Some((Some(config).filter(|config| !config.is_empty()), image)))
}

/// What the backing file `name` in the image `overlay_filename` refers to.
///
/// Absolute paths, names with a protocol (`json:` among them) and the empty name stay as they are; anything else is
/// relative to the overlay's folder, behind the overlay's own protocol if it has one.
///
/// ```
/// use qemu_block::registry::resolve_backing_name;
///
/// assert_eq!(resolve_backing_name("/images/vm/disk.qcow2", "../base.raw"), "/images/vm/../base.raw");
/// assert_eq!(resolve_backing_name("disk.qcow2", "base.raw"), "base.raw");
/// assert_eq!(resolve_backing_name("/images/disk.qcow2", "json:{}"), "json:{}");
/// ```
pub fn resolve_backing_name(overlay_filename: &str, name: &str) -> String {
    let absolute = name.starts_with('/');
    if name.is_empty() || absolute || path_has_protocol(name) {
        return name.to_owned();
    }
    let after_protocol = protocol_of(overlay_filename).map_or(0, |protocol| protocol.len() + 1);
    let folder = overlay_filename[after_protocol..].rfind('/').map_or(0, |slash| slash + 1);
    format!("{}{name}", &overlay_filename[..after_protocol + folder])
}
