//! What comes in to an attacker, and what it answers of itself: handshake messages, and acknowledgements as its policy wants them.

use weald_crypto::{Level, Session, Step, Terms, Version as CryptoVersion, simulation};
use weald_quic::codec::{AckToSend, Crypto, Frame, HandshakeDone, Packet, Packets, ProtectedPacket};
use weald_quic::{PacketNumber, Side, VarInt};
use weald_runtime::net::Ecn;
use weald_runtime::on_worker_stack;

use super::{Attacker, Closed, Ids, SPACES, Seen, SeenPacket, Space, Stage, default_parameters, kind, level, space};
use crate::attacker::Kind;
use crate::attacker::packets::Protection;

/// CRYPTO data in one packet.
pub(super) const CRYPTO_PIECE: usize = 1000;
/// An ACK frame is cut to this.
const ACK_LEN: usize = 1000;

impl Attacker {
    pub(super) fn take_in(&mut self, datagram: Vec<u8>, ecn: Option<Ecn>) -> Seen {
        let mut packets = Vec::new();
        for packet in Packets::new(&datagram, self.source.len()).map_while(Result::ok) {
            match packet {
                Packet::Protected(packet) => packets.extend(self.open(&packet)),
                // RFC 9000, 17.2.5.2: one, and only before anything else.
                Packet::Retry(retry) if self.token.is_empty() && self.spaces[0].received.is_empty() => {
                    self.token = retry.token.to_vec();
                    self.destination = retry.scid;
                    self.protection.begin_again(&retry.scid);
                    self.repeat();
                }
                Packet::Retry(_) | Packet::VersionNegotiation(_) | Packet::Unsupported(_) => {}
            }
        }
        for packet in &packets {
            self.on_packet(packet);
        }
        Seen { packets, datagram, ecn }
    }

    fn open(&mut self, packet: &ProtectedPacket<'_>) -> Option<SeenPacket> {
        let kind = packet.packet_type;
        if self.side.is_server() && self.session.is_none() && kind == Kind::Initial {
            self.original = packet.dcid;
            self.destination = packet.scid;
            self.protection = Protection::new(self.side, &packet.dcid);
        }
        let received = &self.spaces[space(kind)].received;
        let opened = self.protection.open(packet, received.last().copied())?;
        if kind.is_long() {
            self.destination = packet.scid;
        }
        if self.session.is_none() {
            self.begin();
        }
        let sender = if self.side.is_client() { Side::Server } else { Side::Client };
        Some(SeenPacket { kind, number: opened.number, phase: opened.phase, payload: opened.payload, sender })
    }

    fn on_packet(&mut self, packet: &SeenPacket) {
        let space = &mut self.spaces[space(packet.kind)];
        space.received.insert(packet.number);
        for frame in packet.frames() {
            space.owes_ack |= !matches!(frame, Frame::Padding { .. } | Frame::Ack(_) | Frame::Close(_) | Frame::ApplicationClose(_));
            match frame {
                Frame::Crypto(Crypto { offset, data }) => {
                    space.crypto.insert(offset, data.to_vec());
                }
                Frame::Ack(ack) => space.acked = ack.ranges.map(|range| range.start().as_u64()..=range.end().as_u64()).collect(),
                Frame::HandshakeDone => self.confirmed = true,
                Frame::Close(close) => {
                    let reason = String::from_utf8_lossy(close.reason).into_owned();
                    self.closed = Some(Closed::Transport { code: close.code.as_u64(), frame: close.frame, reason });
                }
                Frame::ApplicationClose(close) => self.closed = Some(Closed::Application(close.code.as_u64())),
                _ => {}
            }
        }
    }

    /// Makes the TLS session; a client's gives its ClientHello.
    pub(super) fn begin(&mut self) {
        let ids = Ids { source: self.source, original: self.original };
        let make = std::mem::replace(&mut self.opening.parameters, Box::new(default_parameters(self.side)));
        let parameters = make(&ids);
        let session = match self.side {
            Side::Client => Session::client(&self.opening.client_tls, CryptoVersion::V1, simulation::SERVER_NAME, parameters),
            Side::Server => Ok(Session::server(&self.opening.server_tls, CryptoVersion::V1, parameters, Terms::default())),
        };
        let mut session = session.expect("the fixture's name");
        if self.opening.early_data {
            session.offer_early_data();
        }
        self.session = Some(session);
        if self.side.is_client() {
            self.advance(&[]);
        }
    }

    /// Hands TLS what came, sends what it gives as far as the goal lets it, and acknowledges.
    pub(super) fn answer(&mut self) {
        let input: Vec<(Level, Vec<u8>)> =
            SPACES.iter().flat_map(|kind| self.spaces[space(*kind)].take_crypto().map(|data| (level(*kind), data))).collect();
        if !input.is_empty() {
            self.advance(&input);
        }
        if self.closed.is_some() {
            return;
        }
        let goal = self.goal;
        let sending: Vec<_> = self.held.extract_if(.., |(kind, _)| *kind == Kind::Initial || goal >= Stage::Complete).collect();
        let is_new = !sending.is_empty();
        if is_new {
            self.flight.clear();
        }
        for (kind, data) in sending {
            for data in data.chunks(CRYPTO_PIECE) {
                let space = &mut self.spaces[space(kind)];
                self.flight.push((kind, space.crypto_sent, data.to_vec()));
                space.crypto_sent += data.len() as u64;
            }
        }
        for kind in SPACES {
            self.acknowledge(kind);
        }
        if is_new {
            self.repeat();
        }
        if self.side.is_server() && self.complete && !self.confirmed && self.goal == Stage::Confirmed {
            self.confirmed = true;
            self.packet(Kind::OneRtt).frame(&HandshakeDone).send();
        }
    }

    /// Sends the last flight, for the first time or again.
    pub(super) fn repeat(&mut self) {
        let flight = std::mem::take(&mut self.flight);
        for (kind, offset, data) in &flight {
            self.packet(*kind).frame(&Crypto { offset: *offset, data }).send();
        }
        self.flight = flight;
    }

    fn advance(&mut self, input: &[(Level, Vec<u8>)]) {
        let Some(session) = self.session.as_mut().filter(|_| self.tls_error.is_none()) else { return };
        let step = match on_worker_stack(|| session.advance(input)) {
            Ok(step) => step,
            Err(error) => {
                self.tls_error = Some(error);
                return;
            }
        };
        let Step { output, keys, one_rtt_secrets, complete, early_keys, early_data, .. } = step;
        self.complete |= complete;
        self.early_data = early_data.or(self.early_data);
        if let Some(keys) = early_keys {
            self.protection.install_zero_rtt(keys);
        }
        let mut secrets = one_rtt_secrets;
        for (level, keys) in keys {
            match level {
                Level::OneRtt => self.protection.install_one_rtt(keys, secrets.take().expect("the secrets come with the keys")),
                _ => self.protection.install_handshake(keys),
            }
        }
        for (level, mut data) in output {
            if let Some(edit) = &mut self.edit {
                edit(level, &mut data);
            }
            self.held.push((kind(level), data));
        }
    }

    fn acknowledge(&mut self, kind: Kind) {
        let space = &mut self.spaces[space(kind)];
        if !std::mem::take(&mut space.owes_ack) {
            return;
        }
        let ranges = self.policy.ranges(kind, &space.received);
        let ranges = ranges.iter().map(|range| number(*range.start())..=number(*range.end()));
        if let Some(ack) = AckToSend::fit(VarInt::ZERO, ranges, self.ecn_counts, ACK_LEN) {
            self.packet(kind).frame(&ack).send();
        }
    }

    /// The number of the next packet of that kind: the next one, or the one that is wanted.
    pub(in crate::attacker) fn take_number(&mut self, kind: Kind, wanted: Option<u64>) -> u64 {
        let next = &mut self.spaces[space(kind)].next_number;
        let number = wanted.unwrap_or(*next);
        *next = number + 1;
        number
    }
}

impl Space {
    /// What goes on in its CRYPTO stream.
    fn take_crypto(&mut self) -> Option<Vec<u8>> {
        let mut taken = Vec::new();
        while let Some(entry) = self.crypto.first_entry().filter(|entry| *entry.key() <= self.crypto_read) {
            let (offset, data) = entry.remove_entry();
            let known = usize::try_from(self.crypto_read - offset).unwrap_or(usize::MAX);
            if let Some(new) = data.get(known..) {
                self.crypto_read += new.len() as u64;
                taken.extend_from_slice(new);
            }
        }
        Some(taken).filter(|taken| !taken.is_empty())
    }
}

fn number(number: u64) -> PacketNumber {
    PacketNumber::new(number).expect("a packet number")
}
