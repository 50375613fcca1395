//! Owns credit: how much may be sent and received, in bytes and in streams, at both levels (RFC 9000 section 4).
//!
//! Does not own the frames that carry limits, nor the retransmission of them (`transmit`).
//!
//! Invariants:
//! - No limit ever falls.
//! - `used <= limit` when sending. When receiving, `received <= advertised`, or the connection is closed.

use crate::error::{TransportError, TransportErrorCode};

/// What the peer lets this end send on the connection.
#[derive(Debug, Default)]
pub(super) struct SendCredit {
    limit: u64,
    used: u64,
    /// The limit at which the peer was last told that it blocks.
    told: Option<u64>,
}

impl SendCredit {
    pub(super) fn available(&self) -> u64 {
        self.limit - self.used
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.available());
        self.used += bytes;
    }

    /// RFC 9000 section 4.1: a limit that is not larger is ignored.
    pub(super) fn raise(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Whether the peer does not know yet that this limit blocks. True once a limit.
    pub(super) fn tell_blocked(&mut self) -> bool {
        self.told.replace(self.limit) != Some(self.limit)
    }
}

/// What this end lets the peer send, on the connection or on one stream.
#[derive(Debug)]
pub(super) struct ReceiveCredit {
    window: u64,
    advertised: u64,
    /// Bytes that count against the limit: the largest offset of a stream, or the sum of them.
    received: u64,
    /// Bytes that were consumed, and whose memory is free again.
    released: u64,
}

impl ReceiveCredit {
    pub(super) fn new(window: u64) -> Self {
        Self { window, advertised: window, received: 0, released: 0 }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Counts `bytes` more from the peer.
    pub(super) fn receive(&mut self, bytes: u64) -> Result<(), TransportError> {
        // RFC 9000 section 4.1: data beyond the advertised limit is an error, on a stream as in the sum.
        if bytes > self.advertised - self.received {
            return Err(TransportErrorCode::FLOW_CONTROL_ERROR.because("more data than the advertised limit"));
        }
        self.received += bytes;
        Ok(())
    }

    /// Frees `bytes`, and returns whether the peer should hear of it.
    pub(super) fn release(&mut self, bytes: u64) -> bool {
        self.released = (self.released + bytes).min(self.received);
        self.is_update_due()
    }

    /// Whether half a window was consumed since the last update: often enough to keep the peer going, seldom enough to
    /// cost nothing (RFC 9000 section 4.2).
    pub(super) fn is_update_due(&self) -> bool {
        self.next_limit() - self.advertised >= self.window.div_ceil(2).max(1)
    }

    /// The limit to send now. What was sent counts as advertised even if it is lost, since it may yet arrive.
    pub(super) fn advertise(&mut self) -> u64 {
        self.advertised = self.next_limit();
        self.advertised
    }

    fn next_limit(&self) -> u64 {
        // RFC 9000 section 4.1: offsets end at 2^62 - 1, and so do limits.
        (self.released + self.window).min(crate::wire::VarInt::MAX.as_u64()).max(self.advertised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_due_after_half_a_window() {
        let mut credit = ReceiveCredit::new(101);
        credit.receive(101).unwrap();
        assert!(!credit.release(50));
        assert!(credit.release(1));
        assert_eq!(credit.advertise(), 152);
        assert!(!credit.is_update_due());
        assert!(credit.receive(52).is_err());
        credit.receive(51).unwrap();
    }

    #[test]
    fn bytes_never_received_cannot_be_released() {
        let mut credit = ReceiveCredit::new(10);
        credit.receive(4).unwrap();
        credit.release(1_000);
        assert_eq!(credit.advertise(), 14);
    }

    #[test]
    fn a_window_of_nothing_gives_nothing() {
        let mut credit = ReceiveCredit::new(0);
        assert!(!credit.release(0));
        assert!(credit.receive(1).is_err());
    }

    #[test]
    fn limits_do_not_fall_and_are_reported_once() {
        let mut credit = SendCredit::default();
        assert!(credit.tell_blocked());
        assert!(!credit.tell_blocked());
        credit.raise(10);
        credit.raise(5);
        credit.spend(10);
        assert_eq!(credit.available(), 0);
        assert!(credit.tell_blocked());
    }
}
