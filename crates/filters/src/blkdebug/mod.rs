//! The filter `blkdebug`: requests fail, or stop, where a test wants them to.
//!
//! Rules say what happens at which point of a request ([`DebugEvent`]). The node above tells when it comes to one; the
//! rules of that point then become active, and the next request to the node below that fits one of them fails. A rule
//! may be bound to a state, and points can change the state, so that the third write of a kind can be meant.
//!
//! | file | concept |
//! |---|---|
//! | `rule` | what a rule says, and where it is read from |
//! | `config` | the file with rules |
//! | `state` | which rules are active, which requests are stopped |
//! | `limits` | request sizes and alignments that the node pretends to have |
//!
//! QEMU: block/blkdebug.c

mod config;
mod limits;
mod rule;
mod state;

use std::sync::Arc;

use qemu_block::debug::{DebugEvent, DebugOps};
use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result, errno_text};
use qemu_block::manage::Measurement;
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, Options};
use qemu_block::types::{BlockLimits, BlockStatus, OpenFlags, Perm, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoVec, IoVecMut};
use qemu_util::task::yield_now;

use self::limits::Overrides;
use self::rule::{IoType, read_rules};
use self::state::State;
use crate::pass::{Filter, FilterNode, child_of, no_creation, no_measurement, pass_limits, pass_status};

const NAME: &str = "blkdebug";
const CHILD: &str = "image";

/// The driver `blkdebug`.
#[derive(Clone, Copy, Debug)]
pub struct BlkdebugDriver;

impl BlockDriver for BlkdebugDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Filter { child: CHILD }
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

async fn open(request: &mut OpenRequest) -> Result<Box<dyn BlockOps>> {
    let child = child_of(request, CHILD)?;
    let rules = read_rules(&mut request.options)?;
    let taken = take_perms(&mut request.options, "take-child-perms")?;
    let unshared = take_perms(&mut request.options, "unshare-child-perms")?;
    let overrides = Overrides::take(&mut request.options, &child)?;
    if let Some(key) = request.options.keys().next() {
        // It has the name of a protocol, too, and that is how the reference speaks of it.
        return Err(invalid(format!("Block protocol '{NAME}' doesn't support the option '{key}'")));
    }
    let blkdebug = Blkdebug { child, overrides, taken, unshared, state: State::new(rules) };
    blkdebug.state.reach(DebugEvent::None).await;
    Ok(Box::new(FilterNode::new(blkdebug)))
}

/// The permissions in the list `prefix.0`, `prefix.1`, ….
fn take_perms(options: &mut Options, prefix: &str) -> Result<Perm> {
    let list = options.take_sub(prefix);
    let mut perms = Perm::empty();
    for (_, value) in list.iter() {
        perms |= match value.to_text().as_str() {
            "consistent-read" => Perm::CONSISTENT_READ,
            "write" => Perm::WRITE,
            "write-unchanged" => Perm::WRITE_UNCHANGED,
            "resize" => Perm::RESIZE,
            other => return Err(invalid(format!("Parameter 'null' does not accept value '{other}'"))),
        };
    }
    Ok(perms)
}

/// An open `blkdebug` node.
#[derive(Debug)]
struct Blkdebug {
    child: Arc<Node>,
    overrides: Overrides,
    /// What the node below is used for besides what the node above needs.
    taken: Perm,
    /// What others must not do with the node below, besides what the node above forbids.
    unshared: Perm,
    state: State,
}

impl Blkdebug {
    /// Fails if an active rule says that such a request fails.
    async fn check(&self, offset: u64, len: u64, kind: IoType) -> Result<()> {
        let Some(failure) = self.state.failure(offset, len, kind) else { return Ok(()) };
        if !failure.immediately {
            yield_now().await;
        }
        Err(BlockError::from_errno(failure.errno, errno_text(failure.errno)))
    }

    async fn zero(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        if !self.overrides.can_zero(&self.child, offset, len) {
            return Err(BlockError::new(ErrorKind::Unsupported, "blkdebug: zeros in parts of units are written"));
        }
        for (at, part) in self.overrides.zero_parts(offset, len) {
            self.check(at, part, IoType::WriteZeroes).await?;
            self.child.write_zeroes(at, part, flags).await?;
        }
        Ok(())
    }

    async fn give_up(&self, offset: u64, len: u64) -> Result<()> {
        for (at, part) in self.overrides.discard_parts(offset, len) {
            self.check(at, part, IoType::Discard).await?;
            self.child.discard(at, part).await?;
        }
        Ok(())
    }
}

impl Filter for Blkdebug {
    fn child(&self) -> &Arc<Node> {
        &self.child
    }

    fn child_name(&self) -> &'static str {
        CHILD
    }

    fn limits(&self) -> BlockLimits {
        self.overrides.apply(pass_limits(&self.child))
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(self.child.set_perm(perm | self.taken, shared.difference(self.unshared)))
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(async move {
            self.check(offset, len_u64(buf.len()), IoType::Read).await?;
            self.child.read(offset, buf).await
        })
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.check(offset, len_u64(data.len()), IoType::Write).await?;
            self.child.write(offset, data, flags).await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(self.zero(offset, len, flags))
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.give_up(offset, len))
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.check(0, 0, IoType::Flush).await?;
            self.child.flush().await
        })
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(async move {
            self.check(offset, len, IoType::BlockStatus).await?;
            pass_status(&self.child, offset, len).await
        })
    }

    fn close(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.state.resume_all();
            self.child.close().await
        })
    }

    fn debugging(&self) -> Option<&dyn DebugOps> {
        Some(&self.state)
    }
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn invalid(message: String) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
