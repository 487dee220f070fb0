//! The command line, the commands it brings or standard input has, and the exit status.
//!
//! QEMU: `main`, `command_loop` (qemu-io.c)

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Read};
use std::process::ExitCode;

use qemu_block::options::Options;
use qemu_block::types::{CacheMode, OpenFlags};
use qemu_util::primitive::thread;
use qemu_util::sync::oneshot;

use super::buffer::Placement;
use super::image::Recipe;
use super::shell::{Done, Failed, Settings, Shell};
use crate::cli::getopt::{Flag, Given, Parser};
use crate::cli::manual::{CommandDoc, docs};
use crate::cli::object::Objects;
use crate::cli::program::COMPATIBLE_VERSION;
use crate::cli::shared::Shared;
use crate::edge;
use crate::failure::{Code, Failure};
use crate::output::messages;
use crate::session::Session;
use crate::trace;

/// The name under which the program speaks.
const NAME: &str = "qemu-io";

/// The longest line that is read from standard input at once, in bytes. The rest is another line, as in the reference.
const LINE_BYTES_MAX: u64 = 1023;

/// The options and operands in one line.
const SYNOPSIS: &str = "[OPTIONS]... [-c STRING]... [file]";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Version,
    Command,
    ReadOnly,
    Snapshot,
    NoCache,
    CopyOnRead,
    Misalign,
    NativeAio,
    Aio,
    Discard,
    Cache,
    Trace,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Object),
    Flag::shared(Shared::ImageOpts),
    Flag::value(Id::Command, Some('c'), &["cmd"]).named("STRING").doc("run this command; may be given several times"),
    Flag::shared(Shared::Format),
    Flag::switch(Id::ReadOnly, Some('r'), &["read-only"]).doc("open the image read-only"),
    Flag::switch(Id::Snapshot, Some('s'), &["snapshot"]).doc("keep all changes in a temporary file"),
    Flag::switch(Id::NoCache, Some('n'), &["nocache"]).doc("bypass the host's cache, as -t none"),
    Flag::switch(Id::CopyOnRead, Some('C'), &["copy-on-read"])
        .doc("copy what is read from the backing file into the image"),
    Flag::switch(Id::Misalign, Some('m'), &["misalign"]).doc("use memory at addresses that do not suit direct I/O"),
    Flag::switch(Id::NativeAio, Some('k'), &["native-aio"]).doc("the same as -i native"),
    Flag::value(Id::Aio, Some('i'), &["aio"]).named("MODE").doc("how requests are made: threads, native or io_uring"),
    Flag::value(Id::Cache, Some('t'), &["cache"])
        .named("MODE")
        .doc("cache mode: none, writeback, writethrough (the default), directsync, unsafe"),
    Flag::value(Id::Discard, Some('d'), &["discard"])
        .named("MODE")
        .doc("what discards do: unmap (the default) or ignore"),
    Flag::value(Id::Trace, Some('T'), &["trace"]).named("SPEC").doc("show events: [enable=]PATTERN"),
    Flag::shared(Shared::ForceShare),
    Flag::shared(Shared::Help),
    Flag::switch(Id::Version, Some('V'), &["version"]).doc("print the version"),
];

/// What there is to know about the program.
pub(crate) fn doc() -> CommandDoc {
    CommandDoc {
        name: NAME,
        summary: "Makes single requests to disk images",
        synopsis: SYNOPSIS,
        options: docs(FLAGS),
        operands: &[("file", "the image; 'open' is a command as well")],
        notes: "Without -c, commands are read from standard input; 'help' is one of them.",
    }
}

fn help() -> String {
    let doc = doc();
    format!("Usage: {NAME} {SYNOPSIS}\n{}\n\n{}", doc.summary, doc.explanations())
}

/// What the command line asks for.
#[derive(Debug)]
struct Arguments {
    recipe: Recipe,
    settings: Settings,
    format: Option<String>,
    commands: Vec<String>,
    objects: Objects,
    patterns: Vec<trace::Pattern>,
    /// Where the events go.
    trace_file: Option<String>,
    file: Option<String>,
}

/// How the program ends when it does not even begin.
enum Early {
    /// It printed what was asked for.
    Done,
    /// It was called wrongly, and has said so.
    Failed,
}

impl From<Failure> for Early {
    fn from(failure: Failure) -> Self {
        if let Failure::Report(report) = failure {
            messages::print_error(&report.text);
        }
        Self::Failed
    }
}

/// Runs qemu-io with `arguments`, the program's name not among them, and returns the exit status.
///
/// It is 1 when the image cannot be opened or any command fails. A panic becomes a message and the same status.
pub fn run_io(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    edge::run_as(NAME, || match run(arguments) {
        Ok(()) | Err(Early::Done) => ExitCode::SUCCESS,
        Err(Early::Failed) => ExitCode::FAILURE,
    })
}

fn run(arguments: Vec<OsString>) -> Result<(), Early> {
    let words = arguments.into_iter().map(crate::cli::program::into_text).collect::<Result<Vec<_>, _>>()?;
    let arguments = parse(words)?;
    trace::enable(&arguments.patterns, arguments.trace_file.as_deref())?;
    let session = Session::new()?.with_objects(&arguments.objects);
    let mut shell = Shell::new(session, arguments.settings);
    let result = serve(&mut shell, arguments);
    shell.finish();
    let closed = shell.close();
    shell.out.flush();
    result.and(closed).map_err(|Failed| Early::Failed)
}

/// Opens the image, if there is one, and runs all commands.
fn serve(shell: &mut Shell, arguments: Arguments) -> Done {
    if let Some(name) = arguments.file {
        let mut recipe = arguments.recipe;
        if arguments.settings.image_opts {
            recipe.options = shell.parse_options(&name)?;
        } else {
            recipe.filename = Some(name);
        }
        if let Some(format) = arguments.format {
            recipe.options.set("driver", format);
        }
        shell.open(recipe)?;
    }
    if arguments.commands.is_empty() { converse(shell) } else { run_all(shell, &arguments.commands) }
}

fn run_all(shell: &mut Shell, commands: &[String]) -> Done {
    let mut result = Ok(());
    for command in commands {
        result = result.and(shell.run_line(command));
        if shell.wants_to_quit() {
            break;
        }
    }
    result
}

/// Asks for commands until there are no more.
fn converse(shell: &mut Shell) -> Done {
    let mut result = Ok(());
    while !shell.wants_to_quit() {
        shell.out.text(&format!("{NAME}> "));
        shell.out.flush();
        let Some(line) = next_line(shell) else {
            if io::stdin().is_terminal() {
                shell.out.line("");
            }
            break;
        };
        result = result.and(shell.run_line(&line));
    }
    result
}

/// The next line of standard input without its newline. Requests in the background go on while it is awaited.
fn next_line(shell: &mut Shell) -> Option<String> {
    if shell.is_idle() {
        return read_line();
    }
    let (sender, receiver) = oneshot::channel();
    // The answer is not wanted any more only if the program is at its end.
    let reader = thread::Builder::new().name("stdin".to_owned()).spawn(move || drop(sender.send(read_line())));
    match reader {
        Ok(_) => shell.wait(receiver).ok().flatten(),
        Err(_) => read_line(),
    }
}

fn read_line() -> Option<String> {
    let mut line = Vec::new();
    let count = io::stdin().lock().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).unwrap_or(0);
    if count == 0 {
        return None;
    }
    let text = String::from_utf8_lossy(&line);
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Takes the command line apart; what is wrong is reported in the order in which it stands there.
fn parse(words: Vec<String>) -> Result<Arguments, Early> {
    let mut parser = Parser::new("", FLAGS, words);
    let mut arguments = Arguments {
        recipe: Recipe::new(),
        settings: Settings::default(),
        format: None,
        commands: Vec::new(),
        objects: Objects::default(),
        patterns: Vec::new(),
        trace_file: None,
        file: None,
    };
    loop {
        match parser.next() {
            Ok(Some(given)) => apply(&mut arguments, given)?,
            Ok(None) => break,
            Err(Failure::Report(report)) if report.code == Code::Usage => return Err(misused(Some(&report.text))),
            Err(failure) => return Err(failure.into()),
        }
    }
    let Some((shared, mut operands)) = parser.finish() else { return Err(print(&help())) };
    arguments.recipe.flags.set(OpenFlags::FORCE_SHARE, shared.image.force_share);
    arguments.settings.image_opts = shared.image.image_opts;
    arguments.format = shared.image.format;
    arguments.objects = shared.objects;
    arguments.file = operands.pop();
    if !operands.is_empty() {
        return Err(misused(None));
    }
    if arguments.format.is_some() && arguments.settings.image_opts {
        return Err(Failure::new("--image-opts and -f are mutually exclusive").into());
    }
    Ok(arguments)
}

fn apply(arguments: &mut Arguments, given: Given<Id>) -> Result<(), Early> {
    let recipe = &mut arguments.recipe;
    let Given { id, value } = given;
    match id {
        Id::Version => return Err(print(&version())),
        Id::Command => arguments.commands.push(value),
        Id::ReadOnly => recipe.flags.remove(OpenFlags::WRITE),
        Id::Snapshot => recipe.snapshot = true,
        Id::NoCache => recipe.set_no_cache(),
        Id::CopyOnRead => recipe.copy_on_read = true,
        Id::Misalign => arguments.settings.placement = Placement::Misaligned,
        Id::NativeAio => recipe.native_aio = true,
        Id::Aio if recipe.set_aio(&value) => {}
        Id::Aio => return Err(Failure::new(format!("Invalid aio option: {value}")).into()),
        Id::Discard if recipe.set_discard(&value) => {}
        Id::Discard => return Err(Failure::new(format!("Invalid discard option: {value}")).into()),
        Id::Cache => match CacheMode::parse(&value) {
            Some(mode) => recipe.set_cache(mode),
            None => return Err(Failure::new(format!("Invalid cache option: {value}")).into()),
        },
        Id::Trace => match trace::parse(&value)? {
            trace::Request::List => return Err(print(&trace::list())),
            trace::Request::Enable { patterns, file } => {
                arguments.patterns.extend(patterns);
                arguments.trace_file = file.or(arguments.trace_file.take());
            }
        },
    }
    Ok(())
}

/// Prints what was asked for instead of work.
fn print(text: &str) -> Early {
    match messages::print(text) {
        Ok(()) => Early::Done,
        Err(failure) => failure.into(),
    }
}

/// The answer to a wrong command line: the parser's complaint, if it has one, and the help.
fn misused(complaint: Option<&str>) -> Early {
    if let Some(text) = complaint {
        // The second line points to the help, which follows anyway.
        messages::print_error(text.lines().next().unwrap_or_default());
    }
    match print(&help()) {
        Early::Done | Early::Failed => Early::Failed,
    }
}

fn version() -> String {
    format!("{NAME} version {COMPATIBLE_VERSION} (compatible; qemu-img in Rust {})\n", env!("CARGO_PKG_VERSION"))
}

impl Shell {
    /// The options of a list of them, as of `--image-opts` and of `open -o`.
    ///
    /// # Errors
    /// The text is none.
    pub(super) fn parse_options(&mut self, text: &str) -> Result<Options, Failed> {
        for item in text.replace(",,", "").split(',').filter(|item| !item.contains('=')) {
            let instead = item.strip_prefix("no").map_or(format!("{item}=on"), |item| format!("{item}=off"));
            messages::warn(&format!("short-form boolean option '{item}' deprecated\nPlease use {instead} instead"));
        }
        Options::parse_keyval(text, None).map_err(|error| self.report_error(error.chain()))
    }
}
