//! What is in the twin folders after a case: the names, the content of images, and their metadata.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use test_support::files::first_difference;
use test_support::programs::{reference, reference_speaks_our_version};

use super::{Rigour, Twins, text};

/// Larger files are mostly holes: they are compared by the reference, which knows how to skip those.
const BYTES_READ_MAX: u64 = 64 << 20;

/// The names in a folder.
pub(crate) fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("the folder can be read");
    entries.map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned()).collect()
}

/// How the folders of a finished case differ: in names when everything succeeded, and in any image that both have.
///
/// After a failure the reference leaves targets that are not complete, and we leave none.
pub(crate) fn results_differ(twins: &Twins) -> Option<String> {
    let (names_a, names_b) = (names(twins.ours()), names(twins.reference()));
    let superfluous = if twins.all_succeeded { names_a != names_b } else { !names_a.is_subset(&names_b) };
    if superfluous {
        return Some(format!("files: {names_a:?}, reference: {names_b:?}\n"));
    }
    names_a.iter().find_map(|name| {
        let (a, b) = (twins.ours().join(name), twins.reference().join(name));
        (a.is_file() && b.is_file()).then(|| images_differ(&a, &b)).flatten()
    })
}

/// How two images differ that need not be equal to the byte.
fn images_differ(a: &Path, b: &Path) -> Option<String> {
    let len = |path: &Path| fs::metadata(path).expect("an image has metadata").len();
    let is_small = len(a).max(len(b)) <= BYTES_READ_MAX;
    if is_small && first_difference(a, b).expect("images can be read").is_none() {
        return None;
    }
    let name = a.file_name().unwrap_or_default().to_string_lossy();
    match (Kind::of(a), Kind::of(b)) {
        (Kind::Qcow2 { is_encrypted }, Kind::Qcow2 { .. }) => {
            let content = if is_encrypted { None } else { contents_differ(a, b, "qcow2") };
            content.or_else(|| metadata_differs(a, b)).map(|text| format!("{name}: {text}"))
        }
        (Kind::Luks, Kind::Luks) if len(a) == len(b) => None,
        (Kind::Other, Kind::Other) if is_small => {
            Some(format!("{name}: {:?}, lengths {} and {}\n", first_difference(a, b), len(a), len(b)))
        }
        (Kind::Other, Kind::Other) if len(a) == len(b) => contents_differ(a, b, "raw"),
        (kind_a, kind_b) => Some(format!("{name}: {kind_a:?} and {kind_b:?}\n")),
    }
}

#[derive(Debug)]
enum Kind {
    Qcow2 {
        is_encrypted: bool,
    },
    Luks,
    /// To be compared byte by byte.
    Other,
}

impl Kind {
    fn of(path: &Path) -> Self {
        let mut header = Vec::new();
        let file = File::open(path).expect("an image can be opened");
        file.take(36).read_to_end(&mut header).expect("an image can be read");
        match header.as_slice() {
            [b'Q', b'F', b'I', 0xfb, rest @ ..] => Self::Qcow2 { is_encrypted: rest.get(28..32) != Some(&[0; 4]) },
            [b'L', b'U', b'K', b'S', 0xba, 0xbe, ..] => Self::Luks,
            _ => Self::Other,
        }
    }
}

fn contents_differ(a: &Path, b: &Path, format: &str) -> Option<String> {
    let dir = a.parent().unwrap_or(a);
    let run = reference().invoke(dir).words(&format!("compare -f {format} -F {format}")).arg(a).arg(b).run();
    // A missing backing file is told with another status: then both have none.
    (run.code() == Some(1)).then(|| format!("content differs\n{run}"))
}

/// How `info` and `check` of the reference differ, run where the images are.
fn metadata_differs(a: &Path, b: &Path) -> Option<String> {
    let look = |path: &Path, line: &str| {
        let dir = path.parent().unwrap_or(path);
        let run = reference().invoke(dir).words(line).arg(path.file_name().unwrap_or_default()).run();
        text::seen(&run, dir, Rigour::Changed)
    };
    ["info -f qcow2 --output=json", "check -f qcow2 --output=json"].into_iter().find_map(|line| {
        let (seen_a, seen_b) = (look(a, line), look(b, line));
        let differs = reference_speaks_our_version() && seen_a != seen_b;
        differs.then(|| format!("{line}\n--- ours\n{seen_a}--- reference\n{seen_b}"))
    })
}
