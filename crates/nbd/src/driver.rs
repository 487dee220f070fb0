//! The driver: opening exports, and "creating" images on them.
//!
//! QEMU: `bdrv_nbd`, `nbd_open` (block/nbd.c), `bdrv_co_create_opts_simple` (block.c).

use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::{Measurement, cannot_measure};
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, OptionKind, Options};
use qemu_block::registry::Registry;
use qemu_block::types::{OpenFlags, Perm, PreallocMode, ZeroFlags};
use qemu_util::primitive::Arc;

use crate::client::Client;
use crate::config::Config;
use crate::name::add_options;
use crate::node::NbdNode;
use crate::protocol::ExportFlags;

/// What is cleared when an image is created, so that nothing looks like an old one, in bytes.
const FIRST_SECTOR: u64 = 512;

const CREATE_OPTIONS: &[CreateOption] = &[
    CreateOption {
        name: "preallocation",
        help: "Preallocation mode (allowed values: off)",
        kind: OptionKind::Text,
        default: None,
    },
    CreateOption { name: "size", help: "Virtual disk size", kind: OptionKind::Size, default: None },
];

/// The driver `nbd`.
#[derive(Clone, Copy, Debug)]
pub struct NbdDriver;

impl NbdDriver {
    /// Adds the driver to `registry`, under all names that refer to it: `nbd:`, `nbd+tcp:`, `nbd+unix:`.
    pub fn register(registry: &mut Registry) {
        registry.register(Arc::new(Self));
        registry.register_scheme("nbd+tcp", "nbd");
        registry.register_scheme("nbd+unix", "nbd");
    }
}

async fn open(request: &mut OpenRequest) -> Result<Box<dyn BlockOps>> {
    if !request.filename.is_empty() {
        add_options(&request.filename, &mut request.options)?;
    }
    let config = Config::take(&mut request.options)?;
    if let Some(name) = config.address.canonical_name(config.export.as_deref()) {
        request.filename = name;
    }
    let wants_bitmap = config.dirty_bitmap.is_some();
    let client = Client::open(config).await?;
    let export = client.export();
    // The reference has no words of its own for these two.
    let refusal = if wants_bitmap && export.context.is_none() {
        Some((libc::EINVAL, "Invalid argument"))
    } else if request.flags.contains(OpenFlags::WRITE) && export.flags.contains(ExportFlags::READ_ONLY) {
        Some((libc::EACCES, "Permission denied"))
    } else {
        None
    };
    if let Some((errno, text)) = refusal {
        client.close().await;
        return Err(BlockError::from_errno(errno, format!("Could not open image: {text}")));
    }
    Ok(Box::new(NbdNode::new(client, request.flags)))
}

/// An image on an export that is there already: it must be long enough.
async fn create(mut request: CreateRequest) -> Result<()> {
    let size = request.options.take_size("size")?.unwrap_or(0);
    let prealloc = request.options.take_enum("preallocation", PreallocMode::parse)?.unwrap_or_default();
    if prealloc != PreallocMode::Off {
        let message = format!("Unsupported preallocation mode '{}'", prealloc.name());
        return Err(BlockError::new(ErrorKind::Unsupported, message));
    }
    let opened = request.context.open_protocol(&request.filename, Options::new(), OpenFlags::WRITE).await;
    let node = opened.map_err(|error| {
        error.context(
            "Protocol driver 'nbd' does not support creating new images, so an existing image must be selected as the \
             target; however, opening the given target as an existing image failed",
        )
    })?;
    let prepared = prepare(&node, size).await;
    let closed = node.close().await;
    prepared.and(closed)
}

async fn prepare(node: &Node, size: u64) -> Result<()> {
    if size > node.len() {
        return Err(BlockError::new(ErrorKind::InvalidArgument, "Cannot grow NBD nodes"));
    }
    let cleared = node.write_zeroes(0, node.len().min(FIRST_SECTOR), ZeroFlags::empty()).await;
    cleared.map_err(|error| error.context("Failed to clear the new image's first sector"))
}

impl BlockDriver for NbdDriver {
    fn name(&self) -> &'static str {
        "nbd"
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
        Box::pin(open(request))
    }

    fn create_options(&self) -> &'static [CreateOption] {
        CREATE_OPTIONS
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(async { Err(cannot_measure(self.name())) })
    }

    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(create(request))
    }
}
