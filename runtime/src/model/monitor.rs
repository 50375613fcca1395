//! Owns the one primitive of the models: a state, and waiting until it is such.

use std::fmt;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::cancel;

/// A state behind a lock; whoever waits looks again after each change.
pub(super) struct Monitor<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    pub(super) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Reads, or changes what nobody waits for.
    pub(super) fn look<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.state.lock().expect("a panic ends the model"))
    }

    /// Changes the state.
    pub(super) fn change<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let result = self.look(f);
        self.changed.notify_all();
        result
    }

    /// Changes the state for a handle that is dropped. A model that has failed is past changes, and would panic again.
    pub(super) fn leave(&self, f: impl FnOnce(&mut T)) {
        if !std::thread::panicking() {
            self.change(f);
        }
    }

    /// Changes the state as soon as `f` can. `None`: the caller was cancelled first, and what `f` noted of its wait is the caller's to take
    /// back.
    pub(super) fn wait<R>(&self, mut f: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        while cancel::may_be_cancelled() {
            if let Some(result) = self.look(&mut f) {
                self.changed.notify_all();
                return Some(result);
            }
            if cancel::ends_waits() {
                return None;
            }
            thread::yield_now();
        }
        let mut state = self.state.lock().expect("a panic ends the model");
        loop {
            if let Some(result) = f(&mut state) {
                drop(state);
                self.changed.notify_all();
                return Some(result);
            }
            state = self.changed.wait(state).expect("a panic ends the model");
        }
    }
}

impl<T> fmt::Debug for Monitor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Monitor")
    }
}
