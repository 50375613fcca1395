//! Owns the threads that run blocking jobs: the queue, which thread runs what, when one begins and when it ends.
//!
//! It does not own what a job is, nor the wait for its result (the parent module).
//!
//! Invariants:
//! - A job is in the queue, or with the thread that took it out, or with its owner who withdrew it. The lock decides: it runs or
//!   is given back, and never both.
//! - While the bound allows another thread, and the system gives one, there is a thread without a job for each job in the queue;
//!   it waits and is rung, or is on its way to look.
//! - Nothing of the user's runs or is dropped under the lock.
//! - In a closed pool no job begins. Those in the queue stay there for their owners, who alone can end their own waits.
//!
//! The thread that has waited the shortest time is rung first, so that under a light load the others come to their end; a condition
//! variable for all would give each a job in turn and keep all of them.
//!
//! A thread is started under the lock. That holds up others who submit, but only while the pool grows, and makes
//! the refusal of a thread exact: no job waits for one that will not come.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::Location;
use std::time::Duration;

#[cfg(loom)]
use loom::thread;
#[cfg(not(loom))]
use std::thread;

use crate::primitive::{Arc, Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
use crate::sys::affinity::Processors;
use crate::time::Instant;

/// A job, whatever its types.
pub(crate) trait Work: Send {
    /// Runs it and hands over its result. Must not unwind.
    fn run(self: Box<Self>);

    /// For the owner who withdrew it, and knows its type.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// Whose job it is.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Where the owner stands in the source.
    pub(crate) place: &'static Location<'static>,
    /// The owner's number; zero for a plain thread.
    pub(crate) coroutine: u64,
    pub(crate) name: Option<Box<str>>,
}

/// How many threads there may be, and how long one waits for its next job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) threads: usize,
    pub(crate) keep_alive: Duration,
}

impl Default for Limits {
    /// Many, because jobs may wait for each other, as the two ends of a pipe do, and a bound that is reached then stops them all; 512
    /// is what people know from tokio. Ten seconds is far more than the start of a thread costs, and soon
    /// enough for what a burst has left behind.
    fn default() -> Self {
        Self { threads: 512, keep_alive: Duration::from_secs(10) }
    }
}

/// The threads and their queue.
pub(crate) struct Pool {
    name: String,
    limits: Limits,
    /// Where its threads may run, if that is not where those that submit may.
    #[cfg(not(loom))]
    processors: Option<Processors>,
    state: Mutex<State>,
    /// Rung in a closed pool when a job has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// By ticket, so in the order of their coming.
    queue: BTreeMap<u64, Queued>,
    running: BTreeMap<u64, Running>,
    /// Of the threads: one that ends takes its own out, unless the pool is closed.
    handles: BTreeMap<u64, thread::JoinHandle<()>>,
    /// Threads without a job: those that wait, and those on their way to look at the queue.
    idle: usize,
    /// Those that wait, the last one came last.
    waiting: Vec<(u64, Arc<Condvar>)>,
    tickets: u64,
    threads_ever: u64,
}

struct Queued {
    work: Box<dyn Work>,
    origin: Origin,
    since: Instant,
}

struct Running {
    origin: Origin,
    since: Instant,
    thread: u64,
}

/// Names a job that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Why a job was not taken in. It is given back.
pub(crate) enum Refused {
    Closed(Box<dyn Work>),
    /// There is no thread, and the system refuses one.
    NoThread(Box<dyn Work>, io::Error),
}

/// What the pool holds now, and has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) threads: usize,
    pub(crate) jobs: u64,
}

/// A job, as a dump shows it.
#[cfg(not(loom))]
pub(crate) struct Seen {
    pub(crate) origin: Origin,
    pub(crate) running: bool,
    pub(crate) since: Instant,
}

impl Pool {
    pub(crate) fn new(name: String, limits: Limits) -> Self {
        Self {
            name,
            limits,
            #[cfg(not(loom))]
            processors: None,
            state: Mutex::new(State::default()),
            ended: Condvar::new(),
        }
    }

    /// Its threads run on these processors, wherever those that submit may.
    #[cfg(not(loom))]
    pub(crate) fn on_processors(self, processors: Option<Processors>) -> Self {
        Self { processors, ..self }
    }

    /// Takes a job in, and sees to it that a thread comes for it.
    pub(crate) fn submit(pool: &Arc<Self>, work: Box<dyn Work>, origin: Origin) -> Result<Ticket, Refused> {
        let since = Instant::now();
        let mut state = pool.state.lock();
        if state.closed {
            return Err(Refused::Closed(work));
        }
        let mut started = false;
        if state.queue.len() >= state.idle && state.handles.len() < pool.limits.threads {
            match Self::start_thread(pool, &mut state) {
                Ok(()) => started = true,
                Err(error) if state.handles.is_empty() => return Err(Refused::NoThread(work, error)),
                // One of those that there are comes to it.
                Err(_) => {}
            }
        }
        let ticket = state.tickets;
        state.tickets += 1;
        state.queue.insert(ticket, Queued { work, origin, since });
        // The new thread is on its way.
        let rung = if started { None } else { state.waiting.pop() };
        drop(state);
        if let Some((_, bell)) = rung {
            bell.notify_one();
        }
        Ok(Ticket(ticket))
    }

    /// Takes a job back that has not begun.
    pub(crate) fn withdraw(&self, ticket: Ticket) -> Option<Box<dyn Work>> {
        Some(self.state.lock().queue.remove(&ticket.0)?.work)
    }

    /// Ends the threads, and waits until the jobs that run have ended, or until `deadline`. Returns those that still run.
    pub(crate) fn close(&self, deadline: Instant) -> Vec<String> {
        let mut state = self.state.lock();
        state.closed = true;
        for (_, bell) in state.waiting.drain(..) {
            bell.notify_one();
        }
        while !state.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.ended.wait_timeout(state, left);
        }
        let unfinished = state.running.values().map(Running::describe).collect();
        let running: Vec<_> = state.running.values().map(|running| running.thread).collect();
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for (_, handle) in handles.into_iter().filter(|(thread, _)| !running.contains(thread)) {
            // It has nothing more to do but to end; it panics nowhere.
            let _ = handle.join();
        }
        unfinished
    }

    /// Whether it has no job, waiting or running.
    #[cfg(not(loom))]
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.queue.is_empty() && state.running.is_empty()
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts { queued: state.queue.len(), running: state.running.len(), threads: state.handles.len(), jobs: state.tickets }
    }

    /// Every job, the running ones first.
    #[cfg(not(loom))]
    pub(crate) fn jobs(&self) -> Vec<Seen> {
        let state = self.state.lock();
        let running = state.running.values().map(|job| Seen { origin: job.origin.clone(), running: true, since: job.since });
        let queued = state.queue.values().map(|job| Seen { origin: job.origin.clone(), running: false, since: job.since });
        running.chain(queued).collect()
    }

    fn start_thread(pool: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let number = state.threads_ever;
        let own = Arc::clone(pool);
        let handle = thread::Builder::new().name(format!("{}-block-{number}", pool.name)).spawn(move || {
            #[cfg(not(loom))]
            if let Some(Err(error)) = own.processors.as_ref().map(Processors::confine) {
                tracing::warn!(%error, "a thread for blocking jobs keeps to the processor of the worker that started it");
            }
            own.serve(number);
        })?;
        state.threads_ever += 1;
        state.handles.insert(number, handle);
        state.idle += 1;
        Ok(())
    }

    /// The whole life of a thread.
    fn serve(&self, thread: u64) {
        let bell = Arc::new(Condvar::new());
        let mut deadline = Instant::now() + self.limits.keep_alive;
        let mut waited = false;
        let mut state = self.state.lock();
        while !state.closed {
            if let Some((ticket, Queued { work, origin, .. })) = state.queue.pop_first() {
                state.idle -= 1;
                state.running.insert(ticket, Running { origin, since: Instant::now(), thread });
                drop(state);
                work.run();
                (deadline, waited) = (Instant::now() + self.limits.keep_alive, false);
                state = self.state.lock();
                state.running.remove(&ticket);
                state.idle += 1;
                if state.closed {
                    self.ended.notify_one();
                }
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if waited && left.is_zero() {
                break;
            }
            state.waiting.push((thread, Arc::clone(&bell)));
            state = self.wait(state, &bell, left);
            waited = true;
            // Who rang has taken it out already.
            state.waiting.retain(|(other, _)| *other != thread);
        }
        state.idle -= 1;
        if !state.closed {
            state.handles.remove(&thread);
        }
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>, bell: &Condvar, left: Duration) -> MutexGuard<'a, State> {
        // Loom's condition variables know no time: a wait of no length lets the others in, and is over.
        #[cfg(loom)]
        if left.is_zero() {
            drop(state);
            return self.state.lock();
        }
        bell.wait_timeout(state, left)
    }
}

impl Running {
    fn describe(&self) -> String {
        let Origin { place, coroutine, name } = &self.origin;
        let owner = match (name, coroutine) {
            (Some(name), _) => format!("coroutine '{name}'"),
            (None, 0) => "a thread".to_owned(),
            (None, coroutine) => format!("coroutine {coroutine}"),
        };
        format!("job of {owner} from {place}, running for {:?}", self.since.elapsed())
    }
}
