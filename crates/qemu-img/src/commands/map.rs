//! `qemu-img map`: where the data of an image is, in it and in its backing files.
//!
//! Extents are asked for one after the other and printed as they come, so that time and memory follow what is
//! allocated, not the size of the disk.
//!
//! QEMU: `img_map`, `dump_map_entry`, `get_block_status`, `entry_mergeable` (qemu-img.c)

use std::fmt::Write;
use std::sync::Arc;

use qemu_block::node::{ChildRole, Node};
use qemu_block::types::{OpenFlags, StatusFlags};

use super::Command;
use crate::cli::common::{OutputFormat, one_filename};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::number::{SIZE_MAX, parse_number};
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::human::escape;
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "map",
    summary: "Shows which parts of an image are allocated, and where in which file.",
    synopsis: "[--object OBJDEF] [--image-opts | -f FMT] [--start-offset=OFFSET] [--max-length=LENGTH] \
               [--output human|json] [-U] FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

/// Output is printed in pieces of about this many bytes.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Start,
    MaxLength,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::Output),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::ImageOpts),
    Flag::shared(Shared::ForceShare),
    Flag::value(Id::Start, Some('s'), &["start-offset"])
        .named("OFFSET")
        .doc("begin here instead of at the start of the disk"),
    Flag::value(Id::MaxLength, Some('l'), &["max-length"]).named("LENGTH").doc("show no more than so many bytes"),
];

#[derive(Debug, Default)]
struct Arguments {
    shared: SharedArgs,
    start: u64,
    max_length: Option<u64>,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Start => arguments.start = parse_number("start offset", &given.value, 0..=SIZE_MAX)?,
            Id::MaxLength => arguments.max_length = Some(parse_number("max length", &given.value, 0..=SIZE_MAX)?),
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.shared.image.name = one_filename(COMMAND.name, operands)?;
    arguments.shared.image.check_exclusive("--format")?;
    Ok(Some(arguments))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    Needs::of(COMMAND.name).reads(&arguments.shared.image).confine()?;
    let session = Session::new()?.with_objects(&arguments.shared.objects);
    session.block_on(async {
        let node = session.open_image(&arguments.shared.image, OpenFlags::empty()).await?;
        let mapped = map(&node, &arguments).await;
        let closed = node.close().await;
        mapped?;
        closed.map_err(|error| Failure::block(format!("Could not close '{}'", arguments.shared.image.name), &error))?;
        Ok(Outcome::Success)
    })
}

/// An extent all of which is of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    start: u64,
    len: u64,
    is_data: bool,
    is_zero: bool,
    is_compressed: bool,
    is_present: bool,
    /// Backing links between the image and the layer that decided.
    depth: u32,
    offset: Option<u64>,
    /// The file that `offset` is in.
    filename: Option<String>,
}

impl Entry {
    /// Whether `next`, which begins where this one ends, is of the same kind and stored right behind it.
    fn continues(&self, next: &Self) -> bool {
        let is_behind = match (self.offset, next.offset) {
            (Some(offset), Some(next)) => offset.checked_add(self.len) == Some(next),
            (None, None) => true,
            _ => false,
        };
        let same = Self { start: next.start, len: next.len, offset: next.offset, ..self.clone() };
        self.len > 0 && is_behind && same == *next
    }
}

async fn map(node: &Arc<Node>, arguments: &Arguments) -> Result<(), Failure> {
    let end = arguments.max_length.map_or(u64::MAX, |len| arguments.start.saturating_add(len)).min(node.len());
    let mut printer = Printer::new(arguments.shared.output);
    let mut current = Entry { start: arguments.start, ..Entry::default() };
    loop {
        let at = current.start.saturating_add(current.len);
        if at >= end {
            break;
        }
        let next = look_at(node, at, end - at).await?;
        if current.continues(&next) {
            current.len += next.len;
            continue;
        }
        let next = if current.len > 0 { printer.add(&current, Some(next))?.unwrap_or_default() } else { next };
        current = next;
    }
    printer.add(&current, None)?;
    printer.finish()
}

/// The extent at `at`: the first layer that has data or knows zeros there decides.
async fn look_at(node: &Arc<Node>, at: u64, len: u64) -> Result<Entry, Failure> {
    let fail = |error| Failure::block("Failed to read image metadata", &error);
    let mut layer = Arc::clone(node);
    let (mut depth, mut len) = (0, len);
    loop {
        let status = layer.block_status(at, len).await.map_err(fail)?;
        // A layer that ends here is one that its overlay knows to have zeros behind its end.
        len = status.len.max(1);
        let decides = status.flags.intersects(StatusFlags::DATA | StatusFlags::ZERO);
        match layer.child(ChildRole::Backing) {
            Some(backing) if !decides => layer = backing,
            _ if !decides => return Ok(Entry { start: at, len, depth, ..Entry::default() }),
            _ => {
                return Ok(Entry {
                    start: at,
                    len,
                    is_data: status.flags.contains(StatusFlags::DATA),
                    is_zero: status.is_zero(),
                    is_compressed: status.flags.contains(StatusFlags::COMPRESSED),
                    is_present: status.is_allocated(),
                    depth,
                    offset: status.host_offset,
                    filename: status.host_offset.map(|_| file_of(&layer)),
                });
            }
        }
        depth += 1;
    }
}

/// The name of the file that stores the data of `node`.
fn file_of(node: &Arc<Node>) -> String {
    let mut node = Arc::clone(node);
    while node.driver().kind().has_storage() {
        let Some(below) = node.child(ChildRole::Data).or_else(|| node.child(ChildRole::Storage)) else { break };
        node = below;
    }
    node.filename().to_owned()
}

/// Prints entries.
struct Printer {
    form: OutputFormat,
    text: String,
}

impl Printer {
    fn new(form: OutputFormat) -> Self {
        let text = match form {
            OutputFormat::Human => format!("{:<16}{:<16}{:<16}File\n", "Offset", "Length", "Mapped to"),
            OutputFormat::Json => "[".to_owned(),
        };
        Self { form, text }
    }

    /// Adds an entry; gives `next`, the one that will follow, back as it is to be shown.
    fn add(&mut self, entry: &Entry, next: Option<Entry>) -> Result<Option<Entry>, Failure> {
        let next = match self.form {
            OutputFormat::Human => self.add_line(entry, next)?,
            OutputFormat::Json => {
                self.add_object(entry, next.is_some());
                next
            }
        };
        if self.text.len() >= PIECE_BYTES {
            messages::print(&std::mem::take(&mut self.text))?;
        }
        Ok(next)
    }

    fn add_line(&mut self, entry: &Entry, next: Option<Entry>) -> Result<Option<Entry>, Failure> {
        if entry.is_data && entry.offset.is_none() {
            messages::print(&std::mem::take(&mut self.text))?;
            return Err(Failure::new("File contains external, encrypted or compressed clusters."));
        }
        if entry.is_data && !entry.is_zero {
            let name = escape(entry.filename.as_deref().unwrap_or_default());
            let number = |value: u64| if value == 0 { "0".to_owned() } else { format!("{value:#x}") };
            let (start, len) = (number(entry.start), number(entry.len));
            let offset = number(entry.offset.unwrap_or(0));
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "{start:<16}{len:<16}{offset:<16}{name}");
        }
        // People are not told how a range comes to be zeros, so such ranges are shown as one.
        Ok(next.map(|next| {
            let is_zero = !next.is_data || next.is_zero;
            if is_zero { Entry { is_data: false, is_zero: true, ..next } } else { next }
        }))
    }

    fn add_object(&mut self, entry: &Entry, has_next: bool) {
        let Entry { start, len, is_data, is_zero, is_compressed, is_present, depth, offset, .. } = entry;
        let _ = write!(
            self.text,
            "{{ \"start\": {start}, \"length\": {len}, \"depth\": {depth}, \"present\": {is_present}, \
             \"zero\": {is_zero}, \"data\": {is_data}, \"compressed\": {is_compressed}"
        );
        if let Some(offset) = offset {
            let _ = write!(self.text, ", \"offset\": {offset}");
        }
        self.text.push('}');
        if has_next {
            self.text.push_str(",\n");
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.form == OutputFormat::Json {
            self.text.push_str("]\n");
        }
        messages::print(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(start: u64, len: u64, offset: u64) -> Entry {
        let filename = Some("x".to_owned());
        Entry { start, len, is_data: true, is_present: true, offset: Some(offset), filename, ..Entry::default() }
    }

    #[test]
    fn neighbours_are_merged_only_if_they_are_neighbours_in_the_file() {
        assert!(data(0, 10, 100).continues(&data(10, 5, 110)));
        assert!(!data(0, 10, 100).continues(&data(10, 5, 111)));
        assert!(!data(0, 10, 100).continues(&Entry { depth: 1, ..data(10, 5, 110) }));
        assert!(!Entry::default().continues(&data(0, 5, 0)), "nothing was looked at before the first");
        let hole = |start| Entry { start, len: 5, is_zero: true, ..Entry::default() };
        assert!(hole(0).continues(&hole(5)));
    }

    #[test]
    fn lines_and_objects() {
        let mut printer = Printer::new(OutputFormat::Human);
        printer.add(&data(0, 0x10000, 0x50000), None).expect("printed");
        assert_eq!(
            printer.text,
            "Offset          Length          Mapped to       File\n\
             0               0x10000         0x50000         x\n"
        );
        let mut printer = Printer::new(OutputFormat::Json);
        printer.add(&data(1, 2, 3), None).expect("printed");
        assert_eq!(
            printer.text,
            "[{ \"start\": 1, \"length\": 2, \"depth\": 0, \"present\": true, \"zero\": false, \"data\": true, \
             \"compressed\": false, \"offset\": 3}"
        );
    }
}
