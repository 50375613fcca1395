//! Attacks on a connection as a whole: frames that ask for answers, keys that change too often, periods too short to live by, and
//! addresses that a server would have its clients go to.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use weald_crypto::simulation;
use weald_quic::codec::{Frame, PathChallenge, Ping, Stream};
use weald_quic::{ConnectionError, Endpoint, RetryPolicy, StreamId, TransportConfig, VarInt};
use weald_runtime::net::{RecvBatch, UdpSocket};
use weald_runtime::sim::{LinkConfig, NetworkConfig, Simulation, network};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::attack::serve;
use weald_tests::attacker::{AckPolicy, Attacker, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::hand::{parameter, parameters};
use weald_tests::world::{client_address, client_config, link, receive, send, server_address, server_config, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
const KEY_UPDATE_ERROR: u64 = 0x0e;

/// A connected attacker that has nothing left to read.
fn connected(arena: &weald_tests::attacker::Arena, number: u16) -> Attacker {
    let mut client = arena.client(number);
    client.handshake(Stage::Confirmed);
    while client.next(SECOND).is_some() {}
    client
}

/// PATH_CHALLENGE without end, while nothing is acknowledged that would let answers be forgotten (CVE-2023-49295).
#[test]
fn challenges_are_not_queued() {
    for (seed, row, policy) in [(1, "PATH_CHALLENGE without ACKs", AckPolicy::Never), (2, "PATH_CHALLENGE with ACKs", AckPolicy::Honest)] {
        under_attack(row, seed, Setup::new(seed), |arena| {
            let mut client = connected(arena, 1);
            client.acks(policy);
            let challenges = |client: &mut Attacker, packet: u64| {
                let mut builder = client.packet(Kind::OneRtt);
                for challenge in 0..100u64 {
                    builder = builder.frame(&PathChallenge((packet << 16 | challenge).to_be_bytes()));
                }
                builder.send();
            };
            let answers = |client: &mut Attacker| {
                let seen = std::iter::from_fn(|| client.next(SECOND / 20));
                seen.map(|seen| seen.frames().filter(|frame| matches!(frame, Frame::PathResponse(_))).count()).sum::<usize>()
            };
            // What is not acknowledged fills the congestion window, and then nothing is answered.
            let mut all = 0;
            for packet in 0..100 {
                challenges(&mut client, packet);
                let answers = answers(&mut client);
                assert!(answers <= 3, "{answers} answers to a packet");
                all += answers;
            }
            assert!(all >= 3);
            // A million, as fast as they go out.
            for packet in 0..10_000 {
                challenges(&mut client, packet);
                if packet % 100 == 0 {
                    sleep(SECOND / 1000);
                }
            }
            let answers = answers(&mut client);
            assert!(answers <= 3 * 10_000, "{answers}");
            arena.memory_below(64 * 1024);
            arena.heap_below(8_000_000);
        });
    }
}

/// PING without end is answered by acknowledgements alone, every second one at most.
#[test]
fn pings_cost_less_to_answer_than_to_send() {
    for (row, policy, padded) in [
        ("PING with ACKs", AckPolicy::Honest, 0),
        ("PING without ACKs", AckPolicy::Never, 0),
        ("PING in full datagrams", AckPolicy::Never, 1200),
    ] {
        under_attack(row, 2, Setup::new(2), |arena| {
            let mut client = connected(arena, 1);
            client.acks(policy);
            let (sent, received) = (client.bytes_sent(), client.bytes_received());
            for _ in 0..20 {
                for _ in 0..250 {
                    client.packet(Kind::OneRtt).frame(&Ping).pad_to(padded).send();
                }
                while client.next(SECOND / 100).is_some() {}
            }
            let (sent, received) = (client.bytes_sent() - sent, client.bytes_received() - received);
            assert!(received < sent, "{received} bytes for {sent}");
            // One at a time: each second one is answered.
            while client.next(SECOND / 20).is_some() {}
            let mut answers = 0;
            for _ in 0..50 {
                for _ in 0..2 {
                    client.packet(Kind::OneRtt).frame(&Ping).pad_to(padded).send();
                    sleep(SECOND / 200);
                }
                answers += std::iter::from_fn(|| client.next(SECOND / 20)).count();
            }
            assert!((50..=60).contains(&answers), "{answers} answers to 100");
            arena.memory_below(64 * 1024);
            client.acks(AckPolicy::Honest);
            client.expect_alive();
        });
    }
}

/// A peer that flips the key phase with each packet is told so once it outruns the acknowledgement of the update before
/// (RFC 9001, 6.2), and one whose packets do not authenticate changes nothing, however they look.
#[test]
fn a_flood_of_key_updates() {
    under_attack("phase flipped each packet", 3, Setup::new(3), |arena| {
        let mut client = connected(arena, 1);
        for _ in 0..4 {
            client.update_keys();
            client.packet(Kind::OneRtt).frame(&Ping).send();
        }
        client.expect_close(KEY_UPDATE_ERROR);
        arena.work_below(1_000);
    });
    under_attack("phase flipped without keys", 4, Setup::new(4), |arena| {
        let mut client = connected(arena, 1);
        let updates = arena.connections()[0].stats().key_updates;
        for packet in 0..1000 {
            client.packet(Kind::OneRtt).phase(packet % 2 == 0).frame(&Ping).send();
        }
        while client.next(SECOND / 10).is_some() {}
        assert_eq!(arena.connections()[0].stats().key_updates, updates, "the bit alone is no update");
        client.expect_alive();
    });
    under_attack("an update by the first packet", 5, Setup::new(5), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Complete);
        client.update_keys();
        client.expect_alive();
        // The server has answered with new keys, and acknowledged: the next is permitted, the one after it is not.
        for _ in 0..2 {
            client.update_keys();
            client.packet(Kind::OneRtt).frame(&Ping).send();
        }
        client.expect_close(KEY_UPDATE_ERROR);
    });
    under_attack("an update for each packet that was acknowledged", 6, Setup::new(6), |arena| {
        let mut client = connected(arena, 1);
        for _ in 0..500 {
            client.update_keys();
            client.expect_alive();
        }
        assert_eq!(arena.connections()[0].stats().key_updates, 500);
        arena.memory_below(64 * 1024);
    });
}

/// The same by a server, to whom the handshake is not even confirmed (RFC 9001, 6.1).
#[test]
fn a_flood_of_key_updates_by_a_server() {
    let ended = client_under_attack("phase flipped before the handshake is confirmed", 7, |mut server| {
        server.handshake(Stage::Complete);
        for _ in 0..4 {
            server.update_keys();
            server.packet(Kind::OneRtt).frame(&Ping).send();
        }
        server.expect_close(KEY_UPDATE_ERROR);
    });
    assert!(ended.is_some());
    let ended = client_under_attack("phase flipped without keys before the handshake is confirmed", 8, |mut server| {
        server.handshake(Stage::Complete);
        for packet in 0..1000 {
            server.packet(Kind::OneRtt).phase(packet % 2 == 0).frame(&Ping).send();
        }
        server.handshake(Stage::Confirmed);
        server.expect_alive();
    });
    assert_eq!(ended, None);
}

/// Idle timeouts far below a round trip: a connection lives for three probe timeouts even so (RFC 9000, 10.1).
#[test]
fn an_idle_timeout_of_a_millisecond() {
    for (row, millis) in [("an idle timeout of 1 ms", 1_u8), ("an idle timeout of 5 ms", 5)] {
        under_attack(row, 7, Setup::new(7), |arena| {
            let declared = move |ids: &weald_tests::attacker::Ids| {
                let mut out = parameters(&ids.source);
                parameter(&mut out, 0x01, &[millis]);
                out
            };
            let mut client = arena.client(1).parameters(declared);
            client.handshake(Stage::Confirmed);
            let id = StreamId::from(VarInt::ZERO);
            client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"echo" }).send();
            let mut echoed = false;
            while let Some(seen) = client.next(SECOND / 20) {
                echoed |= seen.frames().any(|frame| matches!(frame, Frame::Stream(Stream { data: b"echo", .. })));
            }
            assert!(echoed, "the connection lived too short");
            // And no longer than it should.
            sleep(3 * SECOND);
            assert!(matches!(arena.connections()[0].close_reason(), Some(ConnectionError::TimedOut)));
        });
    }
}

/// A server that would have its clients send to an address of their own network (RFC 9000, 21.5): nothing is sent there.
#[test]
fn a_preferred_address_that_is_not_the_servers() {
    for (seed, row, victim) in [
        (8, "a preferred address of the loopback", Ipv4Addr::LOCALHOST),
        (9, "a preferred address beside the client", Ipv4Addr::new(10, 0, 0, 77)),
        (10, "a preferred address of a private network", Ipv4Addr::new(192, 168, 1, 1)),
    ] {
        simulate_untraced(seed, link(), move || {
            let at = SocketAddr::from(([10, 0, 0, 2], 443));
            let listening = UdpSocket::bind(SocketAddr::from(([10, 0, 0, 77], 443))).expect("a free address");
            let mut server = Attacker::server(seed, at).parameters(move |ids| {
                let mut out = parameters(&ids.source);
                parameter(&mut out, 0x00, &ids.original);
                let mut preferred = victim.octets().to_vec();
                preferred.extend(443u16.to_be_bytes());
                preferred.extend([0; 18]);
                preferred.push(8);
                preferred.extend([0x77; 8]);
                preferred.extend([0x88; 16]);
                parameter(&mut out, 0x0d, &preferred);
                out
            });
            let serving = spawn(move || {
                server.handshake(Stage::Confirmed);
                server.expect_alive();
                // For as long as a client takes that tries both.
                for _ in 0..10 {
                    let _ = server.next(SECOND);
                }
                server.expect_alive();
            });
            let endpoint = Endpoint::client(client_address(1)).expect("a client");
            let config = client_config(seed, TransportConfig::default().keep_alive(Some(SECOND / 2)));
            let connection = endpoint.connect_with(config, at, simulation::SERVER_NAME).expect("a connection");
            serving.join().expect("the server is still spoken to");
            assert_eq!(connection.remote_address(), at, "{row}");
            assert!(connection.close_reason().is_none());
            let mut batch = RecvBatch::new();
            assert!(listening.try_recv_batch(&mut batch).is_err(), "{row}: something was sent to the victim");
        });
    }
}

/// A peer that is gone for a day, where nobody gives up: probes back off to one a minute, however many there were, and when it is back
/// all goes on (a probe count of 64 ended quiche and quinn).
#[test]
fn probes_for_a_day() {
    for (row, delay) in [("probes for a day, from near", SECOND / 1000), ("probes for a day, from far", SECOND)] {
        let patient = || TransportConfig::default().max_idle_timeout(None).handshake_timeout(100 * SECOND);
        simulate_untraced(3, LinkConfig { delay, ..link() }, || {
            let server = serve(server_config(3, patient()));
            let endpoint = Endpoint::client(client_address(1)).expect("a client");
            let connection =
                endpoint.connect_with(client_config(3, patient()), server_address(), simulation::SERVER_NAME).expect("a connection");
            let exchange = |outage: Duration| {
                let network = network().expect("a simulation");
                let (mut out, mut input) = connection.open_bi().expect("a stream");
                network.blackhole(client_address(1).ip(), server_address().ip());
                out.write_all(b"is anybody there").expect("there is room");
                out.finish().expect("it is open");
                sleep(outage);
                network.lift_blackhole(client_address(1).ip(), server_address().ip());
                assert_eq!(input.read_to_end(100).expect("it arrives"), b"is anybody there");
            };
            // The server, too, has to know that the handshake is over.
            exchange(Duration::ZERO);
            let before = connection.stats().probe_timeouts;
            exchange(24 * 3600 * SECOND);
            let probes = connection.stats().probe_timeouts - before;
            assert!((1_400..1_500).contains(&probes), "{row}: {probes}");
            server.close(0_u32.into(), b"");
        });
    }
}

/// Clocks that have just begun, and one that is about to end: a machine that has just booted, and one that never does.
#[test]
fn the_clock_just_after_boot_and_near_its_end() {
    for begin in [0, 1, 1_000_000, u64::MAX - 60_000_000_000] {
        let network = NetworkConfig { link: link(), trace: false, ..NetworkConfig::default() };
        Simulation::new(4).network(network).begin(Instant::from_nanos(begin)).run(|| {
            let server = serve(server_config(4, TransportConfig::default()).retry(RetryPolicy::Always));
            let endpoint = Endpoint::client(client_address(1)).expect("a client");
            let config = client_config(4, TransportConfig::default());
            for round in 0..2 {
                let connection = endpoint.connect_with(config.clone(), server_address(), simulation::SERVER_NAME).expect("a connection");
                let (mut out, mut input) = connection.open_bi().expect("a stream");
                send(&mut out, round, 100_000);
                receive(&mut input, round, 100_000);
                sleep(SECOND);
                assert!(connection.stats().rtt < SECOND && connection.close_reason().is_none(), "{begin}");
            }
            server.close(0_u32.into(), b"");
        });
    }
}
