//! `--trace`: what the program shows of its inner life.
//!
//! There is one event so far, `aio`: on SIGUSR2 the state of the event loop, of read-copy-update and of the worker pools
//! is written to standard error. It is meant for a program that hangs, so a thread of its own waits for the signal, and
//! what it looks at is looked at without waiting for anybody. Without the option there is no such thread, and the signal
//! does what it always does.

use nix::sys::signal::{SigSet, Signal};
use qemu_block::aio::PoolObserver;
use qemu_util::aio::AioObserver;
use qemu_util::primitive::{Mutex, thread};
use qemu_util::rcu;

use crate::failure::Failure;
use crate::output::messages;

/// The names of all trace events.
pub(crate) const EVENTS: [&str; 1] = ["aio"];

/// What is looked at; sessions add themselves.
static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

/// The parts of one session.
#[derive(Debug)]
struct Watched {
    aio: AioObserver,
    pools: Vec<PoolObserver>,
}

/// What the option's value asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `help`: the list of events.
    List,
    /// Patterns that were given; there may be none.
    Enable(Vec<String>),
}

/// Parses the value of `--trace`: `[[enable=]PATTERN]…`.
///
/// # Errors
/// For parameters that do not exist, and for those that are not supported.
///
/// QEMU: `trace_opt_parse` (trace/control.c)
pub(crate) fn parse(value: &str) -> Result<Request, Failure> {
    let mut patterns = Vec::new();
    for word in value.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            None if word == "help" || word == "?" => return Ok(Request::List),
            None | Some(("enable", _)) => patterns.push(word.strip_prefix("enable=").unwrap_or(word).to_owned()),
            Some((key @ ("events" | "file"), _)) => {
                return Err(Failure::new(format!("--trace: the parameter '{key}' is not supported")));
            }
            Some((key, _)) => return Err(Failure::new(format!("Invalid parameter '{key}'"))),
        }
    }
    Ok(Request::Enable(patterns))
}

/// Turns on the events that `patterns` name. To be called before any thread exists.
///
/// A name that does not exist is worth a warning; a pattern that matches nothing is not.
///
/// # Errors
/// If a thread is needed and cannot be started.
pub(crate) fn enable(patterns: &[String]) -> Result<(), Failure> {
    let mut aio = false;
    for pattern in patterns {
        // The reference lets a later pattern turn events off again.
        let (on, pattern) = pattern.strip_prefix('-').map_or((true, pattern.as_str()), |rest| (false, rest));
        let matched = EVENTS.iter().any(|event| matches(pattern, event));
        if matched {
            aio = on;
        } else if !pattern.contains(['*', '?']) {
            messages::warn(&format!("trace event '{pattern}' does not exist"));
        }
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
        let enable = |patterns: &[&str]| Request::Enable(patterns.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(parse("aio").expect("right"), enable(&["aio"]));
        assert_eq!(parse("enable=a*,enable=-b").expect("right"), enable(&["a*", "-b"]));
        assert_eq!(parse("").expect("right"), enable(&[]));
        assert_eq!(parse("help").expect("right"), Request::List);
        for (wrong, complaint) in [
            ("foo=bar", "qemu-img: Invalid parameter 'foo'"),
            ("events=x", "qemu-img: --trace: the parameter 'events' is not supported"),
            ("enable=x,file=y", "qemu-img: --trace: the parameter 'file' is not supported"),
        ] {
            let text = parse(wrong).expect_err(wrong).into_text();
            assert_eq!(text, complaint);
        }
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
