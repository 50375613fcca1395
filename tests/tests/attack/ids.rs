//! Connection ids: floods of them, ids that come back, and ids that are guessed.

use std::time::Duration;

use weald_quic::codec::{Frame, NewConnectionId, RetireConnectionId};
use weald_quic::{CidSequence, ConnectionError, ConnectionId, Endpoint, EndpointConfig, ResetToken, TransportConfig, TransportErrorCode};
use weald_runtime::{sleep, spawn};
use weald_tests::attack::echo;
use weald_tests::attacker::{AckPolicy, Attacker, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::world::{client_address, link, server_address, server_config, simulate_untraced};

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
    // A million, thirty a packet: the connection ends with the first, and what comes then is for nobody.
    under_attack("a million of NEW_CONNECTION_ID", 2, Setup::new(2), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.acks(AckPolicy::Never);
        for sequences in (1..=1_000_000).collect::<Vec<u32>>().chunks(30) {
            let mut packet = client.packet(Kind::OneRtt);
            for sequence in sequences {
                packet = packet.frame(&issue(*sequence, *sequence, *sequence, 1));
            }
            packet.send();
            if sequences[0] % 3_000 == 1 {
                while client.next(SECOND / 1000).is_some() {}
            }
        }
        client.expect_close(CONNECTION_ID_LIMIT_ERROR);
        assert!(client.bytes_received() < client.bytes_sent() / 10, "{} for {}", client.bytes_received(), client.bytes_sent());
        arena.memory_below(60_000);
        arena.heap_below(10_000_000);
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
        for sequence in (1..=20_000).step_by(2) {
            let [first, second] = [sequence, sequence + 1].map(|sequence| issue(sequence, sequence, sequence, 1));
            client.packet(Kind::OneRtt).frame(&first).frame(&second).send();
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
    fn offend(peer: &mut Attacker, row: &str, offence: NewConnectionId) {
        peer.handshake(Stage::Confirmed);
        if row.contains("retired") {
            peer.packet(Kind::OneRtt).frame(&issue(3, 0, 3, 3)).send();
            peer.packet(Kind::OneRtt).frame(&issue(4, 4, 4, 4)).send();
        } else {
            peer.packet(Kind::OneRtt).frame(&issue(1, 0, 1, 1)).send();
            // The same once more is a repetition.
            peer.packet(Kind::OneRtt).frame(&issue(1, 0, 1, 1)).send();
        }
        peer.expect_alive();
        peer.packet(Kind::OneRtt).frame(&offence).send();
        peer.expect_close(PROTOCOL_VIOLATION);
    }
    for (seed, (row, offence)) in (1..).zip(offences) {
        under_attack(row, seed, Setup::new(seed), |arena| offend(&mut arena.client(1), row, offence));
        let ended = client_under_attack(row, seed, move |mut server| offend(&mut server, row, offence));
        assert!(matches!(&ended, Some(ConnectionError::Transport(error)) if error.code.as_u64() == PROTOCOL_VIOLATION), "{row}: {ended:?}");
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
    });
    // RFC 9000, 19.16: the id that the packet itself goes to, and ids that there are not.
    for (row, sequence) in [
        ("RETIRE_CONNECTION_ID of the id in use", 0),
        ("RETIRE_CONNECTION_ID of the next id to come", 4),
        ("RETIRE_CONNECTION_ID of the last that there can be", u32::MAX),
    ] {
        under_attack(row, 2, Setup::new(2), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::Confirmed);
            client.packet(Kind::OneRtt).frame(&retire(sequence)).send();
            client.expect_close(PROTOCOL_VIOLATION);
        });
        let ended = client_under_attack(row, 3, move |mut server| {
            server.handshake(Stage::Confirmed);
            server.packet(Kind::OneRtt).frame(&retire(sequence)).send();
            server.expect_close(PROTOCOL_VIOLATION);
        });
        assert!(ended.is_some(), "{row}");
    }
    // From other addresses, as if over other paths.
    under_attack("RETIRE_CONNECTION_ID from several addresses", 4, Setup::new(4), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        for sequence in 0..5_000 {
            client.spoof(std::net::SocketAddr::from(([10, 2, 0, sequence as u8 % 4], 1000)));
            client.packet(Kind::OneRtt).frame(&retire(sequence)).send();
        }
        client.stop_spoofing();
        client.expect_alive();
        arena.memory_below(60_000);
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

/// RFC 9000, 10.3: ids of a server that is started again. They are nobody's: with the same secret they are answered by the token that its
/// client was given, and with another by one that means nothing.
#[test]
fn ids_of_a_previous_boot() {
    for (row, secret, is_known) in [("ids of a previous boot", 7, true), ("ids of a previous boot with another secret", 8, false)] {
        simulate_untraced(1, link(), || {
            let start = |secret: u8| {
                let endpoint = EndpointConfig::new().secret([secret; 32]).server_id(1);
                let server = Endpoint::server_with(&endpoint, server_config(1, TransportConfig::default()), server_address());
                let server = server.expect("a server");
                let accepting = server.clone();
                spawn(move || {
                    while let Some(connection) = accepting.accept() {
                        spawn(move || echo(&connection));
                    }
                });
                server
            };
            let server = start(7);
            let mut client = Attacker::client(1, client_address(1), server_address());
            client.handshake(Stage::Complete);
            let given = loop {
                let seen = client.next(SECOND).expect("ids come");
                if let Some(given) = seen.frames().find_map(|frame| if let Frame::NewConnectionId(new) = frame { Some(new) } else { None })
                {
                    break given;
                }
            };
            client.handshake(Stage::Confirmed);
            server.close(0_u32.into(), b"");
            server.wait_idle();
            drop(server);
            sleep(SECOND);
            let server = start(secret);
            while client.next_raw(SECOND).is_some() {}
            let received = client.bytes_received();
            for round in 0..10_000 {
                client.packet(Kind::OneRtt).dcid(&given.id).raw(&[0x01]).pad_to(100).send();
                if round == 0 {
                    let answer = client.next_raw(SECOND).expect("a reset");
                    assert_eq!(answer.ends_with(given.reset_token.as_bytes()), is_known, "{row}");
                }
            }
            while client.next_raw(SECOND).is_some() {}
            let received = client.bytes_received() - received;
            assert!(received < 2_000 * 43, "{row}: {received} bytes");
            // And one as what a new client makes up is as good as any.
            let mut another = Attacker::client(2, client_address(2), server_address()).destination(&given.id);
            another.handshake(Stage::Confirmed);
            another.expect_alive();
            assert_eq!(server.open_connections(), 1, "{row}");
            server.close(0_u32.into(), b"");
        });
    }
}
