//! Writes the manual page and the completions of `qemu-img` into a folder, from the very tables by which it parses
//! command lines. A program of its own, so that the other development tasks need not compile `qemu-img`.

#![forbid(unsafe_code)]

mod bash;
mod fish;
mod man;
mod words;
mod zsh;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use qemu_img::manual::{CommandDoc, commands, common_options, program_options, qemu_io};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir] = args.as_slice() else {
        writeln!(io::stderr(), "usage: manual FOLDER").ok();
        return ExitCode::FAILURE;
    };
    match write_all(Path::new(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "manual: {dir}: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Every file has the name under which its reader looks for it.
fn write_all(dir: &Path) -> io::Result<()> {
    let (commands, options) = (commands(), program_options());
    fs::create_dir_all(dir)?;
    fs::write(dir.join("qemu-img.1"), man::page(&commands, &options))?;
    fs::write(dir.join("qemu-io.1"), man::io_page(&qemu_io()))?;
    let commands = with_common_options(commands);
    fs::write(dir.join("qemu-img.bash"), bash::script(&commands, &options))?;
    fs::write(dir.join("_qemu-img"), zsh::script(&commands, &options))?;
    fs::write(dir.join("qemu-img.fish"), fish::script(&commands, &options))
}

/// The commands as shells should offer them: each with the options that all of them take, unless it has one of the name.
fn with_common_options(mut commands: Vec<CommandDoc>) -> Vec<CommandDoc> {
    for command in &mut commands {
        let known: Vec<&str> = command.options.iter().flat_map(|option| option.long.iter().copied()).collect();
        let is_new = |name: &&str| !known.contains(name);
        let common = common_options().into_iter().filter(|option| option.long.iter().all(is_new));
        command.options.extend(common.collect::<Vec<_>>());
    }
    commands
}
