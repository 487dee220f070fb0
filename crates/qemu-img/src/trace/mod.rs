//! `--trace`: what the program shows of its inner life.
//!
//! The events of the block layer are written as lines; see [`events`]. One more is our own, `aio`: on SIGUSR2 the state of
//! the event loop, of read-copy-update and of the worker pools is written to standard error. It is meant for a program
//! that hangs, so a thread of its own waits for the signal, and what it looks at is looked at without waiting for
//! anybody. Without the option there is no such thread, and the signal does what it always does.

mod events;

use std::fs;

use nix::sys::signal::{SigSet, Signal};
use qemu_block::aio::PoolObserver;
use qemu_util::aio::AioObserver;
use qemu_util::primitive::{Mutex, thread};
use qemu_util::rcu;

use crate::failure::Failure;
use crate::output::messages;
use crate::settings;

/// The event that is no line but an answer to a signal.
const AIO: &str = "aio";

/// The names of all trace events.
fn names() -> impl Iterator<Item = &'static str> {
    events::NAMES.into_iter().chain([AIO])
}

/// What `help` prints: the names, a line for each.
pub(crate) fn list() -> String {
    names().map(|name| format!("{name}\n")).collect()
}

/// What is looked at; sessions add themselves.
static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

/// The parts of one session.
#[derive(Debug)]
struct Watched {
    aio: AioObserver,
    pools: Vec<PoolObserver>,
}

/// A pattern, and where it stands if that is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    place: Option<(String, usize)>,
}

/// What the option's value asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `help`: the list of events.
    List,
    /// Patterns that were given, and where the lines go; there may be none of either.
    Enable {
        /// Which events are turned on or off.
        patterns: Vec<Pattern>,
        /// The file to write to.
        file: Option<String>,
    },
}

/// Parses the value of `--trace`: `[[enable=]PATTERN][,events=FILE][,file=FILE]`.
///
/// # Errors
/// For parameters that do not exist, and for files that cannot be read.
///
/// QEMU: `trace_opt_parse` (trace/control.c)
pub(crate) fn parse(value: &str) -> Result<Request, Failure> {
    let (mut patterns, mut file) = (Vec::new(), None);
    for word in value.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            None if word == "help" || word == "?" => return Ok(Request::List),
            None => patterns.push(Pattern { text: word.to_owned(), place: None }),
            Some(("enable", text)) => patterns.push(Pattern { text: text.to_owned(), place: None }),
            Some(("events", name)) => patterns.extend(read_patterns(name)?),
            Some(("file", name)) => file = Some(name.to_owned()),
            Some((key, _)) => return Err(Failure::new(format!("Invalid parameter '{key}'"))),
        }
    }
    Ok(Request::Enable { patterns, file })
}

/// The patterns of a file: one a line, apart from empty lines and comments.
///
/// QEMU: `trace_init_events` (trace/control.c)
fn read_patterns(name: &str) -> Result<Vec<Pattern>, Failure> {
    let text = fs::read_to_string(name).map_err(|error| {
        let reason = qemu_block::error::errno_text(error.raw_os_error().unwrap_or(0));
        Failure::text(format!("{}:{name}: {reason}", settings::program()))
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let pattern =
        |(index, line): (usize, &str)| Pattern { text: line.to_owned(), place: Some((name.to_owned(), index + 1)) };
    Ok(lines.map(pattern).collect())
}

/// Turns on the events that `patterns` name, and writes them to `file` if there is one. To be called before any thread
/// exists.
///
/// A name that does not exist is worth a warning; a pattern that matches nothing is not.
///
/// # Errors
/// If the file cannot be made, or a thread is needed and cannot be started.
pub(crate) fn enable(patterns: &[Pattern], file: Option<&str>) -> Result<(), Failure> {
    let mut enabled: Vec<&'static str> = Vec::new();
    for Pattern { text, place } in patterns {
        // A later pattern may turn events off again.
        let (on, pattern) = text.strip_prefix('-').map_or((true, text.as_str()), |rest| (false, rest));
        let matched: Vec<_> = names().filter(|event| matches(pattern, event)).collect();
        if matched.is_empty() && !pattern.contains(['*', '?']) {
            let program = settings::program();
            let place = place.as_ref().map_or_else(String::new, |(name, line)| format!("{name}:{line}:"));
            messages::print_error(&format!("{program}:{place} warning: trace event '{pattern}' does not exist"));
        }
        enabled.retain(|event| !matched.contains(event));
        if on {
            enabled.extend(matched);
        }
    }
    let aio = enabled.contains(&AIO);
    enabled.retain(|event| *event != AIO);
    if !enabled.is_empty() {
        events::Log::new(enabled, file)?.listen();
    }
    if aio { show_state_on_signal() } else { Ok(()) }
}

/// Whether `text` is what `pattern` describes, in which `*` stands for anything and `?` for any character.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            text.char_indices().any(|(at, _)| matches(rest.as_str(), &text[at..])) || matches(rest.as_str(), "")
        }
        Some(c) => text
            .chars()
            .next()
            .is_some_and(|first| (c == '?' || c == first) && matches(rest.as_str(), &text[first.len_utf8()..])),
    }
}

/// Starts the thread that waits for SIGUSR2, which all threads that start later keep blocked.
fn show_state_on_signal() -> Result<(), Failure> {
    let mut waited = SigSet::empty();
    waited.add(Signal::SIGUSR2);
    waited.thread_block().map_err(|errno| Failure::new(format!("Could not block signals: {}", errno.desc())))?;
    let wait = move || {
        while waited.wait().is_ok() {
            messages::print_error(&state());
        }
    };
    let started = thread::Builder::new().name("trace".to_owned()).spawn(wait);
    started.map(drop).map_err(|error| Failure::new(format!("Could not start a thread: {error}")))
}

/// Has the event `aio` show these parts, for as long as they exist.
pub(crate) fn watch(aio: AioObserver, pools: Vec<PoolObserver>) {
    WATCHED.lock().push(Watched { aio, pools });
}

/// Everything that there is to be seen, a line for each thing.
fn state() -> String {
    let mut lines = vec!["qemu-img: trace: state begins".to_owned()];
    match WATCHED.try_lock() {
        None => lines.push("sessions: locked".to_owned()),
        Some(watched) => {
            for Watched { aio, pools } in watched.iter() {
                lines.push(aio.state().map_or_else(|| "aio: gone".to_owned(), |aio| aio.to_string()));
                let pools = pools.iter().map(PoolObserver::state);
                lines.extend(
                    pools.map(|pool| pool.map_or_else(|| "pool: gone or locked".to_owned(), |pool| pool.to_string())),
                );
            }
        }
    }
    lines.push(rcu::state().to_string());
    lines.push("qemu-img: trace: state ends".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_matched_as_the_reference_does() {
        for yes in ["aio", "aio*", "*", "a?o", "*o", "a*i*o", "**"] {
            assert!(matches(yes, "aio"), "{yes}");
        }
        for no in ["", "ai", "aioo", "?", "*x", "b*"] {
            assert!(!matches(no, "aio"), "{no}");
        }
    }

    #[test]
    fn values_are_parsed_and_what_is_unknown_is_named() {
        let enable = |patterns: &[&str], file: Option<&str>| {
            let pattern = |text: &&str| Pattern { text: (*text).to_owned(), place: None };
            Request::Enable { patterns: patterns.iter().map(pattern).collect(), file: file.map(str::to_owned) }
        };
        assert_eq!(parse("aio").expect("right"), enable(&["aio"], None));
        assert_eq!(parse("enable=a*,enable=-b,file=x").expect("right"), enable(&["a*", "-b"], Some("x")));
        assert_eq!(parse("").expect("right"), enable(&[], None));
        assert_eq!(parse("help").expect("right"), Request::List);
        let complaint = |value| parse(value).expect_err(value).into_text();
        assert_eq!(complaint("foo=bar"), "qemu-img: Invalid parameter 'foo'");
        assert_eq!(complaint("events=/nonexistent"), "qemu-img:/nonexistent: No such file or directory");
    }

    #[test]
    fn a_session_is_in_the_state_that_is_shown() {
        let session = crate::session::Session::new().expect("a session");
        let text = state();
        for part in ["aio: notify_me=0", "pool: name=block-io", "pool: name=block-cpu", "rcu: counter="] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        drop(session);
    }
}
