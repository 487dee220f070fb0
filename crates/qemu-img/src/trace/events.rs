//! Events of the block layer as lines of text: the name, and the names and values of what it is about.
//!
//! Names, order and notation are those of QEMU's log backend, as far as we have the same event. The layers below emit
//! events by the crate `tracing`, which costs one relaxed load as long as nobody listens.
//!
//! QEMU: block/trace-events, scripts/tracetool/backend/log.py

use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::{self, Write};

use qemu_util::primitive::Mutex;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use crate::failure::Failure;

/// The names of the events that the layers below emit.
pub(super) const NAMES: [&str; 12] = [
    "bdrv_open_common",
    "blk_co_preadv",
    "blk_co_pwritev",
    "bdrv_co_preadv_part",
    "bdrv_co_pwritev_part",
    "bdrv_co_pwrite_zeroes",
    "qcow2_writev_start_req",
    "qcow2_writev_done_req",
    "qcow2_pwrite_zeroes_start_req",
    "qcow2_cluster_alloc_phys",
    "thread_pool_submit_aio",
    "thread_pool_complete_aio",
];

/// Writes the events of some names.
pub(super) struct Log {
    names: Vec<&'static str>,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Log {
    /// A log of the events `names`, in the file `path` or else on standard error.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn new(names: Vec<&'static str>, path: Option<&str>) -> Result<Self, Failure> {
        let out: Box<dyn Write + Send> = match path {
            None => Box::new(io::stderr()),
            Some(path) => Box::new(File::create(path).map_err(|error| {
                let reason = qemu_block::error::errno_text(error.raw_os_error().unwrap_or(0));
                Failure::new(format!("Could not open '{path}': {reason}"))
            })?),
        };
        Ok(Self { names, out: Mutex::new(out) })
    }

    /// Listens from now on, until the process ends. Whoever came first stays.
    pub(super) fn listen(self) {
        // A program that embeds the command may listen by itself.
        drop(tracing::subscriber::set_global_default(self));
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.names.contains(&metadata.name()) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.names.contains(&metadata.name())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Nobody asks for spans, which are never enabled.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().name().to_owned());
        event.record(&mut line);
        line.0.push('\n');
        // A log that cannot be written is no reason to fail.
        drop(self.out.lock().write_all(line.0.as_bytes()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A line that is being written.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {} {value:?}", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {} \"{}\"", field.name(), crate::output::human::escape(value));
    }
}
