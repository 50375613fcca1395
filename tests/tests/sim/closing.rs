//! How connections end: by time, by a peer that is gone, by an application (RFC 9000, 10).

use std::time::Duration;

use weald_quic::{Connection, ConnectionError, Endpoint, TransportConfig};
use weald_runtime::sim::{self, LinkConfig};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::world::{
    client_address, client_config, connect, link, payload, receive, send, server_address, server_config, simulate, simulate_untraced,
};

use super::{MEGABYTE, client_endpoint, lossy};

#[test]
fn a_blackhole_in_a_transfer_is_a_timeout_at_both_ends() {
    for seed in 1..=5 {
        simulate(seed, link(), || {
            let timeout = Duration::from_secs(5);
            let transport = || TransportConfig::default().max_idle_timeout(Some(timeout));
            let network = sim::network().expect("a simulation");
            let serve = move |connection: Connection| {
                let mut input = connection.accept_uni().expect("a stream comes");
                let error = input.read_to_end(100 * MEGABYTE).expect_err("it never ends");
                assert!(error.to_string().contains("timed out"), "{error}");
                assert!(matches!(connection.closed(), ConnectionError::TimedOut));
            };
            connect(seed, transport(), transport(), serve, |connection| {
                let mut out = connection.open_uni().expect("a stream");
                out.write_all(&payload(seed, 200_000)).expect("it is sent");
                sleep(Duration::from_millis(100));
                network.set_default_link(LinkConfig { loss: 1.0, ..link() });
                let start = Instant::now();
                while out.write_all(&payload(seed, 200_000)).is_ok() {}
                assert!(matches!(connection.closed(), ConnectionError::TimedOut), "{:?}", connection.close_reason());
                let silence = start.elapsed();
                assert!(silence >= timeout - Duration::from_millis(50) && silence < 2 * timeout, "{silence:?}");
                assert!(connection.open_uni().is_err() && connection.accept_bi().is_err());
            });
        });
    }
}

/// The server's host is gone without a word.
#[test]
fn a_server_that_vanishes() {
    simulate(3, link(), || {
        let server = Endpoint::server(server_config(3, TransportConfig::default()), server_address()).expect("a server");
        let accepting = server.clone();
        let serving = spawn(move || accepting.accept().expect("a connection comes"));
        let transport = TransportConfig::default().max_idle_timeout(Some(Duration::from_secs(3)));
        let client = client_endpoint();
        let connection = client.connect_with(client_config(3, transport), server_address(), "localhost").expect("a connection");
        let at_server = serving.join().expect("no panic");
        // Nothing that the server says from now on, its close included, gets out.
        let silent = LinkConfig { loss: 1.0, ..link() };
        sim::network().expect("a simulation").set_link(server_address().ip(), client_address(1).ip(), silent);
        at_server.close(1_u32.into(), b"");
        server.close(1_u32.into(), b"");
        drop((server, at_server));
        let mut out = connection.open_uni().expect("a stream");
        let start = Instant::now();
        while out.write_all(&payload(3, 10_000)).is_ok() {
            sleep(Duration::from_millis(100));
        }
        assert!(matches!(connection.closed(), ConnectionError::TimedOut), "{:?}", connection.close_reason());
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    });
}

/// Several clients of one endpoint at once, some of which break off: the others do not notice.
#[test]
fn clients_that_break_off_harm_no_other() {
    simulate_untraced(5, lossy(), || {
        const CLIENTS: u16 = 40;
        let server = Endpoint::server(server_config(5, TransportConfig::default()), server_address()).expect("a server");
        let accepting = server.clone();
        let serving = spawn(move || {
            let handlers: Vec<_> = std::iter::from_fn(|| accepting.accept())
                .map(|connection| {
                    spawn(move || {
                        let Ok((mut out, mut input)) = connection.accept_bi() else { return };
                        let Ok(bytes) = input.read_to_end(MEGABYTE) else { return };
                        if out.write_all(&bytes).is_ok() && out.finish().is_ok() {
                            connection.closed();
                        }
                    })
                })
                .collect();
            handlers.into_iter().for_each(|handler| handler.join().expect("no panic"));
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                spawn(move || {
                    let seed = 100 + u64::from(number);
                    let endpoint = Endpoint::client(client_address(number)).expect("a client");
                    let config = client_config(seed, TransportConfig::default());
                    let connection = endpoint.connect_with(config, server_address(), "localhost").expect("a connection");
                    let (mut out, mut input) = connection.open_bi().expect("a stream");
                    if number % 4 == 3 {
                        out.write_all(&payload(seed, 30_000)).expect("it is sent");
                        connection.close(9_u32.into(), b"changed my mind");
                        return;
                    }
                    send(&mut out, seed, 50_000);
                    receive(&mut input, seed, 50_000);
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("no panic"));
        server.close(0_u32.into(), b"");
        serving.join().expect("no panic");
    });
}

#[test]
fn an_application_close_reaches_the_other_end_with_its_code_and_reason() {
    simulate(1, link(), || {
        let serve = |connection: Connection| match connection.closed() {
            // The code is the application's, which is only told to one that has completed the handshake (RFC 9000, 10.2.3).
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!((close.code.as_u64(), &close.reason[..]), (77, &b"enough"[..]));
            }
            other => panic!("{other}"),
        };
        let transport = TransportConfig::default;
        connect(1, transport(), transport(), serve, |connection| {
            sleep(Duration::from_millis(100));
            connection.close(77_u32.into(), b"enough");
            assert!(matches!(connection.closed(), ConnectionError::LocallyClosed));
        });
    });
}
