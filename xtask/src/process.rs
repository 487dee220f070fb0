//! Running other programs and talking to the person who started the task.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes a line to standard output. A reader that went away is nobody's loss.
pub(crate) fn say(line: &str) {
    writeln!(io::stdout(), "{line}").ok();
}

/// Writes a line to standard error.
pub(crate) fn complain(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A cargo command in the workspace's folder, with the cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(args).current_dir(root());
    command
}

/// Runs `command` with our own standard streams; its failure is ours.
pub(crate) fn run(command: &mut Command) -> io::Result<()> {
    let line = shown(command);
    let status = command.status().map_err(|error| io::Error::other(format!("{line}: {error}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{line}: {status}"))) }
}

/// As [`run`], after showing the command.
pub(crate) fn run_shown(command: &mut Command) -> io::Result<()> {
    say(&format!("$ {}", shown(command)));
    run(command)
}

fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = [name].into_iter().chain(command.get_args()).map(|word| word.to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}

/// Where a program is, if it is in `PATH` or among the system administrator's tools.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = test_support::cloud::path_with_sbin();
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Builds `qemu-img` with `profile` (`dev` or `release`) and says where it is.
pub(crate) fn build_qemu_img(profile: &str) -> io::Result<PathBuf> {
    build_qemu_img_with(&["--profile".to_owned(), profile.to_owned()], &[])
}

/// Builds `qemu-img` with more arguments and variables for cargo, and says where it is.
pub(crate) fn build_qemu_img_with(args: &[String], variables: &[(&str, OsString)]) -> io::Result<PathBuf> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (OsString::from(name), value.clone())).collect();
    let programs = build(args, &variables)?;
    // With the feature `mutants` it has another name; qemu-io belongs to the same package.
    let is_it = |program: &PathBuf| program.file_name().is_some_and(|name| name != "qemu-io");
    programs.into_iter().rfind(is_it).ok_or_else(|| io::Error::other("cargo names no binary qemu-img"))
}

/// Builds the programs of the package `qemu-img` that users get, and says where they are.
pub(crate) fn build_programs(
    profile: &str,
    args: &[String],
    variables: &[(OsString, OsString)],
) -> io::Result<Vec<PathBuf>> {
    let args = [&["--profile".to_owned(), profile.to_owned()], args].concat();
    build(&args, variables)
}

/// Builds the package `qemu-img` and says where its binaries are.
fn build(args: &[String], variables: &[(OsString, OsString)]) -> io::Result<Vec<PathBuf>> {
    let mut build = cargo(&["build", "--package", "qemu-img"]);
    build.args(args).envs(variables.iter().cloned());
    let output = build.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("cargo build --package qemu-img: {}", output.status)));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(messages.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).collect())
}
