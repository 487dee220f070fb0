//! Every command with every option, with pairs of options and with every kind of mistake: both programs say the same,
//! return the same, and leave images that are the same to `compare`, `info` and `check`.
//!
//! [`tables`] has a table for each command, [`table`] makes the command lines of it, [`deliberate`] lists where we differ on
//! purpose.

mod deliberate;
mod table;
mod tables;

use test_support::programs::reference_speaks_our_version;

use crate::side_by_side::{Rigour, results_differ, run_case};
use table::Table;

/// The environment variable that asks for all lines.
const EVERYTHING: &str = "QEMU_IMG_DIFFERENTIAL_ALL";

/// Runs one of `parts` equal parts of the lines for a command, and demands that there is no difference but those that are
/// deliberate.
#[track_caller]
fn check(table: &Table, part: usize, parts: usize) {
    let lines = lines_to_run(table);
    let mine = lines.iter().enumerate().filter(|(n, line)| n % parts == part && !deliberate::is_listed(line));
    let (mut total, mut different) = (0, Vec::new());
    for (_, line) in mine {
        total += 1;
        different.extend(difference(line));
    }
    assert!(total > 0);
    assert!(different.is_empty(), "{} of {total} differ\n{}", different.len(), different.join("\n"));
}

/// All lines for a command if the environment asks for them, else half of them, to keep the normal run short. Two
/// of four lines that follow one another, because the tables often make lines in pairs.
fn lines_to_run(table: &Table) -> Vec<String> {
    let all = table.all();
    if std::env::var_os(EVERYTHING).is_some() {
        return all;
    }
    all.into_iter().enumerate().filter(|(n, _)| n % 4 < 2).map(|(_, line)| line).collect()
}

/// How the programs differ in `line`: in what they say, in what they return, or in what they leave.
fn difference(line: &str) -> Option<String> {
    let twins = run_case(line, Rigour::Changed);
    let text = twins.said.clone().or_else(|| results_differ(&twins));
    text.map(|text| format!("=== {line}\n{text}"))
}

macro_rules! commands {
    ($($name:ident $table:ident $part:literal of $parts:literal;)*) => {
        $(
            #[test]
            fn $name() {
                check(&tables::$table, $part, $parts);
            }
        )*
    };
}

commands! {
    amend AMEND 0 of 1;
    bench BENCH 0 of 1;
    bitmap BITMAP 0 of 1;
    check_ CHECK 0 of 1;
    commit COMMIT 0 of 1;
    compare COMPARE 0 of 1;
    convert_1 CONVERT 0 of 3;
    convert_2 CONVERT 1 of 3;
    convert_3 CONVERT 2 of 3;
    create CREATE 0 of 1;
    dd DD 0 of 1;
    info INFO 0 of 1;
    map MAP 0 of 1;
    measure MEASURE 0 of 1;
    rebase REBASE 0 of 1;
    resize RESIZE 0 of 1;
    snapshot SNAPSHOT 0 of 1;
}

/// All tables.
const ALL: &[Table] = &[
    tables::AMEND,
    tables::BENCH,
    tables::BITMAP,
    tables::CHECK,
    tables::COMMIT,
    tables::COMPARE,
    tables::CONVERT,
    tables::CREATE,
    tables::DD,
    tables::INFO,
    tables::MAP,
    tables::MEASURE,
    tables::REBASE,
    tables::RESIZE,
    tables::SNAPSHOT,
];

#[test]
fn there_are_enough_lines() {
    let counts: Vec<_> = ALL.iter().map(|table| (table.command, lines_to_run(table).len())).collect();
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    print(&format!("{total} lines: {counts:?}"));
    assert!(total >= 600, "{total}");
}

/// Each difference is printed; one that is gone must leave the list.
#[test]
fn deliberate_differences_are_still_there() {
    let mut gone = Vec::new();
    for deliberate::Deliberate { lines, what, why } in deliberate::ALL {
        print(&format!("{what}\n    because {why}"));
        for line in deliberate::lines(lines) {
            print(&format!("        {line}"));
            if difference(line).is_none() && reference_speaks_our_version() {
                gone.push(line);
            }
        }
    }
    assert!(gone.is_empty(), "these do not differ any more:\n{}", gone.join("\n"));
}

#[expect(clippy::print_stdout, reason = "the lists are to be seen in the log of the tests")]
fn print(text: &str) {
    println!("{text}");
}
