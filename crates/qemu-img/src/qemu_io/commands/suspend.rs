//! `break`, `remove_break`, `resume` and `wait_break`: requests are stopped where they would go on, and let go.
//!
//! That takes a `blkdebug` node below the image; see the filter of that name.

use super::super::command::{Call, Command, Needs};
use super::super::shell::{Done, Shell};

pub(super) const BREAK: Command = Command {
    name: "break",
    alias: None,
    arguments: Some("event tag"),
    summary: "sets a breakpoint on event and tags the stopped request as tag",
    details: "",
    words: (2, Some(2)),
    needs: Needs::Image,
    run: set_break,
};

pub(super) const REMOVE_BREAK: Command = Command {
    name: "remove_break",
    alias: None,
    arguments: Some("tag"),
    summary: "remove a breakpoint by tag",
    details: "",
    words: (1, Some(1)),
    needs: Needs::Image,
    run: remove_break,
};

pub(super) const RESUME: Command = Command {
    name: "resume",
    alias: None,
    arguments: Some("tag"),
    summary: "resumes the request tagged as tag",
    details: "",
    words: (1, Some(1)),
    needs: Needs::Image,
    run: resume,
};

pub(super) const WAIT_BREAK: Command = Command {
    name: "wait_break",
    alias: None,
    arguments: Some("tag"),
    summary: "waits for the suspension of a request",
    details: "",
    words: (1, Some(1)),
    needs: Needs::Image,
    run: wait_break,
};

const UNSUPPORTED: &str = "Operation not supported";

fn set_break(shell: &mut Shell, _: &Call<'_>) -> Done {
    Err(shell.refuse(format!("Could not set breakpoint: {UNSUPPORTED}")))
}

fn remove_break(shell: &mut Shell, call: &Call<'_>) -> Done {
    let tag = call.words.first().map_or("", String::as_str);
    Err(shell.refuse(format!("Could not remove breakpoint {tag}: {UNSUPPORTED}")))
}

fn resume(shell: &mut Shell, _: &Call<'_>) -> Done {
    Err(shell.refuse(format!("Could not resume request: {UNSUPPORTED}")))
}

fn wait_break(shell: &mut Shell, _: &Call<'_>) -> Done {
    Err(shell.refuse(format!("Could not wait for a request: {UNSUPPORTED}")))
}
