//! Rules about Rust sources: where `unsafe` and atomics may be, what a file begins with, what never occurs.

use super::SourceFile;
use super::lexer::code_only;

/// What the tag of an ordering begins with; its name follows.
pub(super) const PAIR_TAG: &str = "[pair:";

/// Where `unsafe` may occur.
const UNSAFE_ALLOWED: [&str; 3] = ["crates/qemu-util/", "crates/qemu-block/src/aio/", "crates/qemu-block/src/file/"];

/// Roots of crates that must forbid `unsafe`.
const FORBIDDING: &[&str] = &[
    "crates/confine/src/lib.rs",
    "crates/qcow2/src/lib.rs",
    "crates/raw/src/lib.rs",
    "crates/filters/src/lib.rs",
    "crates/nbd/src/lib.rs",
    "crates/luks/src/lib.rs",
    "crates/qemu-img/src/main.rs",
    "tests/soak/src/main.rs",
    "tests/src/lib.rs",
    "xtask/src/main.rs",
];

/// The only file outside tests that names the standard library's atomics and cells.
const PRIMITIVE: &str = "crates/qemu-util/src/primitive.rs";

/// Code that never occurs, and why.
const NEVER: [(&str, &str); 6] = [
    ("#[ignore", "a test that does not run proves nothing"),
    ("#[should_panic", "assert what is returned instead"),
    ("#[allow(", "use #[expect(…, reason = …)], which complains once it is no longer needed"),
    ("#![allow(", "use #![expect(…, reason = …)], which complains once it is no longer needed"),
    ("todo!(", "finish it"),
    ("unimplemented!(", "finish it"),
];

/// Applies the rules to a Rust file.
pub(super) fn check(file: &SourceFile) -> Vec<String> {
    let mut complaints = Vec::new();
    let path = &file.path;
    let code = code_only(&file.text);
    if !file.text.starts_with("//!") && !is_unit_test(path) {
        complaints.push(format!("{path}: does not begin with a line that says what it is for"));
    }
    if FORBIDDING.contains(&path.as_str()) && !code.contains("#![forbid(unsafe_code)]") {
        complaints.push(format!("{path}: does not forbid unsafe code"));
    }
    // Tests inside a file are its last module.
    let tested = code.lines().position(|line| line == "#[cfg(test)]").unwrap_or(usize::MAX);
    let in_test = |n| n >= tested || is_unit_test(path);
    for (n, line) in code.lines().enumerate() {
        if !in_test(n) && names_atomics(line) && path != PRIMITIVE {
            complaints.push(format!("{path}:{}: atomics and UnsafeCell come from {PRIMITIVE}", n + 1));
        }
        complaints.extend(line_complaints(path, line).into_iter().map(|why| format!("{path}:{}: {why}", n + 1)));
    }
    complaints
}

fn line_complaints(path: &str, line: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if has_word(line, "unsafe") && !UNSAFE_ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
        complaints.push("unsafe code outside the files that may hold it".to_owned());
    }
    let never = NEVER.iter().filter(|(token, _)| line.contains(token));
    complaints.extend(never.map(|(token, why)| format!("{token}: {why}")));
    complaints
}

fn names_atomics(line: &str) -> bool {
    line.contains("sync::atomic") || line.contains("std::cell::UnsafeCell")
}

/// Unit tests live beside the code, in `tests.rs` or in a folder `tests`.
fn is_unit_test(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        check(&SourceFile { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn unsafe_code_is_found_where_it_must_not_be() {
        let text = "//! Head.\nfn f() { unsafe { g() } }\n";
        assert_eq!(complaints("crates/qcow2/src/a.rs", text), 1);
        assert_eq!(complaints("crates/qemu-util/src/a.rs", text), 0);
        assert_eq!(complaints("crates/qcow2/src/a.rs", "//! unsafe\n#![forbid(unsafe_code)] // unsafe\n"), 0);
    }

    #[test]
    fn atomics_outside_the_primitive_module_are_found() {
        let text = "//! Head.\nuse std::sync::atomic::AtomicU32;\n";
        assert_eq!(complaints("crates/qemu-util/src/buf/a.rs", text), 1);
        assert_eq!(complaints(PRIMITIVE, text), 0);
    }

    #[test]
    fn a_missing_head_is_found() {
        assert_eq!(complaints("xtask/src/a.rs", "fn f() {}\n"), 1);
    }
}
