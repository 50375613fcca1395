//! The driver in a simulation: whole programs of endpoints and coroutines, in virtual time, over a network with faults.

#![cfg(feature = "driver")]

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_quic::{ClientConfig, ConnectError, ConnectionError, Endpoint, ServerConfig, VarInt};
use weald_runtime::net::UdpSocket;
use weald_runtime::sim::{self, LinkConfig, NetworkConfig, Simulation, TraceEntry};
use weald_runtime::time::Instant;

const SERVER: &str = "10.0.0.1:443";
const CLIENT: &str = "10.0.0.2:0";
const MEGABYTE: usize = 1_000_000;

fn server_config() -> ServerConfig {
    let (chain, key) = server_credentials();
    let tls = weald_crypto::ServerConfig::builder().alpn([b"test"]).certificate(chain, key).simulation(1).build().unwrap();
    ServerConfig::new(tls)
}

fn client_config() -> ClientConfig {
    let tls = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(roots()).simulation(2).build().unwrap();
    ClientConfig::new(tls)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn content(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; MEGABYTE];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// What a transfer took, and what happened on the network.
struct Run {
    handshake: Duration,
    total: Duration,
    lost: u64,
    trace: Vec<TraceEntry>,
}

/// A client sends a megabyte, and the server sends it back.
fn transfer(seed: u64, link: LinkConfig) -> Run {
    let network = NetworkConfig { link, ..NetworkConfig::default() };
    Simulation::new(seed).network(network).run(|| {
        let began = Instant::now();
        let server = Endpoint::server(server_config(), address(SERVER)).unwrap();
        let serving = weald_runtime::spawn({
            let server = server.clone();
            move || {
                let connection = server.accept().unwrap();
                let (mut send, mut receive) = connection.accept_bi().unwrap();
                while let Some(chunk) = receive.read_chunk(usize::MAX).unwrap() {
                    send.write_all(&chunk).unwrap();
                }
                send.finish().unwrap();
                connection.closed()
            }
        });
        let client = Endpoint::client(address(CLIENT)).unwrap();
        let connection = client.connect_with(client_config(), address(SERVER), SERVER_NAME).unwrap();
        let handshake = began.elapsed();
        let sent = content(seed);
        let (mut send, mut receive) = connection.open_bi().unwrap();
        let writing = connection.spawn({
            let sent = sent.clone();
            move || {
                send.write_all(&sent).unwrap();
                send.finish().unwrap();
            }
        });
        assert!(receive.read_to_end(MEGABYTE).unwrap() == sent, "seed {seed}");
        let total = began.elapsed();
        let lost = connection.stats().packets_lost;
        writing.join().unwrap();
        connection.close(VarInt::from_u32(7), b"done");
        client.wait_idle();
        let end = serving.join().unwrap();
        // The close frame may be lost, and the server's packets that ask again as well.
        assert!(matches!(end, ConnectionError::ApplicationClosed(_) | ConnectionError::TimedOut), "seed {seed}: {end}");
        Run { handshake, total, lost, trace: sim::trace() }
    })
}

#[test]
fn a_handshake_takes_one_round_trip() {
    let link = LinkConfig { delay: Duration::from_millis(50), ..LinkConfig::default() };
    let run = transfer(1, link);
    assert!((100..110).contains(&run.handshake.as_millis()), "{:?}", run.handshake);
    assert_eq!(run.lost, 0);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let link = || LinkConfig {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        loss: 0.05,
        reorder: 0.05,
        ..LinkConfig::default()
    };
    let (first, second, other) = (transfer(3, link()), transfer(3, link()), transfer(4, link()));
    assert!(first.trace.len() > 1000);
    assert!(first.trace == second.trace, "the runs differ");
    assert_eq!(first.total, second.total);
    assert!(first.trace != other.trace, "the seed changes nothing");
}

#[test]
fn a_megabyte_survives_loss_reordering_and_duplication() {
    for seed in 0..20 {
        let loss = f64::from(seed as u32 % 11) / 100.0;
        let link = LinkConfig {
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(2),
            loss,
            reorder: 0.02,
            duplicate: 0.02,
            corrupt: 0.01,
            ..LinkConfig::default()
        };
        let run = transfer(seed, link);
        assert!(run.lost > 0 || seed == 0, "seed {seed}: nothing was lost at {loss}");
    }
}

/// Between client and server: what the client sends goes on from one socket, and 1-RTT packets from others as well, so that
/// copies land on other workers than their connection's.
fn copying_proxy(front: SocketAddr, server: SocketAddr) {
    let front = Arc::new(UdpSocket::bind(front).unwrap());
    let back: Vec<_> = (0..6).map(|_| Arc::new(UdpSocket::bind(address("10.0.0.3:0")).unwrap())).collect();
    let client = Arc::new(OnceLock::new());
    drop(weald_runtime::spawn({
        let (front, back, client) = (Arc::clone(&front), back.clone(), Arc::clone(&client));
        move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = front.recv_from(&mut buffer) {
                client.get_or_init(|| from);
                let is_short = buffer[0] & 0x80 == 0;
                for socket in back.iter().take(if is_short { 6 } else { 1 }) {
                    socket.send_to(&buffer[..len], server).unwrap();
                }
            }
        }
    }));
    drop(weald_runtime::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, _)) = back[0].recv_from(&mut buffer) {
            front.send_to(&buffer[..len], *client.get().unwrap()).unwrap();
        }
    }));
}

#[test]
fn datagrams_that_land_wrong_are_forwarded_to_their_worker() {
    sim::run(8, || {
        let server = Endpoint::server(server_config(), address(SERVER)).unwrap();
        let proxy = address("10.0.0.3:4433");
        copying_proxy(proxy, address(SERVER));
        let client = Endpoint::client(address(CLIENT)).unwrap();
        let connection = client.connect_with(client_config(), proxy, SERVER_NAME).unwrap();
        let accepted = server.accept().unwrap();
        let mut send = connection.open_uni().unwrap();
        send.write_all(&content(1)[..50_000]).unwrap();
        send.finish().unwrap();
        assert!(accepted.accept_uni().unwrap().read_to_end(50_000).unwrap() == content(1)[..50_000]);
        let (forwarded, packets) = (server.stats().forwarded, accepted.stats().packets_dropped);
        assert!(forwarded > 0);
        // Wherever they landed, all came to the connection, which drops those from another address.
        assert!(packets >= forwarded, "{packets} of {forwarded}");
        assert_eq!(server.stats().dropped, 0);
    });
}

#[test]
fn silence_ends_a_handshake() {
    sim::run(5, || {
        let client = Endpoint::client(address(CLIENT)).unwrap();
        let began = Instant::now();
        let error = client.connect_with(client_config(), address(SERVER), SERVER_NAME).unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::TimedOut)), "{error}");
        assert_eq!(began.elapsed().as_secs(), 10);
    });
}
