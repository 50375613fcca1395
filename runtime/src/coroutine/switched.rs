//! Owns the shipping backend: stacks of the arena, switched by corosensei.

use std::mem::ManuallyDrop;
use std::thread::{self, ThreadId};

use corosensei::CoroutineResult;

use super::stack::{Base, Stack};
use super::{Resumed, Suspend};

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

    /// Runs it until it suspends or returns, and hands its stack back then.
    ///
    /// # Panics
    ///
    /// If it has returned before.
    // Inlined, as all between a switch and the worker's loop: a return that the processor did not see the call of costs as much as the
    // switch.
    #[inline(always)]
    pub(crate) fn resume(&mut self) -> Resumed {
        match self.inner.resume(()) {
            CoroutineResult::Yield(suspend) => Resumed::Suspended(suspend),
            CoroutineResult::Return(()) => Resumed::Finished(self.stack.take().expect("it returns once")),
        }
    }
}

/// The thread that the calling code belongs to: in a coroutine, its worker's.
pub(crate) fn worker_thread() -> ThreadId {
    thread::current().id()
}
