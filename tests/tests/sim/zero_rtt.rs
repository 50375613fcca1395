//! Clients that come again: sessions that resume, and data that goes before the handshake.

use std::time::Duration;

use weald_crypto::simulation::SERVER_NAME;
use weald_quic::{ClientConfig, Connection, ConnectionError, EarlyData, Endpoint, RetryPolicy, ServerConfig, TransportConfig};
use weald_runtime::sim::LinkConfig;
use weald_runtime::time::Instant;
use weald_runtime::{JoinHandle, sleep, spawn};
use weald_tests::world::{assert_payload, client_config, early_server_config, link, payload, server_address, server_config, simulate};

use super::{client_endpoint, lossy};

const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Accepts connections of a server that gives each stream back, behind a byte that says whether it came early. Gives what became of the
/// early data of each, and how long after its start it was accepted.
fn serve(config: ServerConfig, connections: usize) -> JoinHandle<Vec<EarlyData>> {
    let server = Endpoint::server(config, server_address()).expect("a server");
    spawn(move || {
        let serving: Vec<_> = (0..connections)
            .map(|_| {
                let connection = server.accept().expect("a connection comes");
                spawn(move || serve_connection(&connection))
            })
            .collect();
        let verdicts = serving.into_iter().map(|serving| serving.join().expect("no panic")).collect();
        server.close(0_u32.into(), b"");
        server.wait_idle();
        verdicts
    })
}

fn serve_connection(connection: &Connection) -> EarlyData {
    while let Ok((mut send, mut receive)) = connection.accept_bi() {
        spawn(move || {
            let early = receive.is_0rtt();
            let bytes = receive.read_to_end(1 << 20).expect("it arrives");
            send.write_all(&[early.into()]).and_then(|()| send.write_all(&bytes)).expect("it is sent");
            send.finish().expect("it is open");
        });
    }
    connection.early_data()
}

/// Sends `len` bytes and takes them back. Says whether they came early.
fn exchange(connection: &Connection, seed: u64, len: usize) -> bool {
    let (mut send, mut receive) = connection.open_bi().expect("a stream");
    send.write_all(&payload(seed, len)).expect("it is sent");
    send.finish().expect("it is open");
    let answer = receive.read_to_end(len + 1).expect("it comes back");
    assert_payload(&answer[1..], seed, len);
    answer[0] == 1
}

/// Connects, and stays until there is a ticket.
fn meet(config: &ClientConfig) {
    let connection = client_endpoint().connect_with(config.clone(), server_address(), SERVER_NAME).expect("a connection");
    assert!(!connection.handshake().resumed);
    exchange(&connection, 1, 100);
    sleep(3 * ROUND_TRIP);
    connection.close(0_u32.into(), b"");
}

fn connect_0rtt(config: &ClientConfig) -> Connection {
    client_endpoint().connect_0rtt_with(config.clone(), server_address(), SERVER_NAME).expect("a connection")
}

#[test]
fn an_answer_is_there_after_one_round_trip() {
    simulate(1, link(), || {
        let serving = serve(early_server_config(1, TransportConfig::default()), 2);
        let config = client_config(1, TransportConfig::default());
        meet(&config);
        let start = Instant::now();
        let connection = connect_0rtt(&config);
        assert_eq!((connection.early_data(), start.elapsed()), (EarlyData::Offered, Duration::ZERO));
        assert_eq!(connection.alpn().as_deref(), Some(weald_tests::world::ALPN));
        assert!(!connection.is_handshake_complete());
        assert!(exchange(&connection, 2, 3000));
        assert!(start.elapsed() < 2 * ROUND_TRIP, "{:?}", start.elapsed());
        assert_eq!(connection.wait_handshake(), Ok(EarlyData::Accepted));
        let info = connection.handshake();
        assert!(info.resumed && info.early_data == EarlyData::Accepted && info.duration < 2 * ROUND_TRIP);
        // What is written now is not early any more.
        assert!(!exchange(&connection, 3, 3000));
        connection.close(0_u32.into(), b"");
        assert_eq!(serving.join().expect("no panic"), [EarlyData::NotOffered, EarlyData::Accepted]);
    });
}

/// RFC 9001, 4.6: without a ticket, with one that allows none, and where the application did not ask.
#[test]
fn nothing_is_early_that_was_not_asked_for() {
    simulate(1, link(), || {
        let serving = serve(early_server_config(1, TransportConfig::default()), 3);
        let config = client_config(1, TransportConfig::default());
        // The first time it waits.
        let start = Instant::now();
        let connection = connect_0rtt(&config);
        assert!(connection.is_handshake_complete() && start.elapsed() >= ROUND_TRIP);
        assert_eq!(connection.early_data(), EarlyData::NotOffered);
        assert!(!exchange(&connection, 1, 100));
        sleep(3 * ROUND_TRIP);
        // The second time it resumes, and that is all.
        let again = client_endpoint().connect_with(config.clone(), server_address(), SERVER_NAME).expect("a connection");
        assert!(again.handshake().resumed && again.early_data() == EarlyData::NotOffered);
        assert!(!exchange(&again, 1, 100));
        sleep(3 * ROUND_TRIP);
        for connection in [connection, again] {
            connection.close(0_u32.into(), b"");
        }
        let connection = connect_0rtt(&config);
        assert!(exchange(&connection, 1, 100));
        connection.close(0_u32.into(), b"");
        assert_eq!(serving.join().expect("no panic"), [EarlyData::NotOffered, EarlyData::NotOffered, EarlyData::Accepted]);
    });
    simulate(1, link(), || {
        let serving = serve(server_config(1, TransportConfig::default()), 2);
        let config = client_config(1, TransportConfig::default());
        meet(&config);
        let connection = connect_0rtt(&config);
        assert!(connection.is_handshake_complete() && connection.handshake().resumed);
        assert_eq!(connection.early_data(), EarlyData::NotOffered);
        assert!(!exchange(&connection, 2, 100));
        connection.close(0_u32.into(), b"");
        assert_eq!(serving.join().expect("no panic"), [EarlyData::NotOffered; 2]);
    });
}

/// RFC 9001, 4.6.2: what the application has written reaches the server under any circumstances, and once.
fn nothing_is_lost(seed: u64, link: LinkConfig, change: impl FnOnce(ServerConfig) -> ServerConfig) -> EarlyData {
    simulate(seed, link, || {
        let server = early_server_config(seed, TransportConfig::default());
        let config = client_config(seed, TransportConfig::default()).token_store(None);
        let serving = serve(server.clone(), 1);
        meet(&config);
        serving.join().expect("no panic");
        // What it had running lets go of the address.
        sleep(Duration::from_secs(1));
        let serving = serve(change(server), 1);
        let connection = connect_0rtt(&config);
        let exchanges: Vec<_> = (0..20)
            .map(|n| {
                let connection = connection.clone();
                spawn(move || exchange(&connection, seed + n, 1 << (n % 15)))
            })
            .collect();
        let early = exchanges.into_iter().map(|exchange| exchange.join().expect("no panic")).filter(|early| *early).count();
        let verdict = connection.wait_handshake().expect("it lives");
        assert_eq!(early > 0, verdict == EarlyData::Accepted, "{early} streams were early");
        connection.close(0_u32.into(), b"");
        assert_eq!(serving.join().expect("no panic"), [verdict]);
        verdict
    })
}

#[test]
fn early_data_over_bad_networks() {
    let accepted = (0..40).filter(|seed| nothing_is_lost(*seed, lossy(), |server| server) == EarlyData::Accepted).count();
    assert!(accepted > 30, "{accepted} of 40");
}

#[test]
fn early_data_after_a_retry() {
    for seed in 0..20 {
        let link = if seed % 2 == 0 { link() } else { lossy() };
        let verdict = nothing_is_lost(seed, link, |server| server.retry(RetryPolicy::Always));
        assert!(verdict == EarlyData::Accepted || seed % 2 == 1, "seed {seed}: {verdict:?}");
    }
}

#[test]
fn rejected_early_data_is_sent_again_under_smaller_limits() {
    for seed in 0..20 {
        let link = if seed % 2 == 0 { link() } else { lossy() };
        let transport = TransportConfig::default().max_streams_bi(3).stream_window(4000).connection_window(6000);
        assert_eq!(nothing_is_lost(seed, link, |server| server.transport(transport)), EarlyData::Rejected);
    }
}

/// A server that is gone: the connection that nobody waited for ends like any other.
#[test]
fn nobody_there_any_more() {
    simulate(1, link(), || {
        let config = client_config(1, TransportConfig::default());
        let serving = serve(early_server_config(1, TransportConfig::default()), 1);
        meet(&config);
        serving.join().expect("no panic");
        let connection = connect_0rtt(&config);
        let (mut send, mut receive) = connection.open_bi().expect("a stream");
        send.write_all(b"anybody there?").expect("it is taken");
        assert!(receive.read_to_end(10).is_err());
        assert_eq!(connection.wait_handshake(), Err(ConnectionError::TimedOut));
        assert!(!connection.is_handshake_complete());
    });
}
