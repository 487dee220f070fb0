//! `break`, `remove_break`, `resume` and `wait_break`: requests are stopped where they would go on, and let go.
//!
//! That takes a `blkdebug` node below the image; see the filter of that name.

use std::sync::Arc;

use qemu_block::debug::{DebugEvent, DebugOps};
use qemu_block::error::errno_text;
use qemu_block::node::{ChildRole, Node};

use super::super::command::{Call, Command, Needs};
use super::super::shell::{Done, Failed, Shell};

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

/// Why a command cannot do what it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// No node below the image listens.
    NobodyListens,
    /// There is no such event, or no such request.
    NotFound,
}

impl Why {
    /// The C library's words for it.
    fn text(self) -> String {
        errno_text(match self {
            Self::NobodyListens => libc::ENOTSUP,
            Self::NotFound => libc::ENOENT,
        })
    }
}

/// The nearest node that listens: the image's own, or one of those that store it.
pub(in crate::qemu_io) fn listener(node: &Arc<Node>) -> Option<Arc<Node>> {
    if node.debugging().is_some() {
        return Some(Arc::clone(node));
    }
    node.child(ChildRole::Storage).and_then(|storage| listener(&storage))
}

/// Has the listener do something; false means that it found nothing to do it to.
fn tell(shell: &mut Shell, what: impl FnOnce(&dyn DebugOps) -> bool) -> Result<Result<(), Why>, Failed> {
    let node = listener(shell.backend()?.node());
    let done = match node.as_ref().and_then(|node| node.debugging()) {
        None => Err(Why::NobodyListens),
        Some(debugging) if what(debugging) => Ok(()),
        Some(_) => Err(Why::NotFound),
    };
    // A request that goes on does so before the next command runs.
    shell.advance();
    Ok(done)
}

fn set_break(shell: &mut Shell, call: &Call<'_>) -> Done {
    let [event, tag] = call.words else { return Err(call.usage(shell)) };
    let done = tell(shell, |debugging| match DebugEvent::parse(event) {
        Some(event) => {
            debugging.set_breakpoint(event, tag);
            true
        }
        None => false,
    })?;
    done.map_err(|why| shell.refuse(format!("Could not set breakpoint: {}", why.text())))
}

fn remove_break(shell: &mut Shell, call: &Call<'_>) -> Done {
    let tag = call.words.first().map_or("", String::as_str);
    let done = tell(shell, |debugging| debugging.remove_breakpoint(tag))?;
    done.map_err(|why| shell.refuse(format!("Could not remove breakpoint {tag}: {}", why.text())))
}

fn resume(shell: &mut Shell, call: &Call<'_>) -> Done {
    let tag = call.words.first().map_or("", String::as_str);
    let done = tell(shell, |debugging| debugging.resume(tag))?;
    done.map_err(|why| shell.refuse(format!("Could not resume request: {}", why.text())))
}

/// Where no request can ever be stopped there is nothing to wait for; the reference waits for ever.
fn wait_break(shell: &mut Shell, call: &Call<'_>) -> Done {
    let tag = call.words.first().map_or("", String::as_str);
    let node = listener(shell.backend()?.node());
    let Some(debugging) = node.as_ref().and_then(|node| node.debugging()) else {
        return Err(shell.refuse(format!("Could not wait for a request: {}", Why::NobodyListens.text())));
    };
    let stopped = shell.wait_until(|| debugging.is_suspended(tag));
    if stopped { Ok(()) } else { Err(shell.refuse(format!("No request is under way that could stop as {tag}"))) }
}
