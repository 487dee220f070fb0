//! The options that every node understands. QEMU: `bdrv_runtime_opts`, `update_flags_from_options` (block.c).

use crate::error::{BlockError, ErrorKind, Result};
use crate::options::Options;
use crate::types::{OpenFlags, Perm};

/// Takes the common options out of `options` and returns the flags that result.
pub(super) fn take_common(options: &mut Options, mut flags: OpenFlags) -> Result<OpenFlags> {
    for (key, flag) in [("cache.direct", OpenFlags::DIRECT), ("cache.no-flush", OpenFlags::NO_FLUSH)] {
        if let Some(on) = options.take_bool(key)? {
            flags.set(flag, on);
        }
    }
    if options.take_bool("read-only")? == Some(true) {
        flags.remove(OpenFlags::WRITE | OpenFlags::RESIZE);
    }
    // A node that may fall back to read-only is opened as asked for here; whoever asks for writing needs it.
    options.take_bool("auto-read-only")?;
    if let Some(discard) = options.take_str("discard") {
        let unmap = parse_discard(&discard).ok_or_else(|| invalid("Invalid discard option"))?;
        flags.set(OpenFlags::UNMAP, unmap);
    }
    if let Some(on) = options.take_bool("force-share")? {
        flags.set(OpenFlags::FORCE_SHARE, on);
    }
    if flags.contains(OpenFlags::FORCE_SHARE | OpenFlags::WRITE) {
        return Err(invalid("force-share=on can only be used with read-only images"));
    }
    flags.set(OpenFlags::DETECT_ZEROES, take_detect_zeroes(options, flags)?);
    take_node_name(options)?;
    Ok(flags)
}

/// What the node is shared for: everything, when that is forced.
pub(super) fn effective_shared(flags: OpenFlags, shared: Perm) -> Perm {
    if flags.contains(OpenFlags::FORCE_SHARE) { Perm::all() } else { shared }
}

fn parse_discard(value: &str) -> Option<bool> {
    match value {
        "ignore" | "off" => Some(false),
        "unmap" | "on" => Some(true),
        _ => None,
    }
}

/// Whether zeros are looked for in what is written. What may be unmapped, `discard` says; with `unmap` it must say so.
fn take_detect_zeroes(options: &mut Options, flags: OpenFlags) -> Result<bool> {
    match options.take_str("detect-zeroes").as_deref() {
        None | Some("off") => Ok(false),
        Some("on") => Ok(true),
        Some("unmap") if flags.contains(OpenFlags::UNMAP) => Ok(true),
        Some("unmap") => {
            Err(invalid("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap"))
        }
        Some(other) => Err(invalid(&format!("invalid parameter value: {other}"))),
    }
}

/// Names only matter to monitors, but malformed ones are refused as everywhere in QEMU (`id_wellformed`).
fn take_node_name(options: &mut Options) -> Result<()> {
    let Some(name) = options.take_str("node-name") else { return Ok(()) };
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if name.is_empty() || (first && rest && name.len() < 32) {
        return Ok(());
    }
    Err(invalid(&format!("Invalid node-name: '{name}'")))
}

fn invalid(message: &str) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
