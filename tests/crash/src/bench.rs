//! Disks in memory and a graph of nodes over them, all on one thread.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use qcow2::Qcow2Driver;
use qemu_block::aio::Services;
use qemu_block::error::Result;
use qemu_block::mem::{MemDisk, MemDriver};
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::OpenFlags;

use crate::executor::block_on;

/// The image under test.
pub const IMAGE: &str = "image";
/// Its backing file.
pub const BASE: &str = "base";

/// Disks by name, and what opens them.
#[derive(Debug)]
pub struct Bench {
    driver: Arc<MemDriver>,
    context: OpenContext,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// A bench without disks.
    #[must_use]
    pub fn new() -> Self {
        let driver = Arc::new(MemDriver::new());
        let services = Services::new();
        // A pool that was shut down computes where it is asked to, so that what happens follows from seeds alone.
        services.cpu.shutdown();
        let mut registry = Registry::new(services);
        registry.register(Arc::new(Qcow2Driver));
        registry.register(Arc::new(raw::RawDriver));
        registry.register(driver.clone());
        Self { driver, context: OpenContext::new(Arc::new(registry)) }
    }

    /// Makes a disk known by a name.
    pub fn insert(&self, name: &str, disk: MemDisk) {
        self.driver.insert(name, disk);
    }

    /// The disk of that name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn disk(&self, name: &str) -> MemDisk {
        self.driver.disk(name).expect("the disk was made")
    }

    /// Creates an image.
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn create(&self, format: &str, name: &str, options: &str, size: u64) -> Result<()> {
        let filename = format!("mem:{name}");
        let mut options = Options::parse_keyval(options, None)?;
        options.set("size", size);
        let schema = self.context.create_schema(format, Some(&filename))?;
        self.context.create(format, &filename, check_create_options(&schema, &options)?).await
    }

    /// As [`Bench::create`], for images that the test only needs.
    ///
    /// # Panics
    /// If it fails.
    pub fn make(&self, format: &str, name: &str, options: &str, size: u64) {
        let made = block_on(self.create(format, name, options, size));
        made.unwrap_or_else(|error| panic!("{name} with {options}: {}", error.chain()));
    }

    /// Runs a command line of `qemu-img` in this process; `mem:NAME` are the disks of the bench. Tells whether its exit
    /// status is that of success.
    #[must_use]
    pub fn command(&self, line: &str) -> bool {
        let words = line.split_whitespace().map(OsString::from);
        let code = qemu_img::run_with(words, vec![self.driver.clone()]);
        // The command's own hook keeps silent about panics, which is not what a test wants.
        drop(std::panic::take_hook());
        code == ExitCode::SUCCESS
    }

    /// Opens an image.
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn open(&self, format: &str, name: &str, flags: OpenFlags) -> Result<Arc<Node>> {
        let spec = OpenSpec::file(format!("mem:{name}")).with_driver(Some(format)).with_flags(flags);
        self.context.open(spec).await
    }
}
