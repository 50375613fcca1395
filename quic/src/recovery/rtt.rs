//! The round-trip time estimate of one path (RFC 9002 section 5).
//!
//! Owns: samples, their smoothing, and the periods derived from them. Does not own: which packet gives a sample
//! (`connection::space`), or the back-off of probes (`recovery::loss`).
//!
//! Invariants: every value is at most [`MAX_SAMPLE`], so that no period derived from it overflows; `min <= latest` once a
//! sample was taken.

use std::time::Duration;

use crate::time::Instant;

/// kInitialRtt (RFC 9002 section 6.2.2).
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(333);

/// kGranularity (RFC 9002 section 6.1.2).
pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);

/// kPersistentCongestionThreshold (RFC 9002 section 7.6.1).
const PERSISTENT_CONGESTION_THRESHOLD: u32 = 3;

/// A sample longer than this is taken as this: no network needs it, and arithmetic in nanoseconds stays far from its limits.
const MAX_SAMPLE: Duration = Duration::from_secs(600);

/// So many late acknowledgements in a row are left out: where a round trip fails two times in three, this happens once in 25
/// times by chance, and a peer that is slow is waited for from the ninth on.
const MAX_LATE: u8 = 8;

/// What the peer said, or promised, of the time that it held an acknowledgement back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PeerDelay {
    /// The ACK Delay field, decoded.
    pub(crate) reported: Duration,
    /// The peer's max_ack_delay if the handshake is confirmed, and no bound before (RFC 9002 section 5.3).
    pub(crate) limit: Option<Duration>,
}

/// Smoothed round-trip time of a path.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    min: Duration,
    first_sample: Option<Instant>,
    /// Samples in a row that were left out because their acknowledgements were late.
    late: u8,
}

impl Rtt {
    /// An estimate without a sample. `initial` stands for one until the first arrives.
    pub(crate) fn new(initial: Duration) -> Rtt {
        let initial = initial.min(MAX_SAMPLE);
        Rtt { latest: initial, smoothed: initial, variation: initial / 2, min: initial, first_sample: None, late: 0 }
    }

    /// Takes in a sample made at `now`. Says whether it tells of the path.
    pub(crate) fn on_sample(&mut self, now: Instant, sample: Duration, delay: PeerDelay) -> bool {
        let sample = sample.min(MAX_SAMPLE);
        if !self.is_late(sample, delay) {
            self.late = 0;
        } else if self.late < MAX_LATE {
            self.late += 1;
            return false;
        }
        self.latest = sample;
        if self.first_sample.is_none() {
            // RFC 9002 section 5.2, 5.3: the first sample replaces the guess, and ignores the peer's delay.
            self.first_sample = Some(now);
            self.min = sample;
            self.smoothed = sample;
            self.variation = sample / 2;
            return true;
        }
        self.min = self.min.min(sample);
        let delay = delay.limit.map_or(delay.reported, |limit| delay.reported.min(limit));
        // RFC 9002 section 5.3: never below the minimum, which a peer could otherwise push down by lying.
        let adjusted = if sample >= self.min.saturating_add(delay) { sample - delay } else { sample };
        let deviation = self.smoothed.abs_diff(adjusted);
        self.variation = (self.variation * 3 + deviation) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
        true
    }

    /// Whether the peer says that it kept the acknowledgement back for longer than it promised, by more than can be told from
    /// the path. It repeats one that was lost, then, which says nothing of the path: were it a sample, the probe timeout would
    /// grow to the time between two repetitions, and with it the next of them. RFC 9002 section 5.3 counts what a peer took
    /// longer than it promised, so that a slow one is waited for.
    ///
    /// No delay is taken out of a first sample (RFC 9002 section 5.3), so that one which is mostly delay would be worse than the
    /// guess: that of a packet that waited for its keys while the handshake was lost and probed for.
    fn is_late(&self, sample: Duration, delay: PeerDelay) -> bool {
        // A peer that reports more than there was is not believed.
        if self.first_sample.is_none() {
            return delay.reported > sample / 2 && delay.reported <= sample;
        }
        let is_late = delay.limit.is_some_and(|limit| delay.reported > limit.saturating_add(limit.max(self.min).max(GRANULARITY)));
        is_late && sample >= self.min.saturating_add(delay.reported)
    }

    /// The most recent sample, or the initial guess.
    pub(crate) fn latest(&self) -> Duration {
        self.latest
    }

    /// The exponentially weighted average.
    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The mean deviation.
    pub(crate) fn variation(&self) -> Duration {
        self.variation
    }

    /// The smallest sample, not adjusted for the peer's delay.
    pub(crate) fn min(&self) -> Duration {
        self.min
    }

    /// When the first sample was taken.
    pub(crate) fn first_sample(&self) -> Option<Instant> {
        self.first_sample
    }

    /// The probe timeout before back-off and without the peer's acknowledgement delay (RFC 9002 section 6.2.1).
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY)
    }

    /// How long after a packet that an acknowledged one overtook counts as lost (RFC 9002 section 6.1.2).
    pub(crate) fn loss_delay(&self) -> Duration {
        (self.smoothed.max(self.latest) * 9 / 8).max(GRANULARITY)
    }

    /// The span of losses that is persistent congestion (RFC 9002 section 7.6.1).
    pub(crate) fn persistent_congestion(&self, max_ack_delay: Duration) -> Duration {
        (self.probe_timeout() + max_ack_delay) * PERSISTENT_CONGESTION_THRESHOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn reported(ms: u32) -> PeerDelay {
        PeerDelay { reported: MS * ms, limit: Some(25 * MS) }
    }

    // RFC 9002 section 6.2.2: no sample yet gives a probe timeout of one second.
    #[test]
    fn initial_probe_timeout_is_about_a_second() {
        let rtt = Rtt::new(INITIAL_RTT);
        assert_eq!(rtt.probe_timeout(), 999 * MS);
        assert_eq!(rtt.first_sample(), None);
    }

    // RFC 9002 section 5.3: the first sample, then 7/8 and 3/4.
    #[test]
    fn samples_are_smoothed() {
        let mut rtt = Rtt::new(INITIAL_RTT);
        rtt.on_sample(at(1), 100 * MS, reported(25));
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.min()), (100 * MS, 50 * MS, 100 * MS));
        rtt.on_sample(at(2), 200 * MS, reported(20));
        // adjusted 180: variation (3*50 + 80)/4, smoothed (7*100 + 180)/8
        assert_eq!((rtt.smoothed(), rtt.variation()), (110 * MS, Duration::from_micros(57_500)));
        assert_eq!((rtt.latest(), rtt.min(), rtt.first_sample()), (200 * MS, 100 * MS, Some(at(1))));
    }

    // RFC 9002 section 5.3: a delay above max_ack_delay is cut to it; one that would go below the minimum is ignored.
    #[test]
    fn reported_delay_is_bounded() {
        let mut rtt = Rtt::new(INITIAL_RTT);
        rtt.on_sample(at(1), 100 * MS, reported(0));
        let mut honest = rtt.clone();
        rtt.on_sample(at(2), 200 * MS, reported(90));
        honest.on_sample(at(2), 200 * MS, reported(25));
        assert_eq!(rtt.smoothed(), honest.smoothed());
        let mut rtt = Rtt::new(INITIAL_RTT);
        rtt.on_sample(at(1), 100 * MS, reported(0));
        rtt.on_sample(at(2), 101 * MS, reported(20));
        assert_eq!(rtt.smoothed(), (100 * MS * 7 + 101 * MS) / 8);
    }

    /// An ACK that was lost and came again says nothing of the path; a slow peer does, and one that reports nonsense, too.
    #[test]
    fn late_acknowledgements_are_no_samples() {
        let mut rtt = Rtt::new(INITIAL_RTT);
        rtt.on_sample(at(1), 100 * MS, reported(0));
        let before = (rtt.smoothed(), rtt.variation(), rtt.latest());
        for late in 0..u32::from(MAX_LATE) {
            rtt.on_sample(at(2), (226 + late) * MS, reported(126 + late));
        }
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.latest()), before);
        let mut slow = rtt.clone();
        slow.on_sample(at(3), 1100 * MS, reported(1000));
        slow.on_sample(at(4), 1200 * MS, reported(1000));
        assert_eq!(slow.latest(), 1200 * MS, "RFC 9002 section 5.3: it is slower than it said");
        let mut punctual = rtt.clone();
        punctual.on_sample(at(3), 225 * MS, reported(125));
        punctual.on_sample(at(4), 1100 * MS, reported(1000));
        assert_eq!(punctual.latest(), 225 * MS, "as late as twice the promise, and late for the first time after that");
        let mut liar = rtt.clone();
        liar.on_sample(at(3), 1099 * MS, reported(1000));
        assert_eq!(liar.latest(), 1099 * MS, "the rest would be below the minimum");
    }

    /// A first sample that is mostly delay is no better than the guess.
    #[test]
    fn the_first_sample_is_no_late_one() {
        for (reported, expected) in [(3000, 333), (2000, 333), (1500, 3000), (3001, 3000)] {
            let mut rtt = Rtt::new(INITIAL_RTT);
            rtt.on_sample(at(1), 3000 * MS, PeerDelay { reported: reported * MS, limit: None });
            assert_eq!(rtt.smoothed(), expected * MS, "{reported} ms of delay");
            assert_eq!(rtt.first_sample().is_some(), expected == 3000);
        }
    }

    /// Where each answer is a repetition by a peer that probes as we do, the probe timeout does not chase itself.
    #[test]
    fn repetitions_do_not_feed_the_probe_timeout() {
        let mut rtt = Rtt::new(INITIAL_RTT);
        rtt.on_sample(at(1), 40 * MS, reported(0));
        let before = rtt.probe_timeout();
        for number in 0..20 {
            // Five are late, one is not.
            let wait = if number % 6 == 5 { Duration::ZERO } else { 2 * (rtt.probe_timeout() + 25 * MS) };
            rtt.on_sample(at(2), 40 * MS + wait, PeerDelay { reported: wait, limit: Some(25 * MS) });
        }
        assert!(rtt.probe_timeout() <= before, "{:?} after {before:?}", rtt.probe_timeout());
    }

    #[test]
    fn zero_and_endless_samples_overflow_nothing() {
        for sample in [Duration::ZERO, Duration::from_micros(1 << 62), Duration::MAX] {
            let mut rtt = Rtt::new(sample);
            for _ in 0..3 {
                rtt.on_sample(at(0), sample, PeerDelay { reported: Duration::from_micros(1 << 62), limit: None });
                assert!(rtt.loss_delay() >= GRANULARITY);
                assert!(rtt.probe_timeout() >= GRANULARITY);
                assert!(rtt.persistent_congestion(Duration::from_secs(16)) > rtt.probe_timeout());
            }
        }
    }
}
