//! Buffers that a connection needs for the length of a call, lent by the caller: one set serves all connections of a worker,
//! so that none holds memory for them while it is idle.
//!
//! Invariant: what a call finds in them means nothing. A call that a panic interrupted may have left anything.

use crate::recovery::sent::SentPacket;
use crate::token::Token;

/// Room to work in, for the calls that take in and give out datagrams. Make one and lend it to every call: it grows to what
/// the largest packet needs, some kilobytes, and is then not allocated again.
#[derive(Default)]
pub struct Scratch {
    /// An unmasked header.
    pub(super) header: Vec<u8>,
    /// What the packets of a datagram in the making carry, by number space.
    pub(super) tokens: [Vec<Token>; 3],
    /// Packets that one ACK frame acknowledges.
    pub(super) acked: Vec<SentPacket>,
}
