//! Packets made so that the sample for header protection is one that stumbles arithmetic: a ChaCha20 counter of all ones (RFC 9001,
//! 5.4.4; seen in ring, CVE-2025-4432).

use std::time::Duration;

use weald_crypto::{CipherSuite, ClientConfig, simulation};
use weald_quic::codec::{EncodeFrame, Frame, PathChallenge, Writer};
use weald_runtime::on_worker_stack;
use weald_tests::attacker::{Attacker, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::world::ALPN;

const SECOND: Duration = Duration::from_secs(1);

/// In front of the payload of a short packet: the first byte, an id, and a number of four bytes, so that the payload begins with the
/// sample.
fn header(attacker: &Attacker) -> usize {
    1 + attacker.destination_id().len() + 4
}

/// A client whose only cipher is ChaCha20.
fn with_chacha20(client: Attacker) -> Attacker {
    let tls = ClientConfig::builder().alpn([ALPN]).roots(simulation::roots()).cipher_suites([CipherSuite::ChaCha20Poly1305Sha256]);
    client.client_tls(tls.simulation(8).build().expect("the fixture is valid"))
}

/// A packet with a PATH_CHALLENGE that authenticates, and whose sample begins with `counter`: of the numbers that may come next, one
/// makes the first byte of the challenge what it has to be.
fn challenge_with_counter(attacker: &mut Attacker, from: u64, counter: [u8; 4]) -> (u64, PathChallenge, Vec<u8>) {
    let at = header(attacker);
    let mut frame = [0; 9];
    PathChallenge([0; 8]).encode(&mut Writer::new(&mut frame));
    for number in from.. {
        // What it is sealed with, by sealing zeros.
        let zeros = attacker.packet(Kind::OneRtt).number(number).raw(&[0; 40]).build();
        let plain = [0, 1, 2, 3].map(|byte| zeros[at + byte] ^ counter[byte]);
        if plain[0] == frame[0] {
            let challenge = PathChallenge([plain[1], plain[2], plain[3], 1, 2, 3, 4, 5]);
            let packet = attacker.packet(Kind::OneRtt).number(number).frame(&challenge).raw(&[0; 31]).build();
            assert_eq!(packet[at..at + 4], counter);
            return (number, challenge, packet);
        }
    }
    unreachable!("one of 256")
}

/// The counters around the one that overflows.
const COUNTERS: [[u8; 4]; 3] = [[0xff; 4], [0xfe, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f]];

fn attack(attacker: &mut Attacker) {
    let mut from = 100;
    for counter in COUNTERS {
        let (number, challenge, packet) = on_worker_stack(|| challenge_with_counter(attacker, from, counter));
        from = number + 1;
        attacker.send(&packet);
        loop {
            let seen = attacker.next(SECOND).expect("an answer");
            if seen.frames().any(|frame| matches!(frame, Frame::PathResponse(answer) if answer.0 == challenge.0)) {
                break;
            }
        }
    }
    // And as anybody makes them who has seen an id.
    for counter in COUNTERS {
        let mut packet = attacker.packet(Kind::OneRtt).raw(&[1; 60]).build();
        let at = header(attacker);
        packet[at..at + 4].copy_from_slice(&counter);
        packet[at + 4..at + 16].fill(0xff);
        attacker.send(&packet);
    }
    attacker.expect_alive();
}

#[test]
fn counters_of_all_ones_at_a_server() {
    under_attack("a sample with a counter of all ones", 1, Setup::new(1), |arena| {
        let mut client = with_chacha20(arena.client(1));
        client.handshake(Stage::Confirmed);
        while client.next(SECOND).is_some() {}
        attack(&mut client);
    });
}

#[test]
fn counters_of_all_ones_at_a_client() {
    let ended = client_under_attack("a sample with a counter of all ones", 2, |server| {
        let (chain, key) = simulation::server_credentials();
        let tls = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain, key);
        let tls = tls.cipher_suites([CipherSuite::ChaCha20Poly1305Sha256]).simulation(2).build().expect("the fixture is valid");
        let mut server = server.server_tls(tls);
        server.handshake(Stage::Confirmed);
        while server.next(SECOND).is_some() {}
        attack(&mut server);
    });
    assert_eq!(ended, None);
}

/// In packets of the handshake, where the cipher is AES and the sample is any block.
#[test]
fn samples_of_all_ones_in_the_handshake() {
    under_attack("a sample of all ones", 3, Setup::new(3), |arena| {
        let mut client = with_chacha20(arena.client(1));
        client.handshake(Stage::HandshakeKeys);
        for (kind, first) in [(Kind::Initial, 0xc3), (Kind::Handshake, 0xe3)] {
            let mut packet = client.packet(kind).raw(&[1; 60]).pad_to(1200).build();
            packet[0] = first;
            let ids = 5 + 1 + client.destination_id().len() + 1 + client.source_id().len();
            packet[ids + 8..].fill(0xff);
            client.send(&packet);
        }
        client.handshake(Stage::Confirmed);
        client.expect_alive();
    });
}
