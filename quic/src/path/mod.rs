//! One path to the peer: its addresses, and what the network between them bears.
//!
//! Owns: RTT, congestion controller, pacer, bytes in flight, the datagram size, ECN and the anti-amplification limit. Does not own:
//! packet numbers and which packets are lost (`connection::space`), or the loss timer (`recovery::loss`).
//!
//! Invariants: `in_flight` is the sum of the sizes of this path's outstanding in-flight packets over all spaces; nothing
//! but probes and ACKs goes past the congestion window, and nothing at all past the anti-amplification limit.

mod amplification;
mod ecn;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub(crate) use self::amplification::Amplification;
use self::ecn::EcnVerdict;
pub(crate) use self::ecn::{Ecn, EcnReport};
use crate::path_id::PathId;
use crate::recovery::congestion::{
    AckEnd, AckedPacket, Algorithm, CongestionSignal, Controller, ControllerFactory, ControllerStart, INITIAL_WINDOW_PACKETS, RttSample,
    initial_window, minimum_window,
};
use crate::recovery::loss::LossTiming;
use crate::recovery::pacer::{Pacer, Rate};
use crate::recovery::rtt::{INITIAL_RTT, PeerDelay, Rtt};
use crate::recovery::sent::{PacketKind, SentPacket};
use crate::time::Instant;

/// The datagram size that every path bears (RFC 9000 section 14).
pub(crate) const MIN_MTU: u16 = 1200;

/// Pacing in slow start: twice the window a round trip, so that the window can double.
const SLOW_START_GAIN: f64 = 2.0;

/// Pacing after: 1.25 times the window a round trip (RFC 9002 section 7.7).
const GAIN: f64 = 1.25;

/// What a path starts from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathConfig<'a> {
    /// Makes the congestion controller.
    pub(crate) congestion: &'a dyn ControllerFactory,
    /// The initial window in datagrams.
    pub(crate) initial_window_packets: u32,
    /// Stands for the RTT before there is a sample.
    pub(crate) initial_rtt: Duration,
    /// The datagram size before probing, at least [`MIN_MTU`].
    pub(crate) mtu: u16,
}

impl Default for PathConfig<'_> {
    fn default() -> Self {
        PathConfig { congestion: &Algorithm::Cubic, initial_window_packets: INITIAL_WINDOW_PACKETS, initial_rtt: INITIAL_RTT, mtu: MIN_MTU }
    }
}

/// Why nothing may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The anti-amplification limit: until a datagram arrives.
    Amplification,
    /// The congestion window: until packets are acknowledged or lost.
    Window,
    /// The pacer: until this instant.
    Pacing(Instant),
}

/// A path to the peer.
#[derive(Debug)]
pub(crate) struct Path {
    id: PathId,
    remote: SocketAddr,
    local: Option<IpAddr>,
    mtu: u16,
    rtt: Rtt,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    amplification: Amplification,
    ecn: Ecn,
    in_flight: u64,
    /// When window or pacer last stood in the way of data.
    full: Option<Instant>,
}

impl Path {
    /// A path that came up at `now`. `validated` says that the remote address is the peer's for certain.
    pub(crate) fn new(
        now: Instant,
        id: PathId,
        remote: SocketAddr,
        local: Option<IpAddr>,
        config: &PathConfig<'_>,
        validated: bool,
    ) -> Path {
        let mtu = config.mtu.max(MIN_MTU);
        let window = initial_window(config.initial_window_packets, mtu);
        Path {
            id,
            remote,
            local,
            mtu,
            rtt: Rtt::new(config.initial_rtt),
            controller: config.congestion.build(ControllerStart { now, window, mtu }),
            pacer: Pacer::new(now, Rate::new(window, config.initial_rtt, SLOW_START_GAIN, mtu)),
            amplification: Amplification::new(validated),
            ecn: Ecn::new(),
            in_flight: 0,
            full: None,
        }
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.controller)
    }

    /// Which path it is.
    pub(crate) fn id(&self) -> PathId {
        self.id
    }

    /// The peer's address.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The local address that the peer's datagrams come to, if known.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// The local address became known, by the first datagram that arrived on the path.
    pub(crate) fn set_local(&mut self, local: IpAddr) {
        self.local = Some(local);
    }

    /// The largest datagram.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The largest datagram changed.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.max(MIN_MTU);
        self.controller.on_mtu(self.mtu);
    }

    /// The round-trip time.
    pub(crate) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// The congestion window in bytes.
    pub(crate) fn window(&self) -> u64 {
        // RFC 9002 section 7.2, whatever a controller says: without a packet in flight nothing would ever change it.
        self.controller.window().max(minimum_window(self.mtu))
    }

    /// Bytes in flight (RFC 9002 section 2).
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The anti-amplification limit. ACKs, probes and closes are bound by nothing else.
    pub(crate) fn amplification(&self) -> &Amplification {
        &self.amplification
    }

    /// As [`Path::amplification`], to tell it of datagrams and of validation.
    pub(crate) fn amplification_mut(&mut self) -> &mut Amplification {
        &mut self.amplification
    }

    /// Explicit Congestion Notification.
    pub(crate) fn ecn(&self) -> &Ecn {
        &self.ecn
    }

    /// What loss detection in a space needs of this path.
    pub(crate) fn loss_timing(&self, max_ack_delay: Duration) -> LossTiming {
        LossTiming {
            path: self.id,
            delay: self.rtt.loss_delay(),
            persistent_congestion: self.rtt.persistent_congestion(max_ack_delay),
            first_sample: self.rtt.first_sample(),
        }
    }

    /// Whether a datagram of up to `bytes` that carries data may be sent now.
    ///
    /// Ask only when there is something to send: the answer tells the congestion controller that the window is in use.
    pub(crate) fn can_send(&mut self, now: Instant, bytes: usize) -> Result<(), Blocked> {
        let bytes = bytes as u64;
        if self.amplification.budget() < bytes {
            return Err(Blocked::Amplification);
        }
        let blocked = if self.in_flight.saturating_add(bytes) > self.window() {
            // RFC 9002 section 7
            Blocked::Window
        } else if let Some(at) = self.pacer.release(now, bytes, self.rate()) {
            // RFC 9002 section 7.8: who waits for the pacer is not limited by the application.
            Blocked::Pacing(at)
        } else {
            return Ok(());
        };
        self.full = Some(now);
        Err(blocked)
    }

    /// A packet was sent on this path.
    pub(crate) fn on_packet_sent(&mut self, now: Instant, packet: &SentPacket) {
        if !packet.is_in_flight() {
            return;
        }
        let bytes = u64::from(packet.size);
        self.controller.on_sent(now, bytes, self.in_flight);
        self.pacer.on_sent(now, bytes, self.rate());
        if packet.marked {
            self.ecn.on_sent(now, self.rtt.probe_timeout());
        }
        self.in_flight += bytes;
        // Less than a datagram of room is a full window; in slow start half of it is enough, for it doubles in a round trip.
        let window = self.window();
        let room = window.saturating_sub(self.in_flight);
        if room < u64::from(self.mtu) || (self.controller.in_slow_start() && room <= window / 2) {
            self.full = Some(now);
        }
    }

    /// A round trip was measured.
    pub(crate) fn on_rtt_sample(&mut self, now: Instant, sample: Duration, delay: PeerDelay) {
        if !self.rtt.on_sample(now, sample, delay) {
            return;
        }
        let rtt = &self.rtt;
        self.controller.on_rtt(RttSample { now, latest: rtt.latest(), min: rtt.min(), smoothed: rtt.smoothed() });
    }

    /// A packet of this path was acknowledged.
    pub(crate) fn on_packet_acked(&mut self, now: Instant, packet: &SentPacket) {
        if !self.remove_from_flight(packet) {
            return;
        }
        self.controller.on_acked(AckedPacket {
            now,
            sent: packet.sent,
            bytes: packet.size.into(),
            rtt: self.rtt.smoothed(),
            underused: self.full.is_none_or(|full| full < packet.sent),
        });
    }

    /// An ACK frame is taken in, whose packets in flight were sent until `sent`.
    pub(crate) fn on_ack_end(&mut self, now: Instant, sent: Instant) {
        self.controller.on_ack_end(AckEnd { now, sent, in_flight: self.in_flight });
    }

    /// A packet of this path was lost.
    pub(crate) fn on_packet_lost(&mut self, now: Instant, packet: &SentPacket) {
        if packet.marked {
            self.ecn.on_lost();
        }
        // RFC 9000 section 14.4: the loss of an MTU probe is no sign of congestion.
        if self.remove_from_flight(packet) && packet.kind != PacketKind::MtuProbe {
            self.controller.on_congestion(now, packet.sent, CongestionSignal::Loss);
        }
    }

    /// An ACK that raises the largest acknowledged number says this of marks; its last packet was sent at `sent`.
    pub(crate) fn on_ecn_report(&mut self, now: Instant, sent: Instant, report: &EcnReport) {
        if self.ecn.on_ack(report) == EcnVerdict::Congestion {
            self.controller.on_congestion(now, sent, CongestionSignal::Ecn);
        }
    }

    /// A probe timeout passed.
    pub(crate) fn on_probe_timeout(&mut self) {
        self.ecn.on_timeout();
    }

    /// The losses span persistent congestion (RFC 9002 section 7.6.2). Called after the packets themselves.
    pub(crate) fn on_persistent_congestion(&mut self) {
        self.controller.on_persistent_congestion();
    }

    /// The fate of a packet of this path will never be known: its keys are gone, or a Retry came.
    pub(crate) fn on_packet_forgotten(&mut self, packet: &SentPacket) {
        self.remove_from_flight(packet);
    }

    /// Says whether the packet was in flight.
    fn remove_from_flight(&mut self, packet: &SentPacket) -> bool {
        debug_assert_eq!(packet.path, self.id);
        if !packet.is_in_flight() {
            return false;
        }
        debug_assert!(self.in_flight >= packet.size.into());
        self.in_flight = self.in_flight.saturating_sub(packet.size.into());
        true
    }

    fn rate(&self) -> Rate {
        if let Some(rate) = self.controller.pacing_rate() {
            return Rate::new(rate, Duration::from_secs(1), 1.0, self.mtu);
        }
        let gain = if self.controller.in_slow_start() { SLOW_START_GAIN } else { GAIN };
        Rate::new(self.window(), self.rtt.smoothed(), gain, self.mtu)
    }
}

#[cfg(test)]
mod tests;
