//! Owns a coroutine as the scheduler sees it: made on a stack, resumed until it suspends or is finished.
//!
//! It does not know tasks, queues or results. Stacks come from [`arena`]; the switch itself is corosensei's.
//!
//! Invariants:
//! - A coroutine runs on one thread only, that which first resumed it.
//! - A suspended coroutine is never dropped: that would unwind its stack from outside. One that will not end is leaked.
//! - Its function does not unwind: what it runs catches panics.

pub(crate) mod arena;
mod memory;
pub(crate) mod overflow;
pub(crate) mod stack;

use std::mem::ManuallyDrop;

use corosensei::CoroutineResult;

use self::stack::Stack;

/// Why a coroutine gives up its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspend {
    /// Until it is woken. The worker commits the park once the stack is left.
    Park,
    /// To let others run.
    Yield,
}

/// How a resume ended.
pub(crate) enum Resumed {
    /// It suspended, and can be resumed.
    Suspended(Suspend),
    /// Its function returned; nothing runs on the stack any more.
    Finished(Stack),
}

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::arena::{Arena, StackCache};
    use super::*;

    #[test]
    fn suspends_resumes_and_gives_its_stack_back() {
        let mut stacks = StackCache::new(Arc::new(Arena::new(64 * 1024, 2).expect("address space")));
        let stack = stacks.take(None).expect("a slot");
        let bounds = stack.bounds();
        let (said, heard) = std::sync::mpsc::channel();
        let mut slot = Some(Coroutine::new(stack, move |yielder| {
            said.send(1).expect("the test listens");
            yielder.suspend(Suspend::Park);
            said.send(2).expect("the test listens");
        }));
        assert!(matches!(Coroutine::resume(&mut slot), Resumed::Suspended(Suspend::Park)));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1]);
        let Resumed::Finished(stack) = Coroutine::resume(&mut slot) else { panic!("it should have returned") };
        assert_eq!(stack.bounds(), bounds);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [2]);
        assert!(slot.is_none());
    }
}
