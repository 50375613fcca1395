//! Owns the thread that watches a runtime's workers: it names a coroutine that holds one, and tells when nothing can happen any more.
//!
//! It samples: workers publish a count and the running coroutine's number by plain stores, and read no clock. What is shorter than
//! the time between two looks can pass unseen.
//!
//! Invariants: it asks workers only when something is wrong; each occurrence is told once, and of one worker at most one in
//! [`TELL_EVERY`].

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::Handle;
use crate::primitive::{Condvar, Mutex};
use crate::reactor::process_has_waiters;
use crate::scheduler::counters::NOBODY;
use crate::scheduler::probe::probe;
use crate::scheduler::{Phase, Shared, WorkerShared};
use crate::time::Instant;

/// How long a coroutine may hold its worker by default: ten times what a millisecond's timer can bear.
pub(crate) const DEFAULT_HOLD: Duration = Duration::from_millis(10);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long nothing may have happened before the dead-lock is told. A plain thread that holds the only way out is given that long.
const QUIET: Duration = Duration::from_millis(500);
/// Between two looks at workers that all sleep.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// What to watch for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// A coroutine that holds its worker for so long.
    pub(crate) hold: Option<Duration>,
    pub(crate) deadlock: bool,
}

/// The thread. Dropped, it has ended; or it ends after the look that it is at, for to resolve a stack's symbols may take it seconds, in
/// which nobody is to wait.
pub(crate) struct Watchdog {
    stop: Arc<Stop>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    /// It does not wait, and so does not hear that it is to stop.
    looking: bool,
}

impl Watchdog {
    /// Starts the thread, if there is anything to watch for.
    pub(crate) fn start(name: &str, shared: &Arc<Shared>, watch: Watch) -> io::Result<Option<Self>> {
        if watch.hold.is_none() && !watch.deadlock {
            return Ok(None);
        }
        let stop = Arc::new(Stop::default());
        let (shared, stopped) = (Arc::clone(shared), Arc::clone(&stop));
        let thread = thread::Builder::new().name(format!("{name}-watch")).spawn(move || run(&shared, &stopped, watch))?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let looking = {
            let mut state = self.stop.state.lock();
            state.stopped = true;
            state.looking
        };
        self.stop.news.notify_one();
        if let Some(thread) = self.thread.take().filter(|_| !looking) {
            // Its panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Arc<Shared>, stop: &Stop, watch: Watch) {
    let busy_look = watch.hold.map_or(IDLE_LOOK, |hold| (hold / 2).max(Duration::from_micros(500)));
    let busy_look = if watch.deadlock { busy_look.min(IDLE_LOOK) } else { busy_look };
    let mut workers: Vec<_> = shared.workers.iter().map(|worker| Held::new(worker)).collect();
    let mut stillness = Stillness::default();
    let mut state = stop.state.lock();
    while !state.stopped {
        let look = if shared.idle.sleeping() == shared.workers.len() { IDLE_LOOK.max(busy_look) } else { busy_look };
        state = stop.news.wait_timeout(state, look);
        if state.stopped {
            break;
        }
        state.looking = true;
        drop(state);
        let now = Instant::now();
        if let Some(hold) = watch.hold {
            workers.iter_mut().for_each(|held| held.look(now, hold));
        }
        if watch.deadlock {
            stillness.look(shared, now);
        }
        state = stop.state.lock();
        state.looking = false;
    }
}

/// What was seen of one worker.
struct Held<'a> {
    worker: &'a WorkerShared,
    running: u64,
    switches: u64,
    since: Instant,
    told: bool,
    told_last: Option<Instant>,
    untold: u64,
}

impl<'a> Held<'a> {
    fn new(worker: &'a WorkerShared) -> Self {
        Self { worker, running: NOBODY, switches: 0, since: Instant::now(), told: false, told_last: None, untold: 0 }
    }

    fn look(&mut self, now: Instant, hold: Duration) {
        let (running, switches) = (self.worker.counters.running.get(), self.worker.counters.switches.get());
        if running == NOBODY || running != self.running || switches != self.switches {
            (self.running, self.switches, self.since, self.told) = (running, switches, now, false);
            return;
        }
        let held = now - self.since;
        if self.told || held < hold {
            return;
        }
        self.told = true;
        if self.told_last.is_some_and(|last| now - last < TELL_EVERY) {
            self.untold += 1;
            return;
        }
        self.told_last = Some(now);
        let untold = std::mem::take(&mut self.untold);
        let (worker, held_ms) = (self.worker.index, u64::try_from(held.as_millis()).unwrap_or(u64::MAX));
        let probed = probe(self.worker).filter(|probed| probed.id == running);
        let name = probed.as_ref().and_then(|probed| probed.name.as_deref()).unwrap_or_default();
        let spawned_at = probed.as_ref().and_then(|probed| probed.spawned_at).map(ToString::to_string).unwrap_or_default();
        let trace = probed.as_ref().map(|probed| probed.trace.join("\n    ")).unwrap_or_default();
        tracing::warn!(worker, coroutine = running, name, spawned_at, held_ms, untold, trace, "a coroutine holds its worker");
    }
}

/// How long nothing has run.
#[derive(Default)]
struct Stillness {
    switches: u64,
    since: Option<Instant>,
    told: bool,
}

impl Stillness {
    fn look(&mut self, shared: &Arc<Shared>, now: Instant) {
        let switches = shared.workers.iter().fold(0_u64, |sum, worker| sum.wrapping_add(worker.counters.switches.get()));
        if switches != self.switches || !is_still(shared) {
            // The dump wakes workers, but runs no coroutine.
            *self = Self { switches, since: None, told: self.told && switches == self.switches };
            return;
        }
        let since = *self.since.get_or_insert(now);
        if self.told || now - since < QUIET || shared.phase() != Phase::Running {
            return;
        }
        let dump = Handle::from_shared(Arc::clone(shared)).dump();
        self.told = true;
        if dump.count() > 0 {
            tracing::error!(%dump, "every coroutine is parked, and nothing that the runtime knows of can wake one");
        }
    }
}

/// Whether nothing can run, and neither a timer nor a socket can change that, nor a hook or a blocking job, which may wait for anything.
fn is_still(shared: &Shared) -> bool {
    let asleep = |worker: &WorkerShared| {
        let counters = &worker.counters;
        let waits = worker.reactor.as_ref().is_some_and(|(reactor, _)| reactor.has_waiters());
        counters.sleeps_until.get() == u64::MAX && counters.hooks.get() == 0 && !worker.has_work() && !waits
    };
    shared.idle.sleeping() == shared.workers.len()
        && shared.spawns.is_empty()
        && shared.blocking.as_ref().is_none_or(|pool| pool.is_idle())
        && shared.workers.iter().all(|worker| asleep(worker))
        && !process_has_waiters()
}
