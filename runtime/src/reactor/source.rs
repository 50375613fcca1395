//! One socket's readiness.
//!
//! Owns [`Source`]: the state of both directions, and who waits for them. Does not own descriptors, and never reads or
//! writes: an operation is tried by its owner inside [`Source::try_io`].
//!
//! Readiness is edge-triggered and optimistic: a direction counts as ready until an operation has met `WouldBlock`.
//!
//! Why no wake-up is lost, with `E` the event loop and `C` a caller:
//! - `C` reads the state word before it tries, and on `WouldBlock` clears the ready bit only if the word has not changed.
//!   Each edge changes the word, so an edge between the try and the clearing makes the clearing fail, and `C` tries again.
//! - `C` looks at the ready bit with the waiters locked and enlists itself under the same lock; `E` sets the bit first and
//!   takes the waiters after, under that lock. Whichever locks second sees what the other did.
//! - An edge wakes every waiter of its direction. Each of them tries; those who find nothing wait again. So several waiters
//!   on one socket are all served, whatever any one of them does afterwards.

use std::io;

use crate::park::WaitsFor;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::spin_lock::SpinLock;
use crate::time::Instant;
use crate::wait_list::{self, Limit, Outcome, WaitList};

/// Which half of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Why a wait ended without readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    TimedOut,
    Cancelled,
}

/// The readiness of one descriptor and the waiters on it, from any thread or coroutine.
pub(crate) struct Source {
    token: u64,
    read: Half,
    write: Half,
    /// No edge will ever come: the reactor has stopped.
    closed: AtomicBool,
}

/// One direction, as a source of the wait list.
struct Half {
    /// Bit 0: ready. Bit 1: ended. The rest counts edges, so that a caller can tell whether one came since it looked.
    state: AtomicU64,
    waiters: SpinLock<WaitList<()>>,
    waits_for: WaitsFor,
}

const READY: u64 = 1;
/// The peer will send (or take) nothing more: no edge announces what is still to be had, so only `WouldBlock` counts.
const ENDED: u64 = 2;
const ONE_EDGE: u64 = 4;

/// Whether an operation that succeeded left nothing for the next one.
pub(crate) struct Drained(pub(crate) bool);

impl Source {
    /// A source that counts as ready in both directions.
    pub(crate) fn new(token: u64) -> Source {
        Source { token, read: Half::new(WaitsFor::Readable), write: Half::new(WaitsFor::Writable), closed: AtomicBool::new(false) }
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// False only after an operation met `WouldBlock` and before the next edge.
    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        // Acquire pairs with the Release of edge: what made the source ready is visible to the operation.
        self.half(direction).state.load(Ordering::Acquire) & READY != 0
    }

    /// Runs a non-blocking operation if the direction counts as ready, and fails with `WouldBlock` without running it
    /// otherwise. With its value the operation says whether the next one would block.
    pub(crate) fn try_io<T>(&self, direction: Direction, mut operation: impl FnMut() -> io::Result<(T, Drained)>) -> io::Result<T> {
        let half = self.half(direction);
        loop {
            // Acquire pairs with the Release of edge.
            let seen = half.state.load(Ordering::Acquire);
            // Without a reactor the bit is not set again, so the operation itself must tell.
            if seen & READY == 0 && !self.is_closed() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match operation() {
                Ok((value, Drained(drained))) => {
                    if drained && seen & ENDED == 0 {
                        half.clear(seen);
                    }
                    return Ok(value);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if half.clear(seen) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// From now on nobody waits here, and who does is woken and finds out. Operations that need not wait go on as before.
    pub(crate) fn close(&self) {
        // Ordering: Relaxed; the waiters' lock in `edge` comes after, that in `wait` before the look at it.
        self.closed.store(true, Ordering::Relaxed);
        self.set_ready(Direction::Read);
        self.set_ready(Direction::Write);
    }

    /// Whether no edge will come any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Parks until the direction counts as ready. Fails at once if it never will.
    #[track_caller]
    pub(crate) fn wait(&self, direction: Direction, deadline: Option<Instant>) -> Result<(), WaitError> {
        let half = self.half(direction);
        let waiters = half.waiters.lock();
        // Relaxed: an edge sets the bit before it takes this lock, so either it is visible here or it finds our node.
        if half.state.load(Ordering::Relaxed) & READY != 0 {
            return Ok(());
        }
        if self.is_closed() {
            return Err(WaitError::Cancelled);
        }
        let limit = deadline.map_or(Limit::Never, Limit::At);
        match wait_list::wait(half, (), waiters, limit).1 {
            Outcome::Claimed => Ok(()),
            Outcome::TimedOut => Err(WaitError::TimedOut),
            Outcome::Cancelled => Err(WaitError::Cancelled),
        }
    }

    /// Parks although the direction counts as ready, until the next edge or a [`recheck`](Self::recheck). That must come if no edge
    /// does, which is the affair of `enlisted`: it is called when the caller is among the waiters. Whatever ends the wait, the caller tries.
    #[track_caller]
    pub(crate) fn wait_patiently(&self, direction: Direction, enlisted: impl FnOnce()) {
        let half = self.half(direction);
        let _ = wait_list::wait_after(half, (), half.waiters.lock(), Limit::Never, enlisted);
    }

    /// How many edges there have been.
    #[cfg(not(loom))]
    pub(super) fn edges(&self, direction: Direction) -> u64 {
        self.half(direction).state.load(Ordering::Relaxed) / ONE_EDGE
    }

    /// Has everyone try who waits for the direction, though there is no edge.
    pub(crate) fn recheck(&self, direction: Direction) {
        wait_list::wake_all(self.half(direction).waiters.lock(), |waiters| waiters, |()| ());
    }

    /// Who waits for the direction, to be one of them: without a claim only as long as it does not count as ready.
    #[cfg(not(loom))]
    pub(crate) fn waiters(&self, direction: Direction) -> &SpinLock<WaitList<()>> {
        &self.half(direction).waiters
    }

    /// An edge: the direction counts as ready, and everyone who waits for it is unparked.
    pub(crate) fn set_ready(&self, direction: Direction) {
        self.half(direction).edge(READY);
    }

    /// The last edge: whatever comes of this direction is there already, and nothing announces it again.
    pub(crate) fn set_ended(&self, direction: Direction) {
        self.half(direction).edge(READY | ENDED);
    }
}

impl Half {
    fn new(waits_for: WaitsFor) -> Half {
        Half { state: AtomicU64::new(READY), waiters: SpinLock::new(WaitList::new()), waits_for }
    }

    fn edge(&self, bits: u64) {
        // Release pairs with the Acquire loads of try_io and is_ready. The order against the waiters comes from their lock.
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| Some(state.wrapping_add(ONE_EDGE) | bits));
        wait_list::wake_all(self.waiters.lock(), |waiters| waiters, |()| ());
    }

    /// Clears the ready bit unless an edge came since `seen` was read; returns whether the caller may rely on that.
    fn clear(&self, seen: u64) -> bool {
        // Release on success orders the failed operation before the bit; Acquire on failure pairs with edge.
        match self.state.compare_exchange(seen, seen & !READY, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            // Someone else cleared it after the same look.
            Err(state) => state == seen & !READY,
        }
    }
}

impl wait_list::Source for Half {
    type State = WaitList<()>;
    type Payload = ();

    fn waits_for(&self) -> WaitsFor {
        self.waits_for
    }

    fn waiters(state: &mut WaitList<()>) -> &mut WaitList<()> {
        state
    }

    /// An edge wakes all, so there is nothing to pass on.
    fn abandon(&self, (): &mut (), _claimed: bool) {}
}

#[cfg(not(loom))]
impl Source {
    /// Whether anybody waits for the direction, in a blocking call or a selection.
    pub(super) fn has_waiters(&self, direction: Direction) -> bool {
        !self.half(direction).waiters.lock().is_empty()
    }
}
