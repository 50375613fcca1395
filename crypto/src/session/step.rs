//! What a session tells: of each step, and of the whole handshake.

use crate::{CipherSuite, DirectionKeys, Exporter, Keys, Level, NamedGroup, OneRttSecrets};

/// What one job yielded. Keys belong behind the output that precedes them: what `output` holds at a level is sealed with
/// that level's keys.
#[derive(Debug, Default)]
pub struct Step {
    /// Bytes to send in CRYPTO frames, in order, by the level to send them at.
    pub output: Vec<(Level, Vec<u8>)>,
    /// Keys that are available from now on, at [`Level::Handshake`] and [`Level::OneRtt`].
    ///
    /// A server gets its 1-RTT keys together with its Handshake keys. It may send with them, but must not open 1-RTT
    /// packets before `complete` (RFC 9001, 5.7).
    pub keys: Vec<(Level, Keys)>,
    /// The keys of 0-RTT packets. A client gets them in its first step, if it may send early data, and a server gets them in the
    /// step that accepts it.
    pub early_keys: Option<DirectionKeys>,
    /// With a client's `early_keys`: what its early data is to be sent under.
    pub remembered: Option<Remembered>,
    /// With a server's `early_keys`: the application protocol that the early data is for.
    pub early_protocol: Option<Vec<u8>>,
    /// Whether early data is accepted, in the step that tells, if it was offered. A server gets it with `early_keys`, and a client
    /// with the server's first flight. All early data is lost if it is not.
    pub early_data: Option<bool>,
    /// The secrets of the 1-RTT keys in `keys`, for key updates.
    pub one_rtt_secrets: Option<OneRttSecrets>,
    /// The peer's transport parameters, encoded, as soon as they came. They are authentic only once the handshake is
    /// complete (RFC 9001, 8.2).
    pub peer_transport_parameters: Option<Vec<u8>>,
    /// Whether the handshake is complete: this end has sent its Finished and has verified the peer's. True from then on.
    pub complete: bool,
    /// What was agreed, in the step that completed the handshake.
    pub outcome: Option<Outcome>,
}

/// What a client remembers of the connection whose session it resumes, and what its early data is sent under until the server's
/// answer comes (RFC 9000, 7.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The transport parameters that the server sent then, encoded.
    pub transport_parameters: Vec<u8>,
    /// The application protocol.
    pub alpn: Option<Vec<u8>>,
}

/// What came of early data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyData {
    /// The client has offered none.
    #[default]
    NotOffered,
    /// The server has not looked at it.
    Rejected,
    /// The server has taken it. Somebody else may have sent a copy of it to another server before (RFC 8446, 8).
    Accepted,
}

/// What a handshake agreed on: all that is remembered when TLS is gone.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The application protocol.
    pub alpn: Option<Vec<u8>>,
    /// The key exchange group.
    pub group: NamedGroup,
    /// The cipher suite.
    pub suite: CipherSuite,
    /// The peer's certificate chain in DER, its own first. Empty for a client that has shown none.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The name of the server: the one that a client asked for, or, on a server, the one that the client sent, if any.
    pub server_name: Option<String>,
    /// Whether an earlier session was resumed: nobody has shown a certificate, and those here were shown then.
    pub resumed: bool,
    /// What came of early data.
    pub early_data: EarlyData,
    /// Keying material for the application.
    pub exporter: Exporter,
}
