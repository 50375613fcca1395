//! What connections and endpoints count.

use std::time::Duration;

use crate::refusal::Refusals;

/// What one connection did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Packets received that authenticated.
    pub packets_received: u64,
    /// Packets dropped because they were damaged, forged, repeated, or came without keys to open them.
    pub packets_dropped: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets in flight that were declared lost.
    pub packets_lost: u64,
    /// Probe timeouts (RFC 9002 section 6.2).
    pub probe_timeouts: u64,
    /// How often all packets of a long span were lost, so that congestion control began anew (RFC 9002 section 7.6).
    pub persistent_congestions: u64,
    /// Key updates, by either end.
    pub key_updates: u64,
    /// Whether the server asked the client with a Retry to show that it owns its address (RFC 9000 8.1.2).
    pub retried: bool,
    /// Whether the client brought a token of an earlier connection (RFC 9000 8.1.3); at a server, one that was good.
    pub address_token: bool,
    /// Datagrams of the application sent (RFC 9221).
    pub datagram_frames_sent: u64,
    /// Datagrams of the application received.
    pub datagram_frames_received: u64,
    /// Datagrams of the application in packets that were declared lost.
    pub datagram_frames_lost: u64,
    /// Datagrams of the application dropped at this end for want of room, sent and received.
    pub datagram_frames_dropped: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// The mean deviation of round-trip times.
    pub rtt_variation: Duration,
    /// The shortest round-trip time.
    pub min_rtt: Duration,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bytes in flight.
    pub bytes_in_flight: u64,
    /// The largest UDP payload that is sent.
    pub mtu: u16,
    /// Whether the path is known to bear marks of Explicit Congestion Notification (RFC 9000 section 13.4).
    pub ecn: bool,
    /// Packets that the network marked Congestion Experienced, as the peer counts them.
    pub ecn_marks: u64,
}

/// What a connection counts; the rest of [`ConnectionStats`] is measured when it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) datagrams_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) packets_received: u64,
    pub(crate) packets_dropped: u64,
    pub(crate) datagrams_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) packets_sent: u64,
    pub(crate) packets_lost: u64,
    pub(crate) probe_timeouts: u64,
    pub(crate) persistent_congestions: u64,
    pub(crate) retried: bool,
    pub(crate) address_token: bool,
}

/// What one worker's endpoint did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections begun.
    pub connected: u64,
    /// Datagrams for another worker.
    pub forwarded: u64,
    /// Datagrams that are no QUIC, or not for us.
    pub dropped: u64,
    /// Datagrams treated as lost because memory was short and their connection held more than others: see
    /// [`Governor`](crate::Governor); or because more of handshakes waited than there is room for.
    pub shed: u64,
    /// Clients that were not accepted, by the reason: they were told so, or ignored, or their packets were not genuine.
    /// One whose first flight is two packets counts twice.
    pub refused: Refusals,
    /// Clients that were sent a Retry or refused because steps of TLS waited for processors: see
    /// [`EndpointConfig::crypto_pool`](crate::EndpointConfig::crypto_pool).
    pub overloaded: u64,
    /// Retry packets sent.
    pub retries: u64,
    /// Clients accepted whose address was known from a token, of a Retry or of an earlier connection.
    pub validated: u64,
    /// Clients turned away because the token of their Retry did not fit.
    pub invalid_tokens: u64,
    /// Stateless resets sent.
    pub resets: u64,
    /// Version Negotiation packets sent.
    pub version_negotiations: u64,
}

impl std::ops::Add for EndpointStats {
    type Output = EndpointStats;

    fn add(self, other: EndpointStats) -> EndpointStats {
        EndpointStats {
            accepted: self.accepted + other.accepted,
            connected: self.connected + other.connected,
            forwarded: self.forwarded + other.forwarded,
            dropped: self.dropped + other.dropped,
            shed: self.shed + other.shed,
            refused: self.refused + other.refused,
            overloaded: self.overloaded + other.overloaded,
            retries: self.retries + other.retries,
            validated: self.validated + other.validated,
            invalid_tokens: self.invalid_tokens + other.invalid_tokens,
            resets: self.resets + other.resets,
            version_negotiations: self.version_negotiations + other.version_negotiations,
        }
    }
}

impl EndpointStats {
    /// Every count with its name. That of the `metrics` facade is `weald_quic_<name>_total`.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("accepted", self.accepted),
            ("connected", self.connected),
            ("forwarded", self.forwarded),
            ("dropped", self.dropped),
            ("shed", self.shed),
            ("refused", self.refused.total()),
            ("overloaded", self.overloaded),
            ("retries", self.retries),
            ("validated", self.validated),
            ("invalid_tokens", self.invalid_tokens),
            ("resets", self.resets),
            ("version_negotiations", self.version_negotiations),
        ]
    }
}
