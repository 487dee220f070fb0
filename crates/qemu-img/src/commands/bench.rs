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
use crate::strict::Needs;

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "bench",
    summary: "Measures how fast an image answers requests. With -w it is overwritten.",
    synopsis: "[-c COUNT] [-d DEPTH] [-f FMT | --image-opts] [--flush-interval=N] [-i AIO] [-n] [--no-drain] \
               [-o OFFSET] [--pattern=BYTE] [-q] [-s SIZE] [-S STEP] [-t CACHE] [-w] [-U] FILENAME",
    options: arguments::option_docs,
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    let reads = arguments.mode == Mode::Read;
    Needs::of(COMMAND.name).reads_or_writes(reads, &arguments.shared.image).confine()?;
    let session = Session::new()?;
    session.block_on(bench(&session, &arguments))
}

async fn bench(session: &Session, arguments: &Arguments) -> CommandResult {
    let mut flags = OpenFlags::empty();
    flags.set(OpenFlags::WRITE, arguments.mode != Mode::Read);
    let node = session.open_image(&arguments.shared.image, flags).await?;
    let backend = BlockBackend::new(node);
    let is_direct = arguments.shared.image.cache.is_some_and(|cache| cache.direct);
    if arguments.native && !is_direct {
        // Nothing has been done with the image.
        drop(backend.close().await);
        let name = &arguments.shared.image.name;
        let reason = "aio=native was specified, but it requires cache.direct=on, which was not specified.";
        return Err(Failure::new(format!("Could not open '{name}': {reason}")));
    }
    let result = measure(session, arguments, &backend).await;
    let closed = backend.close().await;
    result?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", arguments.shared.image.name), &error))?;
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
