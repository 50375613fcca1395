//! The blocking API over real sockets on loopback: endpoints, connections and streams, from coroutines and plain threads.

#![cfg(feature = "driver")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_quic::{
    ApplicationClose, ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, ReadError, SendDatagramError, ServerConfig,
    TransportConfig, VarInt, WriteError,
};
use weald_runtime::{JoinError, Runtime};

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn server_config(transport: TransportConfig) -> ServerConfig {
    let (chain, key) = server_credentials();
    let tls = weald_crypto::ServerConfig::builder().alpn([b"test"]).certificate(chain, key).simulation(1).build().unwrap();
    ServerConfig::new(tls).transport(transport)
}

fn client_config(transport: TransportConfig) -> ClientConfig {
    let tls = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(roots()).simulation(2).build().unwrap();
    ClientConfig::new(tls).transport(transport)
}

/// A connection between two endpoints: client's, server's.
struct Pair {
    client: Connection,
    server: Connection,
    client_endpoint: Endpoint,
    server_endpoint: Endpoint,
}

impl Pair {
    fn new() -> Pair {
        Pair::with(TransportConfig::default(), TransportConfig::default())
    }

    /// Inside of a runtime.
    fn with(client: TransportConfig, server: TransportConfig) -> Pair {
        let server_endpoint = Endpoint::server(server_config(server), loopback()).unwrap();
        let client_endpoint = Endpoint::client(loopback()).unwrap();
        let address = server_endpoint.local_addr().unwrap();
        let client = client_endpoint.connect_with(client_config(client), address, SERVER_NAME).unwrap();
        let server = server_endpoint.accept().unwrap();
        Pair { client, server, client_endpoint, server_endpoint }
    }
}

fn on_workers<T: Send>(workers: usize, f: impl FnOnce() -> T + Send) -> T {
    Runtime::builder().workers(workers).build().unwrap().run(f)
}

/// Bytes that follow from a seed, so that a lost, doubled or swapped byte shows.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Sends back what comes on every stream, until the connection is over.
fn echo(connection: Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi() {
        drop(connection.spawn(move || {
            while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX) {
                if send.write_all(&chunk).is_err() {
                    return;
                }
            }
        }));
    }
}

#[test]
fn the_handshake_tells_what_was_agreed_on() {
    on_workers(2, || {
        let pair = Pair::new();
        for connection in [&pair.client, &pair.server] {
            let info = connection.handshake();
            assert_eq!(info.alpn.as_deref(), Some(&b"test"[..]));
            assert_eq!(info.server_name.as_deref(), Some(SERVER_NAME));
            assert!(info.duration > Duration::ZERO);
            assert!(connection.memory() > 1000);
            assert_eq!(connection.close_reason(), None);
        }
        assert_eq!(pair.client.remote_address(), pair.server_endpoint.local_addr().unwrap());
        assert_eq!(pair.server.remote_address(), pair.client_endpoint.local_addr().unwrap());
        assert_eq!((pair.server_endpoint.stats().accepted, pair.client_endpoint.open_connections()), (1, 1));
    });
}

fn ten_megabytes_each_way(workers: usize) {
    on_workers(workers, || {
        let Pair { client, server, .. } = Pair::new();
        let echoing = server.spawn({
            let server = server.clone();
            move || echo(server)
        });
        let sent = content(7, 10_000_000);
        let (mut send, mut receive) = client.open_bi().unwrap();
        let writing = client.spawn({
            let sent = sent.clone();
            move || {
                send.write_all(&sent).unwrap();
                send.finish().unwrap();
                assert_eq!(send.stopped(), Ok(None));
            }
        });
        let received = receive.read_to_end(usize::MAX).unwrap();
        assert!(received == sent, "{} bytes came back, or others", received.len());
        writing.join().unwrap();
        client.close(VarInt::from_u32(0), b"");
        echoing.join().unwrap();
    });
}

#[test]
fn ten_megabytes_each_way_on_one_worker() {
    ten_megabytes_each_way(1);
}

#[test]
fn ten_megabytes_each_way_on_two_workers() {
    ten_megabytes_each_way(2);
}

#[test]
fn a_hundred_streams_at_once_and_more_than_are_allowed() {
    on_workers(2, || {
        let Pair { client, server, .. } = Pair::new();
        drop(server.spawn({
            let server = server.clone();
            move || echo(server)
        }));
        let streams: Vec<_> = (0..250)
            .map(|seed| {
                let client = client.clone();
                weald_runtime::spawn(move || {
                    let (mut send, mut receive) = client.open_bi().unwrap();
                    let sent = content(seed, 20_000);
                    send.write_all(&sent).unwrap();
                    send.finish().unwrap();
                    assert!(receive.read_to_end(20_000).unwrap() == sent, "stream {seed}");
                })
            })
            .collect();
        streams.into_iter().for_each(|stream| stream.join().unwrap());
    });
}

#[test]
fn connections_from_many_ports_spread_over_workers_and_all_work() {
    on_workers(2, || {
        let server = Endpoint::server(server_config(TransportConfig::default()), loopback()).unwrap();
        let address = server.local_addr().unwrap();
        let serving = weald_runtime::spawn({
            let server = server.clone();
            move || {
                while let Some(connection) = server.accept() {
                    drop(weald_runtime::spawn(move || echo(connection)));
                }
            }
        });
        let clients: Vec<_> = (0..20)
            .map(|seed| {
                weald_runtime::spawn(move || {
                    let endpoint = Endpoint::client(loopback()).unwrap();
                    let config = client_config(TransportConfig::default());
                    let connection = endpoint.connect_with(config, address, SERVER_NAME).unwrap();
                    let (mut send, mut receive) = connection.open_bi().unwrap();
                    let sent = content(seed, 100_000);
                    send.write_all(&sent).unwrap();
                    send.finish().unwrap();
                    assert!(receive.read_to_end(100_000).unwrap() == sent);
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        server.close(VarInt::from_u32(0), b"");
        serving.join().unwrap();
        server.wait_idle();
        assert_eq!(server.open_connections(), 0);
        assert_eq!(server.stats().accepted, 20);
    });
}

#[test]
fn handles_work_from_plain_threads() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let Pair { client, server, client_endpoint, server_endpoint } = runtime.run(Pair::new);
    let address = server_endpoint.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut send, mut receive) = server.accept_bi().unwrap();
            let request = receive.read_to_end(usize::MAX).unwrap();
            send.write_all(&request).unwrap();
            send.finish().unwrap();
            server.closed()
        });
        scope.spawn(move || {
            let (mut send, mut receive) = client.open_bi().unwrap();
            let sent = content(3, 3_000_000);
            send.write_all(&sent).unwrap();
            send.finish().unwrap();
            assert!(receive.read_to_end(usize::MAX).unwrap() == sent);
            client.close(VarInt::from_u32(5), b"enough");
        });
        scope.spawn(move || {
            let config = client_config(TransportConfig::default());
            client_endpoint.set_default_client_config(config);
            let second = client_endpoint.connect(address, SERVER_NAME).unwrap();
            assert_eq!(server_endpoint.accept().unwrap().remote_address(), client_endpoint.local_addr().unwrap());
            second.close(VarInt::from_u32(0), b"");
            client_endpoint.wait_idle();
        });
    });
}

#[test]
fn several_acceptors_are_all_served() {
    on_workers(2, || {
        let Pair { client, server, .. } = Pair::new();
        let accepted = Arc::new(AtomicUsize::new(0));
        let acceptors: Vec<_> = (0..8)
            .map(|_| {
                let (server, accepted) = (server.clone(), Arc::clone(&accepted));
                weald_runtime::spawn(move || {
                    while let Ok(mut stream) = server.accept_uni() {
                        stream.read_to_end(100).unwrap();
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..50 {
            let mut send = client.open_uni().unwrap();
            send.write_all(b"one of fifty").unwrap();
            send.finish().unwrap();
            assert_eq!(send.stopped(), Ok(None));
        }
        while accepted.load(Ordering::Relaxed) < 50 {
            weald_runtime::yield_now();
        }
        client.close(VarInt::from_u32(0), b"");
        acceptors.into_iter().for_each(|acceptor| acceptor.join().unwrap());
    });
}

#[test]
fn close_codes_arrive() {
    on_workers(2, || {
        let Pair { client, server, .. } = Pair::new();
        let waiting = weald_runtime::spawn({
            let server = server.clone();
            move || server.accept_bi().unwrap_err()
        });
        client.close(VarInt::from_u32(42), b"had enough");
        let expected = ApplicationClose { code: 42u32.into(), reason: "had enough".into() };
        let expected = ConnectionError::ApplicationClosed(expected);
        assert_eq!(server.closed(), expected);
        assert_eq!(waiting.join().unwrap(), expected);
        assert_eq!(server.close_reason(), Some(expected));
        assert_eq!(client.closed(), ConnectionError::LocallyClosed);
        assert_eq!(client.open_bi().unwrap_err(), ConnectionError::LocallyClosed);
    });
}

#[test]
fn an_endpoint_closes_all_its_connections() {
    on_workers(2, || {
        let pair = Pair::new();
        pair.server_endpoint.close(VarInt::from_u32(9), b"going");
        let expected = ApplicationClose { code: 9u32.into(), reason: "going".into() };
        assert_eq!(pair.client.closed(), ConnectionError::ApplicationClosed(expected));
        assert!(pair.server_endpoint.accept().is_none());
        pair.server_endpoint.wait_idle();
        pair.client_endpoint.wait_idle();
        let address = pair.server_endpoint.local_addr().unwrap();
        let refused = pair.server_endpoint.connect_with(client_config(TransportConfig::default()), address, SERVER_NAME);
        assert!(matches!(refused, Err(ConnectError::EndpointStopping)));
    });
}

#[test]
fn resets_and_stops_arrive() {
    on_workers(2, || {
        let Pair { client, server, .. } = Pair::new();
        let (mut send, mut receive) = client.open_bi().unwrap();
        send.write_all(b"x").unwrap();
        let (mut server_send, mut server_receive) = server.accept_bi().unwrap();
        assert_eq!(server_receive.read(&mut [0; 8]), Ok(Some(1)));

        send.reset(VarInt::from_u32(77)).unwrap();
        assert_eq!(server_receive.read(&mut [0; 8]), Err(ReadError::Reset(VarInt::from_u32(77))));
        assert_eq!(server_receive.read(&mut [0; 8]), Err(ReadError::ClosedStream));
        assert!(send.finish().is_err());

        receive.stop(VarInt::from_u32(88)).unwrap();
        assert!(receive.stop(VarInt::from_u32(88)).is_err());
        assert_eq!(server_send.stopped(), Ok(Some(VarInt::from_u32(88))));
        assert_eq!(server_send.write(b"y"), Err(WriteError::Stopped(VarInt::from_u32(88))));
    });
}

#[test]
fn who_waits_for_the_end_of_a_reset_stream_is_woken() {
    on_workers(1, || {
        let pair = Pair::new();
        let mut send = pair.client.open_uni().unwrap();
        send.write_all(b"data").unwrap();
        send.reset(VarInt::from_u32(5)).unwrap();
        let watch = pair.client.clone();
        let guard = weald_runtime::spawn(move || {
            weald_runtime::sleep(Duration::from_secs(3));
            watch.close(VarInt::from_u32(99), b"too late");
        });
        assert_eq!(send.stopped().unwrap(), None);
        assert!(pair.client.close_reason().is_none(), "only the end of the connection woke it");
        drop(guard);
    });
}

#[test]
fn streams_that_are_stopped_after_their_end_make_room_for_others() {
    on_workers(1, || {
        let streams = TransportConfig::default().max_streams_uni(4);
        let pair = Pair::with(TransportConfig::default(), streams);
        let stops = pair.server.clone();
        let reader = weald_runtime::spawn(move || {
            for _ in 0..40 {
                stops.accept_uni().unwrap().stop(VarInt::from_u32(1)).unwrap();
            }
        });
        let before = pair.client.memory();
        for _ in 0..40 {
            let mut send = pair.client.open_uni().unwrap();
            // More than the window of the stream lets go, so that the stop finds it unfinished.
            send.write(&vec![1; 1 << 20]).unwrap();
            send.finish().unwrap();
        }
        reader.join().unwrap();
        weald_runtime::sleep(Duration::from_millis(300));
        let after = pair.client.memory();
        assert!(after < before + 10_000, "{before} bytes before, {after} after");
    });
}

#[test]
fn a_blocked_writer_learns_of_a_stop() {
    on_workers(1, || {
        let Pair { client, server, .. } = Pair::new();
        let mut send = client.open_uni().unwrap();
        send.write_all(b"x").unwrap();
        let mut receive = server.accept_uni().unwrap();
        let writing = client.spawn(move || send.write_all(&vec![0; 50_000_000]));
        weald_runtime::sleep(Duration::from_millis(50));
        assert!(!writing.is_finished());
        receive.stop(VarInt::from_u32(3)).unwrap();
        assert_eq!(writing.join().unwrap(), Err(WriteError::Stopped(VarInt::from_u32(3))));
    });
}

#[test]
fn dropped_handles_finish_stop_and_close() {
    on_workers(2, || {
        let Pair { client, server, .. } = Pair::new();
        let (mut send, receive) = client.open_bi().unwrap();
        send.write_all(b"the end comes by itself").unwrap();
        drop(send);
        drop(receive);
        let (mut server_send, mut server_receive) = server.accept_bi().unwrap();
        assert_eq!(server_receive.read_to_end(100).unwrap(), b"the end comes by itself");
        assert_eq!(server_send.stopped(), Ok(Some(VarInt::from_u32(0))));
        drop((server_send, server_receive));
        // A stream keeps the connection; the last handle closes it.
        let kept = client.open_uni().unwrap();
        drop(client);
        assert_eq!(server.close_reason(), None);
        drop(kept);
        let expected = ApplicationClose { code: 0u32.into(), reason: "".into() };
        assert_eq!(server.closed(), ConnectionError::ApplicationClosed(expected));
    });
}

#[test]
fn chunks_return_credit_when_the_last_piece_is_dropped() {
    on_workers(2, || {
        let window = TransportConfig::default().stream_window(10_000);
        let Pair { client, server, .. } = Pair::with(TransportConfig::default(), window);
        let mut send = client.open_uni().unwrap();
        let sent = content(5, 100_000);
        let writing = client.spawn({
            let sent = sent.clone();
            move || send.write_all(&sent).unwrap()
        });
        let mut receive = server.accept_uni().unwrap();
        let mut received = Vec::new();
        while let Some(mut chunk) = receive.read_chunk(2000).unwrap() {
            assert_eq!(chunk.offset(), received.len() as u64);
            let front = chunk.split_to(chunk.len() / 3);
            received.extend_from_slice(&front);
            assert_eq!(chunk.offset(), received.len() as u64);
            received.extend_from_slice(&chunk);
        }
        assert!(received == sent);
        writing.join().unwrap();
    });
}

#[test]
fn streams_are_std_readers_and_writers() {
    on_workers(1, || {
        let Pair { client, server, .. } = Pair::new();
        let (mut send, mut receive) = client.open_bi().unwrap();
        writeln!(send, "hello").unwrap();
        send.write_chunk(vec![b'z'; 5000].into()).unwrap();
        send.finish().unwrap();
        let (_, mut server_receive) = server.accept_bi().unwrap();
        let mut text = String::new();
        server_receive.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("hello\n{}", "z".repeat(5000)));
        client.close(VarInt::from_u32(0), b"");
        assert_eq!(receive.read(&mut [0; 1]).unwrap_err(), ReadError::ConnectionLost(ConnectionError::LocallyClosed));
        let error = Read::read(&mut receive, &mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
    });
}

#[test]
fn flushing_waits_until_everything_arrived() {
    on_workers(2, || {
        let Pair { client, server, .. } = Pair::new();
        let mut send = client.open_uni().unwrap();
        let sent = content(6, 1_000_000);
        let reading = weald_runtime::spawn({
            let server = server.clone();
            move || server.accept_uni().unwrap().read_to_end(usize::MAX).unwrap()
        });
        send.write_all(&sent).unwrap();
        drop(send);
        assert_eq!(client.close_after_flush(Duration::from_secs(10)), Ok(true));
        assert!(reading.join().unwrap() == sent);
    });
}

/// Datagrams from coroutines: what is sent arrives, senders wait, drop the oldest or are turned away, and a reader can select.
#[test]
fn datagrams_go_both_ways() {
    on_workers(2, || {
        let transport = || TransportConfig::default().datagrams(true).datagram_send_buffer(8_000);
        let pair = Pair::with(transport(), transport());
        let max = pair.client.max_datagram_size().unwrap();
        assert!((1_000..1_200).contains(&max), "{max}");
        assert_eq!(pair.client.send_datagram(vec![0; max + 1]), Err(SendDatagramError::TooLarge { max }));
        assert!((7_000..8_000).contains(&pair.client.datagram_send_buffer_space()));
        // The sender waits for room 40 times and more; the reader gives each back before the next but one comes.
        let server = pair.server.clone();
        let echo = weald_runtime::spawn(move || {
            while let Ok(datagram) = server.read_datagram() {
                if server.send_datagram(datagram.to_vec()).is_err() {
                    return;
                }
            }
        });
        let answers = AtomicUsize::new(0);
        weald_runtime::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let limit = Duration::from_millis(300);
                    weald_runtime::select! {
                        wait(pair.client.receiving_datagram()) -> answer => {
                            let mut answer = answer.unwrap();
                            assert!(answer.len() == max || answer.is_empty());
                            let rest = answer.len() / 2;
                            let front = answer.split_to(rest);
                            assert!(front.iter().chain(answer.iter()).all(|byte| *byte == 7));
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                        default(limit) => return,
                    }
                }
            });
            for _ in 0..200 {
                pair.client.send_datagram(vec![7; max]).unwrap();
                pair.client.send_datagram_dropping(Vec::new()).unwrap();
            }
        });
        assert!(answers.load(Ordering::Relaxed) > 50, "{answers:?}");
        let mut full = false;
        for _ in 0..100 {
            full |= pair.client.try_send_datagram(vec![7; max]) == Err(SendDatagramError::Full);
        }
        assert!(full, "nothing waits for the network");
        assert_eq!(pair.client.close_after_flush(Duration::from_secs(10)), Ok(true));
        echo.join().unwrap();
        assert!(matches!(pair.client.send_datagram(vec![7]), Err(SendDatagramError::ConnectionLost(ConnectionError::LocallyClosed))));
        while pair.client.read_datagram().is_ok() {}
        assert_eq!(pair.client.read_datagram().unwrap_err(), ConnectionError::LocallyClosed);
    });
}

/// Without permission nothing is sent, and who waits for a datagram learns of the end.
#[test]
fn peers_that_permit_no_datagrams_get_none() {
    on_workers(1, || {
        let pair = Pair::new();
        assert_eq!((pair.client.max_datagram_size(), pair.client.send_datagram(vec![1])), (None, Err(SendDatagramError::Unsupported)));
        let client = pair.client.clone();
        let reader = weald_runtime::spawn(move || client.read_datagram().unwrap_err());
        weald_runtime::sleep(Duration::from_millis(10));
        pair.server.close(VarInt::from_u32(3), b"");
        assert!(matches!(reader.join().unwrap(), ConnectionError::ApplicationClosed(_)));
    });
}

#[test]
fn idle_connections_time_out() {
    on_workers(1, || {
        let transport = TransportConfig::default().max_idle_timeout(Some(Duration::from_millis(100)));
        let pair = Pair::with(transport.clone(), transport);
        assert_eq!(pair.client.closed(), ConnectionError::TimedOut);
        assert_eq!(pair.server.closed(), ConnectionError::TimedOut);
        pair.client_endpoint.wait_idle();
        pair.server_endpoint.wait_idle();
    });
}

#[test]
fn a_dead_port_times_out() {
    on_workers(1, || {
        let endpoint = Endpoint::client(loopback()).unwrap();
        let transport = TransportConfig::default().handshake_timeout(Duration::from_millis(300));
        let result = endpoint.connect_with(client_config(transport), "127.0.0.1:9".parse().unwrap(), SERVER_NAME);
        assert!(matches!(result, Err(ConnectError::Connection(ConnectionError::TimedOut))), "{result:?}");
        endpoint.wait_idle();
    });
}

#[test]
fn wrong_names_and_addresses_are_named() {
    on_workers(1, || {
        let server = Endpoint::server(server_config(TransportConfig::default()), loopback()).unwrap();
        let address = server.local_addr().unwrap();
        let endpoint = Endpoint::client(loopback()).unwrap();
        let connect =
            |address, name| endpoint.connect_with(client_config(TransportConfig::default()), address, name).unwrap_err().to_string();
        let error = connect(address, "other.example");
        assert!(error.contains("other.example"), "{error}");
        let error = connect(address, "not a name");
        assert!(error.contains("not a name"), "{error}");
        let error = connect("127.0.0.1:0".parse().unwrap(), SERVER_NAME);
        assert!(error.contains("127.0.0.1:0"), "{error}");
        // No socket of IPv4 reaches it, now or later.
        let error = connect("[::1]:443".parse().unwrap(), SERVER_NAME);
        assert!(error.contains("[::1]:443"), "{error}");
        assert!(matches!(endpoint.connect(address, SERVER_NAME), Err(ConnectError::NoDefaultClientConfig)));
    });
}

#[test]
fn a_server_has_one_address_however_it_is_written() {
    on_workers(1, || {
        let server = Endpoint::server(server_config(TransportConfig::default()), loopback()).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = Endpoint::client("[::]:0".parse().unwrap()).unwrap();
        let short = TransportConfig::default().handshake_timeout(Duration::from_secs(2));
        for address in [format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
            let config = client_config(short.clone());
            let connection = client.connect_with(config, address.parse().unwrap(), SERVER_NAME).unwrap();
            assert_eq!(connection.remote_address(), (Ipv4Addr::LOCALHOST, port).into());
        }
    });
}

#[test]
fn a_busy_port_is_named_even_by_those_who_would_share_it() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let first = Endpoint::server(server_config(TransportConfig::default()), loopback()).unwrap();
            let address = first.local_addr().unwrap();
            let error = Endpoint::server(server_config(TransportConfig::default()), address).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        });
    }
}

#[test]
fn an_address_is_free_again_after_its_endpoint() {
    on_workers(2, || {
        let first = Endpoint::server(server_config(TransportConfig::default()), loopback()).unwrap();
        let address = first.local_addr().unwrap();
        drop(first);
        let freed = (0..100).any(|_| {
            weald_runtime::sleep(Duration::from_millis(10));
            Endpoint::server(server_config(TransportConfig::default()), address).is_ok()
        });
        assert!(freed);
    });
}

#[test]
fn outside_of_a_runtime_there_is_no_endpoint() {
    let error = Endpoint::client(loopback()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn a_shutdown_ends_all_waits() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let Pair { client, server, client_endpoint, server_endpoint } = runtime.run(Pair::new);
    let waiting = runtime.handle().spawn({
        let client = client.clone();
        move || client.accept_bi().unwrap_err()
    });
    let started = Barrier::new(3);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            started.wait();
            server.accept_bi().unwrap_err()
        });
        let accepting = scope.spawn(|| {
            started.wait();
            server_endpoint.accept().is_none()
        });
        started.wait();
        assert!(runtime.shutdown(Duration::from_secs(5)).is_clean());
        // A coroutine that had not begun never does.
        assert!(matches!(waiting.join(), Ok(ConnectionError::Cancelled) | Err(JoinError::ShutDown)));
        // The other end's worker may have had the time to say that it goes.
        assert!(thread.join().unwrap() != ConnectionError::Cancelled);
        assert!(accepting.join().unwrap());
    });
    assert!(client.close_reason().is_some());
    assert!(client_endpoint.open_connections() == 0);
}
