//! What read-copy-update looks like from outside, for whoever looks into a program that hangs.
//!
//! For information: asked for by any thread, at any time, it never waits. None stands for what is locked by another one.

use std::fmt;

use super::domain;
use super::reader::SlotState;
use crate::event::EventState;

/// A look at the process's domain. The fields were read one after another, while other threads went on.
///
/// Memory ordering: none is implied.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RcuState {
    /// The counter of grace periods.
    pub counter: u64,
    /// A writer waits for readers.
    pub synchronizing: bool,
    /// What that writer sleeps on.
    pub left: EventState,
    /// What the thread that calls functions sleeps on.
    pub queued: EventState,
    /// That thread, or one that drains the queue, is calling functions, or waits for readers in order to.
    pub calling: bool,
    /// How many functions are queued.
    pub functions: Option<usize>,
    /// The slots of the threads that have been readers.
    readers: Option<Vec<SlotState>>,
}

/// What the domain looks like now, from any thread. Never waits.
pub fn state() -> RcuState {
    let domain = domain();
    RcuState {
        counter: domain.grace.current(),
        synchronizing: domain.grace.is_locked(),
        left: domain.grace.left_state(),
        queued: domain.callbacks.queued_state(),
        calling: domain.callbacks.is_calling(),
        functions: domain.callbacks.try_len(),
        readers: domain.registry.try_states(),
    }
}

impl RcuState {
    /// How many threads are inside a section.
    pub fn readers_inside(&self) -> Option<usize> {
        self.readers.as_ref().map(|readers| readers.iter().filter(|reader| reader.counter != 0).count())
    }
}

impl fmt::Display for RcuState {
    /// Lines of `key=value`, for people and programs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counter, synchronizing, left, queued, calling, functions, readers } = self;
        write!(
            f,
            "rcu: counter={counter} synchronizing={synchronizing} left={left} queued={queued} calling={calling}"
        )?;
        match functions {
            Some(functions) => write!(f, " functions={functions}")?,
            None => f.write_str(" functions=locked")?,
        }
        let Some(readers) = readers else { return f.write_str(" readers=locked") };
        let inside = readers.iter().filter(|reader| reader.counter != 0).count();
        write!(f, " readers={} inside={inside}", readers.len())?;
        for SlotState { counter, waited_for } in readers.iter().filter(|reader| reader.counter != 0) {
            write!(f, "\nrcu reader: since={counter} waited_for={waited_for}")?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use crate::rcu::read_lock;

    #[test]
    fn a_reader_is_seen_inside_its_section() {
        let guard = read_lock();
        let text = super::state().to_string();
        // Other tests of this process are readers too, and may hold the register.
        if let Some(inside) = super::state().readers_inside() {
            assert!(inside >= 1, "{text}");
        }
        assert!(text.starts_with("rcu: counter="), "{text}");
        drop(guard);
    }
}
