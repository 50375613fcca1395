//! A barrier: so many wait for each other, again and again.
//!
//! Owns the count of those who have come in the present generation. Invariant: a waiter of an earlier generation has been
//! claimed, or has withdrawn and will find that its generation is over; it counts as having come either way.

use std::{fmt, time::Duration};

use super::{Cancelled, WaitError};
use crate::{
    park::WaitsFor,
    primitive::const_unless_loom,
    spin_lock::SpinLock,
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, WaitList},
};

/// Lets a fixed number of coroutines and threads wait until all of them have come.
///
/// ```
/// use weald_runtime::{sync::Barrier, spawn};
/// use std::sync::Arc;
///
/// weald_runtime::run(|| {
///     let barrier = Arc::new(Barrier::new(3));
///     let others: Vec<_> = (0..2).map(|_| {
///         let barrier = Arc::clone(&barrier);
///         spawn(move || barrier.wait().unwrap().is_leader())
///     }).collect();
///     let mut leaders = usize::from(barrier.wait().unwrap().is_leader());
///     leaders += others.into_iter().map(|other| usize::from(other.join().unwrap())).sum::<usize>();
///     assert_eq!(leaders, 1);
/// });
/// ```
pub struct Barrier {
    needed: usize,
    state: SpinLock<State>,
}

/// What the lock guards.
pub(crate) struct State {
    come: usize,
    generation: u64,
    /// Payload: the waiter's generation.
    waiters: WaitList<u64>,
}

/// What a wait at a [`Barrier`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether the caller is the one of its generation that came last.
    #[must_use]
    pub fn is_leader(self) -> bool {
        self.0
    }
}

impl Barrier {
    const_unless_loom! {
        /// A barrier for `needed` who wait. Zero is as one: nobody is waited for.
        #[must_use]
        pub fn new(needed: usize) -> Self {
            Self { needed, state: SpinLock::new(State { come: 0, generation: 0, waiters: WaitList::new() }) }
        }
    }

    /// Waits until as many have come as the barrier is for; then it is ready for the next generation.
    ///
    /// # Errors
    /// [`Cancelled`] if the coroutine is cancelled while it waits; then it has not come, and the others wait for one more.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook.
    #[track_caller]
    pub fn wait(&self) -> Result<BarrierWaitResult, Cancelled> {
        // A wait without a deadline cannot time out, so whatever error there is, is the cancellation.
        self.wait_limited(Limit::Never).map_err(|_| Cancelled::new(()))
    }

    /// As [`wait`](Self::wait), for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError`]; the caller has not come then.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, WaitError> {
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
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWaitResult, WaitError> {
        self.wait_limited(Limit::At(deadline))
    }

    #[track_caller]
    fn wait_limited(&self, limit: Limit) -> Result<BarrierWaitResult, WaitError> {
        let mut state = self.state.lock();
        if state.come + 1 >= self.needed {
            state.come = 0;
            state.generation += 1;
            wait_list::wake_all(state, |state| &mut state.waiters, |_| ());
            return Ok(BarrierWaitResult(true));
        }
        let mine = state.generation;
        state.come += 1;
        let (_, outcome) = wait_list::wait(self, mine, state, limit);
        let error = match outcome {
            Outcome::Claimed => return Ok(BarrierWaitResult(false)),
            Outcome::TimedOut => WaitError::Timeout,
            Outcome::Cancelled => WaitError::Cancelled,
        };
        // All had come before this one was gone.
        if self.leave(mine) { Err(error) } else { Ok(BarrierWaitResult(false)) }
    }

    /// Takes one back that had come in `generation`. False: that generation is complete.
    fn leave(&self, generation: u64) -> bool {
        let mut state = self.state.lock();
        let waiting = state.generation == generation;
        if waiting {
            state.come -= 1;
        }
        waiting
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("needed", &self.needed).field("come", &self.state.lock().come).finish_non_exhaustive()
    }
}

impl Source for Barrier {
    type State = State;
    type Payload = u64;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Barrier
    }

    fn waiters(state: &mut State) -> &mut WaitList<u64> {
        &mut state.waiters
    }

    fn abandon(&self, generation: &mut u64, claimed: bool) {
        if !claimed {
            self.leave(*generation);
        }
    }
}
