//! The NBD protocol as bytes and values. Nothing here does I/O, and everything that a server sent is checked here.
//!
//! | file | concept |
//! |---|---|
//! | `handshake` | greeting, options and their replies, the facts about an export |
//! | `message` | requests and the headers of replies |
//! | `chunk` | what a chunk of a structured reply may hold, depending on the request it answers |
//! | `coverage` | which bytes of a read have arrived |
//!
//! The specification: doc/proto.md of NetworkBlockDevice/nbd. QEMU: include/block/nbd.h.

mod chunk;
mod coverage;
mod handshake;
mod message;

use std::borrow::Cow;

pub(crate) use chunk::{Expected, Payload, Span, StatusExtent, parse_error, parse_hole, parse_status, plan};
pub(crate) use coverage::Coverage;
pub(crate) use handshake::{
    BlockSizes, CLIENT_FIXED_NEWSTYLE, CLIENT_NO_ZEROES, ExportFlags, Info, OLDSTYLE_MAGIC, OPTION_MAGIC, Opt,
    OptionReply, ReplyKind, SERVER_FIXED_NEWSTYLE, SERVER_MAGIC, SERVER_NO_ZEROES, go_data, meta_context_data,
    option_name, option_request, parse_meta_context, parse_server_name, reply_name,
};
pub(crate) use message::{Chunk, Command, CommandFlags, HEADER_LEN, Head, Request, parse_chunk_len, parse_head};

/// Longest name of an export or of a metadata context, in bytes.
pub(crate) const STRING_MAX: usize = 4096;

/// Longest read or write, in bytes, whatever the server allows.
pub(crate) const PAYLOAD_MAX: u32 = 32 << 20;

/// The server broke the protocol: nothing more that it says can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) Cow<'static, str>);

impl Violation {
    /// A violation with a text that is always the same.
    pub(crate) const fn of(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Violation {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

/// Takes big-endian numbers off the front of received bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next bytes, if there are so many.
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// The next 16 bits.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32 bits.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 64 bits.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}
