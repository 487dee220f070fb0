//! Errors and warnings as JSON, an object a line, for `--error-format=json`.

use serde_json::{Map, Value};

use crate::failure::{Code, Report};
use crate::settings;

/// An error.
pub(crate) fn error(report: &Report) -> String {
    let mut members = message(report.code.name(), &report.text);
    if let Some(file) = &report.file {
        members.insert("file".to_owned(), file.as_str().into());
    }
    if let Some(offset) = report.offset {
        members.insert("offset".to_owned(), offset.into());
    }
    line("error", members)
}

/// The end by a signal, which people are not told of.
pub(crate) fn interrupted(signal: &str) -> String {
    line("error", message(Code::Interrupted.name(), &format!("stopped by {signal}")))
}

/// Something that is worth knowing and stopped nothing.
pub(crate) fn warning(code: &str, text: &str, file: Option<&str>) -> String {
    let mut members = message(code, text);
    if let Some(file) = file {
        members.insert("file".to_owned(), file.into());
    }
    line("warning", members)
}

/// Other text on standard error, such as what a check found, or the progress that a signal asked for.
pub(crate) fn note(text: &str) -> String {
    let mut members = Map::new();
    members.insert("message".to_owned(), text.trim().into());
    line("note", members)
}

fn line(kind: &str, members: Map<String, Value>) -> String {
    let object = Value::Object(Map::from_iter([(kind.to_owned(), Value::Object(members))]));
    format!("{object}\n")
}

/// The text without the program that speaks; further lines of it are advice.
fn message(code: &str, text: &str) -> Map<String, Value> {
    let speaker = settings::program();
    let text = text.strip_prefix(speaker).map_or(text, |rest| rest.strip_prefix(": ").unwrap_or(rest)).trim();
    let (message, hint) = text.split_once('\n').map_or((text, None), |(message, hint)| (message, Some(hint)));
    let mut members = Map::new();
    members.insert("code".to_owned(), code.into());
    members.insert("message".to_owned(), message.into());
    if let Some(hint) = hint {
        members.insert("hint".to_owned(), hint.into());
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn an_error_is_one_line_with_what_is_known() {
        let failure = Failure::new("error while reading at byte 5: \"quoted\"").with_code(Code::Io).about("a b").at(5);
        let Failure::Report(report) = failure else { panic!("a report") };
        let expected =
            r#"{"error":{"code":"io","message":"error while reading at byte 5: \"quoted\"","file":"a b","offset":5}}"#;
        assert_eq!(error(&report), format!("{expected}\n"));
    }

    #[test]
    fn further_lines_are_a_hint() {
        let Failure::Report(report) = Failure::getopt("info", "invalid option -- 'Z'") else { panic!("a report") };
        let expected = r#"{"error":{"code":"usage","message":"info: invalid option -- 'Z'","hint":"Try 'qemu-img info --help' for more info"}}"#;
        assert_eq!(error(&report), format!("{expected}\n"));
        assert_eq!(note("a\nb"), "{\"note\":{\"message\":\"a\\nb\"}}\n");
    }
}
