//! Peers that break the protocol are told how (RFC 9000 11, 20.1), and take nothing else with them.

use super::pair::{Network, Pair, client_address};
use super::{SECOND, answer_to, code, forge};
use crate::connection::{DatagramMeta, Scratch};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::recovery::SpaceId;

#[test]
fn each_fault_has_its_code() {
    use TransportErrorCode as Code;
    let cases: &[(&str, &[u8], Code)] = &[
        ("12.4 no frames known by this type", &[0x40, 0x55], Code::FRAME_ENCODING_ERROR),
        ("12.4 type not encoded the shortest way", &[0x40, 0x01], Code::PROTOCOL_VIOLATION),
        ("19.4 RESET_STREAM cut short", &[0x04, 0x00], Code::FRAME_ENCODING_ERROR),
        ("13.1 ACK of a packet never sent", &[0x02, 0x80, 0x10, 0, 0, 0, 0, 0], Code::PROTOCOL_VIOLATION),
        ("19.3 ACK range below zero", &[0x02, 0x00, 0, 0, 0x05], Code::FRAME_ENCODING_ERROR),
        ("19.8 stream of our own that is not open", &[0x0a, 0x01, 0x00], Code::STREAM_STATE_ERROR),
        ("19.8 data on a stream that only we send on", &[0x0a, 0x03, 0x00], Code::STREAM_STATE_ERROR),
        ("4.6 stream beyond the limit", &[0x0a, 0x50, 0x00, 0x00], Code::STREAM_LIMIT_ERROR),
        ("4.5 final size moved", &[0x0b, 0x02, 0x01, 0x55, 0x0e, 0x02, 0x04, 0x01, 0x55], Code::FINAL_SIZE_ERROR),
        ("19.11 MAX_STREAMS above 2^60", &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Code::FRAME_ENCODING_ERROR),
        ("19.20 HANDSHAKE_DONE from a client", &[0x1e], Code::PROTOCOL_VIOLATION),
        ("19.7 NEW_TOKEN from a client", &[0x07, 0x01, 0x00], Code::PROTOCOL_VIOLATION),
        ("19.15 id of no bytes", &[0x18, 0x07, 0x00, 0x00], Code::FRAME_ENCODING_ERROR),
        ("19.16 id never issued", &[0x19, 0x3f], Code::PROTOCOL_VIOLATION),
        ("19.16 the id in use", &[0x19, 0x00], Code::PROTOCOL_VIOLATION),
        ("RFC 9001 6 CRYPTO from a client after the handshake", &[0x06, 0x00, 0x01, 0x18], Code::crypto(10)),
    ];
    for (name, frames, expected) in cases {
        assert_eq!(code(answer_to(true, frames)), Some(*expected), "{name}");
    }
}

#[test]
fn faults_of_a_server_have_their_codes_too() {
    use TransportErrorCode as Code;
    // It follows the server's ticket, which is shorter than this.
    let key_update = [&[0x06, 0x00, 0x42, 0x58][..], &[0x18; 600]].concat();
    let cases: &[(&str, &[u8], Code)] = &[
        ("RFC 9001 6 TLS KeyUpdate", &key_update, Code::crypto(10)),
        ("7.5 CRYPTO far ahead", &[0x06, 0x80, 0x02, 0, 0, 0x01, 0x18], Code::CRYPTO_BUFFER_EXCEEDED),
        ("19.7 empty NEW_TOKEN", &[0x07, 0x00], Code::FRAME_ENCODING_ERROR),
        ("19.8 client's stream that is not open", &[0x0a, 0x00, 0x00], Code::STREAM_STATE_ERROR),
    ];
    for (name, frames, expected) in cases {
        assert_eq!(code(answer_to(false, frames)), Some(*expected), "{name}");
    }
}

#[test]
fn crypto_that_tls_has_no_time_for_is_bounded() {
    // RFC 9000 7.5: in order or not, what is buffered has a limit.
    let mut pair = Pair::new(3, Network::CLEAN);
    pair.server.stuck = true;
    assert!(pair.run(SECOND, |pair| pair.server.connection.is_some()));
    let mut most = 0;
    for piece in 0..1000u32 {
        let mut frames = vec![0x06];
        frames.extend((0x8000_0000 | (piece * 1000)).to_be_bytes());
        frames.extend([0x43, 0xe8]);
        frames.extend([0; 1000]);
        let now = pair.now;
        let datagram = forge(pair.client.connection(), now, SpaceId::Initial, &frames, 1200);
        pair.deliver(true, &datagram);
        most = most.max(pair.server.connection().memory());
        if pair.server.connection().is_closed() {
            break;
        }
    }
    assert!(most < 200_000, "{most} bytes");
    pair.run(SECOND, |pair| pair.server.closed.is_some());
    match pair.server.closed.take() {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::CRYPTO_BUFFER_EXCEEDED),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_permitted_is_no_fault() {
    let cases: &[(&str, &[u8])] = &[
        ("PING and PADDING", &[0x01, 0x00, 0x00]),
        ("a token for later", &[0x07, 0x02, 0xaa, 0xbb]),
        ("an unexpected PATH_RESPONSE", &[0x1b, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("DATA_BLOCKED", &[0x14, 0x00]),
        ("HANDSHAKE_DONE again", &[0x1e]),
    ];
    for (name, frames) in cases {
        assert_eq!(code(answer_to(false, frames)), None, "{name}");
    }
}

#[test]
fn frames_that_an_initial_packet_may_not_carry() {
    // RFC 9000 12.4, table 3
    for frames in [&[0x0a, 0x00, 0x00][..], &[0x10, 0x00], &[0x1a, 0, 0, 0, 0, 0, 0, 0, 0], &[0x1d, 0, 0]] {
        let mut pair = Pair::new(1, Network::CLEAN);
        let now = pair.now;
        pair.server.stuck = true;
        pair.run(SECOND, |pair| pair.server.connection.is_some());
        let datagram = forge(pair.client.connection(), now, SpaceId::Initial, frames, 1200);
        pair.deliver(true, &datagram);
        pair.run(SECOND, |pair| pair.client.closed.is_some());
        match (pair.server.closed.take(), pair.client.closed.take()) {
            (Some(ConnectionError::Transport(ours)), Some(ConnectionError::ConnectionClosed(told))) => {
                assert_eq!(ours.code, TransportErrorCode::PROTOCOL_VIOLATION);
                assert_eq!(told.code, TransportErrorCode::PROTOCOL_VIOLATION);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn sparse_crypto_in_initial_packets_is_bounded() {
    // RFC 9000 7.5; CVE-2024-1765
    let mut pair = Pair::new(1, Network::CLEAN);
    let now = pair.now;
    pair.run(SECOND, |pair| pair.server.connection.is_some());
    let frames = [0x06, 0x80, 0x02, 0, 0, 0x01, 0x18];
    let datagram = forge(pair.client.connection(), now, SpaceId::Initial, &frames, 1200);
    pair.deliver(true, &datagram);
    pair.run(SECOND, |pair| pair.server.closed.is_some());
    match pair.server.closed.take() {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::CRYPTO_BUFFER_EXCEEDED),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_challenge_is_answered_in_a_full_datagram() {
    // RFC 9000 8.2.2
    let mut pair = Pair::connected(2);
    let now = pair.now;
    let mut flood = Vec::new();
    for n in 0..20 {
        flood.extend_from_slice(&[0x1a, n, 0, 0, 0, 0, 0, 0, 0]);
    }
    let datagram = forge(pair.client.connection(), now, SpaceId::Data, &flood, 0);
    pair.deliver(true, &datagram);
    let mut buf = [0; 1500];
    let answer = pair.server.connection().transmit(now, &mut buf, &mut Scratch::default()).unwrap();
    assert_eq!(answer.len, 1200);
    // Three answers, an ACK, and nothing more (CVE-2023-49295).
    assert!(pair.server.connection().transmit(now, &mut buf, &mut Scratch::default()).is_none());
}

#[test]
fn another_address_gets_no_answer() {
    // RFC 9000 9: migration is disabled.
    let mut pair = Pair::connected(2);
    let now = pair.now;
    let datagram = forge(pair.client.connection(), now, SpaceId::Data, &[1], 0);
    let mut elsewhere = client_address();
    elsewhere.set_port(1);
    let meta = DatagramMeta { remote: elsewhere, local: None, ecn: None };
    pair.server.connection().receive(now, &datagram, meta, &mut Scratch::default());
    let stats = pair.server.connection().stats();
    assert_eq!(stats.packets_dropped, 1);
    assert_eq!(pair.server.connection().remote(), client_address());
}

#[test]
fn new_connection_ids_arrive_and_are_rotated() {
    // RFC 9000 5.1.1, 5.1.2
    let mut pair = Pair::connected(3);
    let now = pair.now;
    let before = pair.client.connection().remote_ids.current();
    // The server's next id, with the demand to retire all before it.
    let server = pair.server.connection();
    let (id, token) = server.local_ids.reissue(3);
    let mut frame = vec![0x18, 0x03, 0x03, id.len() as u8];
    frame.extend_from_slice(&id);
    frame.extend_from_slice(token.as_bytes());
    let datagram = forge(server, now, SpaceId::Data, &frame, 0);
    pair.deliver(false, &datagram);
    let after = pair.client.connection().remote_ids.current();
    assert!(before != after && after == id);
    let id = pair.client.send(crate::stream_id::Direction::Uni, 50_000);
    assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 50_000)));
    assert!(pair.client.closed.is_none() && pair.server.closed.is_none());
    assert!(!pair.client.connection().remote_ids.has_pending());
}
