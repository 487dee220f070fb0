//! `length`, `map`, `alloc` and `info`: what is there.

use std::sync::Arc;

use qemu_block::driver::DriverKind;
use qemu_block::error::Result;
use qemu_block::node::{ChildRole, Node};
use qemu_block::types::{DriverInfo, InfoValue};

use super::super::command::{Call, Command, Needs};
use super::super::number::SECTOR_BYTES;
use super::super::report::bytes;
use super::super::shell::{Done, Failed, Shell};
use super::size;
use crate::output::image_info::format_facts;

pub(super) const LENGTH: Command = Command {
    name: "length",
    alias: Some("l"),
    arguments: None,
    summary: "gets the length of the current file",
    details: "",
    words: (0, Some(0)),
    needs: Needs::Image,
    run: |shell, _| {
        let len = shell.backend()?.len();
        shell.out.line(bytes(len));
        Ok(())
    },
};

pub(super) const MAP: Command = Command {
    name: "map",
    alias: None,
    arguments: Some(""),
    summary: "prints the allocated areas of a file",
    details: "",
    words: (0, Some(0)),
    needs: Needs::Image,
    run: map,
};

pub(super) const ALLOC: Command = Command {
    name: "alloc",
    alias: Some("a"),
    arguments: Some("offset [count]"),
    summary: "checks if offset is allocated in the file",
    details: "",
    words: (1, Some(2)),
    needs: Needs::Image,
    run: alloc,
};

pub(super) const INFO: Command = Command {
    name: "info",
    alias: Some("i"),
    arguments: None,
    summary: "prints information about the current file",
    details: "",
    words: (0, Some(0)),
    needs: Needs::Image,
    run: info,
};

/// A stretch of the disk of which all is in this image, or nothing.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    len: u64,
    is_allocated: bool,
}

/// The stretch at `offset`, at most `len` long; empty at the end of the disk.
async fn stretch(node: &Node, offset: u64, len: u64) -> Result<Stretch> {
    let status = node.block_status(offset, len).await?;
    Ok(Stretch { len: status.len, is_allocated: status.is_allocated() })
}

/// The stretch at `offset` with all that follow it and are alike.
async fn whole_stretch(node: &Node, offset: u64, len: u64) -> Result<Stretch> {
    let mut found = stretch(node, offset, len).await?;
    while found.len > 0 && found.len < len {
        let next = stretch(node, offset.saturating_add(found.len), len - found.len).await?;
        if next.len == 0 || next.is_allocated != found.is_allocated {
            break;
        }
        found.len += next.len;
    }
    Ok(found)
}

fn map(shell: &mut Shell, _: &Call<'_>) -> Done {
    let backend = shell.backend()?;
    let (mut offset, end) = (0, backend.len());
    while offset < end {
        let found = shell
            .wait(whole_stretch(backend.node(), offset, end - offset))
            .map_err(|error| shell.report_error(format!("Failed to get allocation status: {}", error.errno_text())))?;
        if found.len == 0 {
            return Err(shell.report_error("Unexpected end of image"));
        }
        let state = if found.is_allocated { "    allocated" } else { "not allocated" };
        let (len, at) = (bytes(found.len), bytes(offset));
        shell.out.line(format!("{len} (0x{:x}) bytes {state} at offset {at} (0x{offset:x})", found.len));
        offset += found.len;
    }
    Ok(())
}

fn alloc(shell: &mut Shell, call: &Call<'_>) -> Done {
    let start = size(shell, call.words.first().map_or("", String::as_str))?;
    let mut count = call.words.get(1).map_or(Ok(SECTOR_BYTES), |word| size(shell, word))?;
    let backend = shell.backend()?;
    let (mut at, mut left, mut allocated) = (start, count, 0);
    while left > 0 {
        let found = shell
            .wait(stretch(backend.node(), at, left))
            .map_err(|error| shell.refuse(format!("is_allocated failed: {}", error.errno_text())))?;
        if found.len == 0 {
            count -= left;
            break;
        }
        if found.is_allocated {
            allocated += found.len;
        }
        at = at.saturating_add(found.len);
        left -= found.len;
    }
    shell.out.line(format!("{allocated}/{count} bytes allocated at offset {}", bytes(start)));
    Ok(())
}

fn info(shell: &mut Shell, _: &Call<'_>) -> Done {
    let backend = shell.backend()?;
    let node = Arc::clone(backend.node());
    let name = node.driver().name();
    shell.out.line(format!("format name: {name}"));
    if node.driver().kind() == DriverKind::Protocol || name == "blkdebug" {
        // A driver that answers to a protocol has two names, and both are shown.
        shell.out.line(format!("format name: {name}"));
    }
    if !knows_clusters(&node) {
        return Err(Failed);
    }
    let info = shell.wait(node.info()).map_err(|_| Failed)?;
    shell.out.line(format!("cluster size: {}", bytes(info.cluster_size.unwrap_or(0))));
    shell.out.line(format!("vm state offset: {}", bytes(vm_state_offset(&info, node.len()))));
    if let Some(facts) = format_facts(&info) {
        shell.out.text(&facts);
    }
    Ok(())
}

/// Whether the node, or the one that it stands for, tells how it divides the disk; those without storage do not.
fn knows_clusters(node: &Arc<Node>) -> bool {
    match node.child(ChildRole::Storage) {
        Some(storage) if node.driver().name() != "qcow2" => knows_clusters(&storage),
        Some(_) => true,
        None => matches!(node.driver().name(), "file" | "host_device"),
    }
}

/// Where the data of saved machines begins: behind the disk, at the next L2 table. Formats without clusters have none.
///
/// QEMU: `qcow2_vm_state_offset` (block/qcow2.h)
fn vm_state_offset(info: &DriverInfo, len: u64) -> u64 {
    let Some(cluster) = info.cluster_size else { return 0 };
    let fields = info.format_specific.iter().flat_map(|specific| &specific.fields);
    let is_extended = fields.into_iter().any(|field| *field == ("extended-l2", InfoValue::Bool(true)));
    let entry_bytes = if is_extended { 16 } else { 8 };
    let table_covers = (cluster / entry_bytes).saturating_mul(cluster);
    len.checked_next_multiple_of(table_covers.max(1)).unwrap_or(0)
}
