//! Acknowledgements: what an ACK frame, a loss or a probe timeout means to the parts whose frames the packets carried.
//!
//! Applies `space` to `path` and to the owners of tokens; the `match`es at the end are all the routing there is.

use std::time::Duration;

use super::Connection;
use super::dispatch::Opened;
use super::handshake::Handshake;
use super::ids::{LocalIds, RemoteIds};
use super::token_store::NextToken;
use super::{Scratch, level, packet_type};
use crate::error::TransportError;
use crate::path::EcnReport;
use crate::recovery::SpaceId;
use crate::recovery::loss::{LossEvent, ProbeConditions};
use crate::recovery::rtt::PeerDelay;
use crate::recovery::sent::SentPacket;
use crate::stats::Counters;
use crate::streams::Streams;
use crate::time::Instant;
use crate::token::Token;
use crate::trace::{TraceEvent, TraceMetrics, TraceTimer};
use crate::wire::PacketType;
use crate::wire::frame::Ack;

/// The parts that are told of the fate of their frames.
struct Owners<'a> {
    space: SpaceId,
    handshake: &'a mut Handshake,
    local_ids: &'a mut LocalIds,
    remote_ids: &'a mut RemoteIds,
    next_token: &'a mut NextToken,
    streams: &'a mut Streams,
}

impl Connection {
    /// Takes in an ACK frame of a packet.
    pub(super) fn on_ack(&mut self, now: Instant, opened: &Opened, ack: &Ack<'_>, scratch: &mut Scratch) -> Result<(), TransportError> {
        let space = opened.space;
        let Self { handshake, local_ids, remote_ids, next_token, streams, path, keys, .. } = self;
        let mut owners = Owners { space, handshake, local_ids, remote_ids, next_token, streams };
        let mut acked_phase = None;
        let exponent = self.peer.ack_delay_exponent;
        let Scratch { acked, .. } = scratch;
        acked.clear();
        let Some(own) = self.spaces.get_mut(space) else { return Ok(()) };
        // RFC 9002 5.3: what it waited here for its keys is no part of the round trip.
        let summary = own.on_ack(opened.arrived, ack, exponent, |packet, tokens| {
            acked_phase = acked_phase.max(Some(packet.number));
            acked.push(*packet);
            tokens.for_each(|token| owners.on_acked(token));
        })?;
        // The round trip comes first: congestion control uses it.
        if let Some(sample) = summary.rtt {
            let limit = (space == SpaceId::Data && owners.handshake.is_confirmed()).then_some(self.peer.max_ack_delay);
            path.on_rtt_sample(now, sample.sample, PeerDelay { reported: sample.delay, limit });
        }
        acked.iter().for_each(|packet| path.on_packet_acked(now, packet));
        if let Some(sent) = acked.iter().filter(|packet| packet.is_in_flight()).map(|packet| packet.sent).max() {
            path.on_ack_end(now, sent);
            // RFC 9000 13.4.2.1: other ACKs may come out of order. Only 1-RTT packets are marked.
            if summary.raised && space == SpaceId::Data {
                path.on_ecn_report(now, sent, &EcnReport { acked: summary.marked, counts: ack.ecn });
            }
            owners.streams.on_congestion_window(path.window());
        }
        if let (SpaceId::Data, Some(number)) = (space, acked_phase) {
            keys.on_acked(number);
        }
        if summary.packets > 0 {
            // RFC 9002 6.2.2.1: a server that acknowledges a Handshake packet has validated us, and so has one that confirms the
            // handshake: the ACK may have been lost.
            self.peer_validated_us |= space == SpaceId::Handshake;
            self.loss.on_acked(self.peer_validated_us || self.handshake.is_confirmed());
        }
        self.detect_lost(now, space);
        Ok(())
    }

    /// The loss timer fired.
    pub(super) fn on_loss_timeout(&mut self, now: Instant) {
        match self.loss.on_timeout(now) {
            None => {}
            Some(LossEvent::DetectLost(space)) => {
                self.trace.tell(now, || TraceEvent::Timeout(TraceTimer::Loss(packet_type(space))));
                self.detect_lost(now, space);
            }
            Some(LossEvent::Probe(space)) => {
                self.stats.probe_timeouts += 1;
                self.trace.tell(now, || TraceEvent::Timeout(TraceTimer::Probe(packet_type(space))));
                self.path.on_probe_timeout();
                // RFC 9002 6.2.4: two datagrams, so that one loss does not cost another timeout.
                self.probes[space.index()] = 2;
                self.repeat_oldest(space);
                if self.keys.sends(SpaceId::Data) == Some(PacketType::ZeroRtt) {
                    // RFC 9002 6.2.4: early data is not probed for by itself, but what is lost with a ClientHello can come with it.
                    self.repeat_oldest(SpaceId::Data);
                    let has_streams = self.streams.has_pending();
                    self.probes[SpaceId::Data.index()] = self.probes[SpaceId::Data.index()].max(has_streams.into());
                }
                // RFC 9002 6.2.4: before the handshake is confirmed the peer may wait for what another space has, and the
                // packets in flight of this one may be all that the congestion window holds.
                for other in [SpaceId::Initial, SpaceId::Handshake] {
                    if other != space && self.keys.has(level(other)) {
                        self.repeat_oldest(other);
                        let is_pending = self.handshake.has_pending(level(other));
                        self.probes[other.index()] = self.probes[other.index()].max(is_pending.into());
                    }
                }
            }
        }
    }

    /// Sets the loss timer anew (RFC 9002 A.8).
    pub(super) fn rearm_loss_timer(&mut self, now: Instant) {
        let conditions = ProbeConditions {
            period: self.path.rtt().probe_timeout(),
            max_ack_delay: self.peer.max_ack_delay,
            at_amplification_limit: self.is_amplification_limited(),
            handshake_confirmed: self.handshake.is_confirmed(),
            has_handshake_keys: self.keys.has(level(SpaceId::Handshake)),
            peer_validated_address: self.peer_validated_us || self.handshake.is_confirmed(),
        };
        self.loss.rearm(now, &self.spaces.times(), &conditions);
        self.timers.set(super::Timer::Loss, self.loss.deadline());
    }

    /// The probe timeout with the peer's delay and without back-off: the unit of RFC 9000's other periods.
    pub(super) fn probe_timeout(&self) -> Duration {
        self.path.rtt().probe_timeout() + self.peer.max_ack_delay
    }

    fn detect_lost(&mut self, now: Instant, space: SpaceId) {
        let timing = self.path.loss_timing(self.peer.max_ack_delay);
        let Self { handshake, local_ids, remote_ids, next_token, streams, datagrams, path, stats, trace, .. } = self;
        let mut owners = Owners { space, handshake, local_ids, remote_ids, next_token, streams };
        let Some(own) = self.spaces.get_mut(space) else { return };
        let summary = own.detect_lost(now, &timing, |packet, tokens| {
            count_lost(stats, packet);
            trace.tell(now, || TraceEvent::Lost { packet_type: packet_type(space), number: packet.number });
            path.on_packet_lost(now, packet);
            tokens.for_each(|token| match (token, datagrams.as_mut()) {
                (Token::Datagram, Some(datagrams)) => datagrams.on_lost(),
                _ => owners.on_lost(token),
            });
        });
        if summary.persistent_congestion {
            stats.persistent_congestions += 1;
            path.on_persistent_congestion();
            trace.tell(now, || TraceEvent::PersistentCongestion);
        }
        trace.tell(now, || TraceEvent::Metrics(TraceMetrics::of(path)));
    }

    /// Queues again what the oldest packets of a space carried, for a probe (RFC 9002 6.2.4).
    pub(super) fn repeat_oldest(&mut self, space: SpaceId) {
        let Self { handshake, local_ids, remote_ids, next_token, streams, .. } = self;
        let mut owners = Owners { space, handshake, local_ids, remote_ids, next_token, streams };
        if let Some(own) = self.spaces.get(space) {
            own.for_each_oldest(2, |_, tokens| tokens.for_each(|token| owners.on_lost(token)));
        }
    }

    /// Forgets what was sent in a space and sends it again: a Retry came (RFC 9000 17.2.5.3), or early data was rejected.
    pub(super) fn restart_space(&mut self, space: SpaceId) {
        let Self { handshake, local_ids, remote_ids, next_token, streams, datagrams, path, .. } = self;
        let mut owners = Owners { space, handshake, local_ids, remote_ids, next_token, streams };
        let Some(own) = self.spaces.get_mut(space) else { return };
        own.on_restart(|packet, tokens| {
            path.on_packet_forgotten(packet);
            tokens.for_each(|token| match (token, datagrams.as_mut()) {
                (Token::Datagram, Some(datagrams)) => datagrams.on_lost(),
                _ => owners.on_lost(token),
            });
        });
    }

    /// What a space has sent is forgotten, and not sent again.
    pub(super) fn forget_sent(&mut self, space: SpaceId) {
        let path = &mut self.path;
        if let Some(own) = self.spaces.get_mut(space) {
            own.on_restart(|packet, _| path.on_packet_forgotten(packet));
        }
    }
}

fn count_lost(stats: &mut Counters, packet: &SentPacket) {
    stats.packets_lost += u64::from(packet.is_in_flight());
}

impl Owners<'_> {
    fn on_acked(&mut self, token: Token) {
        match token {
            Token::Crypto { offset, len } => self.handshake.on_acked(level(self.space), offset, len),
            Token::RetireConnectionId(sequence) => self.remote_ids.on_acked(sequence),
            Token::AddressProof => self.next_token.on_acked(),
            Token::Stream { .. }
            | Token::ResetStream(_)
            | Token::StopSending(_)
            | Token::MaxData
            | Token::MaxStreamData(_)
            | Token::MaxStreams(_)
            | Token::DataBlocked
            | Token::StreamDataBlocked(_)
            | Token::StreamsBlocked(_) => self.streams.on_acked(&token),
            // The space itself took note of the ranges; the rest is fulfilled by arriving.
            Token::Ack { .. } | Token::NewConnectionId(_) | Token::PathResponse | Token::HandshakeDone | Token::Datagram | Token::Ping => {}
        }
    }

    fn on_lost(&mut self, token: Token) {
        match token {
            Token::Crypto { offset, len } => self.handshake.on_lost(level(self.space), offset, len),
            Token::HandshakeDone => self.handshake.on_handshake_done_lost(),
            Token::NewConnectionId(sequence) => self.local_ids.on_lost(sequence),
            Token::RetireConnectionId(sequence) => self.remote_ids.on_lost(sequence),
            Token::AddressProof => self.next_token.on_lost(),
            Token::Stream { .. }
            | Token::ResetStream(_)
            | Token::StopSending(_)
            | Token::MaxData
            | Token::MaxStreamData(_)
            | Token::MaxStreams(_)
            | Token::DataBlocked
            | Token::StreamDataBlocked(_)
            | Token::StreamsBlocked(_) => self.streams.on_lost(&token),
            // RFC 9000 13.3, RFC 9221 5: never repeated, or made anew when needed.
            Token::Ack { .. } | Token::PathResponse | Token::Datagram | Token::Ping => {}
        }
    }
}
