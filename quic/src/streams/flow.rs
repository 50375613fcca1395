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
    /// The peer was told that this limit blocks.
    told: bool,
}

/// The part of a window that must be consumed before the peer hears of it. Until it has heard it sends what is left: with
/// half a window, a sender would stall unless the window were twice what the path holds. An eighth costs one frame in dozens
/// of packets.
const UPDATE_FRACTION: u64 = 8;

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
        if limit > self.limit {
            self.limit = limit;
            self.told = false;
        }
    }

    /// Whether the peer does not know yet that this limit blocks. True once a limit.
    pub(super) fn tell_blocked(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
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

    /// Whether enough was consumed since the last update: often enough to keep the peer going, seldom enough to cost
    /// nothing (RFC 9000 section 4.2).
    pub(super) fn is_update_due(&self) -> bool {
        self.next_limit() - self.advertised >= self.window.div_ceil(UPDATE_FRACTION).max(1)
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
    fn an_update_is_due_after_an_eighth_of_a_window() {
        let mut credit = ReceiveCredit::new(401);
        credit.receive(401).unwrap();
        assert!(!credit.release(50));
        assert!(credit.release(1));
        assert_eq!(credit.advertise(), 452);
        assert!(!credit.is_update_due());
        assert!(credit.receive(52).is_err());
        credit.receive(51).unwrap();
    }

    /// A path that holds C bytes takes a round trip for the data and one for the credit: with updates after an eighth, a
    /// window of 1.15 times that keeps it full, where half a window would let it run dry.
    #[test]
    fn a_window_little_above_the_path_keeps_the_sender_going() {
        const ROUND_TRIP: u64 = 1000;
        let mut credit = ReceiveCredit::new(ROUND_TRIP * 115 / 100);
        let (mut limit, mut sent) = (credit.window, 0);
        let mut updates = std::collections::VecDeque::new();
        let mut arriving = std::collections::VecDeque::from(vec![0; ROUND_TRIP as usize / 2]);
        let mut idle = 0;
        for now in 0..20 * ROUND_TRIP {
            while updates.front().is_some_and(|(at, _)| *at <= now) {
                limit = updates.pop_front().map_or(limit, |(_, new)| new);
            }
            let byte = u64::from(sent < limit);
            sent += byte;
            idle += 1 - byte;
            arriving.push_back(byte);
            let arrived = arriving.pop_front().unwrap();
            credit.receive(arrived).unwrap();
            if credit.release(arrived) {
                updates.push_back((now + ROUND_TRIP / 2, credit.advertise()));
            }
        }
        assert_eq!(idle, 0, "ticks without credit");
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
