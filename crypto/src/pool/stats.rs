//! What a pool counts.
//!
//! Owns the counters, their shape and how they are read. Each is exact; together they are of no one moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a [`CryptoPool`](crate::CryptoPool) holds, and has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CryptoPoolStats {
    /// Threads, those included that wait for a job.
    pub threads: usize,
    /// Threads that were written off because their job does not end, and has not yet.
    pub stuck: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run on the pool's threads, those of stuck threads excepted.
    pub running: usize,
    /// Jobs that were given back because too many waited or there was no thread.
    pub not_taken: u64,
    /// Jobs that ran on the threads of those who would have submitted them, or had.
    pub here: u64,
    /// Jobs that panicked.
    pub panics: u64,
    /// Threads that were ever written off.
    pub written_off: u64,
    /// How long jobs waited before they ran.
    pub waited: Times,
    /// How long jobs took; their count is that of the jobs that have ended.
    pub ran: Times,
}

impl CryptoPoolStats {
    /// Every count that only grows, with its name. Those of the jobs that ended and waited are in [`CryptoPoolStats::times`].
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [("jobs_not_taken", self.not_taken), ("jobs_here", self.here), ("panics", self.panics), ("threads_written_off", self.written_off)]
    }

    /// What there is now, with its name.
    #[must_use]
    pub fn lengths(&self) -> [(&'static str, usize); 4] {
        [("threads", self.threads), ("threads_stuck", self.stuck), ("jobs_queued", self.queued), ("jobs_running", self.running)]
    }

    /// The histograms, with their names.
    #[must_use]
    pub fn times(&self) -> [(&'static str, Times); 2] {
        [("wait", self.waited), ("job", self.ran)]
    }
}

/// A histogram of durations. Bucket `n` counts those below 2^n microseconds, and not below half of that; the last one all that
/// are longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The buckets; [`Times::bound`] says up to what each counts.
    pub buckets: [u64; Self::BUCKETS],
    /// The sum of all durations.
    pub sum: Duration,
}

impl Times {
    /// How many buckets there are: up to 8 s.
    pub const BUCKETS: usize = 24;

    /// What all durations in bucket `index` are shorter than; `None` for the last bucket, and past it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use weald_crypto::Times;
    /// assert_eq!(Times::bound(0), Some(Duration::from_micros(1)));
    /// assert_eq!(Times::bound(10), Some(Duration::from_micros(1024)));
    /// assert_eq!(Times::bound(Times::BUCKETS - 1), None);
    /// ```
    pub fn bound(index: usize) -> Option<Duration> {
        (index + 1 < Self::BUCKETS).then(|| Duration::from_micros(1 << index))
    }

    /// How many durations were noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The mean; zero if nothing was noted.
    pub fn mean(&self) -> Duration {
        let nanos = self.sum.as_nanos().checked_div(self.count().into()).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What a share of the durations is shorter than, of 0 (none) to 1 (all), to a factor of two. `None` if nothing was noted, or
    /// those in question are longer than 8 s.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a factor of two is coarser"
        )]
        let wanted = (share.clamp(0.0, 1.0) * count as f64).ceil() as u64;
        let mut seen = 0;
        let index = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= wanted
        })?;
        Self::bound(index)
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: [0; Self::BUCKETS], sum: Duration::ZERO }
    }
}

/// The counters behind [`CryptoPoolStats`]. All are Relaxed: they order nothing.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) not_taken: AtomicU64,
    pub(super) here: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) written_off: AtomicU64,
    pub(super) waited: Timer,
    pub(super) ran: Timer,
}

impl Counts {
    pub(super) fn read(&self) -> CryptoPoolStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CryptoPoolStats {
            not_taken: count(&self.not_taken),
            here: count(&self.here),
            panics: count(&self.panics),
            written_off: count(&self.written_off),
            waited: self.waited.read(),
            ran: self.ran.read(),
            ..CryptoPoolStats::default()
        }
    }
}

/// The counters behind [`Times`].
#[derive(Default)]
pub(super) struct Timer {
    buckets: [AtomicU64; Times::BUCKETS],
    nanos: AtomicU64,
}

impl Timer {
    pub(super) fn note(&self, duration: Duration) {
        let micros = duration.as_micros();
        let index = (u128::BITS - micros.leading_zeros()) as usize;
        self.buckets[index.min(Times::BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(super::nanos(duration), Ordering::Relaxed);
    }

    fn read(&self) -> Times {
        Times {
            buckets: std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_to_a_factor_of_two() {
        let timer = Timer::default();
        for micros in [0, 1, 2, 3, 4, 1000, 1023, 1024, u64::MAX] {
            timer.note(Duration::from_micros(micros));
        }
        let times = timer.read();
        let filled: Vec<_> =
            times.buckets.iter().enumerate().filter(|(_, count)| **count > 0).map(|(index, count)| (index, *count)).collect();
        assert_eq!(filled, [(0, 1), (1, 1), (2, 2), (3, 1), (10, 2), (11, 1), (Times::BUCKETS - 1, 1)]);
        assert_eq!(times.count(), 9);
        assert_eq!(times.quantile(0.5), Some(Duration::from_micros(8)));
        assert_eq!(times.quantile(0.75), Some(Duration::from_micros(1024)));
        assert_eq!(times.quantile(1.0), None);
        assert_eq!((Times::default().quantile(0.5), Times::default().mean()), (None, Duration::ZERO));
    }
}
