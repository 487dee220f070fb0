//! What the drivers of filters have in common: they cannot be probed, and create and change no images.

use std::sync::Arc;

use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use qemu_block::manage::Measurement;
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, Options};
use qemu_block::types::{OpenFlags, Perm};

use crate::pass::{no_creation, no_measurement};

/// One kind of filter.
pub trait FilterKind: std::fmt::Debug + Send + Sync {
    /// QEMU's name of the driver.
    const NAME: &'static str;

    /// Opens a filter over the node that `request` has in it.
    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>>;

    /// What the node below is used for, and lets others do.
    fn child_perms(&self, perm: Perm, shared: Perm) -> (Perm, Perm) {
        (perm, shared)
    }
}

/// The driver of a kind of filter whose node below is called `file`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilterDriver<K>(pub K);

impl<K: FilterKind> BlockDriver for FilterDriver<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Filter { child: "file" }
    }

    fn probe(&self, _head: &[u8]) -> u8 {
        0
    }

    fn storage_perms(&self, perm: Perm, shared: Perm, _flags: OpenFlags) -> (Perm, Perm) {
        self.0.child_perms(perm, shared)
    }

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        self.0.open(request)
    }

    fn create_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        no_measurement(K::NAME)
    }

    fn create(&self, _request: CreateRequest) -> IoFuture<'_, ()> {
        no_creation(K::NAME)
    }
}
