//! The reference's verdict on the same images: accepted or refused, readable or not, and the exit code of its check.

use std::fmt;
use std::process::Command;

use super::case::Case;
use super::image::header;
use super::observe::Observation;
use crate::support::Bench;

/// Seconds of processor time that the reference gets for one command; some images keep it busy for ever.
const SECONDS: u32 = 10;
/// Bytes of memory that it gets.
const MEMORY: u64 = 2 << 30;

/// What somebody makes of an image, in classes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    opens: bool,
    reads: bool,
    writes: bool,
    /// Exit code of the check; -1 for a crash or a timeout.
    check: i32,
}

impl Verdict {
    /// Ours.
    pub(crate) fn ours(seen: &Observation) -> Self {
        Self { opens: seen.opens, reads: seen.reads, writes: seen.writes, check: seen.check_code }
    }

    /// The reference's.
    pub(crate) fn theirs(case: &Case) -> Self {
        let files = Bench::new();
        let path = write_files(&files, case);
        let (check, _) = run(&["qemu-img", "check", "-q", "-f", "qcow2", &path]);
        let cluster_size = case.image.cluster_size();
        let size = case.image.get64(header::SIZE);
        let offsets = (0..8).map(|i| i * cluster_size).take_while(|offset| *offset < size);
        let reads: Vec<String> =
            offsets.map(|offset| format!("read {offset} {}", cluster_size.min(size - offset))).collect();
        let (code, said) = io(&path, &["-r"], &reads);
        let opens = code >= 0 && !said.contains("can't open");
        let reads = opens && !said.contains("failed");
        let writes = if size >= 8 * cluster_size {
            vec![
                "write -P 0x5a 0 512".to_owned(),
                format!("write -P 0x5a {} 512", 2 * cluster_size),
                format!("write -P 0x5a {} 512", 3 * cluster_size),
                format!("write -P 0x5a {} {cluster_size}", 4 * cluster_size),
                format!("write -z {cluster_size} {cluster_size}"),
                "flush".to_owned(),
            ]
        } else if size > 0 {
            vec![format!("write -P 0x5a 0 {}", size.min(512)), "flush".to_owned()]
        } else {
            vec!["flush".to_owned()]
        };
        let (code, said) = io(&path, &[], &writes);
        let writes = code == 0 && !said.contains("failed") && !said.contains("can't open");
        Self { opens, reads, writes, check }
    }

    /// One aspect.
    pub(crate) fn of(&self, aspect: &str) -> String {
        match aspect {
            "open" => works(self.opens).to_owned(),
            "read" => works(self.reads).to_owned(),
            "write" => works(self.writes).to_owned(),
            _ => match self.check {
                -1 => "crashes or does not end".to_owned(),
                code => format!("exit code {code}"),
            },
        }
    }

    /// The aspects in which two verdicts differ.
    pub(crate) fn differences(&self, theirs: &Self) -> Vec<&'static str> {
        let aspects = [
            ("open", self.opens != theirs.opens),
            ("read", self.reads != theirs.reads),
            ("write", self.writes != theirs.writes),
            ("check", self.check != theirs.check),
        ];
        aspects.into_iter().filter(|(_, differ)| *differ).map(|(aspect, _)| aspect).collect()
    }
}

fn works(does: bool) -> &'static str {
    if does { "works" } else { "fails" }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (opens, reads, writes) = (u8::from(self.opens), u8::from(self.reads), u8::from(self.writes));
        write!(f, "{opens}{reads}{writes} {}", self.check)
    }
}

/// Writes the images; returns the path of the case's own.
fn write_files(files: &Bench, case: &Case) -> String {
    for (name, image) in &case.others {
        image.write_to(&files.path(name)).expect("written");
    }
    let path = files.path("a");
    case.image.write_to(&path).expect("written");
    path
}

fn io(path: &str, options: &[&str], commands: &[String]) -> (i32, String) {
    let mut words = vec!["qemu-io", "-f", "qcow2"];
    words.extend(options);
    words.extend(commands.iter().flat_map(|command| ["-c", command]));
    words.push(path);
    run(&words)
}

/// Runs a command with limits; a crash gives -1.
fn run(words: &[&str]) -> (i32, String) {
    let limits = [format!("--cpu={SECONDS}"), format!("--as={MEMORY}"), "--core=0".to_owned()];
    let output = Command::new("prlimit").args(limits).args(words).output().expect("prlimit is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}
