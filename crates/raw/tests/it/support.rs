//! A registry with raw and a format that can only be recognised.

use qemu_block::manage::{Measurement, cannot_measure};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use qemu_block::aio::Services;
use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, Options};
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::{OpenFlags, Perm};
use raw::RawDriver;
use tempfile::TempDir;

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// What the other format's images begin with.
pub(crate) const OTHER_MAGIC: &[u8] = b"OTHER\xfb";

/// A folder and the means to open what is in it.
pub(crate) struct Bench {
    folder: TempDir,
    pub(crate) context: OpenContext,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(OtherDriver));
        registry.register(Arc::new(RawDriver));
        Self { folder: tempfile::tempdir().unwrap(), context: OpenContext::new(Arc::new(registry)) }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        PathBuf::from(self.folder.path()).join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Opens by options, for writing.
    pub(crate) async fn open(&self, options: &str) -> Result<Arc<Node>> {
        let options = Options::parse_keyval(options, Some("file"))?;
        self.context.open(OpenSpec::options(options).with_flags(OpenFlags::WRITE | OpenFlags::RESIZE)).await
    }

    /// The error of a read-only open, as it is printed.
    pub(crate) fn open_error(&self, spec: OpenSpec) -> String {
        run(self.context.open(spec)).expect_err("this cannot be opened").chain()
    }
}

#[derive(Debug)]
struct OtherDriver;

fn unsupported<T>() -> Result<T> {
    Err(BlockError::new(ErrorKind::Unsupported, "not for tests"))
}

impl BlockDriver for OtherDriver {
    fn name(&self) -> &'static str {
        "other"
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Format
    }

    fn probe(&self, head: &[u8]) -> u8 {
        if head.starts_with(OTHER_MAGIC) { 100 } else { 0 }
    }

    fn storage_perms(&self, perm: Perm, shared: Perm, _flags: OpenFlags) -> (Perm, Perm) {
        (perm, shared)
    }

    fn open<'a>(&'a self, _request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async { unsupported() })
    }

    fn create_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(async { Err(cannot_measure(self.name())) })
    }

    fn create(&self, _request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(async { unsupported() })
    }
}
