//! Points in the way of requests at which a debugging filter may look on, stop them, or have them fail.
//!
//! A node tells the one below it what it is about to do ([`Node::debug_event`]). Only `blkdebug` listens; whether a node
//! does is settled when it is opened, so that everybody else pays for a look at a flag.
//!
//! [`Node::debug_event`]: crate::node::Node::debug_event
//!
//! QEMU: `BlkdebugEvent` (qapi/block-core.json), `bdrv_co_debug_event`, `bdrv_debug_breakpoint` (block.c)

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// What listeners return: ready when the request may go on.
pub type DebugFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A node that listens to what the one above it does.
pub trait DebugOps: fmt::Debug + Send + Sync {
    /// The node above, or the node itself, has come to this point of a request.
    fn event(&self, event: DebugEvent) -> DebugFuture<'_>;

    /// Stops the next request that comes to `event`, and calls it `tag`.
    fn set_breakpoint(&self, event: DebugEvent, tag: &str);

    /// Takes back what [`DebugOps::set_breakpoint`] did, and lets all requests go on that it stopped. False if no
    /// breakpoint of that tag was left, whatever it had stopped, as in QEMU.
    fn remove_breakpoint(&self, tag: &str) -> bool;

    /// Lets the request of that tag go on that was stopped last; false if there is none.
    fn resume(&self, tag: &str) -> bool;

    /// Whether a request of that tag is stopped.
    fn is_suspended(&self, tag: &str) -> bool;

    /// Lets all stopped requests go on.
    fn resume_all(&self);

    /// What there is to tell the user since the last call: a line for each request that was stopped or goes on.
    fn take_notices(&self) -> Vec<String>;
}

/// Makes the enum, its names, and the list of all.
macro_rules! debug_events {
    ($($variant:ident => $name:literal,)*) => {
        /// A point in the way of requests. The names are QEMU's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names say what they are, and QEMU says no more")]
        pub enum DebugEvent {
            $($variant,)*
        }

        impl DebugEvent {
            /// All points, also those that no driver comes to.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// QEMU's name of the point.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

debug_events! {
    L1Update => "l1_update",
    L1GrowAllocTable => "l1_grow_alloc_table",
    L1GrowWriteTable => "l1_grow_write_table",
    L1GrowActivateTable => "l1_grow_activate_table",
    L2Load => "l2_load",
    L2Update => "l2_update",
    L2UpdateCompressed => "l2_update_compressed",
    L2AllocCowRead => "l2_alloc_cow_read",
    L2AllocWrite => "l2_alloc_write",
    ReadAio => "read_aio",
    ReadBackingAio => "read_backing_aio",
    ReadCompressed => "read_compressed",
    WriteAio => "write_aio",
    WriteCompressed => "write_compressed",
    VmstateLoad => "vmstate_load",
    VmstateSave => "vmstate_save",
    CowRead => "cow_read",
    CowWrite => "cow_write",
    ReftableLoad => "reftable_load",
    ReftableGrow => "reftable_grow",
    ReftableUpdate => "reftable_update",
    RefblockLoad => "refblock_load",
    RefblockUpdate => "refblock_update",
    RefblockUpdatePart => "refblock_update_part",
    RefblockAlloc => "refblock_alloc",
    RefblockAllocHookup => "refblock_alloc_hookup",
    RefblockAllocWrite => "refblock_alloc_write",
    RefblockAllocWriteBlocks => "refblock_alloc_write_blocks",
    RefblockAllocWriteTable => "refblock_alloc_write_table",
    RefblockAllocSwitchTable => "refblock_alloc_switch_table",
    ClusterAlloc => "cluster_alloc",
    ClusterAllocBytes => "cluster_alloc_bytes",
    ClusterFree => "cluster_free",
    FlushToOs => "flush_to_os",
    FlushToDisk => "flush_to_disk",
    PwritevRmwHead => "pwritev_rmw_head",
    PwritevRmwAfterHead => "pwritev_rmw_after_head",
    PwritevRmwTail => "pwritev_rmw_tail",
    PwritevRmwAfterTail => "pwritev_rmw_after_tail",
    Pwritev => "pwritev",
    PwritevZero => "pwritev_zero",
    PwritevDone => "pwritev_done",
    EmptyImagePrepare => "empty_image_prepare",
    L1ShrinkWriteTable => "l1_shrink_write_table",
    L1ShrinkFreeL2Clusters => "l1_shrink_free_l2_clusters",
    CorWrite => "cor_write",
    ClusterAllocSpace => "cluster_alloc_space",
    None => "none",
}

impl DebugEvent {
    /// The point of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.name() == name)
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for event in DebugEvent::ALL {
            assert_eq!(DebugEvent::parse(event.name()), Some(*event));
        }
        assert_eq!(DebugEvent::parse("L2_LOAD"), None);
    }
}
