//! The commands, one module each.

mod amend;
mod bench;
mod bitmap;
mod check;
mod commit;
mod compare;
mod convert;
mod create;
mod dd;
mod info;
mod map;
mod measure;
mod rebase;
mod resize;
mod snapshot;

use crate::cli::manual::{CommandDoc, OptionDoc};
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
    /// Its options.
    pub(crate) options: fn() -> Vec<OptionDoc>,
    /// Its operands, and what they are.
    pub(crate) operands: &'static [(&'static str, &'static str)],
    /// Further sentences for its help; may be empty.
    pub(crate) notes: &'static str,
    /// Runs it with the words that follow its name.
    pub(crate) run: fn(Vec<String>) -> CommandResult,
}

impl Command {
    /// Everything there is to know about it.
    pub(crate) fn doc(&self) -> CommandDoc {
        let Self { name, summary, synopsis, options, operands, notes, .. } = *self;
        CommandDoc { name, summary, synopsis, options: options(), operands, notes }
    }

    /// The answer to `--help`.
    pub(crate) fn help(&self) -> String {
        self.doc().help()
    }
}

/// All commands there are, by name.
pub(crate) const ALL: &[Command] = &[
    amend::COMMAND,
    bench::COMMAND,
    bitmap::COMMAND,
    check::COMMAND,
    commit::COMMAND,
    compare::COMMAND,
    convert::COMMAND,
    create::COMMAND,
    dd::COMMAND,
    info::COMMAND,
    map::COMMAND,
    measure::COMMAND,
    rebase::COMMAND,
    resize::COMMAND,
    snapshot::COMMAND,
];
