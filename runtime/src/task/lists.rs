//! Owns the lists that tasks stand in by links of their own: a worker's queue, and its started tasks.
//!
//! They allocate nothing and own nothing: the scheduler's reference keeps each member alive. For one thread.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::TaskPtr;
use crate::primitive::atomic::Ordering;

/// A first-in first-out queue of tasks through their own links, for one thread.
#[derive(Default)]
pub(crate) struct TaskQueue {
    oldest: Cell<Option<TaskPtr>>,
    /// Of no meaning in an empty queue.
    newest: Cell<Option<TaskPtr>>,
    len: Cell<usize>,
}

impl TaskQueue {
    /// Adds a task that stands in no queue.
    #[inline]
    pub(crate) fn push(&self, task: TaskPtr) {
        task.header().next.store(ptr::null_mut(), Ordering::Relaxed);
        match self.newest.replace(Some(task)) {
            Some(newest) if !self.is_empty() => newest.header().next.store(task.0.as_ptr(), Ordering::Relaxed),
            _ => self.oldest.set(Some(task)),
        }
        self.len.set(self.len.get() + 1);
    }

    /// Takes the oldest, and has the memory of those behind it fetched: each needs what the pop before has fetched.
    #[inline]
    pub(crate) fn pop(&self) -> Option<TaskPtr> {
        let oldest = self.oldest.get()?;
        let next = oldest.next();
        self.oldest.set(next);
        self.len.set(self.len.get() - 1);
        if let Some(next) = next {
            if let Some(second) = next.next() {
                if let Some(third) = second.next() {
                    third.fetch_header();
                }
                second.fetch_owner();
            }
            next.fetch_stack();
        }
        Some(oldest)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.oldest.get().is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Visits all, the oldest first; `visit` must not push or pop.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(TaskPtr)) {
        let mut task = self.oldest.get();
        while let Some(current) = task {
            task = current.next();
            visit(current);
        }
    }
}

impl TaskPtr {
    /// Who stands behind it in the queue.
    #[inline]
    fn next(self) -> Option<Self> {
        NonNull::new(self.header().next.load(Ordering::Relaxed)).map(Self)
    }
}

/// The started tasks of one worker, which it holds the scheduler's references of.
#[derive(Default)]
pub(crate) struct StartedTasks {
    newest: Cell<Option<TaskPtr>>,
    count: Cell<usize>,
    /// Where the walk goes on.
    walk: Cell<Option<TaskPtr>>,
}

impl StartedTasks {
    /// For debuggers: where the newest stands.
    #[cfg(not(any(miri, weald_baton)))]
    pub(super) const NEWEST: usize = std::mem::offset_of!(Self, newest);

    pub(crate) fn insert(&self, task: TaskPtr) {
        let next = self.newest.replace(Some(task));
        let owner = task.owner();
        owner.previous_started.set(None);
        owner.next_started.set(next);
        if let Some(next) = next {
            next.owner().previous_started.set(Some(task));
        }
        self.count.set(self.count.get() + 1);
    }

    pub(crate) fn remove(&self, task: TaskPtr) {
        let owner = task.owner();
        let (previous, next) = (owner.previous_started.take(), owner.next_started.take());
        if self.walk.get() == Some(task) {
            self.walk.set(next);
        }
        match previous {
            Some(previous) => previous.owner().next_started.set(next),
            None => self.newest.set(next),
        }
        if let Some(next) = next {
            next.owner().previous_started.set(previous);
        }
        self.count.set(self.count.get() - 1);
    }

    /// Begins a walk over all that are there, which goes on between inserts and removes.
    pub(crate) fn begin_walk(&self) {
        self.walk.set(self.newest.get());
    }

    /// The next of the walk. What was inserted since it began is not on it.
    pub(crate) fn walk(&self) -> Option<TaskPtr> {
        let task = self.walk.get()?;
        self.walk.set(task.owner().next_started.get());
        Some(task)
    }

    pub(crate) fn len(&self) -> usize {
        self.count.get()
    }

    /// Visits all; `visit` must not insert or remove.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(TaskPtr)) {
        let mut task = self.newest.get();
        while let Some(current) = task {
            task = current.owner().next_started.get();
            visit(current);
        }
    }
}
