//! Where `dd` reads and writes: images and pipes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use qemu_block::aio::WorkerPool;
use qemu_block::backend::BlockBackend;
use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_block::types::WriteFlags;
use qemu_util::buf::{BufPool, IoBytes, IoVec};

/// Reading may wait for another program for ever, and so may writing; neither keeps the loop waiting.
const THREADS: usize = 2;
/// How long an idle thread stays.
const IDLE: Duration = Duration::from_secs(10);

/// Standard input or output.
#[derive(Debug)]
pub(super) struct Pipe {
    file: Arc<File>,
    threads: WorkerPool,
}

impl Pipe {
    /// The end of a pipe, or whatever else, that a stream of this process leads to.
    ///
    /// # Errors
    /// The stream is closed.
    fn new(stream: impl AsFd) -> io::Result<Self> {
        let file = File::from(stream.as_fd().try_clone_to_owned()?);
        Ok(Self { file: Arc::new(file), threads: WorkerPool::new("pipe", THREADS, IDLE) })
    }
}

/// What is read.
#[derive(Debug)]
pub(super) enum Input {
    /// An image.
    Image(Arc<Node>),
    /// Standard input.
    Pipe(Pipe),
}

impl Input {
    /// Standard input.
    ///
    /// # Errors
    /// It is closed.
    pub(super) fn stdin() -> Result<Self> {
        Ok(Self::Pipe(Pipe::new(io::stdin())?))
    }

    /// Up to `len` bytes from `offset` on; fewer only at the end of a pipe, which is read from where it is.
    ///
    /// # Errors
    /// What reading fails with.
    pub(super) async fn read(&self, offset: u64, len: usize, buffers: &BufPool) -> Result<IoBytes> {
        let mut buf = buffers.take(len);
        match self {
            Self::Image(node) => {
                let filled = node.read(offset, buf.into()).await?;
                Ok(filled
                    .into_single()
                    .unwrap_or_else(|parts| qemu_util::buf::IoBuf::copy_of(&parts.to_vec()))
                    .freeze())
            }
            Self::Pipe(pipe) => {
                let file = Arc::clone(&pipe.file);
                let reading = pipe.threads.run(move || read_full(&file, &mut buf).map(|n| (n, buf)));
                let (n, mut buf) = reading.await.map_err(BlockError::from)?;
                buf.truncate(n);
                Ok(buf.freeze())
            }
        }
    }
}

/// What is written.
#[derive(Debug)]
pub(super) enum Output {
    /// An image.
    Image(BlockBackend),
    /// Standard output.
    Pipe(Pipe),
}

impl Output {
    /// Standard output.
    ///
    /// # Errors
    /// It is closed.
    pub(super) fn stdout() -> Result<Self> {
        Ok(Self::Pipe(Pipe::new(io::stdout())?))
    }

    /// Writes at `offset`; to a pipe behind what was written before.
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) async fn write(&self, offset: u64, data: IoBytes) -> Result<()> {
        match self {
            Self::Image(backend) => backend.write(offset, IoVec::from(data), WriteFlags::empty()).await,
            Self::Pipe(pipe) => {
                let file = Arc::clone(&pipe.file);
                pipe.threads.run(move || (&*file).write_all(&data)).await.map_err(BlockError::from)
            }
        }
    }
}

/// Reads until the buffer is full or the input ends.
fn read_full(mut file: &File, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
