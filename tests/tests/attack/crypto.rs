//! CRYPTO data that makes an endpoint hold more than a handshake needs, at each level of either end.

use std::time::Duration;

use weald_quic::ConnectionError;
use weald_quic::codec::{Crypto, EncodeFrame, Writer};
use weald_tests::attacker::{Attacker, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::heap;

const SECOND: Duration = Duration::from_secs(1);
const CRYPTO_BUFFER_EXCEEDED: u64 = 0x0d;
/// What an endpoint holds of what came too early.
const WINDOW: u64 = 64 * 1024;
/// How many pieces of it: far more than a permuted ClientHello has.
const PIECES: u64 = 256;

/// At a server, and with which packets.
const AT_A_SERVER: [(Stage, Kind); 2] = [(Stage::HelloSent, Kind::Initial), (Stage::HandshakeKeys, Kind::Handshake)];
const AT_A_CLIENT: [(Stage, Kind); 3] =
    [(Stage::HelloSent, Kind::Initial), (Stage::HandshakeKeys, Kind::Handshake), (Stage::Confirmed, Kind::OneRtt)];

/// Sends CRYPTO frames of one byte each, in as few packets as they need.
fn send_pieces(attacker: &mut Attacker, kind: Kind, offsets: impl Iterator<Item = u64>) {
    let mut payload = Vec::new();
    for offset in offsets {
        let frame = Crypto { offset, data: &[0x16] };
        let start = payload.len();
        payload.resize(start + frame.size(), 0);
        frame.encode(&mut Writer::new(&mut payload[start..]));
        if payload.len() > 1100 {
            attacker.packet(kind).raw(&std::mem::take(&mut payload)).send();
        }
    }
    if !payload.is_empty() {
        attacker.packet(kind).raw(&payload).send();
    }
}

/// Panic of quiche (CVE-2024-1765), memory of s2n-quic (GHSA-9q54). RFC 9000, 7.5: what is too far ahead closes the connection.
#[test]
fn high_offsets_at_a_server() {
    under_attack("CRYPTO far ahead", 1, Setup::new(1), |arena| {
        let mut number = 0;
        for (stage, kind) in AT_A_SERVER {
            for ahead in [WINDOW, 1 << 20, 1 << 32, (1 << 62) - 2000] {
                number += 1;
                let mut client = arena.client(number);
                client.handshake(stage);
                let offset = client.crypto_offset(kind) + ahead;
                client.packet(kind).frame(&Crypto { offset, data: &[0x16; 100] }).send();
                client.expect_close(CRYPTO_BUFFER_EXCEEDED);
            }
        }
        arena.heap_below(4_000_000);
        arena.expect_forgotten();
    });
}

#[test]
fn high_offsets_at_a_client() {
    for (stage, kind) in AT_A_CLIENT {
        for ahead in [WINDOW, 1 << 32, (1 << 62) - 2000] {
            let ended = client_under_attack("CRYPTO far ahead", 2, move |mut server| {
                server.handshake(stage);
                let offset = server.crypto_offset(kind) + ahead;
                server.packet(kind).frame(&Crypto { offset, data: &[0x16; 100] }).send();
                server.expect_close(CRYPTO_BUFFER_EXCEEDED);
            });
            assert!(
                matches!(&ended, Some(ConnectionError::Transport(error)) if error.code.as_u64() == CRYPTO_BUFFER_EXCEEDED),
                "{ended:?}"
            );
        }
    }
}

/// A byte at each second offset, so that each is a piece of its own.
#[test]
fn sparse_pieces_at_a_server() {
    under_attack("CRYPTO in pieces", 3, Setup::new(3), |arena| {
        for (number, (stage, kind)) in (1..).zip(AT_A_SERVER) {
            let mut client = arena.client(number);
            client.handshake(stage);
            let first = client.crypto_offset(kind) + 1;
            send_pieces(&mut client, kind, (0..2 * PIECES).map(|piece| first + 2 * piece));
            client.expect_close(CRYPTO_BUFFER_EXCEEDED);
        }
        arena.expect_forgotten();
    });
}

#[test]
fn sparse_pieces_at_a_client() {
    for (stage, kind) in AT_A_CLIENT {
        let ended = client_under_attack("CRYPTO in pieces", 4, move |mut server| {
            server.handshake(stage);
            let first = server.crypto_offset(kind) + 1;
            send_pieces(&mut server, kind, (0..2 * PIECES).map(|piece| first + 2 * piece));
            server.expect_close(CRYPTO_BUFFER_EXCEEDED);
        });
        assert!(ended.is_some());
    }
}

/// As much as is permitted, again and again, on many connections: each costs its window and no more, until the handshake's time is over.
#[test]
fn whole_windows_of_many_clients() {
    const CLIENTS: u16 = 40;
    under_attack("CRYPTO windows", 5, Setup::new(5), |arena| {
        let mut clients: Vec<_> = (1..=CLIENTS)
            .map(|number| {
                let mut client = arena.client(number);
                client.handshake(Stage::HandshakeKeys);
                client
            })
            .collect();
        let before = heap::live();
        for _ in 0..3 {
            for client in &mut clients {
                // The last byte of the window, the first left out, and pieces between.
                send_pieces(client, Kind::Handshake, (1..=PIECES - 2).map(|piece| piece * (WINDOW / PIECES)).chain([WINDOW - 1]));
                assert_eq!(client.run(SECOND / 100), None);
            }
        }
        // A window, and where its pieces are.
        let each = (heap::live() - before) / usize::from(CLIENTS);
        assert!((WINDOW as usize / 2..WINDOW as usize + 30_000).contains(&each), "{each} bytes a client");
        drop(clients);
        arena.expect_forgotten();
    });
}
