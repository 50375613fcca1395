//! The codec that the crate and its attackers share, against the one by hand: bytes by bytes, and packet by packet.

use std::time::Duration;

use weald_crypto::Level;
use weald_quic::codec::{
    AckToSend, ApplicationCloseFrame, Close, Crypto, DataBlocked, Datagram, EcnCounts, EncodeFrame, FrameIter, HandshakeDone, MaxData,
    MaxStreamData, MaxStreams, NewConnectionId, NewToken, PathChallenge, PathResponse, Ping, ResetStream, RetireConnectionId, StopSending,
    Stream, StreamDataBlocked, StreamsBlocked, Writer,
};
use weald_quic::{ApplicationCode, CidSequence, ConnectionId, Direction, PacketNumber, ResetToken, Side, StreamId, VarInt};
use weald_runtime::spawn;
use weald_tests::attacker::{Attacker, Kind, Stage};
use weald_tests::hand::{HandPeer, parameter, parameters, varint};
use weald_tests::world::{client_address, link, server_address, simulate};

/// A frame type and numbers behind it.
fn numbers(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| varint(&mut out, *value));
    out
}

fn number(number: u64) -> PacketNumber {
    PacketNumber::new(number).expect("a packet number")
}

/// Each frame of RFC 9000, 19, and RFC 9221, 4, as the shared codec writes it, with numbers of each width.
#[test]
fn both_codecs_write_each_frame_alike_and_read_it_back() {
    for large in [7, 300, 70_000, (1 << 40) + 5] {
        let stream = StreamId::from(VarInt::saturating(4 * large));
        let code = ApplicationCode::from(VarInt::saturating(large));
        let ranges = [number(large + 100)..=number(large + 130), number(large + 2)..=number(large + 50), number(large)..=number(large)];
        let ack = |ecn| AckToSend::fit(VarInt::saturating(large), ranges.iter().cloned(), ecn, 1000).expect("it fits");
        let id = ConnectionId::new(&[1, 2, 3, 4, 5]).expect("at most 20 bytes");
        let sequence = |sequence| CidSequence::from(VarInt::saturating(sequence));
        let cases: Vec<(Box<dyn EncodeFrame>, Vec<u8>)> = vec![
            (Box::new(Ping), vec![0x01]),
            (Box::new(ack(None)), numbers(&[0x02, large + 130, large, 2, 30, 48, 48, 0, 0])),
            (
                Box::new(ack(Some(EcnCounts { ect0: large, ect1: 0, ce: 3 }))),
                numbers(&[0x03, large + 130, large, 2, 30, 48, 48, 0, 0, large, 0, 3]),
            ),
            (Box::new(ResetStream { id: stream, code, final_size: large }), numbers(&[0x04, 4 * large, large, large])),
            (Box::new(StopSending { id: stream, code }), numbers(&[0x05, 4 * large, large])),
            (Box::new(Crypto { offset: large, data: b"abc" }), [numbers(&[0x06, large, 3]), b"abc".to_vec()].concat()),
            (Box::new(NewToken { token: b"token" }), [numbers(&[0x07, 5]), b"token".to_vec()].concat()),
            (
                Box::new(Stream { id: stream, offset: large, fin: false, data: b"data" }),
                [numbers(&[0x0e, 4 * large, large, 4]), b"data".to_vec()].concat(),
            ),
            (Box::new(Stream { id: stream, offset: 0, fin: true, data: b"" }), numbers(&[0x0b, 4 * large, 0])),
            (Box::new(MaxData { limit: large }), numbers(&[0x10, large])),
            (Box::new(MaxStreamData { id: stream, limit: large }), numbers(&[0x11, 4 * large, large])),
            (Box::new(MaxStreams { direction: Direction::Bi, limit: large }), numbers(&[0x12, large])),
            (Box::new(MaxStreams { direction: Direction::Uni, limit: large }), numbers(&[0x13, large])),
            (Box::new(DataBlocked { limit: large }), numbers(&[0x14, large])),
            (Box::new(StreamDataBlocked { id: stream, limit: large }), numbers(&[0x15, 4 * large, large])),
            (Box::new(StreamsBlocked { direction: Direction::Bi, limit: large }), numbers(&[0x16, large])),
            (Box::new(StreamsBlocked { direction: Direction::Uni, limit: large }), numbers(&[0x17, large])),
            (
                Box::new(NewConnectionId {
                    sequence: sequence(large),
                    retire_prior_to: sequence(large - 1),
                    id,
                    reset_token: ResetToken::from([9; 16]),
                }),
                [numbers(&[0x18, large, large - 1]), vec![5, 1, 2, 3, 4, 5], vec![9; 16]].concat(),
            ),
            (Box::new(RetireConnectionId { sequence: sequence(large) }), numbers(&[0x19, large])),
            (Box::new(PathChallenge([3; 8])), [vec![0x1a], vec![3; 8]].concat()),
            (Box::new(PathResponse([4; 8])), [vec![0x1b], vec![4; 8]].concat()),
            (
                Box::new(Close { code: VarInt::saturating(large).into(), frame: Some(0x06), reason: b"why" }),
                [numbers(&[0x1c, large, 0x06, 3]), b"why".to_vec()].concat(),
            ),
            (Box::new(ApplicationCloseFrame { code, reason: b"why" }), [numbers(&[0x1d, large, 3]), b"why".to_vec()].concat()),
            (Box::new(HandshakeDone), vec![0x1e]),
            (Box::new(Datagram { data: b"data", has_length: false }), b"\x30data".to_vec()),
            (Box::new(Datagram { data: b"data", has_length: true }), b"\x31\x04data".to_vec()),
        ];
        for (frame, by_hand) in cases {
            let mut bytes = vec![0; frame.size()];
            frame.encode(&mut Writer::new(&mut bytes));
            assert_eq!(bytes, by_hand, "{:?}", frame.frame_type());
            let mut read = FrameIter::new(&by_hand, Kind::OneRtt, Side::Server);
            let decoded = read.next().expect("a frame").expect("a valid frame");
            assert_eq!(decoded.frame_type(), frame.frame_type());
            let mut again = vec![0; decoded.size()];
            decoded.encode(&mut Writer::new(&mut again));
            assert_eq!(again, by_hand);
            assert_eq!(read.next(), None);
        }
    }
}

/// Packets of each type, both ways: one end writes and reads by hand, the other with the shared codec.
#[test]
fn peers_of_both_codecs_shake_hands() {
    let parameters_of_server = |original: &[u8], source: &[u8]| {
        let mut out = parameters(source);
        parameter(&mut out, 0x00, original);
        out
    };
    simulate(1, link(), || {
        let serving = spawn(move || {
            let mut server = HandPeer::accept(1, server_address(), parameters_of_server);
            server.connect();
            server.send_frames(Level::OneRtt, &[0x01]);
            server.run(Duration::from_secs(3))
        });
        let mut client = Attacker::client(1, client_address(1), server_address());
        client.handshake(Stage::Confirmed);
        assert_eq!(client.run(Duration::from_secs(1)), None);
        client.packet(Kind::OneRtt).frame(&Close { code: VarInt::from_u32(7).into(), frame: None, reason: b"" }).send();
        assert_eq!(serving.join().expect("no panic"), Some(weald_tests::hand::Closed::Transport(7, 0)));
    });
    simulate(2, link(), || {
        let serving = spawn(|| {
            let mut server = Attacker::server(2, server_address());
            server.handshake(Stage::Confirmed);
            server.packet(Kind::OneRtt).frame(&Close { code: VarInt::from_u32(8).into(), frame: None, reason: b"" }).send();
        });
        let mut client = HandPeer::new(2, client_address(1), server_address(), parameters);
        client.connect();
        assert_eq!(client.run(Duration::from_secs(1)), Some(weald_tests::hand::Closed::Transport(8, 0)));
        serving.join().expect("no panic");
    });
}
