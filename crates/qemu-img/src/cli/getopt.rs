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

use super::shared::{Shared, SharedArgs, everywhere};
use crate::failure::Failure;

/// Whether a flag has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It stands alone.
    Nothing,
    /// It needs a value.
    Value,
    /// It may have one, which then follows its long name after an equals sign.
    Optional,
}

/// Whose option it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagId<Id> {
    /// One that many commands share; the parser takes it by itself.
    Shared(Shared),
    /// The command's own.
    Own(Id),
}

/// One row of a command's flag table. `Id` is the command's own enum of flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag<Id: 'static> {
    /// What the flag means.
    pub(crate) id: FlagId<Id>,
    /// Its letter.
    pub(crate) short: Option<char>,
    /// Its long names, which may be abbreviated.
    pub(crate) long: &'static [&'static str],
    /// Long names that other versions of the reference use. They are taken only when written out, so that they make
    /// no abbreviation ambiguous.
    pub(crate) also: &'static [&'static str],
    /// Whether it has a value.
    pub(crate) takes: Takes,
    /// How help texts call its value.
    pub(crate) value_name: &'static str,
    /// What help texts say of it.
    pub(crate) help: &'static str,
}

impl<Id: Copy> Flag<Id> {
    /// A flag without a value.
    pub(crate) const fn switch(id: Id, short: Option<char>, long: &'static [&'static str]) -> Self {
        Self { id: FlagId::Own(id), short, long, also: &[], takes: Takes::Nothing, value_name: "", help: "" }
    }

    /// A flag with a value.
    pub(crate) const fn value(id: Id, short: Option<char>, long: &'static [&'static str]) -> Self {
        Self { id: FlagId::Own(id), short, long, also: &[], takes: Takes::Value, value_name: "VALUE", help: "" }
    }

    /// The same flag with more long names that must be written out.
    pub(crate) const fn also(mut self, also: &'static [&'static str]) -> Self {
        self.also = also;
        self
    }

    /// The same flag, whose long names must all be written out.
    pub(crate) const fn written_out(mut self) -> Self {
        self.also = self.long;
        self.long = &[];
        self
    }

    /// The same flag with a name for its value.
    pub(crate) const fn named(mut self, value_name: &'static str) -> Self {
        self.value_name = value_name;
        self
    }

    /// The same flag with its explanation.
    pub(crate) const fn doc(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }
}

/// What an operand does to the options behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operands {
    /// They are still options.
    Mix,
    /// As [`Operands::Mix`], but a negative number right behind the first operand is one, too, and no option.
    MixWithNumber,
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
    shared: SharedArgs,
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
        Self {
            command,
            flags,
            operands_mode,
            words: words.into(),
            cluster: String::new(),
            operands: Vec::new(),
            shared: SharedArgs::default(),
        }
    }

    /// The next option of the command itself; none when only operands are left, or the user asks for help.
    ///
    /// # Errors
    /// In `getopt_long`'s words, for unknown and ambiguous options and for missing and superfluous values; and for wrong
    /// values of shared options.
    pub(crate) fn next(&mut self) -> Result<Option<Given<Id>>, Failure> {
        while let Some((id, value)) = self.next_of_all()? {
            match id {
                FlagId::Own(id) => return Ok(Some(Given { id, value })),
                FlagId::Shared(option) => self.shared.take(self.command, option, value)?,
            }
            if self.shared.help {
                break;
            }
        }
        Ok(None)
    }

    fn next_of_all(&mut self) -> Result<Option<(FlagId<Id>, String)>, Failure> {
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
                    match self.operands_mode {
                        Operands::Mix => {}
                        Operands::MixWithNumber => self.take_number(),
                        Operands::EndOptions => {
                            self.operands.extend(self.words.drain(..));
                            return Ok(None);
                        }
                    }
                }
            }
        }
    }

    /// The shared options and the operands, once [`Parser::next`] has returned none; none if the user asks for help.
    pub(crate) fn finish(self) -> Option<(SharedArgs, Vec<String>)> {
        if self.shared.help { None } else { Some((self.shared, self.operands)) }
    }

    /// Takes the word behind the first operand for an operand if it begins like a negative number.
    fn take_number(&mut self) {
        let is_number = |word: &String| matches!(word.as_bytes(), [b'-', b'0'..=b'9', ..]);
        if self.operands.len() == 1 && self.words.front().is_some_and(is_number) {
            self.operands.extend(self.words.pop_front());
        }
    }

    fn fail<T>(&self, message: &str) -> Result<T, Failure> {
        Err(Failure::getopt(self.command, message))
    }

    fn short(&mut self) -> Result<(FlagId<Id>, String), Failure> {
        let mut letters = self.cluster.chars();
        let letter = letters.next().unwrap_or_default();
        let rest = letters.as_str().to_owned();
        self.cluster.clear();
        let Some(flag) = self.flags.iter().find(|flag| flag.short == Some(letter)) else {
            return self.fail(&format!("invalid option -- '{letter}'"));
        };
        if flag.takes != Takes::Value {
            self.cluster = rest;
            return Ok((flag.id, String::new()));
        }
        if !rest.is_empty() {
            return Ok((flag.id, rest));
        }
        match self.words.pop_front() {
            Some(value) => Ok((flag.id, value)),
            None => self.fail(&format!("option requires an argument -- '{letter}'")),
        }
    }

    fn long(&mut self, text: &str) -> Result<(FlagId<Id>, String), Failure> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let (flag, full_name) = self.resolve(name, text)?;
        match (flag.takes, value) {
            (Takes::Nothing, Some(_)) => self.fail(&format!("option '--{full_name}' doesn't allow an argument")),
            (Takes::Nothing | Takes::Optional, None) => Ok((flag.id, String::new())),
            (Takes::Value | Takes::Optional, Some(value)) => Ok((flag.id, value)),
            (Takes::Value, None) => self.value_of(flag.id, full_name, None),
        }
    }

    /// The value of a long option: the one after its equals sign, or the next word.
    fn value_of(&mut self, id: FlagId<Id>, name: &str, value: Option<String>) -> Result<(FlagId<Id>, String), Failure> {
        match value.or_else(|| self.words.pop_front()) {
            Some(value) => Ok((id, value)),
            None => self.fail(&format!("option '--{name}' requires an argument")),
        }
    }

    /// The flag that `name` stands for, and its name in full. `text` is the whole word, for complaints.
    fn resolve(&self, name: &str, text: &str) -> Result<(Flag<Id>, &'static str), Failure> {
        let flags = self.flags;
        let exact = |flag: &Flag<Id>| flag.long.iter().chain(flag.also).find(|long| **long == name).copied();
        let mut all = flags.iter().copied().chain(everywhere());
        if let Some(found) = all.find_map(|flag| exact(&flag).map(|long| (flag, long))) {
            return Ok(found);
        }
        let named = flags.iter().flat_map(|flag| flag.long.iter().map(move |long| (flag, *long)));
        let mut candidates = named.filter(|(_, long)| long.starts_with(name));
        let Some((first, long)) = candidates.next() else {
            return self.fail(&format!("unrecognized option '--{text}'"));
        };
        // Several names of one and the same flag are no ambiguity.
        let others: Vec<&str> = candidates.filter(|(flag, _)| flag.id != first.id).map(|(_, long)| long).collect();
        if others.is_empty() {
            return Ok((*first, long));
        }
        let mut message = format!("option '--{text}' is ambiguous; possibilities: '--{long}'");
        others.iter().for_each(|other| message.push_str(&format!(" '--{other}'")));
        self.fail(&message)
    }
}

#[cfg(test)]
mod tests;
