//! Owns the state word of a task and every transition of it. Nothing else touches the word.
//!
//! It does not own queues, stacks or the result: a transition's return value tells the caller what it must now do with
//! those, and is `#[must_use]`.
//!
//! ```text
//!             unpark, time_out, cancel, interrupt: set a flag
//!            +--------+
//!            v        |   commit_park (no flag)
//!        +----------------+ ------------------> +--------+
//!        |    runnable    |                     | parked |
//!        +----------------+ <------------------ +--------+
//!            |               unpark, time_out, cancel, interrupt: whoever clears PARKED must enqueue
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
//! - The result is dropped by `finish` if the join handle is gone, and otherwise by the handle: whoever drops it does so
//!   before its own last transition, which the other's memory may not survive.
//! - The memory is freed once, by whoever makes the last of these come true: the task is done, the join handle gone, and
//!   no counted reference left. So the scheduler and the handle need no count.
//!
//! The token says that there may be something to look at, to whatever wait is in progress, which consumes it. The *permit* is the
//! user's own token: it comes together with one, and only the user's own park consumes it, however many waits came between.
//!
//! The wake that takes a task out of *parked* leaves [`WOKEN`] instead of a token, which the next commit clears: so a park
//! and its wake cost one exchange each, and the resumed task only reads.

use crate::fatal::fatal;
use crate::primitive::atomic::{AtomicU64, Ordering};

const PARKED: u64 = 1 << 0;
const DONE: u64 = 1 << 1;
const TOKEN: u64 = 1 << 2;
const TIMED_OUT: u64 = 1 << 3;
const CANCELLED: u64 = 1 << 4;
const UNWINDING: u64 = 1 << 5;
const JOIN_INTEREST: u64 = 1 << 6;
const JOIN_WAITER: u64 = 1 << 7;
/// The last departure from *parked* was by a token, which went with it. Means nothing before the task was resumed from it,
/// nor after its next commit.
const WOKEN: u64 = 1 << 8;
const INTERRUPTED: u64 = 1 << 9;
/// Beside [`JOIN_WAITER`]: the joiner's wait owns the handle, so that nobody else has it.
const JOIN_OWNED: u64 = 1 << 10;
const PERMIT: u64 = 1 << 11;
/// One counted reference; the bits from here on are their number.
const REFERENCE: u64 = 1 << 16;
/// A word with as many references that more would be a way to reach zero, after which the memory is freed. As of `Arc`, half of them.
const MOST_REFERENCES: u64 = 1 << 63;

/// What makes blocking calls return their error: for good, or while a cancelled token's closure runs.
const CANCELLATION: u64 = CANCELLED | INTERRUPTED;

/// The word. See the module's documentation.
#[derive(Debug)]
pub(crate) struct TaskState(AtomicU64);

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

/// Whether the caller was the last to know of the task.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It frees the memory.
    Free,
    /// Others see to it; the memory may be gone already.
    Kept,
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
    /// The join slot holds a waiter, which is now the caller's to take and wake. The joiner, and so the memory, stays until it
    /// was taken.
    pub(crate) wake_joiner: bool,
    pub(crate) memory: Memory,
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
    /// For debuggers: the bit that says that only a wake makes the task run.
    #[cfg(not(any(loom, miri, weald_baton)))]
    pub(crate) const SEEN_PARKED: u64 = PARKED;

    /// A new task: runnable, with a join handle.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(JOIN_INTEREST))
    }

    /// Sets the token.
    #[inline]
    pub(crate) fn unpark(&self) -> Wake {
        self.wake(TOKEN)
    }

    /// Sets the token and the permit.
    pub(crate) fn permit(&self) -> Wake {
        self.wake(TOKEN | PERMIT)
    }

    /// Notes that the deadline of the current park passed.
    pub(crate) fn time_out(&self) -> Wake {
        self.wake(TIMED_OUT)
    }

    /// Cancels, for good.
    pub(crate) fn cancel(&self) -> Wake {
        self.wake(CANCELLED)
    }

    /// Cancels until [`end_interrupt`](Self::end_interrupt), for a token whose closure the task runs.
    pub(crate) fn interrupt(&self) -> Wake {
        self.wake(INTERRUPTED)
    }

    /// Takes an interruption back. By the task itself, which then looks again at the tokens that it is still inside of.
    pub(crate) fn end_interrupt(&self) {
        // Ordering: Acquire pairs with the Release in `wake`: a token whose interruption this takes away is seen to be
        // cancelled, and one whose interruption comes later sets the flag again.
        self.0.fetch_and(!INTERRUPTED, Ordering::Acquire);
    }

    /// Asks for the stack to be unwound, for good.
    pub(crate) fn unwind(&self) -> Wake {
        self.wake(CANCELLED | UNWINDING)
    }

    #[inline]
    fn wake(&self, flag: u64) -> Wake {
        // Ordering: Relaxed, the exchange below is what publishes and what synchronises.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & DONE != 0 {
                return Wake::Nothing;
            }
            // Even a flag that is set already is written again: the Release half must publish what this waker did to
            // the task's next `take`.
            let parked = word & PARKED != 0;
            let next = (word & !PARKED) | if parked && flag & TOKEN != 0 { WOKEN | (flag & PERMIT) } else { flag };
            // Ordering: Release pairs with the Acquire in `take` and `resumed` (the condition waited for is visible to the
            // woken task); Acquire pairs with the Release in `commit_park` (the suspended stack is visible to who resumes it).
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if parked => return Wake::Enqueue,
                Ok(_) => return Wake::Nothing,
                Err(now) => word = now,
            }
        }
    }

    /// Consumes a wakeup, if there is one: by the task itself, before it suspends.
    ///
    /// The token comes first, so that a wake is never eaten by a deadline or a cancellation. A stale time-out goes with it.
    #[inline]
    pub(crate) fn take(&self) -> Wakeup {
        // Ordering: Relaxed for the common case of no flag at all; nothing is concluded from it but to go on and park,
        // which `commit_park` checks again.
        let word = self.0.load(Ordering::Relaxed);
        if word & (TOKEN | TIMED_OUT | CANCELLATION) == 0 {
            return Wakeup::Nothing;
        }
        // Ordering: Acquire pairs with the Release in `wake`.
        wakeup(self.0.fetch_and(!(TOKEN | TIMED_OUT), Ordering::Acquire) & !WOKEN)
    }

    /// Consumes the permit, if there is one: by the task itself, outside of any wait. What else a park would find goes with it.
    pub(crate) fn take_permit(&self) -> bool {
        // Ordering: Relaxed; nothing is concluded from there being none but to go on and park, which the permit's token ends.
        if self.0.load(Ordering::Relaxed) & PERMIT == 0 {
            return false;
        }
        // Ordering: Acquire pairs with the Release in `wake`.
        self.0.fetch_and(!(PERMIT | TOKEN | TIMED_OUT), Ordering::Acquire);
        true
    }

    /// As [`take`](Self::take), for the task that was resumed from a park.
    #[inline]
    pub(crate) fn resumed(&self) -> Wakeup {
        // Ordering: Acquire pairs with the Release in `wake`.
        let word = self.0.load(Ordering::Acquire);
        if word & (WOKEN | TOKEN | TIMED_OUT | CANCELLATION) == WOKEN {
            return Wakeup::Token;
        }
        // Ordering: as above.
        wakeup(self.0.fetch_and(!(WOKEN | TOKEN | TIMED_OUT), Ordering::Acquire))
    }

    /// Whether the task must unwind, without consuming anything.
    pub(crate) fn is_unwinding(&self) -> bool {
        // Ordering: Relaxed, the flag stands alone.
        self.0.load(Ordering::Relaxed) & UNWINDING != 0
    }

    /// Whether the task is cancelled, without consuming anything.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Ordering: Relaxed, the flag stands alone.
        self.0.load(Ordering::Relaxed) & CANCELLATION != 0
    }

    /// Whether the task is parked, so that only a wake makes it run.
    pub(crate) fn is_parked(&self) -> bool {
        // Ordering: Relaxed, a look for diagnosis; the answer may be old when it is given.
        self.0.load(Ordering::Relaxed) & PARKED != 0
    }

    /// Parks the task, unless a wake came first. Called by the worker after the switch away from the stack.
    ///
    /// A shielded task parks although it is cancelled.
    #[inline]
    pub(crate) fn commit_park(&self, shielded: bool) -> Commit {
        let obstacles = TOKEN | TIMED_OUT | UNWINDING | if shielded { 0 } else { CANCELLATION };
        // Ordering: Relaxed, the exchange below publishes.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & (PARKED | DONE), 0, "only a running task parks");
            let (next, commit) = if word & obstacles == 0 { (word | PARKED, Commit::Parked) } else { (word, Commit::Runnable) };
            // Ordering: Release pairs with the Acquire in `wake`: who unparks sees the saved stack and the home worker.
            match self.0.compare_exchange_weak(word, next & !WOKEN, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return commit,
                Err(now) => word = now,
            }
        }
    }

    /// Publishes the result. Called once, by the worker, after the stack was left for good. If nobody will join, the result
    /// is dropped first.
    #[inline]
    pub(crate) fn finish(&self, drop_result: impl FnOnce()) -> Finished {
        let mut drop_result = Some(drop_result);
        // Ordering: Relaxed; an interest that is gone does not come back, and left nothing to see.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & (PARKED | DONE), 0, "only a running task finishes, once");
            if word & JOIN_INTEREST == 0
                && let Some(drop_result) = drop_result.take()
            {
                drop_result();
                word = self.0.load(Ordering::Relaxed);
            }
            // Ordering: Release pairs with the Acquire in `is_done`, `register_joiner`, `unregister_joiner`, `drop_interest`
            // and `drop_reference` (the result is visible, and all use of the task came before its end); Acquire pairs with
            // the Release in `register_joiner` (the waiter is visible) and in `drop_reference` and `drop_interest`, for who frees.
            match self.0.compare_exchange_weak(word, word | DONE, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Finished { wake_joiner: word & JOIN_WAITER != 0, memory: memory(word | DONE) },
                Err(now) => word = now,
            }
        }
    }

    /// As [`finish`](Self::finish), by the worker of a joiner that has stopped and whose wait owns the handle, without a locked
    /// instruction. `None`: somebody else may know of the task, or it has another joiner.
    #[inline]
    pub(crate) fn finish_beside_joiner(&self) -> Option<Finished> {
        // Ordering: Acquire pairs with the Release in `drop_reference`, for the joiner, which frees.
        let word = self.0.load(Ordering::Acquire);
        debug_assert_eq!(word & (PARKED | DONE), 0, "only a running task finishes, once");
        // Without a reference only the handle leads here, from which the first one would have to be made: this is the latest word.
        if word & JOIN_OWNED == 0 || word >= REFERENCE {
            return None;
        }
        // Ordering: Relaxed; the joiner goes on on this thread.
        self.0.store(word | DONE, Ordering::Relaxed);
        Some(Finished { wake_joiner: true, memory: Memory::Kept })
    }

    /// Whether the result was published, and may be read by the owner of the join handle.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `finish`.
        self.0.load(Ordering::Acquire) & DONE != 0
    }

    /// Whether there is no join handle any more, so that the result is the task's own, for good. For the running task itself.
    #[inline]
    pub(crate) fn is_unwanted(&self) -> bool {
        // Ordering: Relaxed; the handle left nothing to see, as in `finish`.
        self.0.load(Ordering::Relaxed) & JOIN_INTEREST == 0
    }

    /// Hands the join slot, which the caller has filled, to the task. `owned`: nobody else has the handle until this is taken back.
    #[inline]
    pub(crate) fn register_joiner(&self, owned: bool) -> Registration {
        let registered = JOIN_WAITER | if owned { JOIN_OWNED } else { 0 };
        // Ordering: Relaxed, the exchange below publishes.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & JOIN_WAITER, 0, "there is one join handle");
            if word & DONE != 0 {
                // Ordering: pairs with the Release in `finish`. A load, because ThreadSanitizer knows no fences.
                self.0.load(Ordering::Acquire);
                return Registration::AlreadyDone;
            }
            // Ordering: Release pairs with the Acquire in `finish`: it reads the slot.
            match self.0.compare_exchange_weak(word, word | registered, Ordering::Release, Ordering::Relaxed) {
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
                // Ordering: pairs with the Release in `finish`. A load, because ThreadSanitizer knows no fences.
                self.0.load(Ordering::Acquire);
                return false;
            }
            // Ordering: Relaxed suffices on success: the slot was this caller's own writing.
            match self.0.compare_exchange_weak(word, word & !(JOIN_WAITER | JOIN_OWNED), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// The join handle goes. If the task is done, the result is dropped first.
    #[inline]
    pub(crate) fn drop_interest(&self, drop_result: impl FnOnce()) -> Memory {
        let mut drop_result = Some(drop_result);
        // Ordering: Acquire pairs with the Release in `finish` (the result is visible) and in `drop_reference` (for who
        // frees); here and below.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            if word & DONE != 0 {
                if let Some(drop_result) = drop_result.take() {
                    drop_result();
                    word = self.0.load(Ordering::Acquire);
                }
                // Nobody is left who could make a reference: the exchange can be spared.
                if word & !(REFERENCE - 1) == 0 {
                    return Memory::Free;
                }
            }
            // Ordering: Release pairs with the Acquire of who frees.
            match self.0.compare_exchange_weak(word, word & !JOIN_INTEREST, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return memory(word & !JOIN_INTEREST),
                Err(now) => word = now,
            }
        }
    }

    /// One more counted reference, from somebody who may know of the task.
    pub(crate) fn add_reference(&self) {
        // Ordering: Relaxed, what the caller has keeps the task alive.
        if self.0.fetch_add(REFERENCE, Ordering::Relaxed) >= MOST_REFERENCES {
            fatal(format_args!("references to a coroutine were forgotten without end"));
        }
    }

    /// A counted reference goes.
    pub(crate) fn drop_reference(&self) -> Memory {
        // Ordering: Release pairs with the Acquire of who frees: all use came before.
        let word = self.0.fetch_sub(REFERENCE, Ordering::Release) - REFERENCE;
        if memory(word) == Memory::Free {
            // Ordering: pairs with the Release here, in `finish` and in `drop_interest`. A load, because ThreadSanitizer knows no
            // fences: it reads what the exchange above wrote.
            self.0.load(Ordering::Acquire);
        }
        memory(word)
    }
}

/// What is to become of the memory of a task with this word.
fn memory(word: u64) -> Memory {
    if word & DONE != 0 && word & JOIN_INTEREST == 0 && word < REFERENCE { Memory::Free } else { Memory::Kept }
}

fn wakeup(word: u64) -> Wakeup {
    if word & UNWINDING != 0 {
        Wakeup::Unwind
    } else if word & (TOKEN | WOKEN) != 0 {
        Wakeup::Token
    } else if word & TIMED_OUT != 0 {
        Wakeup::TimedOut
    } else if word & CANCELLATION != 0 {
        Wakeup::Cancelled
    } else {
        Wakeup::Nothing
    }
}

#[cfg(all(test, loom))]
mod loom_tests;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(miri))]
    fn a_count_of_references_never_comes_round_to_zero() {
        crate::fatal::tests::assert_aborts("task_state::tests::a_count_of_references_never_comes_round_to_zero", || {
            TaskState(AtomicU64::new(JOIN_INTEREST | MOST_REFERENCES)).add_reference();
        });
    }

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
    fn a_wake_out_of_a_park_leaves_no_token_for_the_next() {
        let state = TaskState::new();
        assert_eq!(state.commit_park(false), Commit::Parked);
        assert_eq!(state.unpark(), Wake::Enqueue);
        assert_eq!(state.resumed(), Wakeup::Token);
        assert_eq!(state.take(), Wakeup::Nothing);
        assert_eq!(state.commit_park(false), Commit::Parked);
        assert_eq!(state.time_out(), Wake::Enqueue);
        assert_eq!(state.resumed(), Wakeup::TimedOut, "the wake before is no token");
        // A wake that came too late for one park, and an obstacle to the next.
        assert_eq!(state.commit_park(false), Commit::Parked);
        assert_eq!(state.unpark(), Wake::Enqueue);
        assert_eq!(state.time_out(), Wake::Nothing);
        assert_eq!(state.unpark(), Wake::Nothing);
        assert_eq!(state.resumed(), Wakeup::Token);
        assert_eq!(state.cancel(), Wake::Nothing);
        assert_eq!(state.commit_park(false), Commit::Runnable);
        assert_eq!(state.resumed(), Wakeup::Cancelled);
    }

    #[test]
    fn waits_consume_tokens_and_leave_the_permit() {
        let state = TaskState::new();
        assert!(!state.take_permit());
        assert_eq!(state.permit(), Wake::Nothing);
        assert_eq!(state.take(), Wakeup::Token);
        assert_eq!(state.take(), Wakeup::Nothing);
        assert_eq!(state.commit_park(false), Commit::Parked);
        assert_eq!(state.unpark(), Wake::Enqueue);
        assert_eq!(state.resumed(), Wakeup::Token);
        assert!(state.take_permit());
        assert!(!state.take_permit());

        assert_eq!(state.commit_park(false), Commit::Parked);
        assert_eq!(state.permit(), Wake::Enqueue);
        assert_eq!(state.resumed(), Wakeup::Token);
        assert_eq!(state.commit_park(false), Commit::Parked, "a permit alone keeps no wait awake");
        assert_eq!(state.unpark(), Wake::Enqueue);
        assert_eq!(state.permit(), Wake::Nothing);
        assert!(state.take_permit(), "and is one for both times");
        assert_eq!(state.take(), Wakeup::Nothing, "its token went with it");
    }

    #[test]
    fn an_interruption_lasts_until_it_is_taken_back() {
        let state = TaskState::new();
        assert_eq!(state.commit_park(false), Commit::Parked);
        assert_eq!(state.interrupt(), Wake::Enqueue);
        assert_eq!(state.resumed(), Wakeup::Cancelled);
        assert_eq!(state.take(), Wakeup::Cancelled);
        assert!(state.is_cancelled());
        state.end_interrupt();
        assert!(!state.is_cancelled());
        assert_eq!(state.take(), Wakeup::Nothing);
        assert_eq!(state.commit_park(false), Commit::Parked);
    }

    #[test]
    fn a_finished_task_is_woken_no_more() {
        let state = TaskState::new();
        assert!(!state.is_done());
        assert_eq!(state.finish(|| panic!("a handle is there")), Finished { wake_joiner: false, memory: Memory::Kept });
        assert!(state.is_done());
        assert_eq!(state.unpark(), Wake::Nothing);
        assert_eq!(state.register_joiner(true), Registration::AlreadyDone);
        let mut dropped = 0;
        assert_eq!(state.drop_interest(|| dropped += 1), Memory::Free);
        assert_eq!(dropped, 1);
    }

    #[test]
    fn a_stopped_joiner_is_finished_beside_if_nobody_else_knows_of_the_task() {
        let state = TaskState::new();
        assert_eq!(state.register_joiner(false), Registration::Registered);
        assert_eq!(state.finish_beside_joiner(), None, "others may have the handle");
        assert!(state.unregister_joiner());
        state.add_reference();
        assert_eq!(state.register_joiner(true), Registration::Registered);
        assert_eq!(state.finish_beside_joiner(), None, "somebody has a reference");
        assert_eq!(state.drop_reference(), Memory::Kept);
        assert_eq!(state.finish_beside_joiner(), Some(Finished { wake_joiner: true, memory: Memory::Kept }));
        assert!(state.is_done());
        assert_eq!(state.drop_interest(|| ()), Memory::Free);
    }

    #[test]
    fn the_result_is_dropped_by_the_later_of_finish_and_the_handle() {
        let state = TaskState::new();
        assert_eq!(state.drop_interest(|| panic!("there is no result yet")), Memory::Kept);
        let mut dropped = 0;
        assert_eq!(state.finish(|| dropped += 1).memory, Memory::Free);
        assert_eq!(dropped, 1);
    }

    #[test]
    fn a_counted_reference_keeps_the_memory_after_the_end() {
        let state = TaskState::new();
        state.add_reference();
        state.add_reference();
        assert_eq!(state.drop_interest(|| panic!("there is no result yet")), Memory::Kept);
        assert_eq!(state.drop_reference(), Memory::Kept);
        assert_eq!(state.finish(|| ()).memory, Memory::Kept);
        assert_eq!(state.drop_reference(), Memory::Free);
    }

    #[test]
    fn a_joiner_can_take_its_registration_back() {
        let state = TaskState::new();
        assert_eq!(state.register_joiner(true), Registration::Registered);
        assert!(state.unregister_joiner());
        assert_eq!(state.finish_beside_joiner(), None);
        assert!(!state.finish(|| ()).wake_joiner);
    }
}
