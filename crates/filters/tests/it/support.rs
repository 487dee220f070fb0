//! A folder, and a registry with all filters.

use std::process::Command;
use std::sync::Arc;

use filters::{ThrottleDriver, ThrottleGroups};
use qemu_block::aio::Services;
use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::{OpenFlags, WriteFlags};
use qemu_util::buf::IoBuf;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// See the module's description.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    context: OpenContext,
    pub(crate) groups: ThrottleGroups,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(raw::RawDriver));
        registry.register(Arc::new(qcow2::Qcow2Driver));
        filters::plain_drivers().into_iter().for_each(|driver| registry.register(driver));
        let groups = ThrottleGroups::default();
        registry.register(Arc::new(ThrottleDriver::new(groups.clone())));
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, context: OpenContext::new(Arc::new(registry)), groups }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn file_len(&self, name: &str) -> u64 {
        std::fs::metadata(self.path(name)).expect("there").len()
    }

    /// Opens by options, in which `@name` is a path in the folder.
    pub(crate) fn open(&self, options: &str, flags: OpenFlags) -> Result<Arc<Node>> {
        let options = options.replace('@', &self.path(""));
        let options = Options::parse_keyval(&options, None)?;
        block_on(self.context.open(OpenSpec::options(options).with_flags(flags)))
    }

    pub(crate) fn open_rw(&self, options: &str) -> Arc<Node> {
        self.open(options, OpenFlags::WRITE | OpenFlags::RESIZE).expect("opened")
    }

    /// Runs the reference in the folder, which must succeed; returns what it printed.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = Command::new("qemu-img").args(line.split_whitespace()).current_dir(self.folder.path()).output();
        let output = output.expect("qemu-img is installed");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{line}: {text}");
        text
    }
}

pub(crate) fn write(node: &Arc<Node>, offset: u64, bytes: &[u8]) {
    block_on(node.write(offset, IoBuf::copy_of(bytes).into(), WriteFlags::empty())).expect("written");
}

pub(crate) fn read(node: &Arc<Node>, offset: u64, len: usize) -> Vec<u8> {
    block_on(node.read_bytes(offset, len)).expect("read").to_vec()
}

pub(crate) fn close(node: &Arc<Node>) {
    block_on(async {
        node.flush().await.expect("flushed");
        node.close().await.expect("closed");
    });
}
