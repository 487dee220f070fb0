//! The rule about layers: arrows between the crates point down only.

use super::SourceFile;

/// A crate, and which of the others it may depend on. What only tests need does not count.
const LAYERS: &[(&str, &[&str])] = &[
    ("confine", &[]),
    ("qemu-crypto", &[]),
    ("qemu-util", &[]),
    ("qemu-block", &["qemu-util", "qemu-crypto"]),
    ("qcow2", &["qemu-util", "qemu-crypto", "qemu-block"]),
    ("raw", &["qemu-util", "qemu-block"]),
    ("luks", &["qemu-util", "qemu-crypto", "qemu-block"]),
    ("filters", &["qemu-util", "qemu-block"]),
    ("nbd", &["qemu-util", "qemu-block"]),
];

/// Everything that a crate below may not depend on by chance.
const OURS: &[&str] = &[
    "confine",
    "qemu-util",
    "qemu-crypto",
    "qemu-block",
    "qcow2",
    "raw",
    "luks",
    "filters",
    "nbd",
    "qemu-img",
    "test-support",
];

/// Complains about dependencies of a manifest that point up or sideways.
pub(super) fn check(file: &SourceFile) -> Vec<String> {
    let layer = LAYERS.iter().find(|(name, _)| file.path == format!("crates/{name}/Cargo.toml"));
    let Some((name, below)) = layer else { return Vec::new() };
    let wrong = dependencies(&file.text).filter(|found| OURS.contains(found) && !below.contains(found));
    wrong.map(|found| format!("{}: {name} may not depend on {found}", file.path)).collect()
}

/// The names in the tables of dependencies that are part of the crate.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table == "dependencies" || table.ends_with(".dependencies");
            return None;
        }
        let end = line.find(['.', '=', ' ']).filter(|_| inside && !line.starts_with('#'))?;
        Some(&line[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_points_up_is_found() {
        let complaints = |text: &str| {
            check(&SourceFile { path: "crates/qemu-util/Cargo.toml".to_owned(), text: text.to_owned() }).len()
        };
        assert_eq!(complaints("[dependencies]\nlibc.workspace = true\nqemu-block.workspace = true\n"), 1);
        assert_eq!(complaints("[target.'cfg(unix)'.dependencies]\nraw = { path = \"../raw\" }\n"), 1);
        assert_eq!(complaints("[dev-dependencies]\ntest-support.workspace = true\n"), 0);
    }
}
