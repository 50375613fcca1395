//! Owns a coroutine as the scheduler sees it: made on a stack, resumed until it suspends or is finished.
//!
//! It does not know tasks, queues or results. Two backends have the same interface: `switched`, which ships, runs a coroutine on
//! a stack of its own; `baton`, for tools that cannot follow a switch of stacks, on a thread of its own. Miri gets the latter by
//! itself, other tools with `--cfg weald_baton`.
//!
//! Invariants:
//! - A coroutine runs on one thread only, that which first resumed it.
//! - A suspended coroutine is never dropped: that would unwind its stack from outside. One that will not end is leaked.
//! - Its function does not unwind: what it runs catches panics.

#[cfg(not(any(miri, weald_baton, loom)))]
pub(crate) mod arena;
#[cfg(any(miri, weald_baton))]
mod baton;
#[cfg(not(any(miri, weald_baton, loom)))]
mod memory;
#[cfg(not(any(miri, weald_baton, loom)))]
pub(crate) mod overflow;
#[cfg(not(any(miri, weald_baton)))]
mod slots;
#[cfg(not(any(miri, weald_baton, loom)))]
pub(crate) mod stack;
#[cfg(not(any(miri, weald_baton, loom)))]
mod switched;

#[cfg(any(miri, weald_baton))]
pub(crate) use self::baton::{Coroutine, Pages, Yielder, arena, give_back, overflow, stack, worker_thread};
#[cfg(not(any(miri, weald_baton, loom)))]
pub(crate) use self::memory::{Pages, give_back};
#[cfg(not(any(miri, weald_baton, loom)))]
pub(crate) use self::switched::{Coroutine, Yielder, worker_thread};

/// Why a coroutine gives up its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspend {
    /// Until it is woken. The worker commits the park once the stack is left.
    Park,
    /// To let others run.
    Yield,
}

/// The caller's stack pointer: what its frame holds, and those of its callers, lies above. It costs an instruction.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let address;
    // SAFETY: copies a register.
    unsafe { std::arch::asm!("mov {}, rsp", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

/// An address below the caller's frame and those of its callers.
#[cfg(not(any(loom, all(target_arch = "x86_64", not(miri)))))]
#[inline(never)]
pub(crate) fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::Arc;

    use super::arena::{Arena, StackCache};
    use super::*;

    #[test]
    fn suspends_resumes_and_gives_its_stack_back() {
        let mut stacks = StackCache::new(Arc::new(Arena::new(64 * 1024, 2).expect("address space")));
        let stack = stacks.take(None).expect("a slot");
        let (said, heard) = std::sync::mpsc::channel();
        let mut coroutine = Coroutine::new(stack, move |yielder| {
            said.send(1).expect("the test listens");
            yielder.suspend(Suspend::Park);
            said.send(2).expect("the test listens");
        });
        assert!(matches!(coroutine.resume(), Some(Suspend::Park)));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1]);
        assert!(coroutine.resume().is_none(), "it should have returned");
        stacks.give(coroutine.take_stack());
        assert_eq!(heard.iter().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_call_on_the_parents_stack_borrows_and_passes_its_panic_on() {
        let mut stacks = StackCache::new(Arc::new(Arena::new(64 * 1024, 1).expect("address space")));
        let stack = stacks.take(None).expect("a slot");
        let thread = std::thread::current().id();
        let mut coroutine = Coroutine::new(stack, move |yielder| {
            let mut calls = 0;
            assert_eq!(yielder.on_parent_stack(|| (calls += 1, std::thread::current().id()).1), thread);
            let caught = panic::catch_unwind(AssertUnwindSafe(|| yielder.on_parent_stack(|| panic::resume_unwind(Box::new(7)))));
            assert_eq!(caught.map(|never: ()| never).expect_err("it panicked").downcast_ref(), Some(&7));
            assert_eq!(calls, 1);
            assert_eq!(worker_thread(), thread);
        });
        assert!(coroutine.resume().is_none());
    }

    /// What trimming relies on: below what it takes for the end of the live stack nothing is kept.
    #[cfg(not(any(miri, weald_baton)))]
    #[test]
    fn a_suspended_coroutine_keeps_nothing_far_below_its_stack_pointer() {
        let mut stacks = StackCache::new(Arc::new(Arena::new(64 * 1024, 1).expect("address space")));
        let stack = stacks.take(None).expect("a slot");
        let low = stack.bounds().low();
        let noted = std::rc::Rc::new(std::cell::Cell::new(0));
        let note = std::rc::Rc::clone(&noted);
        let mut coroutine = Coroutine::new(stack, move |yielder| {
            for _ in 0..2 {
                note.set(stack_pointer());
                yielder.suspend(Suspend::Park);
            }
        });
        assert!(matches!(coroutine.resume(), Some(Suspend::Park)));
        // Room for `TaskPtr::suspend`, which a build without optimisation calls in between.
        let unused = noted.get() - low.addr() - stack::SWITCH_FRAMES / 2;
        // SAFETY: the lowest part of a stack that nothing runs on, where nothing is kept, which is what the test is about.
        let below = unsafe { std::slice::from_raw_parts_mut(low, unused) };
        below.fill(0xa5);
        assert!(matches!(coroutine.resume(), Some(Suspend::Park)));
        assert!(below.iter().all(|&octet| octet == 0xa5), "the switch reaches deeper than {} bytes", stack::SWITCH_FRAMES / 2);
        assert!(coroutine.resume().is_none());
    }
}
