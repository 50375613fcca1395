//! Datagrams in: cuts them into packets, removes protection, and drops what is not for us.
//!
//! What cannot be authenticated changes nothing but counters (RFC 9000 5.2). Opened payloads go to `dispatch`.
//!
//! A packet's header is copied to a small buffer to be unmasked, and its payload opened out of place into a pooled chunk;
//! the datagram's own buffer is never written, and is free again when `receive` returns.

use weald_crypto::Level;

use super::dispatch::Opened;
use super::early::Early;
use super::keys::{OpenFailure, Sealed};
use super::space::Space;
use super::{Connection, DatagramMeta, Scratch};
use crate::config::MIN_UDP_PAYLOAD;
use crate::endpoint::reset;
use crate::error::TransportError;
use crate::recovery::SpaceId;
use crate::time::Instant;
use crate::trace::{DropReason, Frames, TraceEvent, TracedPacket};
use crate::wire::PacketType;
use crate::wire::header::{Packet, Packets, ProtectedPacket};

/// What became of a packet.
enum Fate {
    /// It told us nothing.
    Dropped(DropReason),
    /// It is waiting for its keys, or was understood without any.
    Taken,
    /// It is the peer's own.
    Authenticated,
}

impl Connection {
    /// Takes in a datagram.
    pub fn receive(&mut self, now: Instant, datagram: &[u8], meta: DatagramMeta, scratch: &mut Scratch) {
        #[cfg(test)]
        self.panic_if_asked("receive");
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        self.trace.tell(now, || TraceEvent::DatagramReceived { size: datagram.len(), ecn: meta.ecn });
        if self.close.is_drained() {
            return;
        }
        // RFC 9000 9: we forbid migration (disable_active_migration), so that another address is a forgery or a NAT's
        // rebinding, and both are dropped.
        if meta.remote != self.path.remote() {
            self.drop_packet(now, datagram.len(), DropReason::OtherAddress);
            return;
        }
        // RFC 9000 8.1: the whole datagram counts once, whatever is in it.
        self.path.amplification_mut().on_datagram_received(datagram.len());
        if let (None, Some(local)) = (self.path.local(), meta.local) {
            self.path.set_local(local);
        }
        let authenticated = self.receive_packets(now, datagram, meta, scratch);
        if !authenticated && self.is_reset(datagram) {
            self.on_stateless_reset(now);
        }
        self.after_input(now);
    }

    fn receive_packets(&mut self, now: Instant, datagram: &[u8], meta: DatagramMeta, scratch: &mut Scratch) -> bool {
        let mut authenticated = false;
        let mut destination = None;
        for packet in Packets::new(datagram, self.local_ids.handshake_id().len()) {
            let size = match &packet {
                Ok(Packet::Protected(packet)) => packet.bytes().len(),
                _ => datagram.len(),
            };
            let fate = match packet {
                // RFC 9000 12.2: all packets of a datagram are for one connection.
                Ok(Packet::Protected(packet)) if *destination.get_or_insert(packet.dcid) != packet.dcid => {
                    Fate::Dropped(DropReason::OtherConnection)
                }
                // RFC 9000 14.1: a client that does not pay for the answer gets none.
                Ok(Packet::Protected(packet))
                    if packet.packet_type == PacketType::Initial
                        && self.side.is_server()
                        && datagram.len() < usize::from(MIN_UDP_PAYLOAD) =>
                {
                    Fate::Dropped(DropReason::ShortDatagram)
                }
                Ok(Packet::Protected(packet)) => self.receive_packet(now, now, &packet, meta, scratch),
                Ok(Packet::Retry(retry)) if self.on_retry(now, &retry) => Fate::Taken,
                Ok(Packet::VersionNegotiation(negotiation)) if self.on_version_negotiation(now, &negotiation) => Fate::Taken,
                Ok(Packet::Retry(_) | Packet::VersionNegotiation(_)) => Fate::Dropped(DropReason::Unexpected),
                Ok(Packet::Unsupported(_)) | Err(_) => Fate::Dropped(DropReason::UnknownFormat),
            };
            match fate {
                Fate::Dropped(reason) => self.drop_packet(now, size, reason),
                Fate::Taken => {}
                Fate::Authenticated => authenticated = true,
            }
            if self.close.is_drained() {
                break;
            }
        }
        authenticated
    }

    /// Opens packets that came before their keys.
    pub(super) fn receive_kept(&mut self, now: Instant, level: Level, scratch: &mut Scratch) {
        let kept = self.early.as_mut().map_or_else(Vec::new, |early| early.undecryptable.take(level));
        for kept in kept {
            let id_len = self.local_ids.handshake_id().len();
            if let Some(Ok(Packet::Protected(packet))) = Packets::new(&kept.packet, id_len).next()
                && let Fate::Dropped(reason) = self.receive_packet(now, kept.arrived, &packet, kept.meta, scratch)
            {
                self.drop_packet(now, kept.packet.len(), reason);
            }
        }
    }

    fn receive_packet(
        &mut self,
        now: Instant,
        arrived: Instant,
        packet: &ProtectedPacket<'_>,
        meta: DatagramMeta,
        scratch: &mut Scratch,
    ) -> Fate {
        let (level, space) = match packet.packet_type {
            PacketType::Initial => (Level::Initial, SpaceId::Initial),
            PacketType::Handshake => (Level::Handshake, SpaceId::Handshake),
            PacketType::OneRtt => (Level::OneRtt, SpaceId::Data),
            PacketType::ZeroRtt => (Level::ZeroRtt, SpaceId::Data),
        };
        // RFC 9369 4.1: what is not of the version that the connection goes by has no effect, but for Initial packets while that is
        // being agreed on.
        let other_version = packet.version.filter(|version| *version != self.version);
        if let Some(version) = other_version {
            let is_open = level == Level::Initial && (self.keys.opens_initial(version) || self.expects_version(version));
            if !is_open {
                return Fate::Dropped(DropReason::OtherVersion);
            }
        }
        if packet.packet_type.is_long() && !self.is_from_peer(packet) {
            return Fate::Dropped(DropReason::OtherPeer);
        }
        // RFC 9001 5.7: a server opens no 1-RTT packet before the handshake is complete.
        let is_early = level == Level::OneRtt && !self.handshake.is_complete();
        if is_early || self.keys.remote_header(level, packet.version).is_none() {
            let is_awaited = match level {
                Level::Initial => false,
                Level::ZeroRtt => self.early.as_ref().is_some_and(|early| early.awaits_early_data),
                Level::Handshake => !self.keys.is_handshake_over(),
                Level::OneRtt => is_early,
            };
            let limit = self.config.limits.undecryptable_packets;
            let keep = |early: &mut Box<Early>| early.undecryptable.keep(now, level, packet.bytes(), meta, limit);
            let is_kept = is_awaited && self.close.is_open() && self.early.as_mut().is_some_and(keep);
            if !is_kept {
                return Fate::Dropped(DropReason::NoKeys);
            }
            self.trace.tell(now, || TraceEvent::Kept { packet_type: packet.packet_type, size: packet.bytes().len() });
            return Fate::Taken;
        }
        let result = match self.unseal(now, arrived, (level, space), packet, &mut scratch.header) {
            Ok(None) => return Fate::Dropped(DropReason::NotAuthentic),
            Ok(Some(opened)) => {
                if let Some(version) = other_version.filter(|_| self.side.is_client()) {
                    self.on_other_version(now, version);
                }
                self.on_opened(now, packet, &opened, meta, scratch)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.fail(now, error);
        }
        Fate::Authenticated
    }

    fn drop_packet(&mut self, now: Instant, size: usize, reason: DropReason) {
        self.stats.packets_dropped += 1;
        self.trace.tell(now, || TraceEvent::Dropped { size, reason });
    }

    /// Whether the long header names the peer as it introduced itself.
    fn is_from_peer(&self, packet: &ProtectedPacket<'_>) -> bool {
        // RFC 9000 17.2.2: servers send no token.
        self.early.as_ref().is_some_and(|early| early.is_peer(packet.scid)) && (self.side.is_server() || packet.token.is_empty())
    }

    fn unseal(
        &mut self,
        now: Instant,
        arrived: Instant,
        (level, space): (Level, SpaceId),
        packet: &ProtectedPacket<'_>,
        header: &mut Vec<u8>,
    ) -> Result<Option<Opened>, TransportError> {
        let (Some(sample), Some(key)) = (packet.sample(), self.keys.remote_header(level, packet.version)) else { return Ok(None) };
        let Some(plain) = packet.unprotect(key.mask(sample), header) else { return Ok(None) };
        let Some(Space { received, .. }) = self.spaces.get(space) else { return Ok(None) };
        let Some(number) = plain.packet_number.expand(received.largest()) else { return Ok(None) };
        let is_newest = received.largest().is_none_or(|largest| number > largest);
        let payload = packet.ciphertext(&plain);
        let mut chunk = self.pool.take(payload.len());
        let phase = plain.key_phase() && level == Level::OneRtt;
        let opened = match self.keys.open(now, level, Sealed { number, version: packet.version, phase, header, payload }, &mut chunk) {
            Ok(opened) => opened,
            Err(OpenFailure::Forged) => return Ok(None),
            Err(OpenFailure::Fatal(error)) => return Err(error),
        };
        if opened.phase_began {
            self.on_key_phase(now);
        }
        if is_newest && level == Level::OneRtt {
            self.spin.on_newest(self.side, plain.spin());
        }
        plain.check_reserved_bits()?;
        let payload = chunk.freeze(0..opened.len);
        Ok(Some(Opened {
            packet: packet.packet_type,
            space,
            number,
            destination: packet.dcid,
            spin: plain.spin() && level == Level::OneRtt,
            phase,
            payload,
            old_keys: opened.old_keys,
            arrived,
        }))
    }

    fn on_opened(
        &mut self,
        now: Instant,
        packet: &ProtectedPacket<'_>,
        opened: &Opened,
        meta: DatagramMeta,
        scratch: &mut Scratch,
    ) -> Result<(), TransportError> {
        self.stats.packets_received += 1;
        // RFC 9000 12.3: the same number again is the same packet again.
        if self.spaces.get(opened.space).is_none_or(|space| space.received.is_duplicate(opened.number)) {
            self.drop_packet(now, packet.bytes().len(), DropReason::Duplicate);
            return Ok(());
        }
        self.trace.tell(now, || {
            TraceEvent::Received(TracedPacket {
                packet_type: packet.packet_type,
                number: opened.number,
                size: packet.bytes().len(),
                spin: opened.spin,
                key_phase: opened.phase,
                frames: Frames::new(&opened.payload, 0, packet.packet_type, !self.side),
            })
        });
        if self.close.is_closing() {
            self.close.on_packet();
        }
        self.on_authenticated(now, packet);
        let ack_eliciting = self.dispatch(now, opened, scratch)?;
        // The packet may have discarded its own space.
        if let Some(space) = self.spaces.get_mut(opened.space) {
            space.received.on_packet(now, opened.arrived, opened.number, ack_eliciting, meta.ecn);
        }
        Ok(())
    }

    /// Whether a datagram that nothing in it authenticated is a stateless reset (RFC 9000 10.3.1).
    fn is_reset(&self, datagram: &[u8]) -> bool {
        // The comparison takes the same time for every token.
        matches!((reset::token_of(datagram), self.remote_ids.reset_token()), (Some(found), Some(token)) if found == token)
    }
}
