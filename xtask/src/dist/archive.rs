//! Release archives: a folder with the programs and what belongs to them, packed the same way every time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{root, run};

/// Files of the project that every archive has.
const TEXTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Where the files of [`crate::dist::write_manual`] lie below a prefix such as `/usr`.
pub(super) const MANUAL: [(&str, &str); 5] = [
    ("qemu-io.1", "share/man/man1/qemu-io.1"),
    ("qemu-img.1", "share/man/man1/qemu-img.1"),
    ("qemu-img.bash", "share/bash-completion/completions/qemu-img"),
    ("_qemu-img", "share/zsh/site-functions/_qemu-img"),
    ("qemu-img.fish", "share/fish/vendor_completions.d/qemu-img.fish"),
];

/// Makes `DIR/NAME.tar.gz`, which holds one folder of that name, laid out like `/usr/local`.
pub(super) fn make(dir: &Path, name: &str, programs: &[PathBuf], manual: &Path) -> io::Result<()> {
    let work = tempfile::tempdir()?;
    let tree = work.path().join(name);
    for program in programs {
        put_program(program, &tree.join("bin"))?;
    }
    for (file, place) in MANUAL {
        put(&manual.join(file), &tree.join(place))?;
    }
    for text in TEXTS {
        put(&root().join(text), &tree.join(text))?;
    }
    pack(work.path(), name, &dir.join(format!("{name}.tar.gz")))
}

/// Copies a program into a folder, without what only debuggers need: that is nine tenths of it.
pub(super) fn put_program(program: &Path, dir: &Path) -> io::Result<()> {
    let copy = dir.join(program.file_name().unwrap_or_default());
    put(program, &copy)?;
    run(Command::new("strip").arg(&copy))
}

/// Copies a file with its permissions, making the folders above it.
pub(super) fn put(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).map(drop).map_err(|error| io::Error::other(format!("{}: {error}", from.display())))
}

/// Packs `name` in `dir` into `packed`. Owners, times and order do not depend on who packs when.
pub(super) fn pack(dir: &Path, name: &str, packed: &Path) -> io::Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--mode=go-w"]);
    run(tar.args(["--use-compress-program=gzip -9n", "-cf"]).arg(packed).arg("-C").arg(dir).arg(name))
}
