//! Scopes in a model: coroutines that borrow from whoever waits for them.
//!
//! Owns the wait for the children. Invariant, as of the shipping scope: it neither returns nor unwinds before every child has let go of what it
//! borrows. A model that fails while a scope waits, as one that dead-locks does, cannot keep that, and ends the process with its message.

use std::fmt;
use std::io::Write;
use std::marker::PhantomData;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::cancel::{self, CancellationToken, shield};
use super::join_error::panic_message;
use super::monitor::Monitor;
use super::sync::{Cancelled, WaitError};
use super::{JoinError, before_deadline};
use crate::time::Instant;

/// Where scoped coroutines are spawned; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    children: Arc<Monitor<Children>>,
    tokens: Vec<CancellationToken>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

#[derive(Default)]
struct Children {
    running: usize,
    /// Those that panicked, and whose panic nobody has taken.
    failed: usize,
}

/// The right to a scoped coroutine's result.
pub struct ScopedJoinHandle<'scope, T> {
    result: Arc<Monitor<Option<Result<T, JoinError>>>>,
    children: Arc<Monitor<Children>>,
    scope: PhantomData<&'scope ()>,
}

/// Runs `f`, which may spawn coroutines that borrow from outside of the scope, and waits for all of them before it returns.
///
/// # Panics
/// With `f`'s panic, or if a child that was not joined panicked.
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let children = Arc::new(Monitor::new(Children::default()));
    let scope = Scope { children, tokens: cancel::inherited(), scope: PhantomData, env: PhantomData };
    let result = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let waited = panic::catch_unwind(AssertUnwindSafe(|| {
        shield(|| scope.children.wait(|children| (children.running == 0).then_some(children.failed)))
    }));
    match (result, waited) {
        (_, Err(payload)) => {
            let message = panic_message(&*payload).unwrap_or("it panicked");
            // Past what a test captures, which would be lost.
            let _ =
                writeln!(std::io::stderr(), "the model failed while a scope waited for its coroutines, which borrow from it: {message}");
            std::process::abort();
        }
        (Err(payload), Ok(_)) => panic::resume_unwind(payload),
        (Ok(_), Ok(Some(1..))) => panic!("a scoped coroutine panicked"),
        (Ok(value), Ok(_)) => value,
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Spawns a coroutine: a thread of the model.
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_local(f)
    }

    /// As [`spawn`](Self::spawn).
    pub fn spawn_on<F, T>(&'scope self, _worker: usize, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_local(f)
    }

    /// As [`spawn`](Self::spawn). Loom runs all its threads on one thread of the system.
    pub fn spawn_local<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let result = Arc::new(Monitor::new(None));
        self.children.look(|children| children.running += 1);
        let (promise, children, tokens) = (Arc::clone(&result), Arc::clone(&self.children), self.tokens.clone());
        let closure: Box<dyn FnOnce() + 'scope> = Box::new(move || {
            let ended = panic::catch_unwind(AssertUnwindSafe(|| cancel::run_inside(&tokens, f))).map_err(JoinError::panicked);
            let failed = usize::from(ended.is_err());
            children.look(|children| children.failed += failed);
            promise.change(|promise| *promise = Some(ended));
            // With the result, if nobody else has it: nothing borrowed is left here.
            drop(promise);
            children.change(|children| children.running -= 1);
        });
        // SAFETY: only the lifetime changes. The closure has dropped what it borrows when it counts itself out, and `scope` waits for that
        // or ends the process.
        let closure = unsafe { mem::transmute::<Box<dyn FnOnce() + 'scope>, Box<dyn FnOnce() + 'static>>(closure) };
        thread::spawn(closure);
        ScopedJoinHandle { result, children: Arc::clone(&self.children), scope: PhantomData }
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the coroutine's result.
    ///
    /// # Errors
    /// [`JoinError`]: it panicked, or the caller was cancelled.
    pub fn join(self) -> Result<T, JoinError> {
        self.result.wait(Option::take).map_or(Err(JoinError::Cancelled), |result| self.ended(result))
    }

    /// Waits until the result is there.
    ///
    /// # Errors
    /// [`Cancelled`] if the caller was cancelled.
    pub fn wait(&mut self) -> Result<(), Cancelled> {
        self.result.wait(|result| result.is_some().then_some(())).ok_or(Cancelled::new(()))
    }

    /// As [`wait`](Self::wait); the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_timeout(&mut self, _timeout: Duration) -> Result<(), WaitError> {
        before_deadline(|| self.is_finished().then_some(())).ok_or_else(cancel::wait_error)
    }

    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_deadline(&mut self, _deadline: Instant) -> Result<(), WaitError> {
        self.wait_timeout(Duration::ZERO)
    }

    /// As [`join`](Self::join), but gives the handle back instead of waiting.
    ///
    /// # Errors
    /// The handle, if the coroutine has not ended.
    pub fn try_join(self) -> Result<Result<T, JoinError>, Self> {
        match self.result.look(Option::take) {
            Some(result) => Ok(self.ended(result)),
            None => Err(self),
        }
    }

    /// Whether the result is there.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.result.look(|result| result.is_some())
    }

    fn ended(&self, result: Result<T, JoinError>) -> Result<T, JoinError> {
        result.inspect_err(|_| self.children.look(|children| children.failed -= 1))
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}
