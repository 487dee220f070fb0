//! Command line syntax with the rules, and the complaints, of the C library's `getopt_long`.
//!
//! - Operands and options mix freely; everything after `--` is an operand, and so is a lone `-`.
//! - Short options cluster (`-qU`); a value is the rest of the word or the next word (`-fraw`, `-f raw`).
//! - Long options take a value as `--name=value` or from the next word, and any unambiguous prefix stands for a name.
//! - With `POSIXLY_CORRECT` in the environment the first operand ends the options.
//!
//! Options come out one at a time, in the order given, because that decides which of several mistakes is reported and
//! whether `--help` comes before one.

use std::collections::VecDeque;

use crate::failure::Failure;

/// Whether a flag has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It stands alone.
    Nothing,
    /// It needs a value.
    Value,
}

/// One row of a command's flag table. `Id` is the command's own enum of flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag<Id: 'static> {
    /// What the flag means.
    pub(crate) id: Id,
    /// Its letter.
    pub(crate) short: Option<char>,
    /// Its long names, which may be abbreviated.
    pub(crate) long: &'static [&'static str],
    /// Long names that other versions of the reference use. They are taken only when written out, so that they make
    /// no abbreviation ambiguous.
    pub(crate) also: &'static [&'static str],
    /// Whether it has a value.
    pub(crate) takes: Takes,
}

impl<Id> Flag<Id> {
    /// A flag without a value.
    pub(crate) const fn switch(id: Id, short: Option<char>, long: &'static [&'static str]) -> Self {
        Self { id, short, long, also: &[], takes: Takes::Nothing }
    }

    /// A flag with a value.
    pub(crate) const fn value(id: Id, short: Option<char>, long: &'static [&'static str]) -> Self {
        Self { id, short, long, also: &[], takes: Takes::Value }
    }

    /// The same flag with more long names that must be written out.
    pub(crate) const fn also(mut self, also: &'static [&'static str]) -> Self {
        self.also = also;
        self
    }
}

/// What an operand does to the options behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operands {
    /// They are still options.
    Mix,
    /// They belong to somebody else: the name of a command ends the options of the program.
    EndOptions,
}

/// An option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given<Id> {
    /// The flag.
    pub(crate) id: Id,
    /// Its value; empty for flags that take none.
    pub(crate) value: String,
}

/// Walks the words of a command line.
#[derive(Debug)]
pub(crate) struct Parser<Id: 'static> {
    /// The command in whose name the parser complains; empty for the program itself.
    command: &'static str,
    flags: &'static [Flag<Id>],
    operands_mode: Operands,
    words: VecDeque<String>,
    /// What is left of a cluster of short options.
    cluster: String,
    operands: Vec<String>,
}

impl<Id: Copy + PartialEq> Parser<Id> {
    /// A parser for the arguments of `command`.
    pub(crate) fn new(command: &'static str, flags: &'static [Flag<Id>], words: Vec<String>) -> Self {
        let posix = std::env::var_os("POSIXLY_CORRECT").is_some();
        Self::with_mode(command, flags, words, if posix { Operands::EndOptions } else { Operands::Mix })
    }

    /// A parser that treats options behind operands as told.
    pub(crate) fn with_mode(
        command: &'static str,
        flags: &'static [Flag<Id>],
        words: Vec<String>,
        operands_mode: Operands,
    ) -> Self {
        Self { command, flags, operands_mode, words: words.into(), cluster: String::new(), operands: Vec::new() }
    }

    /// The next option; none when only operands are left.
    ///
    /// # Errors
    /// In `getopt_long`'s words, for unknown and ambiguous options and for missing and superfluous values.
    pub(crate) fn next(&mut self) -> Result<Option<Given<Id>>, Failure> {
        loop {
            if !self.cluster.is_empty() {
                return self.short().map(Some);
            }
            let Some(word) = self.words.pop_front() else { return Ok(None) };
            if word == "--" {
                self.operands.extend(self.words.drain(..));
                return Ok(None);
            }
            if let Some(long) = word.strip_prefix("--") {
                return self.long(long).map(Some);
            }
            match word.strip_prefix('-') {
                Some(letters) if !letters.is_empty() => letters.clone_into(&mut self.cluster),
                _ => {
                    self.operands.push(word);
                    if self.operands_mode == Operands::EndOptions {
                        self.operands.extend(self.words.drain(..));
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The operands, once [`Parser::next`] has returned none.
    pub(crate) fn into_operands(self) -> Vec<String> {
        self.operands
    }

    fn fail<T>(&self, message: &str) -> Result<T, Failure> {
        Err(Failure::getopt(self.command, message))
    }

    fn short(&mut self) -> Result<Given<Id>, Failure> {
        let mut letters = self.cluster.chars();
        let letter = letters.next().unwrap_or_default();
        let rest = letters.as_str().to_owned();
        self.cluster.clear();
        let Some(flag) = self.flags.iter().find(|flag| flag.short == Some(letter)) else {
            return self.fail(&format!("invalid option -- '{letter}'"));
        };
        if flag.takes == Takes::Nothing {
            self.cluster = rest;
            return Ok(Given { id: flag.id, value: String::new() });
        }
        if !rest.is_empty() {
            return Ok(Given { id: flag.id, value: rest });
        }
        match self.words.pop_front() {
            Some(value) => Ok(Given { id: flag.id, value }),
            None => self.fail(&format!("option requires an argument -- '{letter}'")),
        }
    }

    fn long(&mut self, text: &str) -> Result<Given<Id>, Failure> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let (flag, full_name) = self.resolve(name, text)?;
        match (flag.takes, value) {
            (Takes::Nothing, Some(_)) => self.fail(&format!("option '--{full_name}' doesn't allow an argument")),
            (Takes::Nothing, None) => Ok(Given { id: flag.id, value: String::new() }),
            (Takes::Value, Some(value)) => Ok(Given { id: flag.id, value }),
            (Takes::Value, None) => match self.words.pop_front() {
                Some(value) => Ok(Given { id: flag.id, value }),
                None => self.fail(&format!("option '--{full_name}' requires an argument")),
            },
        }
    }

    /// The flag that `name` stands for, and its name in full. `text` is the whole word, for complaints.
    fn resolve(&self, name: &str, text: &str) -> Result<(&'static Flag<Id>, &'static str), Failure> {
        let flags = self.flags;
        let exact = |flag: &'static Flag<Id>| flag.long.iter().chain(flag.also).find(|long| **long == name);
        if let Some((flag, long)) = flags.iter().find_map(|flag| exact(flag).map(|long| (flag, *long))) {
            return Ok((flag, long));
        }
        let named = flags.iter().flat_map(|flag| flag.long.iter().map(move |long| (flag, *long)));
        let mut candidates = named.filter(|(_, long)| long.starts_with(name));
        let Some((first, long)) = candidates.next() else {
            return self.fail(&format!("unrecognized option '--{text}'"));
        };
        // Several names of one and the same flag are no ambiguity.
        let others: Vec<&str> = candidates.filter(|(flag, _)| flag.id != first.id).map(|(_, long)| long).collect();
        if others.is_empty() {
            return Ok((first, long));
        }
        let mut message = format!("option '--{text}' is ambiguous; possibilities: '--{long}'");
        others.iter().for_each(|other| message.push_str(&format!(" '--{other}'")));
        self.fail(&message)
    }
}

#[cfg(test)]
mod tests;
