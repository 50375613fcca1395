//! Locks and signals that park the waiting coroutine and never block its worker. All work from coroutines and from plain
//! threads, in any mix.
//!
//! Names are std's where std has the thing. Two differences: nothing is poisoned by a panic, since a panic in a coroutine is
//! that coroutine's join error and not the process's; and waits can be cancelled when the runtime shuts down, which is an
//! error of its own kind. Only locks ([`Mutex::lock`], [`RwLock::read`],
//! [`RwLock::write`]) are not cancelled: a critical section ends by itself, and its callers have nothing better to do.
//!
//! Owns the errors that these types share.

mod barrier;
mod condvar;
#[allow(unsafe_code)]
mod mutex;
mod notify;
#[allow(unsafe_code)]
mod rw_lock;
mod semaphore;
mod wait_group;

use std::{error::Error, fmt};

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use notify::Notify;
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::Semaphore;
pub use wait_group::WaitGroup;

use crate::wait_list::Outcome;

/// The calling coroutine was cancelled while it waited. Carries what the caller had given up for the wait, if anything: a
/// [`Condvar`] gives the mutex's guard back, as std's `PoisonError` does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cancelled<G = ()>(G);

impl<G> Cancelled<G> {
    pub(crate) fn new(given_back: G) -> Self {
        Self(given_back)
    }

    /// What the wait gives back.
    pub fn into_inner(self) -> G {
        self.0
    }
}

impl<G> fmt::Debug for Cancelled<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancelled")
    }
}

impl<G> fmt::Display for Cancelled<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CANCELLED)
    }
}

impl<G> Error for Cancelled<G> {}

const CANCELLED: &str = "the coroutine was cancelled while it waited";

/// Why a wait with a deadline failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The deadline passed first.
    Timeout,
    /// The calling coroutine was cancelled.
    Cancelled,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "the deadline passed",
            Self::Cancelled => CANCELLED,
        })
    }
}

impl Error for WaitError {}

/// Why a lock was not got by its deadline: it was held all the while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockTimeoutError;

impl fmt::Display for LockTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock was held until the deadline")
    }
}

impl Error for LockTimeoutError {}

/// The outcome of a wait as its caller sees it.
fn waited(outcome: Outcome) -> Result<(), WaitError> {
    match outcome {
        Outcome::Claimed => Ok(()),
        Outcome::TimedOut => Err(WaitError::Timeout),
        Outcome::Cancelled => Err(WaitError::Cancelled),
    }
}

/// The outcome of a wait without a deadline.
fn waited_for_ever(result: Result<(), WaitError>) -> Result<(), Cancelled> {
    // A wait without a deadline cannot time out, so whatever error there is, is the cancellation.
    result.map_err(|_| Cancelled::new(()))
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
