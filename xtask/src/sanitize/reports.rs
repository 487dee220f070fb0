//! What a sanitizer's runtime has reported: one file a process, whatever became of the process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::complain;

/// How many lines of a report are shown; all of them are in the file.
const LINES_SHOWN: usize = 60;

/// A folder for reports.
pub(super) struct Reports(PathBuf);

impl Reports {
    /// An empty one.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// What the names of the files begin with; the runtime appends the number of the process.
    pub(super) fn prefix(&self) -> PathBuf {
        self.0.join("report")
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.0)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().map(|entry| entry.path()).collect())
    }

    /// Forgets what was reported; says whether that was anything.
    pub(super) fn take(&self) -> io::Result<bool> {
        let files = self.files()?;
        files.iter().try_for_each(fs::remove_file)?;
        Ok(!files.is_empty())
    }

    /// Shows what was reported, which is an error.
    pub(super) fn check(&self) -> io::Result<()> {
        let files = self.files()?;
        let mut n_reports = 0;
        for file in &files {
            let text = String::from_utf8_lossy(&fs::read(file)?).into_owned();
            n_reports += text.lines().filter(|line| line.starts_with("SUMMARY:")).count().max(1);
            complain(&format!("{}:", file.display()));
            text.lines().take(LINES_SHOWN).for_each(complain);
        }
        if files.is_empty() { Ok(()) } else { Err(io::Error::other(format!("{n_reports} reports"))) }
    }
}
