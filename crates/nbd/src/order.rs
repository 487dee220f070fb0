//! One request on its way: what is asked for, what has arrived of the answer, and who waits for it.

use std::io;
use std::ops::Range;

use qemu_util::buf::{IoVec, IoVecMut};
use qemu_util::sync::oneshot;

use crate::protocol::{Command, CommandFlags, Coverage, Expected, Request, Span, StatusExtent, Violation};

/// A request together with its data. It owns everything, so that it can be sent again over another connection.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) request: Request,
    pub(crate) body: Body,
}

/// What belongs to a request besides its header.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing.
    None,
    /// The data to be written.
    Write(IoVec),
    /// Where the data that is read goes to.
    Read(IoVecMut),
}

/// The answer to an order.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The server's number of what went wrong; 0 if nothing did.
    pub(crate) error: u32,
    /// The buffer of the order; filled if there was no error.
    pub(crate) body: Body,
    /// What a [`Command::BlockStatus`] found.
    pub(crate) status: Option<StatusExtent>,
}

/// What became of an order.
#[derive(Debug)]
pub(crate) enum Finished {
    /// The server has answered.
    Answered(Answer),
    /// The connection ended first. Whether the server has done what was asked for is not known.
    Lost(Order),
}

impl Order {
    /// An order without data.
    pub(crate) fn plain(command: Command, flags: CommandFlags, offset: u64, len: u32) -> Self {
        Self { request: Request { command, flags, offset, len }, body: Body::None }
    }

    fn expected(&self) -> Expected {
        let Request { command, offset, len, .. } = self.request;
        match command {
            Command::Read => Expected::Data(Span { offset, len }),
            Command::BlockStatus => Expected::Status,
            _ => Expected::Outcome,
        }
    }
}

/// An order that was sent and is not answered completely.
#[derive(Debug)]
pub(crate) struct Pending {
    order: Order,
    coverage: Coverage,
    error: u32,
    status: Option<StatusExtent>,
    /// A chunk has come, so that the rest comes in chunks, too.
    in_chunks: bool,
    sender: oneshot::Sender<Finished>,
}

impl Pending {
    /// An order whose answer goes to `sender`.
    pub(crate) fn new(order: Order, sender: oneshot::Sender<Finished>) -> Self {
        Self { order, coverage: Coverage::default(), error: 0, status: None, in_chunks: false, sender }
    }

    /// What the answer may consist of.
    pub(crate) fn expected(&self) -> Expected {
        self.order.expected()
    }

    /// Notes that a chunk has come.
    pub(crate) fn begin_chunk(&mut self) {
        self.in_chunks = true;
    }

    /// Notes that the server has failed to do something; the first failure counts.
    pub(crate) fn fail(&mut self, error: u32) {
        if self.error == 0 {
            self.error = error;
        }
    }

    /// Notes a simple reply, and says whether the data of a read follows it.
    pub(crate) fn begin_simple(&mut self, error: u32, structured: bool) -> Result<bool, Violation> {
        if self.in_chunks {
            return Err(Violation::of("Protocol error: simple reply when structured reply chunk was expected"));
        }
        self.fail(error);
        match (error, self.expected()) {
            (0, Expected::Data(_)) if structured => {
                Err(Violation::of("Protocol error: simple reply when structured reply chunk was expected"))
            }
            (0, Expected::Data(_)) => Ok(true),
            (0, Expected::Status) => Err(Violation::of("Server did not reply with any status extents")),
            _ => Ok(false),
        }
    }

    /// Hands every piece of the part `range` of the buffer to `fill`. No byte of the buffer is filled twice.
    pub(crate) fn fill(
        &mut self,
        range: Range<usize>,
        mut fill: impl FnMut(&mut [u8]) -> io::Result<()>,
    ) -> Result<io::Result<()>, Violation> {
        let Body::Read(buf) = &mut self.order.body else {
            return Err(Violation::of("Unexpected NBD_REPLY_TYPE_OFFSET_DATA chunk"));
        };
        self.coverage.add(range.clone())?;
        let mut at = 0;
        for part in buf.parts_mut() {
            let (start, end) = (range.start.max(at), range.end.min(at + part.len()));
            if start < end
                && let Err(error) = fill(&mut part[start - at..end - at])
            {
                return Ok(Err(error));
            }
            at += part.len();
        }
        Ok(Ok(()))
    }

    /// Length of the buffer of a read.
    pub(crate) fn buffer_len(&self) -> usize {
        match &self.order.body {
            Body::Read(buf) => buf.len(),
            Body::None | Body::Write(_) => 0,
        }
    }

    /// Notes what a request for the status has found.
    pub(crate) fn found(&mut self, status: StatusExtent) -> Result<(), Violation> {
        match self.status.replace(status) {
            Some(_) => Err(Violation::of("Several BLOCK_STATUS chunks in reply")),
            None => Ok(()),
        }
    }

    /// Checks that nothing is missing at the end of the answer.
    pub(crate) fn check_complete(&self) -> Result<(), Violation> {
        match self.expected() {
            _ if self.error != 0 => Ok(()),
            Expected::Data(_) if !self.coverage.is_complete(self.buffer_len()) => {
                Err(Violation::of("Protocol error: server did not send all bytes of a read"))
            }
            Expected::Status if self.status.is_none() => {
                Err(Violation::of("Server did not reply with any status extents"))
            }
            _ => Ok(()),
        }
    }

    /// Gives the answer to whoever waits, if there is still somebody.
    pub(crate) fn answer(self) {
        let answer = Answer { error: self.error, body: self.order.body, status: self.status };
        drop(self.sender.send(Finished::Answered(answer)));
    }

    /// Gives the order back.
    pub(crate) fn lose(self) {
        drop(self.sender.send(Finished::Lost(self.order)));
    }
}
