//! Owns structured concurrency: coroutines that may borrow from whoever waits for them.
//!
//! It does not own how coroutines are made or joined (`task`).
//!
//! Invariants:
//! - [`scope`] neither returns nor unwinds before every child's end is published, which happens after the child's stack was
//!   left. A shutdown's unwinding is caught, the children waited for, and then raised again; whoever cannot wait aborts.
//! - A child that cannot end keeps its scope waiting, and so alive: what it borrows is leaked with it, never dangling.
//! - A result that borrows is dropped by its child or by its handle, both of which are gone before the scope is.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use crate::builder::Handle;
use crate::cancel::{self, CancellationToken};
use crate::channel::{RecvError, TryRecvError, oneshot};
use crate::contained::discard;
use crate::fatal::{FatalDrop, fatal};
use crate::park::{self, Unparked, WaitsFor};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::scheduler::current;
use crate::select::Selectable;
use crate::spawn::Builder;
use crate::sync::{Cancelled, WaitError};
use crate::task::{Attributes, JoinError, JoinHandle, ShutdownUnwind, refusal};
use crate::time::Instant;
use crate::wait_list::Limit;

/// Below so many children none is looked for that has ended.
const SWEEP: usize = 64;

/// Runs `f`, which may spawn coroutines that borrow from outside of the scope, and waits for all of them before it returns;
/// as `std::thread::scope`.
///
/// The children are inside of the [`CancellationToken`]s that the caller is inside of. When the caller is cancelled and `f` has
/// returned, those of them that still run are cancelled, too; waiting for them is not.
///
/// ```
/// weald_runtime::run(|| {
///     let mut words = vec!["one", "two"];
///     let mut count = 0;
///     weald_runtime::scope(|s| {
///         s.spawn(|| words.push("three"));
///         s.spawn(|| count += 1);
///     });
///     assert_eq!((words.len(), count), (3, 1));
/// });
/// ```
///
/// # Panics
///
/// With `f`'s panic; if a child that was not joined panicked; outside of a runtime (use
/// [`Handle::scope`](crate::Handle::scope) there); and where nothing may block.
///
/// # Aborts
///
/// If children have not ended and the caller unwinds from a panic that began outside of the scope.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    match Handle::current() {
        Some(handle) => scope_on(handle, f),
        None => panic!("scope outside of a runtime: call it inside of run(..), or use Handle::scope"),
    }
}

#[track_caller]
pub(crate) fn scope_on<'env, F, T>(handle: Handle, f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    park::refuse_where_nothing_blocks();
    let scope = Scope {
        handle,
        tokens: cancel::inherited(),
        children: Mutex::new(Vec::new()),
        swept: AtomicUsize::new(SWEEP),
        cancelled: AtomicBool::new(false),
        failed: AtomicUsize::new(0),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let waits = FatalDrop("cannot wait for scoped coroutines, which may borrow from their scope");
    let unwound = scope.wait();
    mem::forget(waits);
    match (result, unwound) {
        (Err(payload), _) | (Ok(_), Some(payload)) => panic::resume_unwind(payload),
        // Ordering: Relaxed, the children's ends were acquired by the wait.
        (Ok(_), None) if scope.failed.load(Ordering::Relaxed) > 0 => panic!("a scoped coroutine panicked"),
        (Ok(value), None) => value,
    }
}

/// Where scoped coroutines are spawned; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    handle: Handle,
    tokens: Box<[CancellationToken]>,
    /// Those that may not have ended.
    children: Mutex<Vec<JoinHandle<()>>>,
    /// At so many children those that have ended are taken out.
    swept: AtomicUsize,
    /// New children are cancelled at once.
    cancelled: AtomicBool,
    /// Children that failed and whose panic nobody has taken.
    failed: AtomicUsize,
    /// Invariant, as std's: a scope that shrinks would let children borrow what ends before them.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// The right to a scoped coroutine's result.
pub struct ScopedJoinHandle<'scope, T> {
    result: oneshot::Receiver<Result<T, JoinError>>,
    failed: &'scope AtomicUsize,
    coroutine: park::Coroutine,
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Spawns a coroutine that any worker may begin.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_with(Attributes::default().spawned_here(), f)
    }

    /// Spawns a coroutine on one worker, counted from zero.
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    #[track_caller]
    pub fn spawn_on<F, T>(&'scope self, worker: usize, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let attributes = Attributes::default().spawned_here();
        self.spawn_sent(f, |closure| self.handle.shared.spawn_on(worker, closure, attributes))
    }

    /// Spawns a coroutine on the worker of the caller, on whose thread it stays, so that it need not be `Send`.
    ///
    /// # Panics
    ///
    /// Outside of the scope's runtime.
    #[track_caller]
    pub fn spawn_local<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let here = current::with(|local| local.is_some_and(|local| std::sync::Arc::ptr_eq(&local.shared, &self.handle.shared)));
        assert!(here, "spawn_local outside of the scope's runtime");
        let (closure, result) = self.prepare(f);
        // SAFETY: only the lifetime changes; `wait` sees to it that the closure's end comes before the scope's.
        let closure = unsafe { mem::transmute::<Box<dyn FnOnce() + 'scope>, Box<dyn FnOnce() + 'static>>(Box::new(closure)) };
        self.adopt(Builder::new().spawn_local(closure), result)
    }

    /// For [`Builder::spawn_scoped`].
    pub(crate) fn spawn_with<F, T>(&'scope self, attributes: Attributes, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_sent(f, |closure| self.handle.shared.spawn(closure, attributes))
    }

    fn spawn_sent<F, T>(
        &'scope self,
        f: F,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send + 'static>) -> JoinHandle<()>,
    ) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let (closure, result) = self.prepare(f);
        let closure: Box<dyn FnOnce() + Send + 'scope> = Box::new(closure);
        // SAFETY: as in `spawn_local`.
        let closure = unsafe { mem::transmute::<Box<dyn FnOnce() + Send + 'scope>, Box<dyn FnOnce() + Send + 'static>>(closure) };
        self.adopt(spawn(closure), result)
    }

    fn prepare<F, T>(&'scope self, f: F) -> (impl FnOnce() + use<'scope, 'env, F, T>, oneshot::Receiver<Result<T, JoinError>>)
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let (sender, receiver) = oneshot::channel_for(WaitsFor::Join);
        let promise = Promise { sender: Some(sender), failed: &self.failed };
        let closure = move || {
            let result = panic::catch_unwind(AssertUnwindSafe(|| cancel::run_inside(&self.tokens, f)));
            match result {
                Err(payload) if payload.is::<ShutdownUnwind>() => panic::resume_unwind(payload),
                result => promise.keep(result.map_err(JoinError::panicked)),
            }
        };
        (closure, receiver)
    }

    fn adopt<T>(&'scope self, child: JoinHandle<()>, result: oneshot::Receiver<Result<T, JoinError>>) -> ScopedJoinHandle<'scope, T> {
        let coroutine = child.coroutine();
        let mut children = self.children.lock();
        // Under the lock, so that either `cancel_children` finds the child or this finds the flag.
        if self.cancelled.load(Ordering::Relaxed) {
            child.cancel();
        }
        let mut ended = Vec::new();
        // Ordering: Relaxed, guarded by the lock.
        if children.len() >= self.swept.load(Ordering::Relaxed) {
            ended.extend(children.extract_if(.., |child| child.is_finished()));
            self.swept.store(SWEEP.max(2 * children.len()), Ordering::Relaxed);
        }
        children.push(child);
        drop(children);
        ended.into_iter().for_each(|child| self.ended(child));
        ScopedJoinHandle { result, failed: &self.failed, coroutine }
    }

    /// Waits for every child, whatever happens. Returns the payload of a shutdown's unwinding, which the caller raises again.
    #[track_caller]
    fn wait(&self) -> Option<Box<dyn Any + Send>> {
        let mut unwound = None;
        loop {
            // A child may spawn another before it ends.
            let Some(child) = self.children.lock().pop() else { return unwound };
            while !child.is_finished() {
                // Once the children are cancelled a cancellation of the caller has nothing more to say.
                let told = self.cancelled.load(Ordering::Relaxed);
                match panic::catch_unwind(AssertUnwindSafe(|| child.wait_here(told))) {
                    Ok(Unparked::Cancelled) => {
                        child.cancel();
                        self.cancel_children();
                    }
                    Ok(Unparked::Token | Unparked::TimedOut) => {}
                    // Each turn yields to the worker, whose phase ends the shutdown: if a child cannot end, neither does this.
                    Err(payload) if payload.is::<ShutdownUnwind>() => unwound = Some(payload),
                    Err(_) => {
                        fatal(format_args!("cannot wait for a scoped coroutine, which may borrow from its scope"));
                    }
                }
            }
            self.ended(child);
        }
    }

    /// A child whose closure panicked in its drop has failed, too.
    fn ended(&self, child: JoinHandle<()>) {
        let ended = child.join_shielded();
        if matches!(ended, Err(JoinError::Panicked(_))) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        discard(ended);
    }

    fn cancel_children(&self) {
        let children = self.children.lock();
        self.cancelled.store(true, Ordering::Relaxed);
        children.iter().for_each(JoinHandle::cancel);
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the coroutine's result.
    ///
    /// A caller who is cancelled while it waits has given the handle away, and with it the result; [`wait`](Self::wait) keeps both.
    ///
    /// # Errors
    ///
    /// [`JoinError`], as of [`JoinHandle::join`](crate::JoinHandle::join).
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        match self.result.recv() {
            Ok(result) => self.ended(result),
            Err(RecvError::Disconnected) => Err(JoinError::ShutDown),
            Err(RecvError::Cancelled) => Err(JoinError::Cancelled),
        }
    }

    /// Waits until the result is there, and keeps the handle: after `Ok` a [`join`](Self::join) does not wait.
    ///
    /// ```
    /// use weald_runtime::{CancellationToken, run, scope};
    ///
    /// run(|| {
    ///     let (stop, numbers) = (CancellationToken::new(), [1, 2, 3]);
    ///     scope(|s| {
    ///         let mut sum = s.spawn(|| numbers.iter().sum::<u32>());
    ///         stop.cancel();
    ///         let _cancelled = stop.run(|| sum.wait());
    ///         assert_eq!(sum.join().expect("no panic"), 6);
    ///     });
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the caller is cancelled while it waits.
    #[track_caller]
    pub fn wait(&mut self) -> Result<(), Cancelled> {
        // Without a limit there is no time-out, so whatever error there is, is the cancellation.
        self.result.wait_settled(Limit::Never).map_err(|_| Cancelled::new(()))
    }

    /// As [`wait`](Self::wait), at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if the result did not come in time, or the caller is cancelled.
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitError> {
        self.result.wait_settled(Limit::After(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    #[track_caller]
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<(), WaitError> {
        self.result.wait_settled(Limit::At(deadline))
    }

    /// As [`join`](Self::join), but gives the handle back instead of waiting.
    ///
    /// # Errors
    ///
    /// The handle, if the coroutine has not ended.
    pub fn try_join(self) -> Result<Result<T, JoinError>, Self> {
        match self.result.try_recv() {
            Ok(result) => Ok(self.ended(result)),
            Err(TryRecvError::Disconnected) => Ok(Err(JoinError::ShutDown)),
            Err(TryRecvError::Empty) => Err(self),
        }
    }

    /// Tells the coroutine to end; see [`JoinHandle::cancel`](crate::JoinHandle::cancel).
    pub fn cancel(&self) {
        self.coroutine.cancel();
    }

    /// Whether the coroutine has ended, so that [`join`](Self::join) would not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.coroutine.is_finished()
    }

    /// The coroutine, to unpark it.
    #[must_use]
    pub fn coroutine(&self) -> &park::Coroutine {
        &self.coroutine
    }

    fn ended(&self, result: Result<T, JoinError>) -> Result<T, JoinError> {
        result.inspect_err(|_| {
            // Ordering: Relaxed; counted before the error was sent.
            self.failed.fetch_sub(1, Ordering::Relaxed);
        })
    }
}

/// The result is there, so that [`join`](ScopedJoinHandle::join) does not wait; as for a [`JoinHandle`].
impl<'a, 'scope, T> Selectable for &'a mut ScopedJoinHandle<'scope, T> {
    type Output = ();
    type Arm = oneshot::Settled<'a, Result<T, JoinError>>;

    fn into_arm(self) -> Self::Arm {
        self.result.settled()
    }
}

/// A child's end of the channel to its handle, also if the child never begins.
struct Promise<'scope, T> {
    sender: Option<oneshot::Sender<Result<T, JoinError>>>,
    failed: &'scope AtomicUsize,
}

impl<T> Promise<'_, T> {
    fn keep(mut self, result: Result<T, JoinError>) {
        self.send(result);
    }

    fn send(&mut self, result: Result<T, JoinError>) {
        if result.is_err() {
            // Ordering: Relaxed, read after this coroutine's end, or by who received the error.
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        // Without a handle the result is dropped here.
        drop(self.sender.take().map(|sender| sender.send(result)));
    }
}

impl<T> Drop for Promise<'_, T> {
    fn drop(&mut self) {
        if self.sender.is_some()
            && let Some(error) = refusal::no_stack()
        {
            self.send(Err(JoinError::NoStack(error)));
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("coroutine", &self.coroutine).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_lives_long_keeps_nothing_of_children_that_have_ended() {
        crate::Runtime::builder().workers(1).build().expect("a runtime").run(|| {
            scope(|s| {
                for _ in 0..if cfg!(miri) { 2 } else { 20 } * SWEEP {
                    s.spawn(|| ()).join().expect("no panic");
                    assert!(s.children.lock().len() <= SWEEP + 1);
                }
            });
        });
    }
}
