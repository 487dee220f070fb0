//! Progress of a long operation: the line of `-p`, the objects of `--progress=json`, the bar of a terminal, and the line
//! that SIGUSR1 asks for.

mod display;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use qemu_util::primitive::Mutex;

use self::display::{bar, json_line, show_line};
use crate::failure::Failure;
use crate::output::messages;
use crate::settings::{self, Form};
use crate::signals::Signals;

/// How far the percentage moves between two lines, in percent.
const STEP_MIN: f32 = 1.0;

/// How much time passes between two lines of those displays that go by time.
const PAUSE: Duration = Duration::from_millis(100);

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// `-p`: to standard output, one line written over and over.
    Show,
    /// `-p` on a terminal: a bar, with rate and time left.
    Bar,
    /// `--progress=json`: an object a line, to standard output.
    Json,
    /// To standard error, once for every SIGUSR1.
    OnSignal,
}

/// How far the operation is.
#[derive(Clone, Copy, Debug)]
struct Position {
    percent: f32,
    last_shown: f32,
    done: u64,
    /// None until it is known.
    total: Option<u64>,
    started: Instant,
    last_line: Option<Instant>,
}

impl Position {
    fn new() -> Self {
        Self { percent: 0.0, last_shown: 0.0, done: 0, total: None, started: Instant::now(), last_line: None }
    }

    /// Bytes a second since the start.
    fn rate(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started).as_micros().max(1);
        u64::try_from(u128::from(self.done) * 1_000_000 / elapsed).unwrap_or(u64::MAX)
    }

    /// Whether it is time for another line.
    fn is_due(&self, now: Instant) -> bool {
        self.last_line.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE)
    }
}

/// A progress display; tasks may share it.
///
/// Consumers parse `    (12.34/100%)` between carriage returns.
///
/// QEMU: util/qemu-progress.c
#[derive(Debug)]
pub(crate) struct Progress {
    mode: ProgressMode,
    /// The percentage that has to be moved for another line.
    step_min: f32,
    /// What the operation is called in JSON.
    phase: &'static str,
    /// How many bytes the whole of the work stands for, where it is counted in something else.
    bytes: Mutex<Option<u64>>,
    /// Whether standard output belongs to something else.
    stdout_is_taken: bool,
    signals: Signals,
    position: Mutex<Position>,
}

impl Progress {
    /// A display for a command with `-p` and `-q` as given; `-q` wins.
    pub(crate) fn new(show: bool, quiet: bool, signals: Signals) -> Self {
        let mode = match (show && !quiet, settings::progress_form()) {
            (false, _) => ProgressMode::OnSignal,
            (true, Form::Json) => ProgressMode::Json,
            (true, Form::Human) if io::stdout().is_terminal() => ProgressMode::Bar,
            (true, Form::Human) => ProgressMode::Show,
        };
        let position = Mutex::new(Position::new());
        Self {
            mode,
            step_min: STEP_MIN,
            phase: "work",
            bytes: Mutex::new(None),
            stdout_is_taken: false,
            signals,
            position,
        }
    }

    /// The same display; programs are told that this is the operation's name.
    #[must_use]
    pub(crate) fn of(mut self, phase: &'static str) -> Self {
        self.phase = phase;
        self
    }

    /// From now on the work is counted in something else than bytes, and concerns `bytes` of them.
    pub(crate) fn stand_for(&self, bytes: u64) {
        *self.bytes.lock() = Some(bytes);
    }

    /// The same display on standard error if standard output `is_taken`.
    #[must_use]
    pub(crate) fn beside_output(mut self, is_taken: bool) -> Self {
        self.stdout_is_taken = is_taken;
        if is_taken && self.mode == ProgressMode::Show && io::stderr().is_terminal() {
            self.mode = ProgressMode::Bar;
        }
        self
    }

    /// The same display, which shows steps of more than so many percent.
    #[must_use]
    pub(crate) fn in_steps_of(self, percent: f32) -> Self {
        Self { step_min: percent, ..self }
    }

    /// Fails once a signal asked to stop, so that whoever tells of progress looks between two steps.
    ///
    /// # Errors
    /// As [`Signals::check`].
    pub(crate) fn check_stop(&self) -> Result<(), Failure> {
        self.signals.check()
    }

    /// Shows 0 %.
    pub(crate) fn start(&self) {
        *self.position.lock() = Position::new();
        self.move_to(0.0, 0, None);
    }

    /// Notes that `done` of `total` units are done, and shows it when it is news.
    pub(crate) fn set(&self, done: u64, total: u64) {
        #[expect(clippy::cast_precision_loss, reason = "four digits of it are shown")]
        let percent = if total == 0 { 100.0 } else { 100.0 * done as f32 / total as f32 };
        let (done, total) = match *self.bytes.lock() {
            Some(bytes) => (scaled(done, total, bytes), bytes),
            None => (done, total),
        };
        self.move_to(percent, done, Some(total));
    }

    /// Notes that `part` of `total` units more are done. The sum is the reference's, rounding and all.
    pub(crate) fn advance(&self, part: u64, total: u64) {
        #[expect(clippy::cast_precision_loss, reason = "the reference's arithmetic, of which four digits are shown")]
        let percent = part as f32 / total as f32 * 100.0;
        let (before, done) = {
            let position = self.position.lock();
            (position.percent, position.done)
        };
        self.move_to(before + percent / 100.0 * 100.0, done.saturating_add(part).min(total), Some(total));
    }

    /// Notes that `done` bytes are done of nobody knows how many.
    pub(crate) fn set_open_ended(&self, done: u64) {
        self.move_to(0.0, done, None);
    }

    fn move_to(&self, percent: f32, done: u64, total: Option<u64>) {
        let mut position = self.position.lock();
        position.percent = percent.min(100.0);
        // Pieces are finished in any order, and the count of one may arrive after that of another.
        position.done = position.done.max(done);
        position.total = total;
        match self.mode {
            ProgressMode::Show | ProgressMode::OnSignal => self.move_by_percent(&mut position),
            ProgressMode::Bar | ProgressMode::Json => {
                let now = Instant::now();
                if position.is_due(now) {
                    position.last_line = Some(now);
                    self.show_timed(&position, now, self.phase);
                }
            }
        }
    }

    /// Shows the percentage if it moved, or is at an end.
    fn move_by_percent(&self, position: &mut Position) {
        let percent = position.percent;
        let moved = (percent - position.last_shown).abs() > self.step_min;
        // Without an end there is nothing to show but the beginning.
        let at_an_end = percent == 100.0 || (percent == 0.0 && position.done == 0);
        if !moved && !at_an_end {
            return;
        }
        position.last_shown = percent;
        match self.mode {
            ProgressMode::OnSignal => {
                if self.signals.take_progress_wanted() {
                    messages::print_error(&format!("    ({percent:.2}/100%)"));
                }
            }
            _ => self.write(&show_line(percent)),
        }
    }

    fn show_timed(&self, position: &Position, now: Instant, phase: &str) {
        let (done, total, rate) = (position.done, position.total, position.rate(now));
        match self.mode {
            ProgressMode::Json => self.write(&json_line(phase, done, total, rate)),
            _ => self.write(&bar(position.percent, done, total, rate)),
        }
    }

    /// Shows 100 % and ends the line: the operation succeeded.
    pub(crate) fn finish(&self) {
        let mut position = self.position.lock();
        position.percent = 100.0;
        position.done = position.total.unwrap_or(position.done).max(position.done);
        position.total = Some(position.done);
        if matches!(self.mode, ProgressMode::Show | ProgressMode::OnSignal) {
            self.move_by_percent(&mut position);
        }
        self.end(&position, "done");
    }

    /// Ends the line where it is: the operation failed.
    pub(crate) fn abandon(&self) {
        self.stop_here("failed");
    }

    /// Ends the line where it is: more was not needed, or something was in the way. Programs are told the last `phase`.
    pub(crate) fn stop_here(&self, phase: &str) {
        self.end(&self.position.lock(), phase);
    }

    fn end(&self, position: &Position, phase: &str) {
        if matches!(self.mode, ProgressMode::Bar | ProgressMode::Json) {
            self.show_timed(position, Instant::now(), phase);
        }
        if matches!(self.mode, ProgressMode::Show | ProgressMode::Bar) {
            self.write("\n");
        }
    }

    /// A reader that went away does not stop the operation.
    fn write(&self, text: &str) {
        let written = if self.stdout_is_taken {
            io::stderr().lock().write_all(text.as_bytes())
        } else {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        };
        drop(written);
    }
}

/// `done` of `total`, as a part of `bytes`.
fn scaled(done: u64, total: u64, bytes: u64) -> u64 {
    let part = u128::from(bytes) * u128::from(done.min(total)) / u128::from(total.max(1));
    if total == 0 { bytes } else { u64::try_from(part).unwrap_or(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_beats_progress() {
        assert_eq!(Progress::new(true, true, Signals::none()).mode, ProgressMode::OnSignal);
        assert_ne!(Progress::new(true, false, Signals::none()).mode, ProgressMode::OnSignal);
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

    #[test]
    fn lines_by_time_are_not_too_many() {
        let mut position = Position::new();
        let now = position.started;
        assert!(position.is_due(now));
        position.last_line = Some(now);
        assert!(!position.is_due(now + PAUSE / 2) && position.is_due(now + PAUSE));
    }

    #[test]
    fn rates_and_parts_are_of_bytes() {
        let mut position = Position::new();
        position.done = 3 << 20;
        assert_eq!(position.rate(position.started + Duration::from_secs(2)), 3 << 19);
        assert_eq!((scaled(1, 4, 1000), scaled(0, 0, 1000), scaled(9, 4, 1000)), (250, 1000, 1000));
        assert_eq!(scaled(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    }
}
