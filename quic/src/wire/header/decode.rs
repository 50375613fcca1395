//! Headers as they arrive.

use std::ops::Range;

use crate::error::{TransportError, TransportErrorCode};
use crate::id::ConnectionId;
use crate::wire::header::{
    LONG, LONG_RESERVED, LongKind, MASK_LEN, RETRY_TAG_LEN, SAMPLE_LEN, SHORT_KEY_PHASE, SHORT_RESERVED, protected_bits, sample,
};
use crate::wire::{PacketType, Reader, Truncated, TruncatedPacketNumber, Version};

/// Why the rest of a datagram is no packet of QUIC: it is dropped, never an error of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The datagram ends inside the header.
    Truncated,
    /// A connection id of more than 20 bytes in a version we speak.
    ConnectionIdTooLong,
    /// The length reaches past the datagram's end.
    Length,
    /// A Retry packet without a token or an integrity tag.
    Retry,
    /// A Version Negotiation packet whose list is empty or ends inside a version.
    VersionList,
}

impl From<Truncated> for HeaderError {
    fn from(Truncated: Truncated) -> HeaderError {
        HeaderError::Truncated
    }
}

/// A packet of a datagram, by what is in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A packet of a version we speak, with protected frames.
    Protected(ProtectedPacket<'a>),
    /// A Retry packet of a version we speak.
    Retry(Retry<'a>),
    VersionNegotiation(VersionNegotiation<'a>),
    /// A long header of a version we do not speak: nothing but the invariants is known of it.
    Unsupported(UnsupportedVersion<'a>),
}

/// The packets of a datagram (RFC 9000 section 12.2). The walk ends after the first error; Retry, Version Negotiation and
/// unknown versions take the rest of the datagram.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    datagram: &'a [u8],
    position: usize,
    local_cid_len: usize,
}

impl<'a> Packets<'a> {
    /// The packets of `datagram`. A short header does not tell how long its connection id is: `local_cid_len` is the length
    /// of the ids that this endpoint gives out.
    pub fn new(datagram: &'a [u8], local_cid_len: usize) -> Packets<'a> {
        Packets { datagram, position: 0, local_cid_len }
    }

    fn decode(&self) -> Result<(Packet<'a>, usize), HeaderError> {
        let bytes = &self.datagram[self.position..];
        let mut reader = Reader::new(bytes);
        let first = reader.u8()?;
        if first & LONG == 0 {
            let packet = ProtectedPacket::decode_short(reader, bytes, self.position, self.local_cid_len)?;
            return Ok((Packet::Protected(packet), bytes.len()));
        }
        // RFC 8999 section 5.1: so much holds in every version.
        let version = Version::from_u32(reader.u32()?);
        let dcid = short_prefixed(&mut reader)?;
        let scid = short_prefixed(&mut reader)?;
        if version == Version::NEGOTIATION {
            let packet = VersionNegotiation::decode(dcid, scid, reader.rest())?;
            return Ok((Packet::VersionNegotiation(packet), bytes.len()));
        }
        if !version.is_supported() {
            let packet = UnsupportedVersion { version, dcid, scid };
            return Ok((Packet::Unsupported(packet), bytes.len()));
        }
        // RFC 9287 section 3: as we declare, the fixed bit has any value.
        // RFC 9000 section 17.2.
        let dcid = ConnectionId::new(dcid).ok_or(HeaderError::ConnectionIdTooLong)?;
        let scid = ConnectionId::new(scid).ok_or(HeaderError::ConnectionIdTooLong)?;
        let packet_type = match LongKind::from_bits(first, version) {
            LongKind::Initial => PacketType::Initial,
            LongKind::ZeroRtt => PacketType::ZeroRtt,
            LongKind::Handshake => PacketType::Handshake,
            LongKind::Retry => {
                let packet = Retry::decode(version, dcid, scid, reader, bytes)?;
                return Ok((Packet::Retry(packet), bytes.len()));
            }
        };
        let token = if packet_type == PacketType::Initial { reader.length_prefixed()? } else { &[] };
        let len = reader.varint()?.as_u64();
        let pn_offset = reader.position();
        let len = usize::try_from(len).ok().filter(|len| *len <= reader.remaining()).ok_or(HeaderError::Length)?;
        let end = pn_offset + len;
        let version = Some(version);
        let packet = ProtectedPacket { packet_type, version, dcid, scid, token, bytes: &bytes[..end], pn_offset, start: self.position };
        Ok((Packet::Protected(packet), end))
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, HeaderError>;

    fn next(&mut self) -> Option<Result<Packet<'a>, HeaderError>> {
        if self.position == self.datagram.len() {
            return None;
        }
        match self.decode() {
            Ok((packet, len)) => {
                self.position += len;
                Some(Ok(packet))
            }
            Err(error) => {
                self.position = self.datagram.len();
                Some(Err(error))
            }
        }
    }
}

/// The bytes behind a length of one byte.
fn short_prefixed<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Truncated> {
    let len = reader.u8()?;
    reader.bytes(len.into())
}

/// A packet whose first byte, number and frames are still protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedPacket<'a> {
    pub packet_type: PacketType,
    /// `None` in a short header, which does not say.
    pub version: Option<Version>,
    pub dcid: ConnectionId,
    /// Empty in a short header, which has none.
    pub scid: ConnectionId,
    /// Empty but in Initial packets.
    pub token: &'a [u8],
    /// The whole packet.
    bytes: &'a [u8],
    /// Where the packet number starts, from the packet's start.
    pn_offset: usize,
    /// Where the packet starts in the datagram.
    start: usize,
}

impl<'a> ProtectedPacket<'a> {
    fn decode_short(
        mut reader: Reader<'a>,
        bytes: &'a [u8],
        start: usize,
        local_cid_len: usize,
    ) -> Result<ProtectedPacket<'a>, HeaderError> {
        let dcid = ConnectionId::new(reader.bytes(local_cid_len)?).ok_or(HeaderError::ConnectionIdTooLong)?;
        Ok(ProtectedPacket {
            packet_type: PacketType::OneRtt,
            version: None,
            dcid,
            scid: ConnectionId::EMPTY,
            token: &[],
            bytes,
            pn_offset: reader.position(),
            start,
        })
    }

    /// The whole packet as it arrived.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where in the datagram the packet lies.
    #[cfg_attr(
        not(any(test, fuzzing, feature = "simulation")),
        expect(dead_code, reason = "tests and fuzz targets look where packets lie")
    )]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.bytes.len()
    }

    /// What the header key makes the mask from. `None` if the packet is too short to be genuine: it is dropped.
    pub fn sample(&self) -> Option<&'a [u8; SAMPLE_LEN]> {
        sample(self.bytes, self.pn_offset)
    }

    /// Removes the header's protection. `header` is overwritten with the plain header, which the AEAD authenticates; a
    /// buffer that is kept between packets costs no allocation. `None` if the packet ends inside its number.
    pub fn unprotect(&self, mask: [u8; MASK_LEN], header: &mut Vec<u8>) -> Option<UnprotectedHeader> {
        // RFC 9001 section 5.4.1.
        let first = self.bytes[0] ^ mask[0] & protected_bits(self.bytes[0]);
        let pn_len = usize::from(first & 0x03) + 1;
        let pn_end = self.pn_offset + pn_len;
        header.clear();
        header.extend_from_slice(self.bytes.get(..pn_end)?);
        header[0] = first;
        for (byte, mask) in header[self.pn_offset..].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
        let mut reader = Reader::new(&header[self.pn_offset..]);
        let packet_number = TruncatedPacketNumber::decode(first, &mut reader).ok()?;
        Some(UnprotectedHeader { first, packet_number, len: pn_end })
    }

    /// The protected frames and their tag.
    pub fn ciphertext(&self, header: &UnprotectedHeader) -> &'a [u8] {
        &self.bytes[header.len..]
    }
}

/// What header protection hid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnprotectedHeader {
    first: u8,
    pub packet_number: TruncatedPacketNumber,
    /// Bytes of the whole header, packet number included.
    pub len: usize,
}

impl UnprotectedHeader {
    /// The key phase of a short header (RFC 9001 section 6).
    pub fn key_phase(&self) -> bool {
        self.first & SHORT_KEY_PHASE != 0
    }

    /// The latency spin bit of a short header (RFC 9000 section 17.4).
    pub fn spin(&self) -> bool {
        self.first & super::SHORT_SPIN != 0
    }

    /// Whether the reserved bits are zero, as they must be. To be asked only once the packet was opened: before, the bits
    /// are anyone's (RFC 9000 sections 17.2 and 17.3.1).
    pub fn check_reserved_bits(&self) -> Result<(), TransportError> {
        let reserved = if self.first & LONG != 0 { LONG_RESERVED } else { SHORT_RESERVED };
        if self.first & reserved == 0 {
            Ok(())
        } else {
            Err(TransportErrorCode::PROTOCOL_VIOLATION.because("reserved bits in a packet header are not zero"))
        }
    }
}

/// A Retry packet (RFC 9000 section 17.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry<'a> {
    pub version: Version,
    pub dcid: ConnectionId,
    pub scid: ConnectionId,
    /// At least one byte.
    pub token: &'a [u8],
    pub integrity_tag: &'a [u8; RETRY_TAG_LEN],
    /// What the tag protects, behind the client's original destination id.
    pub without_tag: &'a [u8],
}

impl<'a> Retry<'a> {
    fn decode(
        version: Version,
        dcid: ConnectionId,
        scid: ConnectionId,
        mut reader: Reader<'a>,
        bytes: &'a [u8],
    ) -> Result<Retry<'a>, HeaderError> {
        let (token, integrity_tag) = reader.rest().split_last_chunk().ok_or(HeaderError::Retry)?;
        // RFC 9000 section 17.2.5.2.
        if token.is_empty() {
            return Err(HeaderError::Retry);
        }
        let without_tag = &bytes[..bytes.len() - RETRY_TAG_LEN];
        Ok(Retry { version, dcid, scid, token, integrity_tag, without_tag })
    }
}

/// A Version Negotiation packet (RFC 8999 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionNegotiation<'a> {
    /// At most 255 bytes.
    pub dcid: &'a [u8],
    /// At most 255 bytes.
    pub scid: &'a [u8],
    versions: &'a [[u8; 4]],
}

impl<'a> VersionNegotiation<'a> {
    fn decode(dcid: &'a [u8], scid: &'a [u8], list: &'a [u8]) -> Result<VersionNegotiation<'a>, HeaderError> {
        match list.as_chunks() {
            ([], _) | (_, [_, ..]) => Err(HeaderError::VersionList),
            (versions, []) => Ok(VersionNegotiation { dcid, scid, versions }),
        }
    }

    /// The versions that the server speaks, as it says. At least one.
    pub fn versions(&self) -> impl Iterator<Item = Version> + 'a {
        self.versions.iter().map(|version| Version::from_u32(u32::from_be_bytes(*version)))
    }
}

/// A long header of a version that we do not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedVersion<'a> {
    pub version: Version,
    /// At most 255 bytes.
    pub dcid: &'a [u8],
    /// At most 255 bytes.
    pub scid: &'a [u8],
}
