//! The names of nodes that no plain file name describes: `json:{…}` with what has to be known to open them again.
//!
//! A format node is called as the file below it, unless it was opened with options that change what it shows, or what is
//! below has no plain name either. A filter always needs its options. QEMU: `bdrv_refresh_filename` (block.c).

use std::sync::Arc;

use crate::driver::{BlockDriver, DriverKind, OpenRequest};
use crate::node::{ChildRole, Edge, Node};
use crate::options::OptionValue;

/// The options that decide what a node shows: a key, or a prefix that ends in a dot. QEMU: `strong_runtime_opts`.
fn strong_options(driver: &str) -> &'static [&'static str] {
    match driver {
        "blkdebug" => &["config", "inject-error.", "set-state."],
        "luks" => &["key-secret"],
        "null-aio" | "null-co" => &["read-zeroes", "size"],
        "qcow2" => &["encrypt."],
        "raw" => &["offset", "size"],
        "throttle" => &["throttle-group"],
        _ => &[],
    }
}

/// The order of keys, which is that of the reference's hash table. Those that are missing here come first.
const ORDER: [&str; 6] = ["driver", "size", "file", "image", "filename", "key-secret"];

/// What a node's name needs from its options, which are gone once the node is open.
pub(super) struct NodeName {
    driver: Arc<dyn BlockDriver>,
    /// What it was asked for by.
    given: String,
    strong: Vec<(String, OptionValue)>,
}

impl NodeName {
    /// Keeps what matters of the options that a node is about to be opened with.
    pub(super) fn new(driver: &Arc<dyn BlockDriver>, request: &OpenRequest) -> Self {
        let strong = strong_options(driver.name());
        let is_strong = |key: &str| {
            strong.iter().any(|known| if known.ends_with('.') { key.starts_with(known) } else { key == *known })
        };
        let strong = request.options.iter().filter(|(key, _)| is_strong(key));
        let strong = strong.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        Self { driver: Arc::clone(driver), given: request.filename.clone(), strong }
    }

    /// The name of the node that the driver opened over `children`, and calls `filename`.
    pub(super) fn of_node(self, filename: String, children: &[Edge]) -> String {
        let storage = children.iter().find(|edge| edge.role == ChildRole::Storage).map(|edge| &edge.node);
        let is_filter = matches!(self.driver.kind(), DriverKind::Filter { .. });
        let is_plain = storage.is_none_or(|storage| !is_object(storage.filename()) && !is_filter);
        // A driver that found another name than the one given says that nothing else is needed.
        if filename != self.given && !filename.is_empty() && storage.is_some() || self.strong.is_empty() && is_plain {
            return filename;
        }
        format!("{PREFIX}{}", object(&self.driver, &self.strong, &filename, children))
    }
}

const PREFIX: &str = "json:";

fn is_object(filename: &str) -> bool {
    filename.starts_with(PREFIX)
}

/// The file name nearest below: what relative names inside the image are relative to. QEMU: `bdrv_dirname`.
pub(super) fn plain_name(node: &Arc<Node>) -> String {
    match node.child(ChildRole::Storage).filter(|_| is_object(node.filename())) {
        Some(storage) => plain_name(&storage),
        None => node.filename().to_owned(),
    }
}

/// What has to be known to open `node` again.
fn object_of(node: &Node) -> String {
    if let Some(object) = node.filename().strip_prefix(PREFIX) {
        return object.to_owned();
    }
    object(node.driver(), &[], node.filename(), &node.children())
}

fn object(
    driver: &Arc<dyn BlockDriver>,
    strong: &[(String, OptionValue)],
    filename: &str,
    children: &[Edge],
) -> String {
    let mut members = vec![("driver", quoted(driver.name()))];
    members.extend(strong.iter().map(|(key, value)| (key.as_str(), value_text(value))));
    let has_filename = !driver.kind().has_storage() && !filename.is_empty() && !filename.ends_with("://");
    members.extend(has_filename.then(|| ("filename", quoted(filename))));
    let children = children.iter().filter(|edge| edge.role != ChildRole::Backing);
    members.extend(children.map(|edge| (edge.name, object_of(&edge.node))));
    members.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key));
    let members: Vec<String> = members.into_iter().map(|(key, value)| format!("{}: {value}", quoted(key))).collect();
    format!("{{{}}}", members.join(", "))
}

fn value_text(value: &OptionValue) -> String {
    match value {
        OptionValue::Text(text) => quoted(text),
        OptionValue::Bool(value) => value.to_string(),
        OptionValue::Int(number) => number.to_string(),
        OptionValue::Null => "null".to_owned(),
    }
}

/// A text in JSON, in ASCII as the reference writes it.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        match c {
            '\0'..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}"))),
        }
    }
    out
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;

    #[test]
    fn texts_are_ascii() {
        assert_eq!(quoted("a\"é\u{1f600}\n"), "\"a\\\"\\u00E9\\uD83D\\uDE00\\n\"");
    }
}
