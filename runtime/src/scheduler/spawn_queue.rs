//! Owns the coroutines that have not run: one deque a worker, from which others steal, and one queue for those spawned
//! from outside.
//!
//! It does not own started coroutines, which never change their worker, nor decide when to wake a worker (`idle`).
//!
//! Invariant: a task is in exactly one of these queues, or with the worker that took it. Queues are first-in first-out, so
//! that a flood of spawns cannot starve an early one.

use crossbeam_deque::{Injector, Steal, Stealer, Worker};

use crate::task::Unstarted;

/// A worker's own end of its deque.
pub(crate) struct SpawnQueue(Worker<Unstarted>);

/// What all share: the queue for spawns from outside, and the far ends of the deques.
pub(crate) struct SpawnQueues {
    outside: Injector<Unstarted>,
    stealers: Vec<Stealer<Unstarted>>,
}

/// Makes the queues of `workers` workers.
pub(crate) fn new(workers: usize) -> (SpawnQueues, Vec<SpawnQueue>) {
    let own: Vec<_> = (0..workers).map(|_| SpawnQueue(Worker::new_fifo())).collect();
    let stealers = own.iter().map(|queue| queue.0.stealer()).collect();
    (SpawnQueues { outside: Injector::new(), stealers }, own)
}

impl SpawnQueue {
    pub(crate) fn push(&self, task: Unstarted) {
        self.0.push(task);
    }

    pub(crate) fn pop(&self) -> Option<Unstarted> {
        self.0.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl SpawnQueues {
    pub(crate) fn push_from_outside(&self, task: Unstarted) {
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
    pub(crate) fn take_one_outside(&self) -> Option<Unstarted> {
        if self.outside.is_empty() {
            return None;
        }
        until_decided(|| self.outside.steal())
    }

    /// Moves a batch of tasks spawned from outside into a worker's deque, and takes one.
    pub(crate) fn take_outside(&self, own: &SpawnQueue) -> Option<Unstarted> {
        if self.outside.is_empty() {
            return None;
        }
        until_decided(|| self.outside.steal_batch_and_pop(&own.0))
    }

    /// Looks at the others' deques, beginning with number `first`, and takes half of what the first non-empty one has.
    pub(crate) fn steal(&self, own: &SpawnQueue, me: usize, first: usize) -> Option<Unstarted> {
        let count = self.stealers.len();
        (0..count)
            .map(|step| (first + step) % count)
            .filter(|&victim| victim != me)
            .find_map(|victim| until_decided(|| self.stealers[victim].steal_batch_and_pop(&own.0)))
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

fn until_decided(mut attempt: impl FnMut() -> Steal<Unstarted>) -> Option<Unstarted> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => crate::primitive::spin_loop(),
        }
    }
}
