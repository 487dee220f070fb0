//! `write` and `writev`.

use std::time::Instant;

use qemu_block::backend::BlockBackend;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::{WriteFlags, ZeroFlags};
use qemu_util::buf::IoVec;

use super::super::buffer::Placement;
use super::super::command::{Call, Command, Needs};
use super::super::number::REQUEST_BYTES_MAX;
use super::super::report::Report;
use super::super::shell::{Done, Failed, Shell};
use super::read::{check_inside, check_sectors};
use super::{Loudness, lengths, pattern, size, sum, to_len};
use qemu_block::types::Perm;

/// What is written when nobody says what.
pub(super) const DEFAULT_PATTERN: u8 = 0xcd;

pub(super) const WRITE: Command = Command {
    name: "write",
    alias: Some("w"),
    arguments: Some("[-bcCfnqruz] [-P pattern | -s source_file] off len"),
    summary: "writes a number of bytes at a specified offset",
    details: "
 -b            into the data of a saved machine instead of the disk
 -c            compressed
 -C            numbers separated by commas, for programs
 -f            durable when the command ends
 -P PATTERN    write bytes of this value instead of 0xcd
 -s FILE       write the content of FILE, repeated as often as it takes
 -z            zeros, by the cheapest means that the image has
 -u            with -z: the space may be given back
 -n            with -z: fail where zeros would have to be written out
 -q            say nothing about success
 -p, -r        have no effect

",
    words: (2, None),
    needs: Needs::Permission(Perm::WRITE),
    run: write,
};

pub(super) const WRITEV: Command = Command {
    name: "writev",
    alias: None,
    arguments: Some("[-Cfqr] [-P pattern] off len [len..]"),
    summary: "writes a number of bytes at a specified offset",
    details: "
 Writes from several buffers, one for each length.
 -C            numbers separated by commas, for programs
 -f            durable when the command ends
 -P PATTERN    write bytes of this value instead of 0xcd
 -q            say nothing about success
 -r            has no effect

",
    words: (2, None),
    needs: Needs::Permission(Perm::WRITE),
    run: writev,
};

/// The options of `write`.
#[derive(Debug, Default)]
struct Options<'a> {
    loudness: Loudness,
    to_state: bool,
    compressed: bool,
    durable: bool,
    registered: bool,
    zero: bool,
    unmap: bool,
    no_fallback: bool,
    pattern: Option<u8>,
    source: Option<&'a str>,
}

impl Options<'_> {
    /// What is wrong with these options together.
    fn conflict(&self) -> Option<&'static str> {
        let contents = [self.zero, self.pattern.is_some(), self.source.is_some()];
        if self.to_state && self.zero {
            Some("-b and -z cannot be specified at the same time")
        } else if self.durable && (self.to_state || self.compressed) {
            Some("-f and -b or -c cannot be specified at the same time")
        } else if self.no_fallback && !self.zero {
            Some("-n requires -z to be specified")
        } else if self.unmap && !self.zero {
            Some("-u requires -z to be specified")
        } else if contents.into_iter().filter(|given| *given).count() > 1 {
            Some("Only one of -z, -P, and -s can be specified at the same time")
        } else {
            None
        }
    }
}

fn write(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("bcCfnpP:qrs:uz");
    let mut options = Options::default();
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            'b' => options.to_state = true,
            'c' => options.compressed = true,
            'C' => options.loudness.for_programs = true,
            'f' => options.durable = true,
            'n' => options.no_fallback = true,
            'P' => options.pattern = Some(pattern(shell, value)?),
            'q' => options.loudness.quiet = true,
            'r' => options.registered = true,
            's' => options.source = Some(value),
            'u' => options.unmap = true,
            'z' => options.zero = true,
            _ => {}
        }
    }
    let operands = letters.into_operands();
    let [offset, count] = operands[..] else { return Err(call.usage(shell)) };
    if let Some(conflict) = options.conflict() {
        return Err(shell.refuse(conflict));
    }
    let (offset, len) = (size(shell, offset)?, size(shell, count)?);
    if len > REQUEST_BYTES_MAX && !options.no_fallback {
        return Err(shell.refuse(format!("length cannot exceed {REQUEST_BYTES_MAX} without -n, given {count}")));
    }
    if options.to_state || options.compressed {
        check_sectors(shell, offset, len)?;
    }
    if options.zero && options.registered {
        return Err(shell.refuse("cannot combine zero write with registered I/O buffer"));
    }
    let backend = shell.backend()?;
    let data = data(shell, &backend, &options, offset, len)?;
    let start = Instant::now();
    let result = shell.wait(perform(&backend, &options, offset, len, data));
    let elapsed = start.elapsed();
    result.map_err(|error| shell.refuse(format!("write failed: {}", error.errno_text())))?;
    if !options.loudness.quiet {
        let report = Report { verb: "wrote", offset, len, for_programs: options.loudness.for_programs };
        shell.out.text(&report.text(elapsed));
    }
    Ok(())
}

/// The data to write; empty where there is no use for it.
fn data(
    shell: &mut Shell,
    backend: &BlockBackend,
    options: &Options<'_>,
    offset: u64,
    len: u64,
) -> Result<IoVec, Failed> {
    let placement = shell.settings.placement;
    if options.zero {
        return Ok(IoVec::default());
    }
    if let Some(name) = options.source {
        return placement.filled_from(name, to_len(len)).map_err(|complaint| shell.refuse_on_stderr(complaint));
    }
    if !options.to_state && check_inside(backend, offset, len).is_err() {
        // The request will fail; it needs no memory for that.
        return Ok(IoVec::default());
    }
    Ok(placement.filled(&[to_len(len)], options.pattern.unwrap_or(DEFAULT_PATTERN)))
}

async fn perform(backend: &BlockBackend, options: &Options<'_>, offset: u64, len: u64, data: IoVec) -> Result<()> {
    if options.to_state {
        return Err(BlockError::new(ErrorKind::Unsupported, "this image holds no machine states"));
    }
    check_inside(backend, offset, len)?;
    if options.zero {
        return zero(backend, offset, len, zero_flags(options.unmap, options.no_fallback), options.durable).await;
    }
    if options.compressed {
        return compress(backend, offset, len, data).await;
    }
    backend.write(offset, data, write_flags(options.durable)).await
}

/// Writes compressed data up to where the image holds data already: compressed data never takes its place.
async fn compress(backend: &BlockBackend, offset: u64, len: u64, data: IoVec) -> Result<()> {
    // Whether it can be stored at all is found out first, as it is in the reference.
    let run = backend.compress(offset, data.clone()).await?;
    let vacant = vacant(backend, offset, len).await?;
    if vacant == len {
        return backend.write_compressed(run).await;
    }
    let run = backend.compress(offset, data.slice(0..to_len(vacant))).await?;
    backend.write_compressed(run).await?;
    Err(BlockError::new(ErrorKind::Io, "compressed data cannot replace data"))
}

/// How much of the range, from its beginning, the image does not hold.
async fn vacant(backend: &BlockBackend, offset: u64, len: u64) -> Result<u64> {
    let mut vacant = 0;
    while vacant < len {
        let status = backend.block_status(offset.saturating_add(vacant), len - vacant).await?;
        if status.is_allocated() && (!status.is_zero() || status.host_offset.is_some()) {
            break;
        }
        vacant += status.len.max(1);
    }
    Ok(vacant.min(len))
}

/// The flags of a write.
pub(super) fn write_flags(durable: bool) -> WriteFlags {
    if durable { WriteFlags::FUA } else { WriteFlags::empty() }
}

/// The flags of a write of zeros.
pub(super) fn zero_flags(unmap: bool, no_fallback: bool) -> ZeroFlags {
    let mut flags = ZeroFlags::empty();
    flags.set(ZeroFlags::MAY_UNMAP, unmap);
    flags.set(ZeroFlags::NO_FALLBACK, no_fallback);
    flags
}

/// Writes zeros, and makes them durable if asked to.
pub(super) async fn zero(backend: &BlockBackend, offset: u64, len: u64, flags: ZeroFlags, durable: bool) -> Result<()> {
    backend.write_zeroes(offset, len, flags).await?;
    if durable { backend.flush().await } else { Ok(()) }
}

fn writev(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("CfP:qr");
    let (mut loudness, mut durable, mut byte) = (Loudness::default(), false, DEFAULT_PATTERN);
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            'C' => loudness.for_programs = true,
            'f' => durable = true,
            'P' => byte = pattern(shell, value)?,
            'q' => loudness.quiet = true,
            _ => {}
        }
    }
    let operands = letters.into_operands();
    let [offset, lens @ ..] = &operands[..] else { return Err(call.usage(shell)) };
    if lens.is_empty() {
        return Err(call.usage(shell));
    }
    let (offset, lens) = (size(shell, offset)?, lengths(shell, lens)?);
    let (placement, backend) = (shell.settings.placement, shell.backend()?);
    let start = Instant::now();
    let result = shell.wait(store(&backend, placement, offset, &lens, byte, write_flags(durable)));
    let elapsed = start.elapsed();
    result.map_err(|error| shell.refuse(format!("writev failed: {}", error.errno_text())))?;
    if !loudness.quiet {
        let report = Report { verb: "wrote", offset, len: sum(&lens), for_programs: loudness.for_programs };
        shell.out.text(&report.text(elapsed));
    }
    Ok(())
}

/// Writes pieces of `lens` full of `byte`.
pub(super) async fn store(
    backend: &BlockBackend,
    placement: Placement,
    offset: u64,
    lens: &[usize],
    byte: u8,
    flags: WriteFlags,
) -> Result<()> {
    check_inside(backend, offset, sum(lens))?;
    backend.write(offset, placement.filled(lens, byte), flags).await
}
