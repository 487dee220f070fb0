//! Encryption of guest data on its way to the storage and back.
//!
//! Sectors of 512 bytes are encrypted one by one. Requests are widened to whole sectors before they come here
//! ([`BlockLimits`](qemu_block::types::BlockLimits)), and large ones are divided among all processors.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::join_all;
use qemu_block::aio::Services;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_crypto::cipher::{SECTOR_BYTES, SectorCipher};
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

use super::data::Place;

/// Up to this many bytes are encrypted at once, where they are: handing them over takes longer.
const INLINE_BYTES_MAX: usize = 16 << 10;
/// A processor gets at least this many bytes at a time.
const JOB_BYTES_MIN: usize = 64 << 10;
/// Zeros that are encrypted and written at a time.
pub(super) const ZERO_CHUNK_BYTES: u64 = 1 << 20;

/// What is done to guest data.
#[derive(Debug)]
pub(crate) enum DataCipher {
    /// Nothing.
    Plain,
    /// It is encrypted.
    Key(Crypt),
    /// It is encrypted, and nobody asked for it when the image was opened.
    Locked,
}

/// What the sectors are numbered by. QEMU: `crypt_physical_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectorNumbers {
    /// Their place on the virtual disk: legacy AES.
    Guest,
    /// Their place in the image file: LUKS.
    Host,
}

/// A cipher with its key, and the threads that work with it.
pub(crate) struct Crypt {
    cipher: Arc<SectorCipher>,
    numbers: SectorNumbers,
    services: Services,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Encrypt,
    Decrypt,
}

impl Crypt {
    pub(crate) fn new(cipher: SectorCipher, numbers: SectorNumbers, services: Services) -> Self {
        Self { cipher: Arc::new(cipher), numbers, services }
    }

    /// The number of the sector that begins at `place`.
    fn sector(&self, place: Place) -> Result<u64> {
        let offset = match self.numbers {
            SectorNumbers::Guest => place.guest,
            SectorNumbers::Host => place.host.get(),
        };
        if !offset.is_multiple_of(SECTOR_BYTES as u64) {
            let text = "qcow2: a request for encrypted data does not start at a sector";
            return Err(BlockError::new(ErrorKind::BadRequest, text));
        }
        Ok(offset / SECTOR_BYTES as u64)
    }

    /// Decrypts what was read from `place`: whole sectors.
    pub(super) async fn decrypt(&self, place: Place, mut buf: IoVecMut) -> Result<IoVecMut> {
        let first = self.sector(place)?;
        let in_place = buf.parts().iter().all(|part| part.len().is_multiple_of(SECTOR_BYTES));
        if in_place {
            return Ok(self.transform(first, buf, Direction::Decrypt).await);
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
        Ok(buf)
    }

    /// Encrypts a copy of `data` for `place`. What is missing in the last sector are zeros.
    pub(super) async fn encrypt(&self, place: Place, data: &IoVec) -> Result<IoVec> {
        let first = self.sector(place)?;
        let len = data.len().next_multiple_of(SECTOR_BYTES);
        let mut copy = self.services.buffers.take(len);
        data.copy_out(0, &mut copy[..data.len()]);
        copy[data.len()..].fill(0);
        Ok(self.transform(first, copy.into(), Direction::Encrypt).await.freeze())
    }

    /// Zeros, encrypted for `place`.
    pub(super) async fn encrypted_zeros(&self, place: Place, len: usize) -> Result<IoVec> {
        let first = self.sector(place)?;
        let zeros: IoBuf = self.services.buffers.take_zeroed(len.next_multiple_of(SECTOR_BYTES));
        Ok(self.transform(first, zeros.into(), Direction::Encrypt).await.freeze())
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

impl fmt::Debug for Crypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypt").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}
