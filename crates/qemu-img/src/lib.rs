//! The command behind `qemu-img`: options, commands, text and JSON output, exit statuses.
//!
//! ```text
//! run ─► cli      arguments ─► flags with their values ─► what a command needs
//!     ─► commands create, info, check, convert, bench: each drives nodes of qemu-block inside a session
//!     ─► output   text, JSON and progress, byte for byte as consumers of QEMU's tool expect them
//! ```
//!
//! The crate is a library only so that tests can reach its parts; the one entry point is [`run`], or [`run_with`] with
//! further drivers; [`run_io`] is the other program, `qemu-io`. Everything that a
//! user sees is worded here: the layers below return values and errors, they neither print nor exit.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | any failure; one line on standard error says which |
//! | 2, 3, 63 | `check` only: corrupt, leaks, format without checks |
//! | by signal | SIGINT, SIGTERM or SIGHUP, after the command has cleaned up |

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod edge;
mod failure;
mod output;
mod qemu_io;
mod rate;
mod session;
mod settings;
mod signals;
mod strict;
mod trace;

pub use cli::manual;
pub use edge::{run, run_with};
pub use qemu_io::run_io;
