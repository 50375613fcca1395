//! Packet headers (RFC 8999, RFC 9000 section 17): what can be read of a datagram without keys, what header protection
//! hides, and how headers are written. Whose packet it is and which keys open it is for the endpoint and the connection.
//!
//! Reading has two steps. [`Packets`] walks the packets of a datagram by what is in the clear, which is enough to route
//! them. With the header key's mask, [`ProtectedPacket::unprotect`] then yields the header as it was before protection. Its
//! reserved bits are judged by the caller only once the packet was opened, since anyone can forge them before.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "simulation"))]
pub use self::decode::{HeaderError, UnsupportedVersion};
pub use decode::{Packet, Packets, ProtectedPacket, Retry, VersionNegotiation};
pub use encode::{EncodedHeader, LongHeader, LongType, RetryToSend, ShortHeader, VersionNegotiationToSend};

use crate::wire::Version;

/// The first byte's bit that tells a long header from a short one (RFC 8999 section 5).
const LONG: u8 = 0x80;
/// The first byte's bit that is 1 in every packet of version 1 but Version Negotiation (RFC 9000 section 17.2), unless the
/// receiver has said that it takes any value (RFC 9287).
const FIXED: u8 = 0x40;
/// The type of a long header (RFC 9000 section 17.2).
const TYPE: u8 = 0x30;
/// Reserved in a long header (RFC 9000 section 17.2).
const LONG_RESERVED: u8 = 0x0c;
/// Reserved in a short header (RFC 9000 section 17.3.1).
const SHORT_RESERVED: u8 = 0x18;
const SHORT_SPIN: u8 = 0x20;
const SHORT_KEY_PHASE: u8 = 0x04;
/// What header protection hides of the first byte (RFC 9001 section 5.4.1).
const LONG_PROTECTED: u8 = 0x0f;
const SHORT_PROTECTED: u8 = 0x1f;

/// Bytes of the sample that the header's mask is made from (RFC 9001 section 5.4.2).
pub const SAMPLE_LEN: usize = 16;
/// Bytes of the mask.
pub const MASK_LEN: usize = 5;
/// Bytes of a Retry packet's integrity tag (RFC 9001 section 5.8).
pub const RETRY_TAG_LEN: usize = 16;

/// The types of long headers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LongKind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

impl LongKind {
    const ALL: [LongKind; 4] = [LongKind::Initial, LongKind::ZeroRtt, LongKind::Handshake, LongKind::Retry];

    /// What bits of the first byte say in this version.
    fn from_bits(first: u8, version: Version) -> LongKind {
        let kind = LongKind::ALL.into_iter().find(|kind| kind.to_bits(version) == first & TYPE);
        kind.expect("two bits have four values")
    }

    /// The bits of the first byte.
    fn to_bits(self, version: Version) -> u8 {
        let number = match (version, self) {
            // RFC 9369 section 3.2: the same, one further.
            (Version::V2, LongKind::Retry) => 0,
            (Version::V2, LongKind::Initial) => 1,
            (Version::V2, LongKind::ZeroRtt) => 2,
            (Version::V2, LongKind::Handshake) => 3,
            // RFC 9000 section 17.2.
            (_, LongKind::Initial) => 0,
            (_, LongKind::ZeroRtt) => 1,
            (_, LongKind::Handshake) => 2,
            (_, LongKind::Retry) => 3,
        };
        number << 4
    }
}

/// The bits of the first byte that header protection hides.
fn protected_bits(first: u8) -> u8 {
    if first & LONG != 0 { LONG_PROTECTED } else { SHORT_PROTECTED }
}

/// The sample of a packet whose number starts at `pn_offset`; `None` if the packet is too short for one, and then cannot be
/// genuine (RFC 9001 section 5.4.2).
fn sample(packet: &[u8], pn_offset: usize) -> Option<&[u8; SAMPLE_LEN]> {
    // The number counts as four bytes here, whatever its length.
    packet.get(pn_offset + 4..)?.first_chunk()
}
