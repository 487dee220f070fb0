//! One run of a program: bounded in time, everything it said kept.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::words;

/// How long a run may take unless told otherwise. Nothing in the tests needs a tenth of it on a slow machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(180);

/// A program about to run: in the C locale, without input, named as its file is.
///
/// Both programs are given the same `argv[0]`, because error messages begin with it.
#[derive(Debug)]
pub struct Invocation {
    program: PathBuf,
    wrapper: Vec<OsString>,
    args: Vec<OsString>,
    dir: PathBuf,
    input: Vec<u8>,
    stdout: Option<File>,
    limit: Duration,
}

impl Invocation {
    /// `program` run in `dir`.
    pub fn new(program: &Path, dir: &Path) -> Self {
        Self {
            program: program.to_owned(),
            wrapper: Vec::new(),
            args: Vec::new(),
            dir: dir.to_owned(),
            input: Vec::new(),
            stdout: None,
            limit: TIME_LIMIT,
        }
    }

    /// Adds the arguments in `line`.
    #[must_use]
    pub fn words(mut self, line: &str) -> Self {
        self.args.extend(words::split(line).into_iter().map(OsString::from));
        self
    }

    /// Adds one argument as it is.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Has a shell run `script` first, in the same process: `ulimit`, `trap`. The program then replaces the shell.
    #[must_use]
    pub fn after(self, script: &str) -> Self {
        self.through(&["sh", "-c", &format!("{script}\nexec \"$@\""), "sh"])
    }

    /// Runs it through a program that starts another: `setpriv`, `unshare`.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(OsString::from).collect();
        self
    }

    /// What it reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Where its standard output goes instead of into [`Run::stdout`].
    #[must_use]
    pub fn stdout(mut self, file: File) -> Self {
        self.stdout = Some(file);
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it with pipes on all three standard streams.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(&self) -> Child {
        self.command().spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()))
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or if it does not end in time; it is killed then.
    pub fn run(self) -> Run {
        let mut child = self.start();
        let input = self.input.clone();
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        // A program may end without reading its input: the broken pipe is no failure of the test.
        let writer = thread::spawn(move || stdin.write_all(&input).ok());
        let (sender, ends) = mpsc::channel();
        let stdout = child.stdout.take().map(|stream| collect(stream, sender.clone()));
        let stderr = child.stderr.take().map(|stream| collect(stream, sender));
        for _ in [&stdout, &stderr].into_iter().flatten() {
            if ends.recv_timeout(self.limit).is_err() {
                child.kill().expect("a running child can be killed");
                panic!("{} did not end within {:?}", self.line(), self.limit);
            }
        }
        let status = child.wait().expect("a child can be waited for");
        writer.join().expect("the writer does not panic");
        Run { line: self.line(), status, stdout: text(stdout), stderr: text(stderr) }
    }

    fn command(&self) -> Command {
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&self.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        if self.wrapper.is_empty() {
            command.arg0(self.program.file_name().unwrap_or(self.program.as_os_str()));
        }
        let stdout = self.stdout.as_ref().map(|file| file.try_clone().expect("a descriptor can be duplicated"));
        command
            .args(&self.args)
            .current_dir(&self.dir)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(stdout.map_or_else(Stdio::piped, Stdio::from))
            .stderr(Stdio::piped());
        command
    }

    fn line(&self) -> String {
        let words = [self.program.as_os_str()].into_iter().chain(self.args.iter().map(OsString::as_os_str));
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// Reads `stream` to its end on a thread of its own, then says so.
fn collect(mut stream: impl Read + Send + 'static, done: mpsc::Sender<()>) -> thread::JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = stream.read_to_end(&mut bytes);
        // The receiver is gone after a time-out: there is nobody left to tell.
        done.send(()).ok();
        result.map(|_| bytes)
    })
}

fn text(reader: Option<thread::JoinHandle<io::Result<Vec<u8>>>>) -> String {
    let Some(reader) = reader else { return String::new() };
    let bytes = reader.join().expect("the reader does not panic").expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a program did.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Run {
    /// Its exit status; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Demands success without a word on standard error.
    ///
    /// # Panics
    /// If it was otherwise.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.code() == Some(0) && self.stderr.is_empty(), "should succeed quietly: {self}");
        self
    }

    /// Demands a clean failure: that exit status, at least one line of explanation, no panic, no signal.
    ///
    /// # Panics
    /// If it was otherwise.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "should fail with {code}: {self}");
        assert!(self.stderr.lines().any(|line| line.starts_with("qemu-img")), "should say who failed: {self}");
        assert!(!self.stderr.contains("panicked"), "should not panic: {self}");
        self
    }

    /// As [`fails`](Self::fails), with one line of explanation.
    ///
    /// # Panics
    /// If it was otherwise.
    #[track_caller]
    pub fn fails_in_one_line(self, code: i32) -> Self {
        let run = self.fails(code);
        assert_eq!(run.stderr.lines().count(), 1, "should say it in one line: {run}");
        run
    }

    /// Demands that standard error holds `part`.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn saying(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "should say {part:?}: {self}");
        self
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.line, self.status)?;
        writeln!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}
