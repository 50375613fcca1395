//! Packets that came before the keys that open them.
//!
//! Invariant: no more are kept than [`ConnectionLimits::undecryptable_packets`](crate::ConnectionLimits) says, in
//! [`PACKET_BYTES`] each on average; what comes after is dropped, and the peer sends it again (RFC 9001 5.7).

use weald_crypto::Level;

use super::DatagramMeta;
use crate::time::Instant;

/// A packet of an Ethernet path, and some more.
const PACKET_BYTES: usize = 1638;

/// Kept packets, in the order in which they came.
#[derive(Default)]
pub(crate) struct Undecryptable {
    packets: Vec<Kept>,
    bytes: usize,
}

/// One packet, cut out of its datagram.
pub(crate) struct Kept {
    pub(crate) level: Level,
    pub(crate) packet: Box<[u8]>,
    pub(crate) meta: DatagramMeta,
    /// When it came.
    pub(crate) arrived: Instant,
}

impl Undecryptable {
    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.packets.capacity() * size_of::<Kept>()
    }

    /// Keeps the packet if there are less than `limit`. Returns whether it is kept.
    pub(crate) fn keep(&mut self, arrived: Instant, level: Level, packet: &[u8], meta: DatagramMeta, limit: u8) -> bool {
        let limit = usize::from(limit);
        if self.packets.len() >= limit || self.bytes + packet.len() > limit * PACKET_BYTES {
            return false;
        }
        self.bytes += packet.len();
        self.packets.push(Kept { level, packet: packet.into(), meta, arrived });
        true
    }

    /// Takes all that were kept for a level.
    pub(crate) fn take(&mut self, level: Level) -> Vec<Kept> {
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.packets).into_iter().partition(|kept| kept.level == level);
        self.packets = kept;
        self.bytes = self.packets.iter().map(|kept| kept.packet.len()).sum();
        taken
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_in_packets_and_bytes() {
        let meta = DatagramMeta { remote: "[::1]:1".parse().unwrap(), local: None, ecn: None };
        let (mut kept, now) = (Undecryptable::default(), Instant::from_nanos(0));
        let small = (0..100).filter(|_| kept.keep(now, Level::Handshake, &[0; 10], meta, 10)).count();
        assert_eq!(small, 10);
        assert!(kept.take(Level::OneRtt).is_empty());
        assert_eq!(kept.take(Level::Handshake).len(), 10);
        let large = (0..100).filter(|_| kept.keep(now, Level::OneRtt, &[0; 5000], meta, 10)).count();
        assert_eq!(large, 3);
    }
}
