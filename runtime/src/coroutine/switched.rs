//! Owns the shipping backend: stacks of the arena, switched by corosensei.

use std::mem::ManuallyDrop;
use std::thread::{self, ThreadId};

use corosensei::CoroutineResult;

use super::stack::Stack;
use super::{Resumed, Suspend};

/// The way from a coroutine's stack back to its worker. It lies on the coroutine's stack.
pub(crate) type Yielder = corosensei::Yielder<(), Suspend>;

/// A function with its own stack.
pub(crate) struct Coroutine(ManuallyDrop<corosensei::Coroutine<(), Suspend, (), Stack>>);

impl Coroutine {
    /// Prepares `entry` to run on `stack` at the first resume.
    pub(crate) fn new(stack: Stack, entry: impl FnOnce(&Yielder) + 'static) -> Self {
        let inner = corosensei::Coroutine::with_stack(stack, move |yielder: &Yielder, ()| entry(yielder));
        Self(ManuallyDrop::new(inner))
    }

    /// Runs it until it suspends or returns. A finished coroutine is taken out of `slot`, and its stack handed back.
    ///
    /// # Panics
    ///
    /// If there is no coroutine in the slot.
    // Inlined, as all between a switch and the worker's loop: a return that the processor did not see the call of costs as much as the
    // switch.
    #[inline(always)]
    pub(crate) fn resume(slot: &mut Option<Self>) -> Resumed {
        let coroutine = slot.as_mut().expect("only a started task is resumed");
        match coroutine.0.resume(()) {
            CoroutineResult::Yield(suspend) => Resumed::Suspended(suspend),
            CoroutineResult::Return(()) => {
                let finished = slot.take().expect("it was there");
                Resumed::Finished(ManuallyDrop::into_inner(finished.0).into_stack())
            }
        }
    }
}

/// The thread that the calling code belongs to: in a coroutine, its worker's.
pub(crate) fn worker_thread() -> ThreadId {
    thread::current().id()
}
