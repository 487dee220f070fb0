//! Guessing the format of an image from its first bytes.
//!
//! A guest that controls a raw disk could write the header of another format into its first sector; the next start would
//! take the disk for that format and follow whatever file names the header holds. So where raw was only a guess, writes
//! that would change the guess are refused.
//!
//! QEMU: `bdrv_probe_all`, `find_image_format` (block.c), `raw_co_pwritev` (block/raw-format.c).

use std::sync::Arc;

use super::Registry;
use crate::driver::{BlockDriver, DriverKind};
use crate::error::{BlockError, ErrorKind, Result};

/// How many bytes drivers get to see.
pub(crate) const PROBE_LEN: usize = 2048;

impl Registry {
    /// The format that is surest about an image beginning with `head`. On a tie the one registered first wins.
    pub(super) fn probe(&self, head: &[u8]) -> Option<Arc<dyn BlockDriver>> {
        let mut best: Option<(u8, &Arc<dyn BlockDriver>)> = None;
        for driver in self.drivers.iter().filter(|driver| driver.kind() == DriverKind::Format) {
            let score = driver.probe(head);
            if score > best.map_or(0, |(score, _)| score) {
                best = Some((score, driver));
            }
        }
        best.map(|(_, driver)| Arc::clone(driver))
    }
}

/// Keeps an image that was probed as raw from becoming something else.
#[derive(Clone, Debug)]
pub(crate) struct ProbeGuard {
    registry: Arc<Registry>,
    /// What the image was taken for.
    driver: &'static str,
}

impl ProbeGuard {
    pub(super) fn new(registry: Arc<Registry>, driver: &'static str) -> Self {
        Self { registry, driver }
    }

    /// Refuses `head` as the new beginning of the image if it would be probed differently.
    pub(crate) fn check(&self, head: &[u8]) -> Result<()> {
        match self.registry.probe(head) {
            Some(driver) if driver.name() != self.driver => {
                let message = format!("Refusing to turn an image probed as raw into {} format", driver.name());
                Err(BlockError::new(ErrorKind::PermissionDenied, message).with_errno(libc::EPERM))
            }
            _ => Ok(()),
        }
    }
}
