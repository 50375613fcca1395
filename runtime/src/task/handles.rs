//! Owns the handles that keep a task: the counted reference of waiters, and the scheduler's while the task has not run.
//!
//! It does not own the join handle (`join`), nor the count (`task_state`).

use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::{Header, Inspection, JoinError, TaskPtr};
use crate::scheduler::{WorkerShared, current};
use crate::task_state::{Memory, TaskState, Wake};

/// A counted reference to a task, for waiters and handles.
pub(crate) struct TaskRef(pub(super) TaskPtr);

/// The scheduler's reference to a task that has not run. Dropped, it publishes that the task was cancelled.
pub(crate) struct Unstarted(pub(super) TaskPtr);

// SAFETY: a TaskRef gives access to the state word, the home, the name and the number, all of which are Sync, and to the
// joiner and the stage under the protocol of `task_state`; never to `Owner`.
unsafe impl Send for TaskRef {}
// SAFETY: as for Send.
unsafe impl Sync for TaskRef {}
// SAFETY: `Unstarted` values that leave their thread are made by `spawn`, which requires the closure to be Send; those of
// `spawn_local` are turned into pointers on the worker at once.
unsafe impl Send for Unstarted {}

impl Unstarted {
    /// Hands the scheduler's reference over to the worker that will run the task.
    pub(crate) fn into_ptr(self) -> TaskPtr {
        ManuallyDrop::new(self).0
    }

    /// A look at it.
    pub(crate) fn inspect(&self) -> Inspection<'_> {
        self.0.inspect()
    }

    /// Pins the task to a worker before its first run.
    pub(crate) fn pin_to(&self, home: &Arc<WorkerShared>) {
        self.0.pin_to(home);
    }

    /// Publishes that the task will not run.
    pub(crate) fn refuse(self, error: JoinError) {
        self.into_ptr().refuse(error);
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        self.0.refuse(JoinError::ShutDown);
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        self.0.to_ref()
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        if self.0.state().drop_reference() == Memory::Free {
            // SAFETY: the last reference.
            unsafe { self.0.free() };
        }
    }
}

impl TaskRef {
    fn header(&self) -> &Header {
        // SAFETY: the reference keeps the task alive.
        unsafe { self.0.0.as_ref() }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.header().name()
    }

    pub(crate) fn id(&self) -> u64 {
        self.header().id
    }

    /// Sets the token, and enqueues the task where it lives if it is parked.
    pub(crate) fn unpark(&self) {
        if current::wake_uncommitted(self.0) || self.wake(TaskState::unpark) == Wake::Enqueue {
            self.enqueue();
        }
    }

    /// As [`unpark`](Self::unpark), with the permit.
    pub(crate) fn permit(&self) {
        if current::wake_uncommitted(self.0) {
            self.0.owner().permitted.set(true);
            self.enqueue();
        } else if self.wake(TaskState::permit) == Wake::Enqueue {
            self.enqueue();
        }
    }

    /// Cancels the task until it ends the interruption. On `Wake::Enqueue` the caller owes it an [`enqueue`](Self::enqueue).
    pub(crate) fn interrupt(&self) -> Wake {
        self.wake(TaskState::interrupt)
    }

    /// Cancels the task for good.
    pub(crate) fn cancel(&self) {
        self.0.cancel();
    }

    pub(crate) fn is_done(&self) -> bool {
        self.header().state.is_done()
    }

    /// For the running task itself; see `TaskState::end_interrupt`.
    pub(crate) fn end_interrupt(&self) {
        self.header().state.end_interrupt();
    }

    #[inline]
    fn wake(&self, wake: impl FnOnce(&TaskState) -> Wake) -> Wake {
        // Before the state changes: afterwards the wake would be lost.
        self.0.refuse_foreign_thread();
        wake(&self.header().state)
    }

    /// Enqueues the task, which the caller owns by a wake, where it lives.
    pub(crate) fn enqueue(&self) {
        self.0.enqueue();
    }
}
