//! What the fuzz targets share: a graph over disks in memory, bounds, seeds, and a mutator that knows where an image's
//! numbers are.

mod aliases;
#[expect(dead_code, reason = "the seeds need a part of what the tests' images can do")]
#[path = "../../crates/qcow2/tests/it/hostile/image.rs"]
mod image;

use std::alloc::System;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};

use cap::Cap;
use qcow2::Qcow2Driver;
use qemu_block::aio::Services;
use qemu_block::error::Result;
use qemu_block::mem::{MemDisk, MemDriver, MemOp};
use qemu_block::node::Node;
use qemu_block::options::{Options, check_create_options};
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::OpenFlags;

pub use aliases::mutate;
use image::Image;

/// Counts what is allocated, and refuses more than the limit, which ends the process.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that an input may make the driver allocate.
const MEMORY_MAX: usize = 64 << 20;

/// Requests that an input may cause. Instead of a time: a loop without end makes requests without end.
const REQUESTS_MAX: u64 = 200_000;

/// The graph; made once, as it has threads.
struct Graph {
    driver: Arc<MemDriver>,
    context: OpenContext,
}

static GRAPH: LazyLock<Graph> = LazyLock::new(|| {
    let driver = Arc::new(MemDriver::new());
    let mut registry = Registry::new(Services::new());
    registry.register(Arc::new(Qcow2Driver));
    registry.register(driver.clone());
    Graph { driver, context: OpenContext::new(Arc::new(registry)) }
});

/// Does `work` with memory for it alone.
pub fn bounded<T>(work: impl FnOnce() -> T) -> T {
    LazyLock::force(&GRAPH);
    let limit = ALLOCATOR.allocated() + MEMORY_MAX;
    ALLOCATOR.set_limit(limit).expect("more than is in use");
    let output = work();
    ALLOCATOR.set_limit(usize::MAX).expect("more than is in use");
    output
}

/// Makes `disk` the image.
pub fn insert(disk: &MemDisk) {
    GRAPH.driver.insert("a", disk.clone());
}

/// The image.
pub fn disk() -> MemDisk {
    GRAPH.driver.disk("a").expect("inserted or created before")
}

/// Creates the image.
pub fn create(options: &str, size: u64) {
    let mut options = Options::parse_keyval(options, None).expect("options");
    options.set("size", size);
    let schema = GRAPH.context.create_schema("qcow2", Some("mem:a")).expect("a schema");
    let options = check_create_options(&schema, &options).expect("valid options");
    block_on(GRAPH.context.create("qcow2", "mem:a", options)).expect("created");
}

/// Opens the image. A backing file that it names is not opened: it would be a file of this machine.
pub fn open(flags: OpenFlags) -> Result<Arc<Node>> {
    let spec = OpenSpec::file("mem:a").with_driver(Some("qcow2")).with_flags(flags | OpenFlags::NO_BACKING);
    block_on(GRAPH.context.open(spec))
}

/// Fails when the work on `disk` has been out of all proportion.
pub fn assert_few_requests(disk: &MemDisk) {
    let ops = [MemOp::Read, MemOp::Write, MemOp::Zero, MemOp::Discard, MemOp::Flush, MemOp::Status];
    let n: u64 = ops.into_iter().map(|op| disk.control().count(op)).sum();
    assert!(n <= REQUESTS_MAX, "{n} requests");
}

/// Writes the images to begin with into the folder that `QCOW2_FUZZ_SEEDS` names: small ones, with everything that an
/// image can have.
pub fn write_seeds() {
    let Some(folder) = std::env::var_os("QCOW2_FUZZ_SEEDS") else { return };
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    for (i, image) in seeds().iter().enumerate() {
        std::fs::write(Path::new(&folder).join(format!("seed-{i}")), image.disk().to_vec()).expect("it can be written");
    }
}

fn seeds() -> Vec<Image> {
    let mut small = Image::with_geometry(9, 4);
    small.add_everything();
    let mut seeds = vec![small, Image::plain(), Image::version_2(), Image::full()];
    seeds.extend([0, 1, 4, 6].map(|order| Image::with_geometry(9, order)));
    seeds
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
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
