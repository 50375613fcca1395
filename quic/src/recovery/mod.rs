//! Loss recovery and congestion control (RFC 9002), as leaf values that space and path are made of.
//!
//! Nothing here knows of connections, spaces or paths: time, timing and tokens are passed in.

pub(crate) mod congestion;
pub(crate) mod loss;
pub(crate) mod pacer;
pub(crate) mod received;
pub(crate) mod rtt;
pub(crate) mod sent;

/// A packet number space (RFC 9000 section 12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SpaceId {
    /// Initial packets.
    Initial,
    /// Handshake packets.
    Handshake,
    /// 0-RTT and 1-RTT packets.
    Data,
}

impl SpaceId {
    /// All spaces, in the order in which a connection goes through them.
    pub(crate) const ALL: [SpaceId; 3] = [SpaceId::Initial, SpaceId::Handshake, SpaceId::Data];

    /// The place of this space in an array of all.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
