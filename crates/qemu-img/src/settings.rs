//! What holds for a whole run of a program: its name, and the options that any command takes.
//!
//! They belong to the thread that runs the command, not to the process: a program that embeds commands may run several
//! at a time.

use std::cell::RefCell;

use crate::strict::Strict;

/// Settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The program in whose name messages are printed: `qemu-img`.
    pub(crate) program: &'static str,
    /// `--strict` and what goes with it.
    pub(crate) strict: Strict,
}

impl Settings {
    /// Those of a thread on which no run has begun.
    const DEFAULT: Self = Self { program: "qemu-img", strict: Strict::OFF };
}

thread_local! {
    static CURRENT: RefCell<Settings> = const { RefCell::new(Settings::DEFAULT) };
}

/// Lets `run` see the settings of a new run, which begin as `program`'s; afterwards those of before hold again.
pub(crate) fn scope<T>(program: &'static str, run: impl FnOnce() -> T) -> T {
    let before = CURRENT.replace(Settings { program, ..Settings::DEFAULT });
    let result = run();
    CURRENT.set(before);
    result
}

/// The program in whose name messages are printed.
pub(crate) fn program() -> &'static str {
    CURRENT.with_borrow(|settings| settings.program)
}

/// Looks at `--strict` and what goes with it.
pub(crate) fn strict<T>(look: impl FnOnce(&Strict) -> T) -> T {
    CURRENT.with_borrow(|settings| look(&settings.strict))
}

/// Changes `--strict` and what goes with it.
pub(crate) fn change_strict(change: impl FnOnce(&mut Strict)) {
    CURRENT.with_borrow_mut(|settings| change(&mut settings.strict));
}
