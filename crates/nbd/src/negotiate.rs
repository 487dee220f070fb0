//! The negotiation: from the greeting to the first request.
//!
//! | server | way |
//! |---|---|
//! | fixed newstyle | structured replies, metadata context, `GO`; without `GO` a look at the list and `EXPORT_NAME` |
//! | newstyle | `EXPORT_NAME` |
//! | oldstyle | takes what there is |
//!
//! Works on any stream, so that tests can play the server. Everything that is read has a bound, and so has the number of
//! replies to one option.
//!
//! QEMU: `nbd_receive_negotiate` (nbd/client.c).

use std::io::{self, Read, Write};

use qemu_block::error::{BlockError, ErrorKind, Result, errno_text, shown};

use crate::protocol::{
    BlockSizes, CLIENT_FIXED_NEWSTYLE, CLIENT_NO_ZEROES, ExportFlags, Info, OLDSTYLE_MAGIC, OPTION_MAGIC, Opt,
    OptionReply, ReplyKind, SERVER_FIXED_NEWSTYLE, SERVER_MAGIC, SERVER_NO_ZEROES, STRING_MAX, Violation, go_data,
    meta_context_data, option_name, option_request, parse_meta_context, parse_server_name, reply_name,
};

/// Longest data of a reply that is read, in bytes: a name and a description.
const REPLY_LEN_MAX: u32 = 2 * (4096 + 8);
/// Replies to one option that are read.
const REPLIES_MAX: usize = 1 << 16;
/// Bytes of nothing that follow the size of an export, unless both sides leave them out.
const PADDING: usize = 124;

/// What is known about an export after the negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    /// Its length in bytes.
    pub(crate) size: u64,
    /// What can be done.
    pub(crate) flags: ExportFlags,
    /// The sizes of requests, if the server said anything.
    pub(crate) blocks: Option<BlockSizes>,
    /// Whether replies to reads are structured.
    pub(crate) structured: bool,
    /// The number of the metadata context, if there is one.
    pub(crate) context: Option<u32>,
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The name of the export.
    pub(crate) export: &'a str,
    /// The metadata context.
    pub(crate) context: &'a str,
}

/// Negotiates until requests can be sent.
///
/// # Errors
/// In the words of the reference; what the server says about it is appended.
pub(crate) fn negotiate(stream: &mut (impl Read + Write), wanted: Wanted<'_>) -> Result<Export> {
    let mut talk = Talk { stream };
    let export = talk.greet(wanted)?;
    if i64::try_from(export.size).is_err() {
        return Err(BlockError::from_errno(libc::EFBIG, "The export is too large"));
    }
    if let Some(BlockSizes { minimum, .. }) = export.blocks
        && !export.size.is_multiple_of(u64::from(minimum))
    {
        let size = export.size;
        return Err(refused(format!("export size {size} is not multiple of minimum block size {minimum}")));
    }
    Ok(export)
}

/// A conversation with a server.
struct Talk<'a, S> {
    stream: &'a mut S,
}

/// The answer to an option that may be unknown to the server.
enum Answer<T> {
    Yes(T),
    Unsupported,
}

impl<S: Read + Write> Talk<'_, S> {
    fn greet(&mut self, wanted: Wanted<'_>) -> Result<Export> {
        let magic = u64::from_be_bytes(self.read("initial magic")?);
        if magic != SERVER_MAGIC {
            return Err(refused(format!("Bad initial magic received: 0x{magic:x}")));
        }
        match u64::from_be_bytes(self.read("server magic")?) {
            OPTION_MAGIC => self.newstyle(wanted),
            OLDSTYLE_MAGIC => self.oldstyle(wanted),
            magic => Err(refused(format!("Bad server magic received: 0x{magic:x}"))),
        }
    }

    fn oldstyle(&mut self, wanted: Wanted<'_>) -> Result<Export> {
        if !wanted.export.is_empty() {
            return Err(refused("Server does not support non-empty export names"));
        }
        let size = u64::from_be_bytes(self.read("export length")?);
        let flags = u32::from_be_bytes(self.read("export flags")?);
        let flags = u16::try_from(flags).map_err(|_| refused(format!("Unexpected export flags 0x{flags:x}")))?;
        self.read::<PADDING>("reserved block")?;
        Ok(simple_export(size, flags))
    }

    fn newstyle(&mut self, wanted: Wanted<'_>) -> Result<Export> {
        let server = u16::from_be_bytes(self.read("server flags")?);
        let is_fixed = server & SERVER_FIXED_NEWSTYLE != 0;
        let no_zeroes = server & SERVER_NO_ZEROES != 0;
        let mut client = 0;
        if is_fixed {
            client |= CLIENT_FIXED_NEWSTYLE;
        }
        if no_zeroes {
            client |= CLIENT_NO_ZEROES;
        }
        self.write(&client.to_be_bytes(), "clientflags field")?;
        let mut structured = false;
        if is_fixed {
            structured = self.ask_for_structured_replies()?;
            let context = if structured { self.ask_for_context(wanted)? } else { None };
            if let Answer::Yes(export) = self.go(wanted)? {
                return Ok(Export { structured, context, ..export });
            }
            self.look_for_export(wanted)?;
        }
        self.write(&option_request(Opt::ExportName, wanted.export.as_bytes()), "option request")?;
        let size = u64::from_be_bytes(self.read("export length")?);
        let flags = u16::from_be_bytes(self.read("export flags")?);
        if !no_zeroes {
            self.read::<PADDING>("reserved block")?;
        }
        // Without `GO` the context belongs to nothing.
        Ok(Export { structured, ..simple_export(size, flags) })
    }

    fn ask_for_structured_replies(&mut self) -> Result<bool> {
        let option = Opt::StructuredReply;
        self.ask(option, &[])?;
        let (reply, data) = self.reply(option)?;
        match reply.kind {
            ReplyKind::Ack if data.is_empty() => Ok(true),
            // Whatever the reason, it works without.
            ReplyKind::Error(_) => Ok(false),
            ReplyKind::Ack => {
                let (number, name, len) = (option.number(), option_name(option.number()), data.len());
                self.give_up(format!("Option {number} ('{name}') response length is {len} (it should be zero)"))
            }
            kind => {
                let (number, name) = (option.number(), option_name(option.number()));
                self.give_up(format!(
                    "Server answered option {number} ({name}) with unexpected reply {}",
                    reply_name(kind)
                ))
            }
        }
    }

    fn ask_for_context(&mut self, wanted: Wanted<'_>) -> Result<Option<u32>> {
        let option = Opt::SetMetaContext;
        self.ask(option, &meta_context_data(wanted.export, wanted.context))?;
        let mut found = None;
        for _ in 0..REPLIES_MAX {
            let (reply, data) = self.reply(option)?;
            match reply.kind {
                ReplyKind::Ack if data.is_empty() => return Ok(found),
                ReplyKind::Ack => return self.give_up("Unexpected length to ACK response"),
                ReplyKind::Error(_) => return Ok(None),
                ReplyKind::MetaContext if found.is_some() => {
                    return self.give_up("Server answered with more than one context");
                }
                ReplyKind::MetaContext => {
                    let (id, name) = self.parsed(parse_meta_context(&data))?;
                    if name != wanted.context.as_bytes() {
                        let (context, name) = (wanted.context, String::from_utf8_lossy(name));
                        let name = shown(&name);
                        return self.give_up(format!(
                            "Failed to negotiate meta context '{context}', server answered with different context \
                             '{name}'"
                        ));
                    }
                    found = Some(id);
                }
                kind => return self.unexpected("Unexpected", kind, ReplyKind::MetaContext),
            }
        }
        self.give_up("Server does not stop answering")
    }

    fn go(&mut self, wanted: Wanted<'_>) -> Result<Answer<Export>> {
        let option = Opt::Go;
        self.ask(option, &go_data(wanted.export))?;
        let (mut export, mut blocks) = (None, None);
        for _ in 0..REPLIES_MAX {
            let (reply, data) = self.reply(option)?;
            match reply.kind {
                ReplyKind::Ack if !data.is_empty() => return self.give_up("server sent invalid NBD_REP_ACK"),
                ReplyKind::Ack => {
                    let Some((size, flags)) = export else {
                        return self.give_up("broken server omitted NBD_INFO_EXPORT");
                    };
                    return Ok(Answer::Yes(Export { size, flags, blocks, structured: false, context: None }));
                }
                ReplyKind::Info => match self.parsed(Info::parse(&data))? {
                    Info::Export { size, flags } if flags.contains(ExportFlags::HAS_FLAGS) => {
                        export = Some((size, flags));
                    }
                    Info::BlockSizes(sizes) => blocks = Some(sizes),
                    Info::Export { .. } | Info::Other => {}
                },
                ReplyKind::Error(1) => return Ok(Answer::Unsupported),
                ReplyKind::Error(error) => return self.refusal(option, error, &data),
                kind => return self.unexpected("unexpected", kind, ReplyKind::Info),
            }
        }
        self.give_up("Server does not stop answering")
    }

    /// `EXPORT_NAME` cannot fail but by closing the connection: the list makes for a better message.
    fn look_for_export(&mut self, wanted: Wanted<'_>) -> Result<()> {
        let option = Opt::List;
        self.ask(option, &[])?;
        let (mut any, mut found) = (false, false);
        for _ in 0..REPLIES_MAX {
            let (reply, data) = self.reply(option)?;
            match reply.kind {
                // An empty list says nothing.
                ReplyKind::Ack if data.is_empty() && (found || !any) => return Ok(()),
                ReplyKind::Ack if data.is_empty() => {
                    return self.give_up(format!("No export with name '{}' available", wanted.export));
                }
                ReplyKind::Ack => return self.give_up("length too long for option end"),
                ReplyKind::Server => {
                    any = true;
                    found |= self.parsed(parse_server_name(&data))? == wanted.export.as_bytes();
                }
                ReplyKind::Error(1) => return Ok(()),
                ReplyKind::Error(error) => return self.refusal(option, error, &data),
                kind => return self.unexpected("Unexpected", kind, ReplyKind::Server),
            }
        }
        self.give_up("Server does not stop answering")
    }

    /// Sends an option.
    fn ask(&mut self, option: Opt, data: &[u8]) -> Result<()> {
        self.write(&option_request(option, data), "option request")
    }

    /// Reads one reply to `option`, with its data.
    fn reply(&mut self, option: Opt) -> Result<(OptionReply, Vec<u8>)> {
        let header = self.read::<{ OptionReply::LEN }>("option reply")?;
        let reply = self.parsed(OptionReply::parse(header, option))?;
        if reply.len > REPLY_LEN_MAX {
            return self.give_up(match reply.kind {
                ReplyKind::Error(_) => format!("server error {} message is too long", reply_name(reply.kind)),
                _ => format!("incorrect option length {}", reply.len),
            });
        }
        let mut data = vec![0; usize::try_from(reply.len).unwrap_or(0)];
        self.stream.read_exact(&mut data).map_err(|error| read_error("option reply data", &error))?;
        Ok((reply, data))
    }

    /// An error that the server gave as its answer.
    fn refusal<T>(&mut self, option: Opt, error: u32, data: &[u8]) -> Result<T> {
        let name = format!("{} ({})", option.number(), option_name(option.number()));
        let mut message = match error {
            2 => format!("Denied by server for option {name}"),
            3 => format!("Invalid parameters for option {name}"),
            4 => format!("Server lacks support for option {name}"),
            5 => format!("TLS negotiation required before option {name}\nDid you forget a valid tls-creds?"),
            6 => "Requested export not available".to_owned(),
            7 => format!("Server shutting down before option {name}"),
            8 => format!("Server requires INFO_BLOCK_SIZE for option {name}"),
            _ => format!("Unknown error code when asking for option {name}"),
        };
        if !data.is_empty() {
            let text = String::from_utf8_lossy(&data[..data.len().min(STRING_MAX)]);
            message.push_str("\nserver reported: ");
            message.push_str(&shown(&text));
        }
        self.give_up(message)
    }

    fn unexpected<T>(&mut self, word: &str, kind: ReplyKind, expected: ReplyKind) -> Result<T> {
        let (kind, expected) = (reply_name(kind), reply_name(expected));
        self.give_up(format!("{word} reply type {kind}, expected {expected}"))
    }

    fn parsed<T>(&mut self, parsed: std::result::Result<T, Violation>) -> Result<T> {
        parsed.or_else(|violation| self.give_up(violation.to_string()))
    }

    /// Tells the server that there is no point in going on, as a courtesy, and gives the reason to our user.
    fn give_up<T>(&mut self, message: impl Into<String>) -> Result<T> {
        drop(self.stream.write_all(&option_request(Opt::Abort, &[])));
        Err(refused(message))
    }

    fn read<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).map_err(|error| read_error(what, &error))?;
        Ok(bytes)
    }

    fn write(&mut self, bytes: &[u8], what: &str) -> Result<()> {
        let reason = |error: &io::Error| match io_text(error) {
            Ok(errno) => (errno, format!("Unable to write to socket: {}", errno_text(errno))),
            Err(text) => (libc::EIO, text),
        };
        self.stream.write_all(bytes).map_err(|error| {
            let (errno, text) = reason(&error);
            BlockError::from_errno(errno, format!("Failed to send {what}: {text}"))
        })
    }
}

fn simple_export(size: u64, flags: u16) -> Export {
    Export { size, flags: ExportFlags::from_bits_retain(flags), blocks: None, structured: false, context: None }
}

fn read_error(what: &str, error: &io::Error) -> BlockError {
    let (errno, text) = match io_text(error) {
        Ok(errno @ (libc::ETIMEDOUT | libc::ECANCELED)) => (errno, errno_text(errno)),
        Ok(errno) => (errno, format!("Unable to read from socket: {}", errno_text(errno))),
        Err(text) => (libc::EINVAL, text),
    };
    BlockError::from_errno(errno, format!("Failed to read {what}: {text}"))
}

/// The number that the system gave, or else a text.
fn io_text(error: &io::Error) -> std::result::Result<i32, String> {
    match error.raw_os_error() {
        Some(errno) => Ok(errno),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("Unexpected end-of-file before all data were read".to_owned())
        }
        None => Err(error.to_string()),
    }
}

fn refused(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests;
