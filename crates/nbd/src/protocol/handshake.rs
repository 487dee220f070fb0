//! The first phase: the server greets, the client asks for options, and both go over to requests.
//!
//! QEMU: nbd/client.c.

use bitflags::bitflags;

use super::{Fields, STRING_MAX, Violation};

/// What every server says first: `NBDMAGIC`.
pub(crate) const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// What a newstyle server says next, and what precedes each option: `IHAVEOPT`.
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// What an oldstyle server says instead.
pub(crate) const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// What precedes each reply to an option.
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// The server answers options.
pub(crate) const SERVER_FIXED_NEWSTYLE: u16 = 1 << 0;
/// The server can leave out the padding after the size.
pub(crate) const SERVER_NO_ZEROES: u16 = 1 << 1;
/// We know that the server answers options.
pub(crate) const CLIENT_FIXED_NEWSTYLE: u32 = 1 << 0;
/// We want the padding left out.
pub(crate) const CLIENT_NO_ZEROES: u32 = 1 << 1;

/// Which facts `Opt::Go` asks for: the sizes of blocks.
const INFO_BLOCK_SIZE: u16 = 3;
/// The fact that says how long the export is.
const INFO_EXPORT: u16 = 0;

/// Larger minimum block sizes are not allowed by the specification.
const BLOCK_MIN_MAX: u32 = 1 << 16;

/// The options that we ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opt {
    ExportName,
    Abort,
    List,
    Go,
    StructuredReply,
    SetMetaContext,
}

impl Opt {
    /// Its number in the protocol.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::ExportName => 1,
            Self::Abort => 2,
            Self::List => 3,
            Self::Go => 7,
            Self::StructuredReply => 8,
            Self::SetMetaContext => 10,
        }
    }
}

/// The name of an option, as the reference's messages have it.
pub(crate) fn option_name(number: u32) -> &'static str {
    match number {
        1 => "export name",
        2 => "abort",
        3 => "list",
        5 => "starttls",
        6 => "info",
        7 => "go",
        8 => "structured reply",
        9 => "list meta context",
        10 => "set meta context",
        11 => "extended headers",
        _ => "<unknown>",
    }
}

/// What a reply to an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    Ack,
    Server,
    Info,
    MetaContext,
    Error(u32),
    Other(u32),
}

impl ReplyKind {
    fn of(number: u32) -> Self {
        match number {
            1 => Self::Ack,
            2 => Self::Server,
            3 => Self::Info,
            4 => Self::MetaContext,
            number if number >> 31 == 1 => Self::Error(number & !(1 << 31)),
            number => Self::Other(number),
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Ack => 1,
            Self::Server => 2,
            Self::Info => 3,
            Self::MetaContext => 4,
            Self::Error(number) => number | 1 << 31,
            Self::Other(number) => number,
        }
    }
}

/// A reply as messages show it: number and name.
pub(crate) fn reply_name(kind: ReplyKind) -> String {
    let name = match kind {
        ReplyKind::Ack => "ack",
        ReplyKind::Server => "server",
        ReplyKind::Info => "info",
        ReplyKind::MetaContext => "meta context",
        ReplyKind::Error(1) => "unsupported",
        ReplyKind::Error(2) => "denied by policy",
        ReplyKind::Error(3) => "invalid",
        ReplyKind::Error(4) => "platform lacks support",
        ReplyKind::Error(5) => "TLS required",
        ReplyKind::Error(6) => "export unknown",
        ReplyKind::Error(7) => "server shutting down",
        ReplyKind::Error(8) => "block size required",
        ReplyKind::Error(9) => "option payload too big",
        ReplyKind::Error(_) | ReplyKind::Other(_) => "<unknown>",
    };
    format!("{} ({name})", kind.number())
}

/// The header of a reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionReply {
    /// What it is.
    pub(crate) kind: ReplyKind,
    /// How many bytes follow.
    pub(crate) len: u32,
}

impl OptionReply {
    /// Length of the header in bytes.
    pub(crate) const LEN: usize = 20;

    /// Reads a header that must answer `asked`.
    pub(crate) fn parse(bytes: [u8; Self::LEN], asked: Opt) -> Result<Self, Violation> {
        let mut fields = Fields(&bytes);
        let short = Violation::of("Option reply is too short");
        let (Some(magic), Some(option)) = (fields.u64(), fields.u32()) else { return Err(short) };
        let (Some(kind), Some(len)) = (fields.u32(), fields.u32()) else { return Err(short) };
        if magic != REPLY_MAGIC {
            return Err(Violation::of("Unexpected option reply magic"));
        }
        if option != asked.number() {
            let (name, asked) = (option_name(option), asked.number());
            let expected = option_name(asked);
            return Err(format!("Unexpected option type {option} ({name}), expected {asked} ({expected})").into());
        }
        Ok(Self { kind: ReplyKind::of(kind), len })
    }
}

/// An option and its data, ready to be sent.
pub(crate) fn option_request(option: Opt, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + data.len());
    bytes.extend(OPTION_MAGIC.to_be_bytes());
    bytes.extend(option.number().to_be_bytes());
    bytes.extend(len_u32(data.len()).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The data of [`Opt::Go`]: the name, and the wish to know block sizes.
pub(crate) fn go_data(export: &str) -> Vec<u8> {
    let mut data = text(export);
    data.extend(1_u16.to_be_bytes());
    data.extend(INFO_BLOCK_SIZE.to_be_bytes());
    data
}

/// The data of [`Opt::SetMetaContext`]: the export and one context.
pub(crate) fn meta_context_data(export: &str, context: &str) -> Vec<u8> {
    let mut data = text(export);
    data.extend(1_u32.to_be_bytes());
    data.extend(text(context));
    data
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = len_u32(text.len()).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("names are no longer than STRING_MAX")
}

bitflags! {
    /// What an export is and what its server can do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct ExportFlags: u16 {
        const HAS_FLAGS = 1 << 0;
        const READ_ONLY = 1 << 1;
        const FLUSH = 1 << 2;
        const FUA = 1 << 3;
        const TRIM = 1 << 5;
        const WRITE_ZEROES = 1 << 6;
        const MULTI_CONN = 1 << 8;
        const FAST_ZERO = 1 << 11;
        const _ = !0;
    }
}

/// The sizes of requests that a server wants, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSizes {
    /// Offsets and lengths are multiples of this power of two.
    pub(crate) minimum: u32,
    /// The best size.
    pub(crate) preferred: u32,
    /// Longest payload.
    pub(crate) maximum: u32,
}

/// A fact about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Info {
    /// Its length and flags.
    Export { size: u64, flags: ExportFlags },
    /// Its blocks.
    BlockSizes(BlockSizes),
    /// Something that we did not ask for.
    Other,
}

impl Info {
    /// Reads the data of a reply of the kind [`ReplyKind::Info`].
    pub(crate) fn parse(data: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields(data);
        let too_short = || Violation::from(format!("NBD_REP_INFO length {} is too short", data.len()));
        let kind = fields.u16().ok_or_else(too_short)?;
        let rest = fields.0.len();
        let wrong_len = || Violation::from(format!("remaining export info len {rest} is unexpected size"));
        match kind {
            INFO_EXPORT if rest == 10 => {
                let (size, flags) = fields.u64().zip(fields.u16()).ok_or_else(wrong_len)?;
                Ok(Self::Export { size, flags: ExportFlags::from_bits_retain(flags) })
            }
            INFO_BLOCK_SIZE if rest == 12 => {
                let (minimum, preferred) = fields.u32().zip(fields.u32()).ok_or_else(wrong_len)?;
                let maximum = fields.u32().ok_or_else(wrong_len)?;
                BlockSizes { minimum, preferred, maximum }.checked().map(Self::BlockSizes)
            }
            INFO_EXPORT | INFO_BLOCK_SIZE => Err(wrong_len()),
            _ => Ok(Self::Other),
        }
    }
}

impl BlockSizes {
    fn checked(self) -> Result<Self, Violation> {
        let Self { minimum, preferred, maximum } = self;
        if !minimum.is_power_of_two() {
            return Err(format!("server minimum block size {minimum} is not a power of two").into());
        }
        if minimum > BLOCK_MIN_MAX {
            return Err(format!("server minimum block size {minimum} is too large").into());
        }
        if !preferred.is_power_of_two() || preferred < minimum {
            return Err(format!("server preferred block size {preferred} is not valid").into());
        }
        if maximum < minimum {
            return Err(format!("server maximum block size {maximum} is not valid").into());
        }
        Ok(self)
    }
}

/// Reads the data of a reply of the kind [`ReplyKind::Server`]: the name of an export.
pub(crate) fn parse_server_name(data: &[u8]) -> Result<&[u8], Violation> {
    let mut fields = Fields(data);
    let len = fields.u32().ok_or_else(|| Violation::from(format!("incorrect option length {}", data.len())))?;
    let len = usize::try_from(len).ok().filter(|len| *len <= STRING_MAX);
    len.and_then(|len| fields.bytes(len)).ok_or(Violation::of("incorrect name length in server's list response"))
}

/// Reads the data of a reply of the kind [`ReplyKind::MetaContext`]: number and name.
pub(crate) fn parse_meta_context(data: &[u8]) -> Result<(u32, &[u8]), Violation> {
    let mut fields = Fields(data);
    let wrong = || {
        let message = "Failed to negotiate meta context, server answered with unexpected length";
        Violation::from(format!("{message} {}", data.len()))
    };
    let id = fields.u32().ok_or_else(wrong)?;
    if fields.0.is_empty() || fields.0.len() > STRING_MAX {
        return Err(wrong());
    }
    Ok((id, fields.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(magic: u64, option: u32, kind: u32, len: u32) -> [u8; OptionReply::LEN] {
        let mut bytes = magic.to_be_bytes().to_vec();
        [option, kind, len].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
        bytes.try_into().expect("20 bytes")
    }

    #[test]
    fn a_reply_must_answer_what_was_asked() {
        let good = OptionReply::parse(reply(REPLY_MAGIC, 7, 3, 12), Opt::Go);
        assert_eq!(good, Ok(OptionReply { kind: ReplyKind::Info, len: 12 }));
        let error = OptionReply::parse(reply(REPLY_MAGIC, 7, 0x8000_0006, 0), Opt::Go);
        assert_eq!(error.map(|reply| reply.kind), Ok(ReplyKind::Error(6)));
        let other = OptionReply::parse(reply(REPLY_MAGIC, 9, 1, 0), Opt::StructuredReply).unwrap_err();
        assert_eq!(other.to_string(), "Unexpected option type 9 (list meta context), expected 8 (structured reply)");
        let magic = OptionReply::parse(reply(1, 7, 1, 0), Opt::Go).unwrap_err();
        assert_eq!(magic.to_string(), "Unexpected option reply magic");
    }

    #[test]
    fn options_are_written_as_the_protocol_says() {
        assert_eq!(option_request(Opt::List, &[]), b"IHAVEOPT\0\0\0\x03\0\0\0\0");
        assert_eq!(go_data("ab"), b"\0\0\0\x02ab\0\x01\0\x03");
        assert_eq!(meta_context_data("", "base:x"), b"\0\0\0\0\0\0\0\x01\0\0\0\x06base:x");
    }

    fn blocks(minimum: u32, preferred: u32, maximum: u32) -> Result<Info, Violation> {
        let mut data = vec![0, 3];
        [minimum, preferred, maximum].iter().for_each(|size| data.extend(size.to_be_bytes()));
        Info::parse(&data)
    }

    #[test]
    fn block_sizes_that_make_no_sense_are_refused() {
        assert!(blocks(1, 4096, u32::MAX).is_ok() && blocks(65536, 65536, 65536).is_ok());
        for (minimum, preferred, maximum) in
            [(0, 4096, 4096), (3, 4096, 4096), (1 << 17, 1 << 17, 1 << 20), (512, 256, 4096), (4096, 4096, 512)]
        {
            assert!(blocks(minimum, preferred, maximum).is_err(), "{minimum} {preferred} {maximum}");
        }
    }

    #[test]
    fn facts_have_exactly_the_length_of_their_kind() {
        let mut data = vec![0, 0];
        data.extend(4096_u64.to_be_bytes());
        data.extend([0, 3]);
        let flags = ExportFlags::HAS_FLAGS | ExportFlags::READ_ONLY;
        assert_eq!(Info::parse(&data), Ok(Info::Export { size: 4096, flags }));
        assert!(Info::parse(&data[..11]).is_err());
        data.push(0);
        assert!(Info::parse(&data).is_err());
        assert_eq!(Info::parse(&[0, 1, b'x']), Ok(Info::Other));
        assert!(Info::parse(&[0]).is_err());
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(parse_server_name(b"\0\0\0\x02abdescription"), Ok(&b"ab"[..]));
        assert!(parse_server_name(b"\0\0\0\x03ab").is_err());
        assert!(parse_server_name(b"\xff\xff\xff\xffab").is_err());
        assert_eq!(parse_meta_context(b"\0\0\0\x07base:allocation"), Ok((7, &b"base:allocation"[..])));
        assert!(parse_meta_context(b"\0\0\0\x07").is_err());
    }
}
