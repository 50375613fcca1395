//! The deadlines of a connection, one of each kind.
//!
//! Owns: the instants. Does not own: what sets them or what happens when they pass (`connection::lifecycle`).

use crate::time::Instant;

/// What a deadline is for. When several have passed, they are due in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The end of closing or draining (RFC 9000 section 10.2).
    Close,
    /// The idle timeout (RFC 9000 section 10.1).
    Idle,
    /// The handshake took too long.
    Handshake,
    /// Loss by time, or a probe (RFC 9002 section 6).
    Loss,
    /// An acknowledgement was put off as long as it may be (RFC 9000 section 13.2.1).
    AckDelay,
    /// The pacer lets the next packets go.
    Pacing,
    /// Old keys are kept no longer (RFC 9001 section 4.9, 6.5).
    KeyDiscard,
    /// Time to send something so that the connection lives (RFC 9000 section 10.1.2).
    KeepAlive,
    /// Nothing was said for a while: memory that was kept for more goes.
    Quiet,
}

impl Timer {
    const ALL: [Timer; 9] = [
        Timer::Close,
        Timer::Idle,
        Timer::Handshake,
        Timer::Loss,
        Timer::AckDelay,
        Timer::Pacing,
        Timer::KeyDiscard,
        Timer::KeepAlive,
        Timer::Quiet,
    ];
}

/// The deadlines of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Timers {
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    /// None is set.
    pub(crate) fn new() -> Timers {
        Timers { deadlines: [None; Timer::ALL.len()] }
    }

    /// Sets, moves or, with `None`, stops a timer.
    pub(crate) fn set(&mut self, timer: Timer, deadline: Option<Instant>) {
        self.deadlines[timer as usize] = deadline;
    }

    /// When a timer is due.
    pub(crate) fn get(&self, timer: Timer) -> Option<Instant> {
        self.deadlines[timer as usize]
    }

    /// Stops all timers.
    pub(crate) fn clear(&mut self) {
        *self = Timers::new();
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.into_iter().flatten().min()
    }

    /// Stops one timer that is due at `now` and says which. Call until `None`.
    pub(crate) fn poll_expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|timer| self.get(*timer).is_some_and(|deadline| deadline <= now))?;
        self.set(timer, None);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn kinds_index_their_own_place() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    fn expire_once_in_order_of_kind() {
        let mut timers = Timers::new();
        assert_eq!((timers.next(), timers.poll_expired(at(u64::MAX))), (None, None));
        timers.set(Timer::Pacing, Some(at(5)));
        timers.set(Timer::Idle, Some(at(7)));
        timers.set(Timer::KeepAlive, Some(at(9)));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.poll_expired(at(4)), None);
        assert_eq!(timers.poll_expired(at(8)), Some(Timer::Idle));
        assert_eq!(timers.poll_expired(at(8)), Some(Timer::Pacing));
        assert_eq!(timers.poll_expired(at(8)), None);
        assert_eq!(timers.get(Timer::KeepAlive), Some(at(9)));
        timers.clear();
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_at_the_start_of_the_clock_is_one() {
        let mut timers = Timers::new();
        timers.set(Timer::Loss, Some(at(0)));
        assert_eq!(timers.poll_expired(at(0)), Some(Timer::Loss));
    }
}
