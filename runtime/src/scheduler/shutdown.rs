//! Owns the end of a runtime as seen from outside: the phases in their order, the waiting, the report.
//!
//! What a worker does in each phase is in `worker`. A stack is never unwound from outside and a coroutine that will not end
//! is never freed: it is leaked with its worker, and named here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::counters::NOBODY;
use super::probe::probe_identity;
use super::{Phase, Shared, WorkerShared};
use crate::primitive::atomic::Ordering;
use crate::primitive::{Condvar, Mutex};
use crate::time::Instant;

/// How long unwinding stacks may take without one that comes to its end. Destructors run in it, which cannot block; a second is
/// long for them. Miri takes a thousand times as long.
pub(crate) const UNWIND_GRACE: Duration = Duration::from_secs(if cfg!(miri) { 60 } else { 1 });
/// Whether a stack can be unwound. In a program built with `panic = "abort"` what does not end by itself is leaked instead.
pub(crate) const UNWINDS: bool = cfg!(panic = "unwind");
/// How long a worker between two coroutines may take to say that it has stopped.
const STOP_GRACE: Duration = UNWIND_GRACE;

/// Leaked coroutines that a report names when it is displayed.
const SHOWN: usize = 20;

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ShutdownReport {
    /// The coroutines that did not end, by name or number and where they are parked. Their stacks are leaked, and their
    /// workers' threads never end. Of a stuck worker: the coroutine that holds it, by name in a runtime that has a
    /// [watchdog](crate::RuntimeBuilder::watchdog) and by number in others, and how many more the worker has.
    pub leaked: Vec<String>,
    /// The workers that did not come back, from a coroutine which neither parks nor yields or from a hook. Such a worker ends its
    /// coroutines when it comes back, if ever.
    pub stuck_workers: Vec<usize>,
    /// The [blocking jobs](crate::unblock) that still ran when the grace was over, by their owners and where those started them. Each
    /// holds a thread until it ends.
    pub unfinished_jobs: Vec<String>,
}

impl ShutdownReport {
    /// Whether every coroutine ended, and every blocking job.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.workers_ended() && self.unfinished_jobs.is_empty()
    }

    /// Whether every worker has come to its end.
    pub(crate) fn workers_ended(&self) -> bool {
        self.leaked.is_empty() && self.stuck_workers.is_empty()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("all coroutines ended");
        }
        let shown = &self.leaked[..self.leaked.len().min(SHOWN)];
        let more = match self.leaked.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        write!(f, "leaked: [{}]{more}; workers that never came back: {:?}", shown.join(", "), self.stuck_workers)?;
        if !self.unfinished_jobs.is_empty() {
            write!(f, "; blocking jobs that run on: [{}]", self.unfinished_jobs.join(", "))?;
        }
        Ok(())
    }
}

/// What workers say at their end.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    said: Mutex<Said>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    stopped: Vec<usize>,
    leaked: Vec<String>,
}

impl Exits {
    /// A worker has counted its remaining coroutines anew.
    pub(crate) fn counted(&self) {
        // The lock orders the count before the waiter's look at it.
        drop(self.said.lock());
        self.news.notify_one();
    }

    /// A worker has stopped, and leaked these.
    pub(crate) fn stopped(&self, worker: usize, leaked: Vec<String>) {
        let mut said = self.said.lock();
        said.stopped.push(worker);
        said.leaked.extend(leaked);
        drop(said);
        self.news.notify_one();
    }

    fn wait_until(&self, deadline: Instant, mut done: impl FnMut(&Said) -> bool) {
        let mut said = self.said.lock();
        while !done(&said) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            said = self.news.wait_timeout(said, left);
        }
    }

    /// What was said so far.
    pub(crate) fn report(&self, workers: usize) -> ShutdownReport {
        let said = self.said.lock();
        let stuck_workers = (0..workers).filter(|worker| !said.stopped.contains(worker)).collect();
        ShutdownReport { leaked: said.leaked.clone(), stuck_workers, unfinished_jobs: Vec::new() }
    }
}

/// Whether no coroutine is left.
pub(crate) fn is_empty(shared: &Shared) -> bool {
    // Ordering: Acquire pairs with the Release of the worker's count.
    shared.workers.iter().all(|worker| worker.remaining.load(Ordering::Acquire) == 0)
}

/// How many coroutines are left; the largest number while a worker has not counted.
fn remaining(shared: &Shared) -> usize {
    // Ordering: as in `is_empty`.
    shared.workers.iter().map(|worker| worker.remaining.load(Ordering::Acquire)).fold(0, usize::saturating_add)
}

/// What a worker that did not come back keeps from its end: the coroutine that runs, and how many others.
fn kept_by(worker: &WorkerShared) -> Vec<String> {
    let (index, running) = (worker.index, worker.counters.running.get());
    let holder = (running != NOBODY).then(|| {
        let name = probe_identity(worker).filter(|probed| probed.id == running).and_then(|probed| probed.name);
        let holder = name.map_or_else(|| format!("coroutine {running}"), |name| format!("coroutine '{name}'"));
        format!("{holder} that holds worker {index}")
    });
    let started = worker.counters.started.get().wrapping_sub(worker.counters.finished.get());
    let others = match started.saturating_sub(u64::from(holder.is_some())) {
        0 => None,
        1 => Some(format!("1 more coroutine of worker {index}")),
        others => Some(format!("{others} more coroutines of worker {index}")),
    };
    holder.into_iter().chain(others).collect()
}

/// Ends a runtime whose workers run on their own threads: cancels, waits for `grace`, unwinds, leaks the rest.
pub(crate) fn shut_down(shared: &Arc<Shared>, grace: Duration) -> ShutdownReport {
    let end = Instant::now() + grace;
    shared.enter_phase(Phase::Cancelling);
    shared.exits.wait_until(end, |_| is_empty(shared));
    if UNWINDS && !is_empty(shared) {
        shared.enter_phase(Phase::Unwinding);
        // A hundred thousand may take longer, but they come to fewer and fewer.
        let mut before = usize::MAX;
        loop {
            shared.exits.wait_until(Instant::now() + UNWIND_GRACE, |_| is_empty(shared));
            let left = remaining(shared);
            if left == 0 || left >= before {
                break;
            }
            before = left;
        }
    }
    shared.enter_phase(Phase::Stopped);
    let workers = shared.workers.len();
    shared.exits.wait_until(Instant::now() + STOP_GRACE, |said| said.stopped.len() == workers);
    shared.spawns.clear();
    shared.workers.iter().for_each(|worker| worker.refuse_unstarted());
    let mut report = shared.exits.report(workers);
    for &stuck in &report.stuck_workers {
        report.leaked.extend(kept_by(&shared.workers[stuck]));
    }
    // Last: until now a coroutine's clean-up could need a thread.
    if let Some(pool) = &shared.blocking {
        report.unfinished_jobs = pool.close(end);
    }
    if !report.is_clean() {
        tracing::error!(%report, "a runtime was shut down with work left");
    }
    report
}
