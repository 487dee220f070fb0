//! `convert --checksum`: a digest of what the guest sees, made while it is copied.
//!
//! Pieces are read, compressed and written in any order, but a digest wants its bytes one after the other. So every task
//! hashes the piece that it holds when it is the piece's turn, on the threads for computations, while the piece is
//! written. No task goes on before its piece is hashed, so there are never more pieces in memory than tasks. What no
//! piece covers is zeros: they are hashed from one small buffer, never read.

use std::fmt::Write;

use qemu_block::aio::WorkerPool;
use qemu_util::buf::IoBytes;
use qemu_util::primitive::{Arc, Mutex};
use qemu_util::units::MIB;
use sha2::{Digest, Sha256};

use super::order::{Stopped, WriteOrder};
use crate::cli::common::OutputFormat;
use crate::failure::Failure;
use crate::output::json::Json;
use crate::output::messages;

/// How many zeros are hashed before somebody looks whether to go on, in bytes.
const ZEROS_AT_ONCE: u64 = 16 * MIB;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How the digest is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// SHA-256, as `sha256sum` prints it for the raw content.
    Sha256,
    /// BLAKE3, as `b3sum` prints it for the raw content.
    Blake3,
}

impl Algorithm {
    const ALL: [Self; 2] = [Self::Sha256, Self::Blake3];

    /// Its name on the command line and in the result.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }

    /// The algorithm of that name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

enum Hasher {
    Sha256(Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn update_zeros(&mut self, mut len: u64) {
        while len > 0 {
            let n = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
            self.update(&ZEROS[..n]);
            len -= n as u64;
        }
    }

    fn digest(&self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.clone().finalize()),
            Self::Blake3(hasher) => hex(hasher.finalize().as_bytes()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct State {
    hasher: Hasher,
    /// Everything before this offset is hashed.
    end: u64,
}

/// A digest in the making, which the tasks of a copy share.
pub(super) struct Checksum {
    algorithm: Algorithm,
    cpu: WorkerPool,
    order: WriteOrder,
    /// Only whoever has the turn uses it, so nobody ever waits for this lock.
    state: Arc<Mutex<State>>,
}

impl Checksum {
    /// A digest of nothing yet, made on the threads of `cpu`.
    pub(super) fn new(algorithm: Algorithm, cpu: WorkerPool) -> Self {
        let state = State { hasher: Hasher::new(algorithm), end: 0 };
        Self { algorithm, cpu, order: WriteOrder::new(), state: Arc::new(Mutex::new(state)) }
    }

    /// Hashes the piece with that ticket when it is its turn, and before it the zeros between it and the piece before.
    ///
    /// # Errors
    /// [`Stopped`] when the copy is given up, of which `must_stop` tells, too.
    pub(super) async fn add(
        &self,
        ticket: u64,
        offset: u64,
        data: IoBytes,
        must_stop: impl Fn() -> bool,
    ) -> Result<(), Stopped> {
        let turn = self.order.turn(ticket).await?;
        self.add_zeros_until(offset, must_stop).await?;
        self.update(data.len() as u64, move |hasher| hasher.update(&data)).await;
        turn.done();
        Ok(())
    }

    /// Lets the turn of a piece go by that is nothing but zeros.
    ///
    /// # Errors
    /// As [`Checksum::add`].
    pub(super) async fn pass(&self, ticket: u64) -> Result<(), Stopped> {
        self.order.turn(ticket).await?.done();
        Ok(())
    }

    /// Completes the digest once all pieces were added: what follows them up to `total` is zeros.
    ///
    /// # Errors
    /// [`Stopped`] when `must_stop` says so.
    pub(super) async fn finish(&self, total: u64, must_stop: impl Fn() -> bool) -> Result<(), Stopped> {
        self.add_zeros_until(total, must_stop).await
    }

    /// The digest of what was added, in hexadecimal.
    fn digest(&self) -> String {
        self.state.lock().hasher.digest()
    }

    /// Prints the digest, as `sha256: 0123…` or as JSON: to standard output, unless the image went there.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn report(&self, form: OutputFormat, stdout_is_taken: bool) -> Result<(), Failure> {
        let (name, digest, size) = (self.algorithm.name(), self.digest(), self.state.lock().end);
        let text = match form {
            OutputFormat::Human => format!("{name}: {digest}\n"),
            OutputFormat::Json => {
                let checksum = Json::Object(vec![("algorithm", Json::text(name)), ("digest", Json::text(digest))]);
                Json::Object(vec![("checksum", checksum), ("virtual-size", Json::Int(size))]).pretty()
            }
        };
        if stdout_is_taken {
            messages::print_error(text.trim_end());
            return Ok(());
        }
        messages::print(&text)
    }

    /// Sends everybody away who waits for a turn.
    pub(super) fn stop(&self) {
        self.order.stop();
    }

    async fn add_zeros_until(&self, end: u64, must_stop: impl Fn() -> bool) -> Result<(), Stopped> {
        loop {
            let left = end.saturating_sub(self.state.lock().end);
            if left == 0 {
                return Ok(());
            }
            if must_stop() {
                return Err(Stopped);
            }
            let n = left.min(ZEROS_AT_ONCE);
            self.update(n, move |hasher| hasher.update_zeros(n)).await;
        }
    }

    async fn update(&self, len: u64, update: impl FnOnce(&mut Hasher) + Send + 'static) {
        let state = Arc::clone(&self.state);
        let job = move || {
            let mut state = state.lock();
            update(&mut state.hasher);
            state.end += len;
        };
        self.cpu.run(job).await;
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checksum").field("order", &self.order).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use qemu_util::aio::AioContext;
    use qemu_util::buf::IoBuf;

    use super::*;

    fn checksum(algorithm: Algorithm) -> Checksum {
        Checksum::new(algorithm, WorkerPool::new("test-cpu", 2, Duration::from_secs(1)))
    }

    #[test]
    fn nothing_has_the_published_digests() {
        let aio = AioContext::new().expect("a loop");
        let digest = |algorithm| {
            let sum = checksum(algorithm);
            aio.block_on(sum.finish(0, || false)).expect("not stopped");
            sum.digest()
        };
        assert_eq!(digest(Algorithm::Sha256), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest(Algorithm::Blake3), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn pieces_in_any_order_and_gaps_are_the_whole() {
        let aio = AioContext::new().expect("a loop");
        let zeros = usize::try_from(ZEROS_AT_ONCE).expect("small") + 777;
        let whole = [vec![1; 1000], vec![0; zeros], vec![2; 300], vec![0; 12]].concat();
        for algorithm in Algorithm::ALL {
            let mut plain = Hasher::new(algorithm);
            plain.update(&whole);
            let sum = checksum(algorithm);
            let bytes = |byte, len| IoBuf::copy_of(&vec![byte; len]).freeze();
            let go_on = || false;
            let digest = aio.block_on(async {
                // The last piece asks first.
                let (third, second, first) = futures_util::future::join3(
                    sum.add(2, 1000 + zeros as u64, bytes(2, 300), go_on),
                    sum.pass(1),
                    sum.add(0, 0, bytes(1, 1000), go_on),
                )
                .await;
                first.and(second).and(third).expect("not stopped");
                sum.finish(whole.len() as u64, go_on).await.expect("not stopped");
                sum.digest()
            });
            assert_eq!(digest, plain.digest(), "{algorithm:?}");
        }
    }

    #[test]
    fn hashing_zeros_can_be_given_up() {
        let aio = AioContext::new().expect("a loop");
        let result = aio.block_on(checksum(Algorithm::Blake3).finish(1 << 60, || true));
        assert_eq!(result, Err(Stopped));
    }
}
