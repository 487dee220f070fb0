//! The walk along both images: what is known of them decides what is read, and what is read is compared.
//!
//! Several steps are under way at a time, each of which reads both images at once; what they find is told in the order of
//! the disk, so that the first difference and the first failure are those that the reference would meet.

use std::pin::pin;

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream;
use qemu_util::buf::{BufPool, IoBuf};
use qemu_util::units::MIB;
use qemu_util::zero::is_zero;

use super::difference::Difference;
use super::side::{Extent, Side};
use super::{STATUS_NO_STATUS, STATUS_NOT_READ, say};
use crate::failure::{Code, Failure};
use crate::output::progress::Progress;

/// Bytes that are read at once of each image. QEMU: `IO_BUF_SIZE`
const READ_MAX: u64 = 2 * MIB;
/// How many steps are under way at a time.
const STEPS: usize = 4;
/// The unit in which a difference is located, in bytes.
const SECTOR: usize = 512;
/// The unit in which it is looked for, in bytes.
const STRIDE: usize = 64 << 10;

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The images show the same disk.
    Same,
    /// They do not, and here is where.
    Different(Difference),
}

/// Why a walk ends early.
enum Stop {
    Difference(Difference),
    Failure(Failure),
}

/// What is done with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Nothing: it is known that there is no difference.
    Skip,
    /// Compare what both have.
    Both,
    /// This one must have zeros.
    Zeros(usize),
    /// Tell that the images have different sizes.
    TellSizes,
}

/// A range, and what is done with it.
#[derive(Clone, Copy, Debug)]
struct Step {
    offset: u64,
    len: u64,
    work: Work,
}

/// Where the walk has come to.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    offset: u64,
    /// It has been told that the sizes differ.
    sizes_told: bool,
}

/// Two images and how they are compared.
pub(super) struct Comparison<'a> {
    pub(super) sides: [&'a Side; 2],
    pub(super) strict: bool,
    /// Whether nothing is said.
    pub(super) quiet: bool,
    pub(super) buffers: BufPool,
    pub(super) progress: &'a Progress,
}

impl Comparison<'_> {
    /// Compares, and says what is found.
    ///
    /// # Errors
    /// The images cannot be compared to the end; the failure has the exit status.
    pub(super) async fn run(&self) -> Result<Verdict, Failure> {
        let [len_a, len_b] = self.sides.map(Side::len);
        self.progress.start();
        if self.strict && len_a != len_b {
            return self.differ(Difference::Size);
        }
        let steps = stream::unfold(Some(Cursor::default()), |cursor| async move { self.next_step(cursor?).await });
        let mut checked = pin!(steps.map(|step| self.check(step)).buffered(STEPS));
        while let Some(checked) = checked.next().await {
            match checked {
                Ok(step) if step.work == Work::TellSizes => say("Warning: Image size mismatch!", self.quiet)?,
                Ok(step) => self.progress.advance(step.len, len_a.max(len_b)),
                Err(Stop::Difference(difference)) => return self.differ(difference),
                Err(Stop::Failure(failure)) => return Err(failure),
            }
        }
        say("Images are identical.", self.quiet)?;
        Ok(Verdict::Same)
    }

    fn differ(&self, difference: Difference) -> Result<Verdict, Failure> {
        say(&difference.text(), self.quiet)?;
        Ok(Verdict::Different(difference))
    }

    /// The step at a cursor, and the cursor behind it: none behind a step that ends the walk.
    async fn next_step(&self, at: Cursor) -> Option<(Result<Step, Stop>, Option<Cursor>)> {
        let [len_a, len_b] = self.sides.map(Side::len);
        let step = if at.offset < len_a.min(len_b) {
            self.common_step(at.offset).await
        } else if at.offset >= len_a.max(len_b) {
            return None;
        } else if !at.sizes_told {
            Ok(Step { offset: at.offset, len: 0, work: Work::TellSizes })
        } else {
            self.tail_step(at.offset, usize::from(len_a < len_b)).await
        };
        let next = step.as_ref().ok().map(|step| Cursor {
            offset: at.offset + step.len,
            sizes_told: at.sizes_told || step.work == Work::TellSizes,
        });
        Some((step, next))
    }

    /// What to do where both have something.
    async fn common_step(&self, offset: u64) -> Result<Step, Stop> {
        let [side_a, side_b] = self.sides;
        let (a, b) = join(side_a.extent(offset), side_b.extent(offset)).await;
        let a = a.map_err(|_| no_status(side_a))?;
        let b = b.map_err(|_| no_status(side_b))?;
        if self.strict && a.kind != b.kind {
            return Err(Stop::Difference(Difference::Status(offset)));
        }
        Ok(step_for(offset, a, b))
    }

    /// What to do where only one image has something, which must be zeros.
    async fn tail_step(&self, offset: u64, longer: usize) -> Result<Step, Stop> {
        let side = self.sides[longer];
        let Extent { len, kind } = side.extent(offset).await.map_err(|_| no_status(side))?;
        Ok(if kind.is_allocated() && !kind.is_zero() {
            Step { offset, len: len.min(READ_MAX), work: Work::Zeros(longer) }
        } else {
            Step { offset, len, work: Work::Skip }
        })
    }

    /// Does what is to be done; gives the step back if there is no difference.
    async fn check(&self, step: Result<Step, Stop>) -> Result<Step, Stop> {
        let step = step?;
        let Step { offset, len, work } = step;
        let mismatch = match work {
            Work::Skip | Work::TellSizes => None,
            Work::Both => {
                let (a, b) = join(self.read(0, offset, len), self.read(1, offset, len)).await;
                first_different_sector(&a?, &b?)
            }
            Work::Zeros(side) => first_used_sector(&self.read(side, offset, len).await?),
        };
        match mismatch {
            None => Ok(step),
            Some(at) => Err(Stop::Difference(Difference::Content(offset + at as u64))),
        }
    }

    async fn read(&self, side: usize, offset: u64, len: u64) -> Result<IoBuf, Stop> {
        let side = self.sides[side];
        let len = usize::try_from(len).expect("some MiB");
        side.read(offset, len, &self.buffers).await.map_err(|error| {
            let reason = error.errno_text();
            let text = format!("Error while reading offset {offset} of {}: {reason}", side.name());
            Stop::Failure(Failure::new(text).with_status(STATUS_NOT_READ).of_kind(&error).about(side.name()).at(offset))
        })
    }
}

fn step_for(offset: u64, a: Extent, b: Extent) -> Step {
    let len = a.len.min(b.len);
    let work = match (a.kind.is_allocated(), b.kind.is_allocated()) {
        _ if a.kind.is_zero() && b.kind.is_zero() => Work::Skip,
        // What neither image has is not compared, as in the reference: it comes from no file.
        (false, false) => Work::Skip,
        (true, false) => Work::Zeros(0),
        (false, true) => Work::Zeros(1),
        (true, true) if a.kind.is_zero() => Work::Zeros(1),
        (true, true) if b.kind.is_zero() => Work::Zeros(0),
        (true, true) => Work::Both,
    };
    let len = if work == Work::Skip { len } else { len.min(READ_MAX) };
    Step { offset, len, work }
}

fn no_status(side: &Side) -> Stop {
    let text = format!("Sector allocation test failed for {}", side.name());
    Stop::Failure(Failure::new(text).with_status(STATUS_NO_STATUS).with_code(Code::Io).about(side.name()))
}

/// Where the first sector begins in which two buffers of the same length differ.
fn first_different_sector(a: &[u8], b: &[u8]) -> Option<usize> {
    let stride = a.chunks(STRIDE).zip(b.chunks(STRIDE)).position(|(a, b)| a != b)? * STRIDE;
    let mut sectors = a[stride..].chunks(SECTOR).zip(b[stride..].chunks(SECTOR));
    sectors.position(|(a, b)| a != b).map(|sector| stride + sector * SECTOR)
}

/// Where the first sector begins that is not full of zeros.
fn first_used_sector(bytes: &[u8]) -> Option<usize> {
    let stride = bytes.chunks(STRIDE).position(|chunk| !is_zero(chunk))? * STRIDE;
    bytes[stride..].chunks(SECTOR).position(|sector| !is_zero(sector)).map(|sector| stride + sector * SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_located() {
        let zeros = vec![0; 3 * STRIDE];
        let mut bytes = zeros.clone();
        assert_eq!((first_different_sector(&zeros, &bytes), first_used_sector(&bytes)), (None, None));
        let sector = 2 * STRIDE + SECTOR;
        bytes[sector + 300] = 1;
        assert_eq!((first_different_sector(&zeros, &bytes), first_used_sector(&bytes)), (Some(sector), Some(sector)));
        bytes[0] = 1;
        assert_eq!((first_different_sector(&zeros, &bytes), first_used_sector(&bytes)), (Some(0), Some(0)));
        assert_eq!(first_different_sector(&[1, 2], &[1, 3]), Some(0));
    }
}
