//! quiche's part: a server or a client, each a loop over one socket and all connections, as quiche leaves it to its user.

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use boring::ssl::{SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode};
use mio::{Events, Interest, Poll, Token, net::UdpSocket};
use quiche::{Connection, ConnectionId, Header, RecvInfo};

use crate::protocol::{ALPN, Batch, Group, IN_FLIGHT, Kind, LINGER, SERVER_NAME, Task, answer, serve};

/// Bytes of the ids that both ends give out.
const ID_LEN: usize = 16;
/// `ssl_early_data_accepted` of BoringSSL.
const ACCEPTED: u32 = 2;

type Id = [u8; ID_LEN];

pub fn run(task: &Task) -> Result<()> {
    match task.port {
        None => server(task),
        Some(port) => client(task, (Ipv4Addr::LOCALHOST, port).into()),
    }
}

/// A socket, and the connections over it by their id.
struct Driver {
    poll: Poll,
    events: Events,
    socket: UdpSocket,
    local: SocketAddr,
    config: quiche::Config,
    connections: HashMap<Id, Connection>,
    /// Those that were given something.
    dirty: Vec<Id>,
    ids: u64,
    buffer: Vec<u8>,
}

impl Driver {
    fn new(config: quiche::Config) -> Result<Self> {
        let poll = Poll::new()?;
        let mut socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        poll.registry().register(&mut socket, Token(0), Interest::READABLE)?;
        let local = socket.local_addr()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(16),
            socket,
            local,
            config,
            connections: HashMap::new(),
            dirty: Vec::new(),
            ids: 0,
            buffer: vec![0; 65_535],
        })
    }

    /// Not to be guessed is what ids should be; to be different is enough here.
    fn next_id(&mut self) -> Id {
        self.ids += 1;
        let mut id = [0x5a; ID_LEN];
        id[..8].copy_from_slice(&self.ids.to_be_bytes());
        id
    }

    /// Waits for datagrams, at most `at_most`, and gives them to their connections; a server makes new ones.
    fn receive(&mut self, at_most: Option<Duration>, accepts: bool) -> Result<()> {
        let timeout = self.connections.values().filter_map(Connection::timeout).chain(at_most).min();
        self.poll.poll(&mut self.events, timeout)?;
        for (id, connection) in &mut self.connections {
            if connection.timeout().is_some_and(|timeout| timeout.is_zero()) {
                connection.on_timeout();
                self.dirty.push(*id);
            }
        }
        loop {
            let (len, from) = match self.socket.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut buffer = std::mem::take(&mut self.buffer);
            self.take(&mut buffer[..len], from, accepts);
            self.buffer = buffer;
        }
    }

    fn take(&mut self, datagram: &mut [u8], from: SocketAddr, accepts: bool) {
        let Ok(header) = Header::from_slice(datagram, ID_LEN) else { return };
        let known = |id: &[u8]| Id::try_from(id).ok().filter(|id| self.connections.contains_key(id));
        // What a client makes up begins otherwise; all that it sends before it has heard from us has the same id.
        let first = Id::try_from(&header.dcid[..]).ok().map(|mut id| {
            id[0] |= 0x80;
            id
        });
        let id = match known(&header.dcid).or_else(|| first.and_then(|first| known(&first))) {
            Some(id) => id,
            None if accepts && header.ty == quiche::Type::Initial => {
                let Some(id) = first else { return };
                let accepted = quiche::accept(&ConnectionId::from_ref(&id), None, self.local, from, &mut self.config);
                let Ok(connection) = accepted else { return };
                self.connections.insert(id, connection);
                id
            }
            None => return,
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            // A datagram that is wrong closes the connection, which is told below.
            let _ = connection.recv(datagram, RecvInfo { from, to: self.local });
            self.dirty.push(id);
        }
    }

    /// Sends what a connection has to send.
    fn flush(&mut self, id: &Id) -> Result<()> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let mut out = [0; 1500];
        loop {
            match connection.send(&mut out) {
                Ok((len, to)) => match self.socket.send_to(&out[..len], to.to) {
                    Ok(_) => {}
                    // As lost.
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                },
                Err(quiche::Error::Done) => return Ok(()),
                Err(error) => bail!("quiche cannot send: {error}"),
            }
        }
    }
}

fn server(task: &Task) -> Result<()> {
    let config = config(task)?;
    let mut driver = Driver::new(config)?;
    let port = driver.local.port();
    // The main thread reads standard input, and counts for nothing.
    let _serving = std::thread::Builder::new().name("quiche".to_owned()).spawn(move || -> Result<()> {
        loop {
            driver.receive(None, true)?;
            for id in std::mem::take(&mut driver.dirty) {
                driver.flush(&id)?;
                if driver.connections.get(&id).is_some_and(Connection::is_closed) {
                    driver.connections.remove(&id);
                }
            }
        }
    })?;
    serve(port)
}

/// A client's connections and tickets.
struct Client {
    driver: Driver,
    server: SocketAddr,
    kind: Kind,
    sessions: VecDeque<Vec<u8>>,
    /// Those that count towards the batch, and when they are to be closed.
    open: HashMap<Id, Option<Instant>>,
}

fn client(task: &Task, server: SocketAddr) -> Result<()> {
    let driver = Driver::new(config(task)?)?;
    let mut client = Client { driver, server, kind: task.kind, sessions: VecDeque::new(), open: HashMap::new() };
    if task.kind != Kind::Full {
        client.run(IN_FLIGHT as u64).context("the connections that bring the first tickets")?;
    }
    answer(move |count| client.run(count))
}

impl Client {
    fn run(&mut self, count: u64) -> Result<Batch> {
        let mut batch = Batch::default();
        let mut left = count;
        while left > 0 || !self.open.is_empty() {
            while left > 0 && self.open.len() < IN_FLIGHT {
                self.begin()?;
                left -= 1;
            }
            let now = Instant::now();
            let soonest = self.open.values().flatten().min().map(|at| at.saturating_duration_since(now));
            self.driver.receive(soonest, false)?;
            let now = Instant::now();
            for id in std::mem::take(&mut self.driver.dirty) {
                self.look_at(&id, now, &mut batch)?;
            }
            let due: Vec<Id> = self.open.iter().filter(|(_, at)| at.is_some_and(|at| at <= now)).map(|(id, _)| *id).collect();
            for id in due {
                self.end(&id)?;
            }
        }
        Ok(batch)
    }

    fn begin(&mut self) -> Result<()> {
        let id = self.driver.next_id();
        let driver = &mut self.driver;
        let mut connection =
            quiche::connect(Some(SERVER_NAME), &ConnectionId::from_ref(&id), driver.local, self.server, &mut driver.config)?;
        if self.kind != Kind::Full
            && let Some(session) = self.sessions.pop_front()
        {
            connection.set_session(&session)?;
        }
        driver.connections.insert(id, connection);
        self.open.insert(id, None);
        driver.flush(&id)?;
        if let Some(connection) = driver.connections.get_mut(&id).filter(|connection| connection.is_in_early_data()) {
            // Stream 2 is a client's first unidirectional one.
            connection.stream_send(2, &[1], true)?;
            driver.flush(&id)?;
        }
        Ok(())
    }

    fn look_at(&mut self, id: &Id, now: Instant, batch: &mut Batch) -> Result<()> {
        self.driver.flush(id)?;
        let Some(connection) = self.driver.connections.get(id) else { return Ok(()) };
        let open = self.open.get_mut(id);
        if connection.is_established()
            && !connection.is_in_early_data()
            && let Some(at @ None) = open
        {
            *at = Some(now + LINGER);
            batch.handshakes += 1;
            batch.resumed += u64::from(connection.is_resumed());
            batch.early += u64::from(self.kind == Kind::ZeroRtt && connection.early_data_reason() == ACCEPTED);
        } else {
            let failed = (connection.is_closed() || connection.is_draining()) && open.is_some();
            ensure!(!failed, "a connection failed: {:?} {:?}", connection.peer_error(), connection.local_error());
        }
        if connection.is_closed() {
            self.driver.connections.remove(id);
        }
        Ok(())
    }

    fn end(&mut self, id: &Id) -> Result<()> {
        self.open.remove(id);
        let Some(connection) = self.driver.connections.get_mut(id) else { return Ok(()) };
        if self.kind != Kind::Full
            && let Some(session) = connection.session()
        {
            self.sessions.push_back(session.to_vec());
        }
        match connection.close(true, 0, b"") {
            Ok(()) | Err(quiche::Error::Done) => {}
            Err(error) => bail!("quiche cannot close: {error}"),
        }
        self.driver.flush(id)?;
        // What the server still sends finds nobody.
        self.driver.connections.remove(id);
        Ok(())
    }
}

fn config(task: &Task) -> Result<quiche::Config> {
    let mut tls = SslContextBuilder::new(SslMethod::tls())?;
    let path = |name: &str| task.folder.join(name);
    if task.port.is_none() {
        tls.set_certificate_chain_file(path("certificate.pem"))?;
        tls.set_private_key_file(path("key.pem"), SslFiletype::PEM)?;
        // SAFETY: the context lives, and the function only stores the number.
        let done = unsafe { boring_sys::SSL_CTX_set_num_tickets(tls.as_ptr(), task.tickets.into()) };
        ensure!(done == 1, "BoringSSL does not take {} tickets", task.tickets);
    } else {
        tls.set_ca_file(path("certificate.pem"))?;
        tls.set_verify(SslVerifyMode::PEER);
    }
    let mut config = quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, tls)?;
    config.set_curves_list(match task.group {
        Group::X25519 => "X25519",
        Group::X25519MlKem768 => "X25519MLKEM768",
    })?;
    config.set_application_protos(&[ALPN])?;
    config.set_max_idle_timeout(30_000);
    config.set_initial_max_data(10_000_000);
    config.set_initial_max_stream_data_bidi_local(1_250_000);
    config.set_initial_max_stream_data_bidi_remote(1_250_000);
    config.set_initial_max_stream_data_uni(1_250_000);
    config.set_initial_max_streams_bidi(100);
    config.set_initial_max_streams_uni(100);
    if task.kind == Kind::ZeroRtt {
        config.enable_early_data();
    }
    if task.kind == Kind::Full && task.port.is_some() {
        return Ok(config);
    }
    // One key for as long as the process lives.
    if task.port.is_none() {
        config.set_ticket_key(&[7; 48]).map_err(|error| anyhow!("BoringSSL does not take a ticket key: {error}"))?;
    }
    Ok(config)
}
