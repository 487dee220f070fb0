//! Several requests at a time, on one thread, in an order that follows from a seed.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};

use crate::rng::Rng;

/// A request on its way.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Says who was woken.
struct Bell {
    number: usize,
    rung: Sender<usize>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Whoever is gone is not waited for.
        self.rung.send(self.number).ok();
    }
}

/// Drives requests.
pub struct Crew<'a, T> {
    tasks: Vec<(usize, Task<'a, T>)>,
    /// Those who can go on, by their number.
    ready: Vec<usize>,
    bells: (Sender<usize>, Receiver<usize>),
    rng: Rng,
}

impl<T> fmt::Debug for Crew<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("tasks", &self.tasks.len()).field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl<'a, T> Crew<'a, T> {
    /// Nobody yet; `seed` says who goes first.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { tasks: Vec::new(), ready: Vec::new(), bells: channel(), rng: Rng::new(seed) }
    }

    /// Requests on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Adds a request. No other that is on its way has the same number.
    pub fn add(&mut self, number: usize, task: Task<'a, T>) {
        self.tasks.push((number, task));
        self.ready.push(number);
    }

    /// Lets one go on that can; returns its number and result if it is done.
    ///
    /// # Panics
    /// If all wait for each other.
    pub fn step(&mut self) -> Option<(usize, T)> {
        self.ready.extend(self.bells.1.try_iter());
        assert!(!self.ready.is_empty() || self.tasks.is_empty(), "all requests wait, and nobody will wake them");
        if self.ready.is_empty() {
            return None;
        }
        let number = self.ready.swap_remove(self.rng.index(self.ready.len()));
        let at = self.tasks.iter().position(|(found, _)| *found == number)?;
        let waker = Waker::from(Arc::new(Bell { number, rung: self.bells.0.clone() }));
        match self.tasks[at].1.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => None,
            Poll::Ready(value) => {
                // Late wake-ups of a task that is done find nobody.
                drop(self.tasks.swap_remove(at));
                Some((number, value))
            }
        }
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread: drivers need nothing but a waker.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
