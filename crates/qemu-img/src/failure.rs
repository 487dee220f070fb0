//! How a command ends: [`Outcome`] when it did its work, [`Failure`] when it did not.

use nix::sys::signal::Signal;
use qemu_block::error::BlockError;

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
}

/// Why a command did not do its work: the text for standard error, already worded.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The complete text, without the newline at its end.
    Text(String),
    /// A signal asked to stop, and the command has cleaned up.
    Interrupted(Signal),
}

impl Failure {
    /// A plain failure: `qemu-img: message`.
    pub(crate) fn new(message: impl AsRef<str>) -> Self {
        Self::Text(format!("qemu-img: {}", message.as_ref()))
    }

    /// A wrong use of `command`: as [`Failure::new`], and a second line that points to the command's help.
    pub(crate) fn usage(command: &str, message: impl AsRef<str>) -> Self {
        Self::Text(format!("qemu-img: {}\n{}", message.as_ref(), help_hint(command)))
    }

    /// A failure of the option parser, which speaks in the name of the command: `qemu-img info: message`. The name is
    /// empty outside of commands.
    pub(crate) fn getopt(command: &str, message: impl AsRef<str>) -> Self {
        let speaker = if command.is_empty() { "qemu-img".to_owned() } else { format!("qemu-img {command}") };
        Self::Text(format!("{speaker}: {}\n{}", message.as_ref(), help_hint(command)))
    }

    /// A failure of the block layer while `doing` something: `qemu-img: doing: error: its cause`.
    pub(crate) fn block(doing: impl AsRef<str>, error: &BlockError) -> Self {
        Self::new(format!("{}: {}", doing.as_ref(), error.chain()))
    }
}

/// The line that ends every complaint about arguments.
fn help_hint(command: &str) -> String {
    let space = if command.is_empty() { "" } else { " " };
    format!("Try 'qemu-img{space}{command} --help' for more info")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: Failure) -> String {
        match failure {
            Failure::Text(text) => text,
            other => panic!("{other:?} has no text"),
        }
    }

    #[test]
    fn texts_are_the_references() {
        assert_eq!(text(Failure::new("Invalid cache mode")), "qemu-img: Invalid cache mode");
        assert_eq!(
            text(Failure::usage("info", "Expecting one image file name")),
            "qemu-img: Expecting one image file name\nTry 'qemu-img info --help' for more info"
        );
        assert_eq!(
            text(Failure::getopt("", "invalid option -- 'Z'")),
            "qemu-img: invalid option -- 'Z'\nTry 'qemu-img --help' for more info"
        );
        assert_eq!(
            text(Failure::getopt("info", "invalid option -- 'Z'")),
            "qemu-img info: invalid option -- 'Z'\nTry 'qemu-img info --help' for more info"
        );
    }

    #[test]
    fn block_errors_show_their_causes() {
        let cause = BlockError::from_errno(2, "No such file or directory");
        let error = cause.context("Could not open 'x'");
        assert_eq!(
            text(Failure::block("Could not open 'x'", &error)),
            "qemu-img: Could not open 'x': Could not open 'x': No such file or directory"
        );
    }
}
