//! The whole stack on virtual time and a simulated network, through the blocking API: what a network may do, and what
//! applications may, loses no byte and wedges nobody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weald_quic::{ConnectError, Connection, ConnectionError, Endpoint, TransportConfig};
use weald_runtime::sim::{self, LinkConfig, TraceEntry};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::world::{
    self, client_address, client_config, connect, exchange, link, payload, receive, send, server_address, server_config, simulate,
    simulate_untraced,
};

const MEGABYTE: usize = 1_000_000;

/// A handshake and a megabyte each way, for a few seeds.
fn exchange_over(link: &LinkConfig) {
    for seed in 1..=3 {
        simulate_untraced(seed, link.clone(), || exchange(seed, MEGABYTE, TransportConfig::default(), TransportConfig::default()));
    }
}

#[test]
fn a_clean_network() {
    exchange_over(&link());
}

#[test]
fn one_percent_loss() {
    exchange_over(&LinkConfig { loss: 0.01, ..link() });
}

#[test]
fn five_percent_loss() {
    exchange_over(&LinkConfig { loss: 0.05, ..link() });
}

#[test]
fn ten_percent_loss() {
    exchange_over(&LinkConfig { loss: 0.1, ..link() });
}

#[test]
fn reordering() {
    exchange_over(&LinkConfig { reorder: 0.2, reorder_delay: Duration::from_millis(8), ..link() });
}

#[test]
fn jitter() {
    exchange_over(&LinkConfig { jitter: Duration::from_millis(30), ..link() });
}

#[test]
fn duplication() {
    exchange_over(&LinkConfig { duplicate: 0.3, ..link() });
}

#[test]
fn corruption() {
    exchange_over(&LinkConfig { corrupt: 0.05, ..link() });
}

#[test]
fn a_round_trip_of_200_milliseconds() {
    exchange_over(&LinkConfig { delay: Duration::from_millis(100), ..link() });
}

#[test]
fn a_round_trip_of_200_milliseconds_with_loss_and_reordering() {
    exchange_over(&LinkConfig { delay: Duration::from_millis(100), loss: 0.05, reorder: 0.1, ..link() });
}

#[test]
fn a_link_of_ten_megabits() {
    exchange_over(&LinkConfig { rate: Some(1_250_000), ..link() });
}

#[test]
fn everything_at_once() {
    exchange_over(&LinkConfig {
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(10),
        loss: 0.03,
        reorder: 0.05,
        duplicate: 0.05,
        corrupt: 0.02,
        rate: Some(2_500_000),
        ..link()
    });
}

/// 5 % of datagrams lost, a tenth held back behind later ones.
fn lossy() -> LinkConfig {
    LinkConfig { loss: 0.05, reorder: 0.1, ..link() }
}

fn trace_of(seed: u64) -> Vec<TraceEntry> {
    simulate(seed, lossy(), || {
        exchange(seed, 100_000, TransportConfig::default(), TransportConfig::default());
        sim::trace()
    })
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_another() {
    for seed in [1, 2, 77] {
        let (first, second) = (trace_of(seed), trace_of(seed));
        assert!(first.len() > 200, "seed {seed}: {} events", first.len());
        if let Some(at) = (0..first.len().max(second.len())).find(|at| first.get(*at) != second.get(*at)) {
            panic!("seed {seed}: event {at} differs\n  {:?}\n  {:?}", first.get(at), second.get(at));
        }
        assert_ne!(first, trace_of(seed + 1000), "seed {seed}");
    }
}

/// A megabyte from the client in even seeds, from the server in odd ones.
fn one_way(seed: u64) {
    let (to_server, to_client) = if seed.is_multiple_of(2) { (MEGABYTE, 100) } else { (100, MEGABYTE) };
    let serve = move |connection: Connection| {
        let (mut out, mut input) = connection.accept_bi().expect("a stream comes");
        receive(&mut input, seed, to_server);
        send(&mut out, seed + 1, to_client);
        connection.closed();
    };
    connect(seed, TransportConfig::default(), TransportConfig::default(), serve, |connection| {
        let (mut out, mut input) = connection.open_bi().expect("a stream");
        send(&mut out, seed, to_server);
        receive(&mut input, seed + 1, to_client);
    });
}

#[test]
fn a_thousand_lossy_transfers_lose_no_byte() {
    for_each_seed(1000, |seed| simulate_untraced(seed, lossy(), || one_way(seed)));
}

/// What a network does is drawn from the seed, within what a handshake survives in its ten seconds.
#[test]
fn a_thousand_networks_lose_no_byte() {
    for_each_seed(1000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut upto = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        let link = LinkConfig {
            loss: upto(0.1),
            reorder: upto(0.5),
            duplicate: upto(0.3),
            corrupt: upto(0.05),
            delay: Duration::from_micros(50).mul_f64(1.0 + upto(2_000.0)),
            jitter: Duration::from_millis(50).mul_f64(upto(1.0)),
            reorder_delay: Duration::from_millis(1).mul_f64(1.0 + upto(50.0)),
            rate: Some(upto(10_000_000.0) as u64).filter(|rate| *rate > 0).map(|rate| rate + 100_000),
            queue: 10_000 + upto(200_000.0) as usize,
            ..link()
        };
        let mut transport = || {
            let [stream_window, connection_window, send_window] = [(); 3].map(|()| rng.u32(1_000..200_000));
            TransportConfig::default().stream_window(stream_window).connection_window(connection_window).send_window(send_window)
        };
        let (client, server) = (transport(), transport());
        simulate_untraced(seed, link, || exchange(seed, 60_000, client, server));
    });
}

/// Runs simulations on all processors.
fn for_each_seed(seeds: u64, simulation: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    simulation(seed);
                }
            });
        }
    });
}

#[test]
fn nobody_there_is_a_timeout() {
    simulate(1, LinkConfig { loss: 1.0, ..link() }, || {
        let transport =
            TransportConfig::default().handshake_timeout(Duration::from_secs(60)).max_idle_timeout(Some(Duration::from_secs(7)));
        let start = Instant::now();
        let refused = client_endpoint().connect_with(client_config(1, transport), server_address(), "localhost");
        assert!(matches!(refused, Err(ConnectError::Connection(ConnectionError::TimedOut))), "{:?}", refused.err());
        assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
        // RFC 9000, 10.1: not before three probe timeouts, which double from a first guess of one second.
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    });
}

fn client_endpoint() -> Endpoint {
    Endpoint::client(client_address(1)).expect("a client")
}

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

/// Windows far below the path's capacity, at either level: all arrives, and a reader that does not read stops the writer.
#[test]
fn small_windows_are_kept_and_do_not_wedge() {
    for (stream_window, connection_window) in [(1_000, 100_000), (100_000, 1_500), (1, 64), (3_000, 3_000)] {
        let len = if stream_window == 1 { 2_000 } else { 60_000 };
        let small = || TransportConfig::default().stream_window(stream_window).connection_window(connection_window).send_window(5_000);
        for (seed, link) in [(1, link()), (2, lossy())] {
            simulate(seed, link, || exchange(seed, len, small(), small()));
        }
    }
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_at_the_window() {
    const WINDOW: u32 = 50_000;
    for (stream_window, connection_window) in [(WINDOW, 10 * WINDOW), (10 * WINDOW, WINDOW)] {
        simulate(1, link(), || {
            let server = TransportConfig::default().stream_window(stream_window).connection_window(connection_window);
            let client = TransportConfig::default().send_window(10_000);
            let serve = |connection: Connection| {
                let mut input = connection.accept_uni().expect("a stream comes");
                sleep(Duration::from_secs(10));
                receive(&mut input, 1, 500_000);
                connection.closed();
            };
            connect(1, client, server, serve, |connection| {
                let mut out = connection.open_uni().expect("a stream");
                let start = Instant::now();
                let bytes = payload(1, 500_000);
                let mut written = 0;
                while written < bytes.len() && start.elapsed() < Duration::from_secs(9) {
                    written += out.write(&bytes[written..]).expect("it is sent");
                    // What is acknowledged or waits: the window, and what the sender may hold besides.
                    assert!(start.elapsed() > Duration::from_secs(9) || written <= (WINDOW + 10_000) as usize, "{written}");
                }
                assert!(written >= WINDOW as usize);
                out.write_all(&bytes[written..]).expect("it is sent");
                out.finish().expect("it is open");
                assert_eq!(out.stopped().expect("the connection lives"), None);
                assert!(start.elapsed() >= Duration::from_secs(10));
            });
        });
    }
}

/// Five hundred streams of each side at once, which is five times what is permitted at a time.
#[test]
fn many_streams_under_loss() {
    const STREAMS: u64 = 500;
    /// Opens streams, and checks that each comes back as it was sent.
    fn ask(connection: &Connection, seed: u64) {
        let asking: Vec<_> = (0..STREAMS)
            .map(|number| {
                let connection = connection.clone();
                spawn(move || {
                    let (mut out, mut input) = connection.open_bi().expect("a stream, in time");
                    let len = 1 + (number as usize * 37) % 3000;
                    send(&mut out, seed + number, len);
                    receive(&mut input, seed + number, len);
                })
            })
            .collect();
        asking.into_iter().for_each(|asking| asking.join().expect("no panic"));
    }
    fn answer(connection: &Connection) {
        let answering: Vec<_> = (0..STREAMS)
            .map(|_| {
                let (mut out, mut input) = connection.accept_bi().expect("a stream comes");
                spawn(move || {
                    let bytes = input.read_to_end(10_000).expect("it arrives");
                    out.write_all(&bytes).expect("it is sent");
                    out.finish().expect("it is open");
                    assert_eq!(out.stopped().expect("the connection lives"), None);
                })
            })
            .collect();
        answering.into_iter().for_each(|answering| answering.join().expect("no panic"));
    }
    for seed in 1..=4 {
        simulate_untraced(seed, lossy(), || {
            let serve = |connection: Connection| {
                let asking = connection.clone();
                let asking = spawn(move || ask(&asking, 7_000_000));
                answer(&connection);
                asking.join().expect("no panic");
                connection.closed();
            };
            connect(seed, TransportConfig::default(), TransportConfig::default(), serve, |connection| {
                let answering = connection.clone();
                let answering = spawn(move || answer(&answering));
                ask(connection, 1_000);
                answering.join().expect("no panic");
                // The server's last answers are acknowledged before the connection closes.
                sleep(Duration::from_secs(2));
            });
        });
    }
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

#[test]
fn what_the_name_of_the_certificate_is_not_ends_the_handshake() {
    simulate(1, link(), || {
        let server = Endpoint::server(server_config(1, TransportConfig::default()), server_address()).expect("a server");
        let client = client_endpoint();
        let refused = client.connect_with(client_config(1, TransportConfig::default()), server_address(), "example.org");
        let message = refused.expect_err("the certificate is another's").to_string();
        assert!(message.contains("example.org"), "{message}");
        let address: SocketAddr = world::server_address();
        assert_eq!(server.local_addr().expect("an address"), address);
    });
}
