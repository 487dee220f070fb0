//! Servers in other processes, and nodes that are opened on them.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use qemu_block::aio::Services;
use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::OpenFlags;
use qemu_util::buf::IoBuf;
use qemu_util::primitive::Arc;
use tempfile::TempDir;

/// A deadline that no undisturbed test comes near.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Held shared by every test; a test that looks at all threads of the process holds it alone.
static COMPANY: RwLock<()> = RwLock::new(());

/// The means to open exports, and the right to be one of several tests at the same time.
pub(crate) struct Bench {
    context: OpenContext,
    pub(crate) dir: TempDir,
    _company: Option<RwLockReadGuard<'static, ()>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let company = COMPANY.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        Self { _company: Some(company), ..Self::without_company() }
    }

    fn without_company() -> Self {
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(raw::RawDriver));
        nbd::NbdDriver::register(&mut registry);
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { context: OpenContext::new(Arc::new(registry)), dir, _company: None }
    }

    /// Runs `test` while no other test of the process does anything.
    pub(crate) fn alone(test: impl FnOnce(&Self)) {
        let _alone = COMPANY.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        test(&Self::without_company());
    }

    /// A path in the test's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens what the options describe, for writing.
    pub(crate) async fn open(&self, options: &str) -> Result<Arc<Node>> {
        self.open_with(options, OpenFlags::WRITE | OpenFlags::UNMAP).await
    }

    pub(crate) async fn open_with(&self, options: &str, flags: OpenFlags) -> Result<Arc<Node>> {
        let options = Options::parse_keyval(options, None)?;
        self.context.open(OpenSpec::options(options).with_flags(flags)).await
    }

    /// Opens a name at the protocol level.
    pub(crate) async fn open_name(&self, name: &str) -> Result<Arc<Node>> {
        self.context.open_protocol(name, Options::new(), OpenFlags::WRITE).await
    }

    pub(crate) fn context(&self) -> &OpenContext {
        &self.context
    }
}

/// Runs a future on an executor that is not ours. It must be done in time.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let timed = async { tokio::time::timeout(PATIENCE, future).await.expect("it does not hang") };
    runtime.block_on(timed)
}

/// A server in a process of its own. It is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Server {
    /// `qemu-nbd` with a raw file; eight clients may come, again and again.
    pub(crate) fn qemu(socket: &Path, file: &Path, more: &[&str]) -> Self {
        let mut command = Command::new("qemu-nbd");
        command.args(["-t", "-e", "8", "-f", "raw", "-k"]).arg(socket).args(more).arg(file);
        Self::start(command, socket)
    }

    /// `nbdkit` with filters, a plugin and its parameters.
    pub(crate) fn nbdkit(socket: &Path, words: &[&str]) -> Self {
        let mut command = Command::new("nbdkit");
        command.args(["-f", "-U"]).arg(socket).args(words);
        Self::start(command, socket)
    }

    fn start(mut command: Command, socket: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the server is installed");
        let mut server = Self { child, socket: socket.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(socket).is_err() {
            let status = server.child.try_wait().expect("a child");
            assert!(status.is_none(), "the server ended: {status:?}");
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        server
    }

    /// The options that lead to it.
    pub(crate) fn options(&self) -> String {
        format!("driver=nbd,path={}", self.socket.display())
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // Both fail only if it is gone already.
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

/// Bytes that differ from block to block.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    let mut value = u32::from(seed).wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        value.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// A buffer with these bytes.
pub(crate) fn data(bytes: &[u8]) -> qemu_util::buf::IoVec {
    IoBuf::copy_of(bytes).into()
}

/// The error of something that must fail.
pub(crate) fn failure<T>(result: Result<T>) -> BlockError {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error,
    }
}
