//! Owns the loop of a worker: one [`round`](Worker::round) after the other, and a sleep when there is nothing to do.
//!
//! It does not own what others reach of it (`shared`) nor what its coroutines reach (`current`). Nothing here reads the clock
//! to decide when it is a simulation's worker: then budgets are counts.
//!
//! A round: phase of a shutdown; I/O, timers, inbox, commands; hooks poll; coroutines, started and unstarted in turn, and timers
//! between them; hooks flush. Invariants:
//! - A coroutine's park is committed, and its end published, here, after its stack was left. A commit waits for the next park, but
//!   not beyond the round's coroutines: so outside of them the state words tell who is parked.
//! - Coroutines, their stacks and hooks never leave the worker's thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::counters::NOBODY;
use super::current::{self, Local};
use super::phase::Phase;
use super::shared::{Command, Shared};
use super::shutdown::UNWINDS;
use super::spawn_queue::SpawnQueue;
use super::spin::{SPIN_TIME, Spinning};
use super::trace::Trace;
use super::trimmer::Trimmer;
use super::turns::{self, Turns};
use crate::contained::contained;
use crate::coroutine::Suspend;
use crate::coroutine::arena::StackCache;
#[cfg(not(any(miri, weald_baton)))]
use crate::debugger;
use crate::hook::{Hook, HookHandle, HookId, Progress, RoundContext};
use crate::primitive::atomic::Ordering;
use crate::primitive::spin_loop;
use crate::reactor::Reactor;
use crate::sim::{self, node::Crash};
use crate::task::{Inspection, JoinError, TaskPtr, Unstarted, panic_message};
use crate::task_state::Wake;
use crate::time::Instant;

/// Coroutines run in one round, at most, before I/O is looked at again.
const ROUND_TASKS: usize = 256;
/// Time that coroutines take of one round, at most, before I/O is looked at again; a long one overruns it.
const ROUND_TIME: Duration = Duration::from_micros(100);
/// The clock costs more than a switch, so it is read, and timers are looked at, once for so many; for twice as many as the last time if those
/// took less than this, but not for more than can be borne if each of them takes long.
const CLOCK_EVERY: usize = 32;
const CLOCK_TIME: Duration = Duration::from_micros(1);
const CLOCK_SELDOM: usize = 128;
/// Looks at what other threads write, between two looks at the sockets, which are system calls: about 300 ns.
const SPIN_LOOKS: usize = 8;
/// For how long a thief watches a coroutine that is alone before it steals it. A worker that spawns one and soon waits for it begins it
/// sooner than it could be fetched, and its result brought back; and two that talk to each other stay together, for good. With a third of a
/// microsecond, less than the system call of a first datagram takes, 96 of 298 pairs of a UDP echo were torn apart on a busy machine, with
/// five 57. A round trip then took 8.0 us instead of 4.2, and twice the processor time.
const STEAL_AFTER: Duration = Duration::from_micros(5);
/// Pauses between two looks at it.
const STEAL_PAUSES: usize = 4;
/// While coroutines can run, sockets are looked at so often at most: a system call for each switch would double its cost.
const POLL_EVERY: Duration = Duration::from_micros(5);

/// A worker, as a value: a thread runs it, or the driver of a simulation does.
pub(crate) struct Worker {
    /// What it shows of `local` to a debugger; dropped first.
    #[cfg(not(any(miri, weald_baton)))]
    _listed: debugger::Listed,
    local: Rc<Local>,
    stacks: StackCache,
    reactor: Option<Reactor>,
    hooks: Vec<InstalledHook>,
    turns: Turns,
    /// How many coroutines run before the clock is read.
    stretch: usize,
    spinning: Spinning,
    trimmer: Option<Trimmer>,
    /// When the sockets were looked at.
    polled: Instant,
    phase: Phase,
    /// `None` in a runtime that traces no coroutines.
    trace: Option<Trace>,
}

struct InstalledHook {
    id: HookId,
    hook: Box<dyn Hook>,
    /// Its next time-out, as of the end of the last round.
    timeout: Option<Instant>,
    /// Whether it lets the worker poll before it sleeps, as of then, too.
    may_spin: bool,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// There was, or is, something to do.
    pub(crate) busy: bool,
    /// Coroutines run.
    pub(crate) ran: usize,
    /// Of these, how many only yielded. Counted in a simulation.
    pub(crate) yielded: usize,
}

impl Worker {
    /// A worker of `shared`. It must stay on the calling thread.
    pub(crate) fn new(shared: Arc<Shared>, index: usize, spawned: SpawnQueue<Unstarted>, reactor: Option<Reactor>, seed: u64) -> Self {
        let stacks = StackCache::new(Arc::clone(&shared.arena));
        let worker = Arc::clone(&shared.workers[index]);
        let trace = shared.traces.then(Trace::default);
        let local = Rc::new(Local::new(shared, worker, spawned, seed));
        Self {
            #[cfg(not(any(miri, weald_baton)))]
            _listed: debugger::list(index, &local.started, &local.running, &local.parking),
            local,
            stacks,
            reactor,
            hooks: Vec::new(),
            turns: Turns::default(),
            stretch: CLOCK_EVERY,
            spinning: Spinning::new(),
            trimmer: None,
            polled: Instant::from_nanos(0),
            phase: Phase::Running,
            trace,
        }
    }

    /// Has the stacks of coroutines trimmed that are parked for so long.
    pub(crate) fn trim_after(self, time: Option<Duration>) -> Self {
        Self { trimmer: time.map(Trimmer::new), ..self }
    }

    /// The whole life of a worker with a thread of its own.
    pub(crate) fn run(mut self) {
        loop {
            let round = self.round();
            if self.phase == Phase::Stopped {
                break;
            }
            if !round.busy {
                self.wait();
            }
        }
        if !self.stop() {
            // A stack that cannot be unwound refers to this thread: it never ends.
            loop {
                std::thread::park();
            }
        }
    }

    /// One turn of everything that the worker has to do. Never blocks.
    pub(crate) fn round(&mut self) -> Round {
        let local = Rc::clone(&self.local);
        let _entered = current::enter(&local);
        // A new phase is news: whoever polls before a sleep must return to the loop, which looks for the last one.
        let mut round = Round { busy: self.obey_phase(), ..Round::default() };
        let counters = &local.worker.counters;
        counters.rounds.bump();
        local.worker.answer_ring();
        let now = Instant::now();
        local.clock.set(now);
        let can_run = !local.queue.is_empty() || !local.worker.inbox.is_empty();
        if let Some(reactor) = &mut self.reactor
            && !(can_run && now - self.polled < POLL_EVERY)
        {
            counters.polls.bump();
            let news = poll(reactor, Some(Duration::ZERO));
            local.patience.polled(news);
            round.busy |= news;
            self.polled = now;
        }
        local.expire_timers(now);
        let came_before = counters.remote_wakes.get();
        local.worker.inbox.drain(|node| {
            counters.remote_wakes.bump();
            local.queue.push(TaskPtr::from_node(node));
        });
        counters.inbox.set(counters.remote_wakes.get() - came_before);
        for command in local.worker.take_commands() {
            round.busy = true;
            self.execute(command);
        }
        if let Some(task) = local.shared.spawns.take_one_outside() {
            // Here and not only when there is nothing else: workers that are never idle must not starve it.
            local.spawned.push(task);
        }
        if let Some(trimmer) = &mut self.trimmer {
            trimmer.observe(counters.parks.get(), now);
            trimmer.poll(&local.started, now);
        }
        round.busy |= self.each_hook(now, "poll", |hook, context| hook.poll(context));
        self.run_coroutines(now, &mut round);
        if !self.hooks.is_empty() {
            round.busy |= self.each_hook(Instant::now(), "flush", |hook, context| hook.flush(context));
            self.remove_hooks_unless("next_timeout", |installed| {
                installed.timeout = installed.hook.next_timeout();
                installed.may_spin = installed.hook.may_spin();
            });
        }
        counters.queued.set(local.queue.len() as u64);
        counters.armed.set(local.timers.borrow().len() as u64);
        round.busy |= round.ran > 0 || !local.queue.is_empty() || !local.spawned.is_empty();
        if self.phase != Phase::Running {
            self.count_remaining();
        }
        round
    }

    /// When the worker must run a round even if nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let timers = self.local.timers.borrow().next_deadline();
        let hooks = self.hooks.iter().filter_map(|installed| installed.timeout).min();
        timers.into_iter().chain(hooks).min()
    }

    /// Describes every coroutine that has started and not ended.
    pub(crate) fn describe_started(&self) -> Vec<String> {
        let mut descriptions = Vec::with_capacity(self.local.started.len());
        self.local.started.for_each(|task| descriptions.push((task.id(), task.describe())));
        descriptions.sort();
        descriptions.into_iter().map(|(_, description)| description).collect()
    }

    /// Looks at every coroutine that has started and not ended.
    pub(crate) fn inspect_started(&self, mut look: impl FnMut(Inspection<'_>)) {
        self.local.started.for_each(|task| look(task.inspect()));
    }

    /// Ends the worker, on its thread. False: coroutines were left, and leaked with the worker.
    pub(crate) fn stop(mut self) -> bool {
        let local = Rc::clone(&self.local);
        let entered = current::enter(&local);
        self.each_hook(Instant::now(), "shutdown", |hook, context| {
            hook.shutdown(context);
            Progress::Idle
        });
        std::mem::take(&mut self.hooks).into_iter().for_each(discard);
        while let Some(task) = local.spawned.pop() {
            task.refuse(JoinError::ShutDown);
        }
        local.worker.inbox.drain(|node| local.queue.push(TaskPtr::from_node(node)));
        while let Some(task) = local.queue.pop() {
            if !task.is_started() {
                task.refuse(JoinError::ShutDown);
            }
        }
        if let Some(reactor) = &self.reactor {
            reactor.close();
        }
        let leaked = self.describe_started();
        let clean = leaked.is_empty();
        local.shared.exits.stopped(local.worker.index, leaked);
        drop(entered);
        if !clean {
            std::mem::forget(self);
            std::mem::forget(local);
        }
        clean
    }

    fn run_coroutines(&mut self, start: Instant, round: &mut Round) {
        let local = Rc::clone(&self.local);
        if self.is_simulated() {
            self.run_drawn(&local, round);
        } else {
            self.run_in_turn(&local, start, round);
        }
        local.commit_last();
    }

    /// Runs those whom a simulation's seed draws.
    #[inline(never)]
    fn run_drawn(&mut self, local: &Local, round: &mut Round) {
        while round.ran < ROUND_TASKS {
            // So that the last to yield may go on as well.
            local.commit_last();
            let Some(task) = turns::draw(local).or_else(|| self.search(local, round.ran == 0)) else { break };
            self.run_one(local, task, round, 0, true);
        }
    }

    fn run_in_turn(&mut self, local: &Local, start: Instant, round: &mut Round) {
        let mut looked = start;
        loop {
            self.turns.renew(local);
            let until = ROUND_TASKS.min(round.ran + self.stretch);
            self.run_stretch(local, round, until);
            // The end of a round needs no look: the next one begins with it.
            if round.ran < until || until == ROUND_TASKS {
                break;
            }
            let now = Instant::now();
            self.stretch = if now - looked < CLOCK_TIME { CLOCK_SELDOM.min(2 * self.stretch) } else { CLOCK_EVERY };
            looked = now;
            local.clock.set(now);
            local.commit_last();
            local.expire_timers(now);
            if now - start > ROUND_TIME {
                break;
            }
        }
    }

    /// Runs coroutines until so many were in the round, or none can.
    #[inline(never)]
    fn run_stretch(&mut self, local: &Local, round: &mut Round, until: usize) {
        while round.ran < until {
            let next = self.turns.next(local).or_else(|| {
                // Which may find it woken.
                local.commit_last();
                local.queue.pop()
            });
            let Some(task) = next.or_else(|| self.search(local, round.ran == 0)) else { break };
            self.run_one(local, task, round, until, false);
        }
    }

    /// Takes what was spawned from outside and, when it has nothing else in this round, what others cannot get to.
    fn search(&self, local: &Local, steal: bool) -> Option<TaskPtr> {
        let shared = &local.shared;
        if let Some(task) = shared.spawns.take_outside(&local.spawned) {
            return Some(task.into_ptr());
        }
        let workers = shared.workers.len();
        if !steal || workers == 1 || shared.spawns.is_empty() {
            return None;
        }
        shared.idle.searches();
        let first = local.rng.borrow_mut().usize(..workers);
        let found =
            if !self.is_simulated() && is_taken(local) { None } else { shared.spawns.steal(&local.spawned, local.worker.index, first) };
        if shared.idle.stops_searching(found.is_some(), || !shared.spawns.is_empty()) {
            shared.call_help(local.worker.index + 1);
        }
        if found.is_some() {
            local.worker.counters.steals.bump();
        }
        found.map(|task| task.into_ptr())
    }

    // Inlined, as all between a switch and the loop: see `switched::Coroutine::resume`.
    #[inline(always)]
    fn run_one(&mut self, local: &Local, task: TaskPtr, round: &mut Round, until: usize, simulated: bool) {
        round.ran += 1;
        let counters = &local.worker.counters;
        if !task.is_started() {
            if !self.start(local, task) {
                return;
            }
        } else if simulated && sim::node::is_over(task.id()) {
            // Something woke it before the crash could.
            let _ = task.state().unwind();
        }
        local.running.set(Some(task));
        counters.running.set(task.id());
        let resumed = loop {
            let resumed = match &mut self.trace {
                None => task.resume(),
                Some(trace) => trace.resume(task),
            };
            counters.switches.bump();
            if resumed != Some(Suspend::Yield) || round.ran >= until || local.has_others() {
                break resumed;
            }
            // It would be the next.
            round.ran += 1;
        };
        counters.running.set(NOBODY);
        local.running.set(None);
        match resumed {
            Some(Suspend::Yield) => {
                round.yielded += usize::from(simulated);
                local.queue.push(task);
            }
            Some(Suspend::Park) => {
                // The commit waits for the next park, or the end: in between it may be woken for less. See `Local::parking`.
                if let Some(former) = local.parking.replace(Some(task)) {
                    local.commit(former);
                }
            }
            None => {
                self.forget(task);
                local.started.remove(task);
                self.stacks.give(task.take_stack());
                counters.finished.bump();
                task.finish();
            }
        }
    }

    /// Prepares the first run of a task. False: there will be none.
    fn start(&mut self, local: &Local, task: TaskPtr) -> bool {
        // The runtime's phase, which may be ahead of this round's: a coroutine may have kept the worker over a whole shutdown.
        if local.shared.phase() != Phase::Running || (self.is_simulated() && sim::node::is_over(task.id())) {
            self.refuse(task, JoinError::ShutDown);
            return false;
        }
        task.pin_to(&local.worker);
        if let Err(error) = task.start(&mut self.stacks) {
            self.refuse(task, JoinError::NoStack(error));
            return false;
        }
        local.started.insert(task);
        local.worker.counters.started.bump();
        true
    }

    fn refuse(&self, task: TaskPtr, error: JoinError) {
        self.forget(task);
        task.refuse(error);
    }

    #[inline]
    fn forget(&self, task: TaskPtr) {
        if self.is_simulated() {
            sim::node::on_end(task.id());
        }
    }

    fn is_simulated(&self) -> bool {
        self.reactor.is_none()
    }

    /// Ends what a crash takes with it: these coroutines unwind, these hooks are dropped.
    pub(crate) fn crash(&mut self, crash: &Crash) {
        let local = Rc::clone(&self.local);
        let _entered = current::enter(&local);
        local.started.for_each(|task| {
            if crash.has_coroutine(task.id()) && task.state().unwind() == Wake::Enqueue {
                local.queue.push(task);
            }
        });
        self.hooks.extract_if(.., |installed| crash.has_hook(installed.id)).for_each(discard);
    }

    /// Takes part in a new phase of a shutdown, and says whether there is one.
    fn obey_phase(&mut self) -> bool {
        let phase = self.local.shared.phase();
        if phase == self.phase {
            return false;
        }
        self.phase = phase;
        let local = &self.local;
        let wake: fn(TaskPtr) -> Wake = match phase {
            Phase::Unwinding | Phase::Stopped if UNWINDS => |task| task.state().unwind(),
            _ => |task| task.state().cancel(),
        };
        local.started.for_each(|task| {
            if wake(task) == Wake::Enqueue {
                local.queue.push(task);
            }
        });
        true
    }

    fn count_remaining(&self) {
        let local = &self.local;
        let queued = usize::from(!local.queue.is_empty() || !local.spawned.is_empty() || !local.worker.inbox.is_empty());
        let remaining = local.started.len().max(queued);
        // Ordering: Release pairs with the Acquire in `shutdown::is_empty`.
        if local.worker.remaining.swap(remaining, Ordering::Release) != remaining && remaining == 0 {
            local.shared.exits.counted();
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::AddHook(id, make) => {
                let simulated = self.is_simulated();
                let handle = HookHandle { worker: Arc::clone(&self.local.worker) };
                if let Some(hook) =
                    guarded(id, "construction", || if simulated { sim::node::as_hook(id, || make(handle)) } else { make(handle) })
                {
                    self.hooks.push(InstalledHook { id, hook, timeout: None, may_spin: true });
                }
            }
            Command::Inspect(_, inspect) => inspect(&self.local),
            Command::RemoveHook(id) => {
                if let Some(position) = self.hooks.iter().position(|installed| installed.id == id) {
                    discard(self.hooks.remove(position));
                }
            }
        }
    }

    /// Calls every hook, and says whether one was busy.
    fn each_hook(&mut self, now: Instant, what: &str, mut call: impl FnMut(&mut dyn Hook, &mut RoundContext<'_>) -> Progress) -> bool {
        let mut busy = false;
        let local = Rc::clone(&self.local);
        self.remove_hooks_unless(what, |installed| {
            // A generator of the hook's own for this call: the hook may spawn, which may need the worker's.
            let mut rng = local.rng.borrow_mut().fork();
            let mut context = RoundContext { now, rng: &mut rng, worker: local.worker.index };
            busy |= call(&mut *installed.hook, &mut context) == Progress::Busy;
        });
        busy
    }

    /// Makes a call for every hook; those that panic in it are removed.
    fn remove_hooks_unless(&mut self, what: &str, mut call: impl FnMut(&mut InstalledHook)) {
        let simulated = self.is_simulated();
        let mut called = |installed: &mut InstalledHook| {
            let id = installed.id;
            guarded(id, what, || if simulated { sim::node::as_hook(id, || call(installed)) } else { call(installed) })
        };
        self.hooks.extract_if(.., |installed| called(installed).is_none()).for_each(discard);
    }

    /// Nothing to do: tidies up, polls for a while if that has paid, then sleeps.
    fn wait(&mut self) {
        if self.stacks.cool() {
            // Something may have come meanwhile.
            return;
        }
        if self.spinning.pays() && self.hooks.iter().all(|installed| installed.may_spin) {
            let start = Instant::now();
            while start.elapsed() < SPIN_TIME {
                if self.round().busy {
                    self.local.worker.counters.spin_hits.bump();
                    return self.spinning.found();
                }
                for _ in 0..SPIN_LOOKS {
                    if self.local.has_news() {
                        break;
                    }
                    spin_loop();
                }
            }
            self.local.worker.counters.spin_misses.bump();
            self.spinning.in_vain();
        }
        let asleep = Instant::now();
        self.sleep();
        self.spinning.slept(asleep.elapsed());
    }

    fn sleep(&mut self) {
        let deadline = self.next_deadline();
        let local = Rc::clone(&self.local);
        let (shared, worker) = (&local.shared, &local.worker);
        let trim = self.trimmer.as_mut().and_then(|trimmer| {
            // What parked in the last round.
            trimmer.observe(worker.counters.parks.get(), local.clock.get());
            trimmer.due()
        });
        let Some(reactor) = &mut self.reactor else { return };
        worker.counters.sleeps.bump();
        worker.counters.sleeps_until.set(deadline.map_or(u64::MAX, Instant::as_nanos));
        worker.counters.hooks.set(self.hooks.len() as u64);
        // A second look, and the sleep: see `idle`.
        let has_work = || local.has_news() || shared.phase() != self.phase;
        let block = || {
            let timeout = deadline.into_iter().chain(trim).min().map(|deadline| deadline - Instant::now());
            let _entered = current::enter(&local);
            poll(reactor, timeout);
        };
        shared.idle.sleep(&worker.sleeper, has_work, block);
    }
}

/// Whether the only coroutine that could be stolen is taken by its own worker in the next moment, or there is other work meanwhile.
fn is_taken(local: &Local) -> bool {
    let first_look = Instant::now();
    let taken = local.shared.spawns.last_is_taken(|| {
        (0..STEAL_PAUSES).for_each(|_| spin_loop());
        !local.worker.has_work() && first_look.elapsed() < STEAL_AFTER
    });
    taken || local.worker.has_work()
}

/// Polls, and says whether there was news.
fn poll(reactor: &mut Reactor, timeout: Option<Duration>) -> bool {
    match reactor.poll(timeout) {
        Ok(news) => news > 0,
        Err(error) => {
            tracing::error!(%error, "cannot poll for I/O");
            false
        }
    }
}

/// Runs a part of a hook. `None`, and a line in the log, if it panicked.
fn guarded<R>(id: HookId, what: &str, call: impl FnOnce() -> R) -> Option<R> {
    match contained(call) {
        Ok(value) => Some(value),
        Err(payload) => {
            let message = panic_message(payload.get()).unwrap_or("(no message)");
            tracing::error!(worker = id.worker, hook = id.number, message, "a hook panicked in its {what} and was removed");
            None
        }
    }
}

fn discard(installed: InstalledHook) {
    guarded(installed.id, "drop", || drop(installed.hook));
}
