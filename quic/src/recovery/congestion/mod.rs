//! Congestion control: what every algorithm is told and asked (RFC 9002 section 7).
//!
//! Owns: the interface and what algorithms share. Does not own: bytes in flight and pacing (`path`), or what counts as lost
//! (`connection::space`). Invariant: no algorithm's window is below two datagrams (RFC 9002 section 7.2); `path` sees to that
//! for those that come from outside.

mod cubic;
mod factory;
mod hystart;
mod new_reno;

use std::{fmt::Debug, time::Duration};

pub use self::factory::{Algorithm, ControllerFactory, ControllerStart, UnknownAlgorithm};
pub(crate) use self::factory::{INITIAL_WINDOW_PACKETS, initial_window};
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

/// A measurement of the round-trip time, and what is known of it now.
#[derive(Clone, Copy, Debug)]
pub struct RttSample {
    /// Now.
    pub now: Instant,
    /// What was measured, the peer's delay included.
    pub latest: Duration,
    /// The smallest measurement so far.
    pub min: Duration,
    /// The weighted average.
    pub smoothed: Duration,
}

/// The end of what one ACK frame said.
#[derive(Clone, Copy, Debug)]
pub struct AckEnd {
    /// Now.
    pub now: Instant,
    /// When the last sent of the packets that it acknowledged was sent.
    pub sent: Instant,
    /// Bytes in flight after it.
    pub in_flight: u64,
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
///
/// An ACK is told in this order: [`on_rtt`](Controller::on_rtt) if it gives a sample, [`on_acked`](Controller::on_acked) for
/// each packet, [`on_ack_end`](Controller::on_ack_end), then [`on_congestion`](Controller::on_congestion) for what it shows to
/// be lost or marked.
pub trait Controller: Debug + Send {
    /// A packet of `bytes` was sent when `in_flight` others were.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        let _ = (now, bytes, in_flight);
    }

    /// The round-trip time was measured.
    fn on_rtt(&mut self, sample: RttSample) {
        let _ = sample;
    }

    /// A packet in flight was acknowledged.
    fn on_acked(&mut self, packet: AckedPacket);

    /// All packets that one ACK frame acknowledged were told.
    fn on_ack_end(&mut self, end: AckEnd) {
        let _ = end;
    }

    /// The network signalled congestion by a packet sent at `sent`. Called for each lost packet: a controller reacts once a
    /// round trip.
    fn on_congestion(&mut self, now: Instant, sent: Instant, signal: CongestionSignal);

    /// All packets of a long span were lost (RFC 9002 section 7.6.2).
    fn on_persistent_congestion(&mut self);

    /// The path's largest datagram changed.
    fn on_mtu(&mut self, mtu: u16);

    /// How many bytes may be in flight. Less than two datagrams count as two (RFC 9002 section 7.2).
    fn window(&self) -> u64;

    /// Whether the window still grows exponentially; pacing is twice as fast as the window then, and 1.25 times after.
    fn in_slow_start(&self) -> bool;

    /// The rate in bytes a second at which packets leave, if it does not follow from window and round-trip time.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}

/// kMinimumWindow (RFC 9002 section 7.2).
pub(crate) fn minimum_window(mtu: u16) -> u64 {
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
