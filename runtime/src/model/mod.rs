//! The runtime under `--cfg loom`: small models of what programs use, for checking the programs themselves.
//!
//! Owns the models; does not own loom. Each type is a few lines over [`monitor`], so that a program's state space is its own
//! and not the runtime's, whose shipping code has models beside it.
//!
//! What a model simplifies, and never hides:
//! - A coroutine is a loom thread. Which worker it runs on does not show, so [`spawn_on`] and [`spawn_local`] are [`spawn`].
//! - Time: a deadline passes at the first chance, after everybody else could make a step. So both outcomes are explored.
//! - Nothing shuts down, and coroutines are cancelled by tokens alone.
//! - Whoever waits is woken in any order.
//! - A select on a rendezvous channel meets plain sends and receives, not another select.

#[path = "../channel/error.rs"]
mod channel_error;
#[path = "../task/join_error.rs"]
mod join_error;

mod builder;
mod cancel;
pub mod channel;
mod monitor;
#[allow(unsafe_code)]
mod scope;
pub mod select;
pub mod sync;

use std::time::Duration;

use loom::thread;

pub use self::builder::Builder;
pub use self::cancel::{CancellationToken, DropGuard, is_cancelled, shield};
pub use self::join_error::{JoinError, PanicPayload};
use self::monitor::Monitor;
pub use self::scope::{Scope, ScopedJoinHandle, scope};
use self::sync::{Cancelled, WaitError};
use crate::time::Instant;

/// Runs `f`, on the calling thread of the model.
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    f()
}

/// Starts a coroutine: a thread of the model.
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_local(f)
}

/// As [`spawn`].
#[track_caller]
pub fn spawn_on<F, T>(_worker: usize, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_local(f)
}

/// As [`spawn`]. Loom runs all its threads on one thread of the system.
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let done = std::sync::Arc::new(Monitor::new(false));
    let ending = std::sync::Arc::clone(&done);
    let thread = thread::spawn(move || {
        let result = f();
        ending.change(|done| *done = true);
        result
    });
    JoinHandle { thread, done }
}

/// Lets the others go on.
pub fn yield_now() {
    thread::yield_now();
}

/// Lets the others go on.
pub fn sleep(_duration: Duration) {
    thread::yield_now();
}

/// Lets the others go on.
pub fn sleep_until(_deadline: Instant) {
    thread::yield_now();
}

/// Lets the others go on.
///
/// # Errors
/// [`Cancelled`].
pub fn try_sleep(_duration: Duration) -> Result<(), Cancelled> {
    thread::yield_now();
    if cancel::ends_waits() { Err(Cancelled::new(())) } else { Ok(()) }
}

/// Lets the others go on.
///
/// # Errors
/// [`Cancelled`].
pub fn try_sleep_until(_deadline: Instant) -> Result<(), Cancelled> {
    try_sleep(Duration::ZERO)
}

/// Runs `f`, on the calling thread of the model.
pub fn on_worker_stack<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    f()
}

/// Runs `f`; whether it would park does not show in a model.
pub fn no_park<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Waits for the caller's token.
pub fn park() {
    thread::park();
}

/// As [`park`]; nothing is cancelled.
///
/// # Errors
///
/// None in a model.
pub fn try_park() -> Result<(), sync::Cancelled> {
    park();
    Ok(())
}

/// As [`park_timeout`]; nothing is cancelled.
///
/// # Errors
///
/// None in a model.
pub fn try_park_timeout(timeout: Duration) -> Result<(), sync::Cancelled> {
    park_timeout(timeout);
    Ok(())
}

/// Lets the others go on.
pub fn park_timeout(_timeout: Duration) {
    thread::yield_now();
}

/// The calling coroutine.
#[must_use]
pub fn current() -> Coroutine {
    Coroutine(thread::current())
}

/// A handle to a coroutine.
#[derive(Clone, Debug)]
pub struct Coroutine(thread::Thread);

impl Coroutine {
    /// Makes the token available.
    pub fn unpark(&self) {
        self.0.unpark();
    }

    /// The name; models have none.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name()
    }
}

/// The right to wait for a coroutine's result.
#[derive(Debug)]
pub struct JoinHandle<T> {
    thread: thread::JoinHandle<T>,
    done: std::sync::Arc<Monitor<bool>>,
}

impl<T> JoinHandle<T> {
    /// Waits until the coroutine has ended and returns its result.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: it panicked, or the caller was cancelled.
    pub fn join(self) -> Result<T, JoinError> {
        if cancel::may_be_cancelled() {
            self.done.wait(|done| done.then_some(())).ok_or(JoinError::Cancelled)?;
        }
        self.thread.join().map_err(JoinError::panicked)
    }

    /// Waits until the coroutine has ended.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the caller was cancelled.
    pub fn wait(&mut self) -> Result<(), Cancelled> {
        self.done.wait(|done| done.then_some(())).ok_or(Cancelled::new(()))
    }

    /// As [`wait`](Self::wait); the time-out passes at the first chance.
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    pub fn wait_timeout(&mut self, _timeout: Duration) -> Result<(), WaitError> {
        before_deadline(|| self.is_finished().then_some(())).ok_or_else(cancel::wait_error)
    }

    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    pub fn wait_deadline(&mut self, _deadline: Instant) -> Result<(), WaitError> {
        self.wait_timeout(Duration::ZERO)
    }

    /// As [`join`](Self::join), but gives the handle back instead of waiting.
    ///
    /// # Errors
    ///
    /// The handle, if the coroutine has not ended.
    pub fn try_join(self) -> Result<Result<T, JoinError>, Self> {
        if self.is_finished() { Ok(self.join()) } else { Err(self) }
    }

    /// The coroutine, to unpark it.
    #[must_use]
    pub fn coroutine(&self) -> Coroutine {
        Coroutine(self.thread.thread().clone())
    }

    /// Whether the coroutine has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.done.look(|done| *done)
    }
}

/// What an operation with a deadline does: tries, lets the others go on, and tries once more.
fn before_deadline<R>(mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    attempt().or_else(|| {
        thread::yield_now();
        attempt()
    })
}
