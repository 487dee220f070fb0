//! Chunks of structured replies: what they may hold depends on the request that they answer.
//!
//! QEMU: `nbd_parse_offset_hole_payload` and its neighbours (block/nbd.c).

use super::message::Chunk;
use super::{Fields, Violation};

const KIND_NONE: u16 = 0;
const KIND_OFFSET_DATA: u16 = 1;
const KIND_OFFSET_HOLE: u16 = 2;
const KIND_BLOCK_STATUS: u16 = 5;
/// Kinds with this bit say that something failed.
const KIND_ERROR: u16 = 1 << 15;

/// Longest description of an error that is read, in bytes, with its own header. A text may have 4096.
const ERROR_LEN_MAX: u32 = 6 + 4096 + 8;
/// Longest description of extents that is read, in bytes. We ask for one; some servers say more.
const STATUS_LEN_MAX: u32 = 4 + 8 * 4096;

/// The range of an export that a request is about, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its first byte.
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) len: u32,
}

impl Span {
    /// Where the part of the export at `offset` lies in the buffer of the request.
    fn locate(self, offset: u64, len: u32) -> Result<std::ops::Range<usize>, Violation> {
        let outside = Violation::of("Protocol error: server sent chunk exceeding requested region");
        let start = offset.checked_sub(self.offset).ok_or_else(|| outside.clone())?;
        let end = start.checked_add(u64::from(len)).filter(|end| *end <= u64::from(self.len) && len > 0);
        let to_usize = |at: u64| usize::try_from(at).ok();
        to_usize(start).zip(end.and_then(to_usize)).map(|(start, end)| start..end).ok_or(outside)
    }
}

/// What the answer to a request may consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The bytes of a range.
    Data(Span),
    /// Extents.
    Status,
    /// Nothing but success or failure.
    Outcome,
}

/// What is to be read after the header of a chunk, and how it is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing.
    Nothing,
    /// An offset of 8 bytes and so many bytes of data.
    Data { len: u32 },
    /// 12 bytes for [`parse_hole`].
    Hole,
    /// So many bytes for [`parse_status`].
    Status { len: usize },
    /// So many bytes for [`parse_error`].
    Error { len: usize },
}

/// Decides what follows the header of a chunk. What comes back is bounded, so that it can be read without further thought.
pub(crate) fn plan(chunk: Chunk, expected: Expected) -> Result<Payload, Violation> {
    let wrong_len = |name: &str| Violation::from(format!("Protocol error: invalid payload for {name}"));
    let bounded = |len: u32| usize::try_from(len).unwrap_or(usize::MAX);
    match (chunk.kind, expected) {
        (KIND_NONE, _) if !chunk.done => {
            Err(Violation::of("Protocol error: NBD_REPLY_TYPE_NONE chunk without NBD_REPLY_FLAG_DONE flag set"))
        }
        (KIND_NONE, _) if chunk.len != 0 => {
            Err(Violation::of("Protocol error: NBD_REPLY_TYPE_NONE chunk with nonzero length"))
        }
        (KIND_NONE, _) => Ok(Payload::Nothing),
        (KIND_OFFSET_DATA, Expected::Data(range)) => match chunk.len.checked_sub(8) {
            None | Some(0) => Err(wrong_len("NBD_REPLY_TYPE_OFFSET_DATA")),
            Some(len) if len > range.len => {
                Err(Violation::of("Protocol error: server sent chunk exceeding requested region"))
            }
            Some(len) => Ok(Payload::Data { len }),
        },
        (KIND_OFFSET_HOLE, Expected::Data(_)) if chunk.len == 12 => Ok(Payload::Hole),
        (KIND_OFFSET_HOLE, Expected::Data(_)) => Err(wrong_len("NBD_REPLY_TYPE_OFFSET_HOLE")),
        (KIND_BLOCK_STATUS, Expected::Status) if (12..=STATUS_LEN_MAX).contains(&chunk.len) => {
            Ok(Payload::Status { len: bounded(chunk.len) })
        }
        (KIND_BLOCK_STATUS, Expected::Status) => Err(wrong_len("NBD_REPLY_TYPE_BLOCK_STATUS")),
        (kind, _) if kind & KIND_ERROR != 0 => match chunk.len {
            6..=ERROR_LEN_MAX => Ok(Payload::Error { len: bounded(chunk.len) }),
            _ => Err(wrong_len("structured error")),
        },
        (kind, _) => Err(format!("Unexpected reply type: {kind}").into()),
    }
}

impl Expected {
    /// Where `len` bytes of data that begin at `offset` of the export belong in the buffer.
    pub(crate) fn locate(self, offset: u64, len: u32) -> Result<std::ops::Range<usize>, Violation> {
        match self {
            Self::Data(range) => range.locate(offset, len),
            Self::Status | Self::Outcome => Err(Violation::of("Unexpected NBD_REPLY_TYPE_OFFSET_DATA chunk")),
        }
    }
}

/// Where the buffer of a read is to be filled with zeros.
pub(crate) fn parse_hole(payload: [u8; 12], expected: Expected) -> Result<std::ops::Range<usize>, Violation> {
    let mut fields = Fields(&payload);
    let wrong = Violation::of("Protocol error: invalid payload for NBD_REPLY_TYPE_OFFSET_HOLE");
    let (offset, len) = fields.u64().zip(fields.u32()).ok_or(wrong)?;
    expected.locate(offset, len)
}

/// The errno that the server gives; its text is left aside.
pub(crate) fn parse_error(payload: &[u8]) -> Result<u32, Violation> {
    let mut fields = Fields(payload);
    let short = Violation::of("Protocol error: invalid payload for structured error");
    let (error, text_len) = fields.u32().zip(fields.u16()).ok_or(short)?;
    if error == 0 {
        return Err(Violation::of("Protocol error: server sent structured error chunk with error = 0"));
    }
    if usize::from(text_len) > fields.0.len() {
        return Err(Violation::of("Protocol error: server sent structured error chunk with incorrect message size"));
    }
    Ok(error)
}

/// The first extent of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusExtent {
    /// Its length in bytes, not zero; may exceed what was asked for.
    pub(crate) len: u32,
    /// Nothing is allocated there; bit 0 of the flags of `base:allocation`.
    pub(crate) hole: bool,
    /// It reads as zeros; bit 1.
    pub(crate) zero: bool,
}

/// Reads the extents of one context and gives the first, together with those after it that are alike.
pub(crate) fn parse_status(payload: &[u8], context: u32, minimum: u32) -> Result<StatusExtent, Violation> {
    let mut fields = Fields(payload);
    let wrong = || Violation::of("Protocol error: invalid payload for NBD_REPLY_TYPE_BLOCK_STATUS");
    let id = fields.u32().ok_or_else(wrong)?;
    if id != context {
        let message = "Protocol error: unexpected context id";
        return Err(
            format!("{message} {id} for NBD_REPLY_TYPE_BLOCK_STATUS, when negotiated context id is {context}").into()
        );
    }
    let (len, flags) = fields.u32().zip(fields.u32()).ok_or_else(wrong)?;
    if len == 0 {
        return Err(Violation::of("Protocol error: server sent status chunk with zero length"));
    }
    let mut total = len;
    while let Some((len, more)) = fields.u32().zip(fields.u32()) {
        match total.checked_add(len) {
            Some(sum) if more == flags => total = sum,
            _ => break,
        }
    }
    let minimum = minimum.max(1);
    let extent = StatusExtent { len: total, hole: flags & 1 != 0, zero: flags & 2 != 0 };
    // Extents that end inside a block are not allowed, but there are servers that see the end of a file like that. A
    // part of a block is plain data: always true, if less than could be known.
    Ok(match total / minimum * minimum {
        0 => StatusExtent { len: minimum, hole: false, zero: false },
        len => StatusExtent { len, ..extent },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Expected = Expected::Data(Span { offset: 4096, len: 1024 });

    fn chunk(kind: u16, len: u32) -> Chunk {
        Chunk { done: true, kind, len }
    }

    #[test]
    fn each_request_is_answered_by_its_own_kinds_only() {
        assert_eq!(plan(chunk(KIND_OFFSET_DATA, 1032), READ), Ok(Payload::Data { len: 1024 }));
        assert_eq!(plan(chunk(KIND_OFFSET_HOLE, 12), READ), Ok(Payload::Hole));
        assert_eq!(plan(chunk(KIND_NONE, 0), READ), Ok(Payload::Nothing));
        assert_eq!(plan(chunk(KIND_BLOCK_STATUS, 12), Expected::Status), Ok(Payload::Status { len: 12 }));
        for expected in [Expected::Status, Expected::Outcome] {
            assert!(plan(chunk(KIND_OFFSET_DATA, 1032), expected).is_err());
            assert!(plan(chunk(KIND_OFFSET_HOLE, 12), expected).is_err());
        }
        assert!(plan(chunk(KIND_BLOCK_STATUS, 12), READ).is_err());
        assert!(plan(chunk(6, 12), READ).is_err());
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_read() {
        for (kind, len) in [(1, 8), (1, 7), (1, 1033), (1, u32::MAX), (2, 11), (2, 13), (0, 1)] {
            assert!(plan(chunk(kind, len), READ).is_err(), "{kind} {len}");
        }
        for len in [0, 11, u32::MAX] {
            assert!(plan(chunk(KIND_BLOCK_STATUS, len), Expected::Status).is_err(), "{len}");
        }
        for len in [0, 5, 65536, u32::MAX] {
            assert!(plan(chunk(KIND_ERROR | 1, len), Expected::Outcome).is_err(), "{len}");
        }
        let open_end = Chunk { done: false, kind: KIND_NONE, len: 0 };
        assert!(plan(open_end, READ).is_err());
    }

    #[test]
    fn data_outside_of_the_request_is_refused() {
        assert_eq!(READ.locate(4096, 1024), Ok(0..1024));
        assert_eq!(READ.locate(5119, 1), Ok(1023..1024));
        for (offset, len) in [(4095, 1), (5120, 1), (4097, 1024), (u64::MAX, 1), (0, u32::MAX), (4096, 0)] {
            assert!(READ.locate(offset, len).is_err(), "{offset} {len}");
        }
        let mut hole = [0; 12];
        hole[6] = 0x10;
        hole[10] = 0x02;
        assert_eq!(parse_hole(hole, READ), Ok(0..512));
    }

    #[test]
    fn errors_have_a_number_and_a_text_of_the_length_they_say() {
        assert_eq!(parse_error(b"\0\0\0\x1c\0\x02no"), Ok(28));
        assert!(parse_error(b"\0\0\0\x1c\0\x03no").is_err());
        assert!(parse_error(b"\0\0\0\0\0\0").is_err());
        assert!(parse_error(b"\0\0\0\x05").is_err());
    }

    fn status(words: &[u32], minimum: u32) -> Result<StatusExtent, Violation> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        parse_status(&bytes, 1, minimum)
    }

    #[test]
    fn extents_that_are_alike_are_one() {
        let zero = StatusExtent { len: 1024, hole: true, zero: true };
        assert_eq!(status(&[1, 512, 3, 512, 3, 512, 0], 1), Ok(zero));
        assert_eq!(status(&[1, 1024, 3, u32::MAX, 3], 1), Ok(zero), "a sum that does not fit");
    }

    #[test]
    fn an_extent_ends_with_a_block() {
        assert_eq!(status(&[1, 1000, 3], 512), Ok(StatusExtent { len: 512, hole: true, zero: true }));
        assert_eq!(status(&[1, 100, 3], 512), Ok(StatusExtent { len: 512, hole: false, zero: false }));
        assert!(status(&[2, 512, 0], 1).is_err(), "another context");
        assert!(status(&[1, 0, 0], 1).is_err(), "an empty extent");
        assert!(status(&[1, 512], 1).is_err(), "no flags");
    }

    proptest::proptest! {
        /// What is planned can be read, and what was read is understood or refused.
        #[test]
        fn no_chunk_leads_out_of_its_request(
            kind in 0..10_u16,
            is_error in proptest::bool::ANY,
            len in proptest::num::u32::ANY,
            payload in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
            offset in 4000..6000_u64,
        ) {
            let kind = if is_error { kind | KIND_ERROR } else { kind };
            for len in [len, len % 64] {
                if let Ok(Payload::Data { len }) = plan(chunk(kind, len), READ)
                    && let Ok(range) = READ.locate(offset, len)
                {
                    assert!(range.end <= 1024 && range.start < range.end);
                }
            }
            if let Ok(extent) = parse_status(&payload, 0, 512) {
                assert!(extent.len >= 512 && extent.len.is_multiple_of(512));
            }
            if let Ok(error) = parse_error(&payload) {
                assert_ne!(error, 0);
            }
        }
    }
}
