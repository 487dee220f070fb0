//! The program's own options: `qemu-img [standard options] COMMAND …`.

use std::ffi::OsString;

use crate::cli::getopt::{Flag, Operands, Parser};
use crate::cli::manual::{self, OptionDoc, docs, wrap};
use crate::cli::shared::{Shared, find_error_format};
use crate::commands::{self, Command};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::session::Session;
use crate::{settings, strict, trace};

/// The version of QEMU whose tool this one stands in for. Consumers read it and conclude which options there are, so
/// it is not our own version, which follows in parentheses.
pub(crate) const COMPATIBLE_VERSION: &str = "10.0.2";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Version,
    Trace,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::switch(Id::Version, Some('V'), &["version"]).doc("print the version"),
    Flag::value(Id::Trace, Some('T'), &["trace"])
        .named("SPEC")
        .doc("show events: [enable=]PATTERN,events=FILE,file=FILE"),
];

/// What manuals say of the program's own options.
pub(super) fn option_docs() -> Vec<OptionDoc> {
    docs(FLAGS)
}

/// The widest line of the list of formats.
const FORMATS_COLUMNS: usize = 76;

/// Runs the program with `arguments`, its own name not among them.
pub(crate) fn run(arguments: Vec<OsString>) -> CommandResult {
    let lossy: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(form) = find_error_format(&lossy) {
        settings::set_error_format(form);
    }
    let words = arguments.into_iter().map(into_text).collect::<Result<Vec<_>, _>>()?;
    if words.is_empty() {
        return Err(Failure::usage("", "Not enough arguments"));
    }
    strict::read_environment();
    let mut parser = Parser::with_mode("", FLAGS, words, Operands::EndOptions);
    let (mut patterns, mut file) = (Vec::new(), None);
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Version => return print(&version_text()),
            Id::Trace => match trace::parse(&given.value)? {
                trace::Request::List => return print(&trace::list()),
                trace::Request::Enable { patterns: more, file: new } => {
                    patterns.extend(more);
                    file = new.or(file);
                }
            },
        }
    }
    let Some((_, mut operands)) = parser.finish() else { return print(&help_text()?) };
    if operands.is_empty() {
        return Err(Failure::usage("", "Not enough arguments"));
    }
    let rest = operands.split_off(1);
    let name = operands.concat();
    trace::enable(&patterns, file.as_deref())?;
    match commands::ALL.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(rest),
        None => Err(Failure::usage("", format!("Command not found: {name}"))),
    }
}

/// Prints `text` as the result of a command.
pub(crate) fn print(text: &str) -> CommandResult {
    messages::print(text)?;
    Ok(Outcome::Success)
}

/// File names reach the block layer as text.
pub(crate) fn into_text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| {
        Failure::new(format!("The argument '{}' is not valid UTF-8, which is not supported", word.to_string_lossy()))
    })
}

fn version_text() -> String {
    format!("qemu-img version {COMPATIBLE_VERSION} (compatible; qemu-img in Rust {})\n", env!("CARGO_PKG_VERSION"))
}

/// The program's help. Three consumers search it for a synopsis line of a command, with patterns such as
/// `\binfo\b.*-U\b`, to learn whether an option exists; so each command has its whole synopsis on one line.
fn help_text() -> Result<String, Failure> {
    let mut text = version_text();
    text.push_str(
        "Works on disk image files.\n\n\
         Usage: qemu-img [-h | --help] [-V | --version] [-T | --trace [enable=]PATTERN] COMMAND [options of the command]\n\n\
         Commands ('qemu-img COMMAND --help' explains one):\n\n",
    );
    for Command { name, summary, synopsis, .. } in commands::ALL {
        text.push_str(&format!("  {name} {synopsis}\n        {summary}\n"));
    }
    text.push_str("\nOptions of every command, also before it:\n\n");
    text.push_str(&manual::common_help());
    text.push_str("\nSizes and offsets are in bytes, or have a suffix: K, M, G, T, P and E mean powers of 1024.\n");
    text.push_str("\nSupported image formats:\n\n");
    for line in wrap(&Session::new()?.driver_names().join(" "), FORMATS_COLUMNS) {
        text.push_str(&format!("  {line}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cinder: `qemu-img version ([0-9\.]*)`.
    #[test]
    fn the_version_can_be_read_by_programs() {
        let text = version_text();
        let rest = text.strip_prefix("qemu-img version ").expect("starts like the reference's");
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        assert_eq!(number, COMPATIBLE_VERSION);
    }

    /// oVirt: `^\s+bitmap (.+) filename bitmap`.
    #[test]
    fn the_bitmap_command_is_found() {
        let line =
            help_text().expect("a session").lines().find(|line| line.starts_with("  bitmap ")).map(str::to_owned);
        assert!(line.expect("there").ends_with(" filename bitmap"));
    }

    /// libguestfs: `grep -E '\binfo\b.*-U\b'`; CloudStack: contains `--target-is-zero`.
    #[test]
    fn feature_probes_find_what_they_look_for() {
        let text = help_text().expect("a session");
        let has_line = |word: &str, option: &str| {
            text.lines().any(|line| line.trim_start().starts_with(word) && line.contains(option))
        };
        assert!(has_line("info ", "[-U]"));
        assert!(has_line("convert ", "--target-is-zero"));
    }

    #[test]
    fn commands_must_exist() {
        let result = run(vec!["nonesuch".into()]);
        assert_eq!(
            result.expect_err("no such command").into_text(),
            "qemu-img: Command not found: nonesuch\nTry 'qemu-img --help' for more info"
        );
    }
}
