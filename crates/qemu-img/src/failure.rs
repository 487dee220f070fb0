//! How a command ends: [`Outcome`] when it did its work, [`Failure`] when it did not.

use nix::sys::signal::Signal;
use qemu_block::error::{BlockError, ErrorKind};

use crate::settings;

/// What a command returns.
pub(crate) type CommandResult = Result<Outcome, Failure>;

/// How a command that ran to its end went; [`crate::edge`] maps it to an exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Success,
    /// `check`: the image is corrupt.
    Corrupt,
    /// `check`: the image has leaked clusters, but no data is at risk.
    Leaks,
    /// `check`: the format has nothing to check.
    ChecksUnsupported,
    /// `compare`: the images differ.
    Different,
}

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error that is reported to the user.
    Report(Box<Report>),
    /// A signal asked to stop, and the command has cleaned up.
    Interrupted(Signal),
}

/// An error as users and programs are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The complete text for standard error, without the newline at its end.
    pub(crate) text: String,
    /// What kind of error it is.
    pub(crate) code: Code,
    /// The image it is about.
    pub(crate) file: Option<String>,
    /// Where in the disk, in bytes.
    pub(crate) offset: Option<u64>,
    /// The exit status.
    pub(crate) status: u8,
}

/// The exit status of a failure that has none of its own.
pub(crate) const STATUS_FAILED: u8 = 1;

/// Kinds of errors for programs to tell apart. Their names are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something else.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Reading or writing failed.
    Io,
    /// A file, or something inside an image, does not exist.
    NotFound,
    /// Access was refused.
    PermissionDenied,
    /// There is no space left.
    NoSpace,
    /// Another process uses the image.
    Locked,
    /// The format, or the system, cannot do it.
    Unsupported,
    /// An option, a size or the like is wrong.
    InvalidArgument,
    /// The image is not of the format it was said to be.
    NotThisFormat,
    /// The image is damaged.
    Corrupt,
    /// The image is shorter than it says.
    Truncated,
    /// A request lies outside of the disk, or would write to a read-only one.
    BadRequest,
    /// The operation was given up.
    Cancelled,
    /// A signal ended the command.
    Interrupted,
    /// The program has a defect.
    Internal,
}

impl Code {
    /// Its name in JSON. docs/error-codes.md lists them all.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Io => "io",
            Self::NotFound => "not-found",
            Self::PermissionDenied => "permission-denied",
            Self::NoSpace => "no-space",
            Self::Locked => "locked",
            Self::Unsupported => "unsupported",
            Self::InvalidArgument => "invalid-argument",
            Self::NotThisFormat => "not-this-format",
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::BadRequest => "bad-request",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    fn of(error: &BlockError) -> Self {
        match error.kind() {
            ErrorKind::Io => Self::Io,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied => Self::PermissionDenied,
            ErrorKind::NoSpace => Self::NoSpace,
            ErrorKind::Locked => Self::Locked,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::InvalidArgument => Self::InvalidArgument,
            ErrorKind::NotThisFormat => Self::NotThisFormat,
            ErrorKind::Corrupt => Self::Corrupt,
            ErrorKind::Truncated => Self::Truncated,
            ErrorKind::BadRequest => Self::BadRequest,
            ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

impl Failure {
    /// A plain failure: `qemu-img: message`.
    pub(crate) fn new(message: impl AsRef<str>) -> Self {
        Self::text(format!("{}: {}", settings::program(), message.as_ref()))
    }

    /// A failure with this very text, whoever speaks.
    pub(crate) fn text(text: String) -> Self {
        Self::Report(Box::new(Report { text, code: Code::Failed, file: None, offset: None, status: STATUS_FAILED }))
    }

    /// A wrong use of `command`: as [`Failure::new`], and a second line that points to the command's help.
    pub(crate) fn usage(command: &str, message: impl AsRef<str>) -> Self {
        let text = format!("{}: {}\n{}", settings::program(), message.as_ref(), help_hint(command));
        Self::text(text).with_code(Code::Usage)
    }

    /// A failure of the option parser, which speaks in the name of the command: `qemu-img info: message`. The name is
    /// empty outside of commands.
    pub(crate) fn getopt(command: &str, message: impl AsRef<str>) -> Self {
        let program = settings::program();
        let speaker = if command.is_empty() { program.to_owned() } else { format!("{program} {command}") };
        Self::text(format!("{speaker}: {}\n{}", message.as_ref(), help_hint(command))).with_code(Code::Usage)
    }

    /// The same failure with an exit status of its own.
    #[must_use]
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        if let Self::Report(report) = &mut self {
            report.status = status;
        }
        self
    }

    /// A failure of the block layer while `doing` something: `qemu-img: doing: error: its cause`.
    pub(crate) fn block(doing: impl AsRef<str>, error: &BlockError) -> Self {
        Self::new(format!("{}: {}", doing.as_ref(), error.chain())).with_code(Code::of(error))
    }

    /// The same with a kind.
    #[must_use]
    pub(crate) fn with_code(mut self, code: Code) -> Self {
        if let Self::Report(report) = &mut self {
            report.code = code;
        }
        self
    }

    /// The same with the kind of `error`.
    #[must_use]
    pub(crate) fn of_kind(self, error: &BlockError) -> Self {
        self.with_code(Code::of(error))
    }

    /// Whether the command line is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Report(report) if report.code == Code::Usage)
    }

    /// The same, about the image `file`.
    #[must_use]
    pub(crate) fn about(mut self, file: &str) -> Self {
        if let Self::Report(report) = &mut self {
            report.file = Some(file.to_owned());
        }
        self
    }

    /// The same, about the byte at `offset` of the disk.
    #[must_use]
    pub(crate) fn at(mut self, offset: u64) -> Self {
        if let Self::Report(report) = &mut self {
            report.offset = Some(offset);
        }
        self
    }
}

/// The line that ends every complaint about arguments.
fn help_hint(command: &str) -> String {
    let space = if command.is_empty() { "" } else { " " };
    format!("Try '{}{space}{command} --help' for more info", settings::program())
}

#[cfg(test)]
impl Failure {
    /// The text of a failure that has one.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Report(report) => report.text,
            Self::Interrupted(signal) => panic!("interrupted by {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All codes, in the order of the table.
    const CODES: [Code; 16] = [
        Code::Failed,
        Code::Usage,
        Code::Io,
        Code::NotFound,
        Code::PermissionDenied,
        Code::NoSpace,
        Code::Locked,
        Code::Unsupported,
        Code::InvalidArgument,
        Code::NotThisFormat,
        Code::Corrupt,
        Code::Truncated,
        Code::BadRequest,
        Code::Cancelled,
        Code::Interrupted,
        Code::Internal,
    ];

    #[test]
    fn the_table_of_codes_is_complete() {
        let page = include_str!("../../../docs/error-codes.md");
        let table = page.split("## Codes of errors").nth(1).expect("a section").split("## ").next().expect("its text");
        let names = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(names.collect::<Vec<_>>(), CODES.map(Code::name));
    }

    #[test]
    fn texts_are_the_references() {
        assert_eq!(Failure::new("Invalid cache mode").into_text(), "qemu-img: Invalid cache mode");
        assert_eq!(
            Failure::usage("info", "Expecting one image file name").into_text(),
            "qemu-img: Expecting one image file name\nTry 'qemu-img info --help' for more info"
        );
        assert_eq!(
            Failure::getopt("", "invalid option -- 'Z'").into_text(),
            "qemu-img: invalid option -- 'Z'\nTry 'qemu-img --help' for more info"
        );
        assert_eq!(
            Failure::getopt("info", "invalid option -- 'Z'").into_text(),
            "qemu-img info: invalid option -- 'Z'\nTry 'qemu-img info --help' for more info"
        );
    }

    #[test]
    fn block_errors_show_their_causes() {
        let cause = BlockError::from_errno(2, "No such file or directory");
        let error = cause.context("Could not open 'x'");
        assert_eq!(
            Failure::block("Could not open 'x'", &error).into_text(),
            "qemu-img: Could not open 'x': Could not open 'x': No such file or directory"
        );
    }
}
