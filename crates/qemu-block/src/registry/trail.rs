//! The way down to an image through backing files: it must end, and not lead back to where it has been.

use std::sync::Arc;

use crate::driver::FileIdentity;
use crate::error::{BlockError, ErrorKind, Result};

/// Chains longer than this are refused. QEMU has no limit; 200 is far beyond what libvirt lets grow.
const DEPTH_MAX: u32 = 200;

/// The files that are being opened, innermost first.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    last: Option<Arc<Step>>,
    depth: u32,
}

#[derive(Debug)]
struct Step {
    identity: Option<FileIdentity>,
    before: Option<Arc<Step>>,
}

impl Trail {
    /// One step further down.
    pub(super) fn step(&self, identity: Option<FileIdentity>) -> Result<Self> {
        if self.depth >= DEPTH_MAX {
            let message = format!("Backing chain is longer than {DEPTH_MAX} images");
            return Err(BlockError::new(ErrorKind::InvalidArgument, message));
        }
        let step = Step { identity, before: self.last.clone() };
        Ok(Self { last: Some(Arc::new(step)), depth: self.depth + 1 })
    }

    /// How many steps down this is.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether that file is already on the way.
    pub(super) fn contains(&self, identity: FileIdentity) -> bool {
        let steps = std::iter::successors(self.last.as_deref(), |step| step.before.as_deref());
        steps.into_iter().any(|step| step.identity == Some(identity))
    }
}
