//! `qemu-img check`: is the metadata of an image consistent?
//!
//! | status | meaning |
//! |---|---|
//! | 0 | no errors |
//! | 1 | the check could not be done, or not completely |
//! | 2 | corrupt |
//! | 3 | leaked clusters, no other errors |
//! | 63 | the format has nothing to check |
//!
//! With `-r` the status tells of what is left after the repair, which a second check finds out.
//!
//! QEMU: `img_check`, `dump_human_image_check` (qemu-img.c)

use std::fmt::Write;

use qemu_block::error::{ErrorKind, errno_text};
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, CheckReport, OpenFlags};

use super::Command;
use crate::cli::common::{OutputFormat, one_filename, parse_cache};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::human::percent;
use crate::output::json::Json;
use crate::output::messages;
use crate::session::Session;
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "check",
    summary: "Checks the consistency of an image's metadata.",
    synopsis: "[--object OBJDEF] [-q] [--image-opts | -f FMT] [-T CACHE] [-r leaks|all] [--output human|json] [-U] \
               FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "Exit status: 0 no errors, 1 the check failed, 2 corrupt, 3 leaked clusters only, 63 the format has no checks. With -r it tells of what is left after the repair.",
    run,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Cache,
    Repair,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Quiet),
    Flag::shared(Shared::Format),
    Flag::value(Id::Cache, Some('T'), &["cache"])
        .named("CACHE")
        .doc("none, writeback (the default), writethrough, directsync or unsafe"),
    Flag::value(Id::Repair, Some('r'), &["repair"])
        .named("WHAT")
        .doc("repair leaked clusters (leaks), or everything that can be (all)"),
    Flag::shared(Shared::Output),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::ImageOpts),
    Flag::shared(Shared::ForceShare),
];

#[derive(Debug)]
struct Arguments {
    shared: SharedArgs,
    fixes: CheckFixes,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments { shared: SharedArgs::default(), fixes: CheckFixes::Nothing };
    let mut cache = None;
    while let Some(given) = parser.next()? {
        match given.id {
            Id::Cache => cache = Some(given.value),
            Id::Repair => arguments.fixes = parse_fixes(&given.value)?,
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.shared.image.name = one_filename(COMMAND.name, operands)?;
    arguments.shared.image.check_exclusive("--format")?;
    let parse_cache = |name: String| parse_cache(&name, |name| format!("Invalid source cache option: {name}"));
    arguments.shared.image.cache = cache.map(parse_cache).transpose()?;
    Ok(Some(arguments))
}

fn parse_fixes(what: &str) -> Result<CheckFixes, Failure> {
    match what {
        "leaks" => Ok(CheckFixes::Leaks),
        "all" => Ok(CheckFixes::All),
        _ => Err(Failure::usage(COMMAND.name, format!("--repair (-r) expects 'leaks' or 'all' not '{what}'"))),
    }
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    let fixes_nothing = arguments.fixes == CheckFixes::Nothing;
    Needs::of(COMMAND.name).reads_or_writes(fixes_nothing, &arguments.shared.image).confine()?;
    let session = Session::new()?.with_objects(&arguments.shared.objects);
    session.block_on(check(&session, &arguments))
}

async fn check(session: &Session, arguments: &Arguments) -> CommandResult {
    let mut flags = OpenFlags::CHECK;
    flags.set(OpenFlags::WRITE, arguments.fixes != CheckFixes::Nothing);
    let node = session.open_image(&arguments.shared.image, flags).await?;
    let checked = check_node(&node, arguments).await;
    let closed = node.close().await;
    let Some(report) = checked? else {
        messages::print_error("qemu-img: This image format does not support checks");
        return Ok(Outcome::ChecksUnsupported);
    };
    match arguments.shared.output {
        _ if arguments.shared.quiet => {}
        OutputFormat::Human => messages::print(&to_human(&report))?,
        OutputFormat::Json => {
            messages::print(&to_json(&report, &arguments.shared.image.name, node.driver().name()).pretty())?;
        }
    }
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", arguments.shared.image.name), &error))?;
    verdict(&report)
}

/// Checks and repairs an image and, if that changed it, checks it again; none when there is nothing to check.
async fn check_node(node: &Node, arguments: &Arguments) -> Result<Option<CheckReport>, Failure> {
    let Some(first) = check_once(node, arguments.fixes).await? else { return Ok(None) };
    let CheckReport { corruptions_fixed, leaks_fixed, .. } = first;
    if corruptions_fixed == 0 && leaks_fixed == 0 {
        return Ok(Some(first));
    }
    if arguments.shared.output == OutputFormat::Human && !arguments.shared.quiet {
        messages::print(&format!(
            "The following inconsistencies were found and repaired:\n\n    {leaks_fixed} leaked clusters\n    \
             {corruptions_fixed} corruptions\n\nDouble checking the fixed image now...\n"
        ))?;
    }
    let again = check_once(node, CheckFixes::Nothing).await?;
    Ok(again.map(|again| CheckReport { corruptions_fixed, leaks_fixed, ..again }))
}

/// One check, whose findings are printed as it reports them.
async fn check_once(node: &Node, fixes: CheckFixes) -> Result<Option<CheckReport>, Failure> {
    let report = match node.check(fixes).await {
        Ok(report) => report,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        Err(error) => return Err(Failure::block("Check failed", &error)),
    };
    report.messages.iter().for_each(|message| messages::print_error(message));
    match report.stopped_by {
        None => Ok(Some(report)),
        Some(errno) => Err(Failure::new(format!("Check failed: {}", errno_text(errno)))),
    }
}

fn verdict(report: &CheckReport) -> CommandResult {
    if report.check_errors > 0 {
        Err(Failure::new("Check failed"))
    } else if report.corruptions > 0 {
        Ok(Outcome::Corrupt)
    } else if report.leaks > 0 {
        Ok(Outcome::Leaks)
    } else {
        Ok(Outcome::Success)
    }
}

fn to_human(report: &CheckReport) -> String {
    let mut out = String::new();
    let mut add = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = out.write_fmt(text);
    };
    if report.corruptions + report.leaks + report.check_errors == 0 {
        add(format_args!("No errors were found on the image.\n"));
    }
    if report.corruptions > 0 {
        add(format_args!(
            "\n{} errors were found on the image.\n\
             Data may be corrupted, or further writes to the image may corrupt it.\n",
            report.corruptions
        ));
    }
    if report.leaks > 0 {
        add(format_args!(
            "\n{} leaked clusters were found on the image.\n\
             This means waste of disk space, but no harm to data.\n",
            report.leaks
        ));
    }
    if report.check_errors > 0 {
        add(format_args!("\n{} internal errors have occurred during the check.\n", report.check_errors));
    }
    let (allocated, total) = (report.allocated_clusters, report.total_clusters);
    if total > 0 && allocated > 0 {
        add(format_args!(
            "{allocated}/{total} = {} allocated, {} fragmented, {} compressed clusters\n",
            percent(allocated, total),
            percent(report.fragmented_clusters, allocated),
            percent(report.compressed_clusters, allocated)
        ));
    }
    if report.image_end_offset > 0 {
        add(format_args!("Image end offset: {}\n", report.image_end_offset));
    }
    out
}

/// The members in the order of the reference, which leaves out most numbers that are zero.
fn to_json(report: &CheckReport, filename: &str, format: &'static str) -> Json {
    let unless_zero = |number: u64| (number > 0).then_some(Json::Int(number));
    let members = [
        ("image-end-offset", unless_zero(report.image_end_offset)),
        ("compressed-clusters", unless_zero(report.compressed_clusters)),
        ("total-clusters", unless_zero(report.total_clusters)),
        ("corruptions", unless_zero(report.corruptions)),
        ("corruptions-fixed", unless_zero(report.corruptions_fixed)),
        ("check-errors", Some(Json::Int(report.check_errors))),
        ("leaks", unless_zero(report.leaks)),
        ("leaks-fixed", unless_zero(report.leaks_fixed)),
        ("allocated-clusters", unless_zero(report.allocated_clusters)),
        ("filename", Some(Json::text(filename))),
        ("format", Some(Json::text(format))),
        ("fragmented-clusters", unless_zero(report.fragmented_clusters)),
    ];
    Json::Object(members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> CheckReport {
        CheckReport {
            image_end_offset: 1_376_256,
            total_clusters: 384,
            allocated_clusters: 16,
            ..CheckReport::default()
        }
    }

    #[track_caller]
    fn check_human(report: &CheckReport, expected: &str) {
        assert_eq!(to_human(report), expected);
    }

    #[test]
    fn texts_for_people() {
        let end = "16/384 = 4.17% allocated, 0.00% fragmented, 0.00% compressed clusters\nImage end offset: 1376256\n";
        check_human(&clean(), &format!("No errors were found on the image.\n{end}"));
        check_human(
            &CheckReport { corruptions: 4, leaks: 18, check_errors: 1, ..clean() },
            &format!(
                "\n4 errors were found on the image.\n\
                 Data may be corrupted, or further writes to the image may corrupt it.\n\
                 \n18 leaked clusters were found on the image.\n\
                 This means waste of disk space, but no harm to data.\n\
                 \n1 internal errors have occurred during the check.\n{end}"
            ),
        );
        let empty = CheckReport { allocated_clusters: 0, ..clean() };
        check_human(&empty, "No errors were found on the image.\nImage end offset: 1376256\n");
    }

    #[test]
    fn json_leaves_zeros_out() {
        let report =
            CheckReport { leaks: 3, fragmented_clusters: 1, compressed_clusters: 2, corruptions: 5, ..clean() };
        let names = |report: &CheckReport| match to_json(report, "x", "qcow2") {
            Json::Object(members) => members.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" "),
            other => panic!("{other:?} is no object"),
        };
        assert_eq!(
            names(&report),
            "image-end-offset compressed-clusters total-clusters corruptions check-errors leaks allocated-clusters \
             filename format fragmented-clusters"
        );
        assert_eq!(names(&CheckReport::default()), "check-errors filename format");
    }

    #[test]
    fn verdicts() {
        assert!(matches!(verdict(&clean()), Ok(Outcome::Success)));
        assert!(matches!(verdict(&CheckReport { leaks: 1, ..clean() }), Ok(Outcome::Leaks)));
        assert!(matches!(verdict(&CheckReport { leaks: 1, corruptions: 1, ..clean() }), Ok(Outcome::Corrupt)));
        assert!(verdict(&CheckReport { corruptions: 1, check_errors: 1, ..clean() }).is_err());
    }

    #[test]
    fn repairs_have_names() {
        assert!(matches!(parse_fixes("leaks"), Ok(CheckFixes::Leaks)));
        assert!(matches!(parse_fixes("all"), Ok(CheckFixes::All)));
        let complaint = parse_fixes("foo").expect_err("unknown").into_text();
        assert_eq!(
            complaint,
            "qemu-img: --repair (-r) expects 'leaks' or 'all' not 'foo'\n\
             Try 'qemu-img check --help' for more info"
        );
    }
}
