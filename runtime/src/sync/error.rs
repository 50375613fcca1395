//! The errors of waiting.

use std::{error::Error, fmt};

/// The calling coroutine, or thread, was cancelled while it waited, by the runtime's shutdown for example. Carries what the caller had given
/// up for the wait, if anything: a [`Condvar`](super::Condvar) gives the mutex's guard back, as std's `PoisonError` does.
///
/// A call of I/O that was cancelled has it inside of its `io::Error`, as `error.get_ref()`. Converted into an `io::Error` it is the same.
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

const CANCELLED: &str = "the caller was cancelled while it waited";

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
