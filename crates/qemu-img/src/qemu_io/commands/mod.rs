//! The commands.
//!
//! | file | commands |
//! |---|---|
//! | `read`, `write` | read, readv; write, writev |
//! | `background` | aio_read, aio_write, aio_flush |
//! | `change` | flush, discard, truncate |
//! | `look` | length, map, alloc, info |
//! | `file` | open, close, reopen |
//! | `suspend` | break, remove_break, resume, wait_break |
//! | `process` | help, quit, sleep, abort, sigraise |
//! | `zone` | what is for zoned devices, which no image is |

mod background;
mod change;
mod file;
mod look;
mod process;
mod read;
mod suspend;
mod write;
mod zone;

pub(super) use read::Reader;
pub(super) use suspend::listener;

use super::command::Command;
use super::number::{self, REQUEST_BYTES_MAX};
use super::shell::{Failed, Shell};

/// All commands there are, by name.
pub(super) const ALL: &[&Command] = &[
    &process::ABORT,
    &background::AIO_FLUSH,
    &background::AIO_READ,
    &background::AIO_WRITE,
    &look::ALLOC,
    &suspend::BREAK,
    &file::CLOSE,
    &change::DISCARD,
    &change::FLUSH,
    &process::HELP,
    &look::INFO,
    &look::LENGTH,
    &look::MAP,
    &file::OPEN,
    &process::QUIT,
    &read::READ,
    &read::READV,
    &suspend::REMOVE_BREAK,
    &file::REOPEN,
    &suspend::RESUME,
    &process::SIGRAISE,
    &process::SLEEP,
    &change::TRUNCATE,
    &suspend::WAIT_BREAK,
    &write::WRITE,
    &write::WRITEV,
    &zone::APPEND,
    &zone::CLOSE,
    &zone::FINISH,
    &zone::OPEN,
    &zone::REPORT,
    &zone::RESET,
];

/// How much a request is to say.
#[derive(Clone, Copy, Debug, Default)]
struct Loudness {
    /// `-q`: nothing about success.
    quiet: bool,
    /// `-C`: numbers for programs.
    for_programs: bool,
    /// `-v`: the data, too.
    dump: bool,
}

/// An offset or a length.
fn size(shell: &mut Shell, text: &str) -> Result<u64, Failed> {
    number::size(text).map_err(|complaint| shell.refuse(complaint))
}

/// A pattern byte.
fn pattern(shell: &mut Shell, text: &str) -> Result<u8, Failed> {
    number::pattern(text).map_err(|complaint| shell.refuse(complaint))
}

/// The lengths of the pieces of one request.
fn lengths(shell: &mut Shell, words: &[&str]) -> Result<Vec<usize>, Failed> {
    let mut total = 0_u64;
    let mut lens = Vec::with_capacity(words.len());
    for word in words {
        let len = size(shell, word)?;
        if len > REQUEST_BYTES_MAX {
            return Err(shell.refuse(format!("Argument '{word}' exceeds maximum size {REQUEST_BYTES_MAX}")));
        }
        total = total.saturating_add(len);
        if total > REQUEST_BYTES_MAX {
            let complaint = format!("The total number of bytes exceed the maximum size {REQUEST_BYTES_MAX}");
            return Err(shell.refuse(complaint));
        }
        lens.push(to_len(len));
    }
    Ok(lens)
}

/// A length of which it was checked that it is no longer than a request.
fn to_len(len: u64) -> usize {
    usize::try_from(len).expect("no request is longer than memory can be")
}

/// The length of a request as the number that it was.
fn sum(lens: &[usize]) -> u64 {
    u64::try_from(lens.iter().sum::<usize>()).unwrap_or(u64::MAX)
}
