//! The second phase: requests and the headers of replies.
//!
//! QEMU: `nbd_send_request`, `nbd_receive_reply` (nbd/client.c).

use bitflags::bitflags;

use super::{Fields, Violation};

const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
/// Marks the last chunk of a reply.
const CHUNK_DONE: u16 = 1 << 0;

/// Length of the part that the headers of both kinds of replies have in common; that of a simple reply.
pub(crate) const HEADER_LEN: usize = 16;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    WriteZeroes,
    BlockStatus,
}

impl Command {
    fn number(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::WriteZeroes => 6,
            Self::BlockStatus => 7,
        }
    }
}

bitflags! {
    /// How a request is to be done.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct CommandFlags: u16 {
        /// Durable when it is answered.
        const FUA = 1 << 0;
        /// Zeros must take up space.
        const NO_HOLE = 1 << 1;
        /// One extent is enough.
        const REQ_ONE = 1 << 3;
        /// Refuse zeros that are not faster than a write.
        const FAST_ZERO = 1 << 4;
    }
}

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) flags: CommandFlags,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Request {
    /// Length of the header in bytes.
    pub(crate) const LEN: usize = 28;

    /// The header under the number by which the answer will name it.
    pub(crate) fn encode(&self, cookie: u64) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.bits().to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.number().to_be_bytes());
        bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }
}

/// The first [`HEADER_LEN`] bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A simple reply; after a successful read the data follows.
    Simple { error: u32, cookie: u64 },
    /// A chunk of a structured reply; its length follows.
    Structured { chunk: Chunk, cookie: u64 },
}

/// What the header of a chunk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Nothing follows for this request.
    pub(crate) done: bool,
    /// What it holds.
    pub(crate) kind: u16,
    /// How much follows in bytes; [`parse_chunk_len`] reads it.
    pub(crate) len: u32,
}

/// Reads the beginning of a reply.
pub(crate) fn parse_head(bytes: [u8; HEADER_LEN], structured: bool) -> Result<Head, Violation> {
    let mut fields = Fields(&bytes);
    let short = Violation::of("Reply is too short");
    let Some(magic) = fields.u32() else { return Err(short) };
    match magic {
        SIMPLE_MAGIC => {
            let (error, cookie) = fields.u32().zip(fields.u64()).ok_or(short)?;
            Ok(Head::Simple { error, cookie })
        }
        STRUCTURED_MAGIC if structured => {
            let (flags, kind) = fields.u16().zip(fields.u16()).ok_or_else(|| short.clone())?;
            let cookie = fields.u64().ok_or(short)?;
            Ok(Head::Structured { chunk: Chunk { done: flags & CHUNK_DONE != 0, kind, len: 0 }, cookie })
        }
        STRUCTURED_MAGIC => Err(Violation::of("unexpected structured reply")),
        magic => Err(format!("invalid magic (got 0x{magic:x})").into()),
    }
}

/// Reads the last field of the header of a chunk.
pub(crate) fn parse_chunk_len(chunk: Chunk, bytes: [u8; 4]) -> Chunk {
    Chunk { len: u32::from_be_bytes(bytes), ..chunk }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_28_bytes_in_network_order() {
        let request = Request { command: Command::WriteZeroes, flags: CommandFlags::NO_HOLE, offset: 0x1000, len: 512 };
        let expected = b"\x25\x60\x95\x13\0\x02\0\x06\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\x10\0\0\0\x02\0";
        assert_eq!(&request.encode(9), expected);
    }

    #[test]
    fn heads_of_both_kinds_are_told_apart() {
        let simple = *b"\x67\x44\x66\x98\0\0\0\x05\0\0\0\0\0\0\0\x07";
        assert_eq!(parse_head(simple, true), Ok(Head::Simple { error: 5, cookie: 7 }));
        let structured = *b"\x66\x8e\x33\xef\0\x01\0\x02\0\0\0\0\0\0\0\x07";
        let chunk = Chunk { done: true, kind: 2, len: 0 };
        assert_eq!(parse_head(structured, true), Ok(Head::Structured { chunk, cookie: 7 }));
        assert_eq!(parse_chunk_len(chunk, [0, 0, 0, 12]).len, 12);
    }

    #[test]
    fn what_was_not_agreed_on_is_refused() {
        let structured = *b"\x66\x8e\x33\xef\0\x01\0\x02\0\0\0\0\0\0\0\x07";
        assert_eq!(parse_head(structured, false), Err(Violation::of("unexpected structured reply")));
        assert!(parse_head(*b"HTTP/1.1 400 Bad", true).is_err());
    }
}
