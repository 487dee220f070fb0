//! `--strict`: images from strangers.
//!
//! | file | concept |
//! |---|---|
//! | this one | what the options say, and the policy that follows from them |
//! | `needs` | the files that a command needs, and the process confining itself to them |
//! | `safety`, `signature` | what `info` tells about an image from a stranger |
//! | `bounds` | how much memory and processor time a command may take |
//!
//! What the user names on the command line is his choice and is opened; two kinds of names excepted, `json:` texts, which
//! can hide anything, and network protocols. What an image names is opened if `--allow` says so. Before the first byte of
//! an image is read the process confines itself to the files that were named, so that even a defect of ours opens no
//! other one.

mod bounds;
mod needs;
mod safety;
mod signature;

use confine::Report;
use qemu_block::registry::AllowList;

pub(crate) use needs::Needs;
pub(crate) use safety::{Asked, Safety};

use crate::cli::number::{SIZE_MAX, parse_number};
use crate::failure::Failure;
use crate::settings;

/// Turns the option on from outside; any other value than `0` or nothing does.
pub(crate) const VARIABLE: &str = "QEMU_IMG_STRICT";

/// What the options of a run say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strict {
    /// `--strict`, or the environment.
    pub(crate) on: bool,
    /// `--allow`, in order.
    pub(crate) allow: Vec<String>,
    /// `--limit-cpu`; 0 for no limit.
    pub(crate) cpu_seconds: Option<u64>,
    /// `--limit-memory`; 0 for no limit.
    pub(crate) memory: Option<u64>,
    /// What was done; none before the process confined itself.
    pub(crate) confined: Option<Report>,
}

impl Strict {
    /// Nothing is asked for.
    pub(crate) const OFF: Self = Self { on: false, allow: Vec::new(), cpu_seconds: None, memory: None, confined: None };

    /// Which names are followed.
    ///
    /// # Errors
    /// A pattern of `--allow` is none.
    pub(crate) fn policy(&self) -> Result<AllowList, Failure> {
        let list = AllowList::new(&self.allow).map_err(|error| Failure::block("Invalid value of --allow", &error))?;
        Ok(list.with_hint(" in strict mode ('--allow {}' would permit it)"))
    }
}

/// Takes the environment into account.
pub(crate) fn read_environment() {
    if std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0") {
        turn_on();
    }
}

/// `--strict`.
pub(crate) fn turn_on() {
    settings::change_strict(|strict| strict.on = true);
}

/// `--allow`.
pub(crate) fn allow(pattern: String) {
    settings::change_strict(|strict| strict.allow.push(pattern));
}

/// `--limit-cpu`.
///
/// # Errors
/// It is no number.
pub(crate) fn limit_cpu(text: &str) -> Result<(), Failure> {
    let seconds = parse_number("number of seconds", text, 0..=SIZE_MAX)?;
    settings::change_strict(|strict| strict.cpu_seconds = Some(seconds));
    Ok(())
}

/// `--limit-memory`.
///
/// # Errors
/// It is no size.
pub(crate) fn limit_memory(text: &str) -> Result<(), Failure> {
    let bytes = parse_number("memory limit", text, 0..=SIZE_MAX)?;
    settings::change_strict(|strict| strict.memory = Some(bytes));
    Ok(())
}

/// The policy of a session that begins; none without `--strict`.
///
/// # Errors
/// If the process has not confined itself: a command that does not say what it needs is not run.
pub(crate) fn policy() -> Result<Option<AllowList>, Failure> {
    let strict = settings::strict(Strict::clone);
    match strict {
        Strict { on: false, .. } => Ok(None),
        Strict { confined: None, .. } => Err(Failure::new("This command cannot be run with --strict")),
        _ => strict.policy().map(Some),
    }
}
