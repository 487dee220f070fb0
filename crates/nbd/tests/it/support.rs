//! Nodes that are opened on servers, and what tests do with them.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{RwLock, RwLockReadGuard};
use std::time::Duration;

use qemu_block::aio::Services;
use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::OpenFlags;
use qemu_util::buf::IoBuf;
use qemu_util::primitive::Arc;
use tempfile::TempDir;
pub(crate) use test_support::servers::Server;

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
