//! What commands work with: the open image, the requests under way, the output.
//!
//! A command runs to its end before the next one begins. Only the requests of `aio_read` and `aio_write` go on in the
//! background: they make progress, and their reports are printed, whenever a command waits for something.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use qemu_block::backend::BlockBackend;
use qemu_block::types::Perm;

use super::buffer::Placement;
use super::command::{Call, Command, Needs};
use super::commands::{self, Reader, listener};
use super::image::Image;
use super::output::Output;
use crate::output::messages;
use crate::session::Session;

/// A command did not do what it was asked to; it has said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// What a command returns.
pub(super) type Done = Result<(), Failed>;

/// What the whole program was told by its options.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    /// Where the memory of requests begins.
    pub(super) placement: Placement,
    /// `--image-opts`: images are named by options.
    pub(super) image_opts: bool,
}

/// The state between commands.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) session: Session,
    pub(super) settings: Settings,
    pub(super) out: Output,
    pub(super) image: Option<Image>,
    /// Requests under way; each ends in the text that it has to tell.
    requests: FuturesUnordered<BoxFuture<'static, String>>,
    /// Texts of requests that ended where nobody waited.
    unreported: Vec<String>,
    quit: bool,
}

impl Shell {
    /// A shell without an image.
    pub(super) fn new(session: Session, settings: Settings) -> Self {
        Self {
            session,
            settings,
            out: Output::new(),
            image: None,
            requests: FuturesUnordered::new(),
            unreported: Vec::new(),
            quit: false,
        }
    }

    /// Runs one line; an empty one does nothing.
    ///
    /// # Errors
    /// The command failed.
    pub(super) fn run_line(&mut self, line: &str) -> Done {
        let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let Some((name, words)) = words.split_first() else { return Ok(()) };
        let Some(command) = Command::find(commands::ALL, name) else {
            return Err(self.refuse_on_stderr(format!("command \"{name}\" not found")));
        };
        if command.needs != Needs::Nothing && self.image.is_none() {
            return Err(self.refuse_on_stderr("no file open, try 'help open'"));
        }
        if let Some(complaint) = command.objects_to(words.len(), name) {
            return Err(self.refuse_on_stderr(complaint));
        }
        if let Needs::Permission(perm) = command.needs {
            self.take_permission(perm)?;
        }
        (command.run)(self, &Call { command, name, words })
    }

    /// Whether the user wants to leave.
    pub(super) fn wants_to_quit(&self) -> bool {
        self.quit
    }

    /// Leaves after this command.
    pub(super) fn quit(&mut self) {
        self.quit = true;
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.unreported.is_empty()
    }

    /// The open image.
    ///
    /// # Errors
    /// There is none. The table of commands says which ones need one, so none of those sees this.
    pub(super) fn backend(&self) -> Result<Arc<BlockBackend>, Failed> {
        self.image.as_ref().map(Image::backend).ok_or(Failed)
    }

    /// The means to read from the open image.
    ///
    /// # Errors
    /// As [`Shell::backend`].
    pub(super) fn reader(&self) -> Result<Reader, Failed> {
        let image = self.image.as_ref().ok_or(Failed)?;
        let copy_on_read = image.recipe().copy_on_read;
        Ok(Reader { backend: image.backend(), placement: self.settings.placement, copy_on_read })
    }

    /// Prints a complaint to standard output, where this program has most of them.
    pub(super) fn refuse(&mut self, complaint: impl AsRef<str>) -> Failed {
        self.out.line(complaint.as_ref());
        Failed
    }

    /// Prints a complaint to standard error as it is.
    pub(super) fn refuse_on_stderr(&mut self, complaint: impl AsRef<str>) -> Failed {
        self.print_error(complaint.as_ref());
        Failed
    }

    /// Prints a complaint to standard error in the name of the program.
    pub(super) fn report_error(&mut self, complaint: impl AsRef<str>) -> Failed {
        self.refuse_on_stderr(format!("qemu-io: {}", complaint.as_ref()))
    }

    /// Prints a line to standard error.
    pub(super) fn print_error(&mut self, line: &str) {
        messages::print_error(line);
    }

    /// Starts a request in the background. It gets as far as it can without waiting.
    pub(super) fn start(&mut self, request: impl Future<Output = String> + Send + 'static) {
        self.requests.push(Box::pin(request));
        self.advance();
    }

    /// Lets the requests in the background get as far as they can without waiting; their reports come later.
    pub(super) fn advance(&mut self) {
        let Self { session, requests, unreported, .. } = self;
        session.block_on(poll_fn(|cx| {
            while let Poll::Ready(Some(text)) = requests.poll_next_unpin(cx) {
                unreported.push(text);
            }
            Poll::Ready(())
        }));
        tell_notices(self.image.as_ref(), &mut self.out);
    }

    /// Runs `future` to its end, and the requests in the background meanwhile.
    pub(super) fn wait<F: Future>(&mut self, future: F) -> F::Output {
        let Self { session, requests, unreported, out, image, .. } = self;
        let mut future = pin!(future);
        session.block_on(poll_fn(|cx| {
            report_finished(requests, unreported, out, cx);
            let polled = future.as_mut().poll(cx);
            tell_notices(image.as_ref(), out);
            polled
        }))
    }

    /// Runs the requests in the background until `condition` holds; false if all of them end and it does not.
    pub(super) fn wait_until(&mut self, condition: impl Fn() -> bool) -> bool {
        let Self { session, requests, unreported, out, image, .. } = self;
        session.block_on(poll_fn(|cx| {
            report_finished(requests, unreported, out, cx);
            tell_notices(image.as_ref(), out);
            match condition() {
                false if !requests.is_empty() => Poll::Pending,
                holds => Poll::Ready(holds),
            }
        }))
    }

    /// Runs all requests in the background to their ends.
    pub(super) fn drain(&mut self) {
        let Self { session, requests, unreported, out, image, .. } = self;
        session.block_on(poll_fn(|cx| {
            report_finished(requests, unreported, out, cx);
            tell_notices(image.as_ref(), out);
            if requests.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    /// As [`Shell::drain`], also for requests that are stopped: nobody will resume them any more. The reference waits for
    /// them for ever.
    pub(super) fn finish(&mut self) {
        let listener = self.image.as_ref().and_then(|image| listener(image.node()));
        // A request that goes on may come to the next breakpoint.
        while !self.is_idle() {
            if let Some(debugging) = listener.as_ref().and_then(|node| node.debugging()) {
                debugging.resume_all();
            }
            self.wait_for_progress();
        }
    }

    /// Runs the requests in the background until one of them has ended or is stopped.
    fn wait_for_progress(&mut self) {
        let before = self.requests.len();
        let Self { session, requests, unreported, out, image, .. } = self;
        session.block_on(poll_fn(|cx| {
            report_finished(requests, unreported, out, cx);
            let stopped = tell_notices(image.as_ref(), out);
            if requests.is_empty() || requests.len() < before || stopped { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    /// Makes sure that the image may be used so.
    fn take_permission(&mut self, perm: Perm) -> Done {
        let Some(image) = &mut self.image else { return Err(Failed) };
        let taken = self.session.block_on(image.take_permission(perm));
        taken.map_err(|error| self.report_error(error.chain()))
    }
}

/// Prints the reports of requests that have ended.
fn report_finished(
    requests: &mut FuturesUnordered<BoxFuture<'static, String>>,
    unreported: &mut Vec<String>,
    out: &mut Output,
    cx: &mut Context<'_>,
) {
    // Of requests that have ended the reference reports the last one first.
    unreported.drain(..).rev().for_each(|text| out.text(&text));
    while let Poll::Ready(Some(text)) = requests.poll_next_unpin(cx) {
        out.text(&text);
    }
}

/// Prints what a listener below the image has to tell about requests; whether that was anything.
fn tell_notices(image: Option<&Image>, out: &mut Output) -> bool {
    let listener = image.and_then(|image| listener(image.node()));
    let notices = listener.as_ref().and_then(|node| node.debugging()).map(|debugging| debugging.take_notices());
    let notices = notices.unwrap_or_default();
    notices.iter().for_each(|notice| out.line(notice));
    !notices.is_empty()
}
