//! Encryption of guest data on its way to the storage and back.
//!
//! Sectors of 512 bytes are encrypted one by one; large requests are divided among all processors.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::join_all;
use qemu_crypto::cipher::{SECTOR_BYTES, SectorCipher};
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

use crate::aio::Services;

/// Up to this many bytes are encrypted at once, where they are: handing them over takes longer.
const INLINE_BYTES_MAX: usize = 16 << 10;
/// A processor gets at least this many bytes at a time.
const JOB_BYTES_MIN: usize = 64 << 10;

/// A cipher with its key, and the threads that work with it.
pub struct SectorCrypt {
    cipher: Arc<SectorCipher>,
    services: Services,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Encrypt,
    Decrypt,
}

impl SectorCrypt {
    /// Works with `cipher` on the threads of `services`.
    pub fn new(cipher: SectorCipher, services: Services) -> Self {
        Self { cipher: Arc::new(cipher), services }
    }

    /// Decrypts whole sectors; the first one has the number `first`.
    pub async fn decrypt(&self, first: u64, mut buf: IoVecMut) -> IoVecMut {
        let in_place = buf.parts().iter().all(|part| part.len().is_multiple_of(SECTOR_BYTES));
        if in_place {
            return self.transform(first, buf, Direction::Decrypt).await;
        }
        // A sector is scattered over several buffers, so it has to be put together first.
        let mut whole = self.services.buffers.take(buf.len());
        let mut rest = &mut whole[..];
        for part in buf.parts() {
            let (to, after) = rest.split_at_mut(part.len());
            to.copy_from_slice(part);
            rest = after;
        }
        let whole = self.transform(first, whole.into(), Direction::Decrypt).await;
        let mut at = 0;
        for part in whole.parts() {
            buf.copy_in(at, part);
            at += part.len();
        }
        buf
    }

    /// Encrypts a copy of `data`, whose first sector has the number `first`. What is missing in the last sector are
    /// zeros.
    pub async fn encrypt(&self, first: u64, data: &IoVec) -> IoVec {
        let len = data.len().next_multiple_of(SECTOR_BYTES);
        let mut copy = self.services.buffers.take(len);
        data.copy_out(0, &mut copy[..data.len()]);
        copy[data.len()..].fill(0);
        self.transform(first, copy.into(), Direction::Encrypt).await.freeze()
    }

    /// Encrypted zeros: `len` bytes, rounded up to whole sectors.
    pub async fn encrypted_zeros(&self, first: u64, len: usize) -> IoVec {
        let zeros: IoBuf = self.services.buffers.take_zeroed(len.next_multiple_of(SECTOR_BYTES));
        self.transform(first, zeros.into(), Direction::Encrypt).await.freeze()
    }

    /// Encrypts or decrypts sectors from number `first` on where they are.
    async fn transform(&self, first: u64, mut buf: IoVecMut, direction: Direction) -> IoVecMut {
        if buf.len() <= INLINE_BYTES_MAX {
            apply(&self.cipher, first, &mut buf, direction);
            return buf;
        }
        let mut jobs = Vec::new();
        for range in self.job_ranges(buf.len()).into_iter().rev() {
            let mut some = buf.split_off(range.start);
            let cipher = Arc::clone(&self.cipher);
            let first = first.wrapping_add((range.start / SECTOR_BYTES) as u64);
            jobs.push(self.services.cpu.run(move || {
                apply(&cipher, first, &mut some, direction);
                some
            }));
        }
        jobs.reverse();
        let mut whole = IoVecMut::default();
        join_all(jobs).await.into_iter().for_each(|part| whole.append(part));
        whole
    }

    /// Divides `len` bytes so that every processor has something to do and no job is tiny.
    fn job_ranges(&self, len: usize) -> Vec<Range<usize>> {
        let per_processor = len.div_ceil(self.services.cpu.threads_max());
        let per_job = per_processor.max(JOB_BYTES_MIN).next_multiple_of(SECTOR_BYTES);
        (0..len).step_by(per_job).map(|start| start..len.min(start + per_job)).collect()
    }
}

fn apply(cipher: &SectorCipher, first: u64, buf: &mut IoVecMut, direction: Direction) {
    let mut sector = first;
    for part in buf.parts_mut() {
        match direction {
            Direction::Encrypt => cipher.encrypt(sector, part),
            Direction::Decrypt => cipher.decrypt(sector, part),
        }
        sector = sector.wrapping_add((part.len() / SECTOR_BYTES) as u64);
    }
}

impl fmt::Debug for SectorCrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SectorCrypt").finish_non_exhaustive()
    }
}
