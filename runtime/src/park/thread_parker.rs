//! Owns what a plain thread parks on: its token, its permit and whether it is cancelled, under a lock with a condition.
//!
//! It does not own what is refused before a park, nor whose handle it is (the parent module). Loom runs it as it is.

use std::time::Duration;

use super::{Cancellation, Unparked};
use crate::primitive::{Condvar, Mutex};
use crate::time::Instant;

/// A plain thread's token and permit, and whether it is cancelled.
pub(crate) struct ThreadParker {
    state: Mutex<ThreadState>,
    changed: Condvar,
    #[cfg(not(loom))]
    thread: std::thread::Thread,
}

#[derive(Default)]
struct ThreadState {
    token: bool,
    #[cfg(any(not(loom), test))]
    permit: bool,
    /// A token that the thread is inside of was cancelled.
    interrupted: bool,
}

impl ThreadParker {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(ThreadState::default()),
            changed: Condvar::new(),
            #[cfg(not(loom))]
            thread: std::thread::current(),
        }
    }

    pub(crate) fn unpark(&self) {
        self.state.lock().token = true;
        self.changed.notify_one();
    }

    #[cfg(any(not(loom), test))]
    pub(super) fn permit(&self) {
        let mut state = self.state.lock();
        (state.token, state.permit) = (true, true);
        drop(state);
        self.changed.notify_one();
    }

    /// The permit, with which its token goes.
    #[cfg(any(not(loom), test))]
    pub(super) fn take_permit(&self) -> bool {
        let mut state = self.state.lock();
        if state.permit {
            state.token = false;
        }
        std::mem::take(&mut state.permit)
    }

    pub(super) fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_one();
    }

    #[cfg(not(loom))]
    pub(super) fn is_interrupted(&self) -> bool {
        self.state.lock().interrupted
    }

    /// The thread's name.
    #[cfg(not(loom))]
    pub(super) fn name(&self) -> Option<&str> {
        self.thread.name()
    }

    pub(super) fn end_interrupt(&self) {
        self.state.lock().interrupted = false;
    }

    pub(super) fn park_until(&self, deadline: Option<Instant>, cancellation: Cancellation) -> Unparked {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.token) {
                return Unparked::Token;
            }
            if state.interrupted && cancellation == Cancellation::Returns {
                return Unparked::Cancelled;
            }
            match deadline {
                None => state = self.changed.wait(state),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return Unparked::TimedOut;
                    }
                    state = self.changed.wait_timeout(state, left);
                }
            }
        }
    }
}
