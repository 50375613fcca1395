//! Spreads packets over the round trip: a token bucket whose tokens are nanoseconds of sending time (RFC 9002 section 7.7).
//!
//! Owns: the credit and when it suffices. Does not own: the rate, which path passes in at each call as [`Rate`], or the
//! congestion window. Invariant: what leaves without time passing never exceeds one quantum of bytes.

use std::time::Duration;

use crate::time::Instant;

/// A quantum holds at least the recommended initial window, the burst that RFC 9002 section 7.7 allows.
const MIN_QUANTUM_PACKETS: u64 = 10;

/// A quantum holds as much as is sent in a millisecond, so that a timer which fires late costs no throughput.
const QUANTUM_NANOS: u64 = 1_000_000;

/// No quantum that rests on [`QUANTUM_NANOS`] exceeds four full segmentation trains.
const MAX_QUANTUM: u64 = 256 << 10;

/// A sending rate. Its inverse is a float, for every packet is timed and a division of 128 bits costs more than its header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    nanos_per_byte: f64,
    mtu: u16,
}

impl Rate {
    /// `window` bytes in each `rtt`, times `gain`, in datagrams of up to `mtu` bytes.
    pub(crate) fn new(window: u64, rtt: Duration, gain: f64, mtu: u16) -> Rate {
        let nanos_per_byte = rtt.as_secs_f64() * 1e9 / (window.max(1) as f64 * gain);
        Rate { nanos_per_byte, mtu }
    }

    /// The nanoseconds that `bytes` take at this rate.
    fn time(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.nanos_per_byte) as u64
    }

    /// The most credit that can be saved up.
    fn quantum(&self) -> u64 {
        let least = self.time(MIN_QUANTUM_PACKETS * u64::from(self.mtu));
        least.max(QUANTUM_NANOS.min(self.time(MAX_QUANTUM)))
    }
}

/// The token bucket of one path.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    /// Nanoseconds of sending saved up as of `updated`.
    credit: u64,
    updated: Instant,
}

impl Pacer {
    /// A bucket with the burst that RFC 9002 section 7.7 allows, however large the initial window is.
    pub(crate) fn new(now: Instant, rate: Rate) -> Pacer {
        Pacer { credit: rate.time(MIN_QUANTUM_PACKETS * u64::from(rate.mtu)), updated: now }
    }

    /// When `bytes` may be sent if not now. Waits are long enough to send a part of a quantum together.
    pub(crate) fn release(&self, now: Instant, bytes: u64, rate: Rate) -> Option<Instant> {
        let quantum = rate.quantum();
        let credit = self.credit_at(now, quantum);
        let cost = rate.time(bytes).min(quantum);
        if credit >= cost {
            return None;
        }
        let enough = cost.max(quantum / 4);
        Some(now + Duration::from_nanos(enough - credit))
    }

    /// Takes in that `bytes` were sent, those of packets that needed no permission among them.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u64, rate: Rate) {
        let credit = self.credit_at(now, rate.quantum());
        self.credit = credit.saturating_sub(rate.time(bytes));
        self.updated = self.updated.max(now);
    }

    fn credit_at(&self, now: Instant, quantum: u64) -> u64 {
        let elapsed = now.saturating_duration_since(self.updated).as_nanos();
        self.credit.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX)).min(quantum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(window: u64, rtt: Duration) -> Rate {
        Rate::new(window, rtt, 1.25, 1200)
    }

    /// Sends full packets for `span`, waking exactly when told. Returns (bytes sent, largest burst in bytes, waits).
    fn drive(rate: Rate, span: Duration) -> (u64, u64, u64) {
        let (mut now, mut pacer) = (Instant::from_nanos(0), Pacer::new(Instant::from_nanos(0), rate));
        let end = now + span;
        let (mut sent, mut burst, mut largest, mut waits) = (0, 0, 0, 0);
        while now < end {
            match pacer.release(now, 1200, rate) {
                None => {
                    pacer.on_sent(now, 1200, rate);
                    sent += 1200;
                    burst += 1200;
                    largest = burst.max(largest);
                }
                Some(at) => {
                    assert!(at > now);
                    (now, burst, waits) = (at, 0, waits + 1);
                }
            }
        }
        (sent, largest, waits)
    }

    // RFC 9002 section 7.7: bursts stay within the initial window, the rate is 1.25 windows a round trip.
    #[test]
    fn long_round_trip() {
        let (sent, largest, _) = drive(rate(375_000, Duration::from_millis(300)), Duration::from_secs(3));
        let expected = 375_000 * 10 * 5 / 4;
        assert!(sent.abs_diff(expected) <= expected / 50, "{sent} of {expected}");
        assert_eq!(largest, 12_000);
    }

    #[test]
    fn short_round_trip() {
        let rate = rate(120_000, Duration::from_micros(200));
        let (sent, largest, waits) = drive(rate, Duration::from_millis(100));
        let expected = 120_000 * 500 * 5 / 4;
        assert!(sent.abs_diff(expected) <= expected / 50, "{sent} of {expected}");
        assert!(largest <= MAX_QUANTUM, "{largest}");
        assert!(waits < sent / 1200 / 10, "a wait for every {} packets", sent / 1200 / waits);
    }

    // RFC 9002 section 7.7: an initial window of 100 packets is paced, too, even where a quantum would hold all of it.
    #[test]
    fn the_first_burst_is_ten_packets() {
        let rate = rate(120_000, Duration::from_micros(200));
        assert!(rate.quantum() >= rate.time(120_000));
        let mut pacer = Pacer::new(Instant::from_nanos(0), rate);
        let mut sent = 0;
        while sent < 1000 && pacer.release(Instant::from_nanos(0), 1200, rate).is_none() {
            pacer.on_sent(Instant::from_nanos(0), 1200, rate);
            sent += 1;
        }
        assert_eq!(sent, 10);
    }

    #[test]
    fn idle_time_saves_one_quantum_only() {
        let rate = rate(120_000, Duration::from_millis(100));
        let mut pacer = Pacer::new(Instant::from_nanos(0), rate);
        let now = Instant::from_nanos(0) + Duration::from_secs(3600);
        let mut sent = 0;
        while sent < 1000 && pacer.release(now, 1200, rate).is_none() {
            pacer.on_sent(now, 1200, rate);
            sent += 1;
        }
        assert_eq!(sent, 10);
        // 1200 bytes take 1200 * 100 ms / 150 kB = 0.8 ms; a quarter of the quantum is 2 ms.
        assert_eq!(pacer.release(now, 1200, rate), Some(now + Duration::from_millis(2)));
    }

    #[test]
    fn extreme_values_neither_overflow_nor_block_for_ever() {
        for rtt in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(600)] {
            for window in [0, 1, 2400, u64::MAX] {
                let rate = rate(window, rtt);
                let mut now = Instant::from_nanos(0);
                let mut pacer = Pacer::new(now, rate);
                for _ in 0..100 {
                    if let Some(at) = pacer.release(now, 65_535, rate) {
                        now = at;
                        assert_eq!(pacer.release(now, 65_535, rate), None);
                    }
                    pacer.on_sent(now, 65_535, rate);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing() {
        let rate = rate(12_000, Duration::from_millis(100));
        let mut pacer = Pacer::new(Instant::from_nanos(1_000_000_000), rate);
        for _ in 0..10 {
            pacer.on_sent(Instant::from_nanos(1_000_000_000), 1200, rate);
        }
        pacer.on_sent(Instant::from_nanos(0), 0, rate);
        assert!(pacer.release(Instant::from_nanos(1_000_000_000), 1200, rate).is_some());
    }
}
