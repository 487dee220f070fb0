//! Standard input as a source: pieces as they come, of a disk whose length is known only at the end.

use std::pin::pin;

use futures_util::future::{Either, select};
use qemu_block::backend::BlockBackend;
use qemu_block::error::{BlockError, Result, errno_text};
use qemu_block::types::PreallocMode;
use qemu_util::buf::{BufPool, IoBytes};
use qemu_util::sync::CoMutex;

use super::copy::{FailedStep, Failure};
use super::plan::{Piece, Work};
use super::source::SECTOR;
use super::stdio::StdStream;
use crate::signals::Signals;

/// What happens when there is more data than the target has room for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Room<'a> {
    /// There is no end.
    Endless,
    /// This target becomes longer, and in the end exactly as long as the data.
    Grows(&'a BlockBackend),
    /// It is an error: this target exists already and keeps its length.
    Fixed(&'a BlockBackend),
}

/// Reads pieces from a stream.
#[derive(Debug)]
pub(super) struct StreamFeed<'a> {
    input: StdStream,
    buffers: BufPool,
    /// Length of a piece in bytes.
    piece_len: usize,
    room: Room<'a>,
    signals: Signals,
    state: CoMutex<State>,
}

#[derive(Debug, Default)]
struct State {
    offset: u64,
    tickets: u64,
    ended: bool,
}

impl<'a> StreamFeed<'a> {
    /// Reads pieces of `piece_len` bytes from `input`, until its end or until `signals` ask to stop.
    pub(super) fn new(
        input: StdStream,
        piece_len: usize,
        room: Room<'a>,
        buffers: &BufPool,
        signals: &Signals,
    ) -> Self {
        let (buffers, signals) = (buffers.clone(), signals.clone());
        Self { input, buffers, piece_len, room, signals, state: CoMutex::new(State::default()) }
    }

    /// The next piece, and what is in it; none at the end. The target has room for it.
    ///
    /// # Errors
    /// What reading, or making room, fails with.
    pub(super) async fn next(&self) -> Result<Option<(Piece, IoBytes)>, Failure> {
        // A stream has one place from which to read on, so this lock has to be held while somebody reads there.
        let mut state = self.state.lock().await;
        if state.ended {
            return Ok(None);
        }
        let offset = state.offset;
        let failed = |step| move |error| Failure { offset, step, error };
        let reading = pin!(self.input.read(self.buffers.take(self.piece_len)));
        let stopping = pin!(self.signals.stopped());
        let (mut buf, len) = match select(reading, stopping).await {
            Either::Left((read, _)) => read.map_err(failed(FailedStep::Read))?,
            Either::Right(_) => return Ok(None),
        };
        state.ended = len < self.piece_len;
        // Devices consist of whole sectors.
        let padded = len.next_multiple_of(usize::try_from(SECTOR).expect("512 fits"));
        buf[len..padded].fill(0);
        buf.truncate(padded);
        state.offset += padded as u64;
        self.make_room(state.offset, state.ended).await.map_err(failed(FailedStep::Write))?;
        if padded == 0 {
            return Ok(None);
        }
        let ticket = state.tickets;
        state.tickets += 1;
        Ok(Some((Piece { ticket, offset, len: padded as u64, work: Work::Copy }, buf.freeze())))
    }

    /// How much came, in bytes, padded to whole sectors.
    pub(super) async fn total(&self) -> u64 {
        self.state.lock().await.offset
    }

    /// Sees to it that the target is at least `end` bytes long, or exactly that if nothing more comes.
    async fn make_room(&self, end: u64, ended: bool) -> Result<()> {
        match self.room {
            Room::Fixed(target) if target.len() < end => {
                let errno = nix::errno::Errno::ENOSPC as i32;
                Err(BlockError::from_errno(errno, errno_text(errno)))
            }
            Room::Grows(target) if ended && target.len() != end => target.truncate(end, PreallocMode::Off).await,
            Room::Grows(target) if target.len() < end => {
                // Twice as long every time, so that tables are moved seldom; unless that is too long for the format.
                match target.truncate(end.saturating_mul(2), PreallocMode::Off).await {
                    Ok(()) => Ok(()),
                    Err(_) => target.truncate(end, PreallocMode::Off).await,
                }
            }
            _ => Ok(()),
        }
    }
}
