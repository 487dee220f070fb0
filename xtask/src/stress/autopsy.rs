//! The report on a run that hangs: the analysis that a person would write into a bug report, made by machine.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::gather::{self, Thread};
use super::subject::{Running, Subject};
use super::verdict::{self, State};

/// How long the program may take to answer SIGUSR2.
const ANSWER: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Autopsy {
    /// The findings; the most likely cause first.
    pub(super) verdict: Vec<String>,
    /// Everything, as text.
    pub(super) report: String,
}

/// Examines a run that hangs, and ends it. `what` are the lines that say which run it is; `errors` is the file with its
/// standard error.
pub(super) fn examine(subject: &Subject, mut running: Running, what: &[String], errors: &Path) -> Autopsy {
    let pid = Pid::from_raw(running.child.id().cast_signed());
    // In this order: asking the program changes nothing, the debugger stops it.
    let threads = gather::threads(pid);
    let said = ask(pid, errors);
    let traced = subject.backtraces(&mut running, pid);
    // It is our child, and has not been waited for: the number cannot belong to anybody else.
    running.child.kill().ok();
    running.child.wait().ok();

    let state = State::find(&said);
    let verdict = match &state {
        Some(state) => verdict::reason(state),
        None => vec!["the program has not answered SIGUSR2: only the threads can tell".to_owned()],
    };
    let mut report = String::new();
    section(&mut report, "hang", what);
    section(&mut report, "threads", &threads.iter().map(describe).collect::<Vec<_>>());
    let lines = state.as_ref().map(State::lines).unwrap_or_default();
    section(&mut report, "state of the program", lines);
    section(&mut report, "kernel stacks", &threads.iter().filter_map(kernel_stack).collect::<Vec<_>>());
    match traced {
        Ok((how, output)) => section(&mut report, &format!("backtraces ({how})"), &gather::frames(&output)),
        Err(error) => section(&mut report, "backtraces", &[format!("none: {error}")]),
    }
    section(&mut report, "verdict", &verdict);
    Autopsy { verdict, report }
}

/// Has the program write its state; returns what it has written so far.
fn ask(pid: Pid, errors: &Path) -> String {
    let said = || fs::read_to_string(errors).unwrap_or_default();
    if kill(pid, Signal::SIGUSR2).is_err() {
        return said();
    }
    let end = Instant::now() + ANSWER;
    while State::find(&said()).is_none() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    said()
}

fn describe(thread: &Thread) -> String {
    let Thread { tid, name, state, wchan, syscall, .. } = thread;
    format!("{tid} {name:<16} {state:<13} {syscall} ({wchan})")
}

fn kernel_stack(thread: &Thread) -> Option<String> {
    (!thread.stack.is_empty()).then(|| format!("{} {}: {}", thread.tid, thread.name, thread.stack.join(" < ")))
}

fn section(report: &mut String, title: &str, lines: &[impl AsRef<str>]) {
    // Writing to a string cannot fail.
    writeln!(report, "--- {title}").ok();
    for line in lines {
        writeln!(report, "{}", line.as_ref()).ok();
    }
}
