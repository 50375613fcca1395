//! Who a client is known to be before it is let in, and what a server knows of it after a restart.

use std::time::Duration;

use weald_crypto::simulation::SERVER_NAME;
use weald_quic::protocol::Pressure;
use weald_quic::{
    ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, EndpointConfig, Governor, RetryPolicy, ServerConfig, ServerLimits,
    TransportConfig, TransportErrorCode,
};
use weald_runtime::sim::{self, LinkConfig};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::attack::serve;
use weald_tests::hand::{HandPeer, parameters};
use weald_tests::world::{client_address, client_config, link, receive, send, server_address, server_config, simulate, simulate_untraced};

use super::{client_endpoint, lossy};

fn config(seed: u64) -> ClientConfig {
    client_config(seed, TransportConfig::default().handshake_timeout(Duration::from_secs(60)))
}

fn server(seed: u64, policy: RetryPolicy) -> ServerConfig {
    server_config(seed, TransportConfig::default().handshake_timeout(Duration::from_secs(60))).retry(policy)
}

/// Connects, and sends something there and back.
fn visit(endpoint: &Endpoint, config: &ClientConfig, seed: u64) -> Connection {
    let connection = endpoint.connect_with(config.clone(), server_address(), SERVER_NAME).expect("a connection");
    let (mut out, mut input) = connection.open_bi().expect("a stream");
    send(&mut out, seed, 20_000);
    receive(&mut input, seed, 20_000);
    connection
}

/// RFC 9000, 8.1.2, 17.2.5: on networks that lose a third and reorder as much, with and without a Retry.
#[test]
fn a_retry_survives_any_network() {
    for seed in 1..=20 {
        for policy in [RetryPolicy::Never, RetryPolicy::UnderLoad, RetryPolicy::Always] {
            simulate_untraced(seed, LinkConfig { loss: 0.3, reorder: 0.3, duplicate: 0.1, ..link() }, || {
                let server = serve(server(seed, policy));
                visit(&client_endpoint(), &config(seed), seed);
                let stats = server.stats();
                let expected = u64::from(policy == RetryPolicy::Always);
                assert_eq!((stats.retries > 0, stats.validated), (expected > 0, expected), "seed {seed} {policy:?}: {stats:?}");
            });
        }
    }
}

/// RFC 9000, 8.1.3: the second connection of a client takes no detour, from whatever port.
#[test]
fn a_token_of_an_earlier_connection_saves_the_retry() {
    simulate(1, link(), || {
        let server = serve(server(1, RetryPolicy::Always));
        let config = config(1);
        let times: Vec<_> = (0..4)
            .map(|round| {
                let endpoint = client_endpoint();
                let connection = visit(&endpoint, &config, round);
                sleep(Duration::from_millis(100));
                assert_eq!(server.stats().retries, 1, "round {round}");
                connection.handshake().duration
            })
            .collect();
        // A round trip is 20 ms.
        assert!(times[1..].iter().all(|time| *time + Duration::from_millis(19) < times[0]), "{times:?}");
        assert_eq!(server.stats().validated, 4);
        // A client that is another, or has forgotten all, is asked again.
        visit(&client_endpoint(), &self::config(1), 9);
        assert_eq!(server.stats().retries, 2);
    });
}

/// RFC 9000, 8.1.2: a server under load lets in who owns an address, and a flood of others takes nothing of it.
#[test]
fn under_load_honest_clients_come_in_by_a_retry() {
    simulate(1, link(), || {
        let limits = ServerLimits::default().retry_from(Some(20)).max_pending_handshakes(30);
        let server = serve(server(1, RetryPolicy::UnderLoad).limits(limits));
        let flood = spawn(|| {
            for number in 1..=200 {
                let mut client = HandPeer::new(number.into(), client_address(number + 100), server_address(), parameters);
                let first = client.first_flight();
                client.send(&first);
                sleep(Duration::from_millis(10));
            }
        });
        sleep(Duration::from_secs(1));
        for seed in 0..10 {
            visit(&client_endpoint(), &config(seed), seed);
        }
        flood.join().expect("it does not panic");
        let stats = server.stats();
        assert!(stats.retries > 50 && stats.validated >= 5, "{stats:?}");
        // On each of two workers.
        assert!(server.open_connections() <= 2 * 30 + 10, "{}", server.open_connections());
    });
}

/// What becomes of a connection whose server crashes and comes back in a moment with `second` instead of `first`.
fn after_a_restart(first: EndpointConfig, second: EndpointConfig) -> (ConnectionError, u64) {
    simulate(1, link(), || {
        fn run(endpoint: &EndpointConfig) {
            let server = Endpoint::server_with(endpoint, server(1, RetryPolicy::Always), server_address()).expect("a server");
            while let Some(connection) = server.accept() {
                spawn(move || {
                    let (mut out, mut input) = connection.accept_bi()?;
                    let bytes = input.read_to_end(1 << 20).unwrap_or_default();
                    let _ = out.write_all(&bytes);
                    drop(out);
                    Err::<(), _>(connection.closed())
                });
            }
        }
        let host = sim::node("server").address(server_address().ip()).start();
        host.spawn(move || run(&first));
        sleep(Duration::from_millis(1));
        let (endpoint, config) = (client_endpoint(), config(1));
        let connection = visit(&endpoint, &config, 1);
        sleep(Duration::from_secs(1));
        host.restart(move || run(&second));
        sleep(Duration::from_millis(1));
        connection.open_uni().expect("as far as it knows").write_all(b"still there?").expect("it is sent");
        let end = connection.closed();
        // Who comes back has a token from before.
        let begun = Instant::now();
        visit(&endpoint, &config, 2);
        (end, begun.elapsed().as_millis() as u64)
    })
}

/// RFC 9000, 10.3, 8.1.3: with the same secret a server that has lost everything says so at once, and knows the addresses of
/// those that it gave tokens.
#[test]
fn a_restart_with_the_same_secret_resets_and_keeps_tokens_good() {
    let ours = || EndpointConfig::new().secret([7; 32]).server_id(1);
    let (end, with_token) = after_a_restart(ours(), ours());
    assert_eq!(end, ConnectionError::Reset);
    // A neighbour with the same secret does not reset connections that are none of its own (21.11).
    let (end, _) = after_a_restart(ours(), ours().server_id(2));
    assert_eq!(end, ConnectionError::TimedOut);
    let (end, without_token) = after_a_restart(EndpointConfig::new(), EndpointConfig::new());
    assert_eq!(end, ConnectionError::TimedOut);
    assert!(with_token + 15 < without_token, "{with_token} ms with a token, {without_token} ms without");
    // Tokens may have a secret of their own.
    let tokens = || EndpointConfig::new().token_secret([8; 32]);
    let (end, with_token) = after_a_restart(tokens(), tokens());
    assert_eq!(end, ConnectionError::TimedOut);
    assert!(with_token + 15 < without_token, "{with_token} ms with a token, {without_token} ms without");
}

/// RFC 9000, 5.1.2: both ends change all their ids every second while data flows.
#[test]
fn ids_rotate_every_second_under_load() {
    for seed in 1..=3 {
        simulate_untraced(seed, lossy(), || {
            let server = Endpoint::server(server_config(seed, TransportConfig::default()), server_address()).expect("a server");
            let accepting = server.clone();
            let rotate = |connection: Connection| {
                spawn(move || {
                    while connection.close_reason().is_none() {
                        sleep(Duration::from_secs(1));
                        connection.rotate_ids();
                    }
                })
            };
            spawn(move || {
                let connection = accepting.accept().expect("a connection comes");
                rotate(connection.clone());
                while let Ok((mut out, mut input)) = connection.accept_bi() {
                    let bytes = input.read_to_end(1 << 20).expect("it arrives");
                    out.write_all(&bytes).expect("it is sent");
                }
            });
            let connection = client_endpoint().connect_with(config(seed), server_address(), SERVER_NAME).expect("a connection");
            rotate(connection.clone());
            for second in 0..30 {
                let (mut out, mut input) = connection.open_bi().expect("a stream");
                send(&mut out, second, 50_000);
                receive(&mut input, second, 50_000);
                sleep(Duration::from_millis(900));
            }
            assert_eq!(connection.close_reason(), None);
            connection.close(0_u32.into(), b"");
        });
    }
}

/// The application is asked before a handshake begins: it lets in, turns away, asks for a Retry, or says nothing.
#[test]
fn the_application_decides_about_each_client() {
    simulate(1, link(), || {
        let config = server(1, RetryPolicy::Never).screening(true);
        let server = Endpoint::server(config, server_address()).expect("a server");
        let deciding = server.clone();
        let host = |number: u16| client_address(number).ip();
        let decisions = spawn(move || {
            let mut seen = Vec::new();
            while let Some(incoming) = deciding.accept_incoming() {
                let ip = incoming.remote_address().ip();
                seen.push((ip, incoming.remote_address_validated(), incoming.may_retry()));
                if ip == host(1) {
                    spawn(move || {
                        let connection = incoming.accept().expect("it comes");
                        let (mut out, mut input) = connection.accept_bi().expect("a stream");
                        let bytes = input.read_to_end(1 << 20).expect("it arrives");
                        out.write_all(&bytes).expect("it is sent");
                        drop(out);
                        connection.closed()
                    });
                } else if ip == host(2) {
                    incoming.refuse();
                } else if ip == host(3) {
                    // The second time it has shown its address, and there is no other Retry.
                    if let Err(incoming) = incoming.retry() {
                        spawn(move || incoming.accept().expect("it comes").closed());
                    }
                } else if ip == host(4) {
                    incoming.ignore();
                } else {
                    drop(incoming);
                }
            }
            seen
        });
        let connect = |number: u16| {
            let endpoint = Endpoint::client(client_address(number)).expect("a client");
            endpoint.connect_with(client_config(9, TransportConfig::default()), server_address(), SERVER_NAME)
        };
        let first = connect(1).expect("it is let in");
        let (mut out, mut input) = first.open_bi().expect("a stream");
        send(&mut out, 1, 20_000);
        receive(&mut input, 1, 20_000);
        let refused = |result: Result<Connection, ConnectError>| match result {
            Err(ConnectError::Connection(ConnectionError::ConnectionClosed(close))) => close.code == TransportErrorCode::CONNECTION_REFUSED,
            _ => false,
        };
        assert!(refused(connect(2)));
        let third = connect(3).expect("it is let in");
        assert!(matches!(connect(4), Err(ConnectError::Connection(ConnectionError::TimedOut))));
        assert!(refused(connect(5)), "one that is dropped is refused");
        assert_eq!(server.open_connections(), 2);
        drop((first, third));
        server.close(0_u32.into(), b"");
        let seen = decisions.join().expect("it does not panic");
        let of = |number| seen.iter().filter(|(ip, ..)| *ip == host(number)).map(|(_, valid, retry)| (*valid, *retry)).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), (vec![(false, true)], vec![(false, true)]));
        assert_eq!(of(3), [(false, true), (true, false)]);
        // A client that hears nothing asks again and again.
        assert!(of(4).len() > 2, "{}", of(4).len());
        assert_eq!(server.stats().retries, 1);
    });
}

/// A client whose packets wait for the application loses nothing by it, and not the application either if it is slow.
#[test]
fn a_slow_decision_costs_no_more_than_its_time() {
    simulate(1, link(), || {
        let server = Endpoint::server(server(1, RetryPolicy::Never).screening(true), server_address()).expect("a server");
        let deciding = server.clone();
        spawn(move || {
            let incoming = deciding.accept_incoming().expect("a client comes");
            sleep(Duration::from_millis(500));
            let connection = incoming.accept().expect("it comes");
            // One that nobody has answered for too long is gone.
            let incoming = deciding.accept_incoming().expect("another comes");
            sleep(Duration::from_secs(11));
            assert_eq!(incoming.accept().expect_err("it is gone"), ConnectionError::TimedOut);
            connection.closed()
        });
        let begun = Instant::now();
        let first = client_endpoint().connect_with(config(1), server_address(), SERVER_NAME).expect("a connection");
        assert!(begun.elapsed() < Duration::from_millis(560), "{:?}", begun.elapsed());
        let transport = TransportConfig::default().handshake_timeout(Duration::from_secs(5));
        let second = client_endpoint().connect_with(client_config(2, transport), server_address(), SERVER_NAME);
        assert!(matches!(second, Err(ConnectError::Connection(ConnectionError::TimedOut))));
        sleep(Duration::from_secs(10));
        assert_eq!(first.close_reason(), None);
        assert_eq!(server.open_connections(), 1);
    });
}

/// All windows together are far more than the budget: it is kept, those who send to readers that do not read wait, and a small
/// exchange beside them goes on.
#[test]
fn connections_share_one_budget_of_memory() {
    const BUDGET: usize = 4 << 20;
    simulate(1, link(), || {
        let governor = Governor::new(BUDGET);
        let endpoint = EndpointConfig::new().governor(governor.clone());
        let server = Endpoint::server_with(&endpoint, server(1, RetryPolicy::Never), server_address()).expect("a server");
        let accepting = server.clone();
        spawn(move || {
            let mut deaf = Vec::new();
            while let Some(connection) = accepting.accept() {
                if connection.remote_address().ip() == client_address(1).ip() {
                    spawn(move || weald_tests::attack::echo(&connection));
                } else {
                    deaf.push(connection);
                }
            }
        });
        let honest = client_endpoint().connect_with(config(1), server_address(), SERVER_NAME).expect("a connection");
        let floods: Vec<_> = (2..22)
            .map(|number| {
                spawn(move || {
                    let endpoint = Endpoint::client(client_address(number)).expect("a client");
                    let connection = endpoint.connect_with(config(number.into()), server_address(), SERVER_NAME);
                    let Ok(connection) = connection else { return };
                    let mut stream = connection.open_uni().expect("a stream");
                    // It blocks for good, until the connection ends.
                    let _ = stream.write_all(&vec![0; 8 << 20]);
                })
            })
            .collect();
        let mut most = 0;
        for second in 0..25 {
            let (mut out, mut input) = honest.open_bi().expect("a stream");
            send(&mut out, second, 5_000);
            receive(&mut input, second, 5_000);
            sleep(Duration::from_secs(1));
            most = most.max(governor.held());
        }
        // Twenty windows are 25 MB. A run of datagrams for each connection may come in before its lease is looked at.
        assert!(most > BUDGET / 2, "{most} bytes: the budget was never tried");
        assert!(most < BUDGET + 20 * 64 * 1024, "{most} bytes");
        assert_eq!(governor.pressure(), Pressure::Full);
        assert!(server.stats().shed > 0);
        // Nobody is let in, and who has gone gives back what it held.
        let late = client_endpoint().connect_with(config(99), server_address(), SERVER_NAME);
        assert!(matches!(late, Err(ConnectError::Connection(ConnectionError::ConnectionClosed(_)))));
        server.close(0_u32.into(), b"");
        floods.into_iter().for_each(|flood| flood.join().expect("it does not panic"));
        drop(honest);
        sleep(Duration::from_secs(5));
        assert!(governor.held() < BUDGET / 2, "{} bytes", governor.held());
    });
}
