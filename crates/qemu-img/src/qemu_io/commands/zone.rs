//! The commands for zoned devices. No image and no device that the block layer knows has zones, so all of them are
//! refused, once their numbers are.

use super::super::command::{Call, Command, Needs};
use super::super::shell::{Done, Shell};
use super::{lengths, size};

/// The most zones that one report can have.
const ZONES_MAX: u64 = u32::MAX as u64;

pub(super) const REPORT: Command = Command {
    name: "zone_report",
    alias: Some("zrp"),
    arguments: Some("offset number"),
    summary: "report zone information",
    details: "",
    words: (2, Some(2)),
    needs: Needs::Image,
    run: |shell, call| {
        check_two(shell, call)?;
        let count = size(shell, call.words.get(1).map_or("", String::as_str))?;
        if count > ZONES_MAX {
            return Err(shell.refuse("Number of zones must be less than 2^32"));
        }
        Err(shell.refuse("zone report failed: Operation not supported"))
    },
};

pub(super) const OPEN: Command = Command {
    name: "zone_open",
    alias: Some("zo"),
    arguments: Some("offset len"),
    summary: "explicit open a range of zones in zone block device",
    details: "",
    words: (2, Some(2)),
    needs: Needs::Image,
    run: |shell, call| manage(shell, call, "open"),
};

pub(super) const CLOSE: Command = Command {
    name: "zone_close",
    alias: Some("zc"),
    arguments: Some("offset len"),
    summary: "close a range of zones in zone block device",
    details: "",
    words: (2, Some(2)),
    needs: Needs::Image,
    run: |shell, call| manage(shell, call, "close"),
};

pub(super) const FINISH: Command = Command {
    name: "zone_finish",
    alias: Some("zf"),
    arguments: Some("offset len"),
    summary: "finish a range of zones in zone block device",
    details: "",
    words: (2, Some(2)),
    needs: Needs::Image,
    run: |shell, call| manage(shell, call, "finish"),
};

pub(super) const RESET: Command = Command {
    name: "zone_reset",
    alias: Some("zrs"),
    arguments: Some("offset len"),
    summary: "reset a zone write pointer in zone block device",
    details: "",
    words: (2, Some(2)),
    needs: Needs::Image,
    run: |shell, call| manage(shell, call, "reset"),
};

pub(super) const APPEND: Command = Command {
    name: "zone_append",
    alias: Some("zap"),
    arguments: Some("offset len [len..]"),
    summary: "append write a number of bytes at a specified offset",
    details: "",
    words: (3, Some(4)),
    needs: Needs::Image,
    run: append,
};

fn check_two(shell: &mut Shell, call: &Call<'_>) -> Done {
    for word in call.words {
        size(shell, word)?;
    }
    Ok(())
}

fn manage(shell: &mut Shell, call: &Call<'_>, what: &str) -> Done {
    check_two(shell, call)?;
    Err(shell.refuse(format!("zone {what} failed: Operation not supported")))
}

fn append(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("p");
    while call.next_option(shell, &mut letters)?.is_some() {}
    let operands = letters.into_operands();
    let [offset, lens @ ..] = &operands[..] else { return Err(call.usage(shell)) };
    size(shell, offset)?;
    lengths(shell, lens)?;
    Err(shell.refuse("zone append failed: Operation not supported"))
}
