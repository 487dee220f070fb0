//! NBD servers in processes of their own, on a Unix socket each.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A deadline that no undisturbed server comes near.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server. It is killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    /// `qemu-nbd` with a raw file; eight clients may come, again and again.
    ///
    /// # Panics
    /// If it does not start.
    pub fn qemu(socket: &Path, file: &Path, more: &[&str]) -> Self {
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "8", "-f", "raw", "-k"]).arg(socket).args(more).arg(file);
        Self::start(command, socket)
    }

    /// `nbdkit` with filters, a plugin and its parameters.
    ///
    /// # Panics
    /// If it does not start.
    pub fn nbdkit(socket: &Path, words: &[&str]) -> Self {
        let mut command = Command::new("nbdkit");
        command.args(["-f", "-U"]).arg(socket).args(words);
        Self::start(command, socket)
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The options that lead to it.
    pub fn options(&self) -> String {
        format!("driver=nbd,path={}", self.socket.display())
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.stop();
    }

    fn start(mut command: Command, socket: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the server is installed");
        let mut server = Self { child, socket: socket.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        // A file is there before somebody listens on it, so that only a connection proves anything.
        while UnixStream::connect(socket).is_err() {
            let status = server.child.try_wait().expect("a child");
            assert!(status.is_none(), "the server ended: {status:?}");
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        server
    }

    fn stop(&mut self) {
        // Each fails only if there is nothing left to do.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.socket));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
