//! Operations of sockets as arms of a `select!`: readiness, then try.
//!
//! Owns where an arm waits, and that its operation is tried whenever that may succeed. Does not own the order of a selection's steps
//! (`select`), readiness (`reactor`), nor what an operation does.
//!
//! Invariants:
//! - An operation that finds nothing leaves the socket as it was, and after one that finds something its arm is chosen: so what
//!   is not chosen has had no effect.
//! - Nothing is handed over that could get lost. An edge wakes all who wait, and each tries for itself.

use std::io;

use super::{Wait, cancelled};
use crate::reactor::{Direction, Source};
use crate::select::{ListArm, Listed, Look, Selectable};
use crate::spin_lock::SpinLock;
use crate::wait_list::{self, WaitList};

/// An operation that can be selected: one that fails with `WouldBlock` where it would have to wait for the socket.
#[must_use = "it does nothing unless it is selected"]
pub(crate) struct Operation<'a, W, F> {
    socket: &'a W,
    direction: Direction,
    operation: F,
    /// Where this wait is, if it can be anywhere.
    source: Option<&'a Source>,
    /// Why it cannot, until that is told.
    failed: Option<io::Error>,
    /// Where a wait is that cannot be: it is always ready.
    nowhere: Source,
}

impl<'a, W: Wait, F> Operation<'a, W, F> {
    pub(crate) fn new<T>(socket: &'a W, direction: Direction, operation: F) -> Self
    where
        F: FnMut() -> io::Result<T>,
    {
        Operation { socket, direction, operation, source: None, failed: None, nowhere: Source::new(0) }
    }
}

impl<W: Wait, F: FnMut() -> io::Result<T>, T> ListArm for Operation<'_, W, F> {
    type State = WaitList<()>;
    type Payload = ();
    type Output = io::Result<T>;

    fn lock(&self) -> &SpinLock<WaitList<()>> {
        self.source.unwrap_or(&self.nowhere).waiters(self.direction)
    }

    fn waiters(state: &mut WaitList<()>) -> &mut WaitList<()> {
        state
    }

    fn attempt(&mut self) -> Option<io::Result<T>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        match (self.operation)() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    /// An edge sets the ready bit before it takes the lock: it is seen here, or finds the node.
    fn look(&self, _state: &WaitList<()>, (): &(), _own: &wait_list::Wait) -> Look {
        let source = self.source.unwrap_or(&self.nowhere);
        if source.is_ready(self.direction) { Look::Ready } else { Look::Waiting(None) }
    }

    /// Finds out where to wait, since another wait may be elsewhere: a reactor ends with its runtime.
    fn payload(&mut self) {
        (self.source, self.failed) = match self.socket.source() {
            Ok(source) if !source.is_closed() => (Some(source), None),
            Ok(_) => (None, Some(cancelled())),
            Err(error) => (None, Some(error)),
        };
    }

    fn left(&mut self, (): ()) {}

    fn chosen(&mut self, (): ()) -> Option<io::Result<T>> {
        self.attempt()
    }

    fn abandoned(&mut self, (): ()) {}

    fn cancelled(&mut self) -> io::Result<T> {
        Err(cancelled())
    }
}

impl<W: Wait, F: FnMut() -> io::Result<T>, T> Selectable for Operation<'_, W, F> {
    type Output = io::Result<T>;
    type Arm = Listed<Self, (), io::Result<T>>;

    fn into_arm(self) -> Self::Arm {
        Listed::new(self)
    }
}

#[cfg(test)]
mod tests;
