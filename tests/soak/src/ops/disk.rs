//! Requests to a node over a disk in memory that delays and fails them, and buffers.

use qemu_block::types::{WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;
use qemu_util::primitive::Arc;

use super::Worker;
use crate::ledger::Token;
use crate::promise::block_on;
use crate::rng::Rng;
use crate::world::{REGION, World};

/// The part of the disk that is one worker's, and what it should hold.
pub(super) struct Region {
    start: u64,
    model: Vec<u8>,
}

impl Region {
    pub(super) fn new(index: usize) -> Self {
        let len = usize::try_from(REGION).expect("a small number");
        Self { start: REGION * index as u64, model: vec![0; len] }
    }

    fn draw(&self, rng: &mut Rng) -> (u64, std::ops::Range<usize>) {
        let at = rng.index(self.model.len());
        let len = 1 + rng.index((self.model.len() - at).min(20_000));
        (self.start + at as u64, at..at + len)
    }
}

/// A request from inside a context: what is read is what was written. One that fails has no effect.
pub(super) fn request(worker: &mut Worker, rng: &mut Rng) {
    let (offset, range) = worker.disk.draw(rng);
    let (world, kind, byte) = (Arc::clone(&worker.world), rng.below(4), rng.next().to_le_bytes()[0]);
    let len = range.len();
    let work = async move {
        match kind {
            0 => {
                let mut buf = world.buffers.take(len);
                buf.fill(byte);
                world.disk.write(offset, buf.into(), WriteFlags::empty()).await.map(|()| None)
            }
            1 => world.disk.write_zeroes(offset, len as u64, ZeroFlags::empty()).await.map(|()| None),
            2 => world.disk.flush().await.map(|()| None),
            _ => world.disk.read_bytes(offset, len).await.map(Some),
        }
    };
    let Some(context) = worker.context(rng) else { return };
    let task = context.spawn(work);
    drop(context);
    match block_on(task) {
        Ok(Ok(Some(read))) => assert!(read[..] == worker.disk.model[range], "what was read is not what was written"),
        Ok(Ok(None)) if kind < 2 => worker.disk.model[range].fill(if kind == 0 { byte } else { 0 }),
        Ok(Ok(None)) => {}
        // Dropped half-way: what the disk holds there now is unknown, so it is written again, in this thread.
        Ok(Err(_)) | Err(_) if kind < 2 => rewrite(worker, offset, range),
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Writes what the model holds, until it succeeds.
fn rewrite(worker: &Worker, offset: u64, range: std::ops::Range<usize>) {
    let bytes = &worker.disk.model[range];
    let write = || block_on(worker.world.disk.write(offset, IoBuf::copy_of(bytes).into(), WriteFlags::empty()));
    while write().is_err() {
        worker.actor.beat();
    }
}

/// Reads anything, without looking at it.
pub(super) async fn look(world: &World, rng: &mut Rng) {
    let offset = rng.below(world.disk.len());
    let len = 1 + rng.index(usize::try_from((world.disk.len() - offset).min(10_000)).expect("a small number"));
    drop(world.disk.read_bytes(offset, len).await);
}

/// A buffer of the pool is filled here and given back in another thread.
pub(super) fn buffer(worker: &mut Worker, rng: &mut Rng) {
    let len = 1 + rng.index(1 << 20);
    let mut buf = if rng.one_in(2) { worker.world.buffers.take(len) } else { worker.world.buffers.take_zeroed(len) };
    let byte = rng.next().to_le_bytes()[0];
    buf.fill(byte);
    let (middle, token) = (rng.index(len), Token::new());
    let tail = buf.split_off(middle);
    let Some(context) = worker.context(rng) else { return };
    context.schedule_oneshot(move || {
        assert!(tail.iter().all(|&b| b == byte), "another user has written to a buffer");
        drop(token);
    });
    drop(context);
    assert!(buf.iter().all(|&b| b == byte), "another user has written to a buffer");
}
