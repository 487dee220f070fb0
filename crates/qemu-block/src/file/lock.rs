//! Locks by which processes that use the same image exclude each other. QEMU: `raw_handle_perm_lock`.
//!
//! Every permission has two bytes in the file. Whoever uses permission `i` holds a read lock on byte `100 + i`; whoever
//! does not let others use it holds one on byte `200 + i`. Read locks never conflict, so they only announce. After
//! announcing, a process tests whether anybody else's announcements exclude its own, and takes its own back if so. Of
//! two processes that announce at the same time at least one sees the other.
//!
//! The locks belong to the open file description (`F_OFD_SETLK`), so two nodes of one process exclude each other too.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{BlockError, ErrorKind, Result, errno_text, shown};
use crate::types::Perm;

/// First byte of those that say what is used.
const USED_BASE: i64 = 100;
/// First byte of those that say what is not shared.
const UNSHARED_BASE: i64 = 200;

/// What this node announces.
#[derive(Debug)]
pub(super) struct ImageLocks {
    /// The permissions in force.
    perm: Perm,
    shared: Perm,
    /// Bytes that are locked; differs from the permissions only inside of a change.
    used: Perm,
    unshared: Perm,
}

/// What happens to locks that are not wanted any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surplus {
    Keep,
    Release,
}

impl ImageLocks {
    /// Nothing is used, everything is shared.
    pub(super) fn new() -> Self {
        Self { perm: Perm::empty(), shared: Perm::all(), used: Perm::empty(), unshared: Perm::empty() }
    }

    /// Takes what new permissions need, checks them against other processes, then releases what is not needed.
    ///
    /// # Errors
    /// `Locked` when somebody else's use excludes ours; the locks are as before then.
    pub(super) fn change(&mut self, file: &File, filename: &str, perm: Perm, shared: Perm) -> Result<()> {
        let only_less = self.perm.contains(perm) && shared.contains(self.shared);
        if !only_less {
            let taken = self.apply(file, self.perm | perm, !self.shared | !shared, Surplus::Keep);
            let checked = taken.and_then(|()| check(file, filename, perm, shared));
            if let Err(error) = checked {
                // Unlocking what was just locked does not fail on any sane file system, and the first error counts.
                drop(self.apply(file, self.perm, !self.shared, Surplus::Release));
                return Err(error);
            }
        }
        (self.perm, self.shared) = (perm, shared);
        // As in QEMU, a lock that cannot be released is no failure of the request: closing will release it.
        drop(self.apply(file, perm, !shared, Surplus::Release));
        Ok(())
    }

    /// Gives everything up.
    ///
    /// # Errors
    /// When the kernel refuses to unlock.
    pub(super) fn release(&mut self, file: &File) -> Result<()> {
        (self.perm, self.shared) = (Perm::empty(), Perm::all());
        self.apply(file, Perm::empty(), Perm::empty(), Surplus::Release)
    }

    fn apply(&mut self, file: &File, used: Perm, unshared: Perm, surplus: Surplus) -> Result<()> {
        apply_bytes(file, USED_BASE, &mut self.used, used, surplus)?;
        apply_bytes(file, UNSHARED_BASE, &mut self.unshared, unshared, surplus)
    }
}

/// Whether locks work on this file at all.
pub(super) fn are_supported(file: &File) -> bool {
    other_holds(file, USED_BASE).is_ok()
}

fn apply_bytes(file: &File, base: i64, locked: &mut Perm, wanted: Perm, surplus: Surplus) -> Result<()> {
    for (bit, byte) in bytes(base) {
        if wanted.contains(bit) && !locked.contains(bit) {
            set(file, byte, libc::F_RDLCK).map_err(|errno| failure(format!("Failed to lock byte {byte}"), errno))?;
            locked.insert(bit);
        } else if surplus == Surplus::Release && locked.contains(bit) && !wanted.contains(bit) {
            set(file, byte, libc::F_UNLCK)
                .map_err(|errno| BlockError::from(errno).context(format!("Failed to unlock byte {byte}")))?;
            locked.remove(bit);
        }
    }
    Ok(())
}

/// Whether anybody else keeps us from `perm`, or uses what we do not share.
fn check(file: &File, filename: &str, perm: Perm, shared: Perm) -> Result<()> {
    for (bit, byte) in bytes(UNSHARED_BASE).filter(|(bit, _)| perm.contains(*bit)) {
        test(file, byte, filename, || format!("Failed to get \"{}\" lock", name(bit)))?;
    }
    for (bit, byte) in bytes(USED_BASE).filter(|(bit, _)| !shared.contains(*bit)) {
        test(file, byte, filename, || format!("Failed to get shared \"{}\" lock", name(bit)))?;
    }
    Ok(())
}

fn test(file: &File, byte: i64, filename: &str, message: impl Fn() -> String) -> Result<()> {
    let errno = match other_holds(file, byte) {
        Ok(false) => return Ok(()),
        Ok(true) => Errno::EAGAIN,
        Err(errno) => errno,
    };
    let hint = format!("Is another process using the image [{}]?", shown(filename));
    Err(match errno {
        Errno::EAGAIN | Errno::EACCES => locked(format!("{}\n{hint}", message())),
        other => BlockError::from_errno(other as i32, format!("{}: {}\n{hint}", message(), errno_text(other as i32))),
    })
}

/// Errors that mean "somebody else has it" need no reason, others do.
fn failure(message: String, errno: Errno) -> BlockError {
    match errno {
        Errno::EAGAIN | Errno::EACCES => locked(message),
        other => BlockError::from(other).context(message),
    }
}

fn locked(message: String) -> BlockError {
    BlockError::new(ErrorKind::Locked, message)
}

fn bytes(base: i64) -> impl Iterator<Item = (Perm, i64)> {
    (0..4).map(move |i| (Perm::from_bits_truncate(1 << i), base + i))
}

/// QEMU: `bdrv_perm_names` (block.c).
fn name(bit: Perm) -> &'static str {
    match bit {
        Perm::CONSISTENT_READ => "consistent read",
        Perm::WRITE => "write",
        Perm::WRITE_UNCHANGED => "write unchanged",
        _ => "resize",
    }
}

fn set(file: &File, byte: i64, kind: libc::c_int) -> nix::Result<()> {
    let lock = region(byte, kind);
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Whether a write lock on the byte would conflict with somebody else's lock.
fn other_holds(file: &File, byte: i64) -> nix::Result<bool> {
    let mut lock = region(byte, libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

fn region(byte: i64, kind: libc::c_int) -> libc::flock {
    let short = |value: libc::c_int| libc::c_short::try_from(value).expect("lock constants are tiny");
    libc::flock { l_type: short(kind), l_whence: short(libc::SEEK_SET), l_start: byte, l_len: 1, l_pid: 0 }
}
