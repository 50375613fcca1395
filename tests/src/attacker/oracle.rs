//! What must hold while a server, or a client, is attacked: the offender is told the right code, memory and work stay bounded, and an
//! honest peer beside it does not notice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weald_crypto::simulation;
use weald_quic::{ConnectError, Connection, ConnectionError, Endpoint, ServerConfig, TransportConfig};
use weald_runtime::sim::LinkConfig;
use weald_runtime::{JoinHandle, sleep, spawn};

use super::{Attacker, Stage};
use crate::attack::{Honest, echo};
use crate::heap;
use crate::world::{client_address, client_config, client_tls, link, server_address, server_config, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(50);
/// 99 of 100 exchanges of the honest client must take no longer. On an idle server they take two round trips: 40 ms.
const EXCHANGE: Duration = Duration::from_millis(400);

/// A server to attack.
pub struct Setup {
    server: ServerConfig,
    application: Application,
    link: LinkConfig,
    exchange: Duration,
}

/// What the server's application does with the connections of attackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// It gives each stream back.
    Echo,
    /// It accepts the connection, and never looks at it again.
    Idle,
}

impl Setup {
    /// A server as it comes, which echoes, 10 ms away.
    pub fn new(seed: u64) -> Self {
        Self::of(server_config(seed, TransportConfig::default()))
    }

    /// The same with another configuration.
    pub fn of(server: ServerConfig) -> Self {
        Self { server, application: Application::Echo, link: link(), exchange: EXCHANGE }
    }

    /// Another application.
    #[must_use]
    pub fn application(mut self, application: Application) -> Self {
        self.application = application;
        self
    }

    /// Another network.
    #[must_use]
    pub fn link(mut self, link: LinkConfig) -> Self {
        self.link = link;
        self
    }

    /// Another time for 99 of 100 exchanges of the honest client, for links that take longer.
    #[must_use]
    pub fn honest_within(mut self, exchange: Duration) -> Self {
        self.exchange = exchange;
        self
    }
}

/// A server under attack.
pub struct Arena {
    /// The server.
    pub server: Endpoint,
    seed: u64,
    accepted: Arc<Accepted>,
    /// Bytes on the heap when the attack began.
    heap: usize,
}

#[derive(Default)]
struct Accepted {
    attackers: Mutex<Vec<Connection>>,
    /// The most that one of them has held, and the most bytes on the heap.
    most: AtomicUsize,
    most_heap: AtomicUsize,
    is_over: AtomicBool,
}

/// Runs an attack on a server that an honest client uses all along. `row` names the attack in a failure.
///
/// # Panics
///
/// If the attack does, or the honest client notices.
pub fn under_attack<T>(row: &str, seed: u64, setup: Setup, attack: impl FnOnce(&Arena) -> T) -> T {
    let _named = Named(row);
    let within = setup.exchange;
    simulate_untraced(seed, setup.link.clone(), || {
        let (mut arena, watching) = Arena::open(seed, setup);
        let honest = Honest::begin();
        arena.heap = heap::live();
        arena.accepted.most_heap.store(arena.heap, Ordering::Relaxed);
        let result = attack(&arena);
        let mut exchanges = honest.end();
        exchanges.sort_unstable();
        let p99 = exchanges[(exchanges.len() * 99).div_ceil(100) - 1];
        assert!(p99 <= within, "{row}: an honest client's exchanges take {p99:?}");
        arena.accepted.is_over.store(true, Ordering::Relaxed);
        watching.join().expect("it does not panic");
        arena.server.close(0_u32.into(), b"");
        result
    })
}

/// Runs an attack on a client, by the server that it connects to. Gives why the client says that the connection ended, `None` if it
/// lives when the attack is over. The client has another connection, to an honest server, which must not notice.
///
/// # Panics
///
/// If the attack does, or the other connection notices.
pub fn client_under_attack(row: &str, seed: u64, attack: impl FnOnce(Attacker) + Send + 'static) -> Option<ConnectionError> {
    let _named = Named(row);
    let address = SocketAddr::from(([10, 0, 0, 2], 443));
    simulate_untraced(seed, link(), || {
        let (arena, watching) = Arena::open(seed, Setup::new(seed));
        let hostile = Attacker::server(seed, address);
        let attacking = spawn(move || attack(hostile));
        let endpoint = Endpoint::client(client_address(1)).expect("a client");
        let config = client_config(seed, TransportConfig::default());
        let honest = endpoint.connect_with(config.clone(), server_address(), simulation::SERVER_NAME).expect("a connection");
        Honest::exchange(&honest, 1);
        let connection = endpoint.connect_with(config, address, simulation::SERVER_NAME);
        attacking.join().expect("the attack succeeds");
        Honest::exchange(&honest, 2);
        arena.accepted.is_over.store(true, Ordering::Relaxed);
        watching.join().expect("it does not panic");
        match connection {
            Ok(connection) => connection.close_reason(),
            Err(ConnectError::Connection(error)) => Some(error),
            Err(other) => panic!("{row}: {other}"),
        }
    })
}

impl Arena {
    fn open(seed: u64, setup: Setup) -> (Self, JoinHandle<()>) {
        let server = Endpoint::server(setup.server, server_address()).expect("a server");
        let accepted = Arc::new(Accepted::default());
        let (accepting, kept) = (server.clone(), Arc::clone(&accepted));
        spawn(move || {
            while let Some(connection) = accepting.accept() {
                let is_honest = connection.remote_address().ip() == Honest::address().ip();
                if !is_honest {
                    kept.attackers().push(connection.clone());
                }
                if is_honest || setup.application == Application::Echo {
                    spawn(move || echo(&connection));
                }
            }
        });
        let watched = Arc::clone(&accepted);
        let watching = spawn(move || {
            while !watched.is_over.load(Ordering::Relaxed) {
                watched.look();
                sleep(SAMPLING);
            }
        });
        (Self { server, seed, accepted, heap: 0 }, watching)
    }

    /// A client at an address of its own.
    pub fn client(&self, number: u16) -> Attacker {
        Attacker::client(self.seed << 16 | u64::from(number), client_address(number), server_address())
    }

    /// A client that has been here before, of a server that takes early data: it has a ticket to send some with.
    ///
    /// # Panics
    ///
    /// If its earlier connection failed.
    pub fn early_client(&self, number: u16) -> Attacker {
        let tls = client_tls(number.into());
        let mut before = self.client(number).client_tls(tls.clone());
        before.handshake(Stage::Confirmed);
        before.expect_alive();
        self.client(number).client_tls(tls).early_data()
    }

    /// Checks that the server has no connection but the honest client's, once what is closed has had its time.
    #[track_caller]
    pub fn expect_forgotten(&self) {
        sleep(40 * SECOND);
        assert!(self.server.open_connections() <= 1, "{} connections are open", self.server.open_connections());
    }

    /// The server's ends of the attackers' connections.
    pub fn connections(&self) -> Vec<Connection> {
        self.accepted.attackers().clone()
    }

    /// The most bytes that an attacker's connection has held.
    pub fn memory(&self) -> usize {
        self.accepted.look();
        self.accepted.most.load(Ordering::Relaxed)
    }

    /// Checks [`Arena::memory`].
    #[track_caller]
    pub fn memory_below(&self, bytes: usize) {
        let most = self.memory();
        assert!(most < bytes, "a connection has held {most} bytes");
    }

    /// Checks how far the heap of the whole simulation has grown, the attackers' own share included. It counts in binaries that have
    /// [`heap::Counting`] alone.
    #[track_caller]
    pub fn heap_below(&self, bytes: usize) {
        assert!(heap::allocations() > 0, "this binary does not count its allocations");
        self.accepted.look();
        let grown = self.accepted.most_heap.load(Ordering::Relaxed).saturating_sub(self.heap);
        assert!(grown < bytes, "the heap has grown by {grown} bytes");
    }

    /// Packets of attackers that the server has tried to open: each is an AEAD operation, and the frames in it.
    pub fn opened(&self) -> u64 {
        self.accepted.attackers().iter().map(|connection| connection.stats().packets_received + connection.stats().packets_dropped).sum()
    }

    /// Checks [`Arena::opened`].
    #[track_caller]
    pub fn work_below(&self, opens: u64) {
        let opened = self.opened();
        assert!(opened < opens, "{opened} packets were opened");
    }
}

impl Accepted {
    fn attackers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.attackers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let most = self.attackers().iter().map(Connection::memory).max().unwrap_or(0);
        self.most.fetch_max(most, Ordering::Relaxed);
        self.most_heap.fetch_max(heap::live(), Ordering::Relaxed);
    }
}

struct Named<'a>(&'a str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the attack is: {}", self.0);
        }
    }
}
