//! `aio_read`, `aio_write` and `aio_flush`: requests that go on while further commands run.
//!
//! Such a command succeeds when the request has begun. What becomes of the request is printed when it ends, and has no
//! influence on the exit status.

use std::time::Instant;

use qemu_block::types::Perm;

use super::super::command::{Call, Command, Needs};
use super::super::report::Report;
use super::super::shell::{Done, Shell};
use super::read::{Expectation, check_inside, tell};
use super::write::{DEFAULT_PATTERN, store, write_flags, zero, zero_flags};
use super::{Loudness, lengths, pattern, size, sum};

pub(super) const AIO_READ: Command = Command {
    name: "aio_read",
    alias: None,
    arguments: Some("[-Ciqrv] [-P pattern] off len [len..]"),
    summary: "asynchronously reads a number of bytes",
    details: "
 The request goes on while other commands run; aio_flush waits for it. Its failure does not count as a failure of
 the command.
 -C            numbers separated by commas, for programs
 -i            make no request, and count an invalid one
 -P PATTERN    check that all bytes are PATTERN
 -q            say nothing about success
 -v            show the data
 -r            has no effect

",
    words: (2, None),
    needs: Needs::Image,
    run: aio_read,
};

pub(super) const AIO_WRITE: Command = Command {
    name: "aio_write",
    alias: None,
    arguments: Some("[-Cfiqruz] [-P pattern] off len [len..]"),
    summary: "asynchronously writes a number of bytes",
    details: "
 The request goes on while other commands run; aio_flush waits for it. Its failure does not count as a failure of
 the command.
 -C            numbers separated by commas, for programs
 -f            durable when the request ends
 -i            make no request, and count an invalid one
 -P PATTERN    write bytes of this value instead of 0xcd
 -z            zeros, by the cheapest means that the image has
 -u            with -z: the space may be given back
 -q            say nothing about success
 -r            has no effect

",
    words: (2, None),
    needs: Needs::Permission(Perm::WRITE),
    run: aio_write,
};

pub(super) const AIO_FLUSH: Command = Command {
    name: "aio_flush",
    alias: None,
    arguments: None,
    summary: "completes all outstanding aio requests",
    details: "",
    words: (0, Some(0)),
    needs: Needs::Image,
    run: |shell, _| {
        shell.drain();
        Ok(())
    },
};

fn aio_read(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("CiP:qrv");
    let (mut loudness, mut expected) = (Loudness::default(), None);
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            'C' => loudness.for_programs = true,
            'i' => {
                shell.out.line("injecting invalid read request");
                return Ok(());
            }
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
    shell.start(async move {
        let start = Instant::now();
        match reader.fetch(offset, &lens).await {
            Err(error) => format!("readv failed: {}\n", error.errno_text()),
            Ok(bytes) => {
                let expectation = expected.map(|pattern| Expectation { pattern, start: 0, len: sum(&lens) });
                tell(&bytes, offset, expectation, loudness, start.elapsed()).0
            }
        }
    });
    Ok(())
}

/// The options of `aio_write`.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    loudness: Loudness,
    durable: bool,
    registered: bool,
    zero: bool,
    unmap: bool,
}

fn aio_write(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("CfiP:qruz");
    let (mut options, mut byte) = (Options::default(), DEFAULT_PATTERN);
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            'C' => options.loudness.for_programs = true,
            'f' => options.durable = true,
            'i' => {
                shell.out.line("injecting invalid write request");
                return Ok(());
            }
            'P' => byte = pattern(shell, value)?,
            'q' => options.loudness.quiet = true,
            'r' => options.registered = true,
            'u' => options.unmap = true,
            'z' => options.zero = true,
            _ => {}
        }
    }
    let operands = letters.into_operands();
    let [offset, lens @ ..] = &operands[..] else { return Err(call.usage(shell)) };
    let conflict = match lens {
        [] => return Err(call.usage(shell)),
        [_, _, ..] if options.zero => Some("-z supports only a single length parameter"),
        _ if options.unmap && !options.zero => Some("-u requires -z to be specified"),
        _ if options.zero && options.registered => Some("cannot combine zero write with registered I/O buffer"),
        _ => None,
    };
    if let Some(conflict) = conflict {
        return Err(shell.refuse(conflict));
    }
    let offset = size(shell, offset)?;
    if options.zero {
        start_zero(shell, options, offset, lens)
    } else {
        start_write(shell, options, offset, lens, byte)
    }
}

fn start_write(shell: &mut Shell, options: Options, offset: u64, lens: &[&str], byte: u8) -> Done {
    let lens = lengths(shell, lens)?;
    let (placement, backend) = (shell.settings.placement, shell.backend()?);
    shell.start(async move {
        let start = Instant::now();
        let result = store(&backend, placement, offset, &lens, byte, write_flags(options.durable)).await;
        wrote(result, options, offset, sum(&lens), start)
    });
    Ok(())
}

fn start_zero(shell: &mut Shell, options: Options, offset: u64, lens: &[&str]) -> Done {
    let len = size(shell, lens.first().copied().unwrap_or_default())?;
    let backend = shell.backend()?;
    shell.start(async move {
        let start = Instant::now();
        let result = async {
            check_inside(&backend, offset, len)?;
            zero(&backend, offset, len, zero_flags(options.unmap, false), options.durable).await
        };
        let result = result.await;
        wrote(result, options, offset, len, start)
    });
    Ok(())
}

/// What a write has to tell.
fn wrote(result: qemu_block::error::Result<()>, options: Options, offset: u64, len: u64, start: Instant) -> String {
    match result {
        Err(error) => format!("aio_write failed: {}\n", error.errno_text()),
        Ok(()) if options.loudness.quiet => String::new(),
        Ok(()) => {
            let for_programs = options.loudness.for_programs;
            Report { verb: "wrote", offset, len, for_programs }.text(start.elapsed())
        }
    }
}
