//! `read` and `readv`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qemu_block::backend::BlockBackend;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::{WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;
use qemu_util::zero::is_zero;

use super::super::buffer::{Placement, dump};
use super::super::command::{Call, Command, Needs};
use super::super::number::{REQUEST_BYTES_MAX, SECTOR_BYTES};
use super::super::report::Report;
use super::super::shell::{Done, Shell};
use super::{Loudness, lengths, pattern, size, sum, to_len};

/// What is taken over from a backing file is read in pieces of at most this many bytes, a multiple of all clusters.
const TAKE_OVER_BYTES_MAX: u64 = 64 << 20;

pub(super) const READ: Command = Command {
    name: "read",
    alias: Some("r"),
    arguments: Some("[-abCqrv] [-P pattern [-s off] [-l len]] off len"),
    summary: "reads a number of bytes at a specified offset",
    details: "
 -b            the data of a saved machine instead of the disk
 -C            numbers separated by commas, for programs
 -P PATTERN    check that all bytes are PATTERN
 -s OFFSET     with -P: check from here on, counted from the offset of the request
 -l LENGTH     with -P: check so many bytes
 -q            say nothing about success
 -v            show the data
 -p, -r        have no effect

",
    words: (2, None),
    needs: Needs::Image,
    run: read,
};

pub(super) const READV: Command = Command {
    name: "readv",
    alias: None,
    arguments: Some("[-Cqrv] [-P pattern] off len [len..]"),
    summary: "reads a number of bytes at a specified offset",
    details: "
 Reads into several buffers, one for each length.
 -C            numbers separated by commas, for programs
 -P PATTERN    check that all bytes are PATTERN
 -q            say nothing about success
 -v            show the data
 -r            has no effect

",
    words: (2, None),
    needs: Needs::Image,
    run: readv,
};

/// What `-P`, `-s` and `-l` say.
#[derive(Clone, Copy, Debug, Default)]
struct Check {
    pattern: Option<u8>,
    start: Option<u64>,
    len: Option<u64>,
}

/// What is read, and what of it is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation {
    /// All bytes of the range.
    pub(super) pattern: u8,
    /// Where the range begins, counted from the offset of the request.
    pub(super) start: u64,
    /// How long it is.
    pub(super) len: u64,
}

impl Expectation {
    /// The complaint about data that is otherwise; `offset` is the request's.
    pub(super) fn objects_to(&self, bytes: &[u8], offset: u64) -> Option<String> {
        let Self { pattern, start, len } = *self;
        let range = to_len(start)..to_len(start + len);
        let is_right = bytes.get(range).is_some_and(|part| part.iter().all(|byte| *byte == pattern));
        let at = offset.saturating_add(start);
        (!is_right).then(|| format!("Pattern verification failed at offset {at}, {len} bytes\n"))
    }
}

impl Check {
    /// The range to check in a request of `len` bytes; a complaint if it is not inside.
    fn expectation(&self, len: u64) -> Result<Option<Expectation>, String> {
        let start = self.start.unwrap_or(0);
        let range = match self.len {
            None => len.checked_sub(start),
            Some(checked) => Some(checked).filter(|_| start.checked_add(checked).is_some_and(|end| end <= len)),
        };
        let range = range.ok_or("pattern verification range exceeds end of read data")?;
        Ok(self.pattern.map(|pattern| Expectation { pattern, start, len: range }))
    }
}

fn read(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("bCl:pP:qrs:v");
    let (mut loudness, mut check) = (Loudness::default(), Check::default());
    let (mut of_state, mut registered) = (false, false);
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            'b' => of_state = true,
            'C' => loudness.for_programs = true,
            'l' => check.len = Some(size(shell, value)?),
            'P' => check.pattern = Some(pattern(shell, value)?),
            'q' => loudness.quiet = true,
            'r' => registered = true,
            's' => check.start = Some(size(shell, value)?),
            'v' => loudness.dump = true,
            _ => {}
        }
    }
    let operands = letters.into_operands();
    let [offset, count] = operands[..] else { return Err(call.usage(shell)) };
    let (offset, len) = (size(shell, offset)?, size(shell, count)?);
    if len > REQUEST_BYTES_MAX {
        return Err(shell.refuse(format!("length cannot exceed {REQUEST_BYTES_MAX}, given {count}")));
    }
    if check.pattern.is_none() && (check.len.is_some() || check.start.is_some()) {
        return Err(call.usage(shell));
    }
    let expectation = check.expectation(len).map_err(|complaint| shell.refuse(complaint))?;
    if of_state {
        check_sectors(shell, offset, len)?;
        if registered {
            return Err(shell.refuse("I/O buffer registration is not supported when reading from vmstate"));
        }
    }
    let lens = [to_len(len)];
    let reader = shell.reader()?;
    let start = Instant::now();
    let result = shell.wait(async {
        if of_state { read_state(&reader.backend, offset, lens[0]).await } else { reader.fetch(offset, &lens).await }
    });
    let elapsed = start.elapsed();
    match result {
        Err(error) => Err(shell.refuse(format!("read failed: {}", error.errno_text()))),
        Ok(bytes) => {
            let (text, is_right) = tell(&bytes, offset, expectation, loudness, elapsed);
            shell.out.text(&text);
            is_right
        }
    }
}

fn readv(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("CP:qrv");
    let (mut loudness, mut expected) = (Loudness::default(), None);
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            'C' => loudness.for_programs = true,
            'P' => expected = Some(pattern(shell, value)?),
            'q' => loudness.quiet = true,
            'v' => loudness.dump = true,
            _ => {}
        }
    }
    let operands = letters.into_operands();
    let [offset, lens @ ..] = &operands[..] else { return Err(call.usage(shell)) };
    if lens.is_empty() {
        return Err(call.usage(shell));
    }
    let (offset, lens) = (size(shell, offset)?, lengths(shell, lens)?);
    let reader = shell.reader()?;
    let start = Instant::now();
    let result = shell.wait(reader.fetch(offset, &lens));
    let elapsed = start.elapsed();
    let bytes = result.map_err(|error| shell.refuse(format!("readv failed: {}", error.errno_text())))?;
    let expectation = expected.map(|pattern| Expectation { pattern, start: 0, len: sum(&lens) });
    let (text, is_right) = tell(&bytes, offset, expectation, loudness, elapsed);
    shell.out.text(&text);
    is_right
}

/// The means to read.
#[derive(Clone, Debug)]
pub(in crate::qemu_io) struct Reader {
    /// The image.
    pub(in crate::qemu_io) backend: Arc<BlockBackend>,
    /// Where memory begins.
    pub(in crate::qemu_io) placement: Placement,
    /// Whether the image takes over what is read from its backing file.
    pub(in crate::qemu_io) copy_on_read: bool,
}

impl Reader {
    /// Reads into buffers of `lens`; what comes back is one piece.
    ///
    /// # Errors
    /// Those of the block layer.
    pub(super) async fn fetch(&self, offset: u64, lens: &[usize]) -> Result<IoBuf> {
        // Before the memory is taken, which may be a lot of it.
        check_inside(&self.backend, offset, sum(lens))?;
        if self.copy_on_read {
            self.take_over(offset, sum(lens)).await?;
        }
        let filled = self.backend.read(offset, self.placement.to_read(lens)).await?;
        Ok(filled.into_single().unwrap_or_else(|parts| IoBuf::copy_of(&parts.to_vec())))
    }

    /// Writes the whole clusters of a range into the image that it leaves to its backing file.
    ///
    /// QEMU: `bdrv_co_do_copy_on_readv` (block/io.c)
    async fn take_over(&self, offset: u64, len: u64) -> Result<()> {
        let cluster = self.backend.node().info().await?.cluster_size.unwrap_or(1).max(1);
        let wanted_end = offset.saturating_add(len);
        let end = wanted_end.checked_next_multiple_of(cluster).unwrap_or(u64::MAX).min(self.backend.len());
        let mut at = offset / cluster * cluster;
        while at < end {
            let status = self.backend.block_status(at, (end - at).min(TAKE_OVER_BYTES_MAX)).await?;
            if status.len == 0 {
                break;
            }
            if !status.is_allocated() {
                let data = self.backend.read_bytes(at, to_len(status.len)).await?;
                if is_zero(&data) {
                    self.backend.write_zeroes(at, status.len, ZeroFlags::empty()).await?;
                } else {
                    self.backend.write(at, data.into(), WriteFlags::empty()).await?;
                }
            }
            at = at.saturating_add(status.len);
        }
        Ok(())
    }
}

/// Reads from the data of a saved machine.
async fn read_state(_backend: &BlockBackend, _offset: u64, _len: usize) -> Result<IoBuf> {
    Err(BlockError::new(ErrorKind::Unsupported, "this image holds no machine states"))
}

/// Fails as the request would.
pub(super) fn check_inside(backend: &BlockBackend, offset: u64, len: u64) -> Result<()> {
    if offset.checked_add(len).is_some_and(|end| end <= backend.len()) {
        return Ok(());
    }
    Err(BlockError::new(ErrorKind::BadRequest, "the request is outside of the disk"))
}

/// What is to be printed about data, and whether it is as expected.
pub(super) fn tell(
    bytes: &[u8],
    offset: u64,
    expectation: Option<Expectation>,
    loudness: Loudness,
    elapsed: Duration,
) -> (String, Done) {
    let complaint = expectation.and_then(|expectation| expectation.objects_to(bytes, offset));
    let result = if complaint.is_some() { Err(super::Failed) } else { Ok(()) };
    let mut text = complaint.unwrap_or_default();
    if loudness.quiet {
        return (text, result);
    }
    if loudness.dump {
        text.push_str(&dump(bytes, offset));
    }
    let len = sum(&[bytes.len()]);
    let report = Report { verb: "read", offset, len, for_programs: loudness.for_programs };
    text.push_str(&report.text(elapsed));
    (text, result)
}

/// The data of a saved machine is read and written in whole sectors.
pub(super) fn check_sectors(shell: &mut Shell, offset: u64, count: u64) -> Done {
    for (value, name) in [(offset, "offset"), (count, "count")] {
        if !value.is_multiple_of(SECTOR_BYTES) {
            return Err(shell.refuse(format!("{value} is not a sector-aligned value for '{name}'")));
        }
    }
    Ok(())
}
