//! What holds for a whole run of a program: its name, and the options that any command takes.
//!
//! They belong to the thread that runs the command, not to the process: a program that embeds commands may run several
//! at a time.

use std::cell::RefCell;

use crate::strict::Strict;

/// Whom messages are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text for people, as the reference words it.
    #[default]
    Human,
    /// JSON, an object a line.
    Json,
}

impl Form {
    /// The form of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The program in whose name messages are printed: `qemu-img`.
    pub(crate) program: &'static str,
    /// `--strict` and what goes with it.
    pub(crate) strict: Strict,
    /// How errors are reported.
    pub(crate) error_format: Form,
    /// How progress is shown.
    pub(crate) progress: Form,
}

impl Settings {
    /// Those of a thread on which no run has begun.
    const DEFAULT: Self =
        Self { program: "qemu-img", strict: Strict::OFF, error_format: Form::Human, progress: Form::Human };
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

/// How errors are reported.
pub(crate) fn error_format() -> Form {
    CURRENT.with_borrow(|settings| settings.error_format)
}

/// From now on errors are reported like that.
pub(crate) fn set_error_format(form: Form) {
    CURRENT.with_borrow_mut(|settings| settings.error_format = form);
}

/// How progress is shown.
pub(crate) fn progress_form() -> Form {
    CURRENT.with_borrow(|settings| settings.progress)
}

/// From now on progress is shown like that.
pub(crate) fn set_progress_form(form: Form) {
    CURRENT.with_borrow_mut(|settings| settings.progress = form);
}
