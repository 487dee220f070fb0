//! Progress of a long operation: the line of `-p`, and the line that SIGUSR1 asks for.

use std::io::{self, Write};

use qemu_util::primitive::Mutex;

use crate::output::messages;
use crate::signals::Signals;

/// How far the percentage moves between two lines, in percent.
const STEP_MIN: f32 = 1.0;

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// `-p`: to standard output, one line written over and over.
    Show,
    /// To standard error, once for every SIGUSR1.
    OnSignal,
}

#[derive(Debug, Default)]
struct Position {
    percent: f32,
    last_shown: f32,
}

/// A progress display; tasks may share it.
///
/// Consumers parse `    (12.34/100%)` between carriage returns.
///
/// QEMU: util/qemu-progress.c
#[derive(Debug)]
pub(crate) struct Progress {
    mode: ProgressMode,
    step_min: f32,
    signals: Signals,
    position: Mutex<Position>,
}

impl Progress {
    /// A display for a command with `-p` and `-q` as given; `-q` wins.
    pub(crate) fn new(show: bool, quiet: bool, signals: Signals) -> Self {
        let mode = if show && !quiet { ProgressMode::Show } else { ProgressMode::OnSignal };
        Self { mode, step_min: STEP_MIN, signals, position: Mutex::new(Position::default()) }
    }

    /// The same display, which shows steps of more than so many percent.
    #[must_use]
    pub(crate) fn in_steps_of(self, percent: f32) -> Self {
        Self { step_min: percent, ..self }
    }

    /// Shows 0 %.
    pub(crate) fn start(&self) {
        self.set_percent(0.0);
    }

    /// Notes that `done` of `total` units are done, and shows it when it is news.
    pub(crate) fn set(&self, done: u64, total: u64) {
        #[expect(clippy::cast_precision_loss, reason = "four digits of it are shown")]
        let percent = if total == 0 { 100.0 } else { 100.0 * done as f32 / total as f32 };
        self.set_percent(percent);
    }

    /// Notes that `part` of `total` units more are done. The sum is the reference's, rounding and all.
    pub(crate) fn advance(&self, part: u64, total: u64) {
        #[expect(clippy::cast_precision_loss, reason = "the reference's arithmetic, of which four digits are shown")]
        let percent = part as f32 / total as f32 * 100.0;
        let before = self.position.lock().percent;
        self.set_percent(before + percent / 100.0 * 100.0);
    }

    /// Notes a percentage; see [`Progress::set`].
    pub(crate) fn set_percent(&self, percent: f32) {
        let mut position = self.position.lock();
        position.percent = percent.min(100.0);
        let moved = (position.percent - position.last_shown).abs() > self.step_min;
        let at_an_end = position.percent == 0.0 || position.percent == 100.0;
        if moved || at_an_end {
            position.last_shown = position.percent;
            self.show(position.percent);
        }
    }

    /// Shows 100 % and ends the line: the operation succeeded.
    pub(crate) fn finish(&self) {
        self.set_percent(100.0);
        self.end_line();
    }

    /// Ends the line where it is: the operation failed.
    pub(crate) fn abandon(&self) {
        self.end_line();
    }

    fn show(&self, percent: f32) {
        match self.mode {
            // A reader that went away does not stop the operation.
            ProgressMode::Show => write_stdout(&show_line(percent)),
            ProgressMode::OnSignal => {
                if self.signals.take_progress_wanted() {
                    messages::print_error(&format!("    ({percent:.2}/100%)"));
                }
            }
        }
    }

    fn end_line(&self) {
        if self.mode == ProgressMode::Show {
            write_stdout("\n");
        }
    }
}

fn show_line(percent: f32) -> String {
    format!("    ({percent:.2}/100%)\r")
}

fn write_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_what_consumers_parse() {
        assert_eq!(show_line(0.0), "    (0.00/100%)\r");
        assert_eq!(show_line(12.345), "    (12.35/100%)\r");
        assert_eq!(show_line(100.0), "    (100.00/100%)\r");
    }

    #[test]
    fn quiet_beats_progress() {
        assert_eq!(Progress::new(true, true, Signals::none()).mode, ProgressMode::OnSignal);
        assert_eq!(Progress::new(true, false, Signals::none()).mode, ProgressMode::Show);
    }

    #[test]
    fn small_steps_are_not_news() {
        let progress = Progress::new(false, false, Signals::none());
        let last_shown = || progress.position.lock().last_shown;
        progress.set(0, 1000);
        progress.set(10, 1000);
        assert_eq!(last_shown(), 0.0);
        progress.set(11, 1000);
        assert_eq!(last_shown(), 1.1);
        progress.set(2000, 1000);
        assert_eq!(last_shown(), 100.0);
        progress.set(0, 0);
        assert_eq!(last_shown(), 100.0);
    }
}
