//! An in-memory protocol for tests: sparse storage whose requests can be held, delayed, failed, counted and logged.
//!
//! | file | concept |
//! |---|---|
//! | `store` | pages that were written, in a map |
//! | `control` | what shall happen to requests |
//! | `node` | the open disk |
//! | `driver` | disks by name: `mem:a`, `mem:b` |
//! | `record` | what happened to several disks, in one order |
//!
//! ```
//! use qemu_block::mem::{MemDisk, MemOp, When};
//! use qemu_block::types::OpenFlags;
//!
//! let disk = MemDisk::new(1 << 60);
//! disk.write_at(1 << 59, b"far out");
//! let node = disk.node(OpenFlags::WRITE);
//! assert_eq!(node.len(), 1 << 60);
//! disk.control().fail(MemOp::Flush, When::Nth(2), libc::EIO);
//! ```

mod control;
mod driver;
mod node;
mod record;
mod store;

use std::sync::Arc;

use qemu_util::primitive::{Mutex, unique_number};

pub use control::{Control, Fault, Hold, MemOp, When};
pub use driver::MemDriver;
pub use record::{Event, Recorder};
pub use store::LogEntry;

use crate::driver::FileIdentity;
use crate::node::Node;
use crate::types::OpenFlags;
use node::MemNode;
use record::Track;
use store::Store;

/// A disk in memory. Clones and nodes refer to the same bytes, so a test can look at what a node did.
#[derive(Clone, Debug)]
pub struct MemDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    control: Control,
    growable: bool,
    identity: FileIdentity,
}

impl MemDisk {
    /// A disk of `len` zero bytes that keeps its size.
    pub fn new(len: u64) -> Self {
        Self::with_store(Store::new(len), false)
    }

    /// A disk of `len` zero bytes that grows and is truncated like a file.
    pub fn growable(len: u64) -> Self {
        Self::with_store(Store::new(len), true)
    }

    /// A growable disk with this content.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let disk = Self::growable(0);
        disk.write_at(0, bytes);
        disk
    }

    /// A growable disk as it is after `entries` were applied to one of `len` zero bytes: what a power cut may leave.
    pub fn replay<'a>(len: u64, entries: impl IntoIterator<Item = &'a LogEntry>) -> Self {
        let mut store = Store::new(len);
        entries.into_iter().for_each(|entry| store.apply(entry));
        Self::with_store(store, true)
    }

    /// Another disk with the same content, and controls of its own. Memory is shared until one of the two changes it.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with_store(self.shared.store.lock().fork(), self.shared.growable)
    }

    /// Makes a recorded change, past all controls and without a log entry.
    pub fn apply(&self, change: &LogEntry) {
        self.shared.store.lock().apply(change);
    }

    /// A number that follows from length and content: disks with different ones differ, those with the same one are, but
    /// for an accident of one in 2^64, equal.
    pub fn digest(&self) -> u64 {
        self.shared.store.lock().digest()
    }

    fn with_store(store: Store, growable: bool) -> Self {
        Self::with_control(store, Control::default(), growable)
    }

    fn with_control(store: Store, control: Control, growable: bool) -> Self {
        // No real device has this number.
        let identity = FileIdentity { device: u64::MAX, inode: unique_number() };
        Self { shared: Arc::new(Shared { store: Mutex::new(store), control, growable, identity }) }
    }

    /// A growable disk of `len` zero bytes that takes this one's place: with its controls, and recorded as it was.
    fn successor(&self, len: u64) -> Self {
        let mut store = Store::new(len);
        if let Some(track) = self.shared.store.lock().track() {
            store.set_track(track.clone());
            // For those who replay what is recorded it is the same disk.
            store.log(|| LogEntry::Truncate { len: 0 });
            store.log(|| LogEntry::Truncate { len });
        }
        Self::with_control(store, self.control().clone(), true)
    }

    /// A node over this disk, outside of any registry.
    pub fn node(&self, flags: OpenFlags) -> Arc<Node> {
        let ops = MemNode::new(self.clone());
        Node::new(Arc::new(MemDriver::new()), Box::new(ops), "mem:".to_owned(), flags)
    }

    /// What shall happen to requests.
    pub fn control(&self) -> &Control {
        &self.shared.control
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.shared.store.lock().len()
    }

    /// Whether the length is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory in use for content.
    pub fn allocated_bytes(&self) -> u64 {
        self.shared.store.lock().allocated_bytes()
    }

    /// Copies bytes out, past all controls. What lies past the end reads as zeros.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) {
        self.shared.store.lock().read(offset, to);
    }

    /// Copies bytes in, past all controls and without a log entry. The disk grows if they lie past its end.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) {
        self.shared.store.lock().write(offset, bytes);
    }

    /// The whole content; for small disks.
    ///
    /// # Panics
    /// If it does not fit into the address space.
    pub fn to_vec(&self) -> Vec<u8> {
        let store = self.shared.store.lock();
        let mut bytes = vec![0; usize::try_from(store.len()).expect("small disks only")];
        store.read(0, &mut bytes);
        bytes
    }

    /// Begins to log changes and flushes, in the order in which they take effect. Drops what was logged before.
    pub fn start_log(&self) {
        self.shared.store.lock().start_log();
    }

    /// From now on tells `recorder` about changes and flushes, as disk number `disk`.
    pub fn record(&self, recorder: &Recorder, disk: usize) {
        self.shared.store.lock().set_track(Track::new(recorder.clone(), disk));
    }

    /// The log so far, which begins anew.
    pub fn take_log(&self) -> Vec<LogEntry> {
        self.shared.store.lock().take_log()
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests;
