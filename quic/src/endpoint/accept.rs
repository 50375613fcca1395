//! The first Initial packet of a client: what must hold before a connection is made for it.
//!
//! Owns the checks that need no keys (RFC 9000 7.2, 14.1). Whether the packet is authentic is the new connection's to say.

use std::fmt;
use std::net::SocketAddr;

use weald_crypto::ConfigError;

use super::token::Used;
use crate::config::MIN_UDP_PAYLOAD;
use crate::id::ConnectionId;
use crate::refusal::Refusal;
use crate::wire::Version;

/// Shortest destination id that a client may make up (RFC 9000 7.2).
const MIN_ORIGINAL_ID: usize = 8;

/// A client that asks for a connection.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    pub(crate) remote: SocketAddr,
    /// The destination id of its packet: of its first one, or that of our Retry.
    pub(crate) original: ConnectionId,
    pub(crate) source: ConnectionId,
    /// The version of its packet.
    pub(crate) version: Version,
    pub(crate) validation: Validation,
}

/// What is known of a client's address before a connection is made for it (RFC 9000 8.1).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Validation {
    /// Anyone may have written it on the datagram.
    None,
    /// It got our Retry there, in answer to its first packet, to `first`.
    Retry { first: ConnectionId, token: Used },
    /// It brought a token of an earlier connection.
    Address(Used),
}

impl Incoming {
    /// The client's address; [`Incoming::is_validated`] says whether it is known to be the client's.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether the client has shown that it receives what is sent to its address (RFC 9000 8.1).
    pub fn is_validated(&self) -> bool {
        !matches!(self.validation, Validation::None)
    }

    /// Whether the client can be asked to show that it owns its address: it accepts one Retry (RFC 9000 17.2.5.2).
    pub fn may_retry(&self) -> bool {
        !matches!(self.validation, Validation::Retry { .. })
    }

    /// `None` if the datagram cannot start a connection.
    pub(crate) fn new(
        remote: SocketAddr,
        version: Version,
        destination: ConnectionId,
        source: ConnectionId,
        datagram_len: usize,
    ) -> Option<Self> {
        // RFC 9000 14.1: a client pays for the answer with a full datagram.
        if datagram_len < usize::from(MIN_UDP_PAYLOAD) || destination.len() < MIN_ORIGINAL_ID {
            return None;
        }
        Some(Self { remote, original: destination, source, version, validation: Validation::None })
    }
}

/// Why no connection was made for a client.
#[derive(Debug)]
pub enum AcceptError {
    /// The endpoint does not accept connections.
    NotServing,
    /// As many handshakes are pending as the configuration allows, or connections as the endpoint can hold.
    Full,
    /// The packet was forged or damaged.
    Unauthenticated,
    /// The client's token was used by another packet meanwhile.
    TokenUsed,
    /// The packet uncovered a defect of this implementation.
    Defect,
}

impl AcceptError {
    pub(super) fn reason(&self) -> Refusal {
        match self {
            Self::NotServing => Refusal::Closed,
            Self::Full => Refusal::Limit,
            Self::Unauthenticated => Refusal::Forged,
            Self::TokenUsed => Refusal::TokenUsed,
            Self::Defect => Refusal::Defect,
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotServing => "the endpoint does not accept connections",
            Self::Full => "too many handshakes are pending",
            Self::Unauthenticated => "the first packet is not authentic",
            Self::TokenUsed => "the token of the first packet was used before",
            Self::Defect => "the first packet uncovered a defect, which was logged",
        })
    }
}

impl std::error::Error for AcceptError {}

/// Why no connection to a server could be begun.
#[derive(Debug)]
pub enum ConnectError {
    /// The server's name or the configuration is unusable.
    Config(ConfigError),
    /// The address has port 0, or is no address of a host.
    Remote(SocketAddr),
    /// The endpoint holds as many connections as it can.
    Full,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Remote(remote) => write!(f, "cannot connect to {remote}"),
            Self::Full => f.write_str("the endpoint holds as many connections as it can"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_packet_needs_a_full_datagram_and_eight_bytes_of_id() {
        // RFC 9000 7.2, 14.1
        let remote = "[::1]:1".parse().unwrap();
        let id = |len| ConnectionId::new(&vec![1; len]).unwrap();
        let incoming = |len, datagram| Incoming::new(remote, Version::V1, id(len), ConnectionId::EMPTY, datagram);
        assert!(incoming(8, 1200).is_some());
        assert!(incoming(20, 1200).is_some());
        for id in [0, 7] {
            assert!(incoming(id, 1200).is_none(), "{id}");
        }
        assert!(incoming(8, 1199).is_none());
    }
}
