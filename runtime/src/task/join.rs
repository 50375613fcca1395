//! Owns the way to a task's result: the handle that waits for it.
//!
//! It does not own the result (the task's stage does) nor the protocol of the join slot (`task_state`).
//!
//! Invariant: a registration is taken back before the handle's wait ends without the task's end.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::time::Duration;

use super::{JoinError, TaskPtr};
use crate::lent_waiter::{self, LentWaiter};
use crate::park::{self, Cancellation, Unparked, WaitsFor};
use crate::primitive::atomic::Ordering;
use crate::primitive::spin_loop;
use crate::sync::{Cancelled, WaitError};
use crate::task_state::{Memory, Registration};
use crate::time::Instant;

/// Pauses of the processor for which a leaving joiner waits for the finisher; then it gives up its time slice for each look.
const SPIN_ROUNDS: u32 = 128;

/// The right to wait for a coroutine's result. Dropping it lets the coroutine run on; at its end the coroutine then drops its result
/// itself, where that may block. Of one that a shutdown refuses, the function is dropped by a worker or by the one that spawns, where
/// that may not block.
///
/// ```
/// use weald_runtime::{run, spawn};
///
/// run(|| {
///     let lucky = spawn(|| "done");
///     let unlucky = spawn(|| -> u8 { panic!("out of luck") });
///     assert_eq!(lucky.join().expect("no panic"), "done");
///     let error = unlucky.join().expect_err("it panicked");
///     assert_eq!(error.to_string(), "the coroutine panicked: out of luck");
/// });
/// ```
pub struct JoinHandle<T> {
    /// Alive by the handle's bit in the state word.
    pub(super) task: TaskPtr,
    pub(super) result: PhantomData<T>,
}

// SAFETY: a handle hands T from the coroutine's worker to its owner; of the task it uses what a `TaskRef` may, and as the one
// handle the stage and the join slot under the protocol of `task_state`.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: as for Send; `&JoinHandle` gives out no `T`.
unsafe impl<T: Sync> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Waits until the coroutine has ended and returns its result.
    ///
    /// A caller who is cancelled while it waits has given the handle away, and with it the result; [`wait`](Self::wait) keeps both.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: the coroutine panicked, there was no stack for it, or its runtime was shut down before it had ended; or the caller is
    /// cancelled, and the coroutine runs on.
    ///
    /// # Panics
    ///
    /// If it would have to wait on a worker's own stack, as in a hook; use [`try_join`](Self::try_join) there.
    #[inline(always)]
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        match self.task.wait(None, Cancellation::Returns, true) {
            Unparked::Token => self.into_result(),
            Unparked::TimedOut | Unparked::Cancelled => Err(JoinError::Cancelled),
        }
    }

    /// Waits until the coroutine has ended, and keeps the handle: after `Ok` a [`join`](Self::join) does not wait.
    ///
    /// ```
    /// use weald_runtime::{CancellationToken, channel, run, spawn};
    ///
    /// run(|| {
    ///     let stop = CancellationToken::new();
    ///     stop.cancel();
    ///     let (question, asked) = channel::bounded::<u32>(1);
    ///     let mut child = spawn(move || asked.recv().map(|number| number + 1));
    ///     if stop.run(|| child.wait()).is_err() {
    ///         // The caller has to end; the child need not, and its result is not lost.
    ///         question.send(41).expect("the child waits");
    ///     }
    ///     assert_eq!(child.join().expect("no panic"), Ok(42));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the caller is cancelled while it waits. How the coroutine ended is for `join` to say.
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join).
    #[track_caller]
    pub fn wait(&mut self) -> Result<(), Cancelled> {
        match self.task.wait(None, Cancellation::Returns, true) {
            Unparked::Token => Ok(()),
            Unparked::TimedOut | Unparked::Cancelled => Err(Cancelled::new(())),
        }
    }

    /// As [`wait`](Self::wait), at most for `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weald_runtime::{run, spawn, try_sleep};
    ///
    /// run(|| {
    ///     let mut child = spawn(|| try_sleep(Duration::from_secs(60)).is_err());
    ///     if child.wait_timeout(Duration::from_millis(5)).is_err() {
    ///         child.cancel();
    ///     }
    ///     assert!(child.join().expect("no panic"));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`WaitError`] if the coroutine has not ended in time, or the caller is cancelled.
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join).
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_deadline(Instant::now() + timeout)
    }

    /// As [`wait`](Self::wait), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join).
    #[track_caller]
    pub fn wait_deadline(&mut self, deadline: Instant) -> Result<(), WaitError> {
        match self.task.wait(Some(deadline), Cancellation::Returns, true) {
            Unparked::Token => Ok(()),
            Unparked::TimedOut => Err(WaitError::Timeout),
            Unparked::Cancelled => Err(WaitError::Cancelled),
        }
    }

    /// As [`join`](Self::join), but gives the handle back instead of waiting.
    ///
    /// # Errors
    ///
    /// The handle, if the coroutine has not ended.
    pub fn try_join(self) -> Result<Result<T, JoinError>, Self> {
        if self.is_finished() { Ok(self.into_result()) } else { Err(self) }
    }

    /// Waits for the coroutine's end, on behalf of its scope, which may be unwound from here and come again.
    #[track_caller]
    pub(crate) fn wait_here(&self, shielded: bool) -> Unparked {
        self.task.wait(None, if shielded { Cancellation::Shielded } else { Cancellation::Returns }, false)
    }

    /// As [`join`](Self::join), although the caller is cancelled.
    #[track_caller]
    pub(crate) fn join_shielded(self) -> Result<T, JoinError> {
        match self.task.wait(None, Cancellation::Shielded, true) {
            Unparked::Token => self.into_result(),
            Unparked::TimedOut | Unparked::Cancelled => unreachable!("a shielded wait without a deadline ends with the task"),
        }
    }

    /// Tells the coroutine to end: from now on its blocking calls return their errors of cancellation, whatever they would
    /// wait for, and [`is_cancelled`](crate::is_cancelled) is true in it. What it spawned is not told.
    ///
    /// Nothing is unwound, and nothing forces the coroutine: what it does then is its result. One that has not begun begins,
    /// and finds itself cancelled.
    ///
    /// ```
    /// weald_runtime::run(|| {
    ///     let (sender, receiver) = weald_runtime::channel::bounded::<u32>(1);
    ///     let child = weald_runtime::spawn(move || receiver.recv().is_err());
    ///     child.cancel();
    ///     assert!(child.join().expect("no panic"));
    ///     drop(sender);
    /// });
    /// ```
    pub fn cancel(&self) {
        self.task.cancel();
    }

    /// Whether the coroutine has ended, so that [`join`](Self::join) would not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.header().state.is_done()
    }

    /// The coroutine, to unpark it.
    #[must_use]
    pub fn coroutine(&self) -> park::Coroutine {
        park::Coroutine::from_task(self.task.to_ref())
    }

    /// Of a task that is done.
    #[inline]
    fn into_result(self) -> Result<T, JoinError> {
        let handle = ManuallyDrop::new(self);
        let mut result = MaybeUninit::<Result<T, JoinError>>::uninit();
        // SAFETY: the task is done and this is the handle, so the stage is ours; `T` is the type the task was made with.
        unsafe {
            (handle.task.header().vtable.take_result)(handle.task.0, result.as_mut_ptr().cast());
        }
        handle.task.drop_interest(|| ());
        // SAFETY: written above.
        unsafe { result.assume_init() }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // SAFETY: the task is done, and the result the handle's.
        self.task.drop_interest(|| unsafe { (self.task.header().vtable.drop_stage)(self.task.0) });
    }
}

/// Methods for who has the join handle.
impl TaskPtr {
    /// `owned`: nobody else has the handle until this returns.
    // See `switched::Coroutine::resume`.
    #[inline(always)]
    #[track_caller]
    fn wait(self, deadline: Option<Instant>, cancellation: Cancellation, owned: bool) -> Unparked {
        let state = self.state();
        if state.is_done() {
            return Unparked::Token;
        }
        let Some(registered) = Registered::new(self, owned) else { return Unparked::Token };
        loop {
            let unparked = park::park_with(deadline, cancellation, WaitsFor::Join);
            if state.is_done() {
                return Unparked::Token;
            }
            if unparked != Unparked::Token {
                drop(registered);
                // It may have ended while we left.
                return if state.is_done() { Unparked::Token } else { unparked };
            }
        }
    }

    /// The join handle goes; if the task is done, `drop_result` is called before.
    #[inline]
    fn drop_interest(self, drop_result: impl FnOnce()) {
        if self.header().state.drop_interest(drop_result) == Memory::Free {
            // SAFETY: as the state says.
            unsafe { self.free() };
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("coroutine", &self.coroutine()).finish_non_exhaustive()
    }
}

/// A joiner's registration. The joiner stays until it is taken back (its park may unwind), or the finisher has done with it.
pub struct Registered(TaskPtr);

impl Registered {
    /// Registers the caller, who has the handle and has not registered before; `owned`, if nobody else has the handle. `None`: the
    /// task is done.
    #[inline(always)]
    #[track_caller]
    pub(super) fn new(task: TaskPtr, owned: bool) -> Option<Self> {
        let header = task.header();
        // Ordering: Relaxed; nobody is registered (a registration ends with its wait), so the slot is the handle's.
        header.joiner.store(LentWaiter::current().into_raw(), Ordering::Relaxed);
        if header.state.register_joiner(owned) == Registration::AlreadyDone {
            header.joiner.store(lent_waiter::none(), Ordering::Relaxed);
            return None;
        }
        Some(Self(task))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let header = self.0.header();
        if header.state.unregister_joiner() {
            // Ordering: Relaxed; no longer registered, so the slot is the handle's again.
            header.joiner.store(lent_waiter::none(), Ordering::Relaxed);
            return;
        }
        // The finisher is a few instructions from there, unless its thread has lost its processor.
        let mut rounds = 0;
        // Ordering: Acquire pairs with the Release in `TaskPtr::finish`.
        while !header.joiner.load(Ordering::Acquire).is_null() {
            if rounds < SPIN_ROUNDS {
                rounds += 1;
                spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}
