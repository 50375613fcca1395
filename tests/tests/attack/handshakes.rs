//! Handshakes out of order: messages cut and permuted, packets before their keys, and HANDSHAKE_DONE where there is nothing to be done
//! with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_crypto::Level;
use weald_quic::codec::{AckToSend, Crypto, EncodeFrame, HandshakeDone, Ping, Stream, Writer};
use weald_quic::{ConnectionError, PacketNumber, StreamId, TransportErrorCode, VarInt};
use weald_runtime::sleep;
use weald_tests::attacker::{Attacker, Closed, Ended, Kind, Setup, Stage, client_under_attack, under_attack};

const SECOND: Duration = Duration::from_secs(1);
const PROTOCOL_VIOLATION: u64 = 0x0a;

/// The handshake messages that an attacker holds back, by level.
type HeldBack = Arc<Mutex<Vec<(Level, Vec<u8>)>>>;

fn holding_back(attacker: Attacker) -> (Attacker, HeldBack) {
    let held = HeldBack::default();
    let kept = Arc::clone(&held);
    let attacker = attacker.crypto(move |level, data| kept.lock().expect("no panic").push((level, std::mem::take(data))));
    (attacker, held)
}

fn kind(level: Level) -> Kind {
    if level == Level::Initial { Kind::Initial } else { Kind::Handshake }
}

/// Frames of a message in pieces of a few bytes, some of them twice or overlapping, in any order.
fn pieces(rng: &mut fastrand::Rng, data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let end = (at + rng.usize(1..40)).min(data.len());
        let begin = at.saturating_sub(rng.usize(0..5));
        for _ in 0..rng.usize(1..3) {
            frames.push(encoded(&Crypto { offset: begin as u64, data: &data[begin..end] }));
        }
        at = end;
    }
    rng.shuffle(&mut frames);
    frames
}

fn encoded(frame: &dyn EncodeFrame) -> Vec<u8> {
    let mut bytes = vec![0; frame.size()];
    frame.encode(&mut Writer::new(&mut bytes));
    bytes
}

/// Sends what is held back in packets of a few frames, permuted, with others between.
fn send_permuted(attacker: &mut Attacker, held: &HeldBack, rng: &mut fastrand::Rng) {
    let messages = std::mem::take(&mut *held.lock().expect("no panic"));
    let mut packets: Vec<(Kind, Vec<u8>)> = Vec::new();
    for (level, data) in messages {
        let mut frames = pieces(rng, &data);
        while !frames.is_empty() {
            let mut payload = Vec::new();
            for frame in frames.drain(..frames.len().min(12)) {
                payload.extend(frame);
                match rng.u8(0..3) {
                    0 => payload.extend(encoded(&Ping)),
                    1 => payload.extend([0; 3]),
                    _ => {}
                }
            }
            packets.push((kind(level), payload));
        }
    }
    rng.shuffle(&mut packets);
    for (kind, payload) in packets {
        attacker.packet(kind).raw(&payload).pad_to(1200).send();
    }
}

/// CVE-2023-46239 and ClientHellos as browsers cut them: each byte of the handshake by itself if need be, in any order, beside anything
/// that may stand there.
#[test]
fn a_permuted_handshake_of_a_client() {
    for seed in 0..20 {
        under_attack("a permuted handshake", seed, Setup::new(seed), |arena| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut client, held) = holding_back(arena.client(1));
            client.handshake(Stage::HelloSent);
            send_permuted(&mut client, &held, &mut rng);
            client.handshake(Stage::Complete);
            send_permuted(&mut client, &held, &mut rng);
            client.handshake(Stage::Confirmed);
            client.expect_alive();
            arena.memory_below(64 * 1024);
        });
    }
}

/// The same by a server; Handshake packets come before the Initial packets that their keys follow from.
#[test]
fn a_permuted_handshake_of_a_server() {
    for seed in 0..20 {
        let ended = client_under_attack("a permuted handshake", seed, move |server| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut server, held) = holding_back(server);
            server.handshake(Stage::HandshakeKeys);
            // Of what comes too early ten packets are kept: the rest is sent once more.
            let messages = held.lock().expect("no panic").clone();
            send_permuted(&mut server, &held, &mut rng);
            held.lock().expect("no panic").extend(messages);
            send_permuted(&mut server, &held, &mut rng);
            server.handshake(Stage::Confirmed);
            server.expect_alive();
        });
        assert_eq!(ended, None, "seed {seed}");
    }
}

/// HANDSHAKE_DONE from a client, and in packets of the handshake.
#[test]
fn handshake_done_out_of_place() {
    under_attack("HANDSHAKE_DONE from a client", 1, Setup::new(1), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.packet(Kind::OneRtt).frame(&HandshakeDone).send();
        client.expect_close(PROTOCOL_VIOLATION);
        for (number, kind) in [(2, Kind::Initial), (3, Kind::Handshake)] {
            let mut client = arena.client(number);
            client.handshake(Stage::HandshakeKeys);
            client.packet(kind).frame(&HandshakeDone).pad_to(1200).send();
            client.expect_close(PROTOCOL_VIOLATION);
        }
    });
}

/// CVE-2025-59530: packets that come before their keys, HANDSHAKE_DONE among them: the client has not said its Finished when it reads
/// that the server has it (RFC 9001, 4.1.2).
#[test]
fn handshake_done_before_the_handshake_is_complete() {
    for (copies, others) in [(1, 0), (1, 5), (10, 0), (200, 200)] {
        let ended = client_under_attack("an early HANDSHAKE_DONE", 2, move |mut server| {
            server.handshake(Stage::HandshakeKeys);
            assert!(server.has_keys(Kind::OneRtt), "a server has them with its first flight");
            for _ in 0..others {
                server.packet(Kind::OneRtt).frame(&Ping).send();
            }
            for _ in 0..copies {
                server.packet(Kind::OneRtt).frame(&HandshakeDone).frame(&Ping).send();
            }
            match server.try_handshake(Stage::Confirmed) {
                // Ten packets are kept, and the others are lost.
                Ok(()) if others >= 10 => server.expect_alive(),
                Err(Ended::Closed(Closed::Transport { code: PROTOCOL_VIOLATION, .. })) if others < 10 => {}
                other => panic!("{other:?}"),
            }
        });
        let code = ended.map(|ended| match ended {
            ConnectionError::Transport(error) => error.code,
            other => panic!("{other:?}"),
        });
        assert_eq!(code, (others < 10).then_some(TransportErrorCode::PROTOCOL_VIOLATION));
    }
}

/// Other frames in packets before their keys count as what they are, once there are keys.
#[test]
fn early_packets_count_when_there_are_keys() {
    let ended = client_under_attack("an early acknowledgement of what was not sent", 3, |mut server| {
        server.handshake(Stage::HandshakeKeys);
        let number = PacketNumber::new(1_000_000).expect("a packet number");
        let ack = AckToSend::fit(VarInt::ZERO, [number..=number].into_iter(), None, 100).expect("there is room");
        server.packet(Kind::OneRtt).frame(&ack).send();
        let ended = server.try_handshake(Stage::Confirmed);
        assert!(matches!(ended, Err(Ended::Closed(Closed::Transport { code: PROTOCOL_VIOLATION, .. }))), "{ended:?}");
    });
    assert!(ended.is_some());
    let ended = client_under_attack("early streams", 4, |mut server| {
        server.handshake(Stage::HandshakeKeys);
        for packet in 0..100 {
            let id = StreamId::new(weald_quic::Side::Server, weald_quic::Direction::Uni, 0).expect("a stream");
            server.packet(Kind::OneRtt).frame(&Stream { id, offset: 10 * packet, fin: false, data: &[7; 10] }).send();
        }
        server.handshake(Stage::Confirmed);
        server.expect_alive();
    });
    assert_eq!(ended, None);
}

/// 1-RTT packets of a client that never says its Finished: few are kept, and none is read (RFC 9001, 5.7).
#[test]
fn packets_before_finished_are_kept_by_the_ten() {
    for (row, len, copies) in [("full packets before Finished", 1200, 3_000), ("short packets before Finished", 60, 3_000)] {
        under_attack(row, 5, Setup::new(5), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::HandshakeKeys);
            while !client.has_keys(Kind::OneRtt) {
                client.next(SECOND).expect("the rest of the server's flight");
            }
            let id = StreamId::from(VarInt::ZERO);
            for packet in 0..copies {
                client.packet(Kind::OneRtt).frame(&Stream { id, offset: packet, fin: false, data: &[7] }).pad_to(len).send();
                if packet % 20 == 0 {
                    sleep(SECOND / 100);
                }
            }
            while client.next(SECOND / 10).is_some() {}
            assert!(!(0..copies).any(|number| client.is_acked(Kind::OneRtt, number)), "nobody has said Finished");
            arena.heap_below(400_000);
            client.handshake(Stage::Confirmed);
            client.expect_alive();
        });
    }
}

/// Initial packets without end, each of which could be the rest of a ClientHello: most are acknowledged and no more, and those that move
/// on are bounded. (That TLS may be at work meanwhile is driven in memory, where its work can be held up.)
#[test]
fn ten_thousand_initial_packets_of_one_client() {
    for (row, moves) in [("Initial packets that repeat", false), ("Initial packets that go on", true)] {
        under_attack(row, 6, Setup::new(6), |arena| {
            let (mut client, held) = holding_back(arena.client(1));
            client.handshake(Stage::HelloSent);
            let hello = held.lock().expect("no panic")[0].1.clone();
            let mut sent_packets = 0;
            for packet in 0..10_000_u64 {
                sent_packets = packet;
                // All but the last byte of the hello, which never comes; or bytes beyond it, each in its place.
                let offset = if moves { hello.len() as u64 + 7 * packet } else { 0 };
                let data = if moves { &[0x55; 3] } else { &hello[..hello.len() - 1] };
                client.packet(Kind::Initial).frame(&Crypto { offset, data }).pad_to(1200).send();
                if packet % 20 == 0 {
                    while client.next(SECOND / 100).is_some() {}
                }
                if client.closed().is_some() {
                    break;
                }
            }
            assert_eq!(client.closed().is_some(), moves, "a window and its pieces end");
            assert!(!moves || sent_packets < 1_000, "{sent_packets} packets with gaps between them");
            let (received, sent) = (client.bytes_received(), client.bytes_sent());
            assert!(received < sent / 4, "{received} for {sent}");
            arena.heap_below(1_000_000);
        });
    }
}
