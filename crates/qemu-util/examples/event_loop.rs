//! An event loop with timers and file descriptors: a line is read from a pipe, in pieces, while a clock ticks.
//!
//! Run with `cargo run -p qemu-util --example event_loop`.

use std::io::{self, PipeReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use qemu_util::aio::{AioContext, FdCallbacks};

/// What a slow writer sends, piece by piece.
const PIECES: [&str; 3] = ["wake-ups ", "are never ", "lost"];
/// The time between two pieces; the clock ticks several times meanwhile.
const PAUSE: Duration = Duration::from_millis(10);
/// The time between two ticks.
const TICK: Duration = Duration::from_millis(2);

/// What has happened so far. Handlers run in the home thread, but the compiler wants to be shown that.
#[derive(Default)]
struct Seen {
    text: String,
    n_pieces: usize,
    n_ticks: usize,
    hung_up: bool,
}

/// Reads what there is; an end of file means that the writer has gone.
fn take(mut reader: &PipeReader, seen: &Mutex<Seen>) {
    let mut piece = [0; 64];
    let len = reader.read(&mut piece).expect("the pipe is readable");
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.n_pieces += usize::from(len != 0);
    seen.hung_up = len == 0;
    seen.text += &String::from_utf8_lossy(&piece[..len]);
}

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

/// Runs the loop until the writer has gone.
///
/// # Errors
/// When the kernel has no descriptors to give, or `out` takes nothing.
pub(crate) fn run(out: &mut impl Write) -> io::Result<()> {
    let ctx = AioContext::new()?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (reader, mut writer) = io::pipe()?;

    let fd = Arc::new(reader.try_clone()?.into());
    let in_handler = Arc::clone(&seen);
    let handler = ctx.add_fd(fd, FdCallbacks::on_readable(move || take(&reader, &in_handler)));

    let writing = thread::spawn(move || {
        for piece in PIECES {
            thread::sleep(PAUSE);
            writer.write_all(piece.as_bytes())?;
        }
        io::Result::Ok(())
    });

    // A task keeps the time: it runs in the same loop, between the pieces.
    let (clock, in_task) = (ctx.clone(), Arc::clone(&seen));
    let ticking = ctx.spawn(async move {
        loop {
            clock.sleep(TICK).await;
            in_task.lock().unwrap_or_else(PoisonError::into_inner).n_ticks += 1;
        }
    });

    while !seen.lock().unwrap_or_else(PoisonError::into_inner).hung_up {
        ctx.poll(true);
    }
    // It owns a handle of its own context: it has to be told when it is over.
    ticking.abort();
    drop(handler);
    writing.join().expect("the writer does not panic")?;

    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(out, "read: {}", seen.text)?;
    writeln!(out, "in several pieces: {}", seen.n_pieces > 1)?;
    writeln!(out, "the clock went on meanwhile: {}", seen.n_ticks > 1)
}
