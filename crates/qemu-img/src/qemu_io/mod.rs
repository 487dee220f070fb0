//! The second program of this crate, `qemu-io`: exercises images with single requests, for tests and repairs.
//!
//! It is a module of qemu-img's library and not a crate of its own, because it has everything but its commands in
//! common with `qemu-img`: the option parser, `--object`, `--image-opts`, sessions with their drivers, cache modes,
//! number formats, the wording of errors. Only the names differ under which the two speak.
//!
//! ```text
//! run_io ─► program   options, then commands from -c or from standard input
//!        ─► shell     the open image, requests under way, one command at a time
//!        ─► commands  read, write, aio_*, discard, map, open, break, …: words ─► request ─► report
//! ```
//!
//! | module | concept |
//! |---|---|
//! | `program` | the command line, the prompt, the exit status |
//! | `shell` | what commands share; requests that run in the background |
//! | `command` | the table of commands: names, arguments, help |
//! | `letters`, `number` | words of a command: options, sizes, pattern bytes |
//! | `image`, `overlay` | opening, reopening and closing the image; a temporary file for its changes |
//! | `buffer`, `report`, `output` | data in memory; lines about requests; when they leave the process |
//! | `commands` | the commands themselves |
//!
//! Test suites compare what is printed with recorded texts, so every line is the reference's, except for what `help
//! COMMAND` and `--help` explain.
//!
//! QEMU: qemu-io.c, qemu-io-cmds.c

mod buffer;
mod command;
mod commands;
mod image;
mod letters;
mod number;
mod output;
mod overlay;
mod program;
mod report;
mod shell;

pub(crate) use program::doc;
pub use program::run_io;
