//! Which rules are active, and which requests are stopped.
//!
//! One short lock protects all of it; nothing is awaited while it is held.

use qemu_block::debug::{DebugEvent, DebugFuture, DebugOps};
use qemu_util::primitive::Mutex;
use qemu_util::sync::oneshot;

use super::rule::{Action, Injection, IoType, Rule};

/// The state in which an image is opened.
const INITIAL: u64 = 1;

/// The state of one node.
#[derive(Debug)]
pub(super) struct State {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: u64,
    /// In the order in which they were added, each with a number of its own.
    rules: Vec<(u64, Rule)>,
    next_number: u64,
    /// The numbers of rules that make requests fail now, the one that counts first in front.
    active: Vec<u64>,
    /// In the order in which they were stopped.
    suspended: Vec<Suspended>,
    notices: Vec<String>,
}

/// A request that is stopped. It goes on when the sender is used, or dropped.
#[derive(Debug)]
struct Suspended {
    tag: String,
    resume: oneshot::Sender<()>,
}

impl State {
    /// A node with these rules, none of which is active yet.
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let mut inner = Inner {
            state: INITIAL,
            rules: Vec::new(),
            next_number: 0,
            active: Vec::new(),
            suspended: Vec::new(),
            notices: Vec::new(),
        };
        rules.into_iter().for_each(|rule| inner.add(rule));
        Self { inner: Mutex::new(inner) }
    }

    /// A request has come to `event`; it may have to wait there.
    pub(super) async fn reach(&self, event: DebugEvent) {
        let stops = self.inner.lock().reach(event);
        for stop in stops {
            // A sender that is gone lets the request go on as well: the node is being closed.
            let _resumed = stop.await;
        }
    }

    /// How such a request fails, if it does. The lock is not needed to find out that no rule is active most of the time,
    /// but it is not in anybody's way either.
    pub(super) fn failure(&self, offset: u64, len: u64, kind: IoType) -> Option<Injection> {
        self.inner.lock().failure(offset, len, kind)
    }

    /// Lets all stopped requests go on without a word.
    pub(super) fn resume_all(&self) {
        let suspended = std::mem::take(&mut self.inner.lock().suspended);
        drop(suspended);
    }
}

impl Inner {
    fn add(&mut self, rule: Rule) {
        self.rules.push((self.next_number, rule));
        self.next_number += 1;
    }

    /// The newest rules come first. Errors that this point injects replace those of an earlier one.
    fn reach(&mut self, event: DebugEvent) -> Vec<oneshot::Receiver<()>> {
        let state = self.state;
        let is_due = |rule: &Rule| rule.event == event && rule.state.is_none_or(|only| only == state);
        let due: Vec<(u64, Action)> = self
            .rules
            .iter()
            .rev()
            .filter(|(_, rule)| is_due(rule))
            .map(|(n, rule)| (*n, rule.action.clone()))
            .collect();
        if due.iter().any(|(_, action)| matches!(action, Action::Inject(_))) {
            self.active.clear();
        }
        let mut stops = Vec::new();
        for (number, action) in due {
            match action {
                Action::Inject(_) => self.active.insert(0, number),
                Action::SetState(state) => self.state = state,
                Action::Suspend { tag } => {
                    self.remove(number);
                    let (resume, stop) = oneshot::channel();
                    self.notices.push(format!("blkdebug: Suspended request '{tag}'"));
                    self.suspended.push(Suspended { tag, resume });
                    stops.push(stop);
                }
            }
        }
        stops
    }

    fn failure(&mut self, offset: u64, len: u64, kind: IoType) -> Option<Injection> {
        let injection = |number: &u64| {
            let (_, rule) = self.rules.iter().find(|(of, _)| of == number)?;
            match rule.action {
                Action::Inject(injection) if injection.fits(offset, len, kind) => Some((*number, injection)),
                _ => None,
            }
        };
        let (number, injection) = self.active.iter().find_map(injection)?;
        if injection.errno == 0 {
            return None;
        }
        if injection.once {
            self.remove(number);
        }
        Some(injection)
    }

    fn remove(&mut self, number: u64) {
        self.rules.retain(|(of, _)| *of != number);
        self.active.retain(|of| *of != number);
    }

    /// Lets the request of that tag go on that was stopped last.
    fn resume(&mut self, tag: &str) -> bool {
        let Some(at) = self.suspended.iter().rposition(|request| request.tag == tag) else { return false };
        let request = self.suspended.remove(at);
        self.notices.push(format!("blkdebug: Resuming request '{tag}'"));
        // A request that was given up meanwhile does not go on.
        let _received = request.resume.send(());
        true
    }
}

impl DebugOps for State {
    fn event(&self, event: DebugEvent) -> DebugFuture<'_> {
        Box::pin(self.reach(event))
    }

    fn set_breakpoint(&self, event: DebugEvent, tag: &str) {
        let action = Action::Suspend { tag: tag.to_owned() };
        self.inner.lock().add(Rule { event, state: None, action });
    }

    fn remove_breakpoint(&self, tag: &str) -> bool {
        let mut inner = self.inner.lock();
        let before = inner.rules.len();
        inner.rules.retain(|(_, rule)| !matches!(&rule.action, Action::Suspend { tag: of } if of == tag));
        let found = inner.rules.len() < before;
        while inner.resume(tag) {}
        found
    }

    fn resume(&self, tag: &str) -> bool {
        self.inner.lock().resume(tag)
    }

    fn is_suspended(&self, tag: &str) -> bool {
        self.inner.lock().suspended.iter().any(|request| request.tag == tag)
    }

    fn resume_all(&self) {
        Self::resume_all(self);
    }

    fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().notices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injection(errno: i32) -> Injection {
        Injection { kind: None, offset: None, errno, once: false, immediately: true }
    }

    fn state(rules: Vec<(DebugEvent, Option<u64>, Action)>) -> State {
        State::new(rules.into_iter().map(|(event, state, action)| Rule { event, state, action }).collect())
    }

    #[test]
    fn errors_begin_with_their_event_and_end_once() {
        let once = Injection { once: true, ..injection(5) };
        let state = state(vec![(DebugEvent::L2Load, None, Action::Inject(once))]);
        assert_eq!(state.failure(0, 512, IoType::Read), None);
        assert!(state.inner.lock().reach(DebugEvent::L2Load).is_empty());
        assert_eq!(state.failure(0, 512, IoType::Read), Some(once));
        assert_eq!(state.failure(0, 512, IoType::Read), None);
    }

    #[test]
    fn states_choose_between_rules() {
        let state = state(vec![
            (DebugEvent::WriteAio, Some(2), Action::Inject(injection(28))),
            (DebugEvent::WriteAio, Some(1), Action::SetState(2)),
        ]);
        state.inner.lock().reach(DebugEvent::WriteAio);
        assert_eq!(state.failure(0, 512, IoType::Write), None, "the new state holds from the next point on");
        state.inner.lock().reach(DebugEvent::WriteAio);
        assert_eq!(state.failure(0, 512, IoType::Write).map(|failure| failure.errno), Some(28));
    }

    #[test]
    fn breakpoints_stop_one_request_each() {
        let state = state(Vec::new());
        state.set_breakpoint(DebugEvent::Pwritev, "A");
        assert_eq!(state.inner.lock().reach(DebugEvent::Pwritev).len(), 1);
        assert!(state.is_suspended("A") && !state.is_suspended("B"));
        assert!(state.inner.lock().reach(DebugEvent::Pwritev).is_empty());
        assert!(state.resume("A") && !state.resume("A"));
        state.set_breakpoint(DebugEvent::Pwritev, "B");
        assert!(state.remove_breakpoint("B") && !state.remove_breakpoint("B"));
        let notices = ["blkdebug: Suspended request 'A'", "blkdebug: Resuming request 'A'"];
        assert_eq!(state.take_notices(), notices);
    }
}
