//! The emulator's own debugger stub: the way to the registers and the memory of the emulated program.
//!
//! The stub of a user-mode emulator waits for a debugger before the program starts, and takes no second one later. So
//! this is the debugger from the beginning: it says "continue" and holds the connection. When the program hangs, a
//! signal that the program has not blocked stops it, and the connection is passed on to a real debugger, byte by byte;
//! to that one it looks as if it were the first.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the emulator may take to open its socket, or to stop the program.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the debugger may take for its work: it reads the symbols of a program of many megabytes.
const DEBUGGER_PATIENCE: Duration = Duration::from_secs(90);

/// The remote protocol's "continue".
const CONTINUE: &[u8] = b"$c#63";

/// The remote protocol's answer to every packet.
const ACKNOWLEDGED: &[u8] = b"+";

/// Stops the program: it would end it, were there no debugger, and is neither caught nor blocked.
const STOPPING: Signal = Signal::SIGALRM;

/// The connection to a stub.
#[derive(Debug)]
pub(super) struct Stub {
    stream: UnixStream,
}

impl Stub {
    /// Connects to the stub at `socket` and lets the program run. `is_alive` says whether there is still hope.
    ///
    /// # Errors
    /// If the emulator does not open the socket.
    pub(super) fn connect(socket: &Path, mut is_alive: impl FnMut() -> bool) -> io::Result<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Self::let_run(stream),
                Err(error) if Instant::now() >= end || !is_alive() => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Says "continue", and leaves an acknowledgement behind for what the stub says next: the exit of the program, which
    /// it would hold up until somebody had acknowledged it.
    fn let_run(mut stream: UnixStream) -> io::Result<Self> {
        stream.write_all(CONTINUE)?;
        // The stub has read the command; what comes from now on stays in the socket until it reads again.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0])?;
        stream.write_all(ACKNOWLEDGED)?;
        Ok(Self { stream })
    }

    /// What `gdb` says about all threads of the emulated `program`, whose emulator is `pid`.
    ///
    /// # Errors
    /// If the program cannot be stopped, or the debugger not be run.
    pub(super) fn backtraces(mut self, pid: Pid, gdb: &mut Command) -> io::Result<String> {
        self.stop(pid)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let target = format!("target remote {}", listener.local_addr()?);
        gdb.args(["-ex", &target, "-ex", "thread apply all backtrace", "-ex", "disconnect"]);
        let mut child = gdb.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        listener.set_nonblocking(true)?;
        let debugger = accept(&listener, || child.try_wait().is_ok_and(|status| status.is_none()));
        if let Ok(debugger) = &debugger {
            pass_on(&self.stream, debugger)?;
        }
        let output = super::gather::output_within(child, DEBUGGER_PATIENCE)?;
        debugger.map(|_| output)
    }

    /// Stops the program and takes the stub's word for it.
    fn stop(&mut self, pid: Pid) -> io::Result<()> {
        kill(pid, STOPPING)?;
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let mut said = Vec::new();
        let mut buf = [0; 1024];
        // The answer to "continue" is the reason of the stop: `$T…#xx`.
        while !is_stop_reply(&said) {
            match self.stream.read(&mut buf)? {
                0 => return Err(io::Error::other("the emulator has closed its debugger stub")),
                len => said.extend_from_slice(&buf[..len]),
            }
        }
        self.stream.set_read_timeout(None)
    }
}

fn is_stop_reply(said: &[u8]) -> bool {
    let hash = said.iter().position(|byte| *byte == b'#');
    said.contains(&b'$') && hash.is_some_and(|at| said.len() >= at + 3)
}

fn accept(listener: &TcpListener, mut is_alive: impl FnMut() -> bool) -> io::Result<TcpStream> {
    let end = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if Instant::now() >= end || !is_alive() => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Two threads that copy, until one side ends.
fn pass_on(stub: &UnixStream, debugger: &TcpStream) -> io::Result<()> {
    let (mut from_stub, mut to_debugger) = (stub.try_clone()?, debugger.try_clone()?);
    let (mut from_debugger, mut to_stub) = (debugger.try_clone()?, stub.try_clone()?);
    thread::spawn(move || io::copy(&mut from_stub, &mut to_debugger));
    thread::spawn(move || io::copy(&mut from_debugger, &mut to_stub));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_stop_reply;

    #[test]
    fn a_stop_reply_is_recognised_when_it_is_complete() {
        for incomplete in ["", "+", "+$T0ethread:7c9b;", "+$T0ethread:7c9b;#0"] {
            assert!(!is_stop_reply(incomplete.as_bytes()), "{incomplete}");
        }
        assert!(is_stop_reply(b"+$T0ethread:7c9b;#0b"));
    }
}
