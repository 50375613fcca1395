//! HyStart++ (RFC 9406): leaves slow start when the round-trip time grows, before the queue overflows.
//!
//! Owns: rounds, their smallest samples, and how fast slow start grows. Does not own: windows and thresholds, which the
//! controllers keep. Invariant: once finished it never slows anything again, for the algorithm is for the first slow start
//! only (RFC 9406 section 4.3).

use std::time::Duration;

use crate::time::Instant;

/// MIN_RTT_THRESH, MAX_RTT_THRESH and MIN_RTT_DIVISOR (RFC 9406 section 4.2).
const MIN_RISE: Duration = Duration::from_millis(4);
const MAX_RISE: Duration = Duration::from_millis(16);
const RISE_DIVISOR: u32 = 8;

/// N_RTT_SAMPLE.
const SAMPLES: u32 = 8;

/// CSS_GROWTH_DIVISOR.
const GROWTH_DIVISOR: u64 = 4;

/// CSS_ROUNDS.
const CONSERVATIVE_ROUNDS: u32 = 5;

#[derive(Clone, Copy, Debug)]
enum Phase {
    Standard,
    /// Conservative Slow Start, from when the smallest sample of a round was `baseline`.
    Conservative {
        baseline: Duration,
        rounds: u32,
    },
    Finished,
}

/// The first slow start of a connection. The growth has no limit a packet (L), for what it permits is paced.
#[derive(Debug)]
pub(super) struct HyStart {
    phase: Phase,
    /// A packet sent after this ends the round by its acknowledgement.
    round: Instant,
    /// The smallest sample of the last round, and of this one; `Duration::MAX` stands for none.
    last: Duration,
    current: Duration,
    samples: u32,
}

impl HyStart {
    pub(super) fn new(now: Instant) -> HyStart {
        HyStart { phase: Phase::Standard, round: now, last: Duration::MAX, current: Duration::MAX, samples: 0 }
    }

    /// Takes in a sample of the round-trip time.
    pub(super) fn on_rtt(&mut self, sample: Duration) {
        self.current = self.current.min(sample);
        self.samples = self.samples.saturating_add(1);
        if self.samples < SAMPLES {
            return;
        }
        match self.phase {
            Phase::Standard => {
                let rise = (self.last / RISE_DIVISOR).clamp(MIN_RISE, MAX_RISE);
                if self.current >= self.last.saturating_add(rise) && self.last != Duration::MAX {
                    self.phase = Phase::Conservative { baseline: self.current, rounds: 0 };
                }
            }
            // It was a moment's jitter and no queue.
            Phase::Conservative { baseline, .. } if self.current < baseline => self.phase = Phase::Standard,
            Phase::Conservative { .. } | Phase::Finished => {}
        }
    }

    /// An ACK is taken in, whose packets were sent until `sent`. Says whether slow start ends here.
    #[must_use]
    pub(super) fn on_ack_end(&mut self, now: Instant, sent: Instant) -> bool {
        if sent <= self.round {
            return false;
        }
        self.round = now;
        self.last = self.current;
        self.current = Duration::MAX;
        self.samples = 0;
        if let Phase::Conservative { rounds, .. } = &mut self.phase {
            // RFC 9406 section 4.2: the round in which it began counts.
            *rounds += 1;
            if *rounds >= CONSERVATIVE_ROUNDS {
                self.phase = Phase::Finished;
                return true;
            }
        }
        false
    }

    /// The network signalled congestion.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Finished;
    }

    /// By how much the window grows for so many bytes acknowledged in slow start.
    pub(super) fn growth(&self, acked: u64) -> u64 {
        match self.phase {
            Phase::Conservative { .. } => acked / GROWTH_DIVISOR,
            Phase::Standard | Phase::Finished => acked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// A round that ends at `ms`, with `samples` of `rtt` milliseconds.
    fn round(start: &mut HyStart, ms: u64, samples: u32, rtt: u64) -> bool {
        for _ in 0..samples {
            start.on_rtt(Duration::from_millis(rtt));
        }
        start.on_ack_end(at(ms), at(ms - 1))
    }

    fn is_conservative(start: &HyStart) -> bool {
        start.growth(400) == 100
    }

    // RFC 9406 section 4.2: an eighth of the last round's minimum, at least 4 ms and at most 16.
    #[test]
    fn a_rise_of_the_round_trip_time_makes_it_conservative() {
        for (rtt, rise) in [(10, 4), (80, 10), (300, 16)] {
            for (more, conservative) in [(rise - 1, false), (rise, true)] {
                let mut start = HyStart::new(at(0));
                assert!(!round(&mut start, 100, 8, rtt));
                assert!(!round(&mut start, 200, 8, rtt + more));
                assert_eq!(is_conservative(&start), conservative, "{rtt} ms and {more} ms more");
            }
        }
    }

    #[test]
    fn fewer_than_eight_samples_say_nothing() {
        let mut start = HyStart::new(at(0));
        assert!(!round(&mut start, 100, 8, 20));
        assert!(!round(&mut start, 200, 7, 90));
        assert!(!is_conservative(&start));
    }

    #[test]
    fn the_first_round_has_nothing_to_compare_with() {
        let mut start = HyStart::new(at(0));
        assert!(!round(&mut start, 100, 20, 500));
        assert!(!is_conservative(&start));
    }

    #[test]
    fn ends_after_five_conservative_rounds() {
        let mut start = HyStart::new(at(0));
        assert!(!round(&mut start, 100, 8, 20));
        for number in 1..=5 {
            let ends = round(&mut start, 100 + 100 * number, 8, 40);
            assert_eq!(ends, number == 5, "round {number}");
        }
        // What is finished stays so, whatever the samples.
        assert!(!round(&mut start, 1000, 8, 20));
        assert!(!round(&mut start, 1100, 8, 90));
        assert_eq!(start.growth(400), 400);
    }

    #[test]
    fn a_fall_below_the_baseline_goes_back_to_slow_start() {
        let mut start = HyStart::new(at(0));
        assert!(!round(&mut start, 100, 8, 20));
        assert!(!round(&mut start, 200, 8, 40));
        assert!(is_conservative(&start));
        assert!(!round(&mut start, 300, 8, 39));
        assert!(!is_conservative(&start));
        assert!(!round(&mut start, 400, 8, 44));
        assert!(is_conservative(&start), "it begins anew from the last round's minimum");
    }

    #[test]
    fn packets_of_the_round_do_not_end_it() {
        let mut start = HyStart::new(at(0));
        assert!(!round(&mut start, 100, 8, 20));
        for _ in 0..20 {
            start.on_rtt(Duration::from_millis(40));
            assert!(!start.on_ack_end(at(150), at(100)));
        }
        assert!(is_conservative(&start), "the samples of one round were not counted together");
    }

    #[test]
    fn congestion_finishes_it() {
        let mut start = HyStart::new(at(0));
        assert!(!round(&mut start, 100, 8, 20));
        assert!(!round(&mut start, 200, 8, 40));
        start.finish();
        assert_eq!(start.growth(400), 400);
        assert!(!round(&mut start, 300, 8, 40));
    }

    #[test]
    fn extreme_samples_overflow_nothing() {
        let mut start = HyStart::new(at(0));
        for number in 1..100 {
            let sample = if number % 2 == 0 { Duration::ZERO } else { Duration::MAX };
            for _ in 0..10 {
                start.on_rtt(sample);
            }
            let _ = start.on_ack_end(at(number), at(number));
        }
    }
}
