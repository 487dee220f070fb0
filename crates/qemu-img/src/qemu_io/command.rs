//! The table of commands, and what `help` says about them.
//!
//! QEMU: `cmdinfo_t` (include/qemu-io.h), `command`, `help_f` (qemu-io-cmds.c)

use qemu_block::types::Perm;

use super::letters::Letters;
use super::shell::{Done, Failed, Shell};

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    /// Its name.
    pub(super) name: &'static str,
    /// Its other name, if it has one.
    pub(super) alias: Option<&'static str>,
    /// Its arguments as the help shows them.
    pub(super) arguments: Option<&'static str>,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    /// What else there is to say: lines, each with its newline; may be empty.
    pub(super) details: &'static str,
    /// How many words may follow its name: at least, and at most.
    pub(super) words: (usize, Option<usize>),
    /// What must be there before it runs.
    pub(super) needs: Needs,
    /// Runs it.
    pub(super) run: fn(&mut Shell, &Call<'_>) -> Done,
}

/// What a command cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// An open image.
    Image,
    /// An open image, and these permissions on it.
    Permission(Perm),
}

/// A command as it was called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// The command.
    pub(super) command: &'static Command,
    /// The name it was called by.
    pub(super) name: &'a str,
    /// The words behind its name.
    pub(super) words: &'a [String],
}

impl Command {
    /// The command of that name, or of that other name, among `all`.
    pub(super) fn find(all: &[&'static Self], name: &str) -> Option<&'static Self> {
        all.iter().copied().find(|command| command.name == name || command.alias == Some(name))
    }

    /// One line of help about the command under `name`.
    pub(super) fn line(&self, name: &str) -> String {
        let arguments = self.arguments.map(|arguments| format!("{arguments} ")).unwrap_or_default();
        format!("{name} {arguments}-- {}", self.summary)
    }

    /// What is wrong with that many words behind its name; nothing if they may be right.
    pub(super) fn objects_to(&self, count: usize, name: &str) -> Option<String> {
        let expected = match self.words {
            (min, Some(max)) if (min..=max).contains(&count) => return None,
            (min, None) if min <= count => return None,
            (min, Some(max)) if min == max => min.to_string(),
            (min, Some(max)) => format!("between {min} and {max}"),
            (min, None) => format!("at least {min}"),
        };
        Some(format!("bad argument count {count} to {name}, expected {expected} arguments"))
    }
}

impl<'a> Call<'a> {
    /// The words as options and operands; `known` has the letters, see [`Letters`].
    pub(super) fn letters(&self, known: &'static str) -> Letters<'a> {
        Letters::new(known, self.words)
    }

    /// The next option.
    ///
    /// # Errors
    /// There is no such option, or it lacks its value: that was said, and how the command is used.
    pub(super) fn next_option(
        &self,
        shell: &mut Shell,
        letters: &mut Letters<'a>,
    ) -> Result<Option<(char, &'a str)>, Failed> {
        letters.next().map_err(|complaint| {
            shell.print_error(&format!("{}: {complaint}", self.name));
            self.usage(shell)
        })
    }

    /// Prints how the command is used.
    pub(super) fn usage(&self, shell: &mut Shell) -> Failed {
        shell.refuse(self.command.line(self.command.name))
    }
}
