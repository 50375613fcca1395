//! CUBIC (RFC 9438), after a first slow start as RFC 9406 has it and others as RFC 9002 does.
//!
//! Windows are bytes here and segments in the RFC, so C is scaled by the datagram size. Invariants: `window` is at least two
//! datagrams; the clock of an epoch stands still while the window is not in use (RFC 9438 section 5.8).

use std::time::Duration;

use super::hystart::HyStart;
use super::{AckEnd, AckedPacket, CongestionSignal, Controller, ControllerStart, Recovery, RttSample, minimum_window};
use crate::time::Instant;

pub(super) const NAME: &str = "cubic";

/// Multiplicative decrease factor (RFC 9438 section 4.6).
const BETA: f64 = 0.7;

/// Aggressiveness, in segments per second cubed (RFC 9438 section 5.1).
const C: f64 = 0.4;

/// Additive increase of the Reno-friendly region: 3 * (1 - BETA) / (1 + BETA) (RFC 9438 section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// A window past this many bytes no longer grows: it stays exact as a float, and no path holds it.
const MAX_WINDOW: f64 = (1_u64 << 40) as f64;

/// A stage of congestion avoidance (RFC 9438 section 4.1.2).
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// The last acknowledgement, or first packet after silence, that the clock took in.
    updated: Instant,
    /// K, in seconds.
    plateau: f64,
    /// W_max, the plateau's height.
    origin: f64,
    /// W_est, what Reno would have.
    reno: f64,
}

impl Epoch {
    fn new(now: Instant, window: f64, max_window: f64, mtu: f64) -> Epoch {
        // RFC 9438 section 4.8, 4.10: after a timeout, or a slow start that ended without a loss, the curve starts here.
        let origin = max_window.max(window);
        let plateau = ((origin - window) / (C * mtu)).cbrt();
        Epoch { start: now, updated: now, plateau, origin, reno: window }
    }

    /// W_cubic after `time` of the epoch, in bytes.
    fn cubic(&self, time: Duration, mtu: f64) -> f64 {
        C * mtu * (time.as_secs_f64() - self.plateau).powi(3) + self.origin
    }

    /// Takes the time since the last update out of the epoch (RFC 9438 section 4.2: t excludes unused periods).
    fn stand_still(&mut self, now: Instant) {
        self.start += now.saturating_duration_since(self.updated);
        self.updated = now;
    }
}

/// State of a CUBIC controller.
#[derive(Debug)]
pub(super) struct Cubic {
    window: f64,
    slow_start_threshold: f64,
    hystart: HyStart,
    /// W_max; zero when there is none.
    max_window: f64,
    /// cwnd_prior.
    prior_window: f64,
    epoch: Option<Epoch>,
    recovery: Recovery,
    mtu: u16,
}

impl Cubic {
    pub(super) fn new(start: ControllerStart) -> Cubic {
        Cubic {
            window: start.window as f64,
            slow_start_threshold: f64::INFINITY,
            hystart: HyStart::new(start.now),
            max_window: 0.0,
            prior_window: 0.0,
            epoch: None,
            recovery: Recovery::default(),
            mtu: start.mtu,
        }
    }

    /// The epoch, in which W_est takes in what was acknowledged.
    fn advance(&mut self, packet: AckedPacket) -> Epoch {
        let (mtu, window) = (f64::from(self.mtu), self.window);
        let epoch = self.epoch.get_or_insert_with(|| Epoch::new(packet.now, window, self.max_window, mtu));
        epoch.updated = packet.now;
        // RFC 9438 section 4.3: as fast as Reno's one segment a round trip once what was lost is regained.
        let alpha = if epoch.reno >= self.prior_window { 1.0 } else { ALPHA };
        epoch.reno += alpha * mtu * packet.bytes as f64 / window;
        *epoch
    }

    fn avoid_congestion(&mut self, packet: AckedPacket) {
        let (mtu, window, acked) = (f64::from(self.mtu), self.window, packet.bytes as f64);
        let epoch = self.advance(packet);
        let elapsed = packet.now.saturating_duration_since(epoch.start);

        self.window = if epoch.cubic(elapsed, mtu) < epoch.reno {
            window.max(epoch.reno)
        } else {
            // RFC 9438 section 4.2, 4.4, 4.5: the increase reaches in one round trip where the curve will be then.
            let target = epoch.cubic(elapsed.saturating_add(packet.rtt), mtu).clamp(window, 1.5 * window);
            window + (target - window) * acked / window
        };
    }
}

impl Controller for Cubic {
    fn on_sent(&mut self, now: Instant, _: u64, in_flight: u64) {
        // RFC 9438 section 4.2: silence is not time in which the window could have been tried.
        if in_flight == 0
            && let Some(epoch) = &mut self.epoch
        {
            epoch.stand_still(now);
        }
    }

    fn on_rtt(&mut self, sample: RttSample) {
        self.hystart.on_rtt(sample.latest);
    }

    fn on_acked(&mut self, packet: AckedPacket) {
        if self.recovery.contains(packet.sent) {
            // RFC 9002 section 7.3.2: the window stands still. RFC 9438 section 4.3: W_est takes in every acknowledgement of the
            // stage, which began with the reduction.
            if self.epoch.is_some() && !packet.underused {
                self.advance(packet);
            }
            return;
        }
        if packet.underused {
            if let Some(epoch) = &mut self.epoch {
                epoch.stand_still(packet.now);
            }
            return;
        }
        if self.in_slow_start() {
            self.window += self.hystart.growth(packet.bytes) as f64;
        } else {
            self.avoid_congestion(packet);
        }
        self.window = self.window.min(MAX_WINDOW);
    }

    fn on_ack_end(&mut self, end: AckEnd) {
        if self.hystart.on_ack_end(end.now, end.sent) {
            // RFC 9438 section 4.10: without a loss the curve starts here, for there is no W_max.
            self.slow_start_threshold = self.window;
        }
    }

    fn on_congestion(&mut self, now: Instant, sent: Instant, _: CongestionSignal) {
        if !self.recovery.enter(now, sent) {
            return;
        }
        // RFC 9438 section 4.7: give way faster to a new flow if even the last peak was not reached.
        self.max_window = if self.window < self.max_window { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.prior_window = self.window;
        // RFC 9438 section 4.6. RFC 9002 section 7.2 keeps two datagrams, for marks as for losses.
        self.window = (self.window * BETA).max(minimum_window(self.mtu) as f64);
        self.slow_start_threshold = self.window;
        self.hystart.finish();
        // RFC 9438 section 4.2: the stage begins here, with the window that it begins with.
        self.epoch = Some(Epoch::new(now, self.window, self.max_window, f64::from(self.mtu)));
    }

    fn on_persistent_congestion(&mut self) {
        // RFC 9438 section 4.8: the threshold stays as the loss set it; the curve starts anew from where slow start ends.
        self.window = minimum_window(self.mtu) as f64;
        self.max_window = 0.0;
        self.epoch = None;
        self.recovery = Recovery::default();
    }

    fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.window = self.window.max(minimum_window(mtu) as f64);
    }

    fn window(&self) -> u64 {
        self.window as u64
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.slow_start_threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1000;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn acked(now: u64, bytes: u64) -> AckedPacket {
        AckedPacket { now: at(now), sent: at(now), bytes, rtt: Duration::from_millis(100), underused: false }
    }

    fn cubic(segments: u64) -> Cubic {
        Cubic::new(ControllerStart { now: at(0), window: segments * MTU, mtu: MTU as u16 })
    }

    /// A controller that lost a packet at 1 s when its window was `segments`.
    fn reduced(segments: u64) -> Cubic {
        let mut cubic = cubic(segments);
        cubic.on_congestion(at(1000), at(900), CongestionSignal::Loss);
        cubic
    }

    // RFC 9438 section 4.6, 4.7
    #[test]
    fn decrease_and_fast_convergence() {
        let mut cubic = reduced(1000);
        assert_eq!(cubic.window(), 700_000);
        assert_eq!(cubic.max_window, 1_000_000.0);
        cubic.on_congestion(at(1050), at(1000), CongestionSignal::Loss);
        assert_eq!(cubic.window(), 700_000, "a second reduction in one recovery period");
        cubic.on_congestion(at(1200), at(1100), CongestionSignal::Ecn);
        assert!((cubic.window - 490_000.0).abs() < 0.01, "{}", cubic.window);
        assert!((cubic.max_window - 595_000.0).abs() < 0.01, "{}", cubic.max_window);
        assert_eq!(cubic.prior_window, 700_000.0);
    }

    // RFC 9438 section 4.2: K = cbrt(300 / 0.4) = 9.0856 s; W(t) by hand.
    #[test]
    fn the_curve_by_hand() {
        let cubic = reduced(1000);
        let epoch = Epoch::new(at(1000), cubic.window, cubic.max_window, MTU as f64);
        assert!((epoch.plateau - 9.085_602_964).abs() < 1e-6, "{}", epoch.plateau);
        for (seconds, segments) in [(0.0, 700.0), (1.0, 788.555), (5.0, 972.719), (9.085_602_964, 1000.0), (12.0, 1009.902)] {
            let window = epoch.cubic(Duration::from_secs_f64(seconds), MTU as f64) / MTU as f64;
            assert!((window - segments).abs() < 1e-2, "{window} and not {segments} after {seconds} s");
        }
    }

    // RFC 9438 section 4.3, 4.4: where an epoch starts Reno's estimate leads by a hair, then a segment adds
    // (target - cwnd) / cwnd.
    #[test]
    fn steps_by_hand() {
        let mut cubic = reduced(1000);
        cubic.on_acked(AckedPacket { sent: at(1001), ..acked(1000, MTU) });
        // alpha / cwnd = 0.5294 / 700 segments
        assert!((cubic.window - 700_000.756).abs() < 0.001, "{}", cubic.window);
        let before = cubic.window;
        cubic.on_acked(acked(1100, MTU));
        // t = 0.1 s, target = W(0.2) = 0.4 * (0.2 - 9.0856)^3 + 1000 = 719.379
        let step = (719_379.0 - before) / before * MTU as f64;
        assert!((cubic.window - before - step).abs() < 0.01, "{}", cubic.window - before);
    }

    /// Acknowledges a window a round trip of 100 ms for `seconds`.
    fn run(cubic: &mut Cubic, from: u64, seconds: u64) -> u64 {
        let mut now = from;
        while now < from + seconds * 1000 {
            now += 100;
            for _ in 0..cubic.window() / MTU {
                cubic.on_acked(acked(now, MTU));
            }
        }
        now
    }

    // RFC 9438 section 4.4, 4.5: concave up to the plateau at K, convex after.
    #[test]
    fn follows_the_curve() {
        let mut cubic = reduced(1000);
        let mut now = run(&mut cubic, 1000, 5);
        assert!((cubic.window / 1000.0 - 972.7).abs() < 8.0, "{}", cubic.window);
        now = run(&mut cubic, now, 4);
        assert!((cubic.window / 1000.0 - 1000.0).abs() < 3.0, "{}", cubic.window);
        run(&mut cubic, now, 6);
        // W(15) = 0.4 * (15 - 9.0856)^3 + 1000 = 1082.8
        assert!((cubic.window / 1000.0 - 1082.8).abs() < 12.0, "{}", cubic.window);
    }

    // RFC 9438 section 4.3: a small window grows by alpha a round trip to the prior one, and by one segment after.
    #[test]
    fn reno_friendly_region() {
        let mut cubic = cubic(20);
        cubic.on_congestion(at(1000), at(900), CongestionSignal::Loss);
        assert_eq!(cubic.window(), 14 * MTU);
        // RTT 10 ms: the curve hardly moves in 110 ms.
        let rtt = Duration::from_millis(10);
        let mut now = 1000;
        let mut round = |cubic: &mut Cubic| {
            now += 10;
            for _ in 0..cubic.window() / MTU {
                cubic.on_acked(AckedPacket { rtt, ..acked(now, MTU) });
            }
        };
        // The first rounds follow the curve, W(0.1) = 15.07 segments; Reno's estimate overtakes it.
        for _ in 0..20 {
            round(&mut cubic);
        }
        let reached = cubic.window;
        let epoch = cubic.epoch.unwrap();
        assert!(epoch.reno > 20_000.0, "{}", epoch.reno);
        round(&mut cubic);
        let growth = cubic.window - reached;
        assert!((growth - 1000.0).abs() < 60.0, "{growth} bytes in a round trip past the prior window");
    }

    // RFC 9438 section 4.2, 4.3, RFC 9002 section 7.3.2: the stage begins with the reduction, the growth of the window a round
    // trip later.
    #[test]
    fn the_recovery_period_counts_for_the_curve_but_not_for_the_window() {
        let mut cubic = cubic(10);
        cubic.on_congestion(at(1000), at(900), CongestionSignal::Loss);
        for _ in 0..7 {
            cubic.on_acked(AckedPacket { sent: at(950), ..acked(1050, MTU) });
        }
        assert_eq!(cubic.window(), 7 * MTU);
        let epoch = cubic.epoch.unwrap();
        assert_eq!(epoch.start, at(1000));
        assert!((epoch.reno - 7000.0 - ALPHA * 1000.0).abs() < 1e-6, "{}", epoch.reno);
        let rtt = Duration::from_millis(1);
        cubic.on_acked(AckedPacket { sent: at(1001), rtt, ..acked(1051, MTU) });
        assert!(cubic.window > 7_500.0 && cubic.window < 8_000.0, "{}", cubic.window);
    }

    // RFC 9438 section 4.2: the target is at most 1.5 windows.
    #[test]
    fn growth_is_bounded_after_a_long_time() {
        let mut cubic = reduced(100);
        cubic.on_acked(acked(1100, MTU));
        let before = cubic.window;
        cubic.on_acked(acked(1_000_000_000, MTU));
        let step = cubic.window - before;
        assert!(step <= 0.5 * MTU as f64 + 1e-6, "{step}");
    }

    // RFC 9438 section 4.2, 5.8: time without use of the window does not move the curve.
    #[test]
    fn the_clock_stands_still_when_the_window_is_not_used() {
        let mut cubic = reduced(1000);
        cubic.on_acked(acked(1100, MTU));
        let mut idle = reduced(1000);
        idle.on_acked(acked(1100, MTU));
        idle.on_acked(AckedPacket { underused: true, ..acked(31_100, MTU) });
        idle.on_sent(at(61_100), MTU, 0);
        cubic.on_acked(acked(1200, MTU));
        idle.on_acked(acked(61_200, MTU));
        assert_eq!(cubic.window.to_bits(), idle.window.to_bits());
    }

    // RFC 9438 section 4.8, RFC 9002 section 7.6.2
    #[test]
    fn persistent_congestion_starts_over() {
        let mut cubic = reduced(100);
        cubic.on_persistent_congestion();
        assert_eq!(cubic.window(), 2 * MTU);
        assert!(cubic.in_slow_start());
        while cubic.in_slow_start() {
            cubic.on_acked(acked(2000, MTU));
        }
        assert_eq!(cubic.window(), 70 * MTU);
        cubic.on_acked(acked(2100, MTU));
        let epoch = cubic.epoch.unwrap();
        assert_eq!((epoch.plateau, epoch.origin), (0.0, 70_000.0));
    }

    #[test]
    fn extreme_values_stay_within_bounds() {
        let mut cubic = Cubic::new(ControllerStart { now: at(0), window: 12_000, mtu: 1200 });
        for _ in 0..100_000 {
            cubic.on_acked(acked(1, u64::MAX));
        }
        assert!(cubic.window() <= 1 << 40);
        cubic.on_congestion(at(2), at(1), CongestionSignal::Loss);
        cubic.on_acked(AckedPacket { now: Instant::from_nanos(u64::MAX), rtt: Duration::MAX, ..acked(3, u64::MAX) });
        assert!((2400..=1 << 40).contains(&cubic.window()));
        for round in 1..1000 {
            cubic.on_congestion(at(round * 10), at(round * 10 - 1), CongestionSignal::Loss);
        }
        assert_eq!(cubic.window(), 2400);
    }

    // RFC 9438 section 4.10: slow start ended without a loss, so K = 0 and the window is the plateau: the convex curve.
    #[test]
    fn a_slow_start_that_ends_by_delay_goes_on_along_the_curve() {
        let mut cubic = cubic(10);
        let mut rounds = 0;
        while cubic.in_slow_start() {
            rounds += 1;
            let (now, rtt) = (at(rounds * 100), Duration::from_millis(if rounds < 4 { 50 } else { 70 }));
            for _ in 0..cubic.window() / MTU {
                cubic.on_rtt(RttSample { now, latest: rtt, min: rtt, smoothed: rtt });
                cubic.on_acked(acked(rounds * 100, MTU));
            }
            cubic.on_ack_end(AckEnd { now, sent: at(rounds * 100 - 50), in_flight: 0 });
            assert!(rounds < 20);
        }
        let window = cubic.window;
        assert!(window > 160_000.0 && window < 320_000.0, "{window} after {rounds} rounds");
        cubic.on_acked(acked(2000, MTU));
        let epoch = cubic.epoch.unwrap();
        assert_eq!((epoch.plateau, epoch.origin.to_bits()), (0.0, window.to_bits()));
        // 0.4 * 5^3 = 50 segments after five seconds.
        let after = run(&mut cubic, 2000, 5);
        assert_eq!(after, 7000);
        assert!((cubic.window - window - 50_000.0).abs() < 5_000.0, "{} more", cubic.window - window);
    }
}
