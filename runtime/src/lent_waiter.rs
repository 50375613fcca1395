//! Owns the pointer by which a waiter is lent to whoever will wake it, so that a wait counts no references.
//!
//! It does not own the waiter. Whoever lends it stays in its wait, neither returning nor unwinding, until the borrower has
//! either never begun to wake it and cannot any more, or has published that it did.
//!
//! A wake has two halves: [`wake`](LentWaiter::wake) while the lender is known to stay, [`Woken::unpark`] after it is free to go,
//! and after any lock is given back.

use std::ptr::{self, NonNull};

use crate::park::{self, ThreadParker};
use crate::primitive::Arc;
#[cfg(not(loom))]
use crate::scheduler::current::{self, Place};
#[cfg(not(loom))]
use crate::task::TaskPtr;
#[cfg(not(loom))]
use crate::task_state::Wake;

/// Marks a plain thread in the pointer's lowest bit.
const THREAD: usize = 1;

/// A coroutine or a plain thread that waits. See the module's documentation.
#[derive(Clone, Copy)]
pub(crate) struct LentWaiter(NonNull<()>);

// SAFETY: `wake` requires that the waiter stays, and then does to it only what any thread may.
unsafe impl Send for LentWaiter {}

impl LentWaiter {
    /// The calling coroutine, or the calling thread outside one.
    ///
    /// # Panics
    ///
    /// On a worker's own stack, where nothing may wait.
    #[inline]
    #[track_caller]
    pub(crate) fn current() -> Self {
        #[cfg(not(loom))]
        match current::place() {
            Place::Coroutine | Place::NoPark(_) => return Self(current::running().node().cast()),
            Place::WorkerStack => park::refuse_worker_stack(),
            Place::Thread => {}
        }
        park::with_parker(|parker| Self(NonNull::from(parker).cast().map_addr(|address| address | THREAD)))
    }

    /// As a plain pointer, which is not null.
    pub(crate) fn into_raw(self) -> *mut () {
        self.0.as_ptr()
    }

    /// What [`into_raw`](Self::into_raw) gave; `None` for the null pointer.
    pub(crate) fn from_raw(raw: *mut ()) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// Sets the waiter's token. The caller then lets it go, and unparks.
    ///
    /// # Safety
    ///
    /// The waiter stays in its wait until the caller lets it go.
    #[inline]
    pub(crate) unsafe fn wake(self) -> Woken {
        if self.0.addr().get() & THREAD != 0 {
            let parker = self.0.as_ptr().map_addr(|address| address & !THREAD).cast::<Arc<ThreadParker>>();
            // SAFETY: the thread's own handle, which lives at least as long as the thread stays in its wait.
            return Woken(Kind::Thread(Arc::clone(unsafe { &*parker })));
        }
        #[cfg(not(loom))]
        {
            let task = TaskPtr::from_node(self.0.cast());
            task.refuse_foreign_thread();
            // A parked task is now the caller's, so it stays without being held.
            if current::wake_uncommitted(task) || task.state().unpark() == Wake::Enqueue {
                return Woken(Kind::Coroutine(task));
            }
        }
        Woken(Kind::Awake)
    }
}

/// A waiter that has its token and is to run.
#[must_use = "it sleeps for ever unless it is unparked"]
pub(crate) struct Woken(Kind);

enum Kind {
    Awake,
    Thread(Arc<ThreadParker>),
    #[cfg(not(loom))]
    Coroutine(TaskPtr),
}

impl Woken {
    /// Makes it run.
    #[inline]
    pub(crate) fn unpark(self) {
        match self.0 {
            Kind::Awake => {}
            Kind::Thread(parker) => parker.unpark(),
            #[cfg(not(loom))]
            Kind::Coroutine(task) => task.enqueue(),
        }
    }
}

/// The null pointer that stands for no waiter.
pub(crate) const fn none() -> *mut () {
    ptr::null_mut()
}
