//! The wait of a select: try, enlist everywhere, park, leave everywhere, settle.
//!
//! Owns the order of these steps. Does not own what an arm does in each (`arm`), nor the claim (`wait_list`).
//!
//! Invariants:
//! - Outputs are taken either while nothing of the select is in any list, or by a claim. So there is never more than one.
//! - A round enlists its arms one lock at a time, each looking once more under its lock. One that finds its source ready withdraws
//!   the wait and begins anew: it must not take anything while another source can hand something over. Of two selects that
//!   see each other enlisting both do so; they do not do it in step for long.
//! - However a round ends, by return or by unwinding, the wait is over and all nodes are out of their lists before it does.

use std::mem::ManuallyDrop;
use std::ptr;

use super::arm::Look;
use super::arms::Arms;
use crate::{
    lent_waiter::LentWaiter,
    park::{self, Cancellation, Unparked, WaitsFor},
    time::Instant,
    wait_list::{Limit, Phase, Wait, Withdrawal},
};

/// Waits until one of `arms` has an output; `None` if `limit` has passed before.
#[inline]
#[track_caller]
pub(super) fn select<A: Arms>(mut arms: A, limit: Limit) -> Option<A::Choice> {
    let start = start(arms.count());
    match attempt(&mut arms, start) {
        Some(choice) => Some(choice),
        None => select_parked(&mut arms, start, limit.deadline()),
    }
}

/// The output of one of `arms` that has it now.
#[inline]
pub(super) fn try_select<A: Arms>(mut arms: A) -> Option<A::Choice> {
    let start = start(arms.count());
    attempt(&mut arms, start)
}

#[inline]
fn attempt<A: Arms>(arms: &mut A, start: usize) -> Option<A::Choice> {
    let count = arms.count();
    arms.attempt(start..count).or_else(|| arms.attempt(0..start))
}

/// Where to begin, so that no arm that is always ready starves the others: drawn by the worker's generator, and so the same
/// in each run of a simulation; on a plain thread by the thread's.
#[inline]
fn start(count: usize) -> usize {
    if count < 2 {
        return 0;
    }
    #[cfg(not(loom))]
    return crate::scheduler::current::with(|local| match local {
        Some(local) => local.rng.borrow_mut().usize(..count),
        None => fastrand::usize(..count),
    });
    #[cfg(loom)]
    return 0;
}

#[cold]
#[track_caller]
fn select_parked<A: Arms>(arms: &mut A, start: usize, deadline: Option<Instant>) -> Option<A::Choice> {
    loop {
        match round(arms, deadline) {
            Round::Chosen(choice) => return Some(choice),
            Round::Cancelled => return arms.cancelled(),
            Round::Again => {}
        }
        if let Some(choice) = attempt(arms, start) {
            return Some(choice);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return None;
        }
    }
}

/// How one round of waiting ended.
enum Round<C> {
    Chosen(C),
    /// There may be something to take.
    Again,
    Cancelled,
}

#[track_caller]
fn round<A: Arms>(arms: &mut A, deadline: Option<Instant>) -> Round<A::Choice> {
    let wait = Wait::new(LentWaiter::current());
    let nodes = ManuallyDrop::new(arms.nodes(&wait, 0));
    let mut enlisted = Enlisted { arms, wait: &wait, nodes: &nodes };
    let (early, unparked) = enlisted.park(deadline);
    let (settled, claimed) = enlisted.settle();
    match settled.or(early) {
        Some(choice) => Round::Chosen(choice),
        None if unparked == Some(Unparked::Cancelled) && claimed.is_none() => Round::Cancelled,
        None => Round::Again,
    }
}

/// Arms that are, or are about to be, in lists.
struct Enlisted<'a, A: Arms> {
    arms: &'a mut A,
    wait: &'a Wait,
    /// Lent, and not in here: notifiers write to a node that is in a list, so nobody may have it, or what it is a part of, as `&mut`.
    nodes: &'a ManuallyDrop<A::Nodes>,
}

impl<A: Arms> Enlisted<'_, A> {
    /// Enlists the arms, and parks until the wait is over or there is a reason to end it. An output that is there at once is
    /// given; nothing can have been claimed then.
    #[track_caller]
    fn park(&mut self, deadline: Option<Instant>) -> (Option<A::Choice>, Option<Unparked>) {
        if A::UNPARKED
            && let Some(early) = self.arms.register(self.nodes)
        {
            return (Some(early), None);
        }
        // SAFETY: the nodes are borrowed, so they do not move, and `leave` runs before they are taken out: in `settle`, or in
        // `drop`, which no unwinding passes by. `wait` is borrowed for as long.
        let deadline = match unsafe { self.arms.enlist(self.nodes, self.wait) } {
            Look::Ready => return (None, None),
            Look::Waiting(due) => due.into_iter().chain(deadline).min(),
            Look::Absent => deadline,
        };
        // The arms of others have been asked for their times since the first of ours could be claimed. Should one have parked for its
        // answer, against the rules, then that has consumed the claim's token.
        if A::UNPARKED && self.wait.phase() != Phase::Waiting {
            return (None, None);
        }
        loop {
            let unparked = park::park_with(deadline, Cancellation::Returns, WaitsFor::Select);
            // A token may be stale, or somebody else's. It may also be that of an arm which has no claims.
            if unparked != Unparked::Token || A::UNPARKED || self.wait.phase() != Phase::Waiting {
                return (None, Some(unparked));
            }
        }
    }

    /// Ends the wait. What came of it, and which arm had been claimed before.
    fn settle(mut self) -> (Option<A::Choice>, Option<usize>) {
        let claimed = self.leave();
        let mut left = ManuallyDrop::new(self);
        // SAFETY: all have left. Taken here or in `drop`, which does not run for what was left.
        let nodes = unsafe { ptr::read(&raw const **left.nodes) };
        (left.arms.settle(nodes, claimed), claimed)
    }

    /// Ends the wait, and says which arm had been claimed before.
    fn leave(&mut self) -> Option<usize> {
        let withdrawn = self.wait.withdraw(Withdrawal::Cancelled);
        // SAFETY: they are these arms' nodes.
        unsafe { self.arms.leave(self.nodes) };
        // A notifier that had only claimed held its source's lock, which `leave` has taken since. (A second withdrawal, when one that
        // was successful was followed by a panic, finds a withdrawn wait.)
        match withdrawn {
            Ok(()) | Err(Phase::Waiting | Phase::TimedOut | Phase::Cancelled) => None,
            Err(Phase::Claimed(index) | Phase::Delivered(index)) => Some(index as usize),
        }
    }
}

/// The select unwinds.
impl<A: Arms> Drop for Enlisted<'_, A> {
    fn drop(&mut self) {
        let claimed = self.leave();
        // SAFETY: all have left; see `settle`.
        let nodes = unsafe { ptr::read(&raw const **self.nodes) };
        self.arms.abandon(nodes, claimed);
    }
}
