//! Owns what the runtime keeps in thread-locals for a worker's thread, and its way to the threads of that worker's coroutines.
//!
//! A thread-local of the runtime that code in a coroutine reads has its line in [`WorkerState`]. Those that only a worker's loop
//! or a plain thread reads have none.

use std::cell::Cell;
use std::ptr;
use std::thread::{self, ThreadId};

use crate::scheduler::current::{self, Local};
use crate::sim::network::Network;
use crate::time::{self, Instant};

thread_local! {
    /// The thread of the worker for which this thread runs a coroutine.
    static WORKER_THREAD: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// The thread that the calling code belongs to: in a coroutine, its worker's.
pub(crate) fn worker_thread() -> ThreadId {
    WORKER_THREAD.get().unwrap_or_else(|| thread::current().id())
}

/// A worker's thread-locals.
pub(super) struct WorkerState {
    thread: Option<ThreadId>,
    local: *const Local,
    virtual_now: Option<Instant>,
    network: Option<Network>,
}

impl WorkerState {
    const NONE: Self = Self { thread: None, local: ptr::null(), virtual_now: None, network: None };

    /// The calling worker's.
    pub(super) fn of_this_thread() -> Self {
        Self {
            thread: Some(thread::current().id()),
            local: current::pointer(),
            virtual_now: time::virtual_now(),
            network: Network::current(),
        }
    }

    /// Makes them the calling thread's, until the guard is dropped.
    pub(super) fn enter(self) -> Entered {
        self.set();
        Entered(())
    }

    /// Makes them the calling thread's.
    pub(super) fn set(self) {
        WORKER_THREAD.set(self.thread);
        current::set_pointer(self.local);
        time::set_virtual(self.virtual_now);
        Network::set_current(self.network);
    }
}

/// The calling thread has a worker's thread-locals.
pub(super) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        WorkerState::NONE.set();
    }
}
