//! Locks and signals that park the waiting coroutine and never block its worker. All work from coroutines and from plain
//! threads, in any mix.
//!
//! Names are std's where std has the thing. Three differences: nothing is poisoned by a panic, since a panic in a coroutine is
//! that coroutine's join error and not the process's, so that [`Mutex::try_lock`] and its like give an `Option`; a lock has forms with a time
//! limit; and waits can be cancelled, as when the runtime shuts down, which is an error of its own kind. Only locks
//! ([`Mutex::lock`], [`RwLock::read`], [`RwLock::write`]) are not cancelled: a critical section ends by itself, and its callers have nothing better to do.
//!
//! Owns what these types share: how the outcome of a wait reads to its caller.

mod barrier;
mod condvar;
mod error;
mod lazy_lock;
#[allow(unsafe_code)]
mod mutex;
mod notify;
mod once_lock;
#[allow(unsafe_code)]
mod rw_lock;
mod semaphore;
mod semaphore_guard;
mod wait_group;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use error::{Cancelled, LockTimeoutError, WaitError};
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
pub use notify::Notify;
pub use once_lock::OnceLock;
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::Semaphore;
pub use semaphore_guard::SemaphoreGuard;
pub use wait_group::WaitGroup;

use crate::wait_list::Outcome;

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
