//! Congestion control: the interface of every algorithm, and the choice of one by name (RFC 9002 section 7).
//!
//! Owns: what an algorithm is told and asked. Does not own: bytes in flight and pacing (`path`), or what counts as lost
//! (`connection::space`). Invariant: an algorithm's window is never below two datagrams (RFC 9002 section 7.2).

mod cubic;
mod new_reno;

use std::{fmt::Debug, str::FromStr, time::Duration};

use self::{cubic::Cubic, new_reno::NewReno};
use crate::time::Instant;

/// A packet in flight that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct AckedPacket {
    /// Now.
    pub now: Instant,
    /// When the packet was sent.
    pub sent: Instant,
    /// Its size in bytes.
    pub bytes: u64,
    /// The smoothed round-trip time of the path.
    pub rtt: Duration,
    /// The window was not in use when the packet was in flight, so that its delivery says nothing of a larger one
    /// (RFC 9002 section 7.8).
    pub underused: bool,
}

/// Why the network is thought to be congested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CongestionSignal {
    /// A packet was lost.
    Loss,
    /// The peer counted a packet marked with Congestion Experienced (RFC 9002 section 7.1).
    Ecn,
}

/// A congestion controller of one path. All sizes are bytes of UDP payload.
pub trait Controller: Debug + Send {
    /// A packet of `bytes` was sent when `in_flight` others were.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64);

    /// A packet in flight was acknowledged.
    fn on_acked(&mut self, packet: AckedPacket);

    /// The network signalled congestion by a packet sent at `sent`. Called for each lost packet: a controller reacts once a
    /// round trip.
    fn on_congestion(&mut self, now: Instant, sent: Instant, signal: CongestionSignal);

    /// All packets of a long span were lost (RFC 9002 section 7.6.2).
    fn on_persistent_congestion(&mut self);

    /// The path's largest datagram changed.
    fn on_mtu(&mut self, mtu: u16);

    /// How many bytes may be in flight.
    fn window(&self) -> u64;

    /// Whether the window still grows exponentially; pacing is twice as fast as the window then, and 1.25 times after.
    fn in_slow_start(&self) -> bool;

    /// The name by which [`Algorithm`] knows it.
    fn name(&self) -> &'static str;
}

/// A congestion control algorithm. Its names are `new_reno` and `cubic`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 9002 section 7.
    NewReno,
    /// RFC 9438. The default, as in the kernels that its flows share queues with.
    #[default]
    Cubic,
}

/// No congestion control algorithm has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAlgorithm(String);

impl std::fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no congestion control algorithm is named {:?}; there are new_reno and cubic", self.0)
    }
}

impl std::error::Error for UnknownAlgorithm {}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Algorithm, UnknownAlgorithm> {
        match name {
            new_reno::NAME => Ok(Algorithm::NewReno),
            cubic::NAME => Ok(Algorithm::Cubic),
            _ => Err(UnknownAlgorithm(name.to_owned())),
        }
    }
}

impl Algorithm {
    /// A controller for a path whose datagrams hold at most `mtu` bytes and whose window starts at `packets` of them.
    pub(crate) fn build(self, packets: u32, mtu: u16) -> Box<dyn Controller> {
        let window = initial_window(packets, mtu);
        match self {
            Algorithm::NewReno => Box::new(NewReno::new(window, mtu)),
            Algorithm::Cubic => Box::new(Cubic::new(window, mtu)),
        }
    }
}

/// The recommended initial window, in packets (RFC 9002 section 7.2).
pub(crate) const INITIAL_WINDOW_PACKETS: u32 = 10;

/// RFC 9002 section 7.2: ten datagrams, and no more than 14,720 bytes or two datagrams; a configured count moves the byte
/// limit in proportion.
fn initial_window(packets: u32, mtu: u16) -> u64 {
    let (packets, mtu) = (u64::from(packets), u64::from(mtu));
    (packets * mtu).min((packets * 1472).max(2 * mtu)).max(2 * mtu)
}

/// kMinimumWindow (RFC 9002 section 7.2).
fn minimum_window(mtu: u16) -> u64 {
    2 * u64::from(mtu)
}

/// The recovery period (RFC 9002 section 7.3.2): packets sent before it started neither grow nor shrink the window again.
#[derive(Clone, Copy, Debug, Default)]
struct Recovery {
    start: Option<Instant>,
}

impl Recovery {
    fn contains(&self, sent: Instant) -> bool {
        self.start.is_some_and(|start| sent <= start)
    }

    /// Starts a period unless `sent` belongs to the present one. Says whether it did.
    #[must_use]
    fn enter(&mut self, now: Instant, sent: Instant) -> bool {
        let fresh = !self.contains(sent);
        if fresh {
            self.start = Some(now);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9002 section 7.2
    #[test]
    fn initial_windows() {
        assert_eq!(initial_window(10, 1200), 12_000);
        assert_eq!(initial_window(10, 1500), 14_720);
        assert_eq!(initial_window(10, 9000), 18_000);
        assert_eq!(initial_window(100, 1472), 147_200);
        assert_eq!(initial_window(0, 1200), 2400);
    }

    #[test]
    fn chosen_by_name() {
        for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
            let controller = algorithm.build(INITIAL_WINDOW_PACKETS, 1200);
            assert_eq!(controller.name().parse(), Ok(algorithm));
            assert_eq!(controller.window(), 12_000);
            assert!(controller.in_slow_start());
        }
        let error = "vegas".parse::<Algorithm>().unwrap_err();
        assert!(error.to_string().contains("vegas"));
    }
}
