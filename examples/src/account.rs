//! What happened on a connection, in words and in JSON: its version, key exchange and cipher suite, Retry, tokens, resumption, early data,
//! key updates, datagrams, and how it ended.

use std::fmt;

use serde::Serialize;
use weald_quic::{Connection, ConnectionError, EarlyData, Version};

/// What happened on one connection so far.
#[derive(Serialize)]
pub(crate) struct Account {
    /// "v1" or "v2".
    quic_version: Option<String>,
    /// The key exchange, as IANA names its group.
    group: Option<String>,
    cipher_suite: Option<String>,
    /// The server asked the client with a Retry to show that it owns its address.
    retried: bool,
    /// The client brought a token of an earlier connection, which saves it the Retry.
    address_token: bool,
    /// An earlier session was resumed: no certificate was shown.
    resumed: bool,
    early_data: Early,
    /// By either end.
    key_updates: u64,
    datagrams_sent: u64,
    datagrams_received: u64,
    /// `null` while it is open.
    end: Option<End>,
}

/// What became of data that was sent before the handshake (0-RTT).
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Early {
    NotOffered,
    /// The handshake was never complete.
    Offered,
    Accepted,
    /// It was sent again.
    Rejected,
}

/// How a connection ended.
#[derive(Serialize)]
struct End {
    by: Who,
    /// As in the CONNECTION_CLOSE frame; the TLS alert is its last octet where TLS failed (256 to 511).
    code: Option<u64>,
    /// The words in that frame, or ours.
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Who {
    PeerApplication,
    PeerTransport,
    /// This end's application.
    Application,
    /// This end's transport, because the peer broke the protocol.
    Transport,
    /// Nobody: the peer fell silent, forgot the connection, or speaks another version.
    Nobody,
}

impl Account {
    pub(crate) fn of(connection: &Connection) -> Self {
        let stats = connection.stats();
        // One that began with early data may have ended before.
        let handshake = connection.is_handshake_complete().then(|| connection.handshake());
        Self {
            quic_version: handshake.as_ref().map(|handshake| handshake.version.to_string()),
            group: handshake.as_ref().map(|handshake| handshake.group.to_string()),
            cipher_suite: handshake.as_ref().map(|handshake| handshake.cipher_suite.to_string()),
            retried: stats.retried,
            address_token: stats.address_token,
            // Early data comes with a session.
            resumed: handshake.is_some_and(|handshake| handshake.resumed) || connection.early_data() == EarlyData::Accepted,
            early_data: match connection.early_data() {
                EarlyData::NotOffered => Early::NotOffered,
                EarlyData::Offered => Early::Offered,
                EarlyData::Accepted => Early::Accepted,
                EarlyData::Rejected => Early::Rejected,
            },
            key_updates: stats.key_updates,
            datagrams_sent: stats.datagram_frames_sent,
            datagrams_received: stats.datagram_frames_received,
            end: connection.close_reason().map(|error| End::new(&error)),
        }
    }
}

impl End {
    fn new(error: &ConnectionError) -> Self {
        let text = |reason: &[u8]| String::from_utf8_lossy(reason).into_owned();
        let (by, code, reason) = match error {
            ConnectionError::ApplicationClosed(close) => (Who::PeerApplication, Some(close.code.as_u64()), text(&close.reason)),
            ConnectionError::ConnectionClosed(close) => (Who::PeerTransport, Some(close.code.as_u64()), text(&close.reason)),
            ConnectionError::LocallyClosed => (Who::Application, None, error.to_string()),
            ConnectionError::Transport(broken) => (Who::Transport, Some(broken.code.as_u64()), broken.reason.to_string()),
            ConnectionError::VersionMismatch
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::CidsExhausted
            | ConnectionError::Cancelled => (Who::Nobody, None, error.to_string()),
        };
        Self { by, code, reason }
    }
}

/// The key exchange, and what else is worth a word, with commas between.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
        let unusual = self.quic_version.as_ref().filter(|version| **version != Version::V1.to_string());
        let parts = [
            self.group.clone(),
            unusual.map(|version| format!("QUIC {version}")),
            self.retried.then(|| "Retry".to_owned()),
            self.address_token.then(|| "address token".to_owned()),
            self.resumed.then(|| "resumed".to_owned()),
            match self.early_data {
                Early::NotOffered | Early::Offered => None,
                Early::Accepted => Some("0-RTT accepted".to_owned()),
                Early::Rejected => Some("0-RTT rejected".to_owned()),
            },
            counted(self.key_updates, "key update"),
            counted(self.datagrams_sent, "datagram").map(|datagrams| format!("{datagrams} sent")),
            counted(self.datagrams_received, "datagram").map(|datagrams| format!("{datagrams} received")),
            self.end.as_ref().map(ToString::to_string),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.by {
            Who::PeerApplication => "closed by the peer",
            Who::PeerTransport => "closed by the peer's transport",
            Who::Application => return f.write_str("closed here"),
            Who::Transport => "closed because the peer broke the protocol",
            Who::Nobody => "lost",
        })?;
        if let Some(code) = self.code {
            write!(f, " with code {code:#x}")?;
        }
        // The peer's words may hold anything, line breaks and escapes of terminals included.
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason.escape_debug()) }
    }
}
