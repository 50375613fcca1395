//! A server under attack: it echoes streams, and an honest client beside the attacker must not notice.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::simulation;
use weald_quic::{Connection, Endpoint, ServerConfig, TransportConfig};
use weald_runtime::channel::{Sender, bounded};
use weald_runtime::time::Instant;
use weald_runtime::{JoinHandle, sleep, spawn};

use crate::hand::{HandPeer, parameters};
use crate::world::{client_address, client_config, link, receive, send, server_address, server_config, simulate};

/// Gives each stream of a connection back as it came.
pub fn echo(connection: &Connection) {
    while let Ok((mut out, mut input)) = connection.accept_bi() {
        spawn(move || {
            if let Ok(bytes) = input.read_to_end(1 << 20)
                && out.write_all(&bytes).is_ok()
            {
                let _ = out.finish();
                let _ = out.stopped();
            }
        });
    }
}

/// A server that gives each stream back as it came.
pub fn serve(config: ServerConfig) -> Endpoint {
    let endpoint = Endpoint::server(config, server_address()).expect("a server");
    let accepting = endpoint.clone();
    spawn(move || {
        while let Some(connection) = accepting.accept() {
            spawn(move || echo(&connection));
        }
    });
    endpoint
}

/// An honest client that has exchanged data with the server before the attack, does so all along, and once more afterwards.
pub struct Honest {
    connection: Connection,
    all_along: JoinHandle<Vec<Duration>>,
    stop: Sender<()>,
}

impl Honest {
    /// Where it is.
    pub fn address() -> SocketAddr {
        client_address(9999)
    }

    /// Connects, and keeps exchanging data.
    pub fn begin() -> Self {
        let endpoint = Endpoint::client(Self::address()).expect("a client");
        let config = client_config(99, TransportConfig::default());
        let connection = endpoint.connect_with(config, server_address(), simulation::SERVER_NAME).expect("a connection");
        Self::exchange(&connection, 0);
        let (stop, stopped) = bounded(1);
        let busy = connection.clone();
        let all_along = spawn(move || {
            let mut exchanges = Vec::new();
            while stopped.try_recv().is_err() {
                let start = Instant::now();
                Self::exchange(&busy, exchanges.len() as u64);
                exchanges.push(start.elapsed());
                sleep(Duration::from_millis(50));
            }
            exchanges
        });
        Self { connection, all_along, stop }
    }

    /// One stream there and back.
    pub fn exchange(connection: &Connection, seed: u64) {
        let (mut out, mut input) = connection.open_bi().expect("the connection lives");
        send(&mut out, seed, 5_000);
        receive(&mut input, seed, 5_000);
    }

    /// Checks that nothing has happened to it, and gives how long each exchange took.
    pub fn end(self) -> Vec<Duration> {
        self.stop.send(()).expect("it listens");
        let exchanges = self.all_along.join().expect("it does not panic");
        assert!(!exchanges.is_empty());
        Self::exchange(&self.connection, 1);
        assert_eq!(self.connection.close_reason(), None);
        // Whoever comes after an attack is served, too.
        let mut next = HandPeer::new(12345, client_address(9998), server_address(), parameters);
        next.connect();
        exchanges
    }
}

/// Runs an attack on a server that an honest client uses.
pub fn attack(seed: u64, config: ServerConfig, attack: impl FnOnce(&Endpoint)) {
    simulate(seed, link(), || {
        let server = serve(config);
        let honest = Honest::begin();
        attack(&server);
        honest.end();
        server.close(0_u32.into(), b"");
    });
}

/// A server as it comes.
pub fn default_server(seed: u64) -> ServerConfig {
    server_config(seed, TransportConfig::default())
}
