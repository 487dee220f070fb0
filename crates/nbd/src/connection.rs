//! One connection: many orders under way at the same time, answered in any order.
//!
//! Two threads serve it. The reader takes replies off the socket and wakes whoever waits for them; the writer sends what
//! is queued. Nobody else blocks: whoever submits an order sends a short header at once if there is room and nobody is
//! before it, and otherwise queues the order for the writer.
//!
//! | who waits | for what | who wakes |
//! |---|---|---|
//! | a future | its answer | the reader, with the answer; [`Connection::end`], with the order |
//! | the writer | something to send ([`Connection::outgoing`](Connection)) | [`Connection::submit`]; `end` |
//! | the writer | room in the socket | the server by reading; `end`, by shutting the socket down |
//! | the reader | bytes | the server; `end`, by shutting the socket down |
//!
//! `end` can be called from anywhere, any number of times. An order that arrives after it is refused; one that the reader
//! holds at that moment is given back by the reader. So every order is either answered or given back.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};

use qemu_util::buf::IoVec;
use qemu_util::primitive::{Condvar, Mutex};
use qemu_util::sync::oneshot;

use crate::negotiate::Export;
use crate::order::{Body, Finished, Order, Pending};
use crate::protocol::{
    Chunk, Command, CommandFlags, HEADER_LEN, Head, Payload, Request, Violation, parse_chunk_len, parse_error,
    parse_head, parse_hole, parse_status, plan,
};
use crate::socket::Socket;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The stream ended or failed.
    Lost,
    /// The server broke the protocol.
    Violation(Violation),
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A connection that takes orders.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    structured: bool,
    context: Option<u32>,
    /// Extents end at multiples of this.
    block: u32,
    state: Mutex<State>,
    /// Signalled when there is something to send, and at the end.
    outgoing: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Orders that are not answered, without the one that the reader holds.
    pending: HashMap<u64, Pending>,
    /// How many orders are not answered.
    load: usize,
    cookie_last: u64,
    queue: VecDeque<Outgoing>,
    /// The writer is sending what it has taken from the queue.
    writing: bool,
    ended: bool,
}

/// A request that is to be sent.
#[derive(Debug)]
struct Outgoing {
    header: [u8; Request::LEN],
    /// Bytes of the header that are sent already.
    sent: usize,
    data: IoVec,
}

/// Orders that a connection did not live to see answered. They are given back when this is dropped, so that whoever ends
/// a connection can set things right before anybody notices.
#[derive(Debug)]
#[must_use = "the orders are given back when it is dropped"]
pub(crate) struct Orphans(Vec<Pending>);

impl Drop for Orphans {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Pending::lose);
    }
}

impl Connection {
    /// A connection over a socket on which `export` was negotiated. Its threads are the caller's to start.
    pub(crate) fn new(socket: Socket, export: &Export) -> Self {
        Self {
            socket,
            structured: export.structured,
            context: export.context,
            block: export.blocks.map_or(1, |blocks| blocks.minimum),
            state: Mutex::default(),
            outgoing: Condvar::new(),
        }
    }

    /// How many orders are not answered yet.
    pub(crate) fn load(&self) -> usize {
        self.state.lock().load
    }

    /// Takes an order, or gives it back if the connection has ended.
    pub(crate) fn submit(&self, order: Order) -> Result<oneshot::Receiver<Finished>, Order> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        if state.ended {
            return Err(order);
        }
        state.cookie_last += 1;
        let cookie = state.cookie_last;
        let header = order.request.encode(cookie);
        let data = match &order.body {
            Body::Write(data) => data.clone(),
            Body::None | Body::Read(_) => IoVec::default(),
        };
        state.pending.insert(cookie, Pending::new(order, sender));
        state.load += 1;
        // The lock keeps requests from mixing; a few bytes into a socket without waiting are as quick as queueing them.
        let is_free = state.queue.is_empty() && !state.writing && data.is_empty();
        let sent = if is_free { self.socket.send_now(&header) } else { 0 };
        if sent < Request::LEN || !data.is_empty() {
            state.queue.push_back(Outgoing { header, sent, data });
            drop(state);
            self.outgoing.notify_one();
        }
        Ok(receiver)
    }

    /// Says good-bye if that is possible at once. Nothing is to be submitted any more.
    pub(crate) fn say_goodbye(&self) {
        let state = self.state.lock();
        if !state.ended && !state.writing && state.queue.is_empty() {
            let goodbye = Request { command: Command::Disconnect, flags: CommandFlags::empty(), offset: 0, len: 0 };
            // A courtesy: the end of the stream says the same.
            self.socket.send_now(&goodbye.encode(0));
        }
    }

    /// Ends the connection: its threads stop, and what is not answered is given back.
    pub(crate) fn end(&self) -> Orphans {
        let mut state = self.state.lock();
        state.ended = true;
        let orphans = state.pending.drain().map(|(_, pending)| pending).collect();
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        self.socket.shut_down();
        self.outgoing.notify_all();
        drop(queue);
        Orphans(orphans)
    }

    /// The life of the writer.
    pub(crate) fn write_requests(&self) -> io::Result<()> {
        while let Some(batch) = self.next_batch() {
            let mut parts = Vec::new();
            for outgoing in &batch {
                parts.push(IoSlice::new(&outgoing.header[outgoing.sent..]));
                parts.extend(outgoing.data.parts().iter().map(|part| IoSlice::new(part)));
            }
            self.socket.send(&mut parts)?;
            self.state.lock().writing = false;
        }
        Ok(())
    }

    /// Everything that is queued, as soon as that is anything; none at the end.
    fn next_batch(&self) -> Option<VecDeque<Outgoing>> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return None;
            }
            if !state.queue.is_empty() {
                state.writing = true;
                return Some(std::mem::take(&mut state.queue));
            }
            state = self.outgoing.wait(state);
        }
    }

    /// The life of the reader, which ends with the connection.
    pub(crate) fn read_replies(&self) -> Ending {
        loop {
            if let Err(ending) = self.read_reply() {
                return ending;
            }
        }
    }

    fn read_reply(&self) -> Result<(), Ending> {
        let mut head = [0; HEADER_LEN];
        self.socket.receive(&mut head)?;
        let head = parse_head(head, self.structured)?;
        let (Head::Simple { cookie, .. } | Head::Structured { cookie, .. }) = head;
        let Some(mut pending) = self.state.lock().pending.remove(&cookie) else {
            return Err(Violation::of("unexpected cookie value").into());
        };
        let read = match head {
            Head::Simple { error, .. } => self.read_simple(&mut pending, error),
            Head::Structured { chunk, .. } => self.read_chunk(&mut pending, chunk),
        };
        match read {
            Ok(true) => {
                self.state.lock().load -= 1;
                pending.answer();
                Ok(())
            }
            Ok(false) => {
                self.put_back(cookie, pending);
                Ok(())
            }
            Err(ending) => {
                self.put_back(cookie, pending);
                Err(ending)
            }
        }
    }

    /// Puts an order back that is not answered completely; if the connection has ended meanwhile, gives it back.
    fn put_back(&self, cookie: u64, pending: Pending) {
        let mut state = self.state.lock();
        if !state.ended {
            state.pending.insert(cookie, pending);
            return;
        }
        drop(state);
        pending.lose();
    }

    /// Reads the rest of a simple reply. The answer is complete with it.
    fn read_simple(&self, pending: &mut Pending, error: u32) -> Result<bool, Ending> {
        if pending.begin_simple(error, self.structured)? {
            pending.fill(0..pending.buffer_len(), |part| self.socket.receive(part))??;
        }
        Ok(true)
    }

    /// Reads the rest of a chunk, and says whether it was the last one.
    fn read_chunk(&self, pending: &mut Pending, chunk: Chunk) -> Result<bool, Ending> {
        let chunk = parse_chunk_len(chunk, self.receive()?);
        pending.begin_chunk();
        let expected = pending.expected();
        match plan(chunk, expected)? {
            Payload::Nothing => {}
            Payload::Data { len } => {
                let offset = u64::from_be_bytes(self.receive()?);
                let range = expected.locate(offset, len)?;
                pending.fill(range, |part| self.socket.receive(part))??;
            }
            Payload::Hole => {
                let range = parse_hole(self.receive()?, expected)?;
                pending.fill(range, |part| {
                    part.fill(0);
                    Ok(())
                })??;
            }
            Payload::Status { len } => {
                let payload = self.receive_vec(len)?;
                let unasked = Violation::of("Unexpected NBD_REPLY_TYPE_BLOCK_STATUS chunk");
                pending.found(parse_status(&payload, self.context.ok_or(unasked)?, self.block)?)?;
            }
            Payload::Error { len } => pending.fail(parse_error(&self.receive_vec(len)?)?),
        }
        if chunk.done {
            pending.check_complete()?;
        }
        Ok(chunk.done)
    }

    fn receive<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.socket.receive(&mut bytes)?;
        Ok(bytes)
    }

    fn receive_vec(&self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.socket.receive(&mut bytes)?;
        Ok(bytes)
    }
}
