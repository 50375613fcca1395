//! A signal: something happened, look again.
//!
//! Owns one permit, that of a notification which nobody was waiting for, and the list of those who wait. Invariant: somebody
//! waits only while there is no permit.

use std::{fmt, time::Duration};

use super::{Cancelled, WaitError, waited, waited_for_ever};
use crate::{
    park::WaitsFor,
    primitive::const_unless_loom,
    spin_lock::SpinLock,
    time::Instant,
    wait_list::{self, Limit, Source, WaitList},
};

/// Wakes those who wait, without a value and without a mutex.
///
/// A [`notify_one`](Self::notify_one) that finds nobody is kept for the next [`wait`](Self::wait), so *change, notify* against
/// *look, wait* loses nothing. Several of them are kept as one.
///
/// ```
/// use weald_runtime::sync::Notify;
///
/// let notify = Notify::new();
/// notify.notify_one();
/// notify.wait().unwrap(); // returns at once
/// ```
pub struct Notify {
    state: SpinLock<State>,
}

/// What the lock guards.
pub(crate) struct State {
    permit: bool,
    waiters: WaitList<()>,
}

impl Notify {
    const_unless_loom! {
        /// Makes a signal that has not been given.
        #[must_use]
        pub fn new() -> Self {
            Self { state: SpinLock::new(State { permit: false, waiters: WaitList::new() }) }
        }
    }

    /// Wakes the one who has waited longest, or lets the next one pass.
    pub fn notify_one(&self) {
        let mut state = self.state.lock();
        let waiter = state.waiters.claim_first().map(|first| first.deliver());
        state.permit |= waiter.is_none();
        drop(state);
        if let Some(waiter) = waiter {
            waiter.unpark();
        }
    }

    /// Wakes all who wait now. Keeps nothing for those who come later.
    pub fn notify_all(&self) {
        wait_list::wake_all(self.state.lock(), |state| &mut state.waiters, |()| ());
    }

    /// Waits for a notification.
    ///
    /// # Errors
    /// [`Cancelled`] if the coroutine is cancelled while it waits.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook.
    #[track_caller]
    pub fn wait(&self) -> Result<(), Cancelled> {
        waited_for_ever(self.wait_limited(Limit::Never))
    }

    /// Waits for a notification, at most for `timeout`.
    ///
    /// # Errors
    /// [`WaitError`] if it did not come in time, or the coroutine is cancelled.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_limited(Limit::After(timeout))
    }

    /// Waits for a notification until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.wait_limited(Limit::At(deadline))
    }

    #[track_caller]
    fn wait_limited(&self, limit: Limit) -> Result<(), WaitError> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.permit) {
            return Ok(());
        }
        let ((), outcome) = wait_list::wait(self, (), state, limit);
        waited(outcome)
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("permit", &self.state.lock().permit).finish_non_exhaustive()
    }
}

impl Source for Notify {
    type State = State;
    type Payload = ();

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Notification
    }

    fn waiters(state: &mut State) -> &mut WaitList<()> {
        &mut state.waiters
    }

    fn abandon(&self, (): &mut (), claimed: bool) {
        if claimed {
            self.notify_one();
        }
    }
}
