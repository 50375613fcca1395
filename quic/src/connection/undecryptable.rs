//! Packets that came before the keys that open them.
//!
//! Invariant: at most [`MAX_PACKETS`] and [`MAX_BYTES`] are kept; what comes after is dropped, and the peer sends it again
//! (RFC 9001 5.7).

use weald_crypto::Level;

use super::DatagramMeta;

/// As many as other implementations keep; the server's first flight is five or so.
const MAX_PACKETS: usize = 10;

/// Ten packets of an Ethernet path.
const MAX_BYTES: usize = 16 * 1024;

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
}

impl Undecryptable {
    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + self.packets.capacity() * size_of::<Kept>()
    }

    /// Returns whether the packet is kept.
    pub(crate) fn keep(&mut self, level: Level, packet: &[u8], meta: DatagramMeta) -> bool {
        if self.packets.len() >= MAX_PACKETS || self.bytes + packet.len() > MAX_BYTES {
            return false;
        }
        self.bytes += packet.len();
        self.packets.push(Kept { level, packet: packet.into(), meta });
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
        let mut kept = Undecryptable::default();
        let small = (0..100).filter(|_| kept.keep(Level::Handshake, &[0; 10], meta)).count();
        assert_eq!(small, MAX_PACKETS);
        assert!(kept.take(Level::OneRtt).is_empty());
        assert_eq!(kept.take(Level::Handshake).len(), MAX_PACKETS);
        let large = (0..100).filter(|_| kept.keep(Level::OneRtt, &[0; 5000], meta)).count();
        assert_eq!(large, 3);
    }
}
