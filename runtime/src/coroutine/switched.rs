//! Owns the shipping backend: stacks of the arena, switched by corosensei.

use std::mem::ManuallyDrop;
use std::thread::{self, ThreadId};

use corosensei::CoroutineResult;

use super::Suspend;
use super::stack::{Base, Stack};

/// The way from a coroutine's stack back to its worker. It lies on the coroutine's stack.
pub(crate) type Yielder = corosensei::Yielder<(), Suspend>;

/// A function with its own stack.
pub(crate) struct Coroutine {
    inner: ManuallyDrop<corosensei::Coroutine<(), Suspend, (), Base>>,
    /// Until the function has returned. Beside what runs on it, so that nothing else need be moved then.
    stack: Option<Stack>,
}

impl Coroutine {
    /// Prepares `entry` to run on `stack` at the first resume.
    pub(crate) fn new(stack: Stack, entry: impl FnOnce(&Yielder) + 'static) -> Self {
        // SAFETY: nothing runs on the stack, which stays here until this function has returned.
        let base = unsafe { stack.lend() };
        let inner = corosensei::Coroutine::with_stack(base, move |yielder: &Yielder, ()| entry(yielder));
        Self { inner: ManuallyDrop::new(inner), stack: Some(stack) }
    }

    /// Runs it until it suspends, or returns: then there is its stack to take.
    ///
    /// # Panics
    ///
    /// If it has returned before.
    // Inlined, as all between a switch and the worker's loop: a return that the processor did not see the call of costs as much as the
    // switch.
    #[inline(always)]
    pub(crate) fn resume(&mut self) -> Option<Suspend> {
        match self.inner.resume(()) {
            CoroutineResult::Yield(suspend) => Some(suspend),
            CoroutineResult::Return(()) => None,
        }
    }

    /// The stack of a function that has returned.
    ///
    /// # Panics
    ///
    /// If it was taken, or the function has not returned.
    pub(crate) fn take_stack(&mut self) -> Stack {
        assert!(self.inner.done(), "only a function that has returned is off its stack");
        self.stack.take().expect("it is taken once")
    }
}

/// The thread that the calling code belongs to: in a coroutine, its worker's.
pub(crate) fn worker_thread() -> ThreadId {
    thread::current().id()
}
