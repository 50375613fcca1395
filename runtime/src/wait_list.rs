//! The one wait list: how anything that blocks finds out whom to wake.
//!
//! Owns the nodes' links, the claim of a waiter, and the order of steps of a wait. Does not own suspension ([`crate::park`])
//! nor what is waited for: a *source* (a channel end, a mutex, ...) keeps a [`WaitList`] in the state behind its
//! [`SpinLock`], and a *payload* a node says what the waiter wants and carries what it gets.
//!
//! A wait lives on the waiter's stack: one [`Wait`] (the claim word and the handle to unpark) and one [`Node`] for each
//! source. Nothing is allocated. Waiting for several sources at once is several nodes with one `Wait`.
//!
//! Invariants:
//! - Links and the payload of a linked node are touched only under the source's lock.
//! - A notifier pops a node and claims its wait by compare-and-swap. If it loses, the wait has ended by other means, and
//!   the notifier goes on to the next node: a notification is never spent on somebody who has left.
//! - The winner alone writes the payload, sets the waiter's token, and then publishes `Delivered`, all under the lock. After
//!   that it must not touch the node: the waiter was only lent (`lent_waiter`). The wake itself fires after the unlock.
//! - Before a wait returns or unwinds its node is out of the list, and no notifier is still at work on it.
//! - Messages are handed over directly. A time-out that lost its race against a notifier is no time-out, so nothing that was
//!   handed over is ever lost; an unwind out of the park gives it back through [`Source::abandon`].

mod claim;

use std::{mem, ptr::NonNull, time::Duration};

use crate::{
    lent_waiter::{LentWaiter, Woken},
    park::{self, Cancellation, Unparked, WaitsFor},
    primitive::UnsafeCell,
    spin_lock::{SpinGuard, SpinLock},
    time::Instant,
};
use claim::ClaimWord;
pub(crate) use claim::{Phase, Withdrawal};

/// How long a wait may last.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Never,
    /// Resolved only when the wait really begins: the fast path reads no clock.
    After(Duration),
    At(Instant),
}

impl Limit {
    /// The same limit as a point in time, for a wait that is made of several.
    pub(crate) fn resolve(self) -> Self {
        self.deadline().map_or(Self::Never, Self::At)
    }

    #[inline]
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::After(duration) => Some(Instant::now() + duration),
            Self::At(instant) => Some(instant),
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// A notifier chose this waiter; the payload says what for.
    Claimed,
    TimedOut,
    Cancelled,
}

/// Something with a wait list.
pub(crate) trait Source {
    /// What the source's lock guards.
    type State;
    /// What a waiter wants, and where it gets it.
    type Payload;

    /// Whether a shutdown's cancellation ends a wait here. Without it no wait ends as `Cancelled`.
    const CANCELLABLE: bool = true;

    /// What a dump says of who waits here.
    fn waits_for(&self) -> WaitsFor;

    /// The list within the state; always the same one.
    fn waiters(state: &mut Self::State) -> &mut WaitList<Self::Payload>;

    /// The wait unwound (a coroutine that is ended at shutdown) instead of returning. If a notifier had `claimed` it, the
    /// source passes on what was meant for this waiter. Called without the lock.
    fn abandon(&self, payload: &mut Self::Payload, claimed: bool);
}

/// Puts the caller into `source`'s list, whose lock `state` holds, and parks until it is claimed, `limit` has passed, or the
/// coroutine is cancelled. Returns the payload as the notifier left it.
// Inlined, as all between a blocking call and the switch: see `switched::Coroutine::resume`.
#[inline(always)]
#[track_caller]
pub(crate) fn wait<S: Source>(source: &S, payload: S::Payload, state: SpinGuard<'_, S::State>, limit: Limit) -> (S::Payload, Outcome) {
    wait_after(source, payload, state, limit, || ())
}

/// [`wait`] that runs `enlisted` between entering the list and parking, without the source's lock.
#[inline(always)]
#[track_caller]
pub(crate) fn wait_after<S: Source>(
    source: &S,
    // Before `state`, so that a refused park drops the caller's value after the unlock.
    payload: S::Payload,
    mut state: SpinGuard<'_, S::State>,
    limit: Limit,
    enlisted: impl FnOnce(),
) -> (S::Payload, Outcome) {
    let wait = Wait::alone(LentWaiter::current());
    let node = Node::new(&wait, 0, payload);
    let lock = state.origin();
    // SAFETY: `node` and `wait` stay where they are until this function has taken the node out again: on the normal path in
    // `Enlisted::outcome`, on an unwind in its `drop`.
    unsafe { S::waiters(&mut state).push_back(&node) };
    let enlisting = Enlisted { source, lock, wait: &wait, node: &node };
    drop(state);
    enlisted();
    let outcome = enlisting.park(limit.deadline());
    (node.into_payload(), outcome)
}

/// Claims every waiter that is in the list now, in order, lets `each` write its payload, and wakes them. Waiters that arrive
/// meanwhile are not woken.
pub(crate) fn wake_all<S, P>(mut state: SpinGuard<'_, S>, waiters: impl Fn(&mut S) -> &mut WaitList<P>, mut each: impl FnMut(&mut P)) {
    let lock = state.origin();
    let end = waiters(&mut state).next_ticket;
    let mut next = |state: &mut S| {
        let claimed = waiters(state).claim_when(|ticket, _| ticket < end)?;
        claimed.with_payload(&mut each);
        Some(claimed.deliver())
    };
    while let Some(first) = next(&mut state) {
        // Mostly the only one: no room for others is prepared then.
        if waiters(&mut state).is_empty() {
            drop(state);
            return first.unpark();
        }
        let mut others = [const { None }; WAKE_BATCH];
        others.iter_mut().for_each(|slot| *slot = next(&mut state));
        drop(state);
        first.unpark();
        others.into_iter().flatten().for_each(Woken::unpark);
        state = lock.lock();
    }
}

/// Waiters claimed under one lock acquisition by [`wake_all`], beside the first: bounds how long the lock is held.
const WAKE_BATCH: usize = 16;

/// The half of a wait that all its nodes share. (`pub` since `select`'s hidden traits speak of it; nobody outside can name it.)
pub struct Wait {
    word: ClaimWord,
    /// There is one source, and the waiter withdraws under its lock.
    alone: bool,
    /// For the notifier that claims the wait.
    waiter: LentWaiter,
}

impl Wait {
    pub(crate) fn new(waiter: LentWaiter) -> Self {
        Self { word: ClaimWord::new(), alone: false, waiter }
    }

    /// A wait for one source, which is withdrawn only under that source's lock.
    fn alone(waiter: LentWaiter) -> Self {
        Self { word: ClaimWord::new(), alone: true, waiter }
    }

    /// Notifier: tries to end the wait for `source`, whose lock the caller holds. See [`ClaimWord::claim`].
    #[inline]
    fn claim(&self, source: u32) -> bool {
        if self.alone { self.word.claim_locked(source) } else { self.word.claim(source) }
    }

    /// Where the wait stands.
    pub(crate) fn phase(&self) -> Phase {
        self.word.phase()
    }

    /// Waiter: ends the wait unless a notifier was faster.
    pub(crate) fn withdraw(&self, withdrawal: Withdrawal) -> Result<(), Phase> {
        self.word.withdraw(withdrawal)
    }
}

/// A waiter's place in one source's list.
pub struct Node<P> {
    wait: NonNull<Wait>,
    /// Which of the wait's sources this is.
    source: u32,
    /// Guarded by the source's lock.
    links: UnsafeCell<Links<P>>,
    /// Guarded by the source's lock until the wait is delivered or the node is out of the list, then the waiter's.
    payload: UnsafeCell<P>,
}

struct Links<P> {
    previous: Option<NonNull<Node<P>>>,
    next: Option<NonNull<Node<P>>>,
    /// The list that the node is in.
    list: Option<NonNull<WaitList<P>>>,
    ticket: u64,
}

impl<P> Node<P> {
    pub(crate) fn new(wait: &Wait, source: u32, payload: P) -> Self {
        Self {
            wait: NonNull::from(wait),
            source,
            links: UnsafeCell::new(Links { previous: None, next: None, list: None, ticket: 0 }),
            payload: UnsafeCell::new(payload),
        }
    }

    pub(crate) fn into_payload(self) -> P {
        // SAFETY: `self` is owned, so nobody else has the cell; it is not used, nor dropped, again.
        let payload = self.payload.with_mut(|payload| unsafe { payload.read() });
        mem::forget(self);
        payload
    }

    /// Reads the payload of a node that is in no list yet.
    ///
    /// # Safety
    /// The node is in no list, and only the caller has it.
    pub(crate) unsafe fn unlisted_payload(&self) -> &P {
        // SAFETY: nobody else has the node, so nobody writes; `&self` outlives the reference.
        self.payload.with(|payload| unsafe { &*payload })
    }

    /// # Safety
    /// The caller holds the lock of the source in whose list the node is, or was last.
    unsafe fn links<R>(&self, access: impl FnOnce(&mut Links<P>) -> R) -> R {
        // SAFETY: the lock excludes all others, and `access` cannot reach this cell again: no list operation nests.
        self.links.with_mut(|links| access(unsafe { &mut *links }))
    }
}

/// Waiters in order of arrival.
pub(crate) struct WaitList<P> {
    head: Option<NonNull<Node<P>>>,
    tail: Option<NonNull<Node<P>>>,
    /// Numbers the nodes, so that [`wake_all`] can tell those that came after it began.
    next_ticket: u64,
}

// SAFETY: a list reaches its nodes only under the source's lock; what moves between threads through it are payloads, and
// `LentWaiter`s, which are `Send`.
unsafe impl<P: Send> Send for WaitList<P> {}

impl<P> WaitList<P> {
    pub(crate) const fn new() -> Self {
        Self { head: None, tail: None, next_ticket: 0 }
    }

    /// Whether nobody waits. Some who are counted may be about to leave.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Whether somebody other than `own` waits who could be claimed now.
    pub(crate) fn has_rival(&self, own: &Wait) -> bool {
        let mut next = self.head;
        while let Some(node) = next {
            // SAFETY: linked nodes and their waits are alive (`push_back`), and `&self` means that the source's lock is held.
            let (node, wait) = unsafe { (node.as_ref(), node.as_ref().wait.as_ref()) };
            if !std::ptr::eq(wait, own) && wait.phase() == Phase::Waiting {
                return true;
            }
            // SAFETY: as above.
            next = unsafe { node.links(|links| links.next) };
        }
        false
    }

    /// Takes out the first waiter that has not left. `None` if there is none; the list is empty then.
    #[inline]
    pub(crate) fn claim_first(&mut self) -> Option<Claimed<'_, P>> {
        self.claim_when(|_, _| true)
    }

    /// Takes out the first waiter that has not left, if `served` says so of its payload. Who is asked about may be leaving.
    pub(crate) fn claim_first_if(&mut self, served: impl Fn(&P) -> bool) -> Option<Claimed<'_, P>> {
        self.claim_when(|_, payload| served(payload))
    }

    fn claim_when(&mut self, served: impl Fn(u64, &P) -> bool) -> Option<Claimed<'_, P>> {
        while let Some(first) = self.head {
            // SAFETY: linked nodes and their waits are alive (`push_back`). Once unlinked here they stay so while the caller
            // holds the source's lock, which `&mut self` shows: a waiter passes that lock before it leaves.
            let node = unsafe { first.as_ref() };
            // SAFETY: the lock is held, as above, and the node is linked.
            let ticket = unsafe { node.links(|links| links.ticket) };
            // SAFETY: as above; the reference ends with the call.
            if !node.payload.with(|payload| served(ticket, unsafe { &*payload })) {
                return None;
            }
            // SAFETY: as above; the node is in this list.
            unsafe { self.unlink(node) };
            // SAFETY: as above.
            if unsafe { node.wait.as_ref() }.claim(node.source) {
                return Some(Claimed { node: first, list: self });
            }
        }
        None
    }

    /// Adds `node` at the end.
    ///
    /// # Safety
    /// `node` and its `Wait` must neither move nor die before [`remove`](Self::remove) was called for it, or its wait was
    /// seen `Delivered` by this source; and the list must not move while it is linked. The node is in no list yet.
    pub(crate) unsafe fn push_back(&mut self, node: &Node<P>) {
        let list = Some(NonNull::from(&mut *self));
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let previous = self.tail.replace(NonNull::from(node));
        // SAFETY: `&mut self` means that the source's lock is held.
        unsafe { node.links(|links| *links = Links { previous, next: None, list, ticket }) };
        match previous {
            // SAFETY: as above, and linked nodes are alive.
            Some(previous) => unsafe { previous.as_ref().links(|links| links.next = Some(NonNull::from(node))) },
            None => self.head = Some(NonNull::from(node)),
        }
    }

    /// Takes `node` out if a notifier has not done so.
    ///
    /// # Panics
    /// If the node is in another list: [`Source::waiters`] does not keep its word.
    ///
    /// # Safety
    /// The node was pushed into a list behind the lock that the caller holds.
    pub(crate) unsafe fn remove(&mut self, node: &Node<P>) {
        // SAFETY: the caller holds the lock of the node's source.
        let Some(list) = (unsafe { node.links(|links| links.list) }) else { return };
        assert_eq!(list, NonNull::from(&mut *self), "a source has exactly one list for its waits");
        // SAFETY: as above, and the node is in this list.
        unsafe { self.unlink(node) };
    }

    /// # Safety
    /// `node` is in this list.
    unsafe fn unlink(&mut self, node: &Node<P>) {
        // SAFETY: `&mut self` means that the source's lock is held; here and below. Neighbours are linked, so alive.
        let (previous, next) = unsafe {
            node.links(|links| {
                links.list = None;
                (links.previous.take(), links.next.take())
            })
        };
        match previous {
            // SAFETY: see above.
            Some(previous) => unsafe { previous.as_ref().links(|links| links.next = next) },
            None => self.head = next,
        }
        match next {
            // SAFETY: see above.
            Some(next) => unsafe { next.as_ref().links(|links| links.previous = previous) },
            None => self.tail = previous,
        }
    }
}

/// A waiter that the caller won. The borrow of the list keeps the source locked until it is delivered.
#[must_use = "a claimed waiter sleeps for ever unless it is delivered and unparked"]
pub(crate) struct Claimed<'l, P> {
    node: NonNull<Node<P>>,
    list: &'l mut WaitList<P>,
}

impl<P> Claimed<'_, P> {
    /// Reads or writes the waiter's payload.
    #[inline]
    pub(crate) fn with_payload<R>(&self, access: impl FnOnce(&mut P) -> R) -> R {
        // SAFETY: claimed and not delivered, so the node is alive and its payload is the claimer's; `Claimed` exists once, and
        // payload accessors do not nest (`access` does not see `self`).
        unsafe { self.node.as_ref() }.payload.with_mut(|payload| access(unsafe { &mut *payload }))
    }

    /// Whether others wait behind this one.
    pub(crate) fn has_followers(&self) -> bool {
        !self.list.is_empty()
    }

    /// Publishes the payload. The returned waiter must be unparked once the lock is given back.
    #[inline]
    #[must_use = "unpark it after the unlock"]
    pub(crate) fn deliver(self) -> Woken {
        // SAFETY: claimed and not delivered: node and wait are alive.
        let node = unsafe { self.node.as_ref() };
        // SAFETY: as above.
        let wait = unsafe { node.wait.as_ref() };
        // SAFETY: the waiter stays in its wait until the claim is delivered, which is below.
        let woken = unsafe { wait.waiter.wake() };
        // The last touch: from here on the waiter may be gone.
        wait.word.deliver(node.source);
        woken
    }
}

/// A wait whose node is, or was, in `source`'s list. Leaves the list when it ends, also by unwinding.
struct Enlisted<'a, S: Source> {
    source: &'a S,
    lock: &'a SpinLock<S::State>,
    wait: &'a Wait,
    node: &'a Node<S::Payload>,
}

impl<S: Source> Enlisted<'_, S> {
    #[inline(always)]
    #[track_caller]
    fn park(self, deadline: Option<Instant>) -> Outcome {
        let outcome = loop {
            let cancellation = if S::CANCELLABLE { Cancellation::Returns } else { Cancellation::Shielded };
            let unparked = park::park_with(deadline, cancellation, self.source.waits_for());
            match unparked {
                // A token may be stale or somebody else's: only the word counts.
                Unparked::Token => match self.wait.word.phase() {
                    Phase::Waiting => continue,
                    phase => break self.claimed(phase),
                },
                Unparked::TimedOut => break self.withdraw(Withdrawal::TimedOut, Outcome::TimedOut),
                Unparked::Cancelled => break self.withdraw(Withdrawal::Cancelled, Outcome::Cancelled),
            }
        };
        mem::forget(self);
        outcome
    }

    #[cold]
    fn withdraw(&self, withdrawal: Withdrawal, outcome: Outcome) -> Outcome {
        // Under the lock, since the wait is alone: a notifier is then either done or has not begun.
        let mut state = self.lock.lock();
        if self.wait.word.withdraw(withdrawal).is_err() {
            return Outcome::Claimed;
        }
        // SAFETY: the node was pushed into the list behind this lock.
        unsafe { S::waiters(&mut state).remove(self.node) };
        outcome
    }

    fn claimed(&self, phase: Phase) -> Outcome {
        // A notifier that has claimed and not delivered holds the lock: after it, it is done.
        if !matches!(phase, Phase::Delivered(_)) {
            drop(self.lock.lock());
        }
        Outcome::Claimed
    }
}

impl<S: Source> Drop for Enlisted<'_, S> {
    fn drop(&mut self) {
        let claimed = self.withdraw(Withdrawal::Cancelled, Outcome::Cancelled) == Outcome::Claimed;
        // SAFETY: out of the list and not being claimed, so the payload is the waiter's alone.
        self.node.payload.with_mut(|payload| self.source.abandon(unsafe { &mut *payload }, claimed));
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
pub(crate) mod loom_tests;
