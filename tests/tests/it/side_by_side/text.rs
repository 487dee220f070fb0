//! What a person sees of a run, without what chance and the speed of the machine decide about.

use std::path::Path;

use test_support::run::Run;

use super::Rigour;

/// Numbers that differ from run to run: the bytes that a file system gave to a file, and what is drawn or timed.
const CHANCE: &[&str] = &["disk size: ", "\"actual-size\": ", "uuid: ", "\"uuid\": ", "iters: ", "iters\": "];

/// Numbers that depend on the order in which clusters come into use, and the time at which a snapshot was made.
const CHANGED: &[&str] = &[
    "file length: ",
    "Image end offset: ",
    "\"image-end-offset\": ",
    "Leaked cluster ",
    "\"date-sec\": ",
    "\"date-nsec\": ",
    // The file's, below the image's own.
    "                \"virtual-size\": ",
];

/// Everything that `run` said and returned in `dir`, in a form that can be compared.
pub(crate) fn seen(run: &Run, dir: &Path, rigour: Rigour) -> String {
    let (stdout, stderr) = (clean(&run.stdout, dir, rigour), clean(&run.stderr, dir, rigour));
    format!("{}\n[stdout]\n{stdout}[stderr]\n{stderr}", run.status)
}

/// A text without what may differ, and without the name of the folder.
pub(super) fn clean(text: &str, dir: &Path, rigour: Rigour) -> String {
    let dir = dir.to_string_lossy();
    let text = text.replace(&*dir, "DIR");
    let lines = text.split_inclusive('\n');
    match rigour {
        Rigour::Exact => lines.map(|line| clean_line(line, rigour)).collect(),
        // How many clusters are fragmented depends on the order, too; the line is missing when there are none, and with
        // it the comma of the line before.
        Rigour::Changed => lines
            .filter(|line| !line.contains("\"fragmented-clusters\": "))
            .map(|line| clean_line(line, rigour).replace(",\n", "\n"))
            .collect(),
    }
}

fn clean_line(line: &str, rigour: Rigour) -> String {
    let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
    let changed = if rigour == Rigour::Changed { CHANGED } else { &[] };
    for label in CHANCE.iter().chain(changed) {
        if let Some((before, value)) = line.split_once(label) {
            let comma = if value.ends_with(',') { "," } else { "" };
            return format!("{before}{label}SIZE{comma}{end}");
        }
    }
    if let Some((before, after)) = line.split_once("Run completed in ") {
        let unit = after.split_once(' ').map_or("", |(_, unit)| unit);
        return format!("{before}Run completed in TIME {unit}{end}");
    }
    let line = last_progress(line);
    if rigour == Rigour::Changed { format!("{}{end}", without_date(&line)) } else { format!("{line}{end}") }
}

/// Of the marks of progress that follow one another only the last: how many there are depends on the size of requests.
fn last_progress(line: &str) -> String {
    if !line.contains("/100%)") {
        return line.to_owned();
    }
    let marks: Vec<&str> = line.split('\r').collect();
    let is_mark = |text: &str| text.trim_start().starts_with('(') && text.ends_with("/100%)");
    let kept = marks.iter().enumerate().filter(|(n, mark)| {
        let next = marks.get(n + 1).copied().unwrap_or_default();
        !(is_mark(mark) && is_mark(next))
    });
    kept.map(|(_, mark)| *mark).collect::<Vec<_>>().join("\r")
}

/// A line of a list of snapshots without the second at which one was made.
fn without_date(line: &str) -> String {
    let is_date = |word: &str| word.len() == 10 && word.as_bytes()[4] == b'-' && word.as_bytes()[7] == b'-';
    let is_time = |word: &str| word.len() == 8 && word.as_bytes()[2] == b':' && word.as_bytes()[5] == b':';
    let words = line.split(' ').map(|word| match word {
        _ if is_date(word) => "DATE",
        _ if is_time(word) => "TIME",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
