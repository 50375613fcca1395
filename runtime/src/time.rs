//! Owns the clock that all of Weald reads: monotonic nanoseconds, real or, inside a simulation, virtual.
//!
//! It owns no timers (see `timer_wheel`) and does not decide when virtual time moves (see `sim::clock`).
//!
//! Invariants: time never goes backwards on one thread; arithmetic saturates and never panics, so that a deadline far in
//! the future is simply never reached.

use std::cell::Cell;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

#[cfg(not(loom))]
use crate::sys;

/// Real time starts here and not at zero, so that a program may subtract an hour from its first instant.
const REAL_START: u64 = 3_600_000_000_000;

thread_local! {
    /// The virtual time of the simulation that this thread drives.
    static VIRTUAL_NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A point in time: nanoseconds since an arbitrary start, the same for all threads of the process.
///
/// Inside a simulation it is virtual time. It counts 584 years; sums and differences saturate.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::time::Instant;
///
/// let start = Instant::now();
/// let deadline = start + Duration::from_millis(5);
/// assert_eq!(deadline - start, Duration::from_millis(5));
/// assert_eq!(start - deadline, Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The present: the monotonic clock, or the simulation's time if this thread runs one.
    #[inline]
    #[must_use]
    pub fn now() -> Self {
        VIRTUAL_NOW.get().unwrap_or_else(Self::real_now)
    }

    /// The instant `nanos` nanoseconds after the arbitrary start.
    #[inline]
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the arbitrary start.
    #[inline]
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    #[inline]
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time that has passed since `self`.
    #[inline]
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    #[cfg(not(loom))]
    #[inline]
    fn real_now() -> Self {
        Self(REAL_START + sys::clock::monotonic())
    }

    /// `sys` is no part of the models.
    #[cfg(loom)]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    fn real_now() -> Self {
        static EPOCH: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        Self(REAL_START) + std::time::Instant::now().saturating_duration_since(*EPOCH)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    #[inline]
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// This thread's virtual time, to be handed over to a coroutine's thread.
#[cfg(any(miri, weald_baton))]
pub(crate) fn virtual_now() -> Option<Instant> {
    VIRTUAL_NOW.get()
}

/// Sets this thread's virtual time, or returns it to the real clock. Only `sim::clock` calls it, and who hands it over.
#[cfg(any(not(loom), test))]
pub(crate) fn set_virtual(now: Option<Instant>) {
    VIRTUAL_NOW.set(now);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn real_time_goes_forward_and_starts_late_enough_to_subtract_from() {
        let first = Instant::now();
        let second = Instant::now();
        assert!(second >= first);
        assert!(first - Duration::from_secs(3599) > Instant::from_nanos(0));
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Instant::from_nanos(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Instant::from_nanos(5) - Duration::from_secs(1), Instant::from_nanos(0));
        assert_eq!(Instant::from_nanos(5) - end, Duration::ZERO);
    }

    #[test]
    fn virtual_time_replaces_the_clock_of_this_thread_only() {
        let pretended = Instant::from_nanos(42);
        set_virtual(Some(pretended));
        assert_eq!(Instant::now(), pretended);
        assert_eq!(pretended.elapsed(), Duration::ZERO);
        let elsewhere = std::thread::scope(|scope| scope.spawn(Instant::now).join()).expect("no panic");
        assert_ne!(elsewhere, pretended);
        set_virtual(None);
        assert_ne!(Instant::now(), pretended);
    }

    #[test]
    fn debug_prints_seconds() {
        assert_eq!(format!("{:?}", Instant::from_nanos(1_500_000_000)), "1.500000000s");
    }
}
