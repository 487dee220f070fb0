//! The driver: probing, permissions, options.

use std::sync::Arc;

use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use qemu_block::manage::Measurement;
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, OptionKind, Options};
use qemu_block::types::{OpenFlags, Perm};

use crate::create::{CREATE_OPTIONS, create};
use crate::image::storage_perms;
use crate::measure::measure;
use crate::open::open;

/// The driver of the LUKS format.
///
/// Options: `key-secret` names the secret with a passphrase, `header` describes the file of a detached header.
#[derive(Clone, Copy, Debug, Default)]
pub struct LuksDriver;

static AMEND_OPTIONS: [CreateOption; 5] = [
    option("state", OptionKind::Text, "Select new state of affected keyslots (active/inactive)"),
    option("new-secret", OptionKind::Text, "New secret to set in the matching keyslots. Empty string to erase"),
    option("old-secret", OptionKind::Text, "Select all keyslots that match this password"),
    option("keyslot", OptionKind::Number, "Select a single keyslot to modify explicitly"),
    option("iter-time", OptionKind::Number, "Time to spend in PBKDF in milliseconds"),
];

/// An option without a default.
pub(crate) const fn option(name: &'static str, kind: OptionKind, help: &'static str) -> CreateOption {
    CreateOption { name, help, kind, default: None }
}

impl BlockDriver for LuksDriver {
    fn name(&self) -> &'static str {
        "luks"
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Format
    }

    fn probe(&self, head: &[u8]) -> u8 {
        if qemu_crypto::luks::probe(head) { 100 } else { 0 }
    }

    fn storage_perms(&self, perm: Perm, shared: Perm, flags: OpenFlags) -> (Perm, Perm) {
        storage_perms(perm, shared, flags)
    }

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async move { Ok(Box::new(open(request).await?) as Box<dyn BlockOps>) })
    }

    fn create_options(&self) -> &'static [CreateOption] {
        &CREATE_OPTIONS
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &AMEND_OPTIONS
    }

    fn measure<'a>(&'a self, options: Options, source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(std::future::ready(measure(options, source)))
    }

    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(create(request))
    }
}
