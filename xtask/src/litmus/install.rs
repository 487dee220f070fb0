//! Where herd7 is, and how to get it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{find as find_program, root, run_shown, say};

/// What to do without herd7.
pub(super) const HOW_TO: &str = "\
herd7 is missing. It is part of herdtools7:
  Debian that has the package:  apt-get install herdtools7
  any other Debian on amd64:    cargo xtask litmus --install
                                (unpacks unstable's package under target/, changes nothing else)
  with opam:                    opam install herdtools7";

/// The packages that a private herd7 consists of: it needs the C library that it was built with.
const PACKAGES: [&str; 3] = ["herdtools7", "libc6", "libgmp10"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where a private herd7 is unpacked.
fn private() -> PathBuf {
    root().join("target/herdtools7")
}

/// herd7, if it is in `PATH` or has been unpacked privately.
pub(super) fn find() -> Option<PathBuf> {
    find_program("herd7").or_else(|| Some(private().join("herd7")).filter(|file| file.is_file()))
}

/// Gets herd7: by an ordinary installation if this Debian has the package, else by unpacking unstable's.
pub(super) fn install() -> io::Result<PathBuf> {
    if find_program("apt-get").is_none() || find_program("dpkg-deb").is_none() {
        return Err(io::Error::other(format!("--install needs Debian's apt-get and dpkg-deb.\n{HOW_TO}")));
    }
    if nix::unistd::geteuid().is_root() && is_packaged()? {
        let mut install = Command::new("apt-get");
        install.args(["install", "-q", "-y", "--no-install-recommends", "herdtools7"]);
        run_shown(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    } else {
        unpack(&private())?;
    }
    find().ok_or_else(|| io::Error::other("herd7 is still missing"))
}

/// Whether this Debian has the package.
fn is_packaged() -> io::Result<bool> {
    let output = Command::new("apt-cache").args(["policy", "herdtools7"]).env("LC_ALL", "C").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().any(|line| line.contains("Candidate:") && !line.contains("(none)")))
}

/// The mirror from which this machine gets Debian itself.
fn mirror() -> io::Result<String> {
    let format = "$(LABEL) $(COMPONENT) $(REPO_URI)";
    let output = Command::new("apt-get").args(["indextargets", "--format", format, "Identifier: Packages"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mirror = text.lines().find_map(|line| line.strip_prefix("Debian main "));
    mirror.map(str::to_owned).ok_or_else(|| io::Error::other("apt knows no Debian mirror; run apt-get update first"))
}

/// Unpacks the packages of unstable in `dir`, with apt's state in `dir` too. About 400 MB.
fn unpack(dir: &Path) -> io::Result<()> {
    say(&format!("Unpacking herdtools7 in {}", dir.display()));
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir.join("apt/lists/partial"))?;
    fs::create_dir_all(dir.join("apt/archives/partial"))?;
    let sources = dir.join("apt/sources.list");
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {} sid main\n", mirror()?))?;
    let apt_get = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(dir.join("apt")).arg("-q").args(["-o", "Dir::Etc::SourceParts=-"]);
        command.arg("-o").arg(format!("Dir::Etc::SourceList={}", sources.display()));
        command.arg("-o").arg(format!("Dir::State::Lists={}", dir.join("apt/lists").display()));
        command.arg("-o").arg(format!("Dir::Cache={}", dir.join("apt").display()));
        // The list of packages only, and as the user who unpacks: the folder need not be open to others.
        command.args(["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User="]);
        command.args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"]).args(args);
        command
    };
    run_shown(&mut apt_get(&["update"]))?;
    run_shown(apt_get(&["download"]).args(PACKAGES))?;
    for entry in fs::read_dir(dir.join("apt"))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run_shown(Command::new("dpkg-deb").arg("-x").arg(&file).arg(dir))?;
        }
    }
    write_wrapper(dir)
}

/// Writes `herd7`, which runs the unpacked program with the libraries and the models that were unpacked with it.
fn write_wrapper(dir: &Path) -> io::Result<()> {
    let (usr, file) = (dir.join("usr"), dir.join("herd7"));
    let libraries = usr.join("lib/x86_64-linux-gnu");
    let text = format!(
        "#!/bin/sh\nexec '{0}/ld-linux-x86-64.so.2' --library-path '{0}' '{1}/bin/herd7' -set-libdir '{1}/share/herdtools7/herd' \"$@\"\n",
        libraries.display(),
        usr.display(),
    );
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    fs::remove_dir_all(dir.join("apt"))
}
