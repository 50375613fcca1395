//! The types of packets that carry frames.

use std::fmt;

/// A packet with protected frames. Version Negotiation and Retry carry none and are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// The first of a handshake, which anyone can read.
    Initial,
    /// A client's data before the handshake is complete.
    ZeroRtt,
    /// The rest of the handshake.
    Handshake,
    /// Data.
    OneRtt,
}

impl PacketType {
    /// Whether the header is a long one.
    pub fn is_long(self) -> bool {
        self != PacketType::OneRtt
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PacketType::Initial => "Initial",
            PacketType::ZeroRtt => "0-RTT",
            PacketType::Handshake => "Handshake",
            PacketType::OneRtt => "1-RTT",
        })
    }
}
