//! `qemu-img bench`: how fast does an image answer requests?
//!
//! QEMU: `img_bench` (qemu-img.c)

mod arguments;
mod load;

use std::time::Instant;

use qemu_block::backend::BlockBackend;
use qemu_block::types::OpenFlags;

use self::arguments::{Arguments, parse};
use self::load::{Load, Mode};
use super::Command;
use crate::cli::program;
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::messages;
use crate::session::Session;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "bench",
    summary: "Measures how fast an image answers requests. With -w it is overwritten.",
    synopsis: "[-c COUNT] [-d DEPTH] [-f FMT | --image-opts] [--flush-interval=N] [-i AIO] [-n] [--no-drain] \
               [-o OFFSET] [--pattern=BYTE] [-q] [-s SIZE] [-S STEP] [-t CACHE] [-w] [-U] FILENAME",
    run,
};

const OPTIONS: &str = "\
  -h, --help               print this text
  -q, --quiet              print nothing but errors and the result
  -f, --format FMT         the image's format; recognised by its content if not given
      --image-opts         FILENAME is a list of options (driver=...,file.filename=...)
  -t, --cache CACHE        none, writeback (the default), writethrough, directsync or unsafe
  -c, --count COUNT        how many requests (default: 75000)
  -d, --depth DEPTH        how many of them at a time (default: 64)
  -o, --offset OFFSET      where the first one starts (default: 0)
  -s, --buffer-size SIZE   how long each one is (default: 4K)
  -S, --step-size STEP     from the start of one to that of the next, wrapping around at the end (default: SIZE)
  -i, --aio AIO            how requests reach the system; only 'threads' so far
  -n, --native             the same as '-i native', which is not supported yet
  -w, --write              write instead of reading
      --pattern BYTE       write this byte (default: 0)
      --flush-interval N   flush after every N writes
      --no-drain           do not wait for other writes before a flush
  -U, --force-share        open the image even if another process is writing to it
  FILENAME                 the image
";

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help(OPTIONS)) };
    let session = Session::new()?;
    session.block_on(bench(&session, &arguments))
}

async fn bench(session: &Session, arguments: &Arguments) -> CommandResult {
    let mut flags = OpenFlags::empty();
    flags.set(OpenFlags::WRITE, arguments.mode != Mode::Read);
    let node = session.open_image(&arguments.image, flags).await?;
    let backend = BlockBackend::new(node);
    let result = measure(session, arguments, &backend).await;
    let closed = backend.close().await;
    result?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", arguments.image.name), &error))?;
    Ok(Outcome::Success)
}

async fn measure(session: &Session, arguments: &Arguments, backend: &BlockBackend) -> Result<(), Failure> {
    let Arguments { count, depth, buffer_len, offset, step, .. } = *arguments;
    let kind = if arguments.mode == Mode::Read { "read" } else { "write" };
    messages::print(&format!(
        "Sending {count} {kind} requests, {buffer_len} bytes each, {depth} in parallel \
         (starting at offset {offset}, step size {step})\n"
    ))?;
    if let Some(interval) = arguments.flush_interval {
        messages::print(&format!("Sending flush every {interval} requests\n"))?;
    }
    let load = Load::new(arguments, backend, &session.services().buffers);
    let started = Instant::now();
    load.run().await?;
    messages::print(&format!("Run completed in {:.3} seconds.\n", started.elapsed().as_secs_f64()))
}
