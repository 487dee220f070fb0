//! The texts were taken from the reference's `info` and `convert`.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Help,
    Format,
    Output,
    Object,
    ImageOpts,
    Force,
    Quiet,
    Parallel,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::switch(Id::Help, Some('h'), &["help"]),
    Flag::value(Id::Format, Some('f'), &["format"]),
    Flag::value(Id::Output, None, &["output"]),
    Flag::value(Id::Object, None, &["object"]),
    Flag::switch(Id::ImageOpts, None, &["image-opts", "image-options"]),
    Flag::switch(Id::Force, Some('U'), &["force-share"]),
    Flag::switch(Id::Quiet, Some('q'), &[]),
    Flag::value(Id::Parallel, Some('m'), &["parallel"]).also(&["progress"]),
];

type Parsed = Result<(Vec<(Id, String)>, Vec<String>), String>;

fn parse(words: &[&str], mode: Operands) -> Parsed {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let mut parser = Parser::with_mode("info", FLAGS, words, mode);
    let mut given = Vec::new();
    loop {
        match parser.next() {
            Ok(Some(Given { id, value })) => given.push((id, value)),
            Ok(None) => return Ok((given, parser.finish().map(|(_, operands)| operands).unwrap_or_default())),
            Err(failure) => return Err(failure.into_text().lines().next().unwrap_or_default().to_owned()),
        }
    }
}

#[track_caller]
fn accept(words: &[&str], options: &[(Id, &str)], operands: &[&str]) {
    let (given, left) = parse(words, Operands::Mix).expect("accepted");
    let expected: Vec<_> = options.iter().map(|(id, value)| (*id, (*value).to_owned())).collect();
    assert_eq!((given, left), (expected, operands.iter().map(|word| (*word).to_owned()).collect()));
}

#[track_caller]
fn refuse(words: &[&str], text: &str) {
    assert_eq!(parse(words, Operands::Mix).expect_err("refused"), format!("qemu-img info: {text}"));
}

#[test]
fn options_may_follow_operands() {
    accept(&["a", "-U", "b", "--output=json"], &[(Id::Force, ""), (Id::Output, "json")], &["a", "b"]);
    accept(&["a", "--", "-U", "--"], &[], &["a", "-U", "--"]);
    accept(&["-", "-f", "--", "x"], &[(Id::Format, "--")], &["-", "x"]);
}

#[test]
fn short_options_cluster_and_take_the_rest() {
    accept(&["-qUfraw", "x"], &[(Id::Quiet, ""), (Id::Force, ""), (Id::Format, "raw")], &["x"]);
    accept(&["-qf", "raw"], &[(Id::Quiet, ""), (Id::Format, "raw")], &[]);
    accept(&["-f", ""], &[(Id::Format, "")], &[]);
    refuse(&["-f"], "option requires an argument -- 'f'");
    refuse(&["-qZU"], "invalid option -- 'Z'");
    refuse(&["-ü"], "invalid option -- 'ü'");
}

#[test]
fn long_options_may_be_abbreviated() {
    accept(&["--forc", "--outp", "x", "--i"], &[(Id::Force, ""), (Id::Output, "x"), (Id::ImageOpts, "")], &[]);
    accept(&["--format=", "--parallel=a=b"], &[(Id::Format, ""), (Id::Parallel, "a=b")], &[]);
    accept(&["--p", "3", "--progress", "4"], &[(Id::Parallel, "3"), (Id::Parallel, "4")], &[]);
    refuse(&["--f"], "option '--f' is ambiguous; possibilities: '--format' '--force-share'");
    refuse(&["--o=3"], "option '--o=3' is ambiguous; possibilities: '--output' '--object'");
    refuse(&["--pro"], "unrecognized option '--pro'");
    refuse(&["--foo=1"], "unrecognized option '--foo=1'");
    refuse(&["--hel=3"], "option '--help' doesn't allow an argument");
    refuse(&["--forma"], "option '--format' requires an argument");
}

#[test]
fn every_name_but_the_duplicates_of_the_first_is_a_possibility() {
    let all = "'--help' '--format' '--output' '--object' '--image-opts' '--image-options' '--force-share' '--parallel'";
    refuse(&["--="], &format!("option '--=' is ambiguous; possibilities: {all}"));
}

#[test]
fn a_command_name_ends_the_programs_options() {
    let (given, left) = parse(&["-q", "info", "-h"], Operands::EndOptions).expect("accepted");
    assert_eq!(given, [(Id::Quiet, String::new())]);
    assert_eq!(left, ["info", "-h"]);
}

#[test]
fn a_negative_number_behind_the_first_operand_is_one() {
    let accept = |words: &[&str], n_options: usize, operands: &[&str]| {
        let (given, left) = parse(words, Operands::MixWithNumber).expect("accepted");
        assert_eq!((given.len(), left), (n_options, operands.iter().map(|word| (*word).to_owned()).collect()));
    };
    accept(&["a", "-1k", "-q"], 1, &["a", "-1k"]);
    accept(&["-q", "a", "-1k"], 1, &["a", "-1k"]);
    accept(&["a", "-q", "-U"], 2, &["a"]);
    accept(&["a", "--", "-1k"], 0, &["a", "-1k"]);
    for words in [&["-1k", "a"][..], &["a", "b", "-1k"], &["a", "-q", "-1k"]] {
        let complaint = parse(words, Operands::MixWithNumber).expect_err("refused");
        assert_eq!(complaint, "qemu-img info: invalid option -- '1'");
    }
}
