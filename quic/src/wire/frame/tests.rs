//! Frames: round trips, known bytes, and what must be refused.

use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::ApplicationCode;
use crate::id::{CidSequence, ConnectionId, ResetToken};
use crate::stream_id::{Direction, StreamId};
use crate::wire::PacketNumber;

fn frames(payload: &[u8]) -> Result<Vec<Frame<'_>>, TransportError> {
    FrameIter::new(payload, PacketType::OneRtt, Side::Server).collect()
}

fn encode(frame: &impl EncodeFrame) -> Vec<u8> {
    let mut buf = vec![0; frame.size()];
    let mut writer = Writer::new(&mut buf);
    frame.encode(&mut writer);
    assert_eq!(writer.remaining(), 0, "size() is not what encode() puts");
    buf
}

fn refusal(payload: &[u8]) -> (TransportErrorCode, Option<u64>) {
    let error = frames(payload).unwrap_err();
    (error.code, error.frame)
}

fn stream(id: u32) -> StreamId {
    VarInt::from_u32(id).into()
}

fn number(number: u64) -> PacketNumber {
    PacketNumber::new(number).unwrap()
}

const BIG: u64 = (1 << 62) - 1;

/// The layouts of RFC 9000 sections 19.1 to 19.20, written out by hand.
#[test]
fn known_bytes() {
    let cases: Vec<(&[u8], Frame<'_>)> = vec![
        (&[0, 0, 0], Frame::Padding { len: 3 }),
        (&[1], Frame::Ping),
        (
            &[0x04, 0x04, 0x41, 0x00, 0x80, 0, 0x40, 0],
            Frame::ResetStream(ResetStream { id: stream(4), code: ApplicationCode::from(0x100), final_size: 0x4000 }),
        ),
        (&[0x05, 0x04, 0x00], Frame::StopSending(StopSending { id: stream(4), code: ApplicationCode::from(0) })),
        (&[0x06, 0x40, 0x50, 0x02, b'h', b'i'], Frame::Crypto(Crypto { offset: 0x50, data: b"hi" })),
        (&[0x07, 0x03, 1, 2, 3], Frame::NewToken(NewToken { token: &[1, 2, 3] })),
        (&[0x0a, 0x02, 0x01, b'x'], Frame::Stream(Stream { id: stream(2), offset: 0, fin: false, data: b"x" })),
        (&[0x0f, 0x03, 0x05, 0x00], Frame::Stream(Stream { id: stream(3), offset: 5, fin: true, data: b"" })),
        (&[0x10, 0x7f, 0xff], Frame::MaxData(MaxData { limit: 0x3fff })),
        (&[0x11, 0x08, 0x05], Frame::MaxStreamData(MaxStreamData { id: stream(8), limit: 5 })),
        (&[0x12, 0x0a], Frame::MaxStreams(MaxStreams { direction: Direction::Bi, limit: 10 })),
        (&[0x13, 0x0b], Frame::MaxStreams(MaxStreams { direction: Direction::Uni, limit: 11 })),
        (&[0x14, 0x06], Frame::DataBlocked(DataBlocked { limit: 6 })),
        (&[0x15, 0x01, 0x02], Frame::StreamDataBlocked(StreamDataBlocked { id: stream(1), limit: 2 })),
        (&[0x16, 0x0a], Frame::StreamsBlocked(StreamsBlocked { direction: Direction::Bi, limit: 10 })),
        (&[0x17, 0x0b], Frame::StreamsBlocked(StreamsBlocked { direction: Direction::Uni, limit: 11 })),
        (
            &[0x18, 0x02, 0x01, 0x01, 0xcc, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
            Frame::NewConnectionId(NewConnectionId {
                sequence: CidSequence::from(2),
                retire_prior_to: CidSequence::from(1),
                id: ConnectionId::new(&[0xcc]).unwrap(),
                reset_token: ResetToken::from([7; 16]),
            }),
        ),
        (&[0x19, 0x03], Frame::RetireConnectionId(RetireConnectionId { sequence: CidSequence::from(3) })),
        (&[0x1a, 1, 2, 3, 4, 5, 6, 7, 8], Frame::PathChallenge(PathChallenge([1, 2, 3, 4, 5, 6, 7, 8]))),
        (&[0x1b, 8, 7, 6, 5, 4, 3, 2, 1], Frame::PathResponse(PathResponse([8, 7, 6, 5, 4, 3, 2, 1]))),
        (
            &[0x1c, 0x0a, 0x06, 0x02, b'n', b'o'],
            Frame::Close(Close { code: TransportErrorCode::PROTOCOL_VIOLATION, frame: Some(6), reason: b"no" }),
        ),
        (&[0x1c, 0x41, 0x78, 0x00, 0x00], Frame::Close(Close { code: TransportErrorCode::crypto(0x78), frame: None, reason: b"" })),
        (&[0x1d, 0x41, 0x00, 0x00], Frame::ApplicationClose(ApplicationCloseFrame { code: ApplicationCode::from(0x100), reason: b"" })),
        (&[0x1e], Frame::HandshakeDone),
        (&[0x31, 2, 0xaa, 0xbb], Frame::Datagram(Datagram { data: &[0xaa, 0xbb], has_length: true })),
        (&[0x31, 0], Frame::Datagram(Datagram { data: &[], has_length: true })),
        (&[0x30, 0xaa], Frame::Datagram(Datagram { data: &[0xaa], has_length: false })),
    ];
    for (bytes, frame) in &cases {
        assert_eq!(frames(bytes).unwrap(), std::slice::from_ref(frame));
        assert_eq!(encode(frame), *bytes, "{frame:?}");
        assert_eq!(u64::from(frame.frame_type()), u64::from(bytes[0]));
    }
    let all: Vec<u8> = cases.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    let expected: Vec<Frame<'_>> = cases.into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(frames(&all).unwrap(), expected);
}

/// RFC 9000 section 19.3.1: each gap and length counts from zero.
#[test]
fn ack_ranges_of_known_bytes() {
    // 1000 down to 990; 987 is the next, alone; then 900 to 0.
    let bytes = [0x03, 0x43, 0xe8, 0x05, 0x02, 0x0a, 0x01, 0x00, 0x40, 0x55, 0x43, 0x84, 0x01, 0x02, 0x03];
    let parsed = frames(&bytes).unwrap();
    let [Frame::Ack(ack)] = &parsed[..] else { panic!("{parsed:?}") };
    assert_eq!((ack.largest, ack.delay), (number(1000), VarInt::from_u32(5)));
    assert_eq!(ack.ecn, Some(EcnCounts { ect0: 1, ect1: 2, ce: 3 }));
    let ranges: Vec<_> = ack.ranges.clone().collect();
    assert_eq!(ranges, [number(990)..=number(1000), number(987)..=number(987), number(0)..=number(900)]);
    assert_eq!(encode(&parsed[0]), bytes);
}

/// RFC 9000 section 19.3.1: a packet number below zero is FRAME_ENCODING_ERROR.
#[test]
fn ack_ranges_stay_above_zero() {
    let good: [&[u8]; 3] = [&[0x02, 5, 0, 0, 5], &[0x02, 5, 0, 1, 0, 0, 3], &[0x02, 5, 0, 1, 3, 0, 0]];
    for bytes in good {
        assert!(frames(bytes).is_ok(), "{bytes:?}");
    }
    let bad: [&[u8]; 5] =
        [&[0x02, 5, 0, 0, 6], &[0x02, 5, 0, 1, 0, 0, 4], &[0x02, 5, 0, 1, 4, 0, 0], &[0x02, 5, 0, 1, 3, 1, 0], &[0x02, 5, 0, 1, 5, 0, 0]];
    for bytes in bad {
        assert_eq!(refusal(bytes), (TransportErrorCode::FRAME_ENCODING_ERROR, Some(2)), "{bytes:?}");
    }
}

/// A count of ranges without ranges costs no time: it is found out before the loop over it.
#[test]
fn ack_range_count_is_matched_by_bytes() {
    for count in [&[0xff; 8][..], &[0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &[0x40, 0x64], &[1]] {
        let bytes = [&[0x02, 0x43, 0xe8, 0], count, &[0]].concat();
        assert_eq!(refusal(&bytes), (TransportErrorCode::FRAME_ENCODING_ERROR, Some(2)), "{count:?}");
    }
    // All bytes but the first range's are there.
    let bytes = [&[0x02, 0x43, 0xe8, 0, 10][..], &[0; 20]].concat();
    assert_eq!(refusal(&bytes).0, TransportErrorCode::FRAME_ENCODING_ERROR);
}

#[test]
fn ack_to_send_takes_the_newest_ranges_that_fit() {
    let ranges: Vec<RangeInclusive<PacketNumber>> = (1u64..=200).rev().map(|at| number(10 * at)..=number(10 * at + 3)).collect();
    let mut counts = vec![];
    for space in 0..600 {
        let Some(ack) = AckToSend::fit(VarInt::from_u32(9), ranges.iter().cloned(), None, space) else {
            assert!(space < 6, "{space}");
            continue;
        };
        assert!(ack.size() <= space);
        assert_eq!(ack.largest(), number(2003));
        let bytes = encode(&ack);
        let parsed = frames(&bytes).unwrap();
        let [Frame::Ack(received)] = &parsed[..] else { panic!("{parsed:?}") };
        let received: Vec<_> = received.ranges.clone().collect();
        assert_eq!(received, ranges[..received.len()]);
        if received.len() < ranges.len() {
            // Another range takes two bytes, and one more when their count outgrows a byte.
            assert!(ack.size() + 3 > space, "{space}");
        }
        counts.push(received.len());
    }
    assert_eq!((counts[0], counts.last()), (1, Some(&200)));
    assert!(AckToSend::fit(VarInt::ZERO, std::iter::empty(), None, 100).is_none());
}

/// RFC 9000 section 12.4: a frame type has one encoding, and unknown types are an error.
#[test]
fn frame_types_are_known_and_shortest() {
    for value in (0u64..=0x1e).chain(0x30..=0x31) {
        for width in [2, 4, 8] {
            let mut bytes = value.to_be_bytes()[8 - width..].to_vec();
            bytes[0] |= (width.ilog2() as u8) << 6;
            bytes.extend([0; 40]);
            assert_eq!(refusal(&bytes), (TransportErrorCode::PROTOCOL_VIOLATION, Some(value)), "{value:#x} in {width}");
        }
    }
    let unknown: [(&[u8], u64); 6] =
        [(&[0x1f], 0x1f), (&[0x20], 0x20), (&[0x2f, 1, 2], 0x2f), (&[0x32, 0], 0x32), (&[0x40, 0x40], 0x40), (&[0xff; 8], BIG)];
    for (bytes, value) in unknown {
        assert_eq!(refusal(bytes), (TransportErrorCode::FRAME_ENCODING_ERROR, Some(value)));
    }
    for bytes in [&[0x40][..], &[0x80, 0, 0], &[0xc0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(refusal(bytes), (TransportErrorCode::FRAME_ENCODING_ERROR, None));
    }
}

/// RFC 9000 section 12.4.
#[test]
fn a_packet_without_frames_is_a_violation() {
    assert_eq!(refusal(&[]), (TransportErrorCode::PROTOCOL_VIOLATION, None));
}

/// RFC 9000 section 12.4, table 3; sections 19.7 and 19.20.
#[test]
fn packets_and_sides_restrict_frames() {
    let refused = |bytes: &[u8], packet, sender| {
        let error = FrameIter::new(bytes, packet, sender).find_map(Result::err);
        error.map(|error| (error.code, error.frame))
    };
    let violation = |frame| Some((TransportErrorCode::PROTOCOL_VIOLATION, Some(frame)));
    assert_eq!(refused(&[0x10, 1], PacketType::Initial, Side::Client), violation(0x10));
    assert_eq!(refused(&[0x10, 1], PacketType::Handshake, Side::Server), violation(0x10));
    assert_eq!(refused(&[0x10, 1], PacketType::ZeroRtt, Side::Client), None);
    assert_eq!(refused(&[0x02, 0, 0, 0, 0], PacketType::ZeroRtt, Side::Client), violation(0x02));
    assert_eq!(refused(&[0x02, 0, 0, 0, 0], PacketType::Initial, Side::Client), None);
    assert_eq!(refused(&[0x1e], PacketType::OneRtt, Side::Client), violation(0x1e));
    assert_eq!(refused(&[0x07, 1, 1], PacketType::OneRtt, Side::Client), violation(0x07));
    assert_eq!(refused(&[0x07, 1, 1], PacketType::OneRtt, Side::Server), None);
}

#[test]
fn limits_of_fields() {
    let encoding_error = |frame| (TransportErrorCode::FRAME_ENCODING_ERROR, Some(frame));
    let max = [0xff; 8];
    let streams = [0xd0, 0, 0, 0, 0, 0, 0, 0];
    let too_many = [0xd0, 0, 0, 0, 0, 0, 0, 1];
    // RFC 9000 sections 19.11 and 19.14: at most 2^60 streams.
    for frame in [0x12, 0x13, 0x16, 0x17] {
        assert!(frames(&[&[frame][..], &streams].concat()).is_ok());
        assert_eq!(refusal(&[&[frame][..], &too_many].concat()), encoding_error(frame.into()));
    }
    // RFC 9000 section 19.8: no byte past 2^62 - 1; up to there, an empty frame is fine.
    assert!(frames(&[&[0x0e, 0][..], &max, &[0]].concat()).is_ok());
    assert_eq!(refusal(&[&[0x0e, 0][..], &max, &[1, 9]].concat()), encoding_error(0x0e));
    assert_eq!(refusal(&[&[0x0c, 0][..], &max, &[9]].concat()), encoding_error(0x0c));
    // RFC 9000 section 19.6.
    assert!(frames(&[&[0x06][..], &max, &[0]].concat()).is_ok());
    assert_eq!(refusal(&[&[0x06][..], &max, &[1, 9]].concat()), encoding_error(0x06));
    // RFC 9000 section 19.7.
    assert_eq!(refusal(&[0x07, 0]), encoding_error(0x07));
    // RFC 9000 section 19.15: ids of 1 to 20 bytes, and Retire Prior To at most the sequence number.
    let new_id = |sequence, prior, len: u8| [&[0x18, sequence, prior, len][..], &vec![1; 16 + usize::from(len)]].concat();
    assert!(frames(&new_id(1, 1, 20)).is_ok());
    assert_eq!(refusal(&new_id(1, 1, 0)), encoding_error(0x18));
    assert_eq!(refusal(&new_id(1, 1, 21)), encoding_error(0x18));
    assert_eq!(refusal(&new_id(1, 1, 255)), encoding_error(0x18));
    assert_eq!(refusal(&new_id(1, 2, 8)), encoding_error(0x18));
}

#[test]
fn limits_to_send_saturate() {
    assert_eq!(encode(&MaxData { limit: u64::MAX }), [&[0x10][..], &[0xff; 8]].concat());
}

#[test]
fn data_is_found_in_the_payload() {
    let payload = [&[1, 0x06, 0x05, 0x03][..], b"abc", &[0x0a, 0x04, 0x02], b"de", &[0, 0, 0x09, 0x08], b"to the end"].concat();
    let mut iter = FrameIter::new(&payload, PacketType::OneRtt, Side::Client);
    let mut found = vec![];
    while let Some(frame) = iter.next() {
        let data = match frame.unwrap() {
            Frame::Crypto(frame) => frame.data,
            Frame::Stream(frame) => frame.data,
            _ => continue,
        };
        assert_eq!(&payload[iter.data_range(data)], data);
        found.push(data);
    }
    assert_eq!(found, [&b"abc"[..], b"de", b"to the end"]);
}

#[test]
fn the_walk_ends_after_an_error() {
    let mut iter = FrameIter::new(&[0x01, 0x1f, 0x01], PacketType::OneRtt, Side::Client);
    assert_eq!(iter.next(), Some(Ok(Frame::Ping)));
    assert!(iter.next().unwrap().is_err());
    assert_eq!(iter.next(), None);
}

/// A STREAM frame without a length is the packet's last (RFC 9000 section 19.8).
#[test]
fn header_of_a_last_frame() {
    for offset in [0, 7, 1 << 33] {
        let header = StreamHeader { id: stream(8), offset, fin: true };
        let mut buf = vec![0; header.size_to_end() + 4];
        let mut writer = Writer::new(&mut buf);
        header.encode_to_end(&mut writer);
        assert_eq!(writer.remaining(), 4);
        writer.put_slice(b"data");
        assert_eq!(u64::from(header.frame_type_to_end()), u64::from(buf[0]));
        let expected = Stream { id: stream(8), offset, fin: true, data: b"data" };
        assert_eq!(frames(&buf).unwrap(), [Frame::Stream(expected)]);
    }
}

/// What one frame is made of, whatever its type.
#[derive(Clone, Debug)]
struct Parts {
    kind: usize,
    integers: [u64; 3],
    data: Vec<u8>,
    id: Vec<u8>,
    token: [u8; 16],
    flag: bool,
    /// Gap to the range above, and numbers below the largest.
    ranges: Vec<(u64, u64)>,
}

const KINDS: usize = 22;

fn any_parts() -> impl Strategy<Value = Parts> {
    let integer = || (0u64..1 << 62, 0u32..62).prop_map(|(value, shift)| value >> shift);
    let integers = [integer().boxed(), integer().boxed(), integer().boxed()];
    let range = (0u64..1 << 20, 0u64..1 << 20);
    (0..KINDS, integers, vec(any::<u8>(), 0..100), vec(any::<u8>(), 1..=20), any::<[u8; 16]>(), any::<bool>(), vec(range, 1..20))
        .prop_map(|(kind, integers, data, id, token, flag, ranges)| Parts { kind, integers, data, id, token, flag, ranges })
}

impl Parts {
    fn ack(&self) -> AckToSend<impl Iterator<Item = RangeInclusive<PacketNumber>> + Clone> {
        let needed: u64 = self.ranges.iter().map(|(gap, len)| gap + len + 2).sum();
        let mut largest = needed + self.integers[0].min(BIG - needed);
        let mut ranges = vec![];
        for (gap, len) in &self.ranges {
            ranges.push(number(largest - len)..=number(largest));
            largest -= len + gap + 2;
        }
        let ecn = EcnCounts { ect0: self.integers[0], ect1: self.integers[1], ce: self.integers[2] };
        let delay = VarInt::saturating(self.integers[1]);
        AckToSend::fit(delay, ranges.into_iter(), self.flag.then_some(ecn), 10_000).unwrap()
    }

    /// The frame, but an ACK frame, which reads its ranges from a packet.
    fn frame(&self) -> Frame<'_> {
        let [a, b, c] = self.integers;
        let id = StreamId::from(VarInt::saturating(a));
        let code = ApplicationCode::from(VarInt::saturating(b));
        let data = &self.data[..];
        let direction = if self.flag { Direction::Uni } else { Direction::Bi };
        let sequence = CidSequence::from(VarInt::saturating(a));
        let streams = a.min(StreamId::MAX_STREAMS);
        match self.kind {
            0 => Frame::Padding { len: 1 + data.len() },
            1 => Frame::Ping,
            2 => Frame::ResetStream(ResetStream { id, code, final_size: c }),
            3 => Frame::StopSending(StopSending { id, code }),
            4 => Frame::Crypto(Crypto { offset: b.min(BIG - 100), data }),
            5 => Frame::NewToken(NewToken { token: &self.id }),
            6 => Frame::Stream(Stream { id, offset: b.min(BIG - 100), fin: self.flag, data }),
            7 => Frame::MaxData(MaxData { limit: b }),
            8 => Frame::MaxStreamData(MaxStreamData { id, limit: b }),
            9 => Frame::MaxStreams(MaxStreams { direction, limit: streams }),
            10 => Frame::DataBlocked(DataBlocked { limit: b }),
            11 => Frame::StreamDataBlocked(StreamDataBlocked { id, limit: b }),
            12 => Frame::StreamsBlocked(StreamsBlocked { direction, limit: streams }),
            13 => Frame::NewConnectionId(NewConnectionId {
                sequence,
                retire_prior_to: CidSequence::from(VarInt::saturating(a.min(b))),
                id: ConnectionId::new(&self.id).unwrap(),
                reset_token: self.token.into(),
            }),
            14 => Frame::RetireConnectionId(RetireConnectionId { sequence }),
            15 => Frame::PathChallenge(PathChallenge(a.to_be_bytes())),
            16 => Frame::PathResponse(PathResponse(a.to_be_bytes())),
            17 => Frame::Close(Close { code: VarInt::saturating(b).into(), frame: (c != 0).then_some(c), reason: data }),
            18 => Frame::ApplicationClose(ApplicationCloseFrame { code, reason: data }),
            19 => Frame::Datagram(Datagram { data, has_length: true }),
            _ => Frame::HandshakeDone,
        }
    }
}

proptest! {
    #[test]
    fn round_trip_and_truncation(parts in any_parts()) {
        let bytes = if parts.kind == KINDS - 1 {
            let ack = parts.ack();
            let bytes = encode(&ack);
            let parsed = frames(&bytes).unwrap();
            let [Frame::Ack(received)] = &parsed[..] else { panic!("{parsed:?}") };
            prop_assert_eq!(received.largest, ack.largest());
            prop_assert_eq!(received.ranges.clone().count(), parts.ranges.len());
            prop_assert_eq!(received.ecn.is_some(), parts.flag);
            prop_assert_eq!(encode(&parsed[0]), bytes.clone());
            bytes
        } else {
            let frame = parts.frame();
            let bytes = encode(&frame);
            prop_assert_eq!(frames(&bytes).unwrap(), [frame]);
            bytes
        };
        if parts.kind != 0 {
            for cut in 1..bytes.len() {
                let (code, frame) = refusal(&bytes[..cut]);
                prop_assert_eq!(code, TransportErrorCode::FRAME_ENCODING_ERROR);
                prop_assert_eq!(frame, Some(bytes[0].into()));
            }
        }
    }

    #[test]
    fn any_payload_is_walked_or_refused(payload in vec(prop_oneof![0u8..0x20, 0x30u8..0x32, any::<u8>()], 0..300)) {
        for frame in FrameIter::new(&payload, PacketType::OneRtt, Side::Server) {
            match frame {
                Ok(Frame::Ack(ack)) => {
                    let mut previous: Option<PacketNumber> = None;
                    for range in ack.ranges {
                        prop_assert!(range.start() <= range.end());
                        prop_assert!(previous.is_none_or(|previous| previous.distance_from(*range.end()) >= 2));
                        previous = Some(*range.start());
                    }
                }
                Ok(_) => {}
                Err(error) => prop_assert!(matches!(
                    error.code,
                    TransportErrorCode::FRAME_ENCODING_ERROR | TransportErrorCode::PROTOCOL_VIOLATION
                )),
            }
        }
    }
}
