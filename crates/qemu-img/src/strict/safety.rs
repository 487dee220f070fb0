//! What there is to know about an image from a stranger before anybody uses it: the `safety` object of `info`.
//!
//! Clouds compute this with parsers of their own today. Here it comes from the code that would open the image; nothing
//! that the image names is followed for it, or even looked up.

use std::path::Path;

use confine::Report;
use qcow2::inspect::{Inspection, inspect};
use qemu_block::error::Result;
use qemu_block::node::{ChildRole, Node};
use qemu_block::registry::{
    AllowList, OpenPolicy, Origin, Reference, Target, absolute_path, path_has_protocol, resolve_backing_name,
};

use super::signature::signature;
use crate::output::json::Json;

/// Everything that speaks for and against an image.
#[derive(Debug)]
pub(crate) struct Safety {
    /// Why the image is not safe; empty if it is.
    reasons: Vec<String>,
    /// What its first bytes say it is.
    signature: &'static str,
    /// Whether nobody said what it is.
    probed: bool,
    references: Vec<Named>,
    inspection: Inspection,
    file_len: u64,
    confined: Report,
}

/// A name inside the image.
#[derive(Debug)]
struct Named {
    role: &'static str,
    kind: &'static str,
    /// Where a path leads; none for other names.
    location: Option<&'static str>,
    name: String,
    resolved: String,
    format: Option<String>,
    allowed: bool,
    is_loop: bool,
}

/// What an image was asked for as, and what is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its format, if the user said one.
    pub(crate) format: Option<&'a str>,
    /// What names may be followed.
    pub(crate) policy: &'a AllowList,
    /// How the process is confined.
    pub(crate) confined: Report,
}

impl Safety {
    /// Looks at an open image.
    ///
    /// # Errors
    /// Reading failed.
    pub(crate) async fn of_image(asked: Asked<'_>, node: &Node) -> Result<Self> {
        match node.child(ChildRole::Storage) {
            Some(storage) => Self::of_storage(asked, Some(node.driver().name()), &storage).await,
            None => Self::of_storage(asked, None, node).await,
        }
    }

    /// Looks at what stores an image, which was opened as `format` or could not be opened.
    ///
    /// # Errors
    /// Reading failed.
    pub(crate) async fn of_storage(asked: Asked<'_>, format: Option<&str>, storage: &Node) -> Result<Self> {
        let signature = signature(storage).await?;
        let format = format.or(asked.format).unwrap_or(signature);
        let file_len = storage.len();
        let mut safety = Self {
            reasons: Vec::new(),
            signature,
            probed: asked.format.is_none(),
            references: Vec::new(),
            inspection: Inspection { needed_len: file_len, complete: true, ..Inspection::default() },
            file_len,
            confined: asked.confined,
        };
        if format == "qcow2" {
            safety.inspection = inspect(storage).await?;
        } else if format == "raw" {
            safety.inspection.virtual_size = file_len;
        }
        safety.find_references(asked);
        safety.judge(format);
        Ok(safety)
    }

    fn find_references(&mut self, asked: Asked<'_>) {
        let Inspection { backing_file, backing_format, has_data_file, data_file, .. } = &self.inspection;
        let backing = backing_file.as_ref().map(|name| {
            let resolved = resolve_backing_name(asked.name, name);
            let format = backing_format.clone();
            Named { format, ..Named::new("backing-file", Origin::Backing, name, resolved, asked) }
        });
        let data = has_data_file.then(|| {
            let name = data_file.clone().unwrap_or_default();
            Named::new("data-file", Origin::DataFile, &name, name.clone(), asked)
        });
        self.references = backing.into_iter().chain(data).collect();
    }

    fn judge(&mut self, format: &str) {
        let found = &self.inspection;
        let mut reasons = Vec::new();
        let mut say = |when: bool, reason: String| {
            if when {
                reasons.push(reason);
            }
        };
        for named in &self.references {
            let Named { role, name, .. } = named;
            say(named.is_loop, format!("{role} is the image itself: {name}"));
            say(!named.allowed && !named.is_loop, format!("{role} that is not allowed: {name}"));
        }
        let mismatch = self.signature != format && self.signature != "raw";
        say(mismatch, format!("format is {format}, content is {}", self.signature));
        say(!["raw", "qcow2", "luks"].contains(&format), format!("format is not supported: {format}"));
        say(found.unknown_incompatible != 0, "unknown incompatible features".to_owned());
        say(found.corrupt, "marked as corrupt".to_owned());
        say(found.needed_len > self.file_len, "file is shorter than its metadata says".to_owned());
        if let Some(flaw) = &found.flaw {
            say(true, format!("damaged: {flaw}"));
        }
        self.reasons = reasons;
    }

    /// The object.
    pub(crate) fn to_json(&self) -> Json {
        let found = &self.inspection;
        let features = vec![
            ("incompatible", bits(found.unknown_incompatible)),
            ("compatible", bits(found.unknown_compatible)),
            ("autoclear", bits(found.unknown_autoclear)),
        ];
        let size = vec![
            ("virtual", Json::Int(found.virtual_size)),
            ("file", Json::Int(self.file_len)),
            ("needed", Json::Int(found.needed_len)),
        ];
        let landlock = self.confined.landlock.map_or("unavailable".to_owned(), |version| format!("abi {version}"));
        let confinement = vec![("landlock", Json::Text(landlock)), ("seccomp", Json::Bool(self.confined.seccomp))];
        Json::Object(vec![
            ("safe", Json::Bool(self.reasons.is_empty())),
            ("reasons", Json::List(self.reasons.iter().map(Json::text).collect())),
            ("content", Json::text(self.signature)),
            ("probed", Json::Bool(self.probed)),
            ("references", Json::List(self.references.iter().map(Named::to_json).collect())),
            ("loop", Json::Bool(self.references.iter().any(|named| named.is_loop))),
            ("unknown-features", Json::Object(features)),
            ("dirty", Json::Bool(found.dirty)),
            ("corrupt", Json::Bool(found.corrupt)),
            ("encrypted", Json::Bool(found.encrypted || self.signature == "luks")),
            ("snapshots", Json::Int(found.snapshots.into())),
            ("truncated", Json::Bool(found.needed_len > self.file_len)),
            ("size", Json::Object(size)),
            ("complete", Json::Bool(found.complete)),
            ("confinement", Json::Object(confinement)),
        ])
    }
}

impl Named {
    fn new(role: &'static str, origin: Origin, name: &str, resolved: String, asked: Asked<'_>) -> Self {
        let is_backing = origin == Origin::Backing;
        let plain = resolved.strip_prefix("file:").filter(|_| is_backing).unwrap_or(&resolved);
        let kind = match plain {
            _ if name.is_empty() => "missing",
            text if is_backing && text.starts_with("json:") => "json",
            text if is_backing && path_has_protocol(text) => "protocol",
            _ => "path",
        };
        let target = match kind {
            "json" => Target::Json,
            "protocol" => Target::Protocol(plain.split(':').next().unwrap_or_default()),
            _ => Target::Path(plain),
        };
        let allowed = asked.policy.check(&Reference { origin, target, name: &resolved }).is_ok();
        let location = (kind == "path").then(|| location(asked.name, name, plain));
        let is_loop = kind == "path" && is_same(asked.name, plain);
        Self { role, kind, location, name: name.to_owned(), format: None, allowed, is_loop, resolved }
    }

    fn to_json(&self) -> Json {
        let members = [
            ("role", Some(Json::text(self.role))),
            ("kind", Some(Json::text(self.kind))),
            ("location", self.location.map(Json::text)),
            ("name", Some(Json::text(&self.name))),
            ("resolved", Some(Json::text(&self.resolved))),
            ("format", self.format.as_ref().map(Json::text)),
            ("allowed", Some(Json::Bool(self.allowed))),
        ];
        Json::Object(members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

/// The numbers of the bits that are set.
fn bits(word: u64) -> Json {
    Json::List((0..u64::BITS).filter(|bit| word >> bit & 1 != 0).map(|bit| Json::Int(bit.into())).collect())
}

/// Where the path `resolved`, written as `name` in the image, leads.
fn location(image: &str, name: &str, resolved: &str) -> &'static str {
    let folder = Path::new(image.strip_prefix("file:").unwrap_or(image)).parent().unwrap_or(Path::new(""));
    let inside = match (absolute_path(&Path::new(".").join(folder)), absolute_path(Path::new(resolved))) {
        (Ok(folder), Ok(path)) => path.starts_with(folder),
        _ => false,
    };
    match (name.starts_with('/') || name.starts_with("file:/"), inside) {
        (true, _) => "absolute",
        (false, true) => "relative",
        (false, false) => "escaping",
    }
}

/// Whether a path in an image leads to the image, as far as names tell.
fn is_same(image: &str, path: &str) -> bool {
    let image = Path::new(image.strip_prefix("file:").unwrap_or(image));
    let Ok(path) = absolute_path(Path::new(path)) else { return false };
    let real = std::fs::canonicalize(image).is_ok_and(|real| real == path);
    real || absolute_path(image).is_ok_and(|image| image == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_into_the_folder_or_out_of_it() {
        for (image, name, expected) in [
            ("dir/a", "b", "relative"),
            ("dir/a", "sub/../b", "relative"),
            ("dir/a", "../b", "escaping"),
            ("a", "../b", "escaping"),
            ("a", "/b", "absolute"),
            ("file:dir/a", "b", "relative"),
        ] {
            let resolved = resolve_backing_name(image, name);
            let resolved = resolved.strip_prefix("file:").unwrap_or(&resolved);
            assert_eq!(location(image, name, resolved), expected, "{image} {name}");
        }
    }

    #[test]
    fn an_image_over_itself_is_found_by_its_name() {
        assert!(is_same("dir/a", "dir/./a") && is_same("a", "x/../a"));
        assert!(!is_same("dir/a", "a"));
    }
}
