//! A wait group: waiting until all who hold a part of it have let it go.
//!
//! Owns the count of parts. Invariant: somebody waits only while there is a part.

use std::{fmt, time::Duration};

use super::{Cancelled, WaitError, waited, waited_for_ever};
use crate::{
    park::WaitsFor,
    primitive::Arc,
    spin_lock::SpinLock,
    time::Instant,
    wait_list::{self, Limit, Source, WaitList},
};

/// Lets one wait for the end of work whose number need not be known: each piece holds a clone, and drops it at its end.
///
/// As crossbeam's. A [`scope`](crate::scope) is often the better choice, since it cannot be forgotten.
///
/// ```
/// use weald_runtime::{spawn, sync::WaitGroup};
///
/// weald_runtime::run(|| {
///     let group = WaitGroup::new();
///     for number in 0..4 {
///         let part = group.clone();
///         spawn(move || {
///             println!("{number}");
///             drop(part);
///         });
///     }
///     group.wait().unwrap();
/// });
/// ```
pub struct WaitGroup {
    inner: Arc<Inner>,
}

struct Inner {
    state: SpinLock<State>,
}

/// What the lock guards.
pub(crate) struct State {
    parts: usize,
    waiters: WaitList<()>,
}

impl WaitGroup {
    /// A group of one part, the caller's.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { state: SpinLock::new(State { parts: 1, waiters: WaitList::new() }) }) }
    }

    /// Lets the caller's part go, and waits until all others are gone.
    ///
    /// # Errors
    /// [`Cancelled`] if the coroutine is cancelled while it waits. The caller's part is gone then as well.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook.
    #[track_caller]
    pub fn wait(self) -> Result<(), Cancelled> {
        waited_for_ever(self.wait_limited(Limit::Never))
    }

    /// As [`wait`](Self::wait), for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError`]; the caller's part is gone all the same.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout(self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_limited(Limit::After(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_deadline(self, deadline: Instant) -> Result<(), WaitError> {
        self.wait_limited(Limit::At(deadline))
    }

    #[track_caller]
    fn wait_limited(self, limit: Limit) -> Result<(), WaitError> {
        let inner = Arc::clone(&self.inner);
        drop(self);
        let state = inner.state.lock();
        if state.parts == 0 {
            return Ok(());
        }
        let ((), outcome) = wait_list::wait(&*inner, (), state, limit);
        waited(outcome)
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        self.inner.state.lock().parts += 1;
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        state.parts -= 1;
        if state.parts == 0 {
            wait_list::wake_all(state, |state| &mut state.waiters, |()| ());
        }
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("parts", &self.inner.state.lock().parts).finish_non_exhaustive()
    }
}

impl Source for Inner {
    type State = State;
    type Payload = ();

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::WaitGroup
    }

    fn waiters(state: &mut State) -> &mut WaitList<()> {
        &mut state.waiters
    }

    fn abandon(&self, (): &mut (), _claimed: bool) {}
}
