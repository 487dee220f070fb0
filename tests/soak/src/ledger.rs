//! What must come out even: every object that was made is dropped, and none is seen afterwards.

use qemu_util::primitive::Mutex;

use crate::counts::Counter;

static MADE: Counter = Counter::new();
static DROPPED: Counter = Counter::new();

/// Counts itself; moved into closures and futures, so that none of them can be lost or dropped twice unseen.
#[derive(Debug)]
pub(crate) struct Token(());

impl Token {
    pub(crate) fn new() -> Self {
        MADE.add(1);
        Self(())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        DROPPED.add(1);
    }
}

/// What an RCU cell holds. Its mark lies in memory that is never given back, so that looking at it after it was dropped
/// is seen for certain.
#[derive(Debug)]
pub(crate) struct Canary {
    mark: &'static Counter,
    id: u64,
    _token: Token,
}

/// What the mark of a dropped canary says.
const DEAD: u64 = u64::MAX;

/// The marks of dropped canaries. They are used again, as freed memory would be.
static MARKS: Mutex<Vec<&'static Counter>> = Mutex::new(Vec::new());

impl Canary {
    pub(crate) fn new() -> Self {
        static IDS: Counter = Counter::new();
        let id = IDS.add(1);
        let used = MARKS.lock().pop();
        let mark = used.unwrap_or_else(|| Box::leak(Box::new(Counter::new())));
        mark.set(id);
        Self { mark, id, _token: Token::new() }
    }

    /// A panic means that a reader sees what was freed.
    pub(crate) fn check(&self) {
        let mark = self.mark.get();
        assert_eq!(mark, self.id, "an RCU reader sees an object that was freed (a mark of {DEAD}) or another one");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.check();
        self.mark.set(DEAD);
        MARKS.lock().push(self.mark);
    }
}

/// Called when nothing runs: everything that was made has been dropped.
pub(crate) fn check() {
    let (made, dropped) = (MADE.get(), DROPPED.get());
    assert_eq!(made, dropped, "objects were made (left) and dropped (right)");
}

/// How many objects were made so far.
pub(crate) fn made() -> u64 {
    MADE.get()
}
