//! NewReno, the controller that RFC 9002 section 7 describes.
//!
//! Invariants: `window` is at least two datagrams; it grows only by packets sent after the last recovery period started, and
//! only while it is in use.

use super::{AckedPacket, CongestionSignal, Controller, Recovery, minimum_window};
use crate::time::Instant;

pub(super) const NAME: &str = "new_reno";

/// State of a NewReno controller.
#[derive(Debug)]
pub(super) struct NewReno {
    window: u64,
    slow_start_threshold: u64,
    /// Bytes acknowledged in congestion avoidance that have not yet made a datagram's worth of growth (RFC 3465 section 2.1).
    acked: u64,
    recovery: Recovery,
    mtu: u16,
}

impl NewReno {
    pub(super) fn new(window: u64, mtu: u16) -> NewReno {
        NewReno { window, slow_start_threshold: u64::MAX, acked: 0, recovery: Recovery::default(), mtu }
    }
}

impl Controller for NewReno {
    fn on_sent(&mut self, _: Instant, _: u64, _: u64) {}

    fn on_acked(&mut self, packet: AckedPacket) {
        if packet.underused || self.recovery.contains(packet.sent) {
            return;
        }
        if self.in_slow_start() {
            self.window = self.window.saturating_add(packet.bytes);
            return;
        }
        // RFC 9002 section 7.3.3: at most one datagram for each window acknowledged.
        self.acked = self.acked.saturating_add(packet.bytes);
        if self.acked >= self.window {
            self.acked -= self.window;
            self.window = self.window.saturating_add(u64::from(self.mtu));
        }
    }

    fn on_congestion(&mut self, now: Instant, sent: Instant, _: CongestionSignal) {
        if !self.recovery.enter(now, sent) {
            return;
        }
        // RFC 9002 section 7.3.2: kLossReductionFactor is one half, for marks as for losses.
        self.window = (self.window / 2).max(minimum_window(self.mtu));
        self.slow_start_threshold = self.window;
        self.acked = 0;
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

    fn name(&self) -> &'static str {
        NAME
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn acked(now: u64, sent: u64, bytes: u64) -> AckedPacket {
        AckedPacket { now: at(now), sent: at(sent), bytes, rtt: Duration::from_millis(100), underused: false }
    }

    // RFC 9002 section 7.3.1 and appendix B.5: slow start grows by what was acknowledged.
    #[test]
    fn slow_start_doubles() {
        let mut reno = NewReno::new(12_000, 1200);
        for _ in 0..10 {
            reno.on_acked(acked(100, 0, 1200));
        }
        assert_eq!(reno.window(), 24_000);
    }

    // RFC 9002 section 7.8
    #[test]
    fn an_unused_window_does_not_grow() {
        let mut reno = NewReno::new(12_000, 1200);
        reno.on_acked(AckedPacket { underused: true, ..acked(100, 0, 1200) });
        assert_eq!(reno.window(), 12_000);
    }

    // RFC 9002 section 7.3.2: one reduction a recovery period; then a datagram a window.
    #[test]
    fn one_reduction_a_round_trip() {
        for signal in [CongestionSignal::Loss, CongestionSignal::Ecn] {
            let mut reno = NewReno::new(24_000, 1200);
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
        let mut reno = NewReno::new(24_000, 1200);
        reno.on_congestion(at(100), at(0), CongestionSignal::Loss);
        reno.on_persistent_congestion();
        assert_eq!(reno.window(), 2400);
        assert!(reno.in_slow_start());
        reno.on_acked(acked(110, 50, 1200));
        assert_eq!(reno.window(), 3600, "the recovery period did not end");
    }

    #[test]
    fn never_below_two_datagrams() {
        let mut reno = NewReno::new(2400, 1200);
        for round in 1..100 {
            reno.on_congestion(at(round * 2), at(round * 2 - 1), CongestionSignal::Loss);
            assert_eq!(reno.window(), 2400);
        }
        reno.on_mtu(9000);
        assert_eq!(reno.window(), 18_000);
    }
}
