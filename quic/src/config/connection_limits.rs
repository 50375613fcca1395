//! How much of a connection's memory its peer may make use of, besides what flow control permits.
//!
//! Owns the values, their ranges and why they are the defaults. What happens at each limit is said there, and enforced by the
//! part of the connection that holds the memory.

/// How much of a connection's memory its peer may make use of, besides what flow control permits. All limits are on by
/// default.
///
/// A value out of its range becomes the nearest one within.
///
/// ```
/// use weald_quic::{ConnectionLimits, TransportConfig};
///
/// // For post-quantum certificate chains that are larger than usual.
/// let transport = TransportConfig::default().limits(ConnectionLimits::default().crypto_buffer(256 * 1024));
/// # let _ = transport;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub(crate) crypto_buffer: u32,
    pub(crate) undecryptable_packets: u8,
    pub(crate) path_responses: u8,
    pub(crate) stream_pieces: u32,
    pub(crate) ack_ranges: u8,
    pub(crate) connection_ids: u8,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            crypto_buffer: 64 * 1024,
            undecryptable_packets: 10,
            path_responses: 3,
            stream_pieces: 1024,
            ack_ranges: Self::MOST_ACK_RANGES,
            connection_ids: 4,
        }
    }
}

impl ConnectionLimits {
    /// RFC 9000 7.5: no less than this can be buffered.
    const LEAST_CRYPTO_BUFFER: u32 = 4096;

    /// What one ACK frame of a packet holds at its worst, and as many as honest paths ever make.
    pub(crate) const MOST_ACK_RANGES: u8 = 64;

    /// How many bytes of TLS messages beyond those read are held, at each level; a peer that sends more ends the connection
    /// with CRYPTO_BUFFER_EXCEEDED (RFC 9000 7.5). Default 64 KiB, since post-quantum handshakes need more than 16; at least
    /// 4 KiB.
    #[must_use]
    pub fn crypto_buffer(mut self, bytes: u32) -> Self {
        self.crypto_buffer = bytes.max(Self::LEAST_CRYPTO_BUFFER);
        self
    }

    /// How many packets are kept that came before the keys which open them, in 1.6 KiB each; further ones count as lost
    /// (RFC 9001 5.7). Default 10; zero keeps none.
    #[must_use]
    pub fn undecryptable_packets(mut self, count: u8) -> Self {
        self.undecryptable_packets = count;
        self
    }

    /// How many answers to PATH_CHALLENGE are owed at once; older ones are forgotten, and their sender asks again (RFC 9000
    /// 8.2.2). Default 3; at least 1.
    #[must_use]
    pub fn path_responses(mut self, count: u8) -> Self {
        self.path_responses = count.max(1);
        self
    }

    /// In how many pieces, with gaps between them, the data of a stream is held, and that of all streams together; one more
    /// for each 512 bytes of the window. A peer that makes more ends the connection with INTERNAL_ERROR (RFC 9000 21.6).
    /// Default 1024.
    #[must_use]
    pub fn stream_pieces(mut self, count: u32) -> Self {
        self.stream_pieces = count;
        self
    }

    /// How many ranges of received packets are kept to be acknowledged; the oldest are forgotten, and what comes below them
    /// counts as lost (RFC 9000 13.2.3). Default 64, which is the most; at least 1.
    #[must_use]
    pub fn ack_ranges(mut self, count: u8) -> Self {
        self.ack_ranges = count.clamp(1, Self::MOST_ACK_RANGES);
        self
    }

    /// How many of its connection ids the peer may have us hold (`active_connection_id_limit`); twice as many retired ones may
    /// wait for an acknowledgement. A peer that makes it more ends the connection with CONNECTION_ID_LIMIT_ERROR (RFC 9000
    /// 5.1.1, 5.1.2). Default 4, enough to rotate them; at least 2, as the RFC asks (18.2).
    #[must_use]
    pub fn connection_ids(mut self, count: u8) -> Self {
        self.connection_ids = count.max(2);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_become_the_nearest() {
        let least = ConnectionLimits::default().crypto_buffer(0).path_responses(0).ack_ranges(0).connection_ids(0);
        assert_eq!((least.crypto_buffer, least.path_responses, least.ack_ranges, least.connection_ids), (4096, 1, 1, 2));
        assert_eq!(ConnectionLimits::default().ack_ranges(255).ack_ranges, 64);
    }
}
