//! Owns the deque's interface for models, which cannot see into `crossbeam_deque`: queues behind a lock, with a length that is read
//! without it and orders nothing.
//!
//! It does not own what the crate guarantees beyond that, and promises no more than the crate does.

use std::collections::VecDeque;

use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};

pub(super) enum Steal<T> {
    Empty,
    Success(T),
    #[expect(dead_code, reason = "a lock never fails; the loop around it is the crate's business")]
    Retry,
}

pub(super) struct Injector<T> {
    tasks: Mutex<VecDeque<T>>,
    len: AtomicUsize,
}

pub(super) struct Worker<T>(Arc<Injector<T>>);

pub(super) struct Stealer<T>(Arc<Injector<T>>);

impl<T> Injector<T> {
    pub(super) fn new() -> Self {
        Self { tasks: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0) }
    }

    pub(super) fn push(&self, task: T) {
        let mut tasks = self.tasks.lock();
        tasks.push_back(task);
        self.len.store(tasks.len(), Ordering::Relaxed);
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&self) -> Option<T> {
        let mut tasks = self.tasks.lock();
        let task = tasks.pop_front();
        self.len.store(tasks.len(), Ordering::Relaxed);
        task
    }

    pub(super) fn steal(&self) -> Steal<T> {
        self.take().map_or(Steal::Empty, Steal::Success)
    }

    /// Moves one more than it takes.
    pub(super) fn steal_batch_and_pop(&self, to: &Worker<T>) -> Steal<T> {
        let first = self.steal();
        if let Steal::Success(_) = first
            && let Some(second) = self.take()
        {
            to.push(second);
        }
        first
    }
}

impl<T> Worker<T> {
    pub(super) fn new_fifo() -> Self {
        Self(Arc::new(Injector::new()))
    }

    pub(super) fn stealer(&self) -> Stealer<T> {
        Stealer(Arc::clone(&self.0))
    }

    pub(super) fn push(&self, task: T) {
        self.0.push(task);
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.0.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Stealer<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn steal(&self) -> Steal<T> {
        self.0.steal()
    }

    pub(super) fn steal_batch_and_pop(&self, to: &Worker<T>) -> Steal<T> {
        self.0.steal_batch_and_pop(to)
    }
}
