//! What no single frame or packet asks for: many clients, clients that wait, packets behind a close, probes that are none, marks without
//! end. Each is bounded by a limit of the configuration or of the protocol.

use std::time::Duration;

use weald_quic::codec::{AckToSend, EcnCounts, Frame, Ping, Stream};
use weald_quic::{Endpoint, EndpointConfig, Governor, PacketNumber, ServerLimits, StreamId, TransportConfig, TransportErrorCode, VarInt};
use weald_runtime::{sleep, spawn};
use weald_tests::attack::serve;
use weald_tests::attacker::{AckPolicy, Application, Attacker, Closed, Ended, Kind, Setup, Stage, under_attack};
use weald_tests::heap;
use weald_tests::world::{client_address, link, server_address, server_config, simulate, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
const KEY_UPDATE_ERROR: u64 = 0x0e;

/// More clients than the server may have: those past the limit are told so, and get in when others have gone.
#[test]
fn connections_past_the_limit() {
    const LIMIT: usize = 5;
    for (row, goes_on) in [("clients that come and stay", false), ("clients that come again and again", true)] {
        simulate_untraced(1, link(), || {
            let config = server_config(1, TransportConfig::default());
            let server = serve(config.limits(ServerLimits::default().max_connections(Some(LIMIT))));
            let mut clients = Vec::new();
            let mut refused = 0;
            for number in 1..=30 {
                let mut client = Attacker::client(number.into(), client_address(number), server_address());
                match client.try_handshake(Stage::Confirmed) {
                    Ok(()) => {
                        // A peer that acknowledges late is thought to be far away, and its connection takes long to close.
                        while client.next(SECOND / 20).is_some() {}
                        clients.push(client);
                    }
                    Err(Ended::Closed(Closed::Transport { code, .. })) => {
                        assert_eq!(code, TransportErrorCode::CONNECTION_REFUSED.as_u64(), "{row}");
                        refused += 1;
                        if goes_on {
                            let mut gone = clients.remove(0);
                            gone.packet(Kind::OneRtt).raw(&[0x1c, 0, 0, 0]).send();
                            sleep(10 * SECOND);
                            clients.iter_mut().for_each(Attacker::expect_alive);
                        }
                    }
                    Err(other) => panic!("{row}: {other:?}"),
                }
                assert!(server.open_connections() <= LIMIT, "{row}: {}", server.open_connections());
            }
            assert!(refused >= 10 && clients.iter_mut().all(|client| client.closed().is_none()), "{row}: {refused}");
            clients.iter_mut().for_each(Attacker::expect_alive);
            server.close(0_u32.into(), b"");
        });
    }
}

/// RFC 9000, 14.1: a client's first datagram that is too short buys nothing, however good the packet in it is.
#[test]
fn first_datagrams_that_are_too_short() {
    for (row, len) in [("a first datagram a byte too short", 1199), ("half a first datagram", 600), ("the shortest first datagram", 0)] {
        under_attack(row, 8, Setup::new(8), |arena| {
            let connections = arena.server.open_connections();
            let mut client = arena.client(1);
            for _ in 0..20 {
                client.packet(Kind::Initial).frame(&Ping).pad_to(len).send();
            }
            client.expect_silence();
            assert_eq!(arena.server.open_connections(), connections, "{row}");
        });
    }
}

/// A budget for all connections that attackers use up: with data that nobody reads, and with pieces between gaps. It is kept, who comes then
/// is told to go, and when it is free again all is as before.
#[test]
fn memory_that_attackers_hold() {
    const BUDGET: usize = 2 << 20;
    for (row, step) in [("memory held by what nobody reads", 1_000), ("memory held by what has gaps", 1_010)] {
        simulate_untraced(9, link(), || {
            let governor = Governor::new(BUDGET);
            let config = server_config(9, TransportConfig::default());
            let endpoint = EndpointConfig::new().governor(governor.clone());
            let server = Endpoint::server_with(&endpoint, config, server_address()).expect("a server");
            let accepting = server.clone();
            spawn(move || {
                while let Some(connection) = accepting.accept() {
                    spawn(move || connection.closed());
                }
            });
            let mut attackers: Vec<_> =
                (1..=10).map(|number| Attacker::client(number.into(), client_address(number), server_address())).collect();
            attackers.iter_mut().for_each(|attacker| attacker.handshake(Stage::Confirmed));
            let mut most = 0;
            for piece in 0..500 {
                for attacker in &mut attackers {
                    let id = StreamId::from(VarInt::ZERO);
                    attacker.packet(Kind::OneRtt).frame(&Stream { id, offset: step * piece, fin: false, data: &[7; 1000] }).send();
                }
                sleep(Duration::from_millis(1));
                most = most.max(governor.held());
            }
            // A run of datagrams for each connection may come in before its lease is looked at.
            assert!((BUDGET..BUDGET + 10 * 64 * 1024).contains(&most), "{row}: {most} bytes");
            let mut late = Attacker::client(99, client_address(99), server_address());
            let refused = TransportErrorCode::CONNECTION_REFUSED.as_u64();
            match late.try_handshake(Stage::Confirmed) {
                Err(Ended::Closed(Closed::Transport { code, .. })) if code == refused => {}
                other => panic!("{row}: {other:?}"),
            }
            for attacker in &mut attackers {
                attacker.packet(Kind::OneRtt).raw(&[0x1c, 0, 0, 0]).send();
            }
            sleep(60 * SECOND);
            assert!(governor.held() < BUDGET / 2, "{row}: {} bytes", governor.held());
            Attacker::client(100, client_address(100), server_address()).handshake(Stage::Confirmed);
            server.close(0_u32.into(), b"");
        });
    }
}

/// A client that waits for the application's word and goes on sending meanwhile: of each some datagrams are kept.
#[test]
fn clients_that_wait_and_go_on_sending() {
    for (row, clients) in [("a client that waits and sends without end", 1), ("twenty clients that wait and send", 20)] {
        simulate_untraced(2, link(), || {
            let config = server_config(2, TransportConfig::default()).screening(true);
            let server = Endpoint::server(config, server_address()).expect("a server");
            let asked = server.clone();
            let asking = spawn(move || {
                let mut waiting = Vec::new();
                while let Some(incoming) = asked.accept_incoming() {
                    waiting.push(incoming);
                }
                waiting.len()
            });
            let mut attackers: Vec<_> =
                (1..=clients).map(|number| Attacker::client(number.into(), client_address(number), server_address())).collect();
            attackers.iter_mut().for_each(|attacker| attacker.handshake(Stage::HelloSent));
            let before = heap::live();
            for round in 0..20_000 / usize::from(clients) {
                for attacker in &mut attackers {
                    attacker.packet(Kind::Initial).frame(&Ping).send();
                }
                if round % 10 == 0 {
                    sleep(Duration::from_millis(1));
                }
            }
            sleep(SECOND);
            let grown = heap::live().saturating_sub(before);
            assert!(grown < 3_000_000, "{row}: {grown} bytes");
            server.close(0_u32.into(), b"");
            assert_eq!(asking.join().expect("no panic"), usize::from(clients), "{row}");
        });
    }
}

/// RFC 9000, 10.2.1: a peer that goes on when it was told that the connection is over, by the transport or by the application.
#[test]
fn packets_without_end_after_a_close() {
    for (row, by_the_application) in [("packets after an error", false), ("packets after a close of the application", true)] {
        under_attack(row, 3, Setup::new(3), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::Confirmed);
            client.expect_alive();
            if by_the_application {
                arena.connections()[0].close(9_u32.into(), b"enough");
            } else {
                client.packet(Kind::OneRtt).raw(&[0x21]).send();
            }
            assert!(client.run(SECOND).is_some());
            let received = client.bytes_received();
            // For as long as a connection closes: three probe timeouts.
            let mut closes = 0;
            for _ in 0..5_000 {
                client.packet(Kind::OneRtt).frame(&Ping).send();
                sleep(Duration::from_micros(10));
                while client.next(Duration::ZERO).is_some() {
                    closes += 1;
                }
            }
            while client.next(SECOND).is_some() {
                closes += 1;
            }
            assert!((1..=16).contains(&closes), "{closes} answers of {} bytes", client.bytes_received() - received);
        });
    }
}

/// RFC 9000, 10.2.3: who reads a handshake along does not read what the application says when it ends it.
#[test]
fn closes_of_the_application_during_a_handshake() {
    for (row, stage) in
        [("a close before the server's Finished is heard", Stage::HelloSent), ("a close before Finished", Stage::HandshakeKeys)]
    {
        simulate(4, link(), || {
            let server = serve(server_config(4, TransportConfig::default()));
            let mut client = Attacker::client(4, client_address(1), server_address());
            client.handshake(stage);
            if stage == Stage::HelloSent {
                client.next(SECOND).expect("the server's flight");
            }
            server.close(9_u32.into(), b"a secret of the application");
            let mut told = 0;
            while let Some(seen) = client.next(SECOND) {
                for packet in seen.packets.iter().filter(|packet| packet.kind.is_long()) {
                    for frame in packet.frames() {
                        match frame {
                            Frame::Close(close) => {
                                assert_eq!((close.code, close.reason), (TransportErrorCode::APPLICATION_ERROR, &b""[..]), "{row}");
                                told += 1;
                            }
                            Frame::ApplicationClose(close) => panic!("{row}: {close:?}"),
                            _ => {}
                        }
                    }
                }
            }
            assert!(told > 0, "{row}");
        });
    }
}

/// RFC 9001, 6.2: a peer that has our packet of the new keys has them, too. One that says so under old ones has not kept up, or somebody
/// has its old keys.
#[test]
fn acknowledgements_of_new_keys_under_old_ones() {
    for (row, packets) in [("one packet of new keys", 1), ("many packets of new keys", 20)] {
        under_attack(row, 5, Setup::new(5).application(Application::Idle), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::Confirmed);
            while client.next(SECOND).is_some() {}
            let server = arena.connections().remove(0);
            server.update_keys();
            let mut stream = server.open_uni().expect("a stream");
            stream.write_all(&vec![7; packets * 1_000]).expect("there is room");
            client.expect_close(KEY_UPDATE_ERROR);
        });
    }
}

/// A peer that acknowledges nothing and sends as one that probes: our ACKs are asked for in one datagram more, once.
#[test]
fn pings_that_feign_probes() {
    for (row, factor) in [("PING at doubling distances", 2.0), ("PING at growing distances", 1.5)] {
        under_attack(row, 6, Setup::of(server_config(6, TransportConfig::default().max_idle_timeout(None))), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::Confirmed);
            while client.next(300 * SECOND).is_some() {}
            client.acks(AckPolicy::Never);
            let server = arena.connections().remove(0);
            let before = server.stats();
            let mut pings = 0;
            for _ in 0..20 {
                let mut silence = Duration::from_millis(30);
                for _ in 0..15 {
                    client.packet(Kind::OneRtt).frame(&Ping).send();
                    pings += 1;
                    while client.next(silence).is_some() {}
                    silence = silence.mul_f64(factor).min(20 * SECOND);
                }
            }
            let after = server.stats();
            let (datagrams, probes) = (after.datagrams_sent - before.datagrams_sent, after.probe_timeouts - before.probe_timeouts);
            assert!(datagrams <= pings + 1 + 2 * probes, "{row}: {datagrams} for {pings}, {probes} probes");
        });
    }
}

/// RFC 9002, 7.2: a peer that says that each packet was marked, or that acknowledges each second one alone, makes us slow. It does not make
/// us stop.
#[test]
fn marks_and_losses_without_end() {
    for (row, marks) in [("marks without end", true), ("losses without end", false)] {
        under_attack(row, 7, Setup::new(7).application(Application::Idle), |arena| {
            let mut client = arena.client(1);
            // Who acknowledges without counts is not asked for them again (RFC 9000, 13.4.2.1).
            client.acks(AckPolicy::Never);
            client.handshake(Stage::Complete);
            sleep(SECOND / 10);
            let server = arena.connections().remove(0);
            let mut stream = server.open_uni().expect("a stream");
            let writing = spawn(move || stream.write_all(&vec![7; 500_000]).is_ok());
            let mut marked = 0;
            for _ in 0..2_000 {
                let Some(seen) = client.next(SECOND) else { break };
                for packet in seen.packets.iter().filter(|packet| packet.kind == Kind::OneRtt) {
                    let number = PacketNumber::new(packet.number).expect("a packet number");
                    marked += u64::from(seen.ecn.is_some());
                    let counts = Some(EcnCounts { ect0: 0, ect1: 0, ce: marked }).filter(|_| marks);
                    let ack = AckToSend::fit(VarInt::ZERO, [number..=number].into_iter(), counts, 100).expect("there is room");
                    if marks || number.as_u64().is_multiple_of(2) {
                        client.packet(Kind::OneRtt).frame(&ack).send();
                    }
                }
                let stats = server.stats();
                assert!(stats.congestion_window >= 2 * u64::from(stats.mtu), "{row}: {stats:?}");
            }
            drop(writing);
            let stats = server.stats();
            assert!(stats.congestion_window < 10 * u64::from(stats.mtu), "{row}: it was believed: {stats:?}");
        });
    }
}
