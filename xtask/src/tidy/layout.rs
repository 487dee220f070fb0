//! Rules about files as such: size, text, length, names, and whether anything uses them.

use std::fs;
use std::io;
use std::path::Path;

use super::SourceFile;

/// No file of the repository is larger, in bytes; images are made by the tests.
const BYTES_MAX: u64 = 1 << 20;

/// Longest Rust source file, in lines.
const LINES_MAX: usize = 600;

/// Longest Rust file that holds only tests, in lines: tables of cases are read one row at a time.
const TEST_LINES_MAX: usize = 800;

/// Folders whose files may be binary.
const FIXTURES: &str = "/fixtures/";

/// Binary fixtures are no larger, in bytes.
const FIXTURE_BYTES_MAX: u64 = 64 << 10;

/// Beginnings of paths that exist on one machine only. Split, so that this file does not hold them.
const MACHINE_PATHS: [[&str; 2]; 4] = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/fa", "rm/"]];

/// The text of a file, or a complaint about it.
pub(super) fn read_text(path: &Path, shown: &str) -> io::Result<Result<String, String>> {
    let bytes = fs::read(path)?;
    let len = bytes.len() as u64;
    let fixture = shown.contains(FIXTURES) && len <= FIXTURE_BYTES_MAX;
    if len > BYTES_MAX {
        return Ok(Err(format!("{shown}: larger than {BYTES_MAX} bytes")));
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ if fixture => Ok(String::new()),
        _ => Err(format!("{shown}: a binary file that is no fixture")),
    })
}

/// Applies the rules that hold for every text file.
pub(super) fn check(file: &SourceFile) -> Vec<String> {
    let mut complaints = Vec::new();
    let path = &file.path;
    let lines = file.text.lines().count();
    let lines_max = if is_test(path) { TEST_LINES_MAX } else { LINES_MAX };
    if file.is_rust() && lines > lines_max {
        complaints.push(format!("{path}: {lines} lines, more than {lines_max}"));
    }
    for (n, line) in file.text.lines().enumerate() {
        let at = format!("{path}:{}", n + 1);
        if line.ends_with([' ', '\t']) {
            complaints.push(format!("{at}: white space at the end of the line"));
        }
        if MACHINE_PATHS.iter().any(|parts| line.contains(&parts.concat())) {
            complaints.push(format!("{at}: a path that exists on one machine only"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        complaints.push(format!("{path}: the last line does not end"));
    }
    complaints
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Rust files that no module declares.
pub(super) fn dead_files(files: &[SourceFile], paths: &[&str]) -> Vec<String> {
    let dead = |path: &str| {
        let parents = possible_parents(path);
        let name = module_name(path);
        let declared = files.iter().filter(|file| parents.contains(&file.path)).any(|file| declares(&file.text, name));
        !parents.is_empty() && !declared
    };
    let found = paths.iter().filter(|path| path.ends_with(".rs") && dead(path));
    found.map(|path| format!("{path}: no module declares it")).collect()
}

/// The name under which a parent declares the file.
fn module_name(path: &str) -> &str {
    let path = path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")).unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

fn declares(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let declaration = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        declaration.trim_start_matches("pub ").strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'))
            == Some(name)
    })
}

/// Files that may declare the module in `path`; none for files that cargo itself finds.
fn possible_parents(path: &str) -> Vec<String> {
    let module = path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")).unwrap_or(path);
    let Some((folder, name)) = module.rsplit_once('/') else { return Vec::new() };
    let is_root = matches!(name, "lib" | "main" | "build") && !path.ends_with("/mod.rs");
    if is_root || ["/examples", "/benches", "/bin"].iter().any(|found| folder.ends_with(found)) {
        return Vec::new();
    }
    let mut parents: Vec<String> = ["lib", "main", "mod"].iter().map(|root| format!("{folder}/{root}.rs")).collect();
    parents.push(format!("{folder}.rs"));
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_no_module_declares_is_found() {
        let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file("c/src/lib.rs", "pub mod a;\nmod b;\n"),
            file("c/src/a.rs", ""),
            file("c/src/b/mod.rs", "    pub(crate) mod deep;"),
            file("c/src/b/deep.rs", "mod tests;"),
            file("c/src/b/deep/tests.rs", ""),
            file("c/src/lost.rs", ""),
            file("c/examples/show.rs", ""),
        ];
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(dead_files(&files, &paths), ["c/src/lost.rs: no module declares it"]);
    }
}
