//! `flush`, `discard` and `truncate`.

use std::time::Instant;

use qemu_block::types::{Perm, PreallocMode};

use super::super::command::{Call, Command, Needs};
use super::super::number::{REQUEST_BYTES_MAX, invalid_size};
use super::super::report::Report;
use super::super::shell::{Done, Failed, Shell};
use super::read::check_inside;
use super::{Loudness, size};

pub(super) const FLUSH: Command = Command {
    name: "flush",
    alias: Some("f"),
    arguments: None,
    summary: "flush all in-core file state to disk",
    details: "",
    words: (0, Some(0)),
    needs: Needs::Image,
    run: |shell, _| {
        let backend = shell.backend()?;
        // The reference has no words for this failure, only the exit status.
        shell.wait(backend.flush()).map_err(|_| Failed)
    },
};

pub(super) const DISCARD: Command = Command {
    name: "discard",
    alias: Some("d"),
    arguments: Some("[-Cq] off len"),
    summary: "discards a number of bytes at a specified offset",
    details: "
 -C            numbers separated by commas, for programs
 -q            say nothing about success

",
    words: (2, None),
    needs: Needs::Permission(Perm::WRITE),
    run: discard,
};

pub(super) const TRUNCATE: Command = Command {
    name: "truncate",
    alias: Some("t"),
    arguments: Some("[-m prealloc_mode] off"),
    summary: "truncates the current file at the given offset",
    details: "",
    words: (1, Some(3)),
    needs: Needs::Permission(Perm::WRITE.union(Perm::RESIZE)),
    run: truncate,
};

fn discard(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("Cq");
    let mut loudness = Loudness::default();
    while let Some((letter, _)) = call.next_option(shell, &mut letters)? {
        match letter {
            'C' => loudness.for_programs = true,
            _ => loudness.quiet = true,
        }
    }
    let operands = letters.into_operands();
    let [offset, count] = operands[..] else { return Err(call.usage(shell)) };
    let (offset, len) = (size(shell, offset)?, size(shell, count)?);
    if len > REQUEST_BYTES_MAX {
        return Err(shell.refuse(format!("length cannot exceed {REQUEST_BYTES_MAX}, given {count}")));
    }
    let backend = shell.backend()?;
    let start = Instant::now();
    let result = shell.wait(async {
        check_inside(&backend, offset, len)?;
        backend.discard(offset, len).await
    });
    let elapsed = start.elapsed();
    result.map_err(|error| shell.refuse(format!("discard failed: {}", error.errno_text())))?;
    if !loudness.quiet {
        let report = Report { verb: "discard", offset, len, for_programs: loudness.for_programs };
        shell.out.text(&report.text(elapsed));
    }
    Ok(())
}

fn truncate(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("m:");
    let mut prealloc = PreallocMode::Off;
    let mut option = None;
    while let Some((_, mode)) = call.next_option(shell, &mut letters)? {
        let Some(known) = PreallocMode::parse(mode) else {
            return Err(shell.report_error(format!("Invalid preallocation mode '{mode}'")));
        };
        prealloc = known;
        option.get_or_insert(if call.words.iter().any(|word| word == "-m") {
            "-m".to_owned()
        } else {
            format!("-m{mode}")
        });
    }
    let operands = letters.into_operands();
    let number = operands.first().copied().unwrap_or_default();
    let len = super::super::number::size(number).map_err(|complaint| {
        // The reference quotes the first word, which is the option if there is one.
        let quoted = option.map_or(complaint, |option| invalid_size(&option));
        shell.refuse(quoted)
    })?;
    let backend = shell.backend()?;
    shell.wait(backend.truncate(len, prealloc)).map_err(|error| shell.report_error(error.chain()))
}
