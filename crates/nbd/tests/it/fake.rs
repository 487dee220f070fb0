//! A server that does what a test says: the other side of the protocol, without manners.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

pub(crate) const READ_ONLY: u16 = 1 << 1;
pub(crate) const SEND_FLUSH: u16 = 1 << 2;
pub(crate) const MULTI_CONN: u16 = 1 << 8;

/// What the server says about its export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) size: u64,
    pub(crate) flags: u16,
    pub(crate) structured: bool,
    pub(crate) context: bool,
    pub(crate) context_id: u32,
}

impl Default for Offer {
    fn default() -> Self {
        Self { size: 1 << 20, flags: SEND_FLUSH, structured: true, context: true, context_id: 0x2a }
    }
}

/// A thread that plays the server.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    thread: JoinHandle<()>,
}

impl Fake {
    /// Lets `script` play on a socket at `path`.
    pub(crate) fn new(path: &Path, script: impl FnOnce(&UnixListener) + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("the path is free");
        let thread = std::thread::spawn(move || script(&listener));
        Self { socket: path.to_owned(), thread }
    }

    /// The options that lead to it.
    pub(crate) fn options(&self) -> String {
        format!("driver=nbd,path={}", self.socket.display())
    }

    /// Waits until the script is over.
    pub(crate) fn join(self) {
        self.thread.join().expect("the script found what it expects");
    }
}

/// The next client.
pub(crate) fn accept(listener: &UnixListener) -> Peer {
    Peer { stream: listener.accept().expect("a client").0 }
}

/// A client, as the server sees it.
pub(crate) struct Peer {
    stream: UnixStream,
}

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) command: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Peer {
    /// Sends bytes; the client may be gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    fn receive<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.receive().map(u32::from_be_bytes)
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) {
        let len = u32::try_from(data.len()).expect("short");
        let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
        [option, kind, len].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
        bytes.extend(data);
        self.send(&bytes);
    }

    /// Negotiates until the client sends requests; none if it leaves before.
    pub(crate) fn negotiate(mut self, offer: Offer) -> Option<Self> {
        self.send(b"NBDMAGICIHAVEOPT\0\x03");
        self.u32()?;
        loop {
            self.receive::<8>()?;
            let (option, len) = (self.u32()?, self.u32()?);
            let mut data = vec![0; usize::try_from(len).expect("short")];
            self.stream.read_exact(&mut data).ok()?;
            match option {
                7 => {
                    let mut info = vec![0, 0];
                    info.extend(offer.size.to_be_bytes());
                    info.extend((offer.flags | 1).to_be_bytes());
                    self.reply(7, 3, &info);
                    self.reply(7, 1, b"");
                    return Some(self);
                }
                8 if offer.structured => self.reply(8, 1, b""),
                10 if offer.context => {
                    let mut context = offer.context_id.to_be_bytes().to_vec();
                    context.extend(b"base:allocation");
                    self.reply(10, 4, &context);
                    self.reply(10, 1, b"");
                }
                other => self.reply(other, 0x8000_0001, b""),
            }
        }
    }

    /// The next request; none at the end.
    pub(crate) fn request(&mut self) -> Option<Asked> {
        let head = self.receive::<28>()?;
        assert_eq!(head[..4], [0x25, 0x60, 0x95, 0x13], "the magic of a request");
        let number = |range: std::ops::Range<usize>| {
            head[range].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let short = |range| u32::try_from(number(range)).expect("32 bits");
        let asked = Asked {
            command: u16::try_from(short(6..8)).expect("16 bits"),
            cookie: number(8..16),
            offset: number(16..24),
            len: short(24..28),
        };
        if asked.command == 1 {
            let mut data = vec![0; usize::try_from(asked.len).expect("fits")];
            self.stream.read_exact(&mut data).ok()?;
        }
        (asked.command != 2).then_some(asked)
    }

    /// The next request, which must be a read.
    pub(crate) fn read_request(&mut self) -> Asked {
        let asked = self.request().expect("a request");
        assert_eq!(asked.command, 0, "a read");
        asked
    }

    /// Sends a chunk.
    pub(crate) fn chunk(&mut self, flags: u16, kind: u16, cookie: u64, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("short");
        self.chunk_header(flags, kind, cookie, len);
        self.send(payload);
    }

    /// Sends the header of a chunk.
    pub(crate) fn chunk_header(&mut self, flags: u16, kind: u16, cookie: u64, len: u32) {
        let mut bytes = vec![0x66, 0x8e, 0x33, 0xef];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        self.send(&bytes);
    }

    /// Sends a simple reply.
    pub(crate) fn simple(&mut self, error: u32, cookie: u64) {
        let mut bytes = vec![0x67, 0x44, 0x66, 0x98];
        bytes.extend(error.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        self.send(&bytes);
    }

    /// Answers a read with bytes that are all `value`.
    pub(crate) fn give(&mut self, asked: &Asked, value: u8) {
        let mut payload = asked.offset.to_be_bytes().to_vec();
        payload.resize(8 + usize::try_from(asked.len).expect("fits"), value);
        self.chunk(1, 1, asked.cookie, &payload);
    }

    /// Answers reads, and everything else with success, until the client leaves.
    pub(crate) fn serve(mut self, value: u8) {
        while let Some(asked) = self.request() {
            match asked.command {
                0 => self.give(&asked, value),
                _ => self.simple(0, asked.cookie),
            }
        }
    }
}
