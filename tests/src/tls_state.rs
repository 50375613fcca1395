//! Handshakes between two endpoints in memory, and what both ends hold on the heap before, during and after each.
//!
//! Owns the stages of a handshake, and the account of every byte by stage and end. Does not own how bytes are counted ([`heap`]).
//! The calling thread does all of it, so that its count is exact. What C libraries allocate is not seen there; the process's count of
//! malloc has it, if nothing else runs in the process.
//!
//! The first batches are not in the account: tables, pools and what the libraries make once are then as large as they will be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use weald_crypto::SessionStore;
use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_quic::protocol::{Admission, Connection, ConnectionHandle, DatagramMeta, Endpoint, EndpointKeys, Routed, Scratch, Shortage};
use weald_quic::time::Instant;
use weald_quic::{ApplicationCode, ClientConfig, ServerConfig};

use crate::heap;
use crate::world::ALPN;

/// How far a handshake has come when bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The client's TLS has begun, and the server has its whole ClientHello.
    Asked,
    /// The server's TLS has answered.
    Answered,
    /// The client's TLS is complete, the server's awaits its Finished.
    HalfComplete,
    /// Confirmed at both ends, tickets taken: TLS is gone.
    Confirmed,
    /// Nothing was said for some seconds.
    Quiet,
    /// Closed, drained and dropped.
    Gone,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Asked, Self::Answered, Self::HalfComplete, Self::Confirmed, Self::Quiet, Self::Gone];
}

/// Bytes a connection, on the average.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Held {
    /// When.
    pub stage: Stage,
    /// Of the server's end.
    pub server: f64,
    /// Of the client's end.
    pub client: f64,
    /// Of C libraries for both ends, with what malloc adds to every piece of either; `None` if the process was not asked.
    pub foreign: Option<f64>,
}

/// What some handshakes held, and left.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// How many there were.
    pub handshakes: usize,
    /// How many of them at once.
    pub at_once: usize,
    /// By stage, in order.
    pub held: Vec<Held>,
    /// Bytes on the heap before and after all of them, both ends' endpoints included.
    pub heap: [usize; 2],
    /// Bytes that malloc has given out, C libraries' included, before and after.
    pub process: Option<[usize; 2]>,
}

impl Account {
    /// What both ends hold of a stage.
    ///
    /// # Panics
    /// If the account is not one of [`measure`].
    pub fn at(&self, stage: Stage) -> Held {
        *self.held.iter().find(|held| held.stage == stage).expect("all stages are there")
    }

    /// What is wrong with it: `None` if TLS leaves nothing behind, neither in a connection that lives nor after its end.
    pub fn complaint(&self) -> Option<String> {
        let [confirmed, gone] = [self.at(Stage::Confirmed), self.at(Stage::Gone)];
        if let Some(over) = [confirmed.server, confirmed.client].into_iter().find(|held| *held > MAX_CONFIRMED) {
            return Some(format!("{over:.0} bytes a confirmed connection, more than {MAX_CONFIRMED}"));
        }
        if let Some(left) = [gone.server, gone.client].into_iter().find(|held| held.abs() > MAX_LEFT) {
            return Some(format!("{left:.1} bytes a connection are left of either end, more than {MAX_LEFT}"));
        }
        let [before, after] = self.heap;
        let growth = after.saturating_sub(before);
        if growth > MAX_GROWTH {
            return Some(format!("{growth} bytes more on the heap than before, more than {MAX_GROWTH}"));
        }
        let growth = self.process.map_or(0, |[before, after]| after.saturating_sub(before));
        (growth > MAX_GROWTH_OF_PROCESS).then(|| format!("malloc has given out {growth} bytes more, more than {MAX_GROWTH_OF_PROCESS}"))
    }
}

/// Bytes that an end of a connection may hold once its handshake is confirmed.
pub const MAX_CONFIRMED: f64 = 8192.0;

/// Bytes that each connection may leave behind at either end: a table of handles that is not yet as large as it will be.
pub const MAX_LEFT: f64 = 16.0;

/// Bytes by which the heap may grow over all handshakes, however many.
pub const MAX_GROWTH: usize = 64 << 10;

/// The same of malloc, which keeps pieces that were freed at hand.
pub const MAX_GROWTH_OF_PROCESS: usize = 512 << 10;

/// Does `handshakes` handshakes with certificates and the default groups, `at_once` at a time, and counts. With `whole_process` what
/// malloc has given out, too: nothing else may run in the process then.
///
/// # Panics
/// If a handshake fails.
pub fn measure(handshakes: usize, at_once: usize, whole_process: bool, mut progress: impl FnMut(usize)) -> Account {
    let mut network = Network::new(at_once);
    for _ in 0..WARM_UP {
        network.batch(at_once, false);
    }
    let mut sums = [[0_isize; 3]; Stage::ALL.len()];
    let (heap, process) = (heap::live(), whole_process.then(heap::given_out));
    let mut done = 0;
    while done < handshakes {
        let count = at_once.min(handshakes - done);
        for (sum, held) in sums.iter_mut().zip(network.batch(count, whole_process)) {
            sum.iter_mut().zip(held).for_each(|(sum, held)| *sum += held);
        }
        done += count;
        progress(done);
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let mean = |sum: isize| sum as f64 / handshakes.max(1) as f64;
    let held = Stage::ALL.into_iter().zip(sums).map(|(stage, [server, client, foreign])| Held {
        stage,
        server: mean(server),
        client: mean(client),
        foreign: whole_process.then(|| mean(foreign)),
    });
    let held = held.collect();
    let process = process.map(|before| [before, heap::given_out()]);
    Account { handshakes, at_once, held, heap: [heap, heap::live()], process }
}

/// Batches that are not counted.
const WARM_UP: usize = 3;

/// Longer than either end waits for anything but the idle timeout.
const QUIET: Duration = Duration::from_secs(5);

/// One end: an endpoint, its connections by their place in the batch, and the bytes that they hold.
struct End {
    endpoint: Endpoint,
    address: SocketAddr,
    connections: Vec<Option<Box<(ConnectionHandle, Connection)>>>,
    scratch: Scratch,
    held: isize,
}

impl End {
    fn new(endpoint: Endpoint, address: &str, connections: usize) -> Self {
        let connections = std::iter::repeat_with(|| None).take(connections).collect();
        Self { endpoint, address: address.parse().expect("an address"), connections, scratch: Scratch::default(), held: 0 }
    }

    /// Does something with it, and counts what it then holds more.
    fn metered<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        let before = heap::live();
        let result = f(self);
        self.held += heap::live().cast_signed() - before.cast_signed();
        result
    }

    /// Takes a datagram to the connection at a place, which a first packet makes.
    fn receive(&mut self, now: Instant, place: usize, datagram: &[u8], from: SocketAddr) {
        let meta = DatagramMeta { remote: from, local: None::<IpAddr>, ecn: None };
        self.metered(|end| match end.endpoint.receive(now, datagram, meta) {
            Routed::Incoming(incoming) => {
                assert_eq!(end.endpoint.admit(&incoming, Shortage::default()), Admission::Accept);
                let accepted = end.endpoint.accept(now, incoming, datagram, meta).expect("a genuine first packet");
                assert!(end.connections[place].replace(Box::new(accepted)).is_none(), "a connection a client");
            }
            Routed::Existing(handle) => {
                if let Some(connection) = end.connections[place].as_mut() {
                    assert_eq!(connection.0, handle);
                    connection.1.receive(now, datagram, meta, &mut end.scratch);
                }
            }
            other => panic!("{other:?}"),
        });
    }

    /// Runs steps of TLS, if they may run, and gives events to those whom they concern; a connection that is over is dropped.
    fn work(&mut self, now: Instant, place: usize, with_tls: bool) {
        self.metered(|end| {
            let Some(connection) = end.connections[place].as_mut() else { return };
            let (handle, protocol) = &mut **connection;
            while let Some(job) = with_tls.then(|| protocol.poll_crypto_job()).flatten() {
                protocol.on_crypto_done(now, job.run(), &mut end.scratch);
            }
            while protocol.poll_event().is_some() {}
            let mut is_over = false;
            while let Some(event) = protocol.poll_endpoint_event() {
                is_over |= end.endpoint.on_event(*handle, event);
            }
            if is_over {
                end.connections[place] = None;
            }
        });
    }

    /// The next datagram of the connection at a place.
    fn transmit<'a>(&mut self, now: Instant, place: usize, buf: &'a mut [u8]) -> Option<&'a [u8]> {
        self.metered(|end| {
            let connection = end.connections[place].as_mut()?;
            let transmit = connection.1.transmit(now, buf, &mut end.scratch)?;
            Some(&buf[..transmit.len])
        })
    }

    fn expire(&mut self, now: Instant, place: usize) {
        self.metered(|end| {
            if let Some(connection) = end.connections[place].as_mut()
                && connection.1.next_timeout().is_some_and(|at| at <= now)
            {
                connection.1.on_timeout(now);
            }
        });
    }
}

struct Network {
    now: Instant,
    server: End,
    client: End,
}

impl Network {
    fn new(at_once: usize) -> Self {
        let (chain, key) = server_credentials();
        let tls = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain, key).build().expect("the fixture is valid");
        let keys = |fill| EndpointKeys::new(&[fill; 32], 1, 0);
        let server = Endpoint::new(keys(1), 0, 1, Some(Arc::new(ServerConfig::new(tls))), 1);
        Self {
            now: Instant::from_nanos(1_000_000_000),
            server: End::new(server, "10.0.0.1:443", at_once),
            client: End::new(Endpoint::new(keys(2), 0, 1, None, 2), "10.0.0.2:50000", at_once),
        }
    }

    /// `count` handshakes from nothing to nothing: what they hold at each stage at the server, at the client, and elsewhere.
    fn batch(&mut self, count: usize, whole_process: bool) -> Vec<[isize; 3]> {
        // Of its own, so that none of them resumes.
        let tickets = SessionStore::default();
        let tls = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(roots()).sessions(tickets.clone());
        let tls = tls.build().expect("the fixture is valid");
        let config = ClientConfig::new(tls);
        let given_out = || if whole_process { heap::given_out().cast_signed() } else { 0 };
        let (heap, process) = (heap::live().cast_signed(), given_out());
        (self.server.held, self.client.held) = (0, 0);
        let mut held = Vec::with_capacity(Stage::ALL.len());
        let room = heap::live().cast_signed() - heap;
        for stage in Stage::ALL {
            match stage {
                Stage::Asked => (0..count).for_each(|place| self.ask(place, &config)),
                Stage::Answered => (0..count).for_each(|place| self.server.work(self.now, place, true)),
                Stage::HalfComplete => {
                    for place in 0..count {
                        self.carry(place, false);
                        self.client.work(self.now, place, true);
                    }
                }
                Stage::Confirmed => {
                    (0..count).for_each(|place| self.exchange(place));
                    assert!(self.all(count, |connection| connection.is_confirmed()), "a handshake fails");
                }
                Stage::Quiet => self.rest(count),
                Stage::Gone => {
                    for place in 0..count {
                        let code = ApplicationCode::from_u32(0);
                        let now = self.now;
                        self.client.metered(|client| {
                            let connection = client.connections[place].as_mut().expect("it lives");
                            connection.1.close(now, code, b"done");
                        });
                        self.exchange(place);
                    }
                    self.rest(count);
                    // They would be kept for the next connections: so many of each server, and no more.
                    self.client.metered(|_| tickets.clear());
                    assert!(self.server.connections.iter().chain(&self.client.connections).all(Option::is_none), "a connection lives on");
                }
            }
            let ours = heap::live().cast_signed() - heap - room;
            assert_eq!(ours, self.server.held + self.client.held, "every byte is of one end");
            held.push([self.server.held, self.client.held, given_out() - process - ours - room]);
        }
        held
    }

    /// A client's first flight, which the server takes in and does not answer.
    fn ask(&mut self, place: usize, config: &ClientConfig) {
        let (now, server) = (self.now, self.server.address);
        self.client.metered(|client| {
            let connected = client.endpoint.connect(now, config, server, SERVER_NAME).expect("a usable configuration");
            client.connections[place] = Some(Box::new(connected));
        });
        self.client.work(now, place, true);
        self.carry(place, true);
        self.server.work(now, place, false);
    }

    /// Takes what one end has to say to the other. Says whether there was anything.
    fn carry(&mut self, place: usize, to_server: bool) -> bool {
        let (from, to) = if to_server { (&mut self.client, &mut self.server) } else { (&mut self.server, &mut self.client) };
        let mut buf = [0; 1500];
        let mut some = false;
        while let Some(datagram) = from.transmit(self.now, place, &mut buf) {
            to.receive(self.now, place, datagram, from.address);
            some = true;
        }
        some
    }

    /// Until both ends have nothing to say.
    fn exchange(&mut self, place: usize) {
        loop {
            self.server.work(self.now, place, true);
            self.client.work(self.now, place, true);
            let some = self.carry(place, true) | self.carry(place, false);
            if !some {
                break;
            }
        }
    }

    /// Lets time pass.
    fn rest(&mut self, count: usize) {
        let end = self.now + QUIET;
        while self.now < end {
            self.now += Duration::from_millis(50);
            for place in 0..count {
                self.server.expire(self.now, place);
                self.client.expire(self.now, place);
                self.exchange(place);
            }
        }
    }

    fn all(&self, count: usize, condition: impl Fn(&Connection) -> bool) -> bool {
        let ends = self.server.connections[..count].iter().chain(&self.client.connections[..count]);
        ends.into_iter().all(|connection| connection.as_ref().is_some_and(|connection| condition(&connection.1)))
    }
}
