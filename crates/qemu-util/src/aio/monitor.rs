//! Sleeping until a file descriptor is ready: by ppoll while there are few, by epoll when there are many.
//!
//! Only the home thread uses the monitor. The epoll set is brought up to date with the list of handlers when the list
//! has changed; descriptors that epoll refuses (regular files) make the monitor stay with ppoll.
//!
//! Under loom there is nothing but the eventfd.
//!
//! QEMU: util/fdmon-poll.c, util/fdmon-epoll.c

use std::time::Duration;

use smallvec::SmallVec;

use super::eventfd::EventFd;
use super::fd::{Handlers, Ready};

/// What a sleep has found.
#[derive(Default)]
pub(super) struct Outcome {
    /// The eventfd is readable.
    pub(super) notified: bool,
    pub(super) ready: SmallVec<[Ready; 4]>,
}

#[cfg(not(qemu_loom))]
mod imp {
    use std::collections::HashMap;
    use std::io;
    use std::os::fd::AsFd;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, ppoll};
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use nix::sys::time::TimeSpec;

    use super::super::fd::Handler;
    use super::{Duration, EventFd, Handlers, Outcome, SmallVec};
    use crate::primitive::{Arc, Mutex};
    use crate::rcu::read_lock;

    /// From so many handlers on, epoll is used.
    const EPOLL_HANDLERS_MIN: usize = 64;
    /// With fewer handlers than this epoll is given up again. The distance keeps a list whose length varies a little
    /// from making a set again and again.
    const EPOLL_HANDLERS_KEPT: usize = 32;
    /// The longest single sleep. What lasts longer is several sleeps, and no time-out is too long for the kernel.
    const SLEEP_MAX: Duration = Duration::from_secs(24 * 60 * 60);
    /// The most events taken from epoll at a time; the rest comes with the next round.
    const EPOLL_EVENTS_MAX: usize = 128;
    /// The id of the eventfd; handlers count from 1.
    const EVENTFD_ID: u64 = 0;

    /// How the home thread sleeps.
    pub(in super::super) struct Monitor {
        epoll: Mutex<State>,
    }

    #[derive(Default)]
    enum State {
        #[default]
        Unused,
        Set(EpollSet),
        /// Something could not be added: ppoll from now on.
        Unusable,
    }

    /// What is no longer needed, until it may be dropped.
    #[derive(Default)]
    struct Retired {
        state: State,
        handlers: Vec<Arc<Handler>>,
    }

    impl Monitor {
        pub(in super::super) fn new() -> Self {
            Self { epoll: Mutex::new(State::Unused) }
        }

        /// Sleeps until the eventfd or a handler is ready, for `timeout` at most; none means for ever. A signal may end
        /// the sleep early.
        pub(in super::super) fn wait(
            &self,
            eventfd: &EventFd,
            handlers: &Handlers,
            timeout: Option<Duration>,
        ) -> Outcome {
            let timeout = timeout.map(|timeout| timeout.min(SLEEP_MAX));
            let generation = handlers.generation();
            // The list is copied: a section may not last as long as a sleep.
            let list: SmallVec<[Arc<Handler>; 8]> =
                handlers.read(&read_lock()).iter().filter(|handler| !handler.is_muted()).cloned().collect();
            // Declared before the lock is taken: handlers own closures, which are dropped after it is released.
            let mut retired = Retired::default();
            let outcome = self.wait_in_epoll(eventfd, generation, &list, timeout, &mut retired);
            drop(retired);
            outcome.unwrap_or_else(|| wait_in_ppoll(eventfd, &list, timeout))
        }

        /// None when epoll is not worth while, or not to be had.
        fn wait_in_epoll(
            &self,
            eventfd: &EventFd,
            generation: u64,
            list: &[Arc<Handler>],
            timeout: Option<Duration>,
            retired: &mut Retired,
        ) -> Option<Outcome> {
            let mut state = self.epoll.lock();
            if list.len() < EPOLL_HANDLERS_KEPT {
                // The set would keep the descriptors of all handlers in it open for ever.
                retired.state = std::mem::replace(&mut *state, State::Unused);
                return None;
            }
            if matches!(*state, State::Unused) {
                if list.len() < EPOLL_HANDLERS_MIN {
                    return None;
                }
                *state = EpollSet::new(eventfd).map_or(State::Unusable, State::Set);
            }
            let State::Set(set) = &mut *state else { return None };
            if set.update(generation, list, &mut retired.handlers).is_err() {
                retired.state = std::mem::replace(&mut *state, State::Unusable);
                return None;
            }
            Some(set.wait(timeout))
        }

        /// Forgets the handlers of a context that was shut down.
        pub(in super::super) fn clear(&self) {
            let state = std::mem::replace(&mut *self.epoll.lock(), State::Unused);
            drop(state);
        }
    }

    fn wait_in_ppoll(eventfd: &EventFd, list: &[Arc<Handler>], timeout: Option<Duration>) -> Outcome {
        let mut fds: SmallVec<[PollFd<'_>; 9]> = SmallVec::with_capacity(list.len() + 1);
        fds.push(PollFd::new(eventfd.as_fd(), PollFlags::POLLIN));
        fds.extend(list.iter().map(|handler| PollFd::new(handler.as_fd(), handler.interest())));
        // A failure (a signal, or memory that runs short) is a sleep that ended early.
        let n_ready = ppoll(&mut fds, timeout.map(TimeSpec::from_duration), None).unwrap_or(0);
        let mut outcome = Outcome::default();
        if n_ready == 0 {
            return outcome;
        }
        let mut found = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        outcome.notified = found.next().is_some_and(|events| !events.is_empty());
        let ready = list.iter().zip(found).filter(|(_, events)| !events.is_empty());
        outcome.ready.extend(ready.map(|(handler, events)| {
            handler.set_found(events);
            Arc::clone(handler)
        }));
        outcome
    }

    /// An epoll instance and what is in it. Handlers are kept, with their descriptors open, until they are taken out.
    struct EpollSet {
        epoll: Epoll,
        handlers: HashMap<u64, Arc<Handler>>,
        /// The generation of the list that the set corresponds to.
        generation: Option<u64>,
    }

    impl EpollSet {
        fn new(eventfd: &EventFd) -> io::Result<Self> {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            epoll.add(eventfd, EpollEvent::new(EpollFlags::EPOLLIN, EVENTFD_ID))?;
            Ok(Self { epoll, handlers: HashMap::new(), generation: None })
        }

        /// Adds what is new in `list`, and moves what is no longer there to `retired`.
        ///
        /// Two handlers with one descriptor are more than epoll takes: that is an error, and the monitor stays with
        /// ppoll.
        fn update(
            &mut self,
            generation: u64,
            list: &[Arc<Handler>],
            retired: &mut Vec<Arc<Handler>>,
        ) -> io::Result<()> {
            if self.generation == Some(generation) {
                return Ok(());
            }
            let wanted: HashMap<u64, &Arc<Handler>> = list.iter().map(|handler| (handler.id, handler)).collect();
            for (_, gone) in self.handlers.extract_if(|id, _| !wanted.contains_key(id)) {
                let deleted = self.epoll.delete(&*gone);
                retired.push(gone);
                match deleted {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            for (id, handler) in wanted {
                if !self.handlers.contains_key(&id) {
                    let mut events = EpollFlags::empty();
                    events.set(EpollFlags::EPOLLIN, handler.interest().contains(PollFlags::POLLIN));
                    events.set(EpollFlags::EPOLLOUT, handler.interest().contains(PollFlags::POLLOUT));
                    self.epoll.add(&**handler, EpollEvent::new(events, id))?;
                    self.handlers.insert(id, Arc::clone(handler));
                }
            }
            self.generation = Some(generation);
            Ok(())
        }

        fn wait(&self, timeout: Option<Duration>) -> Outcome {
            // epoll counts milliseconds. A finite time is spent in ppoll, on the epoll descriptor itself.
            if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
                let mut fds = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
                let ended = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None);
                if ended.unwrap_or(0) == 0 {
                    return Outcome::default();
                }
            }
            let timeout = if timeout.is_none() { EpollTimeout::NONE } else { EpollTimeout::ZERO };
            let mut events = [EpollEvent::empty(); EPOLL_EVENTS_MAX];
            let n_ready = self.epoll.wait(&mut events, timeout).unwrap_or(0);
            let mut outcome = Outcome::default();
            for event in events.iter().take(n_ready) {
                if event.data() == EVENTFD_ID {
                    outcome.notified = true;
                } else if let Some(handler) = self.handlers.get(&event.data()) {
                    handler.set_found(poll_flags(event.events()));
                    outcome.ready.push(Arc::clone(handler));
                }
            }
            outcome
        }
    }

    fn poll_flags(events: EpollFlags) -> PollFlags {
        let pairs = [
            (EpollFlags::EPOLLIN, PollFlags::POLLIN),
            (EpollFlags::EPOLLOUT, PollFlags::POLLOUT),
            (EpollFlags::EPOLLHUP, PollFlags::POLLHUP),
            (EpollFlags::EPOLLERR, PollFlags::POLLERR),
        ];
        pairs.into_iter().filter(|(epoll, _)| events.contains(*epoll)).map(|(_, poll)| poll).collect()
    }
}

#[cfg(qemu_loom)]
mod imp {
    use super::{Duration, EventFd, Handlers, Outcome};

    /// The model: sleeps on the eventfd alone; a sleep with a time-out ends at once.
    pub(in super::super) struct Monitor;

    impl Monitor {
        pub(in super::super) fn new() -> Self {
            Self
        }

        pub(in super::super) fn wait(
            &self,
            eventfd: &EventFd,
            _handlers: &Handlers,
            timeout: Option<Duration>,
        ) -> Outcome {
            if timeout.is_none() {
                eventfd.wait();
            }
            Outcome { notified: eventfd.is_readable(), ..Outcome::default() }
        }

        pub(in super::super) fn clear(&self) {}
    }
}

pub(super) use imp::Monitor;
