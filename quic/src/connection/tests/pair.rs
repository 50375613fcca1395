//! A client and a server in memory, with their endpoints, on virtual time, over a network that delays, loses, reorders,
//! duplicates and corrupts by seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weald_crypto::simulation;

use crate::config::{ClientConfig, ServerConfig, TransportConfig};
use crate::connection::{Connection, CryptoJob, DatagramMeta, Event, Scratch};
use crate::endpoint::{Admission, Endpoint, Routed};
use crate::error::ConnectionError;
use crate::handle::{ConnectionHandle, EndpointKeys};
use crate::pressure::Shortage;
use crate::stream_id::{Direction, StreamId};
use crate::streams::{ReadError, StreamEvent, WriteError};
use crate::time::Instant;

/// What the network does to datagrams, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) delay: Duration,
    pub(crate) loss: u32,
    pub(crate) reorder: u32,
    pub(crate) duplicate: u32,
    pub(crate) corrupt: u32,
}

impl Network {
    pub(crate) const CLEAN: Self = Self { delay: Duration::from_millis(10), loss: 0, reorder: 0, duplicate: 0, corrupt: 0 };
}

/// One end: an endpoint, at most one connection that matters, and an application that sends and receives.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Option<(ConnectionHandle, Connection)>,
    pub(crate) closed: Option<ConnectionError>,
    pub(crate) connected: bool,
    pub(crate) confirmed: bool,
    pub(crate) dropped: bool,
    sends: BTreeMap<StreamId, Outgoing>,
    pub(crate) received: BTreeMap<StreamId, (Vec<u8>, bool)>,
    /// Answers each stream of the peer with as many bytes.
    pub(crate) answer: usize,
    /// Does not read.
    pub(crate) deaf: bool,
    /// Crypto jobs are left alone.
    pub(crate) stuck: bool,
    /// What comes for no connection after the first one is not let in, and not a mistake.
    pub(crate) lets_one_in: bool,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) scratch: Scratch,
}

struct Outgoing {
    data: Vec<u8>,
    sent: usize,
    finished: bool,
}

/// A datagram on its way: when it arrives, a serial number, whether to the server, its bytes.
type Flying = (u64, u64, bool, Vec<u8>);

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: Node,
    pub(crate) server: Node,
    pub(crate) network: Network,
    pub(crate) rng: fastrand::Rng,
    pub(crate) flying: BinaryHeap<Reverse<Flying>>,
    serial: u64,
    /// (time, from the client, length) of every datagram sent.
    pub(crate) trace: Vec<(u64, bool, usize)>,
    /// Places in the trace of datagrams that get lost.
    pub(crate) lost: Vec<usize>,
}

pub(crate) fn client_address() -> SocketAddr {
    "[2001:db8::1]:50000".parse().unwrap()
}

pub(crate) fn server_address() -> SocketAddr {
    "[2001:db8::2]:443".parse().unwrap()
}

/// Bytes that tell their own place.
pub(crate) fn pattern(id: StreamId, len: usize) -> Vec<u8> {
    let salt = id.as_u64() as usize;
    (0..len).map(|at| ((at * 31) ^ (at >> 8) ^ salt) as u8).collect()
}

pub(crate) fn client_config(seed: u64, transport: TransportConfig) -> ClientConfig {
    let crypto = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(simulation::roots()).simulation(seed).build().unwrap();
    ClientConfig::new(crypto).transport(transport)
}

pub(crate) fn server_config(seed: u64, transport: TransportConfig, extra_certificates: usize) -> ServerConfig {
    let (chain, key) = simulation::server_credentials();
    let own: Vec<Vec<u8>> = chain.iter().map(<[u8]>::to_vec).collect();
    let extra = std::iter::repeat_n(own[0].clone(), extra_certificates);
    let chain = weald_crypto::Certificates::from_der(own.iter().cloned().chain(extra));
    let crypto = weald_crypto::ServerConfig::builder().alpn([b"test"]).certificate(chain, key).simulation(seed).build().unwrap();
    ServerConfig::new(crypto).transport(transport)
}

impl Node {
    pub(crate) fn new(address: SocketAddr, endpoint: Endpoint) -> Self {
        Self {
            address,
            endpoint,
            connection: None,
            closed: None,
            connected: false,
            confirmed: false,
            dropped: false,
            sends: BTreeMap::new(),
            received: BTreeMap::new(),
            answer: 0,
            deaf: false,
            stuck: false,
            lets_one_in: false,
            sent_bytes: 0,
            received_bytes: 0,
            scratch: Scratch::default(),
        }
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().expect("a connection").1
    }

    pub(crate) fn send(&mut self, direction: Direction, len: usize) -> StreamId {
        let id = self.connection().open(direction).expect("stream credit");
        self.send_on(id, len);
        id
    }

    fn send_on(&mut self, id: StreamId, len: usize) {
        self.sends.insert(id, Outgoing { data: pattern(id, len), sent: 0, finished: false });
    }

    /// Whether all was sent and acknowledged.
    pub(crate) fn is_flushed(&mut self) -> bool {
        let ids: Vec<_> = self.sends.keys().copied().collect();
        self.sends.values().all(|send| send.finished) && ids.iter().all(|id| !self.connection().is_sending(*id))
    }

    /// Whether a stream arrived whole.
    pub(crate) fn has_received(&self, id: StreamId, len: usize) -> bool {
        self.received.get(&id).is_some_and(|(bytes, finished)| *finished && *bytes == pattern(id, len))
    }

    fn receive(&mut self, now: Instant, datagram: &[u8], meta: DatagramMeta) -> Option<Vec<u8>> {
        self.received_bytes += datagram.len() as u64;
        match self.endpoint.receive(now, datagram, meta) {
            Routed::Existing(handle) => {
                let (own, connection) = self.connection.as_mut().expect("a live connection");
                assert_eq!(*own, handle);
                connection.receive(now, datagram, meta, &mut self.scratch);
            }
            Routed::Incoming(_) if self.lets_one_in && (self.connection.is_some() || self.dropped) => {}
            Routed::Incoming(incoming) => match self.endpoint.admit(&incoming, Shortage::default()) {
                Admission::Accept => {
                    if let Ok(accepted) = self.endpoint.accept(now, incoming, datagram, meta) {
                        assert!(self.connection.is_none(), "one connection a pair");
                        self.connection = Some(accepted);
                    }
                }
                Admission::Retry => return self.endpoint.retry(now, incoming),
                Admission::Refuse(reason) => return self.endpoint.refuse(now, incoming, reason),
            },
            Routed::Answer(answer) => return Some(answer),
            Routed::Forward { .. } | Routed::Dropped => {}
        }
        None
    }

    /// Runs jobs, events and the application until nothing changes.
    pub(crate) fn work(&mut self, now: Instant) {
        let Some((handle, mut connection)) = self.connection.take() else { return };
        if !self.stuck {
            while let Some(job) = connection.poll_crypto_job() {
                connection.on_crypto_done(now, CryptoJob::run(job), &mut self.scratch);
            }
        }
        while let Some(event) = connection.poll_event() {
            match event {
                Event::EarlyData => {}
                Event::Connected => self.connected = true,
                Event::Confirmed => self.confirmed = true,
                Event::Closed(error) => {
                    assert!(self.closed.replace(error).is_none(), "closed twice");
                }
                Event::Stream(StreamEvent::Opened(direction)) => {
                    while let Some(id) = connection.accept(direction) {
                        self.received.entry(id).or_default();
                        if direction == Direction::Bi && self.answer > 0 {
                            self.send_on(id, self.answer);
                        }
                    }
                }
                Event::Stream(_) | Event::Datagrams(_) => {}
            }
        }
        for (id, send) in &mut self.sends {
            while send.sent < send.data.len() {
                match connection.write(*id, &send.data[send.sent..]) {
                    Ok(written) => send.sent += written,
                    Err(WriteError::Blocked) => break,
                    Err(_) => send.sent = send.data.len(),
                }
            }
            if send.sent == send.data.len() && !send.finished {
                send.finished = true;
                let _ = connection.finish(*id);
            }
            if id.direction() == Direction::Bi {
                self.received.entry(*id).or_default();
            }
        }
        if !self.deaf {
            for (id, (bytes, finished)) in &mut self.received {
                while !*finished {
                    match connection.read(*id, usize::MAX) {
                        Ok(Some(chunk)) => {
                            bytes.extend_from_slice(&chunk);
                            connection.release(*id, chunk);
                        }
                        Ok(None) => *finished = true,
                        Err(ReadError::Blocked) => break,
                        Err(ReadError::Reset(_) | ReadError::Closed) => break,
                    }
                }
            }
        }
        let mut over = false;
        while let Some(event) = connection.poll_endpoint_event() {
            over |= self.endpoint.on_event(handle, event);
        }
        if over {
            self.dropped = true;
        } else {
            self.connection = Some((handle, connection));
        }
    }
}

impl Pair {
    pub(crate) fn new(seed: u64, network: Network) -> Self {
        Self::with(seed, network, TransportConfig::default(), TransportConfig::default(), 0)
    }

    pub(crate) fn with(seed: u64, network: Network, client: TransportConfig, server: TransportConfig, extra_certificates: usize) -> Self {
        Self::configured(seed, network, client_config(seed, client), server_config(seed, server, extra_certificates))
    }

    pub(crate) fn configured(seed: u64, network: Network, config: ClientConfig, server: ServerConfig) -> Self {
        Self::begin(Instant::from_nanos(1_000_000_000), seed, network, config, server)
    }

    /// A pair whose client sends early data, if an earlier pair with these configurations (or clones of them) allows it.
    pub(crate) fn early(seed: u64, network: Network, config: &ClientConfig, server: &ServerConfig) -> Self {
        let mut pair = Self::configured(seed, network, config.clone(), server.clone());
        let connected = pair.client.endpoint.connect_0rtt(pair.now, config, server_address(), simulation::SERVER_NAME);
        pair.client.connection = Some(connected.expect("a usable config"));
        pair
    }

    /// A pair whose clock stands at `now`.
    pub(crate) fn at(now: Instant, seed: u64) -> Self {
        let config = TransportConfig::default;
        Self::begin(now, seed, Network::CLEAN, client_config(seed, config()), server_config(seed, config(), 0))
    }

    fn begin(now: Instant, seed: u64, network: Network, config: ClientConfig, server: ServerConfig) -> Self {
        let keys = |fill| EndpointKeys::new(&[fill; 32], seed, 0);
        let mut client_endpoint = Endpoint::new(keys(1), 0, 1, None, seed);
        let server_endpoint = Endpoint::new(keys(2), 0, 1, Some(Arc::new(server)), seed + 1);
        let connected = client_endpoint.connect(now, &config, server_address(), simulation::SERVER_NAME).expect("a usable config");
        let mut pair = Self {
            now,
            client: Node::new(client_address(), client_endpoint),
            server: Node::new(server_address(), server_endpoint),
            network,
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            flying: BinaryHeap::new(),
            serial: 0,
            trace: Vec::new(),
            lost: Vec::new(),
        };
        pair.client.connection = Some(connected);
        pair
    }

    /// A pair whose handshake is confirmed at both ends, over a clean network, and which is quiet.
    pub(crate) fn connected(seed: u64) -> Self {
        let mut pair = Self::new(seed, Network::CLEAN);
        assert!(pair.run(Duration::from_secs(5), |pair| pair.client.confirmed && pair.server.confirmed));
        pair.run(Duration::from_secs(1), |_| false);
        pair
    }

    /// Lets both ends work and send, without time passing.
    pub(crate) fn flush(&mut self) {
        for to_server in [true, false] {
            let now = self.now;
            let node = if to_server { &mut self.client } else { &mut self.server };
            node.work(now);
            let mut sent = Vec::new();
            let mut buf = [0; 1500];
            if let Some((_, connection)) = &mut node.connection {
                while let Some(transmit) = connection.transmit(now, &mut buf, &mut node.scratch) {
                    sent.push(buf[..transmit.len].to_vec());
                    assert!(sent.len() < 10_000, "transmit never ends");
                }
            }
            // Sending may have ended the connection, or used up what blocked a writer.
            node.work(now);
            for datagram in sent {
                self.send(to_server, datagram);
            }
        }
    }

    /// Gives a datagram to the network.
    pub(crate) fn send(&mut self, to_server: bool, datagram: Vec<u8>) {
        let node = if to_server { &mut self.client } else { &mut self.server };
        node.sent_bytes += datagram.len() as u64;
        self.trace.push((self.now.as_nanos(), to_server, datagram.len()));
        let Network { delay, loss, reorder, duplicate, corrupt } = self.network;
        if self.rng.u32(0..100) < loss || self.lost.contains(&(self.trace.len() - 1)) {
            return;
        }
        let copies = if self.rng.u32(0..100) < duplicate { 2 } else { 1 };
        for _ in 0..copies {
            let mut datagram = datagram.clone();
            if self.rng.u32(0..100) < corrupt {
                let at = self.rng.usize(0..datagram.len());
                datagram[at] ^= 1 << self.rng.u32(0..8);
            }
            let extra = if self.rng.u32(0..100) < reorder { self.rng.u64(0..delay.as_nanos() as u64 * 2) } else { 0 };
            let at = self.now + delay;
            self.serial += 1;
            self.flying.push(Reverse((at.as_nanos() + extra, self.serial, to_server, datagram)));
        }
    }

    /// Lets the next thing happen. False if nothing does until `end`, which is then now.
    fn step(&mut self, end: Instant) -> bool {
        let timeouts =
            [&self.client, &self.server].into_iter().filter_map(|node| node.connection.as_ref()?.1.next_timeout()).map(Instant::as_nanos);
        let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = timeouts.chain(arrival).min().filter(|next| *next <= end.as_nanos()) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(Instant::from_nanos(next));
        let now = self.now;
        while let Some(Reverse((at, ..))) = self.flying.peek() {
            if *at > now.as_nanos() {
                break;
            }
            let Some(Reverse((_, _, to_server, datagram))) = self.flying.pop() else { break };
            self.deliver(to_server, &datagram);
        }
        for node in [&mut self.client, &mut self.server] {
            if let Some((_, connection)) = &mut node.connection
                && connection.next_timeout().is_some_and(|at| at <= now)
            {
                connection.on_timeout(now);
            }
        }
        true
    }

    /// Hands a datagram to an end at once.
    pub(crate) fn deliver(&mut self, to_server: bool, datagram: &[u8]) {
        let (from, to) = if to_server { (&self.client, &mut self.server) } else { (&self.server, &mut self.client) };
        let meta = DatagramMeta { remote: from.address, local: Some(to.address.ip()), ecn: None };
        if let Some(answer) = to.receive(self.now, datagram, meta) {
            self.send(!to_server, answer);
        }
    }

    /// Runs until `done`, for at most `limit`. Says whether it came to be.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        let mut steps = 0;
        let mut last = self.now;
        loop {
            self.flush();
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return false;
            }
            // Without progress in time there is a loop.
            steps = if self.now > last { 0 } else { steps + 1 };
            last = self.now;
            assert!(steps < 10_000, "time stands still");
        }
    }
}
