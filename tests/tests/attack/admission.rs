//! Strangers: what their first packets, stray packets and tokens cost a server, and what goes back to them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_crypto::Level;
use weald_crypto::simulation::SERVER_NAME;
use weald_quic::codec::{Crypto, NewToken, PathChallenge, Stream};
use weald_quic::{
    ConnectError, ConnectionError, Endpoint, RetryPolicy, ServerLimits, StreamId, TransportConfig, TransportErrorCode, VarInt,
};
use weald_runtime::net::UdpSocket;
use weald_runtime::sim::{self, Verdict};
use weald_runtime::{sleep, spawn};
use weald_tests::attack::echo;
use weald_tests::attacker::{Attacker, Closed, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::heap;
use weald_tests::world::{client_address, client_config, link, server_address, server_config, simulate};

const SECOND: Duration = Duration::from_secs(1);

/// Packets of one connection from everywhere: a connection lives at one address, and remembers nothing of others.
#[test]
fn packets_from_all_ports_are_dropped() {
    for (row, stage, kind, pad) in [
        ("PING from everywhere", Stage::Confirmed, Kind::OneRtt, 0),
        ("full datagrams from everywhere", Stage::Confirmed, Kind::OneRtt, 1200),
        ("Handshake packets from everywhere", Stage::HandshakeKeys, Kind::Handshake, 0),
    ] {
        under_attack(row, 1, Setup::new(1), |arena| {
            let mut client = arena.client(1);
            client.handshake(stage);
            for port in 1..=u16::MAX {
                client.spoof(SocketAddr::from(([10, 2, 0, 1], port)));
                client.packet(kind).raw(&[0x01]).pad_to(pad).send();
                if port % 100 == 0 {
                    sleep(Duration::from_millis(1));
                }
            }
            sleep(SECOND);
            client.stop_spoofing();
            client.handshake(Stage::Confirmed);
            client.expect_alive();
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
            for round in 0..20_000_u32 {
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
    for (row, screening) in [("clients that nobody accepts", false), ("clients that nobody looks at", true)] {
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
            assert!((40..=80).contains(&refused), "{row}: {refused} of 100 are refused");
            assert!(server.open_connections() <= 60, "{}", server.open_connections());
        });
    }
}

/// Long packets for connections that do not exist: there is neither an answer nor anything kept.
#[test]
fn packets_for_unknown_connections_leave_nothing() {
    for (row, first, count) in [
        ("0-RTT packets for a million unknown ids", 0xd0, 1_000_000_u64),
        ("Handshake packets for unknown ids", 0xe0, 100_000),
        ("Retry packets for unknown ids", 0xf0, 100_000),
    ] {
        under_attack(row, 1, Setup::new(1), |arena| {
            let socket = UdpSocket::bind(client_address(7)).expect("a socket");
            let connections = arena.server.open_connections();
            let dropped = arena.server.stats().dropped;
            let mut datagram = [&[first, 0, 0, 0, 1, 8][..], &[0; 8], &[8], &[0; 8], &[0x44, 0x00]].concat();
            datagram.resize(1200, 0x55);
            for round in 0..count {
                datagram[6..14].copy_from_slice(&round.to_be_bytes());
                socket.send_to(&datagram, server_address()).expect("it is sent");
                if round % 40 == 0 {
                    sleep(Duration::from_millis(5));
                }
            }
            sleep(SECOND);
            socket.set_read_timeout(Some(SECOND)).expect("a timeout");
            assert!(socket.recv_from(&mut [0; 2048]).is_err(), "an answer");
            assert_eq!(arena.server.open_connections(), connections);
            assert!(arena.server.stats().dropped - dropped > count * 3 / 4, "{:?}", arena.server.stats());
            arena.heap_below(3_000_000);
        });
    }
}

/// Tokens without end: a client keeps some of those that it could use.
#[test]
fn a_flood_of_tokens_is_bounded() {
    for (row, len, packets) in [("a hundred thousand short tokens", 8, 1_000), ("long tokens", 1000, 10_000)] {
        let end = client_under_attack(row, 1, move |mut server| {
            server.handshake(Stage::Confirmed);
            server.expect_alive();
            let before = heap::live();
            let mut number = 0_u64;
            for packet in 0..packets {
                let mut builder = server.packet(Kind::OneRtt);
                for _ in 0..(1000 / (len + 2)).max(1) {
                    number += 1;
                    let token = [&number.to_be_bytes()[..], &vec![0x55; len - 8]].concat();
                    builder = builder.frame(&NewToken { token: &token });
                }
                builder.send();
                if packet % 50 == 0 {
                    server.expect_alive();
                }
            }
            server.expect_alive();
            let grown = heap::live().saturating_sub(before);
            assert!(grown < 4_000_000, "{grown} bytes");
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
        for row in ["a random token", "nonsense for TLS", "an unknown version", "a close", "early data", "twenty packets", "nothing more"] {
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
                    "early data" => {
                        client.handshake(Stage::HelloSent);
                        let first = client.packet(Kind::Initial).raw(&[0x01]).pad_to(100).build();
                        let early = client.packet(Kind::ZeroRtt).raw(&[0x01]).pad_to(1100).build();
                        client.send(&[&first[..], &early].concat());
                        client.send(&early);
                        0
                    }
                    // RFC 9000, 8.1: a datagram counts once.
                    "twenty packets" => {
                        client.handshake(Stage::HelloSent);
                        let packets: Vec<u8> = (0..20).flat_map(|_| client.packet(Kind::Initial).raw(&[0x01]).pad_to(60).build()).collect();
                        client.send(&packets);
                        0
                    }
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

/// RFC 9000, 8.1, 9: nor does an address to which a connection seems to move.
#[test]
fn another_address_gets_nothing() {
    under_attack("a connection from another address", 1, Setup::new(1), |arena| {
        let elsewhere = UdpSocket::bind(client_address(50)).expect("a socket");
        elsewhere.set_read_timeout(Some(SECOND)).expect("a timeout");
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        let id = StreamId::from(VarInt::ZERO);
        for part in 0..20 {
            let stream = Stream { id, offset: 1000 * part, fin: part == 19, data: &[7; 1000] };
            let packet = client.packet(Kind::OneRtt).frame(&stream).build();
            // All but the first: the echo would go there.
            if part == 0 {
                client.send(&packet);
            } else {
                elsewhere.send_to(&packet, server_address()).expect("it is sent");
            }
        }
        for _ in 0..100 {
            let challenge = client.packet(Kind::OneRtt).frame(&PathChallenge([7; 8])).pad_to(1200).build();
            elsewhere.send_to(&challenge, server_address()).expect("it is sent");
        }
        assert!(elsewhere.recv_from(&mut [0; 2048]).is_err(), "an answer");
        client.expect_alive();
    });
    under_attack("a handshake from another address", 2, Setup::new(2), |arena| {
        let elsewhere = UdpSocket::bind(client_address(50)).expect("a socket");
        elsewhere.set_read_timeout(Some(SECOND)).expect("a timeout");
        let mut client = arena.client(1);
        client.handshake(Stage::HandshakeKeys);
        for kind in [Kind::Initial, Kind::Handshake].repeat(50) {
            let packet = client.packet(kind).raw(&[0x01]).pad_to(1200).build();
            elsewhere.send_to(&packet, server_address()).expect("it is sent");
        }
        assert!(elsewhere.recv_from(&mut [0; 2048]).is_err(), "an answer");
        client.handshake(Stage::Confirmed);
        client.expect_alive();
    });
}

/// Datagrams of no bytes (curl, CVE-2026-11352): to a server, from strangers and from where a client is; and to a client.
#[test]
fn datagrams_of_no_bytes() {
    under_attack("empty datagrams to a server", 1, Setup::new(1), |arena| {
        let socket = UdpSocket::bind(client_address(50)).expect("a socket");
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        for round in 0..100_000 {
            socket.send_to(&[], server_address()).expect("it is sent");
            client.send(&[]);
            if round % 40 == 0 {
                sleep(Duration::from_millis(1));
            }
        }
        socket.set_read_timeout(Some(SECOND)).expect("a timeout");
        assert!(socket.recv_from(&mut [0; 2048]).is_err(), "an answer");
        client.expect_alive();
        arena.heap_below(3_000_000);
    });
    let end = client_under_attack("empty datagrams to a client", 2, |mut server| {
        server.handshake(Stage::HandshakeKeys);
        for stage in [Stage::Complete, Stage::Confirmed] {
            for round in 0..10_000 {
                server.send(&[]);
                if round % 40 == 0 {
                    sleep(Duration::from_millis(1));
                }
            }
            server.handshake(stage);
        }
        server.expect_alive();
    });
    assert_eq!(end, None);
}

/// Panic of quinn (CVE-2024-45311): a client that shows its address by a Retry, is then turned away, ignored or let in, and sends the same
/// packet again; and again with a bit flipped, before the packet as it should be.
#[test]
fn the_same_first_packet_again_after_a_retry() {
    for row in ["refused after a Retry", "ignored after a Retry", "dropped after a Retry", "let in after a Retry"] {
        simulate(1, link(), || {
            let config = server_config(1, TransportConfig::default()).screening(true);
            let server = Endpoint::server(config, server_address()).expect("a server");
            let deciding = server.clone();
            let is_lenient = Arc::new(AtomicBool::new(false));
            let lenient = Arc::clone(&is_lenient);
            spawn(move || {
                while let Some(incoming) = deciding.accept_incoming() {
                    match incoming.retry() {
                        Ok(()) => {}
                        Err(incoming) if row.starts_with("let in") || lenient.load(Ordering::Relaxed) => {
                            spawn(move || incoming.accept().map(|connection| echo(&connection)));
                        }
                        Err(incoming) if row.starts_with("refused") => incoming.refuse(),
                        Err(incoming) if row.starts_with("ignored") => incoming.ignore(),
                        Err(incoming) => drop(incoming),
                    }
                }
            });
            let hello = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&hello);
            let mut client = Attacker::client(1, client_address(1), server_address()).crypto(move |level, data| {
                if level == Level::Initial {
                    *kept.lock().expect("nobody panics") = std::mem::take(data);
                }
            });
            client.handshake(Stage::HelloSent);
            let hello = hello.lock().expect("nobody panics").clone();
            client.packet(Kind::Initial).frame(&Crypto { offset: 0, data: &hello }).send();
            client.next(SECOND).expect("a Retry");
            let validated = client.packet(Kind::Initial).frame(&Crypto { offset: 0, data: &hello }).build();
            for round in 0..300 {
                let mut damaged = validated.clone();
                damaged[1199 - round] ^= 1;
                client.send(&damaged);
                client.send(&validated);
                if round % 20 == 0 {
                    sleep(Duration::from_millis(5));
                }
            }
            let stats = server.stats();
            match row {
                "let in after a Retry" => {
                    client.handshake(Stage::Confirmed);
                    client.expect_alive();
                    assert_eq!((stats.accepted, server.open_connections()), (1, 1));
                }
                _ => {
                    let closed = client.run(SECOND);
                    let code = TransportErrorCode::CONNECTION_REFUSED.as_u64();
                    let is_told = matches!(closed, Some(Closed::Transport { code: told, .. }) if told == code);
                    assert_eq!(is_told, row != "ignored after a Retry", "{row}: {closed:?}");
                    assert_eq!((stats.accepted, server.open_connections()), (0, 0), "{row}");
                    // The server is none the worse for it, and the token was not used.
                    sleep(SECOND);
                    is_lenient.store(true, Ordering::Relaxed);
                    client.send(&validated);
                    sleep(SECOND);
                    assert_eq!((server.stats().accepted, server.stats().invalid_tokens), (1, 0), "{row}");
                }
            }
            server.close(0_u32.into(), b"");
        });
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
