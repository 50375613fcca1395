//! Readiness: what a descriptor (or a simulated socket) can do now, and who waits until it can.
//!
//! Owns [`Source`], the meeting point of an event loop that learns of readiness and of callers that need it. Does not own
//! descriptors, and never reads or writes: an operation is tried by its owner inside [`Source::try_io`].
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

mod epoll;

use std::io;

pub(crate) use self::epoll::{Reactor, ReactorHandle, ReactorWaker};
use crate::park::{self, Unparked, Waiter};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::time::Instant;

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

#[derive(Default)]
struct Half {
    /// Bit 0: ready. The rest counts edges, so that a caller can tell whether one came since it looked.
    state: AtomicU64,
    waiters: Mutex<Waiters>,
}

/// Who waits, each under a ticket by which it can leave early.
#[derive(Default)]
struct Waiters {
    next_ticket: u64,
    list: Vec<(u64, Waiter)>,
}

const READY: u64 = 1;
const ONE_EDGE: u64 = 2;

impl Source {
    /// A source that counts as ready in both directions.
    pub(crate) fn new(token: u64) -> Source {
        let source = Source { token, read: Half::default(), write: Half::default(), closed: AtomicBool::new(false) };
        source.set_ready(Direction::Read);
        source.set_ready(Direction::Write);
        source
    }

    fn token(&self) -> u64 {
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
        // Acquire pairs with the Release of set_ready: what made the source ready is visible to the operation.
        self.half(direction).state.load(Ordering::Acquire) & READY != 0
    }

    /// Runs a non-blocking operation if the direction counts as ready, and fails with `WouldBlock` without running it
    /// otherwise. With its value the operation says whether the next one would block.
    pub(crate) fn try_io<T>(&self, direction: Direction, mut operation: impl FnMut() -> io::Result<(T, Drained)>) -> io::Result<T> {
        let half = self.half(direction);
        loop {
            // Acquire pairs with the Release of set_ready.
            let seen = half.state.load(Ordering::Acquire);
            // Without a reactor the bit is not set again, so the operation itself must tell.
            if seen & READY == 0 && !self.closed.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match operation() {
                Ok((value, Drained(drained))) => {
                    if drained {
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

    /// From now on nobody waits here, and who does is cancelled. Operations that need not wait go on as before.
    pub(crate) fn close(&self) {
        // Ordering: Relaxed; the waiters' lock in `set_ready` comes after, that in `enlist` before the look at it.
        self.closed.store(true, Ordering::Relaxed);
        self.set_ready(Direction::Read);
        self.set_ready(Direction::Write);
    }

    /// Parks until the direction counts as ready. Fails at once if it never will.
    #[track_caller]
    pub(crate) fn wait(&self, direction: Direction, deadline: Option<Instant>) -> Result<(), WaitError> {
        let half = self.half(direction);
        while let Some(place) = half.enlist() {
            if self.closed.load(Ordering::Relaxed) {
                return Err(WaitError::Cancelled);
            }
            let unparked = park::park_until(deadline);
            // Whoever set the ready bit has taken everyone off the list; any other reason leaves us on it.
            drop(place);
            match unparked {
                Unparked::Token => {}
                Unparked::TimedOut if self.is_ready(direction) => {}
                Unparked::TimedOut => return Err(WaitError::TimedOut),
                Unparked::Cancelled => return Err(WaitError::Cancelled),
            }
        }
        Ok(())
    }

    /// An edge: the direction counts as ready, and everyone who waits for it is unparked.
    pub(crate) fn set_ready(&self, direction: Direction) {
        let half = self.half(direction);
        // Release pairs with the Acquire loads of try_io and is_ready. The order against the waiters comes from their lock.
        let _ = half.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| Some(state.wrapping_add(ONE_EDGE) | READY));
        let woken = {
            let mut waiters = half.waiters.lock();
            // The common edge finds nobody: a hook polls its socket.
            if waiters.list.is_empty() {
                return;
            }
            std::mem::take(&mut waiters.list)
        };
        for (_, waiter) in &woken {
            waiter.unpark();
        }
        half.give_back(woken);
    }
}

/// Whether an operation that succeeded left nothing for the next one.
pub(crate) struct Drained(pub(crate) bool);

impl Half {
    /// Clears the ready bit unless an edge came since `seen` was read; returns whether the caller may rely on that.
    fn clear(&self, seen: u64) -> bool {
        // Release on success orders the failed operation before the bit; Acquire on failure pairs with set_ready.
        match self.state.compare_exchange(seen, seen & !READY, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            // Someone else cleared it after the same look.
            Err(state) => state == seen & !READY,
        }
    }

    /// Takes a place on the list, or `None` if the direction is ready.
    #[track_caller]
    fn enlist(&self) -> Option<Place<'_>> {
        let mut waiters = self.waiters.lock();
        // Relaxed: set_ready sets the bit before it takes this lock, so either it is visible here or it finds our entry.
        if self.state.load(Ordering::Relaxed) & READY != 0 {
            return None;
        }
        let ticket = waiters.next_ticket;
        waiters.next_ticket += 1;
        waiters.list.push((ticket, Waiter::current()));
        Some(Place { half: self, ticket })
    }

    /// Returns the list's memory, so that the next wait allocates nothing.
    fn give_back(&self, mut list: Vec<(u64, Waiter)>) {
        list.clear();
        let mut waiters = self.waiters.lock();
        if waiters.list.is_empty() && waiters.list.capacity() < list.capacity() {
            waiters.list = list;
        }
    }
}

/// A place on a waiters' list, left when dropped (a park may unwind).
struct Place<'a> {
    half: &'a Half,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiters = self.half.waiters.lock();
        if let Some(position) = waiters.list.iter().position(|&(other, _)| other == self.ticket) {
            waiters.list.swap_remove(position);
        }
    }
}

#[cfg(test)]
mod tests;
