//! Images on disks in memory, whose requests can be failed, held and replayed.

use std::sync::Arc;

use qcow2::Qcow2Driver;
use qemu_block::aio::Services;
use qemu_block::error::Result;
use qemu_block::mem::{MemDisk, MemDriver};
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::{CheckFixes, CheckReport, OpenFlags, WriteFlags};
use qemu_util::buf::IoBuf;

use crate::support::{Bench, block_on, oracle};

/// A graph that knows our driver and disks in memory.
pub(crate) struct MemBench {
    driver: Arc<MemDriver>,
    context: OpenContext,
}

impl MemBench {
    pub(crate) fn new() -> Self {
        let driver = Arc::new(MemDriver::new());
        let mut registry = Registry::new(Services::new());
        registry.register(Arc::new(Qcow2Driver));
        registry.register(driver.clone());
        Self { driver, context: OpenContext::new(Arc::new(registry)) }
    }

    /// A bench with the empty image `a`.
    pub(crate) fn with_image(options: &str, size: u64) -> Self {
        let bench = Self::new();
        bench.create("a", options, size);
        bench
    }

    /// A bench with the disk `a` as the reference leaves it after these commands, in which `IMAGE` is its path.
    pub(crate) fn from_reference(commands: &[&[&str]]) -> Self {
        let files = Bench::new();
        let path = files.path("image");
        for command in commands {
            let args: Vec<&str> = command.iter().map(|arg| if *arg == "IMAGE" { path.as_str() } else { arg }).collect();
            if args[0] == "io" {
                crate::support::qemu_io(&path, &args[1..]);
            } else {
                let (code, text) = oracle(&args);
                assert_eq!(code, 0, "{text}");
            }
        }
        let bench = Self::new();
        bench.insert("a", MemDisk::from_bytes(&std::fs::read(&path).expect("readable")));
        bench
    }

    pub(crate) fn create(&self, name: &str, options: &str, size: u64) {
        let filename = format!("mem:{name}");
        let mut options = Options::parse_keyval(options, None).expect("options");
        options.set("size", size);
        let schema = self.context.create_schema("qcow2", Some(&filename)).expect("a schema");
        let options = check_create_options(&schema, &options).expect("valid options");
        block_on(self.context.create("qcow2", &filename, options)).expect("created");
    }

    pub(crate) fn insert(&self, name: &str, disk: MemDisk) {
        self.driver.insert(name, disk);
    }

    /// The disk `a`.
    pub(crate) fn disk(&self) -> MemDisk {
        self.named_disk("a")
    }

    /// A disk.
    pub(crate) fn named_disk(&self, name: &str) -> MemDisk {
        self.driver.disk(name).expect("there")
    }

    /// Overwrites eight bytes of the disk `a`.
    pub(crate) fn patch(&self, offset: u64, value: u64) {
        self.disk().write_at(offset, &value.to_be_bytes());
    }

    /// Eight bytes of the disk `a`.
    pub(crate) fn number_at(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.disk().read_at(offset, &mut bytes);
        u64::from_be_bytes(bytes)
    }

    pub(crate) fn open(&self, name: &str, flags: OpenFlags) -> Result<Arc<Node>> {
        self.open_with(name, flags, "")
    }

    /// As [`MemBench::open`], with options of the format.
    pub(crate) fn open_with(&self, name: &str, flags: OpenFlags, options: &str) -> Result<Arc<Node>> {
        let mut spec = OpenSpec::file(format!("mem:{name}")).with_driver(Some("qcow2")).with_flags(flags);
        spec.options = Options::parse_keyval(options, None)?;
        block_on(self.context.open(spec))
    }

    /// Opens what options describe.
    pub(crate) fn open_options(&self, options: &str, flags: OpenFlags) -> Result<Arc<Node>> {
        block_on(self.context.open(OpenSpec::image_opts(options)?.with_flags(flags)))
    }

    /// The image `a`, to be written and resized.
    pub(crate) fn writable(&self) -> Arc<Node> {
        self.open("a", OpenFlags::WRITE | OpenFlags::RESIZE).expect("writable")
    }

    /// What our check finds in the image `a` as it is on disk.
    pub(crate) fn check(&self) -> CheckReport {
        let node = self.open("a", OpenFlags::CHECK).expect("checkable");
        let report = block_on(node.check(CheckFixes::Nothing)).expect("checked");
        block_on(node.close()).expect("closed");
        report
    }

    /// Fails unless the image `a` is without corruption and leaks, by our check and, if it has no backing file, by the
    /// reference's.
    pub(crate) fn assert_clean(&self) {
        if self.number_at(8) == 0 {
            let files = Bench::new();
            std::fs::write(files.path("image"), self.disk().to_vec()).expect("written");
            let (code, text) = oracle(&["check", "-f", "qcow2", &files.path("image")]);
            assert_eq!(code, 0, "{text}");
        }
        let report = self.check();
        assert_eq!((report.corruptions, report.leaks, report.check_errors), (0, 0, 0), "{report:?}");
    }
}

/// Fills a range with one byte.
pub(crate) async fn fill(node: &Node, offset: u64, len: usize, byte: u8) -> Result<()> {
    node.write(offset, IoBuf::copy_of(&vec![byte; len]).into(), WriteFlags::empty()).await
}

/// Whether all of a range has this byte.
pub(crate) fn is_filled(node: &Node, offset: u64, len: usize, byte: u8) -> bool {
    block_on(node.read_bytes(offset, len)).expect("readable").iter().all(|found| *found == byte)
}
