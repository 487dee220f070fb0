//! The strict policy: what an image names is followed only if it is on a list.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::policy::{OpenPolicy, Origin, Reference, Target};
use crate::error::{BlockError, ErrorKind, Result, shown};

/// Protocols without a network that a caller may name as he likes.
const LOCAL_PROTOCOLS: [&str; 2] = ["null-co", "null-aio"];

/// Formats that an image may name. Everything else interprets options, which may lead anywhere.
const PLAIN_FORMATS: [&str; 3] = ["raw", "qcow2", "luks"];

/// Follows what the caller names, and of what images name only what matches a pattern.
///
/// A pattern is
/// - a path: that file;
/// - a path with a slash at its end: everything below that folder;
/// - a word with a colon at its end, such as `nbd:` or `json:`: every name of that protocol;
/// - a name with `://` in it: exactly that name.
///
/// Two kinds of names need a pattern even if the caller uses them: `json:` texts and network protocols.
///
/// A path has to match twice: as it is written, which needs no look at the file system, and only then by its canonical
/// form, so that no symbolic link leads out of what is allowed.
#[derive(Clone, Debug)]
pub struct AllowList {
    paths: Vec<AllowedPath>,
    protocols: Vec<String>,
    names: Vec<String>,
    hint: String,
}

#[derive(Clone, Debug)]
struct AllowedPath {
    /// Absolute, without `.` and `..`, as it was given.
    written: PathBuf,
    /// With symbolic links resolved as far as that file exists.
    canonical: PathBuf,
    /// Whether it stands for everything below it.
    folder: bool,
}

impl AllowList {
    /// A list of these patterns.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty pattern and for paths that cannot be resolved.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut list = Self { paths: Vec::new(), protocols: Vec::new(), names: Vec::new(), hint: String::new() };
        for pattern in patterns {
            list.add(pattern.as_ref())?;
        }
        Ok(list)
    }

    /// The same list, whose refusals end with this text. `{}` in it stands for what would allow the name.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// The paths on the list, with symbolic links resolved, and whether each stands for everything below it.
    pub fn paths(&self) -> impl Iterator<Item = (&Path, bool)> {
        self.paths.iter().map(|path| (path.canonical.as_path(), path.folder))
    }

    /// Whether names of that protocol are allowed. `nbd` allows `nbd+unix`, too.
    pub fn allows_protocol(&self, protocol: &str) -> bool {
        let plain = protocol.split('+').next().unwrap_or(protocol);
        self.protocols.iter().any(|known| known == protocol || known == plain)
    }

    /// Whether a name of a network protocol may be followed: a process without one needs no sockets.
    pub fn has_network(&self) -> bool {
        let local = |name: &String| name == "json" || LOCAL_PROTOCOLS.contains(&name.as_str());
        !self.names.is_empty() || !self.protocols.iter().all(local)
    }

    /// Whether the name is of a way to talk that protocol which is allowed by itself: `nbd+unix:` for the driver `nbd`.
    fn allows_way(&self, reference: &Reference<'_>, protocol: &str) -> bool {
        let scheme = reference.name.split(':').next().unwrap_or_default();
        let is_way = scheme.strip_prefix(protocol).is_some_and(|rest| rest.starts_with('+'));
        is_way && self.protocols.iter().any(|known| known == scheme)
    }

    fn add(&mut self, pattern: &str) -> Result<()> {
        if let Some(protocol) = pattern.strip_suffix(':').filter(|word| is_word(word)) {
            self.protocols.push(protocol.to_owned());
        } else if pattern.contains("://") {
            self.names.push(pattern.to_owned());
        } else {
            self.paths.push(AllowedPath::new(pattern)?);
        }
        Ok(())
    }

    fn refuse(&self, reference: &Reference<'_>, why: &str, pattern: &str) -> BlockError {
        let what = match reference.origin {
            Origin::Caller => "The name",
            Origin::Backing => "The backing file",
            Origin::DataFile => "The data file",
        };
        let hint = self.hint.replace("{}", &shown(pattern));
        let message = format!("{what} '{}' is not followed{why}{hint}", shown(reference.name));
        BlockError::new(ErrorKind::PermissionDenied, message)
    }

    fn check_path(&self, reference: &Reference<'_>, path: &str) -> Result<()> {
        let refused = |why| self.refuse(reference, why, path);
        let written = absolute_path(Path::new(path)).map_err(|_| refused(""))?;
        let candidates: Vec<_> = self.paths.iter().filter(|allowed| allowed.matches_written(&written)).collect();
        if candidates.is_empty() {
            return Err(refused(""));
        }
        match fs::canonicalize(path) {
            Ok(real) if self.paths.iter().any(|allowed| allowed.matches_canonical(&real)) => Ok(()),
            Ok(_) => Err(refused(": a symbolic link leads out of what is allowed")),
            // Opening it will fail just so, and says it better.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(refused("").with_source(error)),
        }
    }
}

impl OpenPolicy for AllowList {
    fn check(&self, reference: &Reference<'_>) -> Result<()> {
        let (pattern, allowed) = match reference.target {
            Target::Path(path) if reference.origin.is_image() => return self.check_path(reference, path),
            Target::Path(_) => return Ok(()),
            Target::Json => ("json:".to_owned(), self.allows_protocol("json")),
            Target::Protocol(name) => {
                let local = !reference.origin.is_image() && LOCAL_PROTOCOLS.contains(&name);
                let named = self.names.iter().any(|known| known == reference.name);
                (format!("{name}:"), local || named || self.allows_protocol(name) || self.allows_way(reference, name))
            }
            Target::Format(name) => {
                let plain = !reference.origin.is_image() || PLAIN_FORMATS.contains(&name);
                (format!("{name}:"), plain || self.allows_protocol(name))
            }
        };
        if allowed { Ok(()) } else { Err(self.refuse(reference, "", &pattern)) }
    }

    fn may_probe(&self, origin: Origin) -> bool {
        !origin.is_image()
    }
}

impl AllowedPath {
    fn new(pattern: &str) -> Result<Self> {
        let invalid = |text: String| BlockError::new(ErrorKind::InvalidArgument, text);
        if pattern.is_empty() || pattern.contains('\0') {
            return Err(invalid(format!("Not a path, a folder or a protocol: '{}'", shown(pattern))));
        }
        let path = Path::new(pattern);
        let unresolved = |error| invalid(format!("Cannot resolve '{}'", shown(pattern))).with_source(error);
        let written = absolute_path(path).map_err(unresolved)?;
        // What does not exist (yet) can only be what it says.
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| written.clone());
        Ok(Self { written, canonical, folder: pattern.ends_with('/') })
    }

    fn matches_written(&self, path: &Path) -> bool {
        let matches = |known: &Path| if self.folder { path.starts_with(known) } else { path == known };
        matches(&self.written) || matches(&self.canonical)
    }

    fn matches_canonical(&self, path: &Path) -> bool {
        if self.folder { path.starts_with(&self.canonical) } else { path == self.canonical }
    }
}

/// The path from the root, without `.` and `..`, without looking at the file system: what a name says, not where symbolic
/// links lead.
///
/// # Errors
/// The working directory is unknown, or the path is empty.
pub fn absolute_path(path: &Path) -> io::Result<PathBuf> {
    let mut whole = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    Ok(whole)
}

/// Whether it can be the name of a protocol, which no path with a slash is.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '_'))
}

#[cfg(all(test, not(qemu_loom)))]
mod tests;
