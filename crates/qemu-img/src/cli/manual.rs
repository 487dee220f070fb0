//! What there is to know about every command and option, for help texts, manual pages and completions. It comes from
//! the very tables by which command lines are parsed.

use super::getopt::{Flag, Takes};
use super::program;
use super::shared::everywhere;
use crate::commands;

/// The widest line of a help text.
const HELP_COLUMNS: usize = 110;

/// A command.
#[derive(Clone, Debug)]
pub struct CommandDoc {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Its options and operands, in one line.
    pub synopsis: &'static str,
    /// Its options, in the order of its table.
    pub options: Vec<OptionDoc>,
    /// Its operands and what they are.
    pub operands: &'static [(&'static str, &'static str)],
    /// Further sentences; may be empty.
    pub notes: &'static str,
}

/// An option of a command.
#[derive(Clone, Debug)]
pub struct OptionDoc {
    /// Its letter.
    pub short: Option<char>,
    /// Its long names; the first one is the usual one.
    pub long: Vec<&'static str>,
    /// How its value is called, if it takes one.
    pub value: Option<ValueDoc>,
    /// What it does.
    pub help: &'static str,
}

/// The value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueDoc {
    /// How help texts call it.
    pub name: &'static str,
    /// Whether the option may stand without it: `--name[=VALUE]`.
    pub is_optional: bool,
}

/// The options that stand before the command, those of [`common_options`] among them.
pub fn program_options() -> Vec<OptionDoc> {
    program::option_docs().into_iter().chain(common_options()).collect()
}

/// The options that every command takes besides its own, and the program before the command.
pub fn common_options() -> Vec<OptionDoc> {
    everywhere::<()>().iter().map(Flag::doc_of).collect()
}

/// All commands, by name.
pub fn commands() -> Vec<CommandDoc> {
    commands::ALL.iter().map(commands::Command::doc).collect()
}

/// The other program, `qemu-io`, as if it were a command.
pub fn qemu_io() -> CommandDoc {
    crate::qemu_io::doc()
}

/// The rows of a table of options, without what only their command knows.
pub(crate) fn docs<Id>(flags: &'static [Flag<Id>]) -> Vec<OptionDoc> {
    flags.iter().map(Flag::doc_of).collect()
}

impl<Id> Flag<Id> {
    fn doc_of(&self) -> OptionDoc {
        let value = match self.takes {
            Takes::Nothing => None,
            Takes::Value => Some(ValueDoc { name: self.value_name, is_optional: false }),
            Takes::Optional => Some(ValueDoc { name: self.value_name, is_optional: true }),
        };
        let long = self.long.iter().chain(self.also).copied().collect();
        OptionDoc { short: self.short, long, value, help: self.help }
    }
}

impl OptionDoc {
    /// `-f, --format FMT`; the long names line up whether there is a letter or not.
    fn names(&self) -> String {
        let value = match self.value {
            None => String::new(),
            Some(ValueDoc { name, is_optional: false }) => format!(" {name}"),
            Some(ValueDoc { name, is_optional: true }) => format!("[={name}]"),
        };
        match (self.short, self.long.first()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
            (Some(short), None) => format!("-{short}{value}"),
            (None, Some(long)) => format!("    --{long}{value}"),
            (None, None) => value,
        }
    }
}

impl CommandDoc {
    /// The answer to `--help`.
    pub(crate) fn help(&self) -> String {
        let Self { name, summary, synopsis, .. } = self;
        format!("{summary}\n\nUsage: qemu-img {name} {synopsis}\n\n{}", self.explanations())
    }

    /// The part of the help that explains options and operands one by one, and the notes.
    pub(crate) fn explanations(&self) -> String {
        let notes = self.notes;
        let mut text = String::new();
        let options = self.options.iter().map(|option| (option.names(), option.help));
        let operands = self.operands.iter().map(|(name, help)| ((*name).to_owned(), *help));
        text.push_str(&table(&options.chain(operands).collect::<Vec<_>>()));
        if !notes.is_empty() {
            text.push_str(&format!("\n{}\n", wrap(notes, HELP_COLUMNS).join("\n")));
        }
        text
    }
}

/// The options that every command takes, as lines of a help text.
pub(super) fn common_help() -> String {
    let options = common_options();
    table(&options.iter().map(|option| (option.names(), option.help)).collect::<Vec<_>>())
}

/// Names and what they mean, lined up.
fn table(rows: &[(String, &str)]) -> String {
    let mut text = String::new();
    let width = rows.iter().map(|(names, _)| names.len()).max().unwrap_or(0);
    for (names, help) in rows {
        let lines = wrap(help, HELP_COLUMNS.saturating_sub(width + 4));
        let indent = format!("\n{:1$}", "", width + 4);
        text.push_str(format!("  {names:width$}  {}", lines.join(&indent)).trim_end());
        text.push('\n');
    }
    text
}

/// Breaks `text` into lines of at most `columns`, between words.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always one");
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + 1 + word.len() <= columns {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_option_is_explained_and_named_once() {
        for command in commands().into_iter().chain([qemu_io()]) {
            let mut names = BTreeSet::new();
            for option in &command.options {
                assert!(!option.help.is_empty(), "{} {option:?}", command.name);
                assert!(option.value.is_none_or(|value| !value.name.is_empty()), "{} {option:?}", command.name);
                let short = option.short.iter().map(char::to_string);
                for name in short.chain(option.long.iter().map(|long| format!("--{long}"))) {
                    assert!(names.insert(name.clone()), "{}: {name} twice", command.name);
                }
            }
            assert!(names.contains("--help"), "{}", command.name);
        }
    }

    #[test]
    fn help_lines_up() {
        let info = commands().into_iter().find(|command| command.name == "info").expect("there");
        let help = info.help();
        assert!(help.contains("\n  -f, --format FMT     "), "{help}");
        assert!(help.contains("\n      --output FORM    "), "{help}");
        assert!(help.lines().all(|line| line.len() <= HELP_COLUMNS + 2 || line.starts_with("Usage:")), "{help}");
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), [""]);
    }
}
