//! Owns the agreement between a worker that goes to sleep and those who give it work.
//!
//! It does not own the bell (the reactor's eventfd) nor the work.
//!
//! The race and its answer: the worker announces its sleep and then looks for work once more; the giver publishes work and
//! then looks whether the worker sleeps. With a SeqCst fence between the two steps on both sides, at least one sees the
//! other. The giver that finds a sleeper claims the ring, so that a sleep costs one system call however many givers come.

use crate::primitive::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

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

    /// The worker announces its sleep, looks once more whether it `has_work`, and if not has `block` wait for the ring or what else
    /// may end a sleep.
    #[inline]
    pub(crate) fn sleep(&self, has_work: impl FnOnce() -> bool, block: impl FnOnce()) {
        self.prepare();
        if !has_work() {
            block();
        }
        self.finish();
    }

    /// The worker announces its sleep. It then looks for work, and sleeps only if there is none.
    fn prepare(&self) {
        // Ordering: Acquire pairs with the Release in `claim`, so that the announcement comes after the claim of an earlier one
        // also where nothing but that claim orders the two.
        self.0.swap(SLEEPING, Ordering::Acquire);
        // Ordering: pairs with the fence in `must_ring`.
        fence(Ordering::SeqCst);
    }

    /// The worker is awake again.
    fn finish(&self) {
        // Ordering: Acquire pairs with the Release in `claim`, as in `prepare`. An exchange and not a store, so that a claim and the
        // announcement after this one have an order that needs no proof; loom knows no other.
        self.0.swap(AWAKE, Ordering::Acquire);
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

/// The wish that a worker runs a round, for work that only the round itself can find, such as a hook's.
///
/// Who rings has published work before. The answer takes the flag and that work with it: one that only cleared the flag could
/// swallow a second ring, whose work the round then need not see.
#[derive(Debug)]
pub(crate) struct Rung(AtomicBool);

impl Rung {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks for a round. The caller then looks whether the worker sleeps ([`Sleeper::must_ring`]).
    pub(crate) fn set(&self) {
        // Ordering: Release pairs with the Acquire in `answer`. An exchange and not a store, so that it continues the release
        // sequence of an earlier ring: whoever takes the last one has the work of all.
        self.0.swap(true, Ordering::Release);
    }

    /// A round begins.
    pub(crate) fn answer(&self) {
        // Ordering: Relaxed keeps the usual round free of a write; what is not seen here stays set and keeps the worker awake.
        if self.0.load(Ordering::Relaxed) {
            // Ordering: Acquire pairs with the Release in `set`: the round sees what was published before each ring it takes.
            self.0.swap(false, Ordering::Acquire);
        }
    }

    /// Whether a round is asked for. Before a sleep it is asked behind the fence of [`Sleeper::prepare`].
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
    /// As [`Sleeper::sleep`] for one of several workers, with whom it is counted meanwhile.
    #[inline]
    pub(crate) fn sleep(&self, sleeper: &Sleeper, has_work: impl FnOnce() -> bool, block: impl FnOnce()) {
        self.sleeps();
        sleeper.sleep(has_work, block);
        self.wakes();
    }

    /// A worker announces its sleep; before [`Sleeper::prepare`], whose fence serves both.
    fn sleeps(&self) {
        self.sleeping.fetch_add(1, Ordering::Relaxed);
    }

    /// How many sleep, or are about to.
    #[cfg(not(loom))]
    pub(crate) fn sleeping(&self) -> usize {
        self.sleeping.load(Ordering::Relaxed)
    }

    /// A worker woke up.
    fn wakes(&self) {
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
    }

    /// A worker begins to look at others' queues.
    pub(crate) fn searches(&self) {
        self.searching.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker ends its search. True: it was the last to search, and another should wake in its place: it has found something,
    /// so that there may be more, or it has not and something is `left`, for which nobody was woken while it searched.
    #[must_use]
    pub(crate) fn stops_searching(&self, found: bool, left: impl FnOnce() -> bool) -> bool {
        if self.searching.fetch_sub(1, Ordering::Relaxed) != 1 {
            return false;
        }
        found || {
            // Ordering: pairs with the fence in `wants_help`: either the giver sees that nobody searches, or its work is seen here.
            fence(Ordering::SeqCst);
            left()
        }
    }

    /// Stealable work was published: whether to wake a sleeper. Nobody needs to be woken while somebody searches, since the
    /// last searcher looks at all queues again behind its fence.
    #[must_use]
    pub(crate) fn wants_help(&self) -> bool {
        // Ordering: pairs with the fences in `Sleeper::prepare` and `stops_searching`.
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) > 0 && self.searching.load(Ordering::Relaxed) == 0
    }

    /// As [`wants_help`](Self::wants_help), and if so claims the ring of a sleeper, beginning with number `first` of `workers`:
    /// whoever is returned is to be rung.
    #[must_use]
    pub(crate) fn claim_help<'w, W>(&self, workers: &'w [W], first: usize, sleeper: impl Fn(&W) -> &Sleeper) -> Option<&'w W> {
        if !self.wants_help() {
            return None;
        }
        let count = workers.len();
        (0..count).map(|step| &workers[(first + step) % count]).find(|worker| sleeper(worker).claim())
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
        assert!(!idle.stops_searching(false, || false));
        assert!(idle.wants_help());
        idle.searches();
        assert!(idle.stops_searching(true, || false));
        idle.searches();
        idle.searches();
        assert!(!idle.stops_searching(true, || true), "not the last");
        assert!(idle.stops_searching(false, || true));
        idle.wakes();
        assert!(!idle.wants_help());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::spawn_queue::{self, SpawnQueue, SpawnQueues};
    use super::*;
    use crate::primitive::{Arc, Condvar, Mutex};
    use crate::wait_list::loom_tests::model;
    use loom::thread;

    /// What two workers share, and each one's sleep.
    struct Workers {
        spawns: SpawnQueues<u32>,
        idle: Idle,
        workers: [(Sleeper, Mutex<bool>, Condvar); 2],
        left: AtomicUsize,
    }

    impl Workers {
        fn ring(&self, worker: &(Sleeper, Mutex<bool>, Condvar)) {
            *worker.1.lock() = true;
            worker.2.notify_one();
        }

        /// As `Shared::call_help`.
        fn call_help(&self, first: usize) {
            if let Some(worker) = self.idle.claim_help(&self.workers, first, |worker| &worker.0) {
                self.ring(worker);
            }
        }

        /// As `Worker::search`.
        fn search(&self, me: usize, own: &SpawnQueue<u32>) -> Option<u32> {
            if let Some(task) = self.spawns.take_outside(own) {
                return Some(task);
            }
            if self.spawns.is_empty() {
                return None;
            }
            self.idle.searches();
            let found = self.spawns.steal(own, me, 0);
            if self.idle.stops_searching(found.is_some(), || !self.spawns.is_empty()) {
                self.call_help(me + 1);
            }
            found
        }

        /// Runs what there is and sleeps, until all tasks have run.
        fn work(&self, me: usize, own: &SpawnQueue<u32>) {
            let (sleeper, rung, ringing) = &self.workers[me];
            while self.left.load(Ordering::Relaxed) > 0 {
                if own.pop().or_else(|| self.search(me, own)).is_some() {
                    if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                        // The end is no work that anybody finds: whoever sleeps is told.
                        self.workers.iter().for_each(|worker| self.ring(worker));
                    }
                    continue;
                }
                self.idle.sleep(
                    sleeper,
                    || !self.spawns.is_empty(),
                    || {
                        let mut guard = rung.lock();
                        while !std::mem::take(&mut *guard) {
                            guard = ringing.wait(guard);
                        }
                    },
                );
            }
        }
    }

    fn workers(tasks: usize) -> (Arc<Workers>, [SpawnQueue<u32>; 2]) {
        let (spawns, own) = spawn_queue::new(2);
        let workers = [(); 2].map(|()| (Sleeper::new(), Mutex::new(false), Condvar::new()));
        let shared = Workers { spawns, idle: Idle::default(), workers, left: AtomicUsize::new(tasks) };
        (Arc::new(shared), <[_; 2]>::try_from(own).ok().expect("as many as workers"))
    }

    /// A worker spawns two tasks while another goes to sleep: however the two take them from each other, both run, and both
    /// workers come to the end.
    #[test]
    fn loom_idle_workers_never_sleep_on_a_spawn() {
        model(|| {
            let (shared, [first, second]) = workers(2);
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.work(1, &second))
            };
            for task in 0..2 {
                first.push(task);
                shared.call_help(1);
            }
            shared.work(0, &first);
            other.join().expect("the worker does not panic");
        });
    }

    /// A worker spawns a task while another, which is about to have work of its own, searches: it is taken, or the third worker,
    /// which sleeps, is rung.
    #[test]
    fn loom_idle_worker_is_rung_for_what_a_searcher_that_stays_awake_has_passed_by() {
        model(|| {
            let (shared, [first, second]) = workers(1);
            // The sleeper has number 0, which the spawner need not ring.
            shared.idle.sleeps();
            shared.workers[0].0.prepare();
            // What the searcher sees from afar, and its worker takes back while the search is on.
            first.push(1);
            let searcher = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.search(1, &second))
            };
            let back = first.pop();
            first.push(7);
            shared.call_help(0);
            let found = searcher.join().expect("the searcher does not panic");
            let taken = back.is_some() && found.is_some();
            assert!(taken || *shared.workers[0].1.lock(), "the task waits, and a worker sleeps");
        });
    }

    /// A thread outside spawns two tasks, and nobody else does: the only worker that is asleep takes both.
    #[test]
    fn loom_idle_worker_never_sleeps_on_a_spawn_from_outside() {
        model(|| {
            let (shared, [first, _second]) = workers(2);
            let giver = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for task in 0..2 {
                        shared.spawns.push_from_outside(task);
                        shared.call_help(0);
                    }
                })
            };
            shared.work(0, &first);
            giver.join().expect("the giver does not panic");
        });
    }

    /// Two givers publish work that no flag of the scheduler's shows, and ring. The worker sees both, or is woken for it.
    #[test]
    fn loom_rung_answers_take_the_work_of_every_ring() {
        model(|| {
            let work = [AtomicBool::new(false), AtomicBool::new(false)];
            let shared = Arc::new((work, Rung::new(), Sleeper::new(), Mutex::new(false), Condvar::new()));
            let givers: Vec<_> = (0..2)
                .map(|giver| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let (work, rung, sleeper, bell, ringing) = &*shared;
                        // Ordering: Relaxed shows that the ring is what publishes.
                        work[giver].store(true, Ordering::Relaxed);
                        rung.set();
                        if sleeper.must_ring() {
                            *bell.lock() = true;
                            ringing.notify_one();
                        }
                    })
                })
                .collect();
            let (work, rung, sleeper, bell, ringing) = &*shared;
            loop {
                rung.answer();
                if work.iter().all(|work| work.load(Ordering::Relaxed)) {
                    break;
                }
                sleeper.sleep(
                    || rung.is_set(),
                    || {
                        let mut guard = bell.lock();
                        while !std::mem::take(&mut *guard) {
                            guard = ringing.wait(guard);
                        }
                    },
                );
            }
            for giver in givers {
                giver.join().expect("givers do not panic");
            }
        });
    }
}
