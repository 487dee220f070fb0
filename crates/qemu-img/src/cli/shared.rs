//! Options that mean the same in many commands, and what a command line says by them.

use super::common::{ImageArg, OutputFormat};
use super::getopt::{Flag, FlagId, Takes};
use super::object::Objects;
use crate::failure::Failure;
use crate::settings::{self, Form};
use crate::strict;

/// An option that many commands share. The parser takes it by itself; a command only lists it in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    /// `--help`
    Help,
    /// `-q`
    Quiet,
    /// `-p`
    Progress,
    /// `-f`
    Format,
    /// `--image-opts`
    ImageOpts,
    /// `-U`
    ForceShare,
    /// `--object`
    Object,
    /// `--output`
    Output,
    /// `--error-format`
    ErrorFormat,
    /// `--strict`
    Strict,
    /// `--allow`
    Allow,
    /// `--limit-cpu`
    LimitCpu,
    /// `--limit-memory`
    LimitMemory,
}

/// The options that every command takes, and the program before the command. Their names must be written out, so that
/// they make no abbreviation ambiguous; where a command has an option of the same name, that one counts.
pub(crate) const fn everywhere<Id: Copy>() -> [Flag<Id>; 5] {
    [
        Flag::shared(Shared::ErrorFormat).written_out(),
        Flag::shared(Shared::Strict).written_out(),
        Flag::shared(Shared::Allow).written_out(),
        Flag::shared(Shared::LimitCpu).written_out(),
        Flag::shared(Shared::LimitMemory).written_out(),
    ]
}

/// The long name of an option that every command takes.
pub(super) const ERROR_FORMAT: &str = "error-format";

/// The variable of the environment that says the same.
const ERROR_FORMAT_VARIABLE: &str = "QEMU_IMG_ERROR_FORMAT";

/// Finds out how errors are to be reported before the first one can happen: by the words of the command line, whatever
/// command they belong to, or else by the environment. What is wrong is left to be complained about in its turn.
pub(super) fn find_error_format(words: &[String]) -> Option<Form> {
    let variable = std::env::var(ERROR_FORMAT_VARIABLE).ok();
    let mut form = variable.and_then(|name| Form::parse(&name));
    let mut words = words.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix("--").and_then(|word| word.strip_prefix(ERROR_FORMAT)) else { continue };
        let value = if rest.is_empty() { words.next().map(String::as_str) } else { rest.strip_prefix('=') };
        form = value.and_then(Form::parse).or(form);
    }
    form
}

impl<Id> Flag<Id> {
    /// The row of an option that many commands share.
    pub(crate) const fn shared(option: Shared) -> Self {
        let (short, long, takes, value_name, help): (_, &'static [&'static str], _, _, _) = match option {
            Shared::Help => (Some('h'), &["help"], Takes::Nothing, "", "print this text"),
            Shared::Quiet => (Some('q'), &["quiet"], Takes::Nothing, "", "print nothing but errors"),
            Shared::Progress => (
                Some('p'),
                &["progress"],
                Takes::Optional,
                "FORM",
                "show progress, as text (human, the default) or JSON (json)",
            ),
            Shared::Format => {
                let help = "the image's format; recognised by its content if not given";
                (Some('f'), &["format"], Takes::Value, "FMT", help)
            }
            Shared::ImageOpts => {
                let help = "FILENAME is a list of options (driver=...,file.filename=...)";
                (None, &["image-opts"], Takes::Nothing, "", help)
            }
            Shared::ForceShare => {
                let help = "open the image even if another process is writing to it";
                (Some('U'), &["force-share"], Takes::Nothing, "", help)
            }
            Shared::Object => {
                let help = "a secret that options name: secret,id=ID,file=FILE";
                (None, &["object"], Takes::Value, "OBJDEF", help)
            }
            Shared::Output => {
                let help = "print text (human, the default) or JSON (json)";
                (None, &["output"], Takes::Value, "FORM", help)
            }
            Shared::ErrorFormat => {
                let help = "report errors as text (human, the default) or JSON (json)";
                (None, &[ERROR_FORMAT], Takes::Value, "FORM", help)
            }
            Shared::Strict => {
                let help = "images are from strangers: follow no name that one contains, and confine the process";
                (None, &["strict"], Takes::Nothing, "", help)
            }
            Shared::Allow => {
                let help =
                    "with --strict, follow this name all the same: a file, a folder (FOLDER/), a protocol (nbd:)";
                (None, &["allow"], Takes::Value, "PATTERN", help)
            }
            Shared::LimitCpu => {
                let help = "with --strict, the processor time that the command may take; 0 for any";
                (None, &["limit-cpu"], Takes::Value, "SECONDS", help)
            }
            Shared::LimitMemory => {
                let help = "with --strict, the memory that the command may take (1G if not given); 0 for any";
                (None, &["limit-memory"], Takes::Value, "SIZE", help)
            }
        };
        Self { id: FlagId::Shared(option), short, long, also: &[], takes, value_name, help }
    }
}

/// What the shared options of a command line said.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedArgs {
    /// `-f`, `--image-opts` and `-U`; the name is an operand, which the command fills in.
    pub(crate) image: ImageArg,
    /// `--object`.
    pub(crate) objects: Objects,
    /// `--output`.
    pub(crate) output: OutputFormat,
    /// `-q`.
    pub(crate) quiet: bool,
    /// `-p`.
    pub(crate) progress: bool,
    /// `--help`: nothing else counts.
    pub(super) help: bool,
}

impl SharedArgs {
    /// Takes an option of `command`.
    ///
    /// # Errors
    /// Its value is wrong.
    pub(super) fn take(&mut self, command: &str, option: Shared, value: String) -> Result<(), Failure> {
        match option {
            Shared::Help => self.help = true,
            Shared::Quiet => self.quiet = true,
            Shared::Progress => {
                self.progress = true;
                settings::set_progress_form(match Form::parse(&value) {
                    Some(form) => form,
                    None if value.is_empty() => Form::Human,
                    None => return Err(Failure::getopt(command, "option '--progress' doesn't allow an argument")),
                });
            }
            Shared::Format => self.image.format = Some(value),
            Shared::ImageOpts => self.image.image_opts = true,
            Shared::ForceShare => self.image.force_share = true,
            Shared::Object => self.objects.add(&value)?,
            Shared::Output => self.output = OutputFormat::parse(command, &value)?,
            Shared::ErrorFormat => {
                let text = || format!("--{ERROR_FORMAT} expects 'human' or 'json' not '{value}'");
                settings::set_error_format(Form::parse(&value).ok_or_else(|| Failure::usage(command, text()))?);
            }
            Shared::Strict => strict::turn_on(),
            Shared::Allow => strict::allow(value),
            Shared::LimitCpu => strict::limit_cpu(&value)?,
            Shared::LimitMemory => strict::limit_memory(&value)?,
        }
        Ok(())
    }
}
