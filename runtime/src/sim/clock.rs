//! Owns a simulation's time: it moves only when the driver says so.
//!
//! Invariant: while a [`Clock`] lives, `Instant::now` on its thread is its time; it never goes backwards.

use std::time::Duration;

use crate::time::{self, Instant};

/// Virtual time starts here unless told otherwise, and not at zero, so that a program may subtract an hour from its first instant.
pub(super) const START: Instant = Instant::from_nanos(3_600_000_000_000);

/// The virtual time of this thread.
#[derive(Debug)]
pub(super) struct Clock {
    now: Instant,
}

impl Clock {
    /// Takes over the thread's time, which is `now` from now on.
    pub(super) fn start(now: Instant) -> Self {
        time::set_virtual(Some(now));
        Self { now }
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Jumps to `instant`, if that is in the future.
    pub(super) fn advance_to(&mut self, instant: Instant) {
        self.now = self.now.max(instant);
        time::set_virtual(Some(self.now));
    }

    /// Goes on a little.
    pub(super) fn step(&mut self, duration: Duration) {
        self.advance_to(self.now + duration);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        time::set_virtual(None);
    }
}
