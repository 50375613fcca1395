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

use rustls::quic::{ClientConnection, Connection, KeyChange, ServerConnection};
use rustls::{AlertDescription, HandshakeKind};
use rustls_pki_types::ServerName;

use crate::keys::Secret;
use crate::resumption::{Arriving, ClientLoan, Loan, ServerLoan, lend};
use crate::secrets_tap::{Tapped, collect};
use crate::{
    CipherSuite, ClientConfig, ClientHello, ConfigError, DirectionKeys, Exporter, Keys, Level, NamedGroup, OneRttSecrets, ServerConfig,
    Side, Terms, TlsError, Version,
};

pub use step::{EarlyData, Outcome, Remembered, Step};

mod extensions;
mod new_ticket;
mod step;
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
/// sends in CRYPTO frames after that is an error, unexpected_message. A server's tickets are in the output of the step that
/// completes its handshake. A client that means to resume keeps its session for as long as it [`wants_tickets`](Session::wants_tickets),
/// or as it cares to wait, and feeds them to it; one that has dropped it may ignore them.
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
    /// What tickets are made of and from, if there are any.
    loan: Option<Loan>,
    /// Whether a client is to send early data, if a ticket allows it.
    wants_early_data: bool,
    /// Whether it may still come to that.
    early_data_is_open: bool,
    early_data: EarlyData,
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
        let loan = config.sessions.as_ref().map(|(store, configuration)| {
            Loan::Client(Box::new(ClientLoan {
                store: store.clone(),
                configuration: *configuration,
                time: config.tls.time_provider.clone(),
                version,
                server_name: server_name.to_owned(),
                taken: None,
                resumed: false,
                arriving: None,
                arrived: 0,
            }))
        });
        Ok(Self {
            side: Side::Client,
            version,
            server_name: Some(server_name.to_owned()),
            state: State::Client { config, server_name: name, transport_parameters },
            read_level: Level::Initial,
            write_level: Level::Initial,
            partial: Vec::new(),
            tapped: Tapped::default(),
            loan,
            wants_early_data: false,
            early_data_is_open: false,
            early_data: EarlyData::NotOffered,
            told_transport_parameters: false,
            complete: false,
            #[cfg(feature = "simulation")]
            generator,
        })
    }

    /// A server's end. `transport_parameters` are those that this end sends, encoded. `terms` are what its tickets promise to early
    /// data, and what the early data that comes with a ticket is measured by.
    ///
    /// # Panics
    ///
    /// If `terms` has more than 255 limits.
    pub fn server(config: &ServerConfig, version: Version, transport_parameters: Vec<u8>, terms: Terms) -> Self {
        assert!(terms.limits.len() <= 255, "{} limits are more than a ticket holds", terms.limits.len());
        let config = config.clone();
        #[cfg(feature = "simulation")]
        let generator = config.seeds.as_ref().map(|seeds| seeds.next());
        let loan = config.tickets.as_ref().map(|tickets| {
            Loan::Server(Box::new(ServerLoan {
                tickets: tickets.clone(),
                time: config.tls.time_provider.clone(),
                version,
                terms,
                policy: config.client_policy.clone(),
                takes_early_data: config.tls.max_early_data_size > 0,
                offers_early_data: false,
                shown: 0,
                origin: None,
                resumed: false,
                struck: None,
                issued: Vec::new(),
            }))
        });
        Self {
            side: Side::Server,
            version,
            server_name: None,
            state: State::Server { config, transport_parameters },
            read_level: Level::Initial,
            write_level: Level::Initial,
            partial: Vec::new(),
            tapped: Tapped::default(),
            loan,
            wants_early_data: false,
            early_data_is_open: false,
            early_data: EarlyData::NotOffered,
            told_transport_parameters: false,
            complete: false,
            #[cfg(feature = "simulation")]
            generator,
        }
    }

    /// Lets a client offer early data, if a session is remembered that allows it: the first step then gives `early_keys`. To be
    /// called before that; a server takes early data by its configuration.
    pub fn offer_early_data(&mut self) {
        self.wants_early_data = true;
    }

    /// Whether a client is complete and waits for the first of the tickets that a server may send. What comes in 1-RTT CRYPTO frames
    /// is then to be fed to it.
    pub fn wants_tickets(&self) -> bool {
        self.complete && matches!(self.state, State::Running(_)) && matches!(&self.loan, Some(Loan::Client(client)) if client.arrived == 0)
    }

    /// Has keys derived for `version` from now on: the handshake goes on in another version than it began in (RFC 9369, 4.1). Of no
    /// effect on keys that are out already.
    pub fn switch_version(&mut self, version: Version) {
        self.version = version;
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
        let is_first = !matches!(state, State::Running(_));
        let result = self.start(state, input).and_then(|mut connection| {
            if is_first && self.side == Side::Client {
                self.offer(&connection, &mut step)?;
            }
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
                if let Some(Loan::Server(server)) = &mut self.loan {
                    server.restore();
                }
                self.state = State::Failed(error.clone());
                self.loan = None;
                self.tapped = Tapped::default();
                self.partial = Vec::new();
                Err(error)
            }
        }
    }

    fn start(&mut self, state: State, input: &[(Level, Vec<u8>)]) -> Result<Box<Connection>, TlsError> {
        let version = match self.version {
            Version::V1 => rustls::quic::Version::V1,
            Version::V2 => rustls::quic::Version::V2,
        };
        let connection = match state {
            State::Running(connection) => return Ok(connection),
            State::Failed(error) => return Err(error),
            State::Client { config, server_name, transport_parameters } => {
                let tls = if self.wants_early_data { config.tls_with_early_data } else { config.tls };
                self.run(|| ClientConnection::new(tls, version, server_name, transport_parameters).map(Connection::from))
            }
            State::Server { config, transport_parameters } => {
                // What does not parse TLS will refuse; what is not whole yet it will choose for.
                let hello = input.first().and_then(|(_, bytes)| ClientHello::parse(bytes).ok());
                let tls = hello.map_or_else(|| config.tls.clone(), |hello| config.for_client(&hello));
                ServerConnection::new(tls, version, transport_parameters).map(Connection::from)
            }
        };
        match connection {
            Ok(connection) => Ok(Box::new(connection)),
            Err(error) => Err(TlsError::from_rustls(&error, None, self.server_name.as_deref())),
        }
    }

    /// Runs a part of a step that calls back. What it is told and asks for belongs to this session.
    fn run<T>(&mut self, part: impl FnOnce() -> T) -> T {
        match &mut self.loan {
            Some(Loan::Client(client)) => client.version = self.version,
            Some(Loan::Server(server)) => server.version = self.version,
            None => {}
        }
        collect(&mut self.tapped, || lend(&mut self.loan, part))
    }

    /// Takes what early data is to be sent with and under, if the ClientHello offers it.
    fn offer(&mut self, connection: &Connection, step: &mut Step) -> Result<(), TlsError> {
        if connection.zero_rtt_keys().is_none() {
            return Ok(());
        }
        let alpn = match &self.loan {
            Some(Loan::Client(client)) => client.taken.as_ref().map(|taken| taken.alpn.clone()),
            _ => None,
        };
        step.remembered = Some(Remembered {
            transport_parameters: connection.quic_transport_parameters().unwrap_or_default().to_vec(),
            alpn: alpn.ok_or_else(|| internal("TLS offers early data with a session that it was not given"))?,
        });
        step.early_keys = Some(self.early_keys(connection)?);
        self.early_data_is_open = true;
        Ok(())
    }

    fn early_keys(&mut self, connection: &Connection) -> Result<DirectionKeys, TlsError> {
        let secret = self.tapped.client_early.take();
        let secret = secret.ok_or_else(|| internal("TLS has keys for early data without having logged their secret"))?;
        Ok(DirectionKeys::new(self.version, negotiated_suite(connection)?, secret))
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
        let message_type = message.first().copied();
        if self.complete && message_type == Some(new_ticket::NEW_SESSION_TICKET) && new_ticket::misstates_early_data(message) {
            // RFC 9001, 4.6.1
            let message = "a ticket that limits early data by another size than QUIC's own";
            return Err(TlsError::protocol_violation(message));
        }
        let hello = (self.side == Side::Server && message_type == Some(CLIENT_HELLO)).then(|| ClientHello::parse(message));
        // What cannot be read TLS does not take either.
        let offers_early_data = hello.is_some_and(|hello| hello.is_ok_and(|hello| hello.offers_early_data()));
        match &mut self.loan {
            Some(Loan::Server(server)) => server.offers_early_data = offers_early_data,
            Some(Loan::Client(client)) if message_type == Some(new_ticket::NEW_SESSION_TICKET) && self.complete => {
                client.arriving = arriving(connection, message);
            }
            _ => {}
        }
        self.run(|| connection.read_hs(message))
            .map_err(|error| TlsError::from_rustls(&error, connection.alert(), self.server_name.as_deref()))?;
        self.drain(connection, step)?;
        match (self.side, message_type) {
            (Side::Server, Some(CLIENT_HELLO)) => self.on_client_hello(connection, offers_early_data, step),
            (Side::Client, Some(SERVER_HELLO)) => {
                // RFC 9001, 4.6.2: a HelloRetryRequest, which is a ServerHello that changes no keys, rejects early data.
                if self.early_data_is_open && self.read_level == Level::Initial {
                    self.on_early_data(false, step);
                }
                Ok(())
            }
            (Side::Client, Some(ENCRYPTED_EXTENSIONS)) => self.on_encrypted_extensions(connection, step),
            _ => Ok(()),
        }
    }

    /// Tells the peer's transport parameters, once. Before a client has read EncryptedExtensions, TLS has those that are remembered.
    fn tell_parameters(&mut self, connection: &Connection, step: &mut Step) {
        if !self.told_transport_parameters
            && let Some(parameters) = connection.quic_transport_parameters()
        {
            self.told_transport_parameters = true;
            step.peer_transport_parameters = Some(parameters.to_vec());
        }
    }

    /// A server has answered a ClientHello.
    fn on_client_hello(&mut self, connection: &Connection, offers_early_data: bool, step: &mut Step) -> Result<(), TlsError> {
        self.tell_parameters(connection, step);
        let resumed = is_resumed(connection);
        let accepts = connection.zero_rtt_keys().is_some();
        if let Some(Loan::Server(server)) = &mut self.loan {
            server.resumed = resumed;
            if resumed {
                server.tickets.on_resumed();
            }
            if accepts && server.struck.is_none() {
                return Err(internal("TLS takes early data that was not allowed"));
            }
            if accepts {
                server.struck = None;
            } else {
                server.restore();
            }
            if offers_early_data {
                server.tickets.on_early_data(accepts);
            }
        }
        if accepts {
            step.early_keys = Some(self.early_keys(connection)?);
            step.early_protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
        }
        self.tapped.client_early = None;
        if offers_early_data {
            self.on_early_data(accepts, step);
        }
        Ok(())
    }

    /// A client knows what the server makes of what it remembered.
    fn on_encrypted_extensions(&mut self, connection: &Connection, step: &mut Step) -> Result<(), TlsError> {
        self.tell_parameters(connection, step);
        let Connection::Client(client) = connection else { return Ok(()) };
        let accepted = client.is_early_data_accepted();
        if let Some(Loan::Client(loan)) = &mut self.loan {
            loan.resumed = is_resumed(connection);
            // RFC 8446, 4.2.10: early data is for the protocol that was spoken then.
            if accepted && loan.taken.as_ref().is_none_or(|taken| taken.alpn.as_deref() != connection.alpn_protocol()) {
                let message = "early data was accepted for another application protocol than it was sent for";
                return Err(TlsError::new(AlertDescription::IllegalParameter, message));
            }
        }
        if self.early_data_is_open {
            self.on_early_data(accepted, step);
        }
        Ok(())
    }

    fn on_early_data(&mut self, accepted: bool, step: &mut Step) {
        self.early_data_is_open = false;
        self.early_data = if accepted { EarlyData::Accepted } else { EarlyData::Rejected };
        step.early_data = Some(accepted);
    }

    /// Takes all that TLS has to give.
    fn drain(&mut self, connection: &mut Connection, step: &mut Step) -> Result<(), TlsError> {
        loop {
            let mut bytes = Vec::new();
            let change = connection.write_hs(&mut bytes);
            let idle = bytes.is_empty() && change.is_none();
            // All that a server says here are tickets.
            if let Some(Loan::Server(server)) = &mut self.loan
                && !server.issued.is_empty()
            {
                let exchanged = new_ticket::exchange(&bytes, &mut server.issued);
                bytes = exchanged.ok_or_else(|| internal("TLS sends its tickets in a form that is not known here"))?;
            }
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
            resumed: is_resumed(connection),
            early_data: self.early_data,
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

// The types of handshake messages (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const ENCRYPTED_EXTENSIONS: u8 = 8;

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

fn is_resumed(connection: &Connection) -> bool {
    connection.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// What a client is to remember with the ticket in `message`. Too little is known of one that is malformed.
fn arriving(connection: &Connection, message: &[u8]) -> Option<Arriving> {
    Some(Arriving {
        lifetime: new_ticket::lifetime(message)?,
        len: message.len() + connection.quic_transport_parameters().map_or(0, <[u8]>::len),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        group: NamedGroup::from_tls(connection.negotiated_key_exchange_group()?.name())?,
    })
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
