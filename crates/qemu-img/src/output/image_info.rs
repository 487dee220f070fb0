//! What is known about an image, gathered once and printed as text or JSON.
//!
//! QEMU: `ImageInfo`, `BlockNodeInfo` (qapi/block-core.json), `bdrv_image_info_dump` (block/qapi.c)

use std::fmt::Write;

use qemu_block::error::Result;
use qemu_block::node::{ChildRole, Node};
use qemu_block::types::{DriverInfo, FormatSpecific, InfoValue, SnapshotInfo};
use qemu_util::local_time;
use qemu_util::units::format_size;

use crate::output::human::escape;
use crate::output::json::Json;

/// Spaces a level of nesting is indented by.
const INDENT: usize = 4;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Everything that `info` shows about a node and those that store it.
#[derive(Debug)]
pub(crate) struct ImageInfo {
    filename: String,
    format: &'static str,
    virtual_size: u64,
    allocated_bytes: Option<u64>,
    info: DriverInfo,
    children: Vec<(&'static str, ImageInfo)>,
}

impl ImageInfo {
    /// Asks `node` and those below it. Backing files are among them only if they are open.
    ///
    /// # Errors
    /// A node cannot read its metadata.
    pub(crate) async fn gather(node: &Node) -> Result<Self> {
        let mut children = Vec::new();
        let mut edges = node.children();
        // As the reference lists them.
        edges.sort_by_key(|edge| edge.role != ChildRole::Backing);
        for edge in edges {
            children.push((edge.name, Box::pin(Self::gather(&edge.node)).await?));
        }
        Ok(Self {
            filename: node.filename().to_owned(),
            format: node.driver().name(),
            // The reference counts in sectors and rounds the length of every node up to them.
            virtual_size: node.len().next_multiple_of(512),
            allocated_bytes: node.allocated_bytes().await?,
            info: node.info().await?,
            children,
        })
    }

    /// The facts that lead to the next image of a chain.
    pub(crate) fn driver_info(&self) -> &DriverInfo {
        &self.info
    }

    /// The members in the order of the reference, which is that of its hash table.
    pub(crate) fn to_json(&self) -> Json {
        let child = |(name, info): &(&'static str, Self)| {
            Json::Object(vec![("name", Json::text(*name)), ("info", info.to_json())])
        };
        let info = &self.info;
        let text = |text: &Option<String>| text.clone().map(Json::Text);
        let snapshots = || snapshots_json(&info.snapshots);
        let members = [
            ("children", Some(Json::List(self.children.iter().map(child).collect()))),
            ("backing-filename-format", text(&info.backing_format)),
            ("snapshots", (!info.snapshots.is_empty()).then(snapshots)),
            ("virtual-size", Some(Json::Int(self.virtual_size))),
            ("filename", Some(Json::text(&self.filename))),
            ("cluster-size", info.cluster_size.map(Json::Int)),
            ("format", Some(Json::text(self.format))),
            ("actual-size", self.allocated_bytes.map(Json::Int)),
            ("format-specific", info.format_specific.as_ref().map(specific_json)),
            ("full-backing-filename", text(&info.full_backing_filename)),
            ("encrypted", info.encrypted.then_some(Json::Bool(true))),
            ("backing-filename", text(&info.backing_filename)),
            ("dirty-flag", info.dirty.map(Json::Bool)),
        ];
        Json::Object(members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }

    /// The text for people, with a newline at the end.
    pub(crate) fn to_human(&self) -> String {
        let mut out = String::new();
        self.write_human(&mut out, 0, "/");
        out
    }

    fn write_human(&self, out: &mut String, level: usize, path: &str) {
        let mut line = |text: String| push_line(out, level, &text);
        // What the user named is an image, even if it is opened without a format.
        let is_protocol = self.children.is_empty() && level > 0;
        let (name, format, size) = if is_protocol {
            ("filename", "protocol type", "file length")
        } else {
            ("image", "file format", "virtual size")
        };
        line(format!("{name}: {}", escape(&self.filename)));
        line(format!("{format}: {}", self.format));
        line(format!("{size}: {} ({} bytes)", format_size(self.virtual_size), self.virtual_size));
        let on_disk = self.allocated_bytes.map_or_else(|| "unavailable".to_owned(), format_size);
        line(format!("disk size: {on_disk}"));
        self.write_format_facts(&mut line);
        if let Some(specific) = self.info.format_specific.as_ref().filter(|specific| !specific.fields.is_empty()) {
            line("Format specific information:".to_owned());
            write_fields(out, level + 1, &specific.fields);
        }
        for (name, child) in &self.children {
            push_line(out, level, &format!("Child node '{path}{name}':"));
            child.write_human(out, level + 1, &format!("{path}{name}/"));
        }
    }

    fn write_format_facts(&self, line: &mut impl FnMut(String)) {
        let info = &self.info;
        if info.encrypted {
            line("encrypted: yes".to_owned());
        }
        if let Some(bytes) = info.cluster_size {
            line(format!("cluster_size: {bytes}"));
        }
        if info.dirty == Some(true) {
            line("cleanly shut down: no".to_owned());
        }
        if let Some(name) = &info.backing_filename {
            let path = match &info.full_backing_filename {
                None => " (cannot determine actual path)".to_owned(),
                Some(full) if full != name => format!(" (actual path: {})", escape(full)),
                Some(_) => String::new(),
            };
            line(format!("backing file: {}{path}", escape(name)));
        }
        if let Some(format) = info.backing_format.as_ref().filter(|_| info.backing_filename.is_some()) {
            line(format!("backing file format: {}", escape(format)));
        }
        snapshot_list(&info.snapshots).into_iter().for_each(line);
    }
}

fn push_line(out: &mut String, level: usize, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:width$}{text}", "", width = level * INDENT);
}

fn specific_json(specific: &FormatSpecific) -> Json {
    let fields = specific.fields.iter().map(|(name, value)| (*name, value_json(value))).collect();
    Json::Object(vec![("type", Json::text(specific.type_name)), ("data", Json::Object(fields))])
}

fn value_json(value: &InfoValue) -> Json {
    match value {
        InfoValue::Bool(value) => Json::Bool(*value),
        InfoValue::Int(value) => Json::Int(*value),
        InfoValue::Text(text) => Json::text(text),
        InfoValue::List(values) => Json::List(values.iter().map(value_json).collect()),
        InfoValue::Object(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (*name, value_json(value))).collect())
        }
    }
}

/// What only this format knows, as `info` prints it; nothing if there is nothing to tell.
pub(crate) fn format_facts(info: &DriverInfo) -> Option<String> {
    let specific = info.format_specific.as_ref().filter(|specific| !specific.fields.is_empty())?;
    let mut text = String::new();
    push_line(&mut text, 0, "Format specific information:");
    write_fields(&mut text, 1, &specific.fields);
    Some(text)
}

fn write_fields(out: &mut String, level: usize, fields: &[(&'static str, InfoValue)]) {
    for (name, value) in fields {
        write_value(out, level, &name.replace('-', " "), value);
    }
}

fn write_value(out: &mut String, level: usize, name: &str, value: &InfoValue) {
    match value {
        InfoValue::Bool(value) => push_line(out, level, &format!("{name}: {value}")),
        InfoValue::Int(value) => push_line(out, level, &format!("{name}: {value}")),
        InfoValue::Text(text) => push_line(out, level, &format!("{name}: {}", escape(text))),
        InfoValue::List(values) => {
            push_line(out, level, &format!("{name}:"));
            for (at, value) in values.iter().enumerate() {
                write_value(out, level + 1, &format!("[{at}]"), value);
            }
        }
        InfoValue::Object(fields) => {
            push_line(out, level, &format!("{name}:"));
            write_fields(out, level + 1, fields);
        }
    }
}

/// Internal snapshots, as an array.
pub(crate) fn snapshots_json(snapshots: &[SnapshotInfo]) -> Json {
    Json::List(snapshots.iter().map(snapshot_json).collect())
}

fn snapshot_json(snapshot: &SnapshotInfo) -> Json {
    let members = [
        ("icount", snapshot.icount.map(Json::Int)),
        ("vm-clock-nsec", Some(Json::Int(snapshot.vm_clock_nanoseconds % NANOS_PER_SECOND))),
        ("name", Some(Json::text(&snapshot.name))),
        ("date-sec", Some(Json::Int(snapshot.date_seconds.into()))),
        ("date-nsec", Some(Json::Int(snapshot.date_nanoseconds.into()))),
        ("vm-clock-sec", Some(Json::Int(snapshot.vm_clock_nanoseconds / NANOS_PER_SECOND))),
        ("id", Some(Json::text(&snapshot.id))),
        ("vm-state-size", Some(Json::Int(snapshot.vm_state_bytes))),
    ];
    Json::Object(members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// The lines that list snapshots for people; none if there are none.
pub(crate) fn snapshot_list(snapshots: &[SnapshotInfo]) -> Vec<String> {
    if snapshots.is_empty() {
        return Vec::new();
    }
    let head = ["Snapshot list:".to_owned(), snapshot_row(["ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"])];
    head.into_iter().chain(snapshots.iter().map(snapshot_human)).collect()
}

fn snapshot_row([id, tag, vm_size, date, vm_clock, icount]: [&str; 6]) -> String {
    format!("{id:<7} {tag:<16} {vm_size:>8} {date:>19} {vm_clock:>15} {icount:>10}")
}

fn snapshot_human(snapshot: &SnapshotInfo) -> String {
    let seconds = snapshot.vm_clock_nanoseconds / NANOS_PER_SECOND;
    let millis = snapshot.vm_clock_nanoseconds / 1_000_000 % 1000;
    let clock = format!("{:04}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let icount = snapshot.icount.map_or_else(|| "--".to_owned(), |count| count.to_string());
    let date = local_time::format(i64::from(snapshot.date_seconds));
    let vm_size = format_size(snapshot.vm_state_bytes);
    snapshot_row([&escape(&snapshot.id), &escape(&snapshot.name), &vm_size, &date, &clock, &icount])
}

#[cfg(test)]
mod tests;
