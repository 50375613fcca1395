//! Owns the snapshot of a runtime's counts, and their names for the `metrics` facade.
//!
//! It does not own the counting (`scheduler::counters`), which goes on whether anybody looks or not.

use crate::Handle;
use crate::primitive::atomic::Ordering;
use crate::scheduler::WorkerShared;

/// The counts of a runtime since it was made. [`Handle::metrics`] reads them, without asking any worker.
///
/// They are exact one by one, but not of the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// One for each worker, in their order.
    pub workers: Vec<WorkerMetrics>,
    /// The sum over the workers.
    pub total: WorkerMetrics,
    /// Coroutines spawned by other threads; [`WorkerMetrics::spawned`] has the others.
    pub spawned_outside: u64,
    /// Coroutines spawned that no worker has taken yet.
    pub not_taken: usize,
    /// Coroutines that have started and not ended; each has a stack.
    pub alive: u64,
    /// Stacks of the arena that have been used and are in no coroutine's use now.
    pub free_stacks: u64,
    /// The threads for blocking jobs.
    pub blocking: BlockingMetrics,
}

/// What the threads for [blocking jobs](crate::unblock) have to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockingMetrics {
    /// Jobs that wait for a thread.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Threads, those included that wait for a job.
    pub threads: usize,
    /// Jobs that there have been.
    pub jobs: u64,
}

/// The counts of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerMetrics {
    /// Times that it ran a coroutine until that parked, yielded or ended.
    pub switches: u64,
    /// Times that a coroutine parked.
    pub parks: u64,
    /// Coroutines that were spawned on it, by others or by hooks.
    pub spawned: u64,
    /// Coroutines that began here.
    pub started: u64,
    /// Coroutines that ended here.
    pub finished: u64,
    /// Times that it took others' coroutines, up to half of what one had that had not run.
    pub steals: u64,
    /// Coroutines that other threads woke, or pinned here.
    pub remote_wakes: u64,
    /// Times that it was rung out of its sleep, or out of the way to it.
    pub rings: u64,
    /// Waits with a deadline.
    pub timers: u64,
    /// Rounds of its loop.
    pub rounds: u64,
    /// Looks at the sockets.
    pub polls: u64,
    /// Sleeps.
    pub sleeps: u64,
    /// Times that it polled in vain for work and then found some without a sleep.
    pub spin_hits: u64,
    /// Times that it polled and then had to sleep.
    pub spin_misses: u64,
    /// Coroutines that could run when its last round ended, and have run before or can run nowhere else; those that no
    /// worker has taken are [`Metrics::not_taken`].
    pub queued: u64,
    /// Of the last round, those that other threads had woken, or pinned here.
    pub inbox: u64,
    /// Timers armed when its last round ended: waits with a deadline, and sleeps.
    pub armed: u64,
}

impl WorkerMetrics {
    fn of(worker: &WorkerShared) -> Self {
        let counters = &worker.counters;
        Self {
            switches: counters.switches.get(),
            parks: counters.parks.get(),
            spawned: counters.spawned.get(),
            started: counters.started.get(),
            finished: counters.finished.get(),
            steals: counters.steals.get(),
            remote_wakes: counters.remote_wakes.get(),
            rings: worker.rings.load(Ordering::Relaxed),
            timers: counters.timers.get(),
            rounds: counters.rounds.get(),
            polls: counters.polls.get(),
            sleeps: counters.sleeps.get(),
            spin_hits: counters.spin_hits.get(),
            spin_misses: counters.spin_misses.get(),
            queued: counters.queued.get(),
            inbox: counters.inbox.get(),
            armed: counters.armed.get(),
        }
    }

    /// Every count that only grows, with its name. That of the facade is `weald_<name>_total`.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 14] {
        [
            ("switches", self.switches),
            ("parks", self.parks),
            ("spawned", self.spawned),
            ("started", self.started),
            ("finished", self.finished),
            ("steals", self.steals),
            ("remote_wakes", self.remote_wakes),
            ("rings", self.rings),
            ("timers", self.timers),
            ("rounds", self.rounds),
            ("polls", self.polls),
            ("sleeps", self.sleeps),
            ("spin_hits", self.spin_hits),
            ("spin_misses", self.spin_misses),
        ]
    }

    /// Every length of a queue with its name. That of the facade is `weald_<name>`.
    #[must_use]
    pub fn lengths(&self) -> [(&'static str, u64); 3] {
        [("queued", self.queued), ("inbox", self.inbox), ("armed", self.armed)]
    }

    fn add(&mut self, other: &Self) {
        self.switches += other.switches;
        self.parks += other.parks;
        self.spawned += other.spawned;
        self.started += other.started;
        self.finished += other.finished;
        self.steals += other.steals;
        self.remote_wakes += other.remote_wakes;
        self.rings += other.rings;
        self.timers += other.timers;
        self.rounds += other.rounds;
        self.polls += other.polls;
        self.sleeps += other.sleeps;
        self.spin_hits += other.spin_hits;
        self.spin_misses += other.spin_misses;
        self.queued += other.queued;
        self.inbox += other.inbox;
        self.armed += other.armed;
    }
}

impl Handle {
    /// What the runtime has counted so far. A few loads a worker; from anywhere.
    ///
    /// ```
    /// use weald_runtime::{Handle, run, spawn, yield_now};
    ///
    /// run(|| {
    ///     let handle = Handle::current().expect("inside of a runtime");
    ///     let before = handle.metrics();
    ///     spawn(|| yield_now()).join().expect("no panic");
    ///     let after = handle.metrics();
    ///     assert_eq!(after.total.finished - before.total.finished, 1);
    ///     assert!(after.total.switches - before.total.switches >= 2);
    /// });
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let shared = &self.shared;
        let workers: Vec<_> = shared.workers.iter().map(|worker| WorkerMetrics::of(worker)).collect();
        let mut total = WorkerMetrics::default();
        workers.iter().for_each(|worker| total.add(worker));
        // Ends are looked at before starts are in no order; a difference must not wrap.
        let blocking = shared.blocking.as_ref().map(|pool| pool.counts()).unwrap_or_default();
        let alive = total.started.saturating_sub(total.finished);
        Metrics {
            total,
            spawned_outside: shared.spawned_outside(),
            not_taken: shared.spawns.len(),
            alive,
            free_stacks: u64::from(shared.arena.used_ever()).saturating_sub(alive),
            blocking: BlockingMetrics {
                queued: blocking.queued,
                running: blocking.running,
                threads: blocking.threads,
                jobs: blocking.jobs,
            },
            workers,
        }
    }
}

#[cfg(feature = "metrics")]
impl Metrics {
    /// Gives the counts to the process's recorder of the `metrics` facade; call it once in a while, or when the recorder is read.
    ///
    /// Counters, with the labels `runtime` and `worker` (a number): `weald_<name>_total` for each name of
    /// [`WorkerMetrics::named`]. Gauges with the same labels: `weald_<name>` for each of [`WorkerMetrics::lengths`]. Counter with the label `runtime`: `weald_spawned_outside_total`. Gauges with the label `runtime`:
    /// `weald_coroutines_alive`, `weald_coroutines_not_taken`, `weald_stacks_free`, `weald_blocking_queued`, `weald_blocking_running`,
    /// `weald_blocking_threads`; and the counter `weald_blocking_jobs_total`.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
    pub fn publish(&self, runtime: &str) {
        let runtime = || metrics::Label::new("runtime", runtime.to_owned());
        for (index, worker) in self.workers.iter().enumerate() {
            for (name, count) in worker.named() {
                let labels = vec![runtime(), metrics::Label::new("worker", index.to_string())];
                metrics::counter!(format!("weald_{name}_total"), labels).absolute(count);
            }
            for (name, length) in worker.lengths() {
                let labels = vec![runtime(), metrics::Label::new("worker", index.to_string())];
                metrics::gauge!(format!("weald_{name}"), labels).set(length as f64);
            }
        }
        metrics::counter!("weald_spawned_outside_total", vec![runtime()]).absolute(self.spawned_outside);
        metrics::gauge!("weald_coroutines_alive", vec![runtime()]).set(self.alive as f64);
        metrics::gauge!("weald_coroutines_not_taken", vec![runtime()]).set(self.not_taken as f64);
        metrics::gauge!("weald_stacks_free", vec![runtime()]).set(self.free_stacks as f64);
        metrics::gauge!("weald_blocking_queued", vec![runtime()]).set(self.blocking.queued as f64);
        metrics::gauge!("weald_blocking_running", vec![runtime()]).set(self.blocking.running as f64);
        metrics::gauge!("weald_blocking_threads", vec![runtime()]).set(self.blocking.threads as f64);
        metrics::counter!("weald_blocking_jobs_total", vec![runtime()]).absolute(self.blocking.jobs);
    }
}
