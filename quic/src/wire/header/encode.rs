//! Headers to send.

use std::ops::Range;

use crate::id::ConnectionId;
use crate::wire::header::{FIXED, LONG, LongKind, MASK_LEN, SAMPLE_LEN, SHORT_KEY_PHASE, SHORT_SPIN, protected_bits, sample};
use crate::wire::{TruncatedPacketNumber, VarInt, Version, Writer};

/// Bytes of the length in a long header that we send: it is filled in after the frames, so its size must be known before.
const LENGTH_SIZE: usize = 2;

/// The most that a length of two bytes tells.
const MAX_LENGTH: usize = 0x3fff;

/// The header of an Initial, 0-RTT or Handshake packet.
#[derive(Clone, Copy, Debug)]
pub struct LongHeader<'a> {
    pub long_type: LongType<'a>,
    pub version: Version,
    pub dcid: ConnectionId,
    pub scid: ConnectionId,
}

/// The type of a long header, with what only that type has.
#[derive(Clone, Copy, Debug)]
pub enum LongType<'a> {
    Initial { token: &'a [u8] },
    ZeroRtt,
    Handshake,
}

impl LongHeader<'_> {
    /// Bytes of the header with such a packet number.
    pub fn size(&self, packet_number: TruncatedPacketNumber) -> usize {
        let token = match self.long_type {
            LongType::Initial { token } => VarInt::saturating(token.len() as u64).size() + token.len(),
            LongType::ZeroRtt | LongType::Handshake => 0,
        };
        long_prefix_size(&self.dcid, &self.scid) + token + LENGTH_SIZE + packet_number.len()
    }

    /// Puts the header, its length still zero.
    pub fn encode(&self, packet_number: TruncatedPacketNumber, writer: &mut Writer<'_>) -> EncodedHeader {
        let start = writer.position();
        let kind = match self.long_type {
            LongType::Initial { .. } => LongKind::Initial,
            LongType::ZeroRtt => LongKind::ZeroRtt,
            LongType::Handshake => LongKind::Handshake,
        };
        let first = LONG | FIXED | kind.to_bits(self.version) | packet_number.length_bits();
        put_long_prefix(writer, first, self.version, &self.dcid, &self.scid);
        if let LongType::Initial { token } = self.long_type {
            writer.put_length_prefixed(token);
        }
        writer.put_zeros(LENGTH_SIZE);
        let pn_offset = writer.position();
        packet_number.encode(writer);
        EncodedHeader { start, pn_offset, end: writer.position() }
    }
}

impl LongHeader<'_> {
    /// Bytes of the header of a 0-RTT or Handshake packet between these ids, with the longest packet number.
    pub fn max_size(dcid: &ConnectionId, scid: &ConnectionId) -> usize {
        long_prefix_size(dcid, scid) + LENGTH_SIZE + TruncatedPacketNumber::MAX_LEN
    }
}

impl LongType<'_> {
    #[cfg(test)]
    pub fn packet_type(&self) -> crate::wire::PacketType {
        match self {
            LongType::Initial { .. } => crate::wire::PacketType::Initial,
            LongType::ZeroRtt => crate::wire::PacketType::ZeroRtt,
            LongType::Handshake => crate::wire::PacketType::Handshake,
        }
    }
}

/// The header of a 1-RTT packet.
#[derive(Clone, Copy, Debug)]
pub struct ShortHeader {
    pub dcid: ConnectionId,
    pub spin: bool,
    pub key_phase: bool,
}

impl ShortHeader {
    /// Bytes of the header with the longest packet number.
    pub fn max_size(dcid: &ConnectionId) -> usize {
        1 + dcid.len() + TruncatedPacketNumber::MAX_LEN
    }

    /// Bytes of the header with such a packet number.
    pub fn size(&self, packet_number: TruncatedPacketNumber) -> usize {
        1 + self.dcid.len() + packet_number.len()
    }

    /// Puts the header.
    pub fn encode(&self, packet_number: TruncatedPacketNumber, writer: &mut Writer<'_>) -> EncodedHeader {
        let start = writer.position();
        let spin = if self.spin { SHORT_SPIN } else { 0 };
        let key_phase = if self.key_phase { SHORT_KEY_PHASE } else { 0 };
        writer.put_u8(FIXED | spin | key_phase | packet_number.length_bits());
        writer.put_slice(&self.dcid);
        let pn_offset = writer.position();
        packet_number.encode(writer);
        EncodedHeader { start, pn_offset, end: writer.position() }
    }
}

/// Where a header lies in the buffer that it was put into, for what is done once the frames are there: first the length,
/// then sealing, then the header's protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedHeader {
    start: usize,
    pn_offset: usize,
    end: usize,
}

impl EncodedHeader {
    /// Where the header lies. The frames come behind it.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Bytes of the packet number.
    pub fn packet_number_len(&self) -> usize {
        self.end - self.pn_offset
    }

    /// Sets the fixed bit to zero, for a peer that takes any value (RFC 9287 section 3). Before the packet is sealed.
    pub fn clear_fixed_bit(&self, buf: &mut [u8]) {
        buf[self.start] &= !FIXED;
    }

    /// The spin bit and the key phase; false in a long header, which has neither. Before the packet is protected.
    pub fn spin_and_phase(&self, buf: &[u8]) -> (bool, bool) {
        let first = buf[self.start];
        let is_short = first & LONG == 0;
        (is_short && first & SHORT_SPIN != 0, is_short && first & SHORT_KEY_PHASE != 0)
    }

    /// Fills in the length of a packet that has `sealed_len` bytes of frames and tag; a short header has none.
    ///
    /// At most 16383 with the packet number: packets with a long header are no larger than the handshake needs.
    pub fn set_length(&self, buf: &mut [u8], sealed_len: usize) {
        if buf[self.start] & LONG == 0 {
            return;
        }
        let len = self.packet_number_len() + sealed_len;
        debug_assert!(len <= MAX_LENGTH, "a packet of {len} bytes with a long header");
        let field = 0x4000 | len as u16 & MAX_LENGTH as u16;
        buf[self.pn_offset - LENGTH_SIZE..self.pn_offset].copy_from_slice(&field.to_be_bytes());
    }

    /// What the header key makes the mask from, once the frames are sealed. `None` if the packet is too short: frames and
    /// packet number must be 4 bytes at least (RFC 9001 section 5.4.2).
    pub fn sample<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8; SAMPLE_LEN]> {
        sample(buf, self.pn_offset)
    }

    /// Protects the header (RFC 9001 section 5.4.1).
    pub fn protect(&self, buf: &mut [u8], mask: [u8; MASK_LEN]) {
        buf[self.start] ^= mask[0] & protected_bits(buf[self.start]);
        for (byte, mask) in buf[self.pn_offset..self.end].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
    }
}

/// A Retry packet to send, without its integrity tag.
#[derive(Clone, Copy, Debug)]
pub struct RetryToSend<'a> {
    pub version: Version,
    pub dcid: ConnectionId,
    pub scid: ConnectionId,
    pub token: &'a [u8],
}

impl RetryToSend<'_> {
    /// Bytes of the packet without its tag.
    pub fn size(&self) -> usize {
        long_prefix_size(&self.dcid, &self.scid) + self.token.len()
    }

    /// Puts the packet without its tag.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        // The low bits are unused; the example in RFC 9001 appendix A.4 has them set.
        let first = LONG | FIXED | LongKind::Retry.to_bits(self.version) | 0x0f;
        put_long_prefix(writer, first, self.version, &self.dcid, &self.scid);
        writer.put_slice(self.token);
    }
}

/// A Version Negotiation packet to send: a list of the versions that we accept (RFC 9000 section 17.2.1).
#[derive(Clone, Copy, Debug)]
pub struct VersionNegotiationToSend<'a> {
    /// The source id of the packet that is answered, at most 255 bytes.
    pub dcid: &'a [u8],
    /// The destination id of the packet that is answered, at most 255 bytes.
    pub scid: &'a [u8],
    /// The versions that we accept.
    pub versions: &'a [Version],
    /// A reserved version to list besides ours, so that clients learn to skip what they do not know (section 6.3).
    pub grease: Version,
    /// Seven bits of the first byte, which mean nothing.
    pub unused: u8,
}

impl VersionNegotiationToSend<'_> {
    /// Bytes of the packet.
    pub fn size(&self) -> usize {
        long_prefix_size(self.dcid, self.scid) + 4 * (self.versions.len() + 1)
    }

    /// Puts the packet.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        debug_assert!(self.grease.is_reserved());
        // RFC 9000 section 17.2.1: the fixed bit should be set, for those who tell protocols apart by it.
        put_long_prefix(writer, LONG | FIXED | self.unused, Version::NEGOTIATION, self.dcid, self.scid);
        for version in self.versions.iter().chain([&self.grease]) {
            writer.put_u32(version.as_u32());
        }
    }
}

fn long_prefix_size(dcid: &[u8], scid: &[u8]) -> usize {
    1 + 4 + 1 + dcid.len() + 1 + scid.len()
}

/// What all long headers start with (RFC 8999 section 5.1).
fn put_long_prefix(writer: &mut Writer<'_>, first: u8, version: Version, dcid: &[u8], scid: &[u8]) {
    writer.put_u8(first);
    writer.put_u32(version.as_u32());
    for id in [dcid, scid] {
        debug_assert!(id.len() <= usize::from(u8::MAX));
        writer.put_u8(id.len() as u8);
        writer.put_slice(id);
    }
}
