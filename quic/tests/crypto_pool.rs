//! Handshakes whose steps run on the threads of a pool, over real sockets on loopback: also while its threads are stuck, die, or
//! have more to do than they can.

#![cfg(feature = "driver")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use weald_crypto::CryptoPool;
use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_quic::{ClientConfig, Connection, Endpoint, EndpointConfig, RetryPolicy, ServerConfig};
use weald_runtime::time::Instant;
use weald_runtime::{Runtime, sleep, spawn};

const LONG: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn server(pool: &CryptoPool) -> Endpoint {
    let (chain, key) = server_credentials();
    let tls = weald_crypto::ServerConfig::builder().alpn([b"test"]).certificate(chain, key).build().unwrap();
    let endpoint = EndpointConfig::new().crypto_pool(pool.clone());
    let endpoint = Endpoint::server_with(&endpoint, ServerConfig::new(tls).retry(RetryPolicy::UnderLoad), loopback()).unwrap();
    let accepting = endpoint.clone();
    spawn(move || {
        let mut accepted = Vec::new();
        accepted.extend(std::iter::from_fn(|| accepting.accept()));
    });
    endpoint
}

/// An endpoint whose own steps run on its worker, so that the server's pool is the server's alone.
fn client() -> Endpoint {
    let endpoint = Endpoint::client_with(&EndpointConfig::new().crypto_pool(CryptoPool::new(0)), loopback()).unwrap();
    let tls = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(roots()).build().unwrap();
    endpoint.set_default_client_config(ClientConfig::new(tls));
    endpoint
}

fn connect(client: &Endpoint, server: &Endpoint) -> Connection {
    client.connect(server.local_addr().unwrap(), SERVER_NAME).unwrap()
}

/// On one worker, which all of it shares.
fn on_a_worker(f: impl FnOnce() + Send) {
    Runtime::builder().workers(1).build().unwrap().run(f);
}

/// Keeps one of the pool's threads until it is dropped.
fn hold_a_thread(pool: &CryptoPool) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    let held = pool.submit(move || {
        begun.send(()).unwrap();
        let _ = released.recv();
    });
    held.unwrap_or_else(|_| panic!("there is room"));
    begins.recv_timeout(LONG).unwrap();
    release
}

#[test]
fn steps_run_on_the_pool_and_a_clients_finished_on_the_worker() {
    on_a_worker(|| {
        let pool = CryptoPool::new(2);
        let (server, client) = (server(&pool), client());
        let _connections: Vec<_> = (0..10).map(|_| connect(&client, &server)).collect();
        // What the last client said at its end arrives a moment later.
        let begin = Instant::now();
        while pool.stats().here < 10 {
            assert!(begin.elapsed() < LONG, "{:?}", pool.stats());
            sleep(Duration::from_millis(1));
        }
        let stats = server.crypto_pool().unwrap().stats();
        assert!(stats.here == 10 && stats.waited.count() >= 10, "{stats:?}");
        assert!(client.crypto_pool().unwrap().stats().here >= 20);
        assert_eq!((server.stats().accepted, server.stats().overloaded), (10, 0));
    });
}

#[test]
fn handshakes_complete_while_a_thread_is_stuck_and_it_is_replaced() {
    on_a_worker(|| {
        let pool = CryptoPool::new(1);
        let (server, client) = (server(&pool), client());
        let release = hold_a_thread(&pool);
        // The worker runs what nobody else runs.
        let begin = Instant::now();
        let first = connect(&client, &server);
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        assert!(pool.stats().here >= 1 && pool.stats().waited.count() >= 2, "{:?}", pool.stats());
        // Those who come later find another thread.
        while pool.stats().written_off == 0 {
            assert!(begin.elapsed() < LONG, "{:?}", pool.stats());
            sleep(Duration::from_millis(100));
            drop(connect(&client, &server));
        }
        let here = pool.stats().here;
        let second = connect(&client, &server);
        assert_eq!((pool.stats().stuck, pool.stats().threads), (1, 1));
        assert!(pool.stats().here <= here + 2, "{:?}", pool.stats());
        drop((first, second, release));
    });
}

#[test]
fn panics_on_a_thread_cost_no_handshake() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("of this test: a panic's value panics when it is dropped");
        }
    }
    on_a_worker(|| {
        let pool = CryptoPool::new(1);
        let (server, client) = (server(&pool), client());
        let mut connections = Vec::new();
        for round in 0..6 {
            let harmful = pool.submit(move || match round % 2 {
                0 => panic!("of this test"),
                _ => std::panic::panic_any(Bomb),
            });
            assert!(harmful.is_ok());
            connections.push(connect(&client, &server));
        }
        let stats = pool.stats();
        assert_eq!((stats.panics, stats.threads), (6, 1), "{stats:?}");
        assert!(connections.iter().all(|connection| connection.close_reason().is_none()));
    });
}

#[test]
fn clients_show_their_address_while_many_steps_wait() {
    on_a_worker(|| {
        let pool = CryptoPool::with_queue(1, 16);
        let (server, client) = (server(&pool), client());
        let release = hold_a_thread(&pool);
        let clients: Vec<_> = (0..40)
            .map(|_| {
                let (client, server) = (client.clone(), server.clone());
                spawn(move || client.connect(server.local_addr().unwrap(), SERVER_NAME).map(|connection| connection.stats().retried))
            })
            .collect();
        // Its queue is never longer than it may be, and those who are let in are served although its thread does nothing.
        let begin = Instant::now();
        while server.stats().accepted < 10 {
            assert!(begin.elapsed() < LONG && pool.queued() <= 16, "{:?} {:?}", server.stats(), pool.stats());
            sleep(Duration::from_millis(1));
        }
        drop(release);
        let results: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let count =
            |wanted: &dyn Fn(&Result<bool, weald_quic::ConnectError>) -> bool| results.iter().filter(|result| wanted(result)).count();
        let (retried, refused) = (count(&|result| matches!(result, Ok(true))), count(&|result| result.is_err()));
        let stats = server.stats();
        assert!(retried > 0 && stats.overloaded as usize >= retried + refused, "{retried} {refused} {stats:?}");
        assert!(stats.retries as usize >= retried && stats.validated as usize >= retried, "{stats:?}");
    });
}
