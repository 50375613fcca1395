//! NewReno, the controller that RFC 9002 section 7 describes, with the first slow start of RFC 9406.
//!
//! Invariants: `window` is at least two datagrams; it grows only by packets sent after the last recovery period started, and
//! only while it is in use.

use super::hystart::HyStart;
use super::{AckEnd, AckedPacket, CongestionSignal, Controller, ControllerStart, Recovery, RttSample, minimum_window};
use crate::time::Instant;

pub(super) const NAME: &str = "new_reno";

/// State of a NewReno controller.
#[derive(Debug)]
pub(super) struct NewReno {
    window: u64,
    slow_start_threshold: u64,
    hystart: HyStart,
    /// Bytes acknowledged in congestion avoidance that have not yet made a datagram's worth of growth (RFC 3465 section 2.1).
    acked: u64,
    recovery: Recovery,
    mtu: u16,
}

impl NewReno {
    pub(super) fn new(start: ControllerStart) -> NewReno {
        NewReno {
            window: start.window,
            slow_start_threshold: u64::MAX,
            hystart: HyStart::new(start.now),
            acked: 0,
            recovery: Recovery::default(),
            mtu: start.mtu,
        }
    }
}

impl Controller for NewReno {
    fn on_rtt(&mut self, sample: RttSample) {
        self.hystart.on_rtt(sample.latest);
    }

    fn on_acked(&mut self, packet: AckedPacket) {
        if packet.underused || self.recovery.contains(packet.sent) {
            return;
        }
        if self.in_slow_start() {
            self.window = self.window.saturating_add(self.hystart.growth(packet.bytes));
            return;
        }
        // RFC 9002 section 7.3.3: at most one datagram for each window acknowledged.
        self.acked = self.acked.saturating_add(packet.bytes);
        if self.acked >= self.window {
            self.acked -= self.window;
            self.window = self.window.saturating_add(u64::from(self.mtu));
        }
    }

    fn on_ack_end(&mut self, end: AckEnd) {
        if self.hystart.on_ack_end(end.now, end.sent) {
            self.slow_start_threshold = self.window;
        }
    }

    fn on_congestion(&mut self, now: Instant, sent: Instant, _: CongestionSignal) {
        if !self.recovery.enter(now, sent) {
            return;
        }
        // RFC 9002 section 7.3.2: kLossReductionFactor is one half, for marks as for losses.
        self.window = (self.window / 2).max(minimum_window(self.mtu));
        self.slow_start_threshold = self.window;
        self.hystart.finish();
        // RFC 9002 appendix B.5 grows by fractions of a datagram, which a reduction does not take back.
        self.acked = self.acked.min(self.window);
    }

    fn on_persistent_congestion(&mut self) {
        self.window = minimum_window(self.mtu);
        self.acked = 0;
        self.recovery = Recovery::default();
    }

    fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.window = self.window.max(minimum_window(mtu));
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.slow_start_threshold
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn reno(window: u64) -> NewReno {
        NewReno::new(ControllerStart { now: at(0), window, mtu: 1200 })
    }

    fn acked(now: u64, sent: u64, bytes: u64) -> AckedPacket {
        AckedPacket { now: at(now), sent: at(sent), bytes, rtt: Duration::from_millis(100), underused: false }
    }

    // RFC 9002 section 7.3.1 and appendix B.5: slow start grows by what was acknowledged.
    #[test]
    fn slow_start_doubles() {
        let mut reno = reno(12_000);
        for _ in 0..10 {
            reno.on_acked(acked(100, 0, 1200));
        }
        assert_eq!(reno.window(), 24_000);
    }

    // RFC 9002 section 7.8
    #[test]
    fn an_unused_window_does_not_grow() {
        let mut reno = reno(12_000);
        reno.on_acked(AckedPacket { underused: true, ..acked(100, 0, 1200) });
        assert_eq!(reno.window(), 12_000);
    }

    // RFC 9002 section 7.3.2: one reduction a recovery period; then a datagram a window.
    #[test]
    fn one_reduction_a_round_trip() {
        for signal in [CongestionSignal::Loss, CongestionSignal::Ecn] {
            let mut reno = reno(24_000);
            reno.on_congestion(at(100), at(0), signal);
            reno.on_congestion(at(110), at(100), signal);
            assert_eq!(reno.window(), 12_000);
            assert!(!reno.in_slow_start());
            reno.on_acked(acked(150, 100, 1200));
            assert_eq!(reno.window(), 12_000, "a packet of the recovery period grew the window");
            for _ in 0..10 {
                reno.on_acked(acked(250, 150, 1200));
            }
            assert_eq!(reno.window(), 13_200);
            reno.on_congestion(at(300), at(150), signal);
            assert_eq!(reno.window(), 6600);
        }
    }

    // RFC 9002 section 7.6.2
    #[test]
    fn persistent_congestion_starts_over() {
        let mut reno = reno(24_000);
        reno.on_congestion(at(100), at(0), CongestionSignal::Loss);
        reno.on_persistent_congestion();
        assert_eq!(reno.window(), 2400);
        assert!(reno.in_slow_start());
        reno.on_acked(acked(110, 50, 1200));
        assert_eq!(reno.window(), 3600, "the recovery period did not end");
    }

    #[test]
    fn never_below_two_datagrams() {
        let mut reno = reno(2400);
        for round in 1..100 {
            reno.on_congestion(at(round * 2), at(round * 2 - 1), CongestionSignal::Loss);
            assert_eq!(reno.window(), 2400);
        }
        reno.on_mtu(9000);
        assert_eq!(reno.window(), 18_000);
    }

    /// Rounds of 100 ms in which a window is acknowledged with samples of `rtt` milliseconds.
    fn rounds(reno: &mut NewReno, rounds: std::ops::Range<u64>, rtt: u64) {
        for round in rounds {
            let now = at(round * 100);
            for _ in 0..reno.window() / 1200 {
                let latest = Duration::from_millis(rtt);
                reno.on_rtt(RttSample { now, latest, min: latest, smoothed: latest });
                reno.on_acked(acked(round * 100, round * 100 - 50, 1200));
            }
            reno.on_ack_end(AckEnd { now, sent: at(round * 100 - 50), in_flight: 0 });
        }
    }

    // RFC 9406 section 4.2: a quarter of the growth for five rounds, then the threshold is the window.
    #[test]
    fn slow_start_ends_when_the_round_trip_time_grows() {
        let mut reno = reno(12_000);
        rounds(&mut reno, 1..3, 50);
        assert_eq!(reno.window(), 48_000);
        // The rise shows with the eighth sample, before 33 of 40 packets.
        rounds(&mut reno, 3..4, 70);
        assert_eq!(reno.window(), 48_000 + 7 * 1200 + 33 * 300);
        rounds(&mut reno, 4..8, 70);
        assert!(!reno.in_slow_start());
        let window = reno.window();
        assert!(window > 2 * 48_000 && window < 4 * 48_000, "{window}");
        // Less than two windows of whole packets.
        rounds(&mut reno, 8..10, 70);
        assert_eq!(reno.window(), window + 1200);
    }

    // RFC 9002 appendix B.5: with a window of ten, what is lost for each loss is a part of a datagram that matters.
    #[test]
    fn what_was_acknowledged_before_a_reduction_counts_after_it() {
        let mut reno = reno(24_000);
        reno.on_congestion(at(100), at(0), CongestionSignal::Loss);
        for _ in 0..9 {
            reno.on_acked(acked(250, 150, 1200));
        }
        reno.on_congestion(at(300), at(250), CongestionSignal::Loss);
        assert_eq!(reno.window(), 6000);
        reno.on_acked(acked(500, 400, 1200));
        assert_eq!(reno.window(), 7200);
        (0..4).for_each(|_| reno.on_acked(acked(500, 400, 1200)));
        assert_eq!(reno.window(), 7200, "more than a window was remembered");
    }
}
