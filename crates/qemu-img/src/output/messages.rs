//! The two streams. Nothing else in the command writes to them.

use std::io::{self, ErrorKind, Write};

use super::error_json;
use crate::failure::{Failure, Report};
use crate::output::human::escape_lines;
use crate::settings::{self, Form};

/// Writes `text` to standard output at once.
///
/// A reader that went away (`| head`) is no failure and not worth a word: what is left to print is dropped, and the
/// command ends with the status it would have had.
///
/// # Errors
/// The output cannot be written for another reason: it would be lost unnoticed.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let reason = qemu_block::error::errno_text(error.raw_os_error().unwrap_or(0));
            Err(Failure::new(format!("Could not write to standard output: {reason}")))
        }
        _ => Ok(()),
    }
}

/// Writes `text` and a newline to standard error, with control characters escaped.
///
/// There is nowhere to report a failure to, so it is ignored.
pub(crate) fn print_error(text: &str) {
    match settings::error_format() {
        Form::Human => write_error(&format!("{}\n", escape_lines(text))),
        Form::Json => write_error(&error_json::note(text)),
    }
}

/// Tells why the command failed.
pub(crate) fn report(report: &Report) {
    match settings::error_format() {
        Form::Human => print_error(&report.text),
        Form::Json => write_error(&error_json::error(report)),
    }
}

/// Tells programs that a signal ended the command; people see it.
pub(crate) fn report_signal(name: &str) {
    if settings::error_format() == Form::Json {
        write_error(&error_json::interrupted(name));
    }
}

fn write_error(line: &str) {
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

/// `qemu-img: warning: text`, in the name of the program that runs. Some callers take any text on standard error for a failure: warn only when something
/// is wrong.
pub(crate) fn warn(text: &str) {
    match settings::error_format() {
        Form::Human => print_error(&format!("{}: warning: {text}", settings::program())),
        Form::Json => write_error(&error_json::warning("warning", text, None)),
    }
}

/// The warning for an image that is written to although its format was only guessed to be raw.
pub(crate) fn warn_probed_raw(filename: &str) {
    if settings::error_format() == Form::Json {
        let text = format!("Image format was not specified for '{filename}' and probing guessed raw.");
        return write_error(&error_json::warning("format-guessed", &text, Some(filename)));
    }
    print_error(&format!(
        "WARNING: Image format was not specified for '{filename}' and probing guessed raw.\n         \
         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be \
         restricted.\n         Specify the 'raw' format explicitly to remove the restrictions."
    ));
}
