//! The anti-amplification limit of one path (RFC 9000 section 8.1).
//!
//! Owns: what came in and what went out before the peer's address was validated. Invariant: before that, no more than three
//! times what came in goes out.

/// RFC 9000 section 8.1.
const FACTOR: u64 = 3;

/// How much may be sent to an address that may be forged.
#[derive(Clone, Debug)]
pub(crate) struct Amplification {
    received: u64,
    sent: u64,
    validated: bool,
}

impl Amplification {
    /// The state of a new path. A client's first path is validated: it chose the address itself.
    pub(crate) fn new(validated: bool) -> Amplification {
        Amplification { received: 0, sent: 0, validated }
    }

    /// Credits a UDP datagram that was attributed to the connection. Called once for a datagram, whatever it holds: packets
    /// coalesced in it are not counted apart.
    pub(crate) fn on_datagram_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// Charges a UDP datagram.
    pub(crate) fn on_datagram_sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// The peer owns its address.
    pub(crate) fn on_validated(&mut self) {
        self.validated = true;
    }

    /// Whether the peer's address is validated.
    #[cfg(test)]
    pub(crate) fn is_validated(&self) -> bool {
        self.validated
    }

    /// Bytes that may be sent now.
    pub(crate) fn budget(&self) -> u64 {
        if self.validated { u64::MAX } else { self.received.saturating_mul(FACTOR).saturating_sub(self.sent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9000 section 8.1
    #[test]
    fn three_times_what_came_in() {
        let mut limit = Amplification::new(false);
        assert_eq!(limit.budget(), 0);
        limit.on_datagram_received(1200);
        assert_eq!(limit.budget(), 3600);
        for left in [2400, 1200, 0] {
            limit.on_datagram_sent(1200);
            assert_eq!(limit.budget(), left);
        }
        limit.on_datagram_sent(1);
        limit.on_datagram_received(1);
        assert_eq!(limit.budget(), 2);
        limit.on_validated();
        assert_eq!(limit.budget(), u64::MAX);
        assert!(Amplification::new(true).is_validated());
    }

    #[test]
    fn endless_counts_saturate() {
        let mut limit = Amplification::new(false);
        limit.on_datagram_received(usize::MAX);
        limit.on_datagram_received(usize::MAX);
        assert_eq!(limit.budget(), u64::MAX);
        limit.on_datagram_sent(usize::MAX);
        assert_eq!(limit.budget(), 0);
    }
}
