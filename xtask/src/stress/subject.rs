//! The binary under stress, and how it is run: natively, or by the emulator.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

use super::options::Options;
use super::stub::Stub;
use super::toolchain::{TARGET, Toolchain};
use crate::process::{build_qemu_img_with, find, root};

/// What is run.
#[derive(Debug)]
pub(super) struct Subject {
    binary: PathBuf,
    /// None: natively.
    toolchain: Option<Toolchain>,
    mutant: Option<String>,
}

/// A program that was started.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    stub: Option<Stub>,
}

impl Subject {
    /// Finds or builds everything. The binary is copied to `dir`, so that a build meanwhile does not change it.
    ///
    /// # Errors
    /// If the toolchain is missing or the build fails.
    pub(super) fn prepare(options: &Options, dir: &Path) -> io::Result<Self> {
        let toolchain = match options.native {
            true => None,
            false => Some(Toolchain::get(options.toolchain.as_deref(), options.install)?),
        };
        let built = match &options.binary {
            Some(binary) => binary.clone(),
            None => build(toolchain.as_ref(), &options.features)?,
        };
        let binary = dir.join("qemu-img");
        fs::copy(built, &binary)?;
        Ok(Self { binary, toolchain, mutant: options.mutant.clone() })
    }

    /// The same binary without its defect.
    pub(super) fn without_mutant(self) -> (Self, Option<String>) {
        let mutant = self.mutant.clone();
        (Self { mutant: None, ..self }, mutant)
    }

    /// The defect is on from now on.
    pub(super) fn with_mutant(self, mutant: Option<String>) -> Self {
        Self { mutant, ..self }
    }

    pub(super) fn is_emulated(&self) -> bool {
        self.toolchain.is_some()
    }

    /// The words in front of the arguments.
    fn command(&self, socket: Option<&Path>) -> Command {
        let Some(toolchain) = &self.toolchain else { return Command::new(&self.binary) };
        let mut command = Command::new(&toolchain.emulator);
        command.arg("-L").arg(&toolchain.sysroot);
        if let Some(socket) = socket {
            command.arg("-g").arg(socket);
        }
        command.arg(&self.binary);
        command
    }

    /// Runs it to its end; for the work around the stress.
    ///
    /// # Errors
    /// If it fails; the message is its own.
    pub(super) fn run(&self, args: &[&str]) -> io::Result<()> {
        let output = self.command(None).args(args).output()?;
        let message = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        if output.status.success() { Ok(()) } else { Err(io::Error::other(message)) }
    }

    /// Starts it in `dir`, with its state shown on SIGUSR2; standard error goes to `errors`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(&self, args: &[String], dir: &Path, pressure: Option<u64>) -> io::Result<Running> {
        // A debugger that waits at the stub costs nothing; without one there is nobody to connect to it.
        let with_stub = self.toolchain.as_ref().is_some_and(|toolchain| toolchain.gdb.is_some());
        let socket = dir.join("stub");
        fs::remove_file(&socket).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut command = self.command(with_stub.then_some(socket.as_path()));
        command.args(["--trace", "aio"]).args(args).current_dir(dir);
        command.env_remove("QEMU_UTIL_MUTANT").env_remove("QEMU_UTIL_PRESSURE");
        if let Some(mutant) = &self.mutant {
            command.env("QEMU_UTIL_MUTANT", mutant);
        }
        if let Some(seed) = pressure {
            command.env("QEMU_UTIL_PRESSURE", seed.to_string());
        }
        let errors = fs::File::create(dir.join("errors"))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()?;
        let stub = match with_stub {
            true => match Stub::connect(&socket, || child.try_wait().is_ok_and(|status| status.is_none())) {
                Ok(stub) => Some(stub),
                // It has ended already: its status says more than the missing socket.
                Err(_) if child.try_wait()?.is_some() => None,
                Err(error) => return Err(error),
            },
            false => None,
        };
        Ok(Running { child, stub })
    }

    /// The command line, for a person to repeat it.
    pub(super) fn line(&self, args: &[String], pressure: Option<u64>) -> String {
        let mutant = self.mutant.as_ref().map(|mutant| format!("QEMU_UTIL_MUTANT={mutant}"));
        let pressure = pressure.map(|seed| format!("QEMU_UTIL_PRESSURE={seed}"));
        let program = if self.is_emulated() { "qemu-aarch64 qemu-img" } else { "qemu-img" };
        let words = mutant.into_iter().chain(pressure).chain([program.to_owned()]).chain(args.iter().cloned());
        words.collect::<Vec<_>>().join(" ")
    }

    /// The debugger's word on a program that hangs, and how it was asked.
    ///
    /// # Errors
    /// If there is no debugger, or if it fails.
    pub(super) fn backtraces(&self, running: &mut Running, pid: Pid) -> io::Result<(&'static str, String)> {
        match (&self.toolchain, running.stub.take()) {
            (Some(toolchain), Some(stub)) => {
                let mut gdb =
                    toolchain.debugger(&self.binary).ok_or_else(|| io::Error::other("gdb-multiarch is missing"))?;
                Ok(("gdb-multiarch, through the emulator's stub", stub.backtraces(pid, &mut gdb)?))
            }
            (toolchain, _) => {
                let gdb = find("gdb").ok_or_else(|| io::Error::other("gdb is not installed"))?;
                let how = if toolchain.is_some() { "gdb, on the emulator itself" } else { "gdb" };
                Ok((how, super::gather::native_backtraces(pid, &gdb)?))
            }
        }
    }
}

/// Builds the release binary, in a target folder of its own: another compiler, other flags, other features.
pub(super) fn build(toolchain: Option<&Toolchain>, features: &[String]) -> io::Result<PathBuf> {
    let mut args = vec!["--profile".to_owned(), "release".to_owned()];
    args.extend(features.iter().map(|feature| format!("--features={feature}")));
    let mut variables: Vec<(&str, OsString)> = Vec::new();
    if let Some(toolchain) = toolchain {
        args.extend(["--target".to_owned(), TARGET.to_owned()]);
        variables.extend(toolchain.environment().into_iter().map(|(name, value)| (name, value.into())));
    }
    let folder = if toolchain.is_some() { "aarch64" } else { "native" };
    variables.push(("CARGO_TARGET_DIR", root().join("target").join("stress").join(folder).into()));
    build_qemu_img_with(&args, &variables)
}
