//! A counter of permits to take and give back.
//!
//! Owns the free permits and the line of those who wait for some. Invariant, whenever the lock is free: the first in line
//! wants more than there is. Strictly first come, first served, also against `try_acquire`, so that one who wants many
//! is not starved by those who want few.

use std::{fmt, time::Duration};

use super::{Cancelled, WaitError, waited, waited_for_ever};
use crate::{
    lent_waiter::Woken,
    park::WaitsFor,
    primitive::const_unless_loom,
    spin_lock::{SpinGuard, SpinLock},
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, WaitList},
};

/// Limits how much happens at once: [`acquire`](Self::acquire) takes permits, [`release`](Self::release) gives them back.
///
/// ```
/// use weald_runtime::sync::Semaphore;
///
/// let buffers = Semaphore::new(3);
/// buffers.acquire(2).unwrap();
/// assert!(!buffers.try_acquire(2));
/// buffers.release(2);
/// assert_eq!(buffers.available(), 3);
/// ```
pub struct Semaphore {
    state: SpinLock<State>,
}

/// What the lock guards.
pub(crate) struct State {
    permits: usize,
    /// Payload: how many permits are wanted.
    waiters: WaitList<usize>,
}

impl Semaphore {
    const_unless_loom! {
        /// Makes a semaphore with that many permits.
        #[must_use]
        pub fn new(permits: usize) -> Self {
            Self { state: SpinLock::new(State { permits, waiters: WaitList::new() }) }
        }
    }

    /// Takes `permits` at once, waiting in line for them.
    ///
    /// # Errors
    /// [`Cancelled`] if the coroutine is cancelled while it waits; nothing is taken then.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook; use [`try_acquire`](Self::try_acquire) there.
    #[track_caller]
    pub fn acquire(&self, permits: usize) -> Result<(), Cancelled> {
        waited_for_ever(self.acquire_limited(permits, Limit::Never))
    }

    /// Takes `permits` if they are there and nobody waits.
    #[must_use = "the permits were taken if it says so"]
    pub fn try_acquire(&self, permits: usize) -> bool {
        self.state.lock().take(permits)
    }

    /// Takes `permits` at once, waiting at most `timeout` for them.
    ///
    /// # Errors
    /// [`WaitError`] if they did not come in time, or the coroutine is cancelled; nothing is taken then.
    ///
    /// # Panics
    /// As [`acquire`](Self::acquire).
    #[track_caller]
    pub fn acquire_timeout(&self, permits: usize, timeout: Duration) -> Result<(), WaitError> {
        self.acquire_limited(permits, Limit::After(timeout))
    }

    /// Takes `permits` at once, waiting for them until `deadline`.
    ///
    /// # Errors
    /// As [`acquire_timeout`](Self::acquire_timeout).
    ///
    /// # Panics
    /// As [`acquire`](Self::acquire).
    #[track_caller]
    pub fn acquire_deadline(&self, permits: usize, deadline: Instant) -> Result<(), WaitError> {
        self.acquire_limited(permits, Limit::At(deadline))
    }

    /// Gives `permits` back, or adds new ones.
    ///
    /// # Panics
    /// If the permits no longer fit into a `usize`.
    pub fn release(&self, permits: usize) {
        let mut state = self.state.lock();
        state.permits = state.permits.checked_add(permits).expect("a semaphore has at most usize::MAX permits");
        self.grant(state);
    }

    /// Permits that nobody holds. They may all be spoken for: the first in line may want more.
    pub fn available(&self) -> usize {
        self.state.lock().permits
    }

    #[track_caller]
    fn acquire_limited(&self, permits: usize, limit: Limit) -> Result<(), WaitError> {
        let mut state = self.state.lock();
        if state.take(permits) {
            return Ok(());
        }
        let (_, outcome) = wait_list::wait(self, permits, state, limit);
        if outcome != Outcome::Claimed {
            // There may be enough for those behind.
            self.grant(self.state.lock());
        }
        waited(outcome)
    }

    /// Serves the line as far as the permits go.
    fn grant<'a>(&'a self, mut state: SpinGuard<'a, State>) {
        while let Some(waiter) = state.serve_first() {
            // One at a time, since a wake must not fire under the lock; who comes in between queues behind.
            drop(state);
            waiter.unpark();
            state = self.state.lock();
        }
    }
}

impl State {
    fn take(&mut self, permits: usize) -> bool {
        let served = self.waiters.is_empty() && self.permits >= permits;
        if served {
            self.permits -= permits;
        }
        served
    }

    fn serve_first(&mut self) -> Option<Woken> {
        let permits = self.permits;
        let first = self.waiters.claim_first_if(|wanted| *wanted <= permits)?;
        self.permits -= first.with_payload(|wanted| *wanted);
        Some(first.deliver())
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

impl Source for Semaphore {
    type State = State;
    type Payload = usize;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Permits
    }

    fn waiters(state: &mut State) -> &mut WaitList<usize> {
        &mut state.waiters
    }

    fn abandon(&self, permits: &mut usize, claimed: bool) {
        if claimed {
            self.release(*permits);
        } else {
            self.grant(self.state.lock());
        }
    }
}
