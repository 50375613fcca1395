//! Owns what a worker counts, and the word by which others see what it runs.
//!
//! Invariant: only the worker's thread writes, with a plain load and store; anybody reads. So a count costs no locked
//! instruction, and a reader may see one worker's counts of slightly different moments.

use crate::primitive::atomic::{AtomicU64, Ordering};

/// A count that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    #[inline]
    pub(crate) fn bump(&self) {
        self.add(1);
    }

    /// So many more.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        // Ordering: Relaxed, here and below: a number that stands alone.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What `Counters::running` says when the worker runs no coroutine.
pub(crate) const NOBODY: u64 = u64::MAX;

/// One worker's counts. On cache lines of their own: who gives the worker work must not slow the counting.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// The number of the coroutine that runs, or [`NOBODY`].
    pub(crate) running: Count,
    pub(crate) switches: Count,
    pub(crate) parks: Count,
    pub(crate) spawned: Count,
    pub(crate) started: Count,
    pub(crate) finished: Count,
    pub(crate) steals: Count,
    pub(crate) remote_wakes: Count,
    pub(crate) timers: Count,
    pub(crate) rounds: Count,
    pub(crate) polls: Count,
    pub(crate) sleeps: Count,
    pub(crate) spin_hits: Count,
    pub(crate) spin_misses: Count,
    /// As of the end of its last round: coroutines in its queue, those that came by its inbox in that round, and armed timers.
    pub(crate) queued: Count,
    pub(crate) inbox: Count,
    pub(crate) armed: Count,
    /// While it sleeps: when it wakes by itself, in nanoseconds of the clock, or `u64::MAX`; and how many hooks it has.
    pub(crate) sleeps_until: Count,
    pub(crate) hooks: Count,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let running = Count::default();
        running.set(NOBODY);
        Self {
            running,
            switches: Count::default(),
            parks: Count::default(),
            spawned: Count::default(),
            started: Count::default(),
            finished: Count::default(),
            steals: Count::default(),
            remote_wakes: Count::default(),
            timers: Count::default(),
            rounds: Count::default(),
            polls: Count::default(),
            sleeps: Count::default(),
            spin_hits: Count::default(),
            spin_misses: Count::default(),
            queued: Count::default(),
            inbox: Count::default(),
            armed: Count::default(),
            sleeps_until: Count::default(),
            hooks: Count::default(),
        }
    }
}
