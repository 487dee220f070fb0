//! Whether an open image may still be written: what went wrong in this session that cannot be undone.
//!
//! | state | entered when | what stops |
//! |---|---|---|
//! | abandoned | the future of a data write was dropped while its I/O was under way | no cluster is used a second time |
//! | poisoned | metadata may be half written: its future was dropped, or the header's write failed | writes, flush, close fail |
//! | corrupt | the image contradicts itself | writes, flush, close fail |
//!
//! None of them is left until the image is opened again. Reads go on in all of them.

use std::sync::{Arc, OnceLock};

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_util::primitive::atomic::{AtomicBool, Ordering};

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Health {
    abandoned: AtomicBool,
    corrupt: AtomicBool,
    /// Why the image is poisoned. The first reason stays.
    poison: OnceLock<Poison>,
}

/// An error that is given to everybody who asks from now on.
#[derive(Debug)]
struct Poison {
    kind: ErrorKind,
    errno: i32,
    text: String,
}

impl Health {
    /// Fails when the image is corrupt or poisoned.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_corrupt() {
            return Err(BlockError::new(ErrorKind::Corrupt, "qcow2: the image is corrupt and refuses writes"));
        }
        match self.poison.get() {
            None => Ok(()),
            Some(poison) => Err(BlockError::new(poison.kind, poison.text.clone()).with_errno(poison.errno)),
        }
    }

    /// Whether corruption was found.
    pub(crate) fn is_corrupt(&self) -> bool {
        // Ordering: relaxed; set under the metadata lock, which every write takes later and before it changes anything.
        self.corrupt.load(Ordering::Relaxed)
    }

    /// Notes that corruption was found; tells whether that is news.
    pub(crate) fn mark_corrupt(&self) -> bool {
        // Ordering: relaxed, as in `is_corrupt`.
        !self.corrupt.swap(true, Ordering::Relaxed)
    }

    /// Whether the I/O of a write that was given up may still be under way.
    pub(crate) fn is_abandoned(&self) -> bool {
        // Ordering: relaxed; whoever drops the future does so before it can start anything else.
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Stops all writing: memory and disk may disagree about metadata since `error`.
    pub(crate) fn poison(&self, error: &BlockError) {
        let text = format!(
            "qcow2: the image cannot be written any more, as its metadata may be half written: {}",
            error.chain()
        );
        self.poison.get_or_init(|| Poison { kind: error.kind(), errno: error.errno(), text });
    }

    /// Announces that data is going to be written into clusters of this image.
    ///
    /// Dropping a write's future does not stop its I/O, which may then still hit clusters that others are given. So
    /// when the guard is dropped unfinished, no cluster of the image is used a second time.
    pub(crate) fn begin_data_write(self: &Arc<Self>) -> IoGuard {
        IoGuard { health: Arc::clone(self), on_drop: Some(OnDrop::Abandon) }
    }

    /// Announces that metadata is going to be written, or changed in several steps.
    ///
    /// I/O that nobody waits for could be overtaken by the next write of the same table, and steps that are left out
    /// leave memory and disk in disagreement. So when the guard is dropped unfinished, the image is poisoned.
    pub(crate) fn begin_metadata_write(self: &Arc<Self>) -> IoGuard {
        IoGuard { health: Arc::clone(self), on_drop: Some(OnDrop::Poison) }
    }
}

/// What an unfinished guard does.
#[derive(Clone, Copy, Debug)]
enum OnDrop {
    Abandon,
    Poison,
}

/// I/O on its way. See [`Health::begin_data_write`] and [`Health::begin_metadata_write`].
#[derive(Debug)]
#[must_use = "dropping it means that the I/O was given up"]
pub(crate) struct IoGuard {
    health: Arc<Health>,
    on_drop: Option<OnDrop>,
}

impl IoGuard {
    /// All I/O has come back, with or without success.
    pub(crate) fn finish(mut self) {
        self.on_drop = None;
    }
}

impl Drop for IoGuard {
    fn drop(&mut self) {
        match self.on_drop {
            None => {}
            // Ordering: relaxed; whoever drops the future does so before it can start anything else.
            Some(OnDrop::Abandon) => self.health.abandoned.store(true, Ordering::Relaxed),
            Some(OnDrop::Poison) => {
                let text = "a request was given up while it wrote metadata";
                self.health.poison(&BlockError::new(ErrorKind::Cancelled, text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_guards_leave_their_mark() {
        let health = Arc::new(Health::default());
        health.begin_data_write().finish();
        health.begin_metadata_write().finish();
        assert!(health.check().is_ok() && !health.is_abandoned());
        drop(health.begin_data_write());
        assert!(health.check().is_ok() && health.is_abandoned());
        drop(health.begin_metadata_write());
        assert_eq!(health.check().expect_err("poisoned").kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn the_first_reason_stays() {
        let health = Health::default();
        health.poison(&BlockError::from_errno(libc::ENOSPC, "first"));
        health.poison(&BlockError::from_errno(libc::EIO, "second"));
        let error = health.check().expect_err("poisoned");
        assert_eq!(error.errno(), libc::ENOSPC);
        assert!(error.message().ends_with("first"));
        assert!(health.mark_corrupt() && !health.mark_corrupt());
        assert_eq!(health.check().expect_err("corrupt").kind(), ErrorKind::Corrupt);
    }
}
