//! The outermost layer: the program's own options, panics, and the one place where exit statuses are made.

use std::any::Any;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use qemu_block::driver::BlockDriver;
use qemu_util::primitive::{Arc, Mutex};

use crate::cli::program;
use crate::failure::{Code, CommandResult, Failure, Outcome, STATUS_FAILED};
use crate::output::messages;
use crate::{session, settings, signals};

/// Runs the command that `arguments` (without the program's name) ask for and returns the exit status.
///
/// A panic anywhere below becomes a one-line message and status 1. When a signal stopped the command, the process
/// ends by that very signal, so that a calling shell sees what it expects.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    run_as("qemu-img", || exit_code(&program::run(arguments)))
}

/// Does the `work` of the program of that name. A panic in it is told as a failure.
pub(crate) fn run_as(program: &'static str, work: impl FnOnce() -> ExitCode) -> ExitCode {
    panic::set_hook(Box::new(remember_panic));
    // Nothing that the program touched is looked at again, so there is no broken invariant to see.
    settings::scope(program, || match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(status) => status,
        Err(payload) => {
            let failure = Failure::new(format!("internal error: {}", panic_text(&*payload)));
            exit_code(&Err(failure.with_code(Code::Internal)))
        }
    })
}

/// As [`run`], with further drivers: for programs that embed the command, and for tests with disks that fail.
///
/// A driver replaces one of ours with the same name. They are known to this one run, on this thread.
pub fn run_with(arguments: impl Iterator<Item = OsString>, drivers: Vec<Arc<dyn BlockDriver>>) -> ExitCode {
    session::with_drivers(drivers, || run(arguments))
}

fn exit_code(result: &CommandResult) -> ExitCode {
    ExitCode::from(match result {
        Ok(Outcome::Success) => 0,
        Ok(Outcome::Different) => 1,
        Ok(Outcome::Corrupt) => 2,
        Ok(Outcome::Leaks) => 3,
        Ok(Outcome::ChecksUnsupported) => 63,
        Err(Failure::Report(report)) => {
            messages::report(report);
            report.status
        }
        Err(Failure::Interrupted(signal)) => {
            messages::report_signal(signal.as_str());
            signals::die_by(*signal);
            // Only reached if the signal is ignored, or cannot be raised.
            STATUS_FAILED
        }
    })
}

/// What the first panic said and where: it may happen on a worker thread and reach this one without its place.
static FIRST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// The panic hook. It prints nothing: a panic is reported once, where it is caught.
fn remember_panic(info: &panic::PanicHookInfo<'_>) {
    let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    let text = format!("{}{place}", payload_text(info.payload()));
    FIRST_PANIC.lock().get_or_insert(text);
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = FIRST_PANIC.lock().take().unwrap_or_else(|| payload_text(payload).to_owned());
    // One line, whatever an assertion put into its message.
    text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ")
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic without a message")
}
