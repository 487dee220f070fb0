//! A server as a whole: its connections, and what happens when they are lost.
//!
//! # Phases
//!
//! | from | to | when |
//! |---|---|---|
//! | up | up | a connection is lost while others are left, and `reconnect-delay` is not 0 |
//! | up | reconnecting | the last one is lost, and `reconnect-delay` is not 0 |
//! | up | dead | a connection is lost and `reconnect-delay` is 0; a server breaks the protocol |
//! | reconnecting | up | a new connection is there |
//! | reconnecting | dead | `reconnect-delay` is over; the export is not what it was |
//! | any | closed | [`Client::close`], or the client is dropped |
//!
//! # Who waits, and who wakes
//!
//! | who waits | for what | who wakes |
//! |---|---|---|
//! | a request | its answer | its connection: see there |
//! | a request, while reconnecting | another phase | the thread that reconnects, which has a deadline; whoever closes |
//! | a thread that connects | the server | the server; its deadline; whoever closes, by [`Cancel::fire`] |
//! | `close` | the threads | the last thread, when it ends |
//! | whoever opens | the first connection | the thread that connects, which has a deadline |
//!
//! The phase changes under one lock, and whoever changes it to anything but "reconnecting" wakes all who wait for that.
//! Dropping a future leaves nothing behind but an order that is answered into the void. The lock of a connection may be
//! taken while the lock here is held, never the other way round.
//!
//! # What a new connection cannot bring back
//!
//! Requests that were not answered are repeated. What was written before, answered and not flushed is gone if the server
//! lost it with the connection, as in the reference.
//!
//! QEMU: block/nbd.c, nbd/client-connection.c.

use std::io;
use std::time::{Duration, Instant};

use qemu_block::error::{BlockError, Result, errno_text};
use qemu_util::primitive::{Arc, Mutex, thread};
use qemu_util::signals::Blocked;
use qemu_util::sync::oneshot;

use crate::cancel::Cancel;
use crate::config::Config;
use crate::connect::{HANDSHAKE_MAX, connect_once, connect_patiently};
use crate::connection::{Connection, Ending};
use crate::negotiate::Export;
use crate::order::{Answer, Finished, Order};
use crate::protocol::ExportFlags;
use crate::socket::Socket;

/// Connections to one server, at most.
const CONNECTIONS_MAX: usize = 4;
/// Another connection is opened when each of those that are open has so many requests under way.
const LOAD_TO_GROW: usize = 2;
/// How long a further connection may take. Nobody waits for it, but a server may have no place for it and not say so.
const GROWTH_MAX: Duration = Duration::from_secs(10);
/// Stack of a thread in bytes; they call nothing deep, but the resolver.
const STACK_BYTES: usize = 256 << 10;

/// An open export. Dropping it closes it without waiting for the threads.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// What the first connection found; later ones must find the same.
    export: Export,
    cancel: Arc<Cancel>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Those that take orders; not empty in the phase "up".
    live: Vec<Arc<Connection>>,
    growth: Growth,
    /// Requests that wait for another phase.
    waiting: Vec<oneshot::Sender<()>>,
    /// Threads that have not ended.
    running: usize,
    threads: Vec<thread::JoinHandle<()>>,
    /// Told when no thread is running any more.
    stopping: Vec<oneshot::Sender<()>>,
}

#[derive(Clone, Debug)]
enum Phase {
    Up,
    Reconnecting,
    /// Every request fails; the text says why, if there is more to say than that it does.
    Dead(Option<Arc<str>>),
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// A further connection may be opened.
    Possible,
    /// One is being opened.
    Underway,
    /// The server does not want more.
    Over,
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// In the words of the reference.
    pub(crate) async fn open(config: Config) -> Result<Self> {
        let cancel = Arc::new(Cancel::new()?);
        let (socket, export) = first_connection(&config, &cancel).await?;
        let state = State {
            phase: Phase::Reconnecting,
            live: Vec::new(),
            growth: Growth::Possible,
            waiting: Vec::new(),
            running: 0,
            threads: Vec::new(),
            stopping: Vec::new(),
        };
        let shared = Arc::new(Shared { config, export: export.clone(), cancel, state: Mutex::new(state) });
        shared.add(socket, &export);
        Ok(Self { shared })
    }

    /// What the server told about the export.
    pub(crate) fn export(&self) -> &Export {
        &self.shared.export
    }

    /// Sends an order and waits for the answer, over as many connections as it takes and `reconnect-delay` allows.
    ///
    /// # Errors
    /// No connection, any more. What the server reports is in the answer.
    pub(crate) async fn run(&self, mut order: Order) -> Result<Answer> {
        let mut give_up_at = None;
        loop {
            let connection = self.shared.connection().await?;
            let finished = match connection.submit(order) {
                Ok(receiver) => receiver.await,
                // It ended just now, and is not among those to choose from any more.
                Err(back) => {
                    order = back;
                    continue;
                }
            };
            order = match finished {
                Ok(Finished::Answered(answer)) => return Ok(answer),
                Ok(Finished::Lost(back)) => back,
                Err(oneshot::Cancelled) => return Err(lost(None)),
            };
            // A server that drops each connection at this very request must not keep us for ever.
            let now = Instant::now();
            if now >= *give_up_at.get_or_insert(after(now, self.shared.config.reconnect_delay)) {
                return Err(lost(None));
            }
        }
    }

    /// Closes all connections and waits until their threads have ended. What is under way fails.
    pub(crate) async fn close(&self) {
        self.shared.shut_down();
        let stopped = {
            let mut state = self.shared.state.lock();
            let (sender, receiver) = oneshot::channel();
            if state.running > 0 {
                state.stopping.push(sender);
            }
            receiver
        };
        // Without a thread the sender is gone already, which is an answer as well.
        let _all_gone = stopped.await;
        let threads = std::mem::take(&mut self.shared.state.lock().threads);
        // They have done all they had to do and return, which takes no time.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.shut_down();
    }
}

impl Shared {
    /// The connection with the least to do, as soon as there is one.
    async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>> {
        loop {
            let changed = match self.choose()? {
                Choice::Connection { connection, grow } => {
                    if grow && self.spawn("nbd-grow", |shared| shared.grow()).is_err() {
                        self.state.lock().growth = Growth::Over;
                    }
                    return Ok(connection);
                }
                Choice::Wait(changed) => changed,
            };
            // Whatever the answer is: the phase says what is the matter.
            let _any = changed.await;
        }
    }

    fn choose(&self) -> Result<Choice> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Up => {}
            Phase::Reconnecting => {
                let (sender, receiver) = oneshot::channel();
                state.waiting.push(sender);
                return Ok(Choice::Wait(receiver));
            }
            Phase::Dead(reason) => return Err(lost(reason.as_deref())),
            Phase::Closed => return Err(lost(Some("the connection is closed"))),
        }
        let loads = state.live.iter().map(|connection| (connection.load(), connection));
        let Some((load, connection)) = loads.min_by_key(|(load, _)| *load) else {
            return Err(lost(Some("no connection is left")));
        };
        let connection = Arc::clone(connection);
        let grow = load >= LOAD_TO_GROW
            && state.growth == Growth::Possible
            && state.live.len() < CONNECTIONS_MAX
            && self.export.flags.contains(ExportFlags::MULTI_CONN);
        if grow {
            state.growth = Growth::Underway;
        }
        Ok(Choice::Connection { connection, grow })
    }

    /// Opens a further connection, in a thread of its own.
    fn grow(self: &Arc<Self>) {
        let connected = connect_once(&self.config, after(Instant::now(), GROWTH_MAX), &self.cancel);
        let growth = match connected {
            Ok((socket, export)) if self.is_same(&export) => {
                self.add(socket, &export);
                Growth::Possible
            }
            Ok(_) | Err(_) => Growth::Over,
        };
        self.state.lock().growth = growth;
    }

    /// Opens a new connection after all others were lost, in a thread of its own.
    fn reconnect(self: &Arc<Self>, until: Instant) {
        match guarded(|| connect_patiently(&self.config, until, &self.cancel)) {
            Some(Ok((socket, export))) if self.is_same(&export) => self.add(socket, &export),
            Some(Ok(_)) => self.die(Some("the export has changed")),
            Some(Err(_)) | None => self.die(None),
        }
    }

    /// Whether an export can take the place of the one that was opened: as long, and able to do what that could.
    fn is_same(&self, export: &Export) -> bool {
        let able = |export: &Export| export.flags.difference(ExportFlags::MULTI_CONN);
        let shape = |export: &Export| (export.size, export.blocks, export.context.is_some());
        shape(export) == shape(&self.export) && able(export) == able(&self.export)
    }

    /// Takes a connection in, unless it comes too late.
    fn add(self: &Arc<Self>, socket: Socket, export: &Export) {
        let connection = Arc::new(Connection::new(socket, export));
        let waiting = {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Up | Phase::Reconnecting) {
                return;
            }
            state.phase = Phase::Up;
            state.live.push(Arc::clone(&connection));
            std::mem::take(&mut state.waiting)
        };
        wake(waiting);
        if self.start_threads(&connection).is_err() {
            self.ended(&connection, Ending::Lost);
        }
    }

    fn start_threads(self: &Arc<Self>, connection: &Arc<Connection>) -> io::Result<()> {
        let theirs = Arc::clone(connection);
        self.spawn("nbd-read", move |shared| {
            let ending = guarded(|| theirs.read_replies()).unwrap_or(Ending::Lost);
            shared.ended(&theirs, ending);
        })?;
        let theirs = Arc::clone(connection);
        self.spawn("nbd-write", move |shared| {
            if !matches!(guarded(|| theirs.write_requests()), Some(Ok(()))) {
                shared.ended(&theirs, Ending::Lost);
            }
        })
    }

    /// A connection is not to be used any more.
    fn ended(self: &Arc<Self>, connection: &Arc<Connection>, why: Ending) {
        let after_it = self.without(connection, why);
        // The phase has changed: whoever gets its order back now finds things as they are.
        drop(connection.end());
        after_it.others.iter().for_each(|other| drop(other.end()));
        wake(after_it.waiting);
        if after_it.reconnect {
            let until = after(Instant::now(), self.config.reconnect_delay);
            if self.spawn("nbd-connect", move |shared| shared.reconnect(until)).is_err() {
                self.die(None);
            }
        }
    }

    /// Takes a connection out, and changes the phase accordingly.
    fn without(&self, connection: &Arc<Connection>, why: Ending) -> AfterLoss {
        let mut state = self.state.lock();
        let before = state.live.len();
        state.live.retain(|other| !Arc::ptr_eq(other, connection));
        let mut after_it = AfterLoss::default();
        if state.live.len() == before || !matches!(state.phase, Phase::Up) {
            return after_it;
        }
        let reason = match why {
            Ending::Violation(violation) => Some(Arc::from(violation.to_string())),
            Ending::Lost if self.config.reconnect_delay.is_zero() => None,
            Ending::Lost => {
                if state.live.is_empty() {
                    state.phase = Phase::Reconnecting;
                    after_it.reconnect = true;
                }
                return after_it;
            }
        };
        state.phase = Phase::Dead(reason);
        after_it.others = std::mem::take(&mut state.live);
        after_it.waiting = std::mem::take(&mut state.waiting);
        after_it
    }

    /// There will be no connection any more.
    fn die(&self, reason: Option<&str>) {
        let waiting = {
            let mut state = self.state.lock();
            if matches!(state.phase, Phase::Reconnecting) {
                state.phase = Phase::Dead(reason.map(Arc::from));
            }
            std::mem::take(&mut state.waiting)
        };
        wake(waiting);
    }

    /// Closes everything without waiting for anybody.
    fn shut_down(&self) {
        let (live, waiting) = {
            let mut state = self.state.lock();
            state.phase = Phase::Closed;
            (std::mem::take(&mut state.live), std::mem::take(&mut state.waiting))
        };
        self.cancel.fire();
        for connection in live {
            connection.say_goodbye();
            drop(connection.end());
        }
        wake(waiting);
    }

    /// Starts a thread that is counted, so that `close` can wait for it.
    fn spawn(self: &Arc<Self>, name: &str, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
        let counted = Counted::new(self)?;
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        // The program's signals are not for its threads.
        let _blocked = Blocked::here();
        let handle = builder.spawn(move || work(&counted.shared))?;
        let mut state = self.state.lock();
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(handle);
        Ok(())
    }
}

enum Choice {
    Connection { connection: Arc<Connection>, grow: bool },
    Wait(oneshot::Receiver<()>),
}

/// What is to be done after a connection was lost.
#[derive(Default)]
struct AfterLoss {
    /// Connections that end with it.
    others: Vec<Arc<Connection>>,
    waiting: Vec<oneshot::Sender<()>>,
    reconnect: bool,
}

/// A thread in the count of those that run.
struct Counted {
    shared: Arc<Shared>,
}

impl Counted {
    /// Refuses when everything is closed: nobody would wait for the thread.
    fn new(shared: &Arc<Shared>) -> io::Result<Self> {
        let mut state = shared.state.lock();
        if matches!(state.phase, Phase::Closed) {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        }
        state.running += 1;
        Ok(Self { shared: Arc::clone(shared) })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let stopping = {
            let mut state = self.shared.state.lock();
            state.running -= 1;
            if state.running == 0 { std::mem::take(&mut state.stopping) } else { Vec::new() }
        };
        wake(stopping);
    }
}

/// The first connection, made in a thread that ends when the future is dropped.
async fn first_connection(config: &Config, cancel: &Arc<Cancel>) -> Result<(Socket, Export)> {
    let fire = FireOnDrop(Some(Arc::clone(cancel)));
    let (sender, connected) = oneshot::channel();
    let (config, theirs) = (config.clone(), Arc::clone(cancel));
    let connect = move || {
        let now = Instant::now();
        let result = match config.open_timeout {
            Duration::ZERO => connect_once(&config, after(now, HANDSHAKE_MAX), &theirs),
            timeout => connect_patiently(&config, after(now, timeout), &theirs),
        };
        drop(sender.send(result));
    };
    let handle = {
        let _blocked = Blocked::here();
        let builder = thread::Builder::new().name("nbd-connect".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(connect)?
    };
    let result = connected.await.unwrap_or_else(|_| Err(lost(None)));
    fire.disarm();
    // It has nothing left to do.
    drop(handle.join());
    result
}

/// Ends the waits of a thread for which nobody waits any more.
struct FireOnDrop(Option<Arc<Cancel>>);

impl FireOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for FireOnDrop {
    fn drop(&mut self) {
        if let Some(cancel) = self.0.take() {
            cancel.fire();
        }
    }
}

/// Runs a part of a thread's work; none if it panics, as foreign wakers might. Whoever waits must be told all the same.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

fn wake(waiting: Vec<oneshot::Sender<()>>) {
    for sender in waiting {
        // Who waited may be gone.
        let _unheard = sender.send(());
    }
}

/// `duration` after `now`, or as late as the clock can tell.
fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).unwrap_or(now)
}

/// The error of a request that has no connection.
fn lost(reason: Option<&str>) -> BlockError {
    let text = errno_text(libc::EIO);
    let message = reason.map_or_else(|| text.clone(), |reason| format!("{text} (NBD: {reason})"));
    BlockError::from_errno(libc::EIO, message)
}
