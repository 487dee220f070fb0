//! The Debian package `qemu-img-rust`.
//!
//! It puts `qemu-img` and `qemu-io` where users and programs look for them, in `/usr/bin`. Debian's `qemu-utils` has files
//! of the same names, and `qemu-nbd` besides, which nobody should lose. So the package neither conflicts with `qemu-utils`
//! nor claims to provide it: it diverts the files that both have (`dpkg-divert`) to `qemu-img.qemu` and so on, whether
//! `qemu-utils` is installed before, afterwards or not at all, and gives them back when it is removed.
//!
//! A `.deb` is an `ar` archive of three members, which is written here: no tool of Debian's is needed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Release;
use super::archive::{MANUAL, pack, put, put_program};
use crate::process::{root, run};

/// Files that `qemu-utils` has, too.
const DIVERTED: [&str; 4] =
    ["/usr/bin/qemu-img", "/usr/bin/qemu-io", "/usr/share/man/man1/qemu-img.1.gz", "/usr/share/man/man1/qemu-io.1.gz"];

/// Makes `DIR/qemu-img-rust_VERSION_ARCH.deb`.
pub(super) fn make(release: &Release, programs: &[PathBuf], manual: &Path) -> io::Result<()> {
    let work = tempfile::tempdir()?;
    let data = work.path().join("data");
    let usr = data.join("usr");
    for program in programs {
        put_program(program, &usr.join("bin"))?;
    }
    for (file, place) in MANUAL {
        put(&manual.join(file), &usr.join(place))?;
    }
    // Debian's manual pages are packed.
    let pages = usr.join("share/man/man1");
    run(Command::new("gzip").arg("-9n").args([pages.join("qemu-img.1"), pages.join("qemu-io.1")]))?;
    let doc = usr.join("share/doc/qemu-img-rust");
    put(&root().join("README.md"), &doc.join("README.md"))?;
    put(&root().join("LICENSE-MIT"), &doc.join("copyright"))?;
    let control = work.path().join("control");
    fs::create_dir_all(&control)?;
    fs::write(control.join("control"), control_file(release, kib_of(&data)?))?;
    script(&control.join("preinst"), &divert("install", "--add"))?;
    script(&control.join("postrm"), &divert("remove", "--remove"))?;
    let members = ["control", "data"].map(|part| (part, work.path().join(format!("{part}.tar.gz"))));
    for (part, packed) in &members {
        pack(&work.path().join(part), ".", packed)?;
    }
    let file = format!("qemu-img-rust_{}_{}.deb", release.version, debian_arch(release.arch));
    write_ar(&release.dir.join(file), &members.each_ref().map(|(_, packed)| packed))
}

fn debian_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn control_file(release: &Release, kib: u64) -> String {
    let Release { version, arch, .. } = release;
    format!(
        "Package: qemu-img-rust\nVersion: {version}\nArchitecture: {}\nMaintainer: The qemu-img in Rust developers <root@localhost>\n\
         Installed-Size: {kib}\nDepends: libc6 (>= 2.34), libgcc-s1\nSection: utils\nPriority: optional\n\
         Description: disk image tool, a drop-in for QEMU's qemu-img\n \
         Creates, converts, checks and changes disk images of virtual machines. The programs\n \
         qemu-img and qemu-io of the package qemu-utils stay reachable with the suffix .qemu.\n",
        debian_arch(arch)
    )
}

/// A maintainer script that moves QEMU's programs out of the way, or back.
fn divert(when: &str, action: &str) -> String {
    let mut text = format!("#!/bin/sh\nset -e\ncase \"$1\" in {when})\n");
    for path in DIVERTED {
        text.push_str(&format!(
            "    dpkg-divert --package qemu-img-rust --rename --divert {path}.qemu {action} {path}\n"
        ));
    }
    text + "    ;;\nesac\n"
}

fn script(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn kib_of(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        total +=
            if entry.file_type()?.is_dir() { kib_of(&entry.path())? } else { entry.metadata()?.len().div_ceil(1024) };
    }
    Ok(total)
}

/// Writes an archive in the common format of `ar(5)`: the version of the package format, then the members.
fn write_ar(path: &Path, members: &[&PathBuf]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"!<arch>\n")?;
    write_member(&mut file, "debian-binary", b"2.0\n")?;
    for member in members {
        let name = member.file_name().unwrap_or_default().to_string_lossy().into_owned();
        write_member(&mut file, &name, &fs::read(member)?)?;
    }
    Ok(())
}

fn write_member(file: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    writeln!(file, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, bytes.len())?;
    file.write_all(bytes)?;
    // Members begin at even offsets.
    if bytes.len() % 2 == 1 { file.write_all(b"\n") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_headers_of_sixty_bytes_and_even_starts() {
        let mut bytes = Vec::new();
        write_member(&mut bytes, "debian-binary", b"2.0\n").expect("memory");
        assert_eq!((bytes.len(), &bytes[58..60]), (64, &b"`\n"[..]));
        write_member(&mut bytes, "odd", b"x").expect("memory");
        assert_eq!(bytes.len(), 64 + 60 + 2);
    }

    #[test]
    fn files_are_diverted_and_given_back() {
        let (preinst, postrm) = (divert("install", "--add"), divert("remove", "--remove"));
        assert!(preinst.contains("--divert /usr/bin/qemu-img.qemu --add /usr/bin/qemu-img\n"));
        assert!(postrm.contains("--divert /usr/bin/qemu-io.qemu --remove /usr/bin/qemu-io\n"));
    }
}
