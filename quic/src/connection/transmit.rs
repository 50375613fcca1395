//! Datagrams out: the ordered list of parts that fill a packet, under a purpose.
//!
//! What goes past the congestion window and what does not is decided here, once a datagram (RFC 9002 7); how bytes are laid
//! out and sealed is `packet_writer`'s.

use weald_crypto::Level;

use super::packet_writer::{DatagramWriter, Header, SealedPacket};
use super::parameters::ACK_DELAY_EXPONENT;
use super::space::Space;
use super::timers::Timer;
use super::{Connection, Scratch, Transmit, level};
use crate::config::MIN_UDP_PAYLOAD;
use crate::ecn::EcnMark;
use crate::error::TransportErrorCode;
use crate::path::Blocked;
use crate::recovery::SpaceId;
use crate::recovery::sent::{PacketKind, SentPacket};
use crate::time::Instant;
use crate::token::Token;
use crate::trace::TraceEvent;
use crate::wire::frame::Ping;
use crate::wire::{FrameWriter, PacketType};

/// What a datagram, or a packet in it, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Whatever there is.
    Normal,
    /// Acknowledgements alone: congestion control or the pacer forbid the rest.
    AckOnly,
    /// As normal, past the congestion window, and never without a frame that elicits an answer (RFC 9002 6.2.4).
    Probe,
    /// Why the connection ends, at every level that the peer may be able to open (RFC 9000 10.2.3).
    Close,
}

impl Connection {
    /// Writes the next datagram to the front of `buf`, which holds at least 1200 bytes. `None` if there is nothing to send
    /// for now.
    pub fn transmit(&mut self, now: Instant, buf: &mut [u8], scratch: &mut Scratch) -> Option<Transmit> {
        #[cfg(test)]
        self.panic_if_asked("transmit");
        if self.close.is_open()
            && let Err(error) = self.update_keys_if_due(now)
        {
            self.fail(now, error);
        }
        let (purpose, size) = self.choose(now, buf.len())?;
        let (len, ecn) = self.fill(now, purpose, &mut buf[..size], scratch)?;
        self.path.amplification_mut().on_datagram_sent(len);
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += len as u64;
        self.trace.tell(now, || TraceEvent::DatagramSent { size: len, ecn });
        if purpose == Purpose::Close {
            self.close.on_sent();
        } else {
            self.rearm_loss_timer(now);
            self.rearm_ack_timer();
        }
        Some(Transmit { len, remote: self.path.remote(), local: self.path.local(), ecn })
    }

    /// What the next datagram is for, and how long it may be, of at most `room` bytes.
    fn choose(&mut self, now: Instant, room: usize) -> Option<(Purpose, usize)> {
        if !self.close.is_open() {
            // RFC 9000 8.1 holds here, too.
            let budget = usize::try_from(self.path.amplification().budget()).unwrap_or(usize::MAX);
            let has_keys = self.keys.sealed() < self.keys.confidentiality_limit();
            return (self.close.is_owed() && has_keys).then_some((Purpose::Close, room.min(MIN_UDP_PAYLOAD.into()).min(budget)));
        }
        // Until the handshake is complete the peer's limit is unknown, and 1200 bytes pass everywhere.
        let mtu = if self.handshake.is_complete() { self.path.mtu() } else { MIN_UDP_PAYLOAD };
        let size = room.min(mtu.into());
        // RFC 9000 8.1, 14.1: what elicits an answer in an Initial packet needs a full datagram, so that less is as good as
        // nothing.
        if self.is_amplification_limited() {
            return None;
        }
        Some((self.permitted(now, size)?, size))
    }

    /// Fills a datagram with one packet for each space that has something to carry.
    fn fill(&mut self, now: Instant, purpose: Purpose, buf: &mut [u8], scratch: &mut Scratch) -> Option<(usize, Option<EcnMark>)> {
        let Scratch { tokens, .. } = scratch;
        tokens.iter_mut().for_each(Vec::clear);
        let mut datagram = DatagramWriter::new(buf);
        let mut min_size = 0;
        let mut acks = [false; 3];
        for space in SpaceId::ALL {
            let purpose = if self.is_probe_owed(space, purpose) { Purpose::Probe } else { purpose };
            if purpose == Purpose::Probe && !self.has_data(space) {
                // RFC 9002 6.2.4: the first of two datagrams took all, and the second is to be as good.
                self.repeat_oldest(space);
            }
            if !self.is_wanted(now, space, purpose) {
                continue;
            }
            let (Some(own), Some(packet_type)) = (self.spaces.get(space), self.keys.sends(space)) else { continue };
            let Some(number) = own.next_number() else {
                if purpose != Purpose::Close {
                    // RFC 9000 12.3: without numbers there is nothing more to say.
                    self.fail(now, TransportErrorCode::INTERNAL_ERROR.because("packet numbers are used up"));
                    return None;
                }
                continue;
            };
            let short = number.truncate(own.largest_acked());
            let (spin, fixed) = (self.spin.bit(&mut self.noise), !self.peer.takes_any_fixed_bit || self.noise.u32(0..2) == 1);
            let mut header = Header { spin, fixed, ..self.header_values() };
            if let (PacketType::ZeroRtt, Some(early)) = (packet_type, &self.early) {
                header.version = early.negotiation.chosen();
            }
            let Some(slot) = datagram.begin(packet_type, &header, number, short) else { break };
            let mut out = FrameWriter::new(datagram.payload(slot), &mut tokens[space.index()]);
            let mut is_path_response = false;
            if purpose == Purpose::Close {
                self.close.write_frame(packet_type, &mut out);
            } else {
                let is_probe = purpose == Purpose::Probe;
                let mut wants_ping = is_probe;
                if let Some(own) = self.spaces.get_mut(space) {
                    acks[space.index()] = own.write_ack(now, ACK_DELAY_EXPONENT, is_probe, &mut out);
                    wants_ping |= acks[space.index()] && own.wants_ping();
                    if acks[space.index()] && own.is_unheard() {
                        // As for a probe timeout of our own: two datagrams, so that one loss costs no round.
                        self.probes[space.index()] = 2;
                    }
                }
                is_path_response = purpose != Purpose::AckOnly && self.write_parts(packet_type, &mut out);
                if wants_ping && !out.is_ack_eliciting() {
                    // Without room for a PING the packet elicits an answer already.
                    let _ = out.frame(&Ping, Token::Ping);
                }
            }
            let written = out.finish();
            // RFC 9000 14.1, 8.2.2
            let is_to_be_full = is_path_response || (space == SpaceId::Initial && (self.side.is_client() || written.ack_eliciting));
            if datagram.push(slot, written) && is_to_be_full {
                min_size = MIN_UDP_PAYLOAD.into();
            }
        }
        if datagram.is_empty() {
            return None;
        }
        datagram.pad_to(min_size);
        if self.trace.is_on() {
            datagram.traced(self.side).for_each(|packet| self.trace.tell(now, || TraceEvent::Sent(packet)));
        }
        let (len, sealed) = datagram.seal(&self.keys);
        // What else a datagram carries is not marked: see `path::ecn`.
        let may_mark = sealed.iter().flatten().all(|packet| packet.packet_type == PacketType::OneRtt && packet.ack_eliciting);
        let ecn = self.path.ecn().mark(now).filter(|_| may_mark && purpose != Purpose::Close);
        for packet in sealed.into_iter().flatten() {
            self.record(now, packet, &mut tokens[packet.space.index()], acks[packet.space.index()], ecn);
        }
        Some((len, ecn))
    }

    /// What the headers of this connection's packets say.
    fn header_values(&self) -> Header<'_> {
        Header {
            version: self.version,
            destination: self.remote_ids.current(),
            source: self.local_ids.handshake_id(),
            token: self.early.as_ref().map_or(&[], |early| &early.token),
            phase: self.keys.local(Level::OneRtt).is_some_and(|keys| keys.phase),
            spin: false,
            fixed: true,
        }
    }

    /// What may be sent now, if anything should.
    fn permitted(&mut self, now: Instant, size: usize) -> Option<Purpose> {
        if !SpaceId::ALL.into_iter().any(|space| self.is_wanted(now, space, Purpose::Normal)) {
            return None;
        }
        if !SpaceId::ALL.into_iter().any(|space| self.has_data(space)) {
            return Some(Purpose::AckOnly);
        }
        match self.path.can_send(now, size) {
            Ok(()) => Some(Purpose::Normal),
            Err(Blocked::Pacing(at)) => {
                self.timers.set(Timer::Pacing, Some(at));
                Some(Purpose::AckOnly)
            }
            Err(Blocked::Window | Blocked::Amplification) => Some(Purpose::AckOnly),
        }
    }

    /// Whether a packet of the space has something to carry.
    fn is_wanted(&self, now: Instant, space: SpaceId, purpose: Purpose) -> bool {
        if self.keys.sends(space).is_none() {
            return false;
        }
        if purpose == Purpose::Close {
            return true;
        }
        let is_ack_due = self.ack_deadline(space).is_some_and(|due| due <= now) && !self.is_superseded(space, purpose);
        let is_probe = self.probes[space.index()] > 0;
        is_ack_due || is_probe || (purpose != Purpose::AckOnly && self.has_data(space))
    }

    /// Whether a client's Handshake packet goes out instead of an acknowledgement of Initial ones: a server that has it forgets those, as does
    /// the client that sends it (RFC 9001 4.9.1), and neither a packet that says nothing more nor the padding of its datagram is missed.
    fn is_superseded(&self, space: SpaceId, purpose: Purpose) -> bool {
        space == SpaceId::Initial && self.side.is_client() && purpose != Purpose::AckOnly && self.has_data(SpaceId::Handshake)
    }

    /// Whether a packet of the space goes out past the congestion window.
    fn is_probe_owed(&self, space: SpaceId, purpose: Purpose) -> bool {
        purpose != Purpose::Close && (self.probes[space.index()] > 0 || self.is_stranded(space))
    }

    /// Whether a space has handshake data to send and no timer that would ever make it probe. The window may be full of
    /// 1-RTT packets that the peer cannot open before it has just this data, so one packet goes past it (RFC 9002 7.5).
    fn is_stranded(&self, space: SpaceId) -> bool {
        let is_outstanding = || self.spaces.get(space).is_some_and(Space::has_ack_eliciting);
        space != SpaceId::Data && self.has_data(space) && !is_outstanding()
    }

    /// Whether a part has frames for the space.
    fn has_data(&self, space: SpaceId) -> bool {
        if self.keys.sends(space).is_none() {
            return false;
        }
        self.handshake.has_pending(level(space))
            || (space == SpaceId::Data
                && (self.ping
                    || self.path_responses.has_pending()
                    || self.remote_ids.has_pending()
                    // RFC 9000 9: nobody goes elsewhere before the handshake is confirmed, and needs ids for that.
                    || (self.local_ids.has_pending() && self.handshake.is_confirmed())
                    || self.next_token.has_pending()
                    || self.has_datagrams()
                    || self.streams.has_pending()))
    }

    /// The parts in the order of their frames' urgency. Says whether the datagram carries a PATH_RESPONSE.
    fn write_parts(&mut self, packet_type: PacketType, out: &mut FrameWriter<'_>) -> bool {
        let mut is_path_response = false;
        match packet_type {
            PacketType::Initial => self.handshake.write_frames(Level::Initial, out),
            PacketType::Handshake => self.handshake.write_frames(Level::Handshake, out),
            // RFC 9000 12.5: what answers a server cannot be in them.
            PacketType::ZeroRtt => {}
            PacketType::OneRtt => {
                self.handshake.write_frames(Level::OneRtt, out);
                is_path_response = self.path_responses.write_frames(out);
                self.remote_ids.write_frames(out);
                self.local_ids.write_frames(out);
                self.next_token.write_frames(out);
            }
        }
        if matches!(packet_type, PacketType::ZeroRtt | PacketType::OneRtt) {
            if self.ping && out.frame(&Ping, Token::Ping) {
                self.ping = false;
            }
            self.write_data(out);
        }
        is_path_response
    }

    /// Datagrams wait for nobody, but while streams have something to send they begin every second packet at most.
    fn write_data(&mut self, out: &mut FrameWriter<'_>) {
        // What was taken under a remembered limit may be too long for that of the handshake.
        let room = self.datagram_room().min(self.peer.max_datagram_frame.into());
        let Some(datagrams) = self.datagrams.as_mut().filter(|datagrams| datagrams.has_pending()) else {
            self.streams.write_frames(out);
            return;
        };
        let first = !(self.streams.has_pending() && datagrams.yields());
        if first {
            datagrams.write_frames(room, true, out);
        }
        self.streams.write_frames(out);
        if !first {
            datagrams.write_frames(room, false, out);
        }
    }

    /// Enters a sealed packet into the books of all who keep some.
    fn record(&mut self, now: Instant, sealed: SealedPacket, tokens: &mut Vec<Token>, carries_ack: bool, ecn: Option<EcnMark>) {
        let kind = match (sealed.ack_eliciting, sealed.in_flight) {
            (true, _) => PacketKind::AckEliciting,
            (false, true) => PacketKind::Padding,
            (false, false) => PacketKind::AckOnly,
        };
        let mut packet = SentPacket::new(sealed.number, now, self.path.id(), sealed.size, kind);
        packet.marked = ecn.is_some();
        if let Some(own) = self.spaces.get_mut(sealed.space) {
            own.on_sent(packet, tokens, &mut self.secrets);
        }
        if sealed.space == SpaceId::Data {
            self.keys.on_sealed(sealed.number, carries_ack);
        }
        self.stats.packets_sent += 1;
        if self.close.is_open() {
            self.path.on_packet_sent(now, &packet);
            if sealed.ack_eliciting {
                let probes = &mut self.probes[sealed.space.index()];
                *probes = probes.saturating_sub(1);
            }
            self.on_packet_sent(now, sealed.space, sealed.ack_eliciting);
        }
    }
}
