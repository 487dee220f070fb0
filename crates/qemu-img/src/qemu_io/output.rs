//! Standard output as C programs have it: by the line on a terminal, else in blocks.
//!
//! Scripts record both streams in one file, so it matters when a text leaves the process: with the reference, what
//! goes to standard error comes first unless standard output was flushed. For the same reason `abort` loses what is
//! still in the buffer.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Bytes that are kept back when standard output is no terminal: the C library's block for a pipe.
const BLOCK_BYTES: usize = 4096;

/// The program's standard output.
#[derive(Debug)]
pub(super) struct Output {
    pending: Vec<u8>,
    by_line: bool,
}

impl Output {
    /// With nothing in its buffer.
    pub(super) fn new() -> Self {
        Self { pending: Vec::with_capacity(BLOCK_BYTES), by_line: io::stdout().is_terminal() }
    }

    /// Prints a text as it is.
    pub(super) fn text(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while self.pending.len() + rest.len() >= BLOCK_BYTES {
            let (now, later) = rest.split_at(BLOCK_BYTES - self.pending.len());
            self.pending.extend_from_slice(now);
            self.flush();
            rest = later;
        }
        self.pending.extend_from_slice(rest);
        if self.by_line && text.contains('\n') {
            self.flush();
        }
    }

    /// Prints one line.
    pub(super) fn line(&mut self, line: impl Display) {
        self.text(&format!("{line}\n"));
    }

    /// Writes everything out. Nobody could be told about a failure: the reference ignores it as well.
    pub(super) fn flush(&mut self) {
        let mut stdout = io::stdout().lock();
        drop(stdout.write_all(&self.pending).and_then(|()| stdout.flush()));
        self.pending.clear();
    }
}
