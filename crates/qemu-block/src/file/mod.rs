//! The protocols that store bytes in a file or on a block device of this machine. QEMU: block/file-posix.c.
//!
//! | file | concept |
//! |---|---|
//! | `open` | from a name to a checked descriptor |
//! | `probe` | sizes and alignments that the kernel wants |
//! | `lock` | locks that other processes see |
//! | `node` | the open image: requests, closing |
//! | `extent` | where data and holes are |
//! | `zero` | making ranges zero, giving ranges up |
//! | `resize` | truncation and preallocation |
//! | `create` | new files |

mod create;
mod extent;
mod lock;
mod node;
mod open;
mod probe;
mod resize;
mod zero;

use crate::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use crate::manage::{Measurement, cannot_measure};
use crate::node::Node;
use crate::options::{CreateOption, Options};
use crate::types::{OpenFlags, Perm};
use std::sync::Arc;

/// The `file` protocol: regular files. QEMU: `bdrv_file`.
#[derive(Clone, Copy, Debug)]
pub struct FileDriver;

/// The `host_device` protocol: block devices. QEMU: `bdrv_host_device`.
#[derive(Clone, Copy, Debug)]
pub struct HostDeviceDriver;

/// Which of the two a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Regular,
    Device,
}

impl BlockDriver for FileDriver {
    fn name(&self) -> &'static str {
        "file"
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
        Box::pin(std::future::ready(open::open(request, FileKind::Regular)))
    }

    fn create_options(&self) -> &'static [CreateOption] {
        create::FILE_OPTIONS
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(async { Err(cannot_measure(self.name())) })
    }

    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(create::create_file(request))
    }
}

impl BlockDriver for HostDeviceDriver {
    fn name(&self) -> &'static str {
        "host_device"
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
        Box::pin(std::future::ready(open::open(request, FileKind::Device)))
    }

    fn create_options(&self) -> &'static [CreateOption] {
        create::DEVICE_OPTIONS
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(async { Err(cannot_measure(self.name())) })
    }

    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(create::create_on_device(request))
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests;
