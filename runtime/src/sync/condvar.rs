//! A condition variable: waiting for a change of what a [`Mutex`](super::Mutex) guards.
//!
//! Owns the list of those who wait. Invariant: a waiter is in the list before its mutex is unlocked, so a change made under the
//! mutex and then notified reaches everyone who had looked before the change.

use std::{fmt, time::Duration};

use super::{Cancelled, MutexGuard};
use crate::{
    park::WaitsFor,
    primitive::const_unless_loom,
    spin_lock::SpinLock,
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, WaitList},
};

/// Lets coroutines and threads wait until somebody changes the state behind a mutex and says so.
///
/// ```
/// use weald_runtime::sync::{Condvar, Mutex};
///
/// let (ready, changed) = (Mutex::new(false), Condvar::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         *ready.lock() = true;
///         changed.notify_one();
///     });
///     let mut guard = ready.lock();
///     while !*guard {
///         guard = changed.wait(guard).unwrap();
///     }
/// });
/// ```
pub struct Condvar {
    waiters: SpinLock<WaitList<()>>,
}

/// Whether [`Condvar::wait_timeout`] ended by its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether no notification came in time.
    #[must_use]
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    const_unless_loom! {
        /// Makes a condition variable that nobody waits for.
        #[must_use]
        pub fn new() -> Self {
            Self { waiters: SpinLock::new(WaitList::new()) }
        }
    }

    /// Unlocks the mutex, waits for a notification, and locks it again.
    ///
    /// The condition may be gone again by then, so call it in a loop, or use [`wait_while`](Self::wait_while).
    ///
    /// # Errors
    /// [`Cancelled`], which holds the guard (the mutex is locked again), if the coroutine is cancelled while it waits.
    ///
    /// # Panics
    /// On a worker's own stack, as in a hook.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> Result<MutexGuard<'a, T>, Cancelled<MutexGuard<'a, T>>> {
        match self.wait_limited(guard, Limit::Never) {
            (guard, Outcome::Cancelled) => Err(Cancelled::new(guard)),
            (guard, Outcome::Claimed | Outcome::TimedOut) => Ok(guard),
        }
    }

    /// Waits as long as `condition` holds for the value.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, Cancelled<MutexGuard<'a, T>>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), for at most `timeout`; locking the mutex again may take longer.
    ///
    /// # Errors
    /// As [`wait`](Self::wait). A time-out is not an error: it is told beside the guard.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        timed(self.wait_limited(guard, Limit::After(timeout)))
    }

    /// As [`wait`](Self::wait), until `deadline`; locking the mutex again may take longer.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_deadline<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        timed(self.wait_limited(guard, Limit::At(deadline)))
    }

    /// As [`wait_while`](Self::wait_while), for at most `timeout` in all. It timed out if `condition` held to the last.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weald_runtime::sync::{Condvar, Mutex};
    ///
    /// let (ready, changed) = (Mutex::new(false), Condvar::new());
    /// let waited = changed.wait_timeout_while(ready.lock(), Duration::from_millis(1), |ready| !*ready);
    /// let (guard, result) = waited.expect("nobody cancels it");
    /// assert!(!*guard && result.timed_out());
    /// ```
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        self.wait_while_limited(guard, Limit::After(timeout), condition)
    }

    /// As [`wait_timeout_while`](Self::wait_timeout_while), until `deadline`.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_deadline_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        self.wait_while_limited(guard, Limit::At(deadline), condition)
    }

    /// Wakes the one who has waited longest, if anybody waits.
    pub fn notify_one(&self) {
        let mut waiters = self.waiters.lock();
        let waiter = waiters.claim_first().map(|first| first.deliver());
        drop(waiters);
        if let Some(waiter) = waiter {
            waiter.unpark();
        }
    }

    /// Wakes all who wait now.
    pub fn notify_all(&self) {
        wait_list::wake_all(self.waiters.lock(), |waiters| waiters, |()| ());
    }

    #[track_caller]
    fn wait_while_limited<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Limit,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), Cancelled<MutexGuard<'a, T>>> {
        let (mut until, mut over) = (None, false);
        while condition(&mut guard) {
            if over {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            let limit = *until.get_or_insert_with(|| limit.resolve());
            (guard, WaitTimeoutResult(over)) = timed(self.wait_limited(guard, limit))?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    #[track_caller]
    fn wait_limited<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>, limit: Limit) -> (MutexGuard<'a, T>, Outcome) {
        let mutex = guard.mutex();
        let ((), outcome) = wait_list::wait_after(self, (), self.waiters.lock(), limit, || drop(guard));
        (mutex.lock(), outcome)
    }
}

fn timed<G>((guard, outcome): (G, Outcome)) -> Result<(G, WaitTimeoutResult), Cancelled<G>> {
    match outcome {
        Outcome::Claimed => Ok((guard, WaitTimeoutResult(false))),
        Outcome::TimedOut => Ok((guard, WaitTimeoutResult(true))),
        Outcome::Cancelled => Err(Cancelled::new(guard)),
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

impl Source for Condvar {
    type State = WaitList<()>;
    type Payload = ();

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Condition
    }

    fn waiters(state: &mut WaitList<()>) -> &mut WaitList<()> {
        state
    }

    fn abandon(&self, (): &mut (), claimed: bool) {
        if claimed {
            self.notify_one();
        }
    }
}
