//! Owns the agreement between a worker that goes to sleep and those who give it work.
//!
//! It does not own the bell (the reactor's eventfd) nor the work.
//!
//! The race and its answer: the worker announces its sleep and then looks for work once more; the giver publishes work and
//! then looks whether the worker sleeps. With a SeqCst fence between the two steps on both sides, at least one sees the
//! other. The giver that finds a sleeper claims the ring, so that a sleep costs one system call however many givers come.

use crate::primitive::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

const AWAKE: u32 = 0;
const SLEEPING: u32 = 1;

/// One worker's side of the agreement.
#[derive(Debug)]
pub(crate) struct Sleeper(AtomicU32);

impl Sleeper {
    /// An awake worker.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(AWAKE))
    }

    /// The worker announces its sleep. It then looks for work, and sleeps only if there is none.
    pub(crate) fn prepare(&self) {
        // Ordering: Acquire pairs with the Release in `claim`, so that the announcement comes after the claim of an earlier one
        // also where nothing but that claim orders the two.
        self.0.swap(SLEEPING, Ordering::Acquire);
        // Ordering: pairs with the fence in `must_ring`.
        fence(Ordering::SeqCst);
    }

    /// The worker is awake again.
    pub(crate) fn finish(&self) {
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// A giver has published work. True: the worker sleeps, and this giver must ring the bell.
    #[must_use]
    pub(crate) fn must_ring(&self) -> bool {
        // Ordering: pairs with the fence in `prepare`.
        fence(Ordering::SeqCst);
        self.claim()
    }

    /// As [`must_ring`](Self::must_ring), for a giver that has fenced already.
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        // Ordering: Release pairs with the Acquire in `prepare`. The rest is ordered by the fences.
        self.0.load(Ordering::Relaxed) == SLEEPING && self.0.swap(AWAKE, Ordering::Release) == SLEEPING
    }
}

/// How many workers sleep and how many look for something to steal: who gives work that anybody may take asks here
/// whether to wake one more.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    sleeping: AtomicUsize,
    searching: AtomicUsize,
}

impl Idle {
    /// A worker announces its sleep; before [`Sleeper::prepare`], whose fence serves both.
    pub(crate) fn sleeps(&self) {
        self.sleeping.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker woke up.
    pub(crate) fn wakes(&self) {
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
    }

    /// A worker begins to look at others' queues.
    pub(crate) fn searches(&self) {
        self.searching.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker ends its search. True: it was the last to search, and if it found something another should wake in its
    /// place, for there may be more.
    #[must_use]
    pub(crate) fn stops_searching(&self) -> bool {
        self.searching.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Stealable work was published: whether to wake a sleeper. Nobody needs to be woken while somebody searches, since a
    /// searcher looks at all queues again behind its fence before it sleeps.
    #[must_use]
    pub(crate) fn wants_help(&self) -> bool {
        // Ordering: pairs with the fence in `Sleeper::prepare`.
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) > 0 && self.searching.load(Ordering::Relaxed) == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_giver_rings() {
        let sleeper = Sleeper::new();
        assert!(!sleeper.must_ring());
        sleeper.prepare();
        assert!(sleeper.must_ring());
        assert!(!sleeper.must_ring());
    }

    #[test]
    fn help_is_wanted_of_sleepers_while_nobody_searches() {
        let idle = Idle::default();
        assert!(!idle.wants_help());
        idle.sleeps();
        assert!(idle.wants_help());
        idle.searches();
        assert!(!idle.wants_help());
        assert!(idle.stops_searching());
        assert!(idle.wants_help());
        idle.wakes();
        assert!(!idle.wants_help());
    }
}
