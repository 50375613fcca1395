//! Owns the coroutines that have not run: one deque a worker, from which others steal, and one queue for those spawned
//! from outside.
//!
//! It does not own started coroutines, which never change their worker, nor decide when to wake a worker (`idle`).
//!
//! The queues say nothing of what they hold (`Unstarted` tasks), so that a model can put something else in.
//!
//! Invariant: a task is in exactly one of these queues, or with the worker that took it. Queues are first-in first-out, so
//! that a flood of spawns cannot starve an early one.

use std::cell::Cell;

#[cfg(loom)]
use self::stand_in::{Injector, Steal, Stealer, Worker};
#[cfg(not(loom))]
use crossbeam_deque::{Injector, Steal, Stealer, Worker};

#[cfg(loom)]
mod stand_in;

/// A worker's own end of its deque.
pub(crate) struct SpawnQueue<T> {
    deque: Worker<T>,
    /// False: nothing is in the deque. Asked on every switch, most of which find nothing, and beside the worker's own data.
    filled: Cell<bool>,
}

/// What all share: the queue for spawns from outside, and the far ends of the deques.
pub(crate) struct SpawnQueues<T> {
    outside: Injector<T>,
    stealers: Vec<Stealer<T>>,
}

/// Makes the queues of `workers` workers.
pub(crate) fn new<T>(workers: usize) -> (SpawnQueues<T>, Vec<SpawnQueue<T>>) {
    let own: Vec<_> = (0..workers).map(|_| SpawnQueue { deque: Worker::new_fifo(), filled: Cell::new(false) }).collect();
    let stealers = own.iter().map(|queue| queue.deque.stealer()).collect();
    (SpawnQueues { outside: Injector::new(), stealers }, own)
}

impl<T> SpawnQueue<T> {
    pub(crate) fn push(&self, task: T) {
        self.deque.push(task);
        self.filled.set(true);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        self.deque.pop()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        if self.filled.get() {
            self.filled.set(!self.deque.is_empty());
        }
        !self.filled.get()
    }

    /// Has others' tasks put into the deque, and takes one.
    fn fill(&self, take: impl Fn(&Worker<T>) -> Steal<T>) -> Option<T> {
        let taken = until_decided(|| take(&self.deque))?;
        self.filled.set(true);
        Some(taken)
    }
}

impl<T> SpawnQueues<T> {
    pub(crate) fn push_from_outside(&self, task: T) {
        self.outside.push(task);
    }

    /// Whether nobody could take anything. Asked behind the fence before a sleep.
    pub(crate) fn is_empty(&self) -> bool {
        self.outside.is_empty() && self.stealers.iter().all(Stealer::is_empty)
    }

    /// How many have not run, and may run anywhere.
    pub(crate) fn len(&self) -> usize {
        self.outside.len() + self.stealers.iter().map(Stealer::len).sum::<usize>()
    }

    /// Takes one task spawned from outside.
    pub(crate) fn take_one_outside(&self) -> Option<T> {
        if self.outside.is_empty() {
            return None;
        }
        until_decided(|| self.outside.steal())
    }

    /// Moves a batch of tasks spawned from outside into a worker's deque, and takes one.
    pub(crate) fn take_outside(&self, own: &SpawnQueue<T>) -> Option<T> {
        if self.outside.is_empty() {
            return None;
        }
        own.fill(|deque| self.outside.steal_batch_and_pop(deque))
    }

    /// Whether there is nothing to steal, or the only task is taken by its own worker while the caller waits, which says whether it goes on.
    pub(crate) fn last_is_taken(&self, mut waits: impl FnMut() -> bool) -> bool {
        while self.len() == 1 && waits() {}
        self.is_empty()
    }

    /// Looks at the others' deques, beginning with number `first`, and takes half of what the first non-empty one has.
    pub(crate) fn steal(&self, own: &SpawnQueue<T>, me: usize, first: usize) -> Option<T> {
        let count = self.stealers.len();
        (0..count)
            .map(|step| (first + step) % count)
            .filter(|&victim| victim != me)
            .find_map(|victim| own.fill(|deque| self.stealers[victim].steal_batch_and_pop(deque)))
    }

    /// Drops what nobody will start, at the end: what was spawned from outside, and what is left in the deques of workers that
    /// never came back.
    pub(crate) fn clear(&self) {
        let outside = || until_decided(|| self.outside.steal());
        let left = || self.stealers.iter().find_map(|stealer| until_decided(|| stealer.steal()));
        while let Some(task) = outside().or_else(left) {
            drop(task);
        }
    }
}

fn until_decided<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => crate::primitive::spin_loop(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thief_waits_for_the_owner_of_a_single_task_but_not_for_ever() {
        let (queues, own) = new(2);
        let mut waits = 0;
        let mut wait = || {
            waits += 1;
            waits < 5
        };
        assert!(queues.last_is_taken(&mut wait), "there is none");
        own[0].push('a');
        own[1].push('b');
        assert!(!queues.last_is_taken(&mut wait), "there are two");
        assert_eq!(own[1].pop(), Some('b'));
        assert!(queues.last_is_taken(|| wait() && (own[0].pop() == Some('a'))));
        own[0].push('c');
        assert!(!queues.last_is_taken(&mut wait), "its owner does not come");
        assert_eq!(waits, 5, "one wait for the task that was taken, and the others for the one that was not");
        assert_eq!(queues.steal(&own[1], 1, 0), Some('c'));
    }

    #[test]
    fn what_was_stolen_in_one_go_is_found_in_ones_own_deque() {
        let (queues, own) = new(2);
        (0..6).for_each(|number| own[0].push(number));
        queues.push_from_outside(6);
        assert!(own[1].is_empty() && own[1].pop().is_none());
        let mut found: Vec<_> = queues.steal(&own[1], 1, 0).into_iter().collect();
        assert!(!own[1].is_empty(), "half of six are more than one");
        while let Some(number) = own[1].pop().or_else(|| own[0].pop()).or_else(|| queues.take_outside(&own[1])) {
            found.push(number);
        }
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 6]);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell};
    use crate::wait_list::loom_tests::model;
    use loom::thread;

    /// A worker runs what it has spawned while another steals from it: each task is one worker's, and runs once.
    #[test]
    fn loom_steal_against_run() {
        model(|| {
            let (queues, own) = new(2);
            let [first, second] = <[_; 2]>::try_from(own).ok().expect("as many as workers");
            let tasks = [(); 3].map(|()| Arc::new(UnsafeCell::new(0_u32)));
            // SAFETY: whoever took a task is the only one to have it; loom reports it if not.
            let run = |task: Arc<UnsafeCell<u32>>| task.with_mut(|runs| unsafe { *runs += 1 });
            tasks[..2].iter().for_each(|task| first.push(Arc::clone(task)));
            queues.push_from_outside(Arc::clone(&tasks[2]));
            let queues = Arc::new(queues);
            let thief = {
                let queues = Arc::clone(&queues);
                thread::spawn(move || {
                    while let Some(task) = second.pop().or_else(|| queues.steal(&second, 1, 0)).or_else(|| queues.take_one_outside()) {
                        run(task);
                    }
                })
            };
            while let Some(task) = first.pop().or_else(|| queues.take_outside(&first)) {
                run(task);
            }
            thief.join().expect("the thief does not panic");
            assert!(queues.is_empty() && first.is_empty());
            for task in tasks {
                // SAFETY: both workers have ended.
                assert_eq!(task.with(|runs| unsafe { *runs }), 1);
            }
        });
    }
}
