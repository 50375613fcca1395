//! Connection ids: floods of them, ids that come back, and ids that are guessed.

use std::time::Duration;

use weald_quic::codec::{NewConnectionId, RetireConnectionId};
use weald_quic::{CidSequence, ConnectionError, ConnectionId, ResetToken, TransportErrorCode};
use weald_tests::attacker::{AckPolicy, Attacker, Kind, Setup, Stage, client_under_attack, under_attack};

const SECOND: Duration = Duration::from_secs(1);
const CONNECTION_ID_LIMIT_ERROR: u64 = 0x09;
const PROTOCOL_VIOLATION: u64 = 0x0a;
const RESETS: usize = 40;

/// The id of that number, with what is made from `id` and `token`.
fn issue(sequence: u32, retire_prior_to: u32, id: u32, token: u8) -> NewConnectionId {
    NewConnectionId {
        sequence: CidSequence::from(sequence),
        retire_prior_to: CidSequence::from(retire_prior_to),
        id: ConnectionId::new(&[&[7; 4][..], &id.to_be_bytes()].concat()).expect("as many bytes as the attacker's first"),
        reset_token: ResetToken::from([token; 16]),
    }
}

fn retire(sequence: u32) -> RetireConnectionId {
    RetireConnectionId { sequence: CidSequence::from(sequence) }
}

/// CVE-2024-22189, CVE-2024-1410: each frame retires all earlier ids, and the retirements are never acknowledged.
#[test]
fn retirements_that_are_not_acknowledged_are_bounded() {
    under_attack("NEW_CONNECTION_ID without acknowledgements", 1, Setup::new(1), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.acks(AckPolicy::Never);
        for sequence in 1..=1000 {
            client.packet(Kind::OneRtt).frame(&issue(sequence, sequence, sequence, 1)).send();
        }
        client.expect_close(CONNECTION_ID_LIMIT_ERROR);
        arena.memory_below(60_000);
    });
    // Many in one packet.
    under_attack("NEW_CONNECTION_ID, thirty a packet", 2, Setup::new(2), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.acks(AckPolicy::Never);
        let mut packet = client.packet(Kind::OneRtt);
        for sequence in 1..=30 {
            packet = packet.frame(&issue(sequence, sequence, sequence, 1));
        }
        packet.send();
        client.expect_close(CONNECTION_ID_LIMIT_ERROR);
        arena.memory_below(60_000);
    });
}

/// The same against a client.
#[test]
fn a_client_bounds_retirements_too() {
    let end = client_under_attack("NEW_CONNECTION_ID of a server", 3, |mut server| {
        server.handshake(Stage::Confirmed);
        server.acks(AckPolicy::Never);
        for sequence in 1..=1000 {
            server.packet(Kind::OneRtt).frame(&issue(sequence, sequence, sequence, 1)).send();
        }
        server.expect_close(CONNECTION_ID_LIMIT_ERROR);
    });
    match end {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::CONNECTION_ID_LIMIT_ERROR),
        other => panic!("{other:?}"),
    }
}

/// With acknowledgements it can go on for as long as one likes, and costs nothing that stays.
#[test]
fn retirements_that_are_acknowledged_leave_nothing() {
    under_attack("NEW_CONNECTION_ID with acknowledgements", 4, Setup::new(4), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        for sequence in 1..=5_000 {
            client.packet(Kind::OneRtt).frame(&issue(sequence, sequence, sequence, 1)).send();
            client.expect_alive();
        }
        arena.memory_below(60_000);
    });
}

/// RFC 9000, 19.15: a number stands for one id and one token, and an id for one number, also when they were retired.
#[test]
fn ids_that_change_or_come_back_are_a_violation() {
    let offences = [
        ("another id", issue(1, 0, 9, 1)),
        ("another token", issue(1, 0, 1, 9)),
        ("another number", issue(2, 0, 1, 1)),
        ("a retired number with another id", issue(3, 0, 9, 3)),
        ("a retired id with another number", issue(9, 0, 3, 3)),
    ];
    for (seed, (row, offence)) in offences.into_iter().enumerate() {
        under_attack(row, seed as u64, Setup::new(seed as u64), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::Confirmed);
            if row.contains("retired") {
                client.packet(Kind::OneRtt).frame(&issue(3, 0, 3, 3)).send();
                client.packet(Kind::OneRtt).frame(&issue(4, 4, 4, 4)).send();
                client.expect_alive();
            } else {
                client.packet(Kind::OneRtt).frame(&issue(1, 0, 1, 1)).send();
                // The same once more is a repetition.
                client.packet(Kind::OneRtt).frame(&issue(1, 0, 1, 1)).send();
                client.expect_alive();
            }
            client.packet(Kind::OneRtt).frame(&offence).send();
            client.expect_close(PROTOCOL_VIOLATION);
        });
    }
}

/// CVE-2025-7054: the server's last ids are retired again and again; it makes new ones, and keeps none of the old.
#[test]
fn the_last_id_is_retired_again_and_again() {
    under_attack("RETIRE_CONNECTION_ID", 1, Setup::new(1), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        // All but the one in use, then those that came for them.
        for sequence in 1..5_000 {
            client.packet(Kind::OneRtt).frame(&retire(sequence)).frame(&retire(sequence)).send();
            client.expect_alive();
        }
        arena.memory_below(60_000);
        // RFC 9000, 19.16
        client.packet(Kind::OneRtt).frame(&retire(0)).send();
        client.expect_close(PROTOCOL_VIOLATION);
    });
    under_attack("RETIRE_CONNECTION_ID of none", 2, Setup::new(2), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.packet(Kind::OneRtt).frame(&retire(1_000_000)).send();
        client.expect_close(PROTOCOL_VIOLATION);
    });
}

/// What a server makes of ids that are almost those of a connection, or were.
#[test]
fn guessed_ids_lead_nowhere() {
    under_attack("guessed ids", 1, Setup::new(1), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        while client.next(SECOND).is_some() {}
        let id = client.destination_id();
        let received = arena.connections()[0].stats().packets_received;
        // Each bit: the packet is for nobody, and all but the shortest are answered by a reset that resets nothing.
        for bit in 0..id.len() * 8 {
            let mut guess = id.to_vec();
            guess[bit / 8] ^= 1 << (bit % 8);
            client.packet(Kind::OneRtt).dcid(&guess).raw(&[0x01]).pad_to(100).send();
            let answer = client.next_raw(SECOND).expect("a reset");
            assert!(answer.len() <= RESETS + 3, "{} bytes", answer.len());
        }
        assert_eq!(arena.connections()[0].stats().packets_received, received);
        client.expect_alive();
        // Our own id as the one that a new client makes up: it is the connection's that has it, which drops the packet.
        let connections = arena.server.open_connections();
        let mut stranger = arena.client(2).destination(&id);
        stranger.handshake(Stage::HelloSent);
        stranger.expect_silence();
        assert_eq!(arena.server.open_connections(), connections);
        client.expect_alive();
        // A closed connection's.
        client.packet(Kind::OneRtt).raw(&[0x1c, 0, 0, 0]).send();
        weald_runtime::sleep(30 * SECOND);
        let mut late: Attacker = client;
        late.packet(Kind::OneRtt).raw(&[0x01]).pad_to(100).send();
        let reset = late.next_raw(SECOND).expect("a reset");
        assert!(reset.len() <= RESETS + 3 && arena.server.stats().resets > 100);
    });
}
