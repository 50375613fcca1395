//! quiche's part: one connection after the other over a socket of its own, each driven by the caller until it ends. A server sends back what
//! comes on each stream; a client sends requests and collects what comes back.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use boring::{
    pkey::PKey,
    ssl::{SslContextBuilder, SslInfoCallbackMode, SslMethod, SslVerifyMode},
    x509::X509,
};
use mio::{Events, Interest, Poll, Token, net::UdpSocket};
use quiche::{Connection, ConnectionId, Header, RecvInfo, Type};

use crate::sides::{ALPN, Identity, NAME};

/// Bytes of the ids that quiche gives out.
const ID_LEN: usize = 16;
/// What begins a Retry token; the id follows that the client chose.
const TOKEN: &[u8] = b"quiche";
/// `ssl_early_data_accepted` of BoringSSL.
const ACCEPTED: u32 = 2;
/// Far more than a connection needs on a busy machine.
const LONGEST: Duration = Duration::from_secs(50);

/// What an end is to be.
#[derive(Clone)]
pub(crate) struct Options {
    /// As BoringSSL names groups, with colons between.
    pub(crate) groups: &'static str,
    pub(crate) early_data: bool,
    /// A server's: what it seals tickets with.
    pub(crate) ticket_key: [u8; 48],
    /// A server's: whether it asks clients for their address.
    pub(crate) retries: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { groups: "X25519MLKEM768:X25519:P-256", early_data: false, ticket_key: [7; 48], retries: false }
    }
}

/// What an end saw of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The group as BoringSSL names it, and whether there was a HelloRetryRequest.
    pub(crate) group: Option<&'static str>,
    pub(crate) hello_retry: bool,
    pub(crate) resumed: bool,
    pub(crate) early_data_accepted: bool,
    /// Stream data went or came before the handshake.
    pub(crate) any_early: bool,
    /// A Retry came, or went: one for each packet of a client's first flight.
    pub(crate) retried: bool,
    /// Of the last long header that came.
    pub(crate) version: u32,
    /// What came on the streams, by their ids.
    pub(crate) came: Vec<Vec<u8>>,
}

/// What BoringSSL says when a handshake is done.
type Agreed = Arc<Mutex<(Option<&'static str>, bool)>>;

struct Wire {
    poll: Poll,
    events: Events,
    socket: UdpSocket,
    local: SocketAddr,
    buffer: Vec<u8>,
    ids: u8,
    ends: Instant,
}

impl Wire {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let mut socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        poll.registry().register(&mut socket, Token(0), Interest::READABLE).unwrap();
        let local = socket.local_addr().unwrap();
        Self { poll, events: Events::with_capacity(4), socket, local, buffer: vec![0; 65_535], ids: 0, ends: now() + LONGEST }
    }

    /// Not to be guessed is what ids should be; to be different is enough here.
    fn next_id(&mut self) -> [u8; ID_LEN] {
        self.ids += 1;
        [self.ids; ID_LEN]
    }

    /// The next datagram's length and where it is from; `None` when the time is over.
    fn receive(&mut self, timeout: Option<Duration>) -> Option<(usize, SocketAddr)> {
        assert!(now() < self.ends, "quiche is not done after {LONGEST:?}");
        let until = timeout.map(|timeout| now() + timeout);
        loop {
            match self.socket.recv_from(&mut self.buffer) {
                Ok(received) => return Some(received),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            let left = until.map_or(self.ends, |until| until.min(self.ends)).saturating_duration_since(now());
            if left.is_zero() {
                return None;
            }
            self.poll.poll(&mut self.events, Some(left)).unwrap();
        }
    }

    /// Sends what a connection has to send.
    fn flush(&mut self, connection: &mut Connection) {
        let mut out = [0; 1500];
        loop {
            match connection.send(&mut out) {
                Ok((len, to)) => self.send(&out[..len], to.to),
                Err(quiche::Error::Done) => return,
                Err(error) => panic!("quiche cannot send: {error}"),
            }
        }
    }

    /// What the socket does not take is as lost.
    fn send(&self, datagram: &[u8], to: SocketAddr) {
        match self.socket.send_to(datagram, to) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "quiche's time is the system's; nothing here is simulated")]
fn now() -> Instant {
    Instant::now()
}

fn config(identity: &Identity, options: &Options, is_server: bool) -> (quiche::Config, Agreed) {
    let mut tls = SslContextBuilder::new(SslMethod::tls()).unwrap();
    let certificate = X509::from_pem(identity.certificate.as_bytes()).unwrap();
    if is_server {
        tls.set_certificate(&certificate).unwrap();
        tls.set_private_key(&PKey::private_key_from_pem(identity.key.as_bytes()).unwrap()).unwrap();
    } else {
        tls.cert_store_mut().add_cert(certificate).unwrap();
        tls.set_verify(SslVerifyMode::PEER);
    }
    let agreed = Agreed::default();
    let tell = agreed.clone();
    tls.set_info_callback(move |ssl, mode, _| {
        if mode == SslInfoCallbackMode::HANDSHAKE_DONE {
            *tell.lock().unwrap() = (ssl.curve_name(), ssl.used_hello_retry_request());
        }
    });
    let mut config = quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, tls).unwrap();
    config.set_curves_list(options.groups).unwrap();
    config.set_application_protos(&[ALPN]).unwrap();
    config.set_max_idle_timeout(30_000);
    config.set_initial_max_data(10_000_000);
    config.set_initial_max_stream_data_bidi_local(1_000_000);
    config.set_initial_max_stream_data_bidi_remote(1_000_000);
    config.set_initial_max_stream_data_uni(1_000_000);
    config.set_initial_max_streams_bidi(100);
    config.set_initial_max_streams_uni(100);
    if is_server {
        config.set_ticket_key(&options.ticket_key).unwrap();
    }
    if options.early_data {
        config.enable_early_data();
    }
    (config, agreed)
}

/// What an end sends on its streams, and what came on them.
#[derive(Default)]
struct Streams {
    /// By id: what is to be sent, and how much of it has been.
    out: BTreeMap<u64, (Vec<u8>, usize)>,
    came: BTreeMap<u64, Vec<u8>>,
    finished: usize,
    any_early: bool,
}

impl Streams {
    /// Reads all that can be read. `echo` sends back each stream that is complete.
    fn read(&mut self, connection: &mut Connection, echo: bool) {
        let mut buffer = [0; 16_384];
        for id in connection.readable() {
            while let Ok((len, finished)) = connection.stream_recv(id, &mut buffer) {
                self.any_early |= connection.is_in_early_data();
                let came = self.came.entry(id).or_default();
                came.extend_from_slice(&buffer[..len]);
                if finished {
                    self.finished += 1;
                    if echo {
                        self.out.insert(id, (came.clone(), 0));
                    }
                }
            }
        }
    }

    fn write(&mut self, connection: &mut Connection) {
        if !connection.is_established() && !connection.is_in_early_data() {
            return;
        }
        for (&id, (bytes, sent)) in &mut self.out {
            if *sent < bytes.len() {
                // Its end goes with its last byte; quiche says how much it has taken.
                *sent += connection.stream_send(id, &bytes[*sent..], true).unwrap_or(0);
                self.any_early |= *sent > 0 && connection.is_in_early_data();
            }
        }
    }

    fn report(self, connection: &Connection, agreed: &Agreed, seen: &Seen) -> Report {
        let (group, hello_retry) = *agreed.lock().unwrap();
        Report {
            group,
            hello_retry,
            resumed: connection.is_resumed(),
            early_data_accepted: connection.early_data_reason() == ACCEPTED,
            any_early: self.any_early,
            retried: seen.retried,
            version: seen.version,
            came: self.came.into_values().collect(),
        }
    }
}

#[derive(Default)]
struct Seen {
    retried: bool,
    version: u32,
}

pub(crate) struct Server {
    wire: Wire,
    config: quiche::Config,
    agreed: Agreed,
    retries: bool,
}

impl Server {
    pub(crate) fn new(identity: &Identity, options: &Options) -> Self {
        let (config, agreed) = config(identity, options, true);
        Self { wire: Wire::new(), config, agreed, retries: options.retries }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.wire.local
    }

    /// Serves the next connection until it ends.
    pub(crate) fn serve(&mut self) -> Report {
        let (mut connection, mut seen, mut streams): (Option<Connection>, _, _) = (None, Seen::default(), Streams::default());
        loop {
            match self.wire.receive(connection.as_ref().and_then(Connection::timeout)) {
                Some((len, from)) => {
                    if connection.is_none() {
                        connection = self.accept(len, from, &mut seen);
                    }
                    if let Some(connection) = &mut connection {
                        // A datagram that is wrong closes the connection, which is told below.
                        let _ = connection.recv(&mut self.wire.buffer[..len], RecvInfo { from, to: self.wire.local });
                    }
                }
                None => connection.iter_mut().for_each(Connection::on_timeout),
            }
            if let Some(connection) = &mut connection {
                streams.read(connection, true);
                streams.write(connection);
                self.wire.flush(connection);
                if connection.is_closed() || connection.is_draining() {
                    return streams.report(connection, &self.agreed, &seen);
                }
            }
        }
    }

    /// Answers a client that speaks another version, and nobody else.
    pub(crate) fn refuse_version(&mut self) {
        let (len, from) = self.wire.receive(None).unwrap();
        let header = Header::from_slice(&mut self.wire.buffer[..len], ID_LEN).unwrap();
        assert!(!quiche::version_is_supported(header.version), "{:#x} is spoken here", header.version);
        assert!(self.accept(len, from, &mut Seen::default()).is_none());
    }

    /// What becomes of a client's first datagram: a connection, or an answer without one.
    fn accept(&mut self, len: usize, from: SocketAddr, seen: &mut Seen) -> Option<Connection> {
        let header = Header::from_slice(&mut self.wire.buffer[..len], ID_LEN).ok()?;
        let mut out = [0; 1500];
        // Before the type is looked at: each version has numbers of its own for types (RFC 9369 section 3.2).
        if !quiche::version_is_supported(header.version) {
            let len = quiche::negotiate_version(&header.scid, &header.dcid, &mut out).unwrap();
            self.wire.send(&out[..len], from);
            return None;
        }
        if header.ty != Type::Initial {
            return None;
        }
        seen.version = header.version;
        if !self.retries {
            let id = self.wire.next_id();
            return quiche::accept(&ConnectionId::from_ref(&id), None, self.wire.local, from, &mut self.config).ok();
        }
        let token = header.token.unwrap_or_default();
        let Some(chosen) = token.strip_prefix(TOKEN) else {
            let id = self.wire.next_id();
            let token = [TOKEN, &header.dcid].concat();
            let new = ConnectionId::from_ref(&id);
            let len = quiche::retry(&header.scid, &header.dcid, &new, &token, header.version, &mut out).unwrap();
            self.wire.send(&out[..len], from);
            seen.retried = true;
            return None;
        };
        quiche::accept(&header.dcid, Some(&ConnectionId::from_ref(chosen)), self.wire.local, from, &mut self.config).ok()
    }
}

pub(crate) struct Client {
    wire: Wire,
    config: quiche::Config,
    agreed: Agreed,
}

impl Client {
    pub(crate) fn new(identity: &Identity, options: &Options) -> Self {
        let (config, agreed) = config(identity, options, false);
        Self { wire: Wire::new(), config, agreed }
    }

    /// Makes a connection, with early data if `session` allows it; sends the requests, each on a stream of its own; ends when all
    /// answers are there, and gives a session to come again with. An error is the code that the server closed with, or `None`.
    pub(crate) fn fetch(
        &mut self,
        server: SocketAddr,
        session: Option<&[u8]>,
        requests: &[Vec<u8>],
    ) -> Result<(Report, Vec<u8>), Option<u64>> {
        let id = self.wire.next_id();
        let local = self.wire.local;
        let mut connection = quiche::connect(Some(NAME), &ConnectionId::from_ref(&id), local, server, &mut self.config).unwrap();
        if let Some(session) = session {
            connection.set_session(session).unwrap();
        }
        let (mut seen, mut streams) = (Seen::default(), Streams::default());
        streams.out.extend((0..).step_by(4).zip(requests.iter().map(|request| (request.clone(), 0))));
        // The keys for early data come with the first flight.
        self.wire.flush(&mut connection);
        loop {
            streams.write(&mut connection);
            self.wire.flush(&mut connection);
            match self.wire.receive(connection.timeout()) {
                Some((len, from)) => {
                    if let Ok(header) = Header::from_slice(&mut self.wire.buffer[..len], ID_LEN)
                        && header.ty != Type::Short
                    {
                        seen.version = header.version;
                        seen.retried |= header.ty == Type::Retry;
                    }
                    let _ = connection.recv(&mut self.wire.buffer[..len], RecvInfo { from, to: local });
                }
                None => connection.on_timeout(),
            }
            streams.read(&mut connection, false);
            self.wire.flush(&mut connection);
            if connection.is_closed() || connection.is_draining() {
                return Err(connection.peer_error().map(|error| error.error_code));
            }
            if streams.finished == requests.len()
                && connection.is_established()
                && let Some(session) = connection.session().map(<[u8]>::to_vec)
            {
                connection.close(true, 0, b"").unwrap();
                self.wire.flush(&mut connection);
                return Ok((streams.report(&connection, &self.agreed, &seen), session));
            }
        }
    }
}
