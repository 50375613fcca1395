//! One TLS handshake. The only file that drives `rustls::quic`.
//!
//! Owns: which encryption level TLS reads and writes at, the border between handshake messages, turning tapped secrets
//! into keys, and what is remembered of a handshake after TLS is gone. Does not own: CRYPTO streams and their reassembly,
//! or when which key may be used; those are the connection's.
//!
//! Invariants: a message that TLS is handed came whole from one encryption level, and that is the level TLS reads at. So
//! nothing that is to be protected is accepted unprotected, and a message never spans a change of keys (RFC 8446, 5.1;
//! rustls' QUIC interface checks neither). After an error TLS is dropped, and the session answers with that error for good.

use std::fmt;
use std::mem;

use rustls::AlertDescription;
use rustls::quic::{ClientConnection, Connection, KeyChange, ServerConnection};
use rustls_pki_types::ServerName;

use crate::keys::Secret;
use crate::secrets_tap::{Tapped, collect};
use crate::{
    CipherSuite, ClientConfig, ConfigError, Exporter, Keys, Level, NamedGroup, OneRttSecrets, ServerConfig, Side, TlsError, Version,
};

mod extensions;
#[cfg(test)]
mod tests;

/// The longest handshake message, without its 4-byte header, that is taken in. rustls refuses longer ones itself, but only
/// once they are whole.
const MAX_MESSAGE_LEN: usize = 0xffff;

/// One end of one TLS handshake.
///
/// It is advanced with what the peer sent, and answers with what to send and with keys; each call of
/// [`Session::advance`] is one job. A session may move between threads from one job to the next.
///
/// Drop it once the handshake is confirmed (RFC 9001, 4.1.2): all that is of use afterwards is in [`Outcome`]. What a client
/// sends in CRYPTO frames after that is an error, unexpected_message. A server may send session tickets; a client that still
/// has its session may feed them to it, which checks and discards them, and one that has not may ignore them.
pub struct Session {
    state: State,
    side: Side,
    version: Version,
    /// The host that a client means to reach, for messages.
    server_name: Option<String>,
    read_level: Level,
    write_level: Level,
    /// The front of a message of `read_level` whose end has not come yet.
    partial: Vec<u8>,
    tapped: Tapped,
    told_transport_parameters: bool,
    complete: bool,
    #[cfg(feature = "simulation")]
    generator: Option<crate::simulation::Generator>,
}

enum State {
    /// Made, but not advanced. A client's first flight takes a key generation, so it is left to the first job.
    Client {
        config: ClientConfig,
        server_name: ServerName<'static>,
        transport_parameters: Vec<u8>,
    },
    Server {
        config: ServerConfig,
        transport_parameters: Vec<u8>,
    },
    Running(Box<Connection>),
    Failed(TlsError),
}

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
    /// Keying material for the application.
    pub exporter: Exporter,
}

impl Session {
    /// A client's end, to reach `server_name`: a DNS name, or an IP address in text. `transport_parameters` are those that
    /// this end sends, encoded.
    ///
    /// The first flight comes from the first [`Session::advance`], with empty input.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ServerName`] if `server_name` is neither.
    pub fn client(config: &ClientConfig, version: Version, server_name: &str, transport_parameters: Vec<u8>) -> Result<Self, ConfigError> {
        let Ok(name) = ServerName::try_from(server_name) else {
            return Err(ConfigError::ServerName { name: server_name.to_owned() });
        };
        let (config, name) = (config.clone(), name.to_owned());
        #[cfg(feature = "simulation")]
        let generator = config.seeds.as_ref().map(|seeds| seeds.next());
        Ok(Self {
            side: Side::Client,
            version,
            server_name: Some(server_name.to_owned()),
            state: State::Client { config, server_name: name, transport_parameters },
            read_level: Level::Initial,
            write_level: Level::Initial,
            partial: Vec::new(),
            tapped: Tapped::default(),
            told_transport_parameters: false,
            complete: false,
            #[cfg(feature = "simulation")]
            generator,
        })
    }

    /// A server's end. `transport_parameters` are those that this end sends, encoded.
    pub fn server(config: &ServerConfig, version: Version, transport_parameters: Vec<u8>) -> Self {
        let config = config.clone();
        #[cfg(feature = "simulation")]
        let generator = config.seeds.as_ref().map(|seeds| seeds.next());
        Self {
            side: Side::Server,
            version,
            server_name: None,
            state: State::Server { config, transport_parameters },
            read_level: Level::Initial,
            write_level: Level::Initial,
            partial: Vec::new(),
            tapped: Tapped::default(),
            told_transport_parameters: false,
            complete: false,
            #[cfg(feature = "simulation")]
            generator,
        }
    }

    /// Which end this is.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Takes in what came in CRYPTO frames, in order, by level, and gives what follows from it. Empty input starts a
    /// client, and otherwise does nothing.
    ///
    /// One step takes 100 to 300 microseconds of CPU when it exchanges keys, signs or verifies, and foreign code runs in
    /// it with frames of up to 109 KiB: call it on a thread's own stack (a worker's or a pool's), never on a coroutine's.
    ///
    /// # Errors
    ///
    /// [`TlsError`] with the alert to close the connection with. The handshake is over; each further call gives the same
    /// error. Input at a level other than the one that TLS reads at is an error, too (unexpected_message).
    pub fn advance(&mut self, input: &[(Level, Vec<u8>)]) -> Result<Step, TlsError> {
        #[cfg(feature = "simulation")]
        {
            let mut generator = self.generator.take();
            let result = crate::simulation::lend(&mut generator, || self.step(input));
            self.generator = generator;
            result
        }
        #[cfg(not(feature = "simulation"))]
        self.step(input)
    }

    fn step(&mut self, input: &[(Level, Vec<u8>)]) -> Result<Step, TlsError> {
        let mut step = Step::default();
        let state = mem::replace(&mut self.state, State::Failed(internal("a handshake step panicked")));
        let result = self.start(state).and_then(|mut connection| {
            self.drain(&mut connection, &mut step)?;
            for (level, bytes) in input {
                self.feed(&mut connection, *level, bytes, &mut step)?;
            }
            Ok(connection)
        });
        match result {
            Ok(connection) => {
                self.state = State::Running(connection);
                step.complete = self.complete;
                Ok(step)
            }
            Err(error) => {
                self.state = State::Failed(error.clone());
                self.tapped = Tapped::default();
                self.partial = Vec::new();
                Err(error)
            }
        }
    }

    fn start(&mut self, state: State) -> Result<Box<Connection>, TlsError> {
        let version = match self.version {
            Version::V1 => rustls::quic::Version::V1,
            Version::V2 => rustls::quic::Version::V2,
        };
        let connection = match state {
            State::Running(connection) => return Ok(connection),
            State::Failed(error) => return Err(error),
            State::Client { config, server_name, transport_parameters } => collect(&mut self.tapped, || {
                ClientConnection::new(config.tls, version, server_name, transport_parameters).map(Connection::from)
            }),
            State::Server { config, transport_parameters } => {
                ServerConnection::new(config.tls, version, transport_parameters).map(Connection::from)
            }
        };
        match connection {
            Ok(connection) => Ok(Box::new(connection)),
            Err(error) => Err(TlsError::from_rustls(&error, None, self.server_name.as_deref())),
        }
    }

    /// Cuts what came at one level into messages.
    fn feed(&mut self, connection: &mut Connection, level: Level, mut bytes: &[u8], step: &mut Step) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            // RFC 9001, 4.1.3, and RFC 8446, 5.1: TLS reads at one level at a time, and no message spans two.
            if level != self.read_level {
                let message = format!("handshake data at level {level:?}, where {:?} is read", self.read_level);
                return Err(TlsError::new(AlertDescription::UnexpectedMessage, message));
            }
            if self.partial.is_empty()
                && let Some(len) = message_len(bytes)?
                && let Some((message, rest)) = bytes.split_at_checked(len)
            {
                bytes = rest;
                self.deliver(connection, message, step)?;
                continue;
            }
            let wanted = message_len(&self.partial)?.unwrap_or(HEADER_LEN) - self.partial.len();
            let (front, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.partial.extend_from_slice(front);
            bytes = rest;
            if message_len(&self.partial)? == Some(self.partial.len()) {
                let message = mem::take(&mut self.partial);
                self.deliver(connection, &message, step)?;
            }
        }
        Ok(())
    }

    /// Hands TLS one whole message, and takes what it answers.
    fn deliver(&mut self, connection: &mut Connection, message: &[u8], step: &mut Step) -> Result<(), TlsError> {
        // RFC 9001, 8.2: the extension must be there, under its own number.
        if extensions::has_draft_parameters_alone(message) {
            let message = "no transport parameters but those of a draft of QUIC".to_owned();
            return Err(TlsError::new(AlertDescription::MissingExtension, message));
        }
        collect(&mut self.tapped, || connection.read_hs(message))
            .map_err(|error| TlsError::from_rustls(&error, connection.alert(), self.server_name.as_deref()))?;
        self.drain(connection, step)
    }

    /// Takes all that TLS has to give.
    fn drain(&mut self, connection: &mut Connection, step: &mut Step) -> Result<(), TlsError> {
        loop {
            let mut bytes = Vec::new();
            let change = connection.write_hs(&mut bytes);
            let idle = bytes.is_empty() && change.is_none();
            self.send(bytes, step);
            match change {
                // The keys inside protect nothing: see `provider.rs`.
                Some(KeyChange::Handshake { .. }) => {
                    let (client, server) = (self.tapped.client_handshake.take(), self.tapped.server_handshake.take());
                    let (suite, local, remote) = self.sorted(connection, client, server)?;
                    step.keys.push((Level::Handshake, Keys::new(self.version, suite, local, remote)));
                    self.read_level = Level::Handshake;
                    self.write_level = Level::Handshake;
                }
                Some(KeyChange::OneRtt { .. }) => {
                    let (client, server) = (self.tapped.client_traffic.take(), self.tapped.server_traffic.take());
                    let (suite, local, remote) = self.sorted(connection, client, server)?;
                    let secrets = OneRttSecrets::new(self.version, suite, local.clone(), remote.clone());
                    step.keys.push((Level::OneRtt, Keys::new(self.version, suite, local, remote)));
                    step.one_rtt_secrets = Some(secrets);
                    self.write_level = Level::OneRtt;
                }
                None if idle => break,
                None => {}
            }
        }
        if !self.told_transport_parameters
            && let Some(parameters) = connection.quic_transport_parameters()
        {
            self.told_transport_parameters = true;
            step.peer_transport_parameters = Some(parameters.to_vec());
        }
        if !self.complete && !connection.is_handshaking() {
            self.complete = true;
            self.read_level = Level::OneRtt;
            step.outcome = Some(self.outcome(connection)?);
        }
        Ok(())
    }

    fn send(&self, bytes: Vec<u8>, step: &mut Step) {
        if bytes.is_empty() {
            return;
        }
        match step.output.last_mut() {
            Some((level, before)) if *level == self.write_level => before.extend_from_slice(&bytes),
            _ => step.output.push((self.write_level, bytes)),
        }
    }

    /// The suite, this end's secret and the peer's.
    fn sorted(
        &self,
        connection: &Connection,
        client: Option<Secret>,
        server: Option<Secret>,
    ) -> Result<(CipherSuite, Secret, Secret), TlsError> {
        let (Some(client), Some(server)) = (client, server) else {
            return Err(internal("TLS changed keys without logging their secrets"));
        };
        let suite = negotiated_suite(connection)?;
        Ok(match self.side {
            Side::Client => (suite, client, server),
            Side::Server => (suite, server, client),
        })
    }

    fn outcome(&mut self, connection: &Connection) -> Result<Outcome, TlsError> {
        let suite = negotiated_suite(connection)?;
        let group = connection.negotiated_key_exchange_group().and_then(|group| NamedGroup::from_tls(group.name()));
        let exporter = self.tapped.exporter.take();
        let sent_name = match connection {
            Connection::Client(_) => None,
            Connection::Server(server) => server.server_name().map(str::to_owned),
        };
        Ok(Outcome {
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            group: group.ok_or_else(|| internal("TLS completed without a key exchange that is known here"))?,
            suite,
            peer_certificates: connection
                .peer_certificates()
                .map(|chain| chain.iter().map(|certificate| certificate.to_vec()).collect())
                .unwrap_or_default(),
            server_name: self.server_name.clone().or(sent_name),
            exporter: Exporter::new(suite, exporter.ok_or_else(|| internal("TLS completed without logging the exporter secret"))?),
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("side", &self.side)
            .field("server_name", &self.server_name)
            .field("read_level", &self.read_level)
            .field("write_level", &self.write_level)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

/// A handshake message starts with one byte of type and three of length (RFC 8446, 4).
const HEADER_LEN: usize = 4;

/// The length of the message that starts here, with its header; `None` while that is not known.
fn message_len(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
    let Some(&[_, high, middle, low]) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([0, high, middle, low]) as usize;
    if len > MAX_MESSAGE_LEN {
        let message = format!("a handshake message of {len} bytes, where {MAX_MESSAGE_LEN} are the limit");
        return Err(TlsError::new(AlertDescription::DecodeError, message));
    }
    Ok(Some(HEADER_LEN + len))
}

fn negotiated_suite(connection: &Connection) -> Result<CipherSuite, TlsError> {
    connection
        .negotiated_cipher_suite()
        .and_then(|suite| CipherSuite::from_tls(suite.suite()))
        .ok_or_else(|| internal("TLS has keys for no cipher suite that is known here"))
}

fn internal(message: &str) -> TlsError {
    TlsError::new(AlertDescription::InternalError, message)
}
