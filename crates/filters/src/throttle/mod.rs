//! The filter `throttle`: requests wait until the limits of their group let them through.
//!
//! Groups are objects of the command line (`--object throttle-group,id=g,limits.bps-total=…`); nodes of one group share
//! its limits.
//!
//! | file | concept |
//! |---|---|
//! | `limits` | what a group allows, and which combinations make sense |
//! | `bucket` | how much of one limit is used |
//! | `group` | all limits of a group, and waiting for them |
//!
//! QEMU: block/throttle.c, block/throttle-groups.c, util/throttle.c.

mod bucket;
mod group;
mod limits;

use std::sync::Arc;

use qemu_block::compressed::CompressedRun;
use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::Measurement;
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, Options};
use qemu_block::types::{OpenFlags, Perm, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoVec, IoVecMut};

pub use bucket::Rate;
pub use group::ThrottleGroups;
use group::{Direction, Group};
pub use limits::Limits;

use crate::pass::{Filter, FilterNode, child_of, no_creation, no_measurement};

const NAME: &str = "throttle";

/// The driver `throttle`. Its option `throttle-group` names the group.
#[derive(Clone, Debug)]
pub struct ThrottleDriver {
    groups: ThrottleGroups,
}

impl ThrottleDriver {
    /// A driver that finds groups in `groups`.
    pub fn new(groups: ThrottleGroups) -> Self {
        Self { groups }
    }

    fn open_node(&self, request: &mut OpenRequest) -> Result<Box<dyn BlockOps>> {
        let child = child_of(request, "file")?;
        let name = request.options.take_str("throttle-group");
        let name = name.ok_or_else(|| invalid("Please specify a throttle group".to_owned()))?;
        let group = self.groups.get(&name);
        let group = group.ok_or_else(|| invalid(format!("Throttle group '{name}' does not exist")))?;
        Ok(Box::new(FilterNode::new(Throttle { child, group })))
    }
}

impl BlockDriver for ThrottleDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Filter { child: "file" }
    }

    fn probe(&self, _head: &[u8]) -> u8 {
        0
    }

    fn storage_perms(&self, perm: Perm, shared: Perm, _flags: OpenFlags) -> (Perm, Perm) {
        (perm, shared)
    }

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(std::future::ready(self.open_node(request)))
    }

    fn create_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        no_measurement(NAME)
    }

    fn create(&self, _request: CreateRequest) -> IoFuture<'_, ()> {
        no_creation(NAME)
    }
}

/// An open `throttle` node.
#[derive(Debug)]
struct Throttle {
    child: Arc<Node>,
    group: Arc<Group>,
}

impl Filter for Throttle {
    fn child(&self) -> &Arc<Node> {
        &self.child
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(async move {
            self.group.pass(Direction::Read, len_u64(buf.len())).await;
            self.child.read(offset, buf).await
        })
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.group.pass(Direction::Write, len_u64(data.len())).await;
            self.child.write(offset, data, flags).await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.group.pass(Direction::Write, len).await;
            self.child.write_zeroes(offset, len, flags).await
        })
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.group.pass(Direction::Write, len).await;
            self.child.discard(offset, len).await
        })
    }

    /// The second half of a compressed write does not know how much the guest wrote, so the first one waits.
    fn compress(&self, offset: u64, data: IoVec) -> IoFuture<'_, CompressedRun> {
        Box::pin(async move {
            self.group.pass(Direction::Write, len_u64(data.len())).await;
            self.child.compress(offset, data).await
        })
    }
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn invalid(message: String) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
