//! Strangers: what their first packets, stray packets and tokens cost a server, and what goes back to them.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::simulation::SERVER_NAME;
use weald_quic::codec::NewToken;
use weald_quic::{ConnectError, ConnectionError, Endpoint, RetryPolicy, ServerLimits, TransportConfig, TransportErrorCode};
use weald_runtime::net::UdpSocket;
use weald_runtime::sim::{self, Verdict};
use weald_runtime::{sleep, spawn};
use weald_tests::attacker::{Attacker, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::world::{client_address, client_config, link, server_address, server_config, simulate};

const SECOND: Duration = Duration::from_secs(1);

/// Packets of one connection from everywhere: a connection lives at one address, and remembers nothing of others.
#[test]
fn packets_from_thousands_of_ports_are_dropped() {
    for (row, pad) in [("PING from everywhere", 0), ("full datagrams from everywhere", 1200)] {
        under_attack(row, 1, Setup::new(1), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::Confirmed);
            client.expect_alive();
            for port in 1..=3_000 {
                client.spoof(SocketAddr::from(([10, 2, (port >> 8) as u8, port as u8], 1000 + port)));
                client.packet(Kind::OneRtt).raw(&[0x01]).pad_to(pad).send();
            }
            sleep(SECOND);
            arena.memory_below(60_000);
            let stats = arena.connections()[0].stats();
            assert!(stats.packets_received < 100, "{stats:?}");
        });
    }
}

/// CVE-2025-54939: an Initial packet, and behind it in the datagram packets for others.
#[test]
fn packets_for_others_in_a_datagram_cost_nothing() {
    for (row, kind) in [("Handshake packets for others", 0xe0), ("Initial packets for others", 0xc0), ("0-RTT packets for others", 0xd0)] {
        under_attack(row, 1, Setup::new(1), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::HandshakeKeys);
            let connections = arena.server.open_connections();
            for round in 0..2_000_u32 {
                let mut datagram = client.packet(Kind::Initial).raw(&[0x01]).pad_to(100).build();
                while datagram.len() < 1200 {
                    // Ids of eight bytes that nobody has, and 30 bytes of what could be a packet.
                    datagram.extend_from_slice(&[kind, 0, 0, 0, 1, 8]);
                    datagram.extend_from_slice(&u64::from(round + datagram.len() as u32).to_be_bytes());
                    datagram.extend_from_slice(&[0]);
                    if kind == 0xc0 {
                        datagram.push(0);
                    }
                    datagram.extend_from_slice(&[30; 31]);
                }
                client.send(&datagram);
                if round % 100 == 0 {
                    sleep(Duration::from_millis(1));
                }
            }
            sleep(SECOND);
            assert_eq!(arena.server.open_connections(), connections);
            arena.heap_below(3_000_000);
        });
    }
}

/// RFC 9000, 12.2: what is coalesced with a packet for another id is not opened, though the keys fit.
#[test]
fn a_second_id_in_a_datagram_is_not_listened_to() {
    under_attack("two ids in a datagram", 1, Setup::new(1), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::HandshakeKeys);
        for id in [&[1; 8][..], &[2; 18], &[]] {
            let ping = client.packet(Kind::Initial).raw(&[0x01]).pad_to(1200).build();
            let close = client.packet(Kind::Handshake).dcid(id).raw(&[0x1c, 0, 0, 0]).build();
            client.send(&[ping, close].concat());
        }
        client.handshake(Stage::Confirmed);
        client.expect_alive();
    });
}

/// Packets from one socket for connections of several workers, in turn: those that land wrong are forwarded once, and no more
/// of them than the inbox holds.
#[test]
fn packets_for_connections_of_several_workers_are_forwarded_once() {
    for (row, len, burst) in [("short packets for all workers", 60, 50), ("a burst of full datagrams for all workers", 1200, 3_000)] {
        under_attack(row, 1, Setup::new(1), |arena| {
            let mut clients: Vec<_> = (1..=6).map(|number| arena.client(number)).collect();
            clients.iter_mut().for_each(|client| client.handshake(Stage::Confirmed));
            clients.iter_mut().for_each(|client| client.expect_alive());
            let ids: Vec<_> = clients.iter().map(|client| client.destination_id()).collect();
            let received = || arena.connections().iter().map(|connection| connection.stats().packets_received).sum::<u64>();
            let before = received();
            let socket = UdpSocket::bind(client_address(77)).expect("a socket");
            for round in 0..6_000 {
                let mut datagram = [&[0x41][..], ids[round % ids.len()].as_slice()].concat();
                datagram.resize(len, round as u8);
                socket.send_to(&datagram, server_address()).expect("it is sent");
                if round % burst == 0 {
                    sleep(Duration::from_millis(5));
                }
            }
            sleep(SECOND);
            let stats = arena.server.stats();
            assert!((1_000..=6_000).contains(&stats.forwarded), "{stats:?}");
            assert_eq!(received(), before, "another address is another's");
            arena.heap_below(12_000_000);
            clients.iter_mut().for_each(|client| client.expect_alive());
        });
    }
}

/// CVE-2026-14456: clients that nobody accepts. They are bounded by the backlog, and those past it are told.
#[test]
fn connections_that_the_application_never_accepts_are_bounded() {
    for screening in [false, true] {
        simulate(1, link(), || {
            let limits = ServerLimits::default().backlog(20);
            let config = server_config(1, TransportConfig::default()).limits(limits).screening(screening);
            let server = Endpoint::server(config, server_address()).expect("a server");
            let clients: Vec<_> = (1..=100)
                .map(|number| {
                    spawn(move || {
                        sleep(Duration::from_millis(number.into()));
                        let endpoint = Endpoint::client(client_address(number)).expect("a client");
                        let config = client_config(number.into(), TransportConfig::default());
                        endpoint.connect_with(config, server_address(), SERVER_NAME)
                    })
                })
                .collect();
            let results: Vec<_> = clients.into_iter().map(|client| client.join().expect("it does not panic")).collect();
            let refused = results.iter().filter(|result| match result {
                Err(ConnectError::Connection(ConnectionError::ConnectionClosed(close))) => {
                    assert_eq!(close.code, TransportErrorCode::CONNECTION_REFUSED);
                    true
                }
                Err(ConnectError::Connection(ConnectionError::TimedOut)) => {
                    assert!(screening, "nobody answers those who wait");
                    false
                }
                Err(error) => panic!("{error}"),
                Ok(_) => false,
            });
            // On each of two workers, and those on their way when it fills.
            let refused = refused.count();
            assert!((40..=80).contains(&refused), "{refused} of 100 are refused");
            assert!(server.open_connections() <= 60, "{}", server.open_connections());
        });
    }
}

/// Long packets for connections that do not exist: there is neither an answer nor anything kept.
#[test]
fn packets_for_unknown_connections_leave_nothing() {
    for (row, first) in [("0-RTT packets for unknown ids", 0xd0), ("Handshake packets for unknown ids", 0xe0), ("Retry packets", 0xf0)] {
        under_attack(row, 1, Setup::new(1), |arena| {
            let socket = UdpSocket::bind(client_address(7)).expect("a socket");
            let connections = arena.server.open_connections();
            let dropped = arena.server.stats().dropped;
            for round in 0..20_000_u64 {
                let mut datagram = [&[first, 0, 0, 0, 1, 8][..], &round.to_be_bytes(), &[8], &round.to_be_bytes()].concat();
                datagram.extend_from_slice(&[0x44, 0x00]);
                datagram.resize(1200, 0x55);
                socket.send_to(&datagram, server_address()).expect("it is sent");
                if round % 40 == 0 {
                    sleep(Duration::from_millis(5));
                }
            }
            sleep(SECOND);
            socket.set_read_timeout(Some(SECOND)).expect("a timeout");
            assert!(socket.recv_from(&mut [0; 2048]).is_err(), "an answer");
            assert_eq!(arena.server.open_connections(), connections);
            assert!(arena.server.stats().dropped - dropped > 15_000, "{:?}", arena.server.stats());
            arena.heap_below(3_000_000);
        });
    }
}

/// Tokens without end: a client keeps some of those that it could use.
#[test]
fn a_flood_of_tokens_is_bounded() {
    for (row, len, rounds) in [("short tokens", 1, 20_000), ("long tokens", 1000, 3_000)] {
        let end = client_under_attack(row, 1, move |mut server| {
            server.handshake(Stage::Confirmed);
            for round in 0..rounds {
                let token = vec![round as u8; len];
                server.packet(Kind::OneRtt).frame(&NewToken { token: &token }).send();
                if round % 50 == 0 {
                    server.expect_alive();
                }
            }
            server.expect_alive();
        });
        assert_eq!(end, None, "{row}");
    }
}

/// RFC 9000, 10.3.3: two endpoints that know nothing of each other, and one packet between them.
#[test]
fn two_endpoints_do_not_talk_for_ever() {
    for len in (1..=60).chain([100, 1200, 1452]) {
        let (one, two) = (server_address(), SocketAddr::from(([10, 0, 0, 2], 443)));
        simulate(len as u64, link(), || {
            let open = |address| Endpoint::server(server_config(1, TransportConfig::default()), address).expect("a server");
            let other = open(two);
            let mut datagram = vec![0x41; len];
            fastrand::Rng::with_seed(len as u64).fill(&mut datagram[1..]);
            // Who forged it is gone when the answer comes to the first endpoint.
            let forger = UdpSocket::bind(one).expect("a socket");
            forger.send_to(&datagram, two).expect("it is sent");
            drop(forger);
            let first = open(one);
            sleep(60 * SECOND);
            let between = |entry: &&sim::TraceEntry| matches!(entry.verdict, Verdict::Sent { .. });
            let sizes: Vec<_> = sim::trace().iter().filter(between).map(|entry| entry.size).collect();
            assert!(sizes.len() < 60, "{} answers to {len} bytes", sizes.len());
            assert!(sizes.windows(2).all(|pair| pair[1] < pair[0]), "{sizes:?}");
            drop((first, other));
        });
    }
}

/// RFC 9000, 8.1: whatever a client says before its address is known, it gets no more than three times as much.
#[test]
fn nobody_gets_more_than_three_times_what_it_sent() {
    for policy in [RetryPolicy::Never, RetryPolicy::Always] {
        for row in ["a random token", "nonsense for TLS", "an unknown version", "a close", "nothing more"] {
            let server = weald_tests::world::server_config_with_chain(1, TransportConfig::default(), 60).retry(policy);
            simulate(1, link(), || {
                let server = weald_tests::attack::serve(server);
                let mut client = Attacker::client(1, client_address(1), server_address());
                match row {
                    "a random token" => client.packet(Kind::Initial).token(&[0x55; 100]).raw(&[0x01]).send(),
                    "nonsense for TLS" => client.packet(Kind::Initial).raw(&[0x06, 0, 4, 1, 0, 0, 0]).send(),
                    "an unknown version" => {
                        let mut packet = client.packet(Kind::Initial).raw(&[0x01]).build();
                        packet[1..5].copy_from_slice(&[0x5a, 0x5a, 0x5a, 0x5a]);
                        client.send(&packet);
                        0
                    }
                    "a close" => client.packet(Kind::Initial).raw(&[0x1c, 0, 0, 0]).send(),
                    _ => {
                        client.handshake(Stage::HelloSent);
                        0
                    }
                };
                while client.next_raw(20 * SECOND).is_some() {}
                let (received, sent) = (client.bytes_received(), client.bytes_sent());
                assert!((received > 0 || row == "a close") && received <= 3 * sent, "{row}: {received} for {sent}");
                server.close(0_u32.into(), b"");
            });
        }
    }
}

/// CVE-2026-44434: datagrams that end as a reset with an empty token would, at each stage of a connection.
#[test]
fn a_datagram_that_ends_in_zeros_resets_nothing() {
    for stage in [Stage::HandshakeKeys, Stage::Complete, Stage::Confirmed] {
        let end = client_under_attack("zeros for a reset token", 1, move |mut server| {
            server.handshake(stage);
            for len in [21, 43, 100, 1200] {
                for first in [0x40, 0x4f, 0xc0] {
                    let mut datagram = vec![0; len];
                    datagram[0] = first;
                    server.send(&datagram);
                }
            }
            server.handshake(Stage::Confirmed);
            server.expect_alive();
        });
        assert_eq!(end, None);
    }
    under_attack("zeros for a reset token", 2, Setup::new(2), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        for len in 21..100 {
            let mut datagram = [&[0x41][..], client.destination_id().as_slice()].concat();
            datagram.resize(datagram.len().max(len), 0);
            client.send(&datagram);
        }
        client.expect_alive();
    });
}
