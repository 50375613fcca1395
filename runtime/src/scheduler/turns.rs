//! Owns whose turn it is on a worker: the started that can run and the unstarted have it alternately; in a simulation the seed draws.
//!
//! It does not own their queues, nor run anybody.
//!
//! Invariants: who can run has its turn after a bounded number of others, whatever these do; in a simulation after a few draws.

use super::current::Local;
use crate::task::TaskPtr;

/// How many coroutines a simulation may let wait for the one that it runs next.
const DRAWN_FROM: usize = 8;
/// One unstarted coroutine is run for so many started ones that are due. A first run takes three times as long as another and more, by the
/// memory it touches, and those that were woken would wait for it.
const START_EVERY: usize = 8;
/// Unstarted coroutines that are run, if nothing is due, before those that have come to run meanwhile are: a coroutine that joins many is
/// woken by the first that ends, and parks for each if it is run before the next ones end.
const STARTS: usize = 8;

/// The turns of one worker.
#[derive(Default)]
pub(super) struct Turns {
    /// How many of the unstarted had their turn since the last turn of the started.
    starts: usize,
    /// How many of the started could run when their turn began, or timers were looked at, and have not run since.
    due: usize,
}

impl Turns {
    /// Those of the started who can run now are due.
    pub(super) fn renew(&mut self, local: &Local) {
        self.due = local.queue.len();
    }

    /// The next coroutine of this worker's own: in turn those of the started that are due, and some of the unstarted.
    #[inline(always)]
    pub(super) fn next(&mut self, local: &Local) -> Option<TaskPtr> {
        if local.spawned.is_empty() {
            return local.queue.pop();
        }
        let spawned = || local.spawned.pop().map(|task| task.into_ptr());
        if self.due > 0 {
            self.due -= 1;
            let unstarted = if self.due % START_EVERY == START_EVERY - 1 { spawned() } else { None };
            return unstarted.or_else(|| local.queue.pop()).or_else(spawned);
        }
        let unstarted = spawned();
        self.starts += 1;
        if unstarted.is_none() || self.starts == STARTS {
            self.starts = 0;
            self.renew(local);
        }
        unstarted.or_else(|| local.queue.pop())
    }
}

/// The next coroutine of a simulation's worker: the seed decides which of those that can run, started or not.
pub(super) fn draw(local: &Local) -> Option<TaskPtr> {
    let mut rng = local.rng.borrow_mut();
    if rng.bool()
        && let Some(task) = local.spawned.pop()
    {
        return Some(task.into_ptr());
    }
    for _ in 1..rng.usize(1..=local.queue.len().clamp(1, DRAWN_FROM)) {
        local.queue.push(local.queue.pop()?);
    }
    local.queue.pop().or_else(|| local.spawned.pop().map(|task| task.into_ptr()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::START_EVERY;
    use crate::{Runtime, park, sleep, spawn_local, yield_now};

    fn one_worker() -> Runtime {
        Runtime::builder().workers(1).build().expect("a runtime")
    }

    /// Yields until it is so, and counts.
    fn yields_until(mut is_so: impl FnMut() -> bool) -> usize {
        let mut yields = 0;
        while !is_so() {
            yield_now();
            yields += 1;
        }
        yields
    }

    /// More than one coroutine may run for, from one look at the clock to the next.
    const TIMES: usize = 300;

    #[test]
    fn who_is_alone_lets_whom_it_spawns_begin() {
        one_worker().run(|| {
            for time in 0..TIMES {
                (0..time % 7).for_each(|_| yield_now());
                let handle = crate::spawn(|| {});
                let yields = yields_until(|| handle.is_finished());
                assert!(yields <= START_EVERY, "{yields} yields");
            }
        });
    }

    #[test]
    fn who_is_alone_lets_whom_it_wakes_go_on() {
        one_worker().run(|| {
            let woken = Rc::new(Cell::new(0));
            let count = Rc::clone(&woken);
            let other = spawn_local(move || {
                while count.get() < TIMES {
                    park();
                    count.set(count.get() + 1);
                }
            });
            // It parks.
            yield_now();
            for time in 1..=TIMES {
                (0..time % 7).for_each(|_| yield_now());
                other.coroutine().unpark();
                assert_eq!(yields_until(|| woken.get() == time), 1);
            }
            other.join().expect("no panic");
        });
    }

    #[test]
    fn who_is_alone_for_long_does_not_hold_up_timers_threads_and_a_shutdown() {
        let runtime = one_worker();
        let handle = runtime.handle();
        runtime.run(|| {
            let sleeper = spawn_local(|| sleep(Duration::from_millis(2)));
            let thread = std::thread::scope(|scope| {
                let thread = scope.spawn(|| handle.spawn(|| {}));
                yields_until(|| thread.is_finished());
                thread.join().expect("no panic")
            });
            yields_until(|| sleeper.is_finished() && thread.is_finished());
            crate::spawn(|| yields_until(crate::is_cancelled));
        });
        let report = runtime.shutdown(Duration::from_secs(5));
        assert!(report.is_clean(), "{report:?}");
    }
}
