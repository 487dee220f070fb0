//! Disks by name, so that a registry can open and create them.

use crate::manage::{Measurement, cannot_measure};
use crate::node::Node;
use std::collections::BTreeMap;
use std::sync::Arc;

use qemu_util::primitive::Mutex;

use super::MemDisk;
use super::node::MemNode;
use crate::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use crate::error::{BlockError, ErrorKind, Result, shown};
use crate::options::{CreateOption, OptionKind, Options};
use crate::types::{OpenFlags, Perm};

const OPTIONS: &[CreateOption] =
    &[CreateOption { name: "size", help: "Virtual disk size", kind: OptionKind::Size, default: None }];

/// The protocol `mem`. A disk that is created again is a new one that keeps the controls of the old one. The file name `mem:NAME` means the disk that was [inserted](Self::insert) or created as `NAME`.
#[derive(Debug, Default)]
pub struct MemDriver {
    disks: Mutex<BTreeMap<String, MemDisk>>,
}

impl MemDriver {
    /// A driver without disks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `disk` known as `name`; another one of that name is replaced.
    pub fn insert(&self, name: &str, disk: MemDisk) {
        drop(self.disks.lock().insert(name.to_owned(), disk));
    }

    /// The disk of that name.
    pub fn disk(&self, name: &str) -> Option<MemDisk> {
        self.disks.lock().get(name).cloned()
    }

    fn open_disk(&self, filename: &str) -> Result<Box<dyn BlockOps>> {
        let disk = self.disk(name_of(filename)).ok_or_else(|| {
            BlockError::new(
                ErrorKind::NotFound,
                format!("Could not open '{}': No such disk in memory", shown(filename)),
            )
        })?;
        Ok(Box::new(MemNode::new(disk)))
    }

    fn create_disk(&self, mut request: CreateRequest) -> Result<()> {
        let size = request.options.take_size("size")?.unwrap_or(0);
        let name = name_of(&request.filename);
        // As with a file that is there: it gets a new content, and whoever controls or records it still does.
        let disk = self.disk(name).map_or_else(|| MemDisk::growable(size), |old| old.successor(size));
        self.insert(name, disk);
        Ok(())
    }
}

fn name_of(filename: &str) -> &str {
    filename.strip_prefix("mem:").unwrap_or(filename)
}

impl BlockDriver for MemDriver {
    fn name(&self) -> &'static str {
        "mem"
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Protocol
    }

    fn probe(&self, _head: &[u8]) -> u8 {
        0
    }

    fn storage_perms(&self, perm: Perm, shared: Perm, _flags: OpenFlags) -> (Perm, Perm) {
        (perm, shared)
    }

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(std::future::ready(self.open_disk(&request.filename)))
    }

    fn create_options(&self) -> &'static [CreateOption] {
        OPTIONS
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(async { Err(cannot_measure(self.name())) })
    }

    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(std::future::ready(self.create_disk(request)))
    }
}
