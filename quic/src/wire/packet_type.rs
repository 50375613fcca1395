//! The types of packets that carry frames.

/// A packet with protected frames. Version Negotiation and Retry carry none and are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketType {
    Initial,
    ZeroRtt,
    Handshake,
    OneRtt,
}

impl PacketType {
    /// Whether the header is a long one.
    pub fn is_long(self) -> bool {
        self != PacketType::OneRtt
    }
}
