//! Frames where they must not be: in packets that may not carry them, in the handshake's streams when the handshake is over, beyond the
//! end of a stream.

use std::time::Duration;

use weald_quic::codec::{
    AckToSend, ApplicationCloseFrame, Close, Crypto, DataBlocked, Datagram, EcnCounts, EncodeFrame, HandshakeDone, MaxData, MaxStreamData,
    MaxStreams, NewConnectionId, NewToken, PathChallenge, PathResponse, Ping, ResetStream, RetireConnectionId, StopSending, Stream,
    StreamDataBlocked, StreamsBlocked, Writer,
};
use weald_quic::{
    ApplicationCode, CidSequence, ConnectionError, ConnectionId, Direction, PacketNumber, ResetToken, Side, StreamId, TransportConfig,
    TransportErrorCode, VarInt,
};
use weald_tests::attacker::{Attacker, Closed, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::world::{early_server_config, server_config};

const SECOND: Duration = Duration::from_secs(1);
const FLOW_CONTROL_ERROR: u64 = 0x03;
const FINAL_SIZE_ERROR: u64 = 0x06;
const PROTOCOL_VIOLATION: u64 = 0x0a;
const UNEXPECTED_MESSAGE: u64 = 0x10a;

/// A frame of each type, as `sender` may send it where nothing else is wrong with it, and where RFC 9000, table 3, lets it be: "IH01".
fn all_frames(sender: Side) -> Vec<(Box<dyn EncodeFrame>, &'static str)> {
    let id = StreamId::new(sender, Direction::Bi, 0).expect("a stream id");
    let code = ApplicationCode::from(7);
    let ack = |ecn| {
        let first = [PacketNumber::ZERO..=PacketNumber::ZERO];
        AckToSend::fit(VarInt::ZERO, first.into_iter(), ecn, 100).expect("it fits")
    };
    let new_connection_id = NewConnectionId {
        sequence: CidSequence::from(VarInt::from_u32(1)),
        retire_prior_to: CidSequence::ZERO,
        id: ConnectionId::new(&[1; 8]).expect("at most 20 bytes"),
        reset_token: ResetToken::from([9; 16]),
    };
    vec![
        (Box::new(Ping), "IH01"),
        (Box::new(ack(None)), "IH_1"),
        (Box::new(ack(Some(EcnCounts::default()))), "IH_1"),
        (Box::new(ResetStream { id, code, final_size: 0 }), "__01"),
        (Box::new(StopSending { id, code }), "__01"),
        (Box::new(Crypto { offset: 0, data: &[] }), "IH_1"),
        (Box::new(NewToken { token: b"token" }), "___1"),
        (Box::new(Stream { id, offset: 0, fin: false, data: b"data" }), "__01"),
        (Box::new(Stream { id, offset: 4, fin: true, data: b"data" }), "__01"),
        (Box::new(MaxData { limit: 1 }), "__01"),
        (Box::new(MaxStreamData { id, limit: 1 }), "__01"),
        (Box::new(MaxStreams { direction: Direction::Bi, limit: 1 }), "__01"),
        (Box::new(MaxStreams { direction: Direction::Uni, limit: 1 }), "__01"),
        (Box::new(DataBlocked { limit: 1 }), "__01"),
        (Box::new(StreamDataBlocked { id, limit: 1 }), "__01"),
        (Box::new(StreamsBlocked { direction: Direction::Bi, limit: 1 }), "__01"),
        (Box::new(StreamsBlocked { direction: Direction::Uni, limit: 1 }), "__01"),
        (Box::new(new_connection_id), "__01"),
        // Table 3 lets it into 0-RTT packets, where no client can have a reason; RFC 9000, 12.5, lets it be refused there.
        (Box::new(RetireConnectionId { sequence: CidSequence::from(VarInt::from_u32(1)) }), "___1"),
        (Box::new(PathChallenge([7; 8])), "__01"),
        (Box::new(PathResponse([7; 8])), "___1"),
        (Box::new(Close { code: TransportErrorCode::NO_ERROR, frame: None, reason: b"" }), "IH01"),
        (Box::new(ApplicationCloseFrame { code, reason: b"" }), "__01"),
        (Box::new(HandshakeDone), "___1"),
        (Box::new(Datagram { data: b"data", has_length: true }), "__01"),
        (Box::new(Datagram { data: b"data", has_length: false }), "__01"),
    ]
}

const KINDS: [(char, Kind, Stage); 3] =
    [('I', Kind::Initial, Stage::HelloSent), ('H', Kind::Handshake, Stage::HandshakeKeys), ('1', Kind::OneRtt, Stage::Confirmed)];

fn encoded(frame: &dyn EncodeFrame) -> Vec<u8> {
    let mut bytes = vec![0; frame.size()];
    frame.encode(&mut Writer::new(&mut bytes));
    bytes
}

/// What became of a packet with one frame: nothing, or a close with this code.
fn outcome(attacker: &mut Attacker) -> Option<u64> {
    match attacker.run(SECOND) {
        None => None,
        Some(Closed::Transport { code, .. }) => Some(code),
        other => panic!("{other:?}"),
    }
}

/// RFC 9000, 12.4, table 3: at a server.
#[test]
fn each_frame_in_each_packet_from_a_client() {
    let setup = Setup::of(server_config(1, TransportConfig::default().datagrams(true)));
    under_attack("frames in packets that forbid them", 1, setup, |arena| {
        let mut number = 0;
        for (letter, kind, stage) in KINDS {
            for (frame, allowed) in all_frames(Side::Client) {
                let frame_type = frame.frame_type();
                number += 1;
                let mut client = arena.client(number);
                // Its Initial packets come when the server has sent one, which an ACK then is for.
                client.handshake(stage.max(Stage::HandshakeKeys));
                client.packet(kind).frame(&*frame).send();
                // RFC 9000, 19.7, 19.20: what only servers may send.
                let only_servers = matches!(u64::from(frame_type), 0x07 | 0x1e);
                let code = match (u64::from(frame_type), kind) {
                    // RFC 9001, 6: a client has nothing to say in CRYPTO behind the handshake.
                    (0x06, Kind::OneRtt) => Some(UNEXPECTED_MESSAGE),
                    _ => (!allowed.contains(letter) || only_servers).then_some(PROTOCOL_VIOLATION),
                };
                assert_eq!(outcome(&mut client), code, "{frame_type:?} in {kind:?}");
            }
        }
        arena.memory_below(100_000);
    });
}

/// The same at a client.
#[test]
fn each_frame_in_each_packet_from_a_server() {
    for (letter, kind, stage) in KINDS {
        for (number, (frame, allowed)) in all_frames(Side::Server).into_iter().enumerate() {
            let frame_type = frame.frame_type();
            let bytes = encoded(&*frame);
            // RFC 9221, 3: nor where the client has not said that it takes them.
            let is_refused = !allowed.contains(letter) || matches!(u64::from(frame_type), 0x30 | 0x31);
            // Those that are permitted are at home in `each_frame_in_each_packet_from_a_client`; a few of them are enough here.
            if !is_refused && number % 4 != 0 {
                continue;
            }
            let ended = client_under_attack("frames in packets that forbid them", 2, move |mut server| {
                server.handshake(stage);
                server.packet(kind).raw(&bytes).send();
                if is_refused {
                    server.expect_close(PROTOCOL_VIOLATION);
                } else {
                    server.handshake(Stage::Confirmed);
                    server.expect_alive();
                }
            });
            assert_eq!(ended.is_some(), is_refused, "{frame_type:?} in {kind:?}: {ended:?}");
        }
    }
}

/// The same in 0-RTT packets, at a server that takes them: kept until it has read the ClientHello, and opened at once.
#[test]
fn each_frame_in_early_data() {
    let setup = Setup::of(early_server_config(5, TransportConfig::default().datagrams(true)));
    under_attack("frames in 0-RTT packets that forbid them", 5, setup, |arena| {
        for (number, (frame, allowed)) in (1..).zip(all_frames(Side::Client)) {
            let frame_type = frame.frame_type();
            let mut client = arena.early_client(number);
            client.handshake(Stage::HelloSent);
            if number % 2 == 0 {
                client.handshake(Stage::HandshakeKeys);
                assert_ne!(client.is_early_data_accepted(), Some(false));
            }
            client.packet(Kind::ZeroRtt).frame(&*frame).send();
            let code = (!allowed.contains('0')).then_some(PROTOCOL_VIOLATION);
            assert_eq!(outcome(&mut client), code, "{frame_type:?}");
        }
    });
}

/// RFC 9001, 4.9, 6: when TLS is gone, CRYPTO at the levels whose keys are gone is not even seen, and at the one that is left it is an
/// error from a client.
#[test]
fn crypto_after_the_handshake_from_a_client() {
    under_attack("CRYPTO after the handshake", 3, Setup::new(3), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        for _ in 0..1000 {
            client.send_crypto(Kind::Initial, &[1; 500]);
            client.send_crypto(Kind::Handshake, &[20; 500]);
        }
        client.expect_alive();
        arena.memory_below(60_000);
        // The same offset as before, beyond it, far beyond it, and nothing new.
        for (number, offset, data) in [(2, 0, &[4_u8; 100][..]), (3, 70_000, &[4; 100]), (4, 1 << 61, &[4]), (5, 0, &[24])] {
            let mut client = arena.client(number);
            client.handshake(Stage::Confirmed);
            client.packet(Kind::OneRtt).frame(&Crypto { offset, data }).send();
            client.expect_close(UNEXPECTED_MESSAGE);
        }
    });
}

/// The same from a server, which may send tickets: as many as it likes, as nobody keeps more than the first.
#[test]
fn crypto_after_the_handshake_from_a_server() {
    let ended = client_under_attack("endless tickets", 4, |mut server| {
        server.handshake(Stage::Confirmed);
        // RFC 8446, 4.6.1: good for 256 seconds, without a nonce, 983 bytes long and without extensions.
        let ticket = [&[4, 0, 3, 0xe4, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0xd7][..], &[0x55; 983], &[0, 0]].concat();
        for round in 0..2000 {
            server.send_crypto(Kind::OneRtt, &ticket);
            if round % 50 == 49 {
                server.expect_alive();
            }
        }
    });
    assert_eq!(ended, None);
    // A message that is no ticket; one at a level that TLS has left, while its keys are there still.
    let others: [(Stage, Kind, &[u8]); 3] = [
        (Stage::Confirmed, Kind::OneRtt, &[24, 0, 0, 1, 0]),
        (Stage::Confirmed, Kind::OneRtt, &[1]),
        (Stage::Complete, Kind::Handshake, &[4, 0, 0, 1, 0]),
    ];
    for (stage, kind, data) in others {
        let ended = client_under_attack("CRYPTO after the handshake", 5, move |mut server| {
            server.handshake(stage);
            server.send_crypto(kind, data);
            server.expect_close(UNEXPECTED_MESSAGE);
        });
        assert!(ended.is_some(), "{data:?}");
    }
}

/// RFC 9000, 4.5: the end of a stream is said once, and nothing lies behind it.
fn final_sizes(sender: Side) -> Vec<(&'static str, Vec<Vec<u8>>, u64)> {
    let id = StreamId::new(sender, Direction::Uni, 0).expect("a stream id");
    let code = ApplicationCode::from(7);
    let stream = |offset, fin, data| encoded(&Stream { id, offset, fin, data });
    let reset = |final_size| encoded(&ResetStream { id, code, final_size });
    vec![
        ("data behind the end", vec![stream(0, true, b"four"), stream(4, false, b"x")], FINAL_SIZE_ERROR),
        ("an end further on", vec![stream(0, true, b"four"), stream(8, true, b"")], FINAL_SIZE_ERROR),
        ("an end further back", vec![stream(4, true, b"four"), stream(0, true, b"four")], FINAL_SIZE_ERROR),
        ("an end before what came", vec![stream(4, false, b"four"), stream(0, true, b"four")], FINAL_SIZE_ERROR),
        ("a reset before what came", vec![stream(0, false, b"four"), reset(3)], FINAL_SIZE_ERROR),
        ("a reset that moves the end", vec![stream(4, true, b"four"), reset(9)], FINAL_SIZE_ERROR),
        ("a second reset that does", vec![reset(5), reset(6)], FINAL_SIZE_ERROR),
        ("data behind a reset", vec![reset(5), stream(5, false, b"x")], FINAL_SIZE_ERROR),
        ("a reset beyond the limit", vec![reset(1 << 40)], FLOW_CONTROL_ERROR),
        ("a reset beyond all limits", vec![reset(VarInt::MAX.as_u64())], FLOW_CONTROL_ERROR),
        ("an end beyond the limit", vec![stream(1 << 40, true, b"")], FLOW_CONTROL_ERROR),
    ]
}

#[test]
fn final_sizes_that_change_from_a_client() {
    under_attack("final sizes", 6, Setup::new(6), |arena| {
        for (number, (name, frames, code)) in (1..).zip(final_sizes(Side::Client)) {
            println!("{name}");
            // In one packet, and in one each.
            let mut client = arena.client(2 * number);
            client.handshake(Stage::Confirmed);
            client.packet(Kind::OneRtt).raw(&frames.concat()).send();
            client.expect_close(code);
            let mut client = arena.client(2 * number + 1);
            client.handshake(Stage::Confirmed);
            for frame in frames {
                client.packet(Kind::OneRtt).raw(&frame).send();
            }
            client.expect_close(code);
        }
        // What does not change is no error.
        let id = StreamId::from(VarInt::from_u32(2));
        let mut client = arena.client(100);
        client.handshake(Stage::Confirmed);
        for _ in 0..3 {
            client.packet(Kind::OneRtt).frame(&Stream { id, offset: 4, fin: true, data: b"four" }).send();
            client.packet(Kind::OneRtt).frame(&ResetStream { id, code: ApplicationCode::from(7), final_size: 8 }).send();
        }
        client.expect_alive();
    });
}

#[test]
fn final_sizes_that_change_from_a_server() {
    for (name, frames, code) in final_sizes(Side::Server) {
        let ended = client_under_attack("final sizes", 7, move |mut server| {
            server.handshake(Stage::Confirmed);
            for frame in frames {
                server.packet(Kind::OneRtt).raw(&frame).send();
            }
            server.expect_close(code);
        });
        assert!(matches!(&ended, Some(ConnectionError::Transport(error)) if error.code.as_u64() == code), "{name}: {ended:?}");
    }
}
