//! A process takes away from itself what it will not need, before it reads what a stranger wrote.
//!
//! ```text
//! Confinement ─► limits  memory, processor time, core dumps    setrlimit
//!             ─► files   which files may be opened, and how    Landlock
//!             ─► calls   which system calls there are          seccomp
//! ```
//!
//! All of it is inherited by threads and cannot be undone. It binds the threads that start afterwards, so
//! [`Confinement::apply`] comes before the first one.
//!
//! Landlock and seccomp are the second line. The first is the program's own policy, which follows no name that it was
//! not told to follow; this one holds if the program is wrong about itself. A kernel may lack either, as may a container
//! that forbids their system calls; then the rest is still done, and the [`Report`] says what is missing.
//!
//! ```no_run
//! use confine::{Confinement, Network};
//!
//! let report = Confinement::new().reads("disk.qcow2").creates("disk.raw").network(Network::Refused).apply()?;
//! assert!(report.seccomp);
//! // From here on no other file can be opened, and no socket made.
//! # Ok::<(), confine::ConfineError>(())
//! ```

#![forbid(unsafe_code)]

mod calls;
mod files;
mod limits;

use std::path::{Path, PathBuf};

pub use limits::Limits;

/// Whether the process may talk to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// No sockets at all.
    #[default]
    Refused,
    /// Sockets of any kind that connect somewhere. None that listens for TCP.
    Allowed,
}

/// How a file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Opened for reading; a folder means everything below it.
    Read,
    /// Opened for reading and writing; a folder means everything below it.
    Write,
    /// Made, written, perhaps removed again.
    Create,
    /// Made under another name in the same folder, and renamed.
    Replace,
}

/// What the process will need.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is confined before `apply`"]
pub struct Confinement {
    files: Vec<(PathBuf, Use)>,
    network: Network,
    limits: Limits,
}

/// Why the process could not be confined.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct ConfineError {
    what: &'static str,
    why: String,
}

impl ConfineError {
    pub(crate) fn new(what: &'static str, why: impl ToString) -> Self {
        Self { what, why: why.to_string() }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The version of Landlock that guards the files; none if the kernel has none or refuses it.
    pub landlock: Option<u32>,
    /// Whether only the system calls are left that the process needs.
    pub seccomp: bool,
}

impl Confinement {
    /// A process that needs no files.
    pub fn new() -> Self {
        Self::default()
    }

    /// It reads this file or device, or what is below this folder. What does not exist is left out.
    pub fn reads(self, path: impl AsRef<Path>) -> Self {
        self.uses(path.as_ref(), Use::Read)
    }

    /// It reads and writes this file or device, or what is below this folder. What does not exist is left out.
    pub fn writes(self, path: impl AsRef<Path>) -> Self {
        self.uses(path.as_ref(), Use::Write)
    }

    /// It makes this file, or empties and writes it, and may remove it again.
    ///
    /// For a file that does not exist that takes the right to its folder, the files in it included: Landlock knows no
    /// names, only files.
    pub fn creates(self, path: impl AsRef<Path>) -> Self {
        self.uses(path.as_ref(), Use::Create)
    }

    /// It makes a file in the same folder, and gives it this name when it is complete.
    pub fn replaces(self, path: impl AsRef<Path>) -> Self {
        self.uses(path.as_ref(), Use::Replace)
    }

    /// Whether it talks to others.
    pub fn network(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// How much it may use.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn uses(mut self, path: &Path, how: Use) -> Self {
        self.files.push((path.to_owned(), how));
        self
    }

    /// Confines this thread, all that it starts, and as far as the kernel can do that, all that exist.
    ///
    /// # Errors
    /// If a limit cannot be set. A kernel without Landlock or seccomp is no error, see [`Report`].
    pub fn apply(self) -> Result<Report, ConfineError> {
        limits::apply(&self.limits)?;
        let landlock = files::apply(&self.files, self.network);
        // Comes last: it forbids the system calls that make the others.
        let seccomp = calls::apply(self.network);
        Ok(Report { landlock, seccomp })
    }
}
