//! Owns the state word of a task and every transition of it. Nothing else touches the word.
//!
//! It does not own queues, stacks or the result: a transition's return value tells the caller what it must now do with
//! those, and is `#[must_use]`.
//!
//! ```text
//!             unpark, time_out, cancel: set a flag
//!            +--------+
//!            v        |   commit_park (no flag)
//!        +----------------+ ------------------> +--------+
//!        |    runnable    |                     | parked |
//!        +----------------+ <------------------ +--------+
//!            |               unpark, time_out, cancel: whoever clears PARKED must enqueue
//!            | finish
//!            v
//!        +----------------+
//!        |      done      |  final; flags are set no more, the joiner is woken once
//!        +----------------+
//! ```
//! *Runnable* covers not yet started, queued and running: in all of them somebody will look at the flags before the task
//! can be parked, so a wake has nothing to do but to set one.
//!
//! Invariants:
//! - Exactly one caller sees each departure from *parked*, and that caller enqueues the task: it is in at most one queue.
//! - A flag set before `commit_park` makes the commit fail: no wake is lost between the decision to park and the switch.
//! - `JOIN_WAITER` lends the join slot: the joiner writes the slot before setting it and touches it again only after
//!   clearing it; `finish` that sees it set owns the slot from then on.
//! - Of `finish` and `drop_interest`, exactly one sees the other's bit, and that one drops the result.

use crate::primitive::atomic::{AtomicU32, Ordering};

const PARKED: u32 = 1 << 0;
const DONE: u32 = 1 << 1;
const TOKEN: u32 = 1 << 2;
const TIMED_OUT: u32 = 1 << 3;
const CANCELLED: u32 = 1 << 4;
const UNWINDING: u32 = 1 << 5;
const JOIN_INTEREST: u32 = 1 << 6;
const JOIN_WAITER: u32 = 1 << 7;

/// The word. See the module's documentation.
#[derive(Debug)]
pub(crate) struct TaskState(AtomicU32);

/// What the waker must do.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The task was parked and now belongs to the caller, who puts it into a queue.
    Enqueue,
    /// Somebody else sees to it, or it is done.
    Nothing,
}

/// What the worker must do with a coroutine that has just left its stack in order to park.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// It is parked; the next waker owns it, and the worker must not touch it any more.
    Parked,
    /// A wake came first: it goes back into the queue.
    Runnable,
}

/// What a task that wants to park, or was resumed from a park, finds.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// The token was there, and is consumed.
    Token,
    /// Its deadline passed.
    TimedOut,
    /// The final phase of a shutdown: the stack must be unwound.
    Unwind,
    /// It is cancelled.
    Cancelled,
    /// Nothing happened.
    Nothing,
}

/// What the worker must do after a task has finished.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The join slot holds a waiter, which is now the caller's to take and wake.
    pub(crate) wake_joiner: bool,
    /// Nobody will join: the caller drops the result.
    pub(crate) drop_result: bool,
}

/// Whether a joiner was registered.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// The task will wake the waiter in the slot.
    Registered,
    /// The task is done already: the result is there, and the slot still the joiner's.
    AlreadyDone,
}

impl TaskState {
    /// A new task: runnable, with a join handle.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(JOIN_INTEREST))
    }

    /// Sets the token.
    pub(crate) fn unpark(&self) -> Wake {
        self.wake(TOKEN)
    }

    /// Notes that the deadline of the current park passed.
    pub(crate) fn time_out(&self) -> Wake {
        self.wake(TIMED_OUT)
    }

    /// Cancels, for good.
    pub(crate) fn cancel(&self) -> Wake {
        self.wake(CANCELLED)
    }

    /// Asks for the stack to be unwound, for good.
    pub(crate) fn unwind(&self) -> Wake {
        self.wake(CANCELLED | UNWINDING)
    }

    fn wake(&self, flag: u32) -> Wake {
        // Ordering: Relaxed, the exchange below is what publishes and what synchronises.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & DONE != 0 {
                return Wake::Nothing;
            }
            // Even a flag that is set already is written again: the Release half must publish what this waker did to
            // the task's next `take`.
            let next = (word | flag) & !PARKED;
            // Ordering: Release pairs with the Acquire in `take` (the condition waited for is visible to the woken
            // task); Acquire pairs with the Release in `commit_park` (the suspended stack is visible to who resumes it).
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if word & PARKED != 0 => return Wake::Enqueue,
                Ok(_) => return Wake::Nothing,
                Err(now) => word = now,
            }
        }
    }

    /// Consumes a wakeup, if there is one: by the task itself, before it suspends and after it was resumed.
    ///
    /// The token comes first, so that a wake is never eaten by a deadline or a cancellation. A stale time-out goes with it.
    pub(crate) fn take(&self) -> Wakeup {
        // Ordering: Relaxed for the common case of no flag at all; nothing is concluded from it but to go on and park,
        // which `commit_park` checks again.
        let word = self.0.load(Ordering::Relaxed);
        if word & (TOKEN | TIMED_OUT | CANCELLED) == 0 {
            return Wakeup::Nothing;
        }
        // Ordering: Acquire pairs with the Release in `wake`.
        let word = self.0.fetch_and(!(TOKEN | TIMED_OUT), Ordering::Acquire);
        if word & UNWINDING != 0 {
            Wakeup::Unwind
        } else if word & TOKEN != 0 {
            Wakeup::Token
        } else if word & TIMED_OUT != 0 {
            Wakeup::TimedOut
        } else if word & CANCELLED != 0 {
            Wakeup::Cancelled
        } else {
            Wakeup::Nothing
        }
    }

    /// Whether the task must unwind, without consuming anything.
    pub(crate) fn is_unwinding(&self) -> bool {
        // Ordering: Relaxed, the flag stands alone.
        self.0.load(Ordering::Relaxed) & UNWINDING != 0
    }

    /// Whether the task is cancelled, without consuming anything.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Ordering: Relaxed, the flag stands alone.
        self.0.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// Whether the task is parked, so that only a wake makes it run.
    pub(crate) fn is_parked(&self) -> bool {
        // Ordering: Relaxed, a look for diagnosis; the answer may be old when it is given.
        self.0.load(Ordering::Relaxed) & PARKED != 0
    }

    /// Parks the task, unless a wake came first. Called by the worker after the switch away from the stack.
    ///
    /// A shielded task parks although it is cancelled.
    pub(crate) fn commit_park(&self, shielded: bool) -> Commit {
        let obstacles = TOKEN | TIMED_OUT | UNWINDING | if shielded { 0 } else { CANCELLED };
        // Ordering: Relaxed, the exchange below publishes.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & (PARKED | DONE), 0, "only a running task parks");
            if word & obstacles != 0 {
                return Commit::Runnable;
            }
            // Ordering: Release pairs with the Acquire in `wake`: who unparks sees the saved stack and the home worker.
            match self.0.compare_exchange_weak(word, word | PARKED, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Commit::Parked,
                Err(now) => word = now,
            }
        }
    }

    /// Publishes the result. Called once, by the worker, after the stack was left for good.
    pub(crate) fn finish(&self) -> Finished {
        // Ordering: Release pairs with the Acquire in `is_done`, `register_joiner`, `unregister_joiner` and
        // `drop_interest` (the result is visible); Acquire pairs with the Release in `register_joiner` (the waiter is).
        let word = self.0.fetch_or(DONE, Ordering::AcqRel);
        debug_assert_eq!(word & (PARKED | DONE), 0, "only a running task finishes, once");
        Finished { wake_joiner: word & JOIN_WAITER != 0, drop_result: word & JOIN_INTEREST == 0 }
    }

    /// Whether the result was published, and may be read by the owner of the join handle.
    pub(crate) fn is_done(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `finish`.
        self.0.load(Ordering::Acquire) & DONE != 0
    }

    /// Hands the join slot, which the caller has filled, to the task.
    pub(crate) fn register_joiner(&self) -> Registration {
        // Ordering: Relaxed, the exchange below publishes.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & JOIN_WAITER, 0, "there is one join handle");
            if word & DONE != 0 {
                // Ordering: pairs with the Release in `finish`.
                crate::primitive::atomic::fence(Ordering::Acquire);
                return Registration::AlreadyDone;
            }
            // Ordering: Release pairs with the Acquire in `finish`: it reads the slot.
            match self.0.compare_exchange_weak(word, word | JOIN_WAITER, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Registration::Registered,
                Err(now) => word = now,
            }
        }
    }

    /// Takes the join slot back. False: the task is done and has, or had, the slot.
    #[must_use]
    pub(crate) fn unregister_joiner(&self) -> bool {
        // Ordering: Relaxed, the exchange below decides.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & DONE != 0 {
                // Ordering: pairs with the Release in `finish`.
                crate::primitive::atomic::fence(Ordering::Acquire);
                return false;
            }
            // Ordering: Relaxed suffices on success: the slot was this caller's own writing.
            match self.0.compare_exchange_weak(word, word & !JOIN_WAITER, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// The join handle goes. True: the task is done, and the caller drops the result.
    #[must_use]
    pub(crate) fn drop_interest(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `finish` (the caller drops the result); the other way there is
        // nothing to publish, but the finisher's drop must not move before its own exchange, which is AcqRel.
        self.0.fetch_and(!JOIN_INTEREST, Ordering::Acquire) & DONE != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_token_before_the_commit_keeps_the_task_runnable() {
        let state = TaskState::new();
        assert_eq!(state.take(), Wakeup::Nothing);
        assert_eq!(state.unpark(), Wake::Nothing);
        assert_eq!(state.commit_park(false), Commit::Runnable);
        assert_eq!(state.take(), Wakeup::Token);
        assert_eq!(state.take(), Wakeup::Nothing);
    }

    #[test]
    fn only_the_first_wake_of_a_parked_task_enqueues() {
        let state = TaskState::new();
        assert_eq!(state.commit_park(false), Commit::Parked);
        assert_eq!(state.time_out(), Wake::Enqueue);
        assert_eq!(state.unpark(), Wake::Nothing);
        assert_eq!(state.take(), Wakeup::Token, "the token is not eaten by the deadline");
        assert_eq!(state.take(), Wakeup::Nothing, "and the stale time-out went with it");
    }

    #[test]
    fn cancellation_is_level_triggered_and_a_shield_parks_all_the_same() {
        let state = TaskState::new();
        assert_eq!(state.cancel(), Wake::Nothing);
        assert_eq!(state.take(), Wakeup::Cancelled);
        assert_eq!(state.take(), Wakeup::Cancelled);
        assert_eq!(state.commit_park(false), Commit::Runnable);
        assert_eq!(state.commit_park(true), Commit::Parked);
        assert_eq!(state.unwind(), Wake::Enqueue);
        assert_eq!(state.commit_park(true), Commit::Runnable);
        assert_eq!(state.take(), Wakeup::Unwind);
    }

    #[test]
    fn a_finished_task_is_woken_no_more() {
        let state = TaskState::new();
        assert!(!state.is_done());
        assert_eq!(state.finish(), Finished { wake_joiner: false, drop_result: false });
        assert!(state.is_done());
        assert_eq!(state.unpark(), Wake::Nothing);
        assert_eq!(state.register_joiner(), Registration::AlreadyDone);
        assert!(state.drop_interest());
    }

    #[test]
    fn the_result_is_dropped_by_the_later_of_finish_and_the_handle() {
        let state = TaskState::new();
        assert!(!state.drop_interest());
        assert!(state.finish().drop_result);
    }

    #[test]
    fn a_joiner_can_take_its_registration_back() {
        let state = TaskState::new();
        assert_eq!(state.register_joiner(), Registration::Registered);
        assert!(state.unregister_joiner());
        assert!(!state.finish().wake_joiner);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitive::{Arc, UnsafeCell, atomic::AtomicUsize};
    use loom::thread;

    /// A worker parks a task while two others wake it: it is enqueued exactly once for each park, and what was
    /// published before the wake is seen.
    #[test]
    fn loom_wake_against_commit() {
        loom::model(|| {
            let state = Arc::new(TaskState::new());
            let enqueued = Arc::new(AtomicUsize::new(0));
            let news = Arc::new(AtomicUsize::new(0));
            let wakers: Vec<_> = [TaskState::unpark as fn(&TaskState) -> Wake, TaskState::time_out]
                .into_iter()
                .map(|wake| {
                    let (state, enqueued, news) = (Arc::clone(&state), Arc::clone(&enqueued), Arc::clone(&news));
                    thread::spawn(move || {
                        news.fetch_add(1, Ordering::Relaxed);
                        if wake(&state) == Wake::Enqueue {
                            enqueued.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let mine = match state.commit_park(false) {
                Commit::Parked => 0,
                Commit::Runnable => {
                    assert_ne!(state.take(), Wakeup::Nothing);
                    assert!(news.load(Ordering::Relaxed) >= 1, "the waker's news came with the wake");
                    1
                }
            };
            for waker in wakers {
                waker.join().expect("wakers do not panic");
            }
            assert_eq!(mine + enqueued.load(Ordering::Relaxed), 1);
        });
    }

    /// The joiner either reads the published result at once or is woken, and the slot has one owner at a time.
    #[test]
    fn loom_join_against_finish() {
        loom::model(|| {
            let state = Arc::new(TaskState::new());
            let slot = Arc::new(UnsafeCell::new(0_u32));
            let result = Arc::new(UnsafeCell::new(0_u32));
            let woken = Arc::new(AtomicUsize::new(0));
            let worker = {
                let (state, slot, result, woken) = (Arc::clone(&state), Arc::clone(&slot), Arc::clone(&result), Arc::clone(&woken));
                thread::spawn(move || {
                    // SAFETY: the result is the worker's until `finish`.
                    result.with_mut(|result| unsafe { *result = 7 });
                    let finished = state.finish();
                    assert!(!finished.drop_result);
                    if finished.wake_joiner {
                        // SAFETY: `finish` saw the registration, so the slot is the worker's.
                        slot.with_mut(|slot| unsafe {
                            assert_eq!(*slot, 1);
                            *slot = 0;
                        });
                        woken.fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            // SAFETY: the slot is the joiner's until it is registered.
            slot.with_mut(|slot| unsafe { *slot = 1 });
            let registered = state.register_joiner() == Registration::Registered;
            let taken_back = registered && state.unregister_joiner();
            if !registered || taken_back {
                // SAFETY: not registered, so the slot is still, or again, the joiner's.
                slot.with_mut(|slot| unsafe { *slot = 0 });
            }
            if state.is_done() {
                // SAFETY: published by `finish`.
                result.with(|result| unsafe { assert_eq!(*result, 7) });
            }
            worker.join().expect("the worker does not panic");
            assert_eq!(woken.load(Ordering::Relaxed), usize::from(registered && !taken_back));
        });
    }

    /// Exactly one of the finishing worker and the dropped handle drops the result.
    #[test]
    fn loom_detach_against_finish() {
        loom::model(|| {
            let state = Arc::new(TaskState::new());
            let result = Arc::new(UnsafeCell::new(0_u32));
            let worker = {
                let (state, result) = (Arc::clone(&state), Arc::clone(&result));
                thread::spawn(move || {
                    // SAFETY: the result is the worker's until `finish`.
                    result.with_mut(|result| unsafe { *result = 7 });
                    let drops = state.finish().drop_result;
                    if drops {
                        // SAFETY: the handle is gone.
                        result.with_mut(|result| unsafe { *result = 0 });
                    }
                    drops
                })
            };
            let handle_drops = state.drop_interest();
            if handle_drops {
                // SAFETY: the task is done.
                result.with_mut(|result| unsafe { assert_eq!(std::mem::take(&mut *result), 7) });
            }
            let worker_drops = worker.join().expect("the worker does not panic");
            assert!(handle_drops ^ worker_drops);
        });
    }
}
