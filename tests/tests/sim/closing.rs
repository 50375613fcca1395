//! How connections end: by time, by a peer that is gone, by an application (RFC 9000, 10).

use std::time::Duration;

use weald_quic::{Connection, ConnectionError, Endpoint, Side, TransportConfig};
use weald_runtime::sim::{self, LinkConfig};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::world::{
    client_address, client_config, connect, link, payload, receive, record, send, server_address, server_config, simulate,
    simulate_untraced,
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

/// RFC 9000, 10.1: the smaller of both ends' values counts, from the last packet on, and nobody says a word.
#[test]
fn silence_ends_a_connection_at_the_smaller_timeout() {
    for (client, server) in [(3, 8), (8, 3)] {
        record("idle", client, link(), |log| {
            let transport = |seconds| TransportConfig::default().trace(log.clone()).max_idle_timeout(Some(Duration::from_secs(seconds)));
            let serve = |connection: Connection| {
                receive(&mut connection.accept_uni().expect("a stream comes"), 1, 1000);
                assert_eq!(connection.closed(), ConnectionError::TimedOut);
            };
            connect(1, transport(client), transport(server), serve, |connection| {
                send(&mut connection.open_uni().expect("a stream"), 1, 1000);
                assert_eq!(connection.closed(), ConnectionError::TimedOut);
            });
            for side in [Side::Client, Side::Server] {
                let last = [!side, side].map(|side| log.find(side, "sends", "").pop().expect("a packet").0);
                let end = log.find(side, "timeout", "idle")[0].0;
                let silence = end - last[0].max(last[1]);
                assert!((2_900..3_100).contains(&silence.as_millis()), "{side}: {silence:?}");
                assert_eq!(log.count(side, "state", "ended: timed out"), 1);
            }
        });
    }
}

/// RFC 9000, 10.1.2: whichever end wants the connection to live sends a PING now and then, and the other answers.
#[test]
fn a_keep_alive_of_either_end_keeps_a_connection_open() {
    for keeper in [Side::Client, Side::Server] {
        record("keep-alive", u64::from(keeper.is_server()), link(), |log| {
            let interval = Duration::from_secs(4);
            let transport = |side| {
                let idle = TransportConfig::default().trace(log.clone()).max_idle_timeout(Some(Duration::from_secs(10)));
                idle.keep_alive((side == keeper).then_some(interval))
            };
            let serve = |connection: Connection| assert!(matches!(connection.closed(), ConnectionError::ApplicationClosed(_)));
            connect(1, transport(Side::Client), transport(Side::Server), serve, |connection| {
                sleep(Duration::from_secs(120));
                assert_eq!(connection.close_reason(), None);
            });
            // Who takes the first for a probe may ask whether it is heard, once, with two packets.
            assert!(log.count(!keeper, "sends", "PING") <= 2);
            let pings = log.find(keeper, "sends", "PING");
            // A PING of the handshake's end, and one in each interval.
            assert!((28..=32).contains(&pings.len()), "{}", pings.len());
            assert!(pings.windows(2).skip(1).all(|pair| pair[1].0 - pair[0].0 >= interval));
        });
    }
}

/// RFC 9000, 10.2.1, 10.2.2: an end that closes answers what still comes with its close, ever more rarely, in case that was lost; one
/// that hears it says nothing more, whatever it had to send.
#[test]
fn a_lost_close_is_said_again_and_who_hears_it_is_silent() {
    for seed in 1..=5 {
        record("close", seed, LinkConfig { rate: Some(1_250_000), ..link() }, |log| {
            let transport = || TransportConfig::default().trace(log.clone());
            let serve = move |connection: Connection| {
                let mut out = connection.open_uni().expect("a stream");
                while out.write_all(&payload(seed, 10_000)).is_ok() {}
                assert!(matches!(connection.closed(), ConnectionError::ApplicationClosed(_)));
            };
            connect(seed, transport(), transport(), serve, |connection| {
                let mut input = connection.accept_uni().expect("a stream comes");
                for _ in 0..20 {
                    input.read_exact(&mut [0; 5_000]).expect("it arrives");
                }
                // What is said in the next milliseconds is lost, the first close included.
                let network = sim::network().expect("a simulation");
                let (client, server) = (client_address(1).ip(), server_address().ip());
                network.blackhole(client, server);
                network.schedule(Instant::now() + Duration::from_millis(seed), move |network| network.lift_blackhole(client, server));
                connection.close(7_u32.into(), b"enough");
            });
            let closes = log.find(Side::Client, "sends", "CONNECTION_CLOSE of the application, code 0x7 \"enough\"");
            let begun = log.find(Side::Client, "state", "closing")[0].0;
            let after = log.find(Side::Client, "receives", "").iter().filter(|(time, _)| *time > begun).count();
            assert!(after > 10 && closes.len() >= 2, "{} closes, {after} packets", closes.len());
            assert!(closes.len() <= 2 + after.ilog2() as usize, "{} closes, {after} packets", closes.len());
            let drained = log.find(Side::Server, "state", "draining")[0].0;
            let last = log.find(Side::Server, "sends", "").pop().expect("a packet").0;
            assert!(last <= drained, "{last:?} {drained:?}");
            assert!(log.count(Side::Server, "receives", "") > 0);
            for side in [Side::Client, Side::Server] {
                // Three probe timeouts, for what is still under way.
                let over = log.find(side, "state", "drained")[0].0;
                assert!(over - begun > Duration::from_millis(60) && over - begun < Duration::from_secs(2), "{:?}", over - begun);
            }
        });
    }
}
