//! A folder for images, our driver, and the reference tool.

use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use qcow2::Qcow2Driver;
use qemu_block::aio::Services;
use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::{CheckFixes, CheckReport, OpenFlags};

/// A temporary folder and a graph that knows our driver.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    context: OpenContext,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(Qcow2Driver));
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, context: OpenContext::new(Arc::new(registry)) }
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Creates an image; fails with the text that the user would see.
    pub(crate) fn create(&self, name: &str, options: &str, size: &str) -> std::result::Result<(), String> {
        let path = self.path(name);
        let created = (|| {
            let mut options = Options::parse_keyval(options, None)?;
            options.set("size", size);
            let schema = self.context.create_schema("qcow2", Some(&path))?;
            let options = check_create_options(&schema, &options)?;
            block_on(self.context.create("qcow2", &path, options))
        })();
        created.map_err(|error| error.chain())
    }

    /// Opens an image with our driver.
    pub(crate) fn open(&self, name: &str, flags: OpenFlags) -> std::result::Result<Arc<Node>, String> {
        self.open_with(name, flags, "")
    }

    /// As [`Bench::open`], with options of the format.
    pub(crate) fn open_with(
        &self,
        name: &str,
        flags: OpenFlags,
        options: &str,
    ) -> std::result::Result<Arc<Node>, String> {
        let options = Options::parse_keyval(options, None).map_err(|error| error.chain())?;
        self.open_options(name, flags, options).map_err(|error| error.message().to_owned())
    }

    /// As [`Bench::open`], with options and the whole error.
    pub(crate) fn open_options(&self, name: &str, flags: OpenFlags, options: Options) -> Result<Arc<Node>> {
        let spec = OpenSpec { options, ..OpenSpec::file(self.path(name)) };
        block_on(self.context.open(spec.with_driver(Some("qcow2")).with_flags(flags)))
    }

    /// Checks an image with our driver: the counters that are not zero, by the reference's names.
    pub(crate) fn check(&self, name: &str) -> Vec<(String, u64)> {
        let spec = OpenSpec::file(self.path(name)).with_driver(Some("qcow2")).with_flags(OpenFlags::CHECK);
        let report = block_on(async {
            let node = self.context.open(spec).await?;
            let report = node.check(CheckFixes::Nothing).await;
            node.close().await?;
            report
        });
        let report = report.expect("checkable");
        let counters = [
            ("image-end-offset", report.image_end_offset),
            ("total-clusters", report.total_clusters),
            ("corruptions", report.corruptions),
            ("check-errors", report.check_errors),
            ("leaks", report.leaks),
            ("allocated-clusters", report.allocated_clusters),
        ];
        counters.into_iter().filter(|(_, value)| *value != 0).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl Bench {
    /// Opens an image as `check -r` does, and repairs it.
    pub(crate) fn repair(&self, name: &str, fixes: CheckFixes) -> Result<CheckReport, BlockError> {
        let flags = OpenFlags::CHECK | OpenFlags::WRITE;
        let spec = OpenSpec::file(self.path(name)).with_driver(Some("qcow2")).with_flags(flags);
        block_on(async {
            let node = self.context.open(spec).await?;
            let report = node.check(fixes).await;
            node.close().await?;
            report
        })
    }
}

/// Runs the reference; returns its exit code and everything that it printed.
pub(crate) fn oracle(args: &[&str]) -> (i32, String) {
    let output = Command::new("qemu-img").args(args).output().expect("qemu-img is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Runs commands of the reference's `qemu-io` on an image.
pub(crate) fn qemu_io(path: &str, commands: &[&str]) {
    let mut tool = Command::new("qemu-io");
    tool.args(["-f", "qcow2"]);
    commands.iter().for_each(|command| {
        tool.args(["-c", command]);
    });
    let output = tool.arg(path).output().expect("qemu-io is installed");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{commands:?}: {}", String::from_utf8_lossy(&said));
}

/// A small generator, so that what is random can be repeated: the tests print their seeds.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike, and zero would stay zero.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % n
    }

    /// An index into something that has `n` elements.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).expect("below n")
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread: drivers need nothing but a waker.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
