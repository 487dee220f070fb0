//! The commands, one module each.

mod amend;
mod bench;
mod bitmap;
mod check;
mod commit;
mod convert;
mod create;
mod info;
mod map;
mod measure;
mod rebase;
mod resize;
mod snapshot;

use crate::failure::CommandResult;

/// A command: its place in the help, and its code.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) summary: &'static str,
    /// Its options and operands, in one line.
    pub(crate) synopsis: &'static str,
    /// Runs it with the words that follow its name.
    pub(crate) run: fn(Vec<String>) -> CommandResult,
}

impl Command {
    /// The answer to `--help`: the synopsis, and `options`, a table of the flags and what they mean.
    pub(crate) fn help(&self, options: &str) -> String {
        let Self { name, summary, synopsis, .. } = self;
        // A literal that begins after a line break has lost the indentation of its first line.
        format!("{summary}\n\nUsage: qemu-img {name} {synopsis}\n\n  {}", options.trim_start())
    }
}

/// All commands there are, by name.
pub(crate) const ALL: &[Command] = &[
    amend::COMMAND,
    bench::COMMAND,
    bitmap::COMMAND,
    check::COMMAND,
    commit::COMMAND,
    convert::COMMAND,
    create::COMMAND,
    info::COMMAND,
    map::COMMAND,
    measure::COMMAND,
    rebase::COMMAND,
    resize::COMMAND,
    snapshot::COMMAND,
];
