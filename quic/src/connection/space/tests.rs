//! Tests of packet number spaces.

use super::*;
use crate::ecn::EcnMark;
use crate::recovery::received::MAX_RANGES;
use crate::side::Side;
use crate::wire::PacketType;
use crate::wire::frame::{EcnCounts, Frame, FrameIter};

const MS: Duration = Duration::from_millis(1);

fn pn(number: u64) -> PacketNumber {
    PacketNumber::new(number).unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn timing() -> LossTiming {
    LossTiming { path: PathId::FIRST, delay: 100 * MS, persistent_congestion: 1000 * MS, first_sample: Some(at(0)) }
}

/// A space with the generator that leaves numbers out.
struct Sender {
    space: Space,
    secrets: Secrets,
}

impl Sender {
    fn new(id: SpaceId) -> Sender {
        Sender { space: Space::new(id, 25 * MS), secrets: Secrets::new([7; 16]) }
    }

    /// Sends a packet and says its number.
    fn send(&mut self, ms: u64, kind: PacketKind) -> u64 {
        let number = self.space.next_number().unwrap();
        let packet = SentPacket::new(number, at(ms), PathId::FIRST, 1200, kind);
        self.space.on_sent(packet, &mut vec![Token::Ping], &mut self.secrets);
        number.as_u64()
    }

    /// Takes in an ACK of ranges, the newest first, delayed by 8 times 100 us.
    fn ack(&mut self, ms: u64, ranges: &[(u64, u64)], ecn: Option<EcnCounts>) -> Result<(Vec<u64>, AckSummary), TransportError> {
        let mut payload = [0; 1200];
        let ranges = ranges.iter().map(|(start, end)| pn(*start)..=pn(*end));
        let frame = AckToSend::fit(VarInt::from_u32(100), ranges, ecn, payload.len()).unwrap();
        let mut tokens = Vec::new();
        let mut out = FrameWriter::new(&mut payload, &mut tokens);
        assert!(out.frame_without_token(&frame));
        let len = out.finish().len;
        let Some(Ok(Frame::Ack(ack))) = FrameIter::new(&payload[..len], PacketType::OneRtt, Side::Client).next() else {
            panic!("no ACK");
        };
        let mut acked = Vec::new();
        let summary = self.space.on_ack(at(ms), &ack, 3, |packet, _| acked.push(packet.number.as_u64()))?;
        Ok((acked, summary))
    }

    fn detect_lost(&mut self, ms: u64) -> Vec<u64> {
        let mut lost = Vec::new();
        self.space.detect_lost(at(ms), &timing(), |packet, _| lost.push(packet.number.as_u64()));
        lost
    }
}

// RFC 9002 appendix A.7 and A.10
#[test]
fn acknowledgement_sample_and_loss() {
    let mut sender = Sender::new(SpaceId::Handshake);
    for ms in 0..6 {
        sender.send(ms, PacketKind::AckEliciting);
    }
    assert_eq!(sender.space.times().last_ack_eliciting, Some(at(5)));
    let (acked, summary) = sender.ack(50, &[(4, 4), (1, 1)], None).unwrap();
    assert_eq!(acked, [4, 1]);
    assert_eq!(summary.packets, 2);
    let sample = RttSample { path: PathId::FIRST, sample: 46 * MS, delay: Duration::from_micros(800) };
    assert_eq!(summary.rtt, Some(sample));
    assert_eq!(sender.detect_lost(50), [0]);
    assert_eq!(sender.space.times().loss, Some(at(102)));
    assert_eq!(sender.detect_lost(103), [2, 3]);
    assert_eq!(sender.space.times().loss, None);
    assert_eq!(sender.space.largest_acked(), Some(pn(4)));
    // Late acknowledgements of lost packets, and repeated ones, are no news.
    let (acked, summary) = sender.ack(60, &[(0, 4)], None).unwrap();
    assert_eq!((acked, summary), (vec![], AckSummary::default()));
    sender.ack(60, &[(0, 5)], None).unwrap();
    assert_eq!(sender.space.times().last_ack_eliciting, None);
    assert!(sender.space.is_quiet());
}

// RFC 9002 section 5.1: no sample unless the largest is new and something new was ack-eliciting.
#[test]
fn when_there_is_no_sample() {
    let mut sender = Sender::new(SpaceId::Handshake);
    sender.send(0, PacketKind::AckEliciting);
    sender.send(1, PacketKind::AckOnly);
    sender.send(2, PacketKind::AckEliciting);
    let (_, summary) = sender.ack(10, &[(1, 1)], None).unwrap();
    assert_eq!((summary.packets, summary.rtt), (1, None), "only an ACK was acknowledged");
    let (_, summary) = sender.ack(20, &[(0, 1)], None).unwrap();
    assert_eq!((summary.packets, summary.rtt), (1, None), "the largest was known");
    let (_, summary) = sender.ack(30, &[(0, 2)], None).unwrap();
    assert_eq!(summary.rtt.unwrap().sample, 28 * MS);
}

// RFC 9002 section 5.3: an Initial packet is not delayed on purpose.
#[test]
fn initial_samples_have_no_delay() {
    let mut sender = Sender::new(SpaceId::Initial);
    sender.send(0, PacketKind::AckEliciting);
    let (_, summary) = sender.ack(10, &[(0, 0)], None).unwrap();
    assert_eq!(summary.rtt.unwrap().delay, Duration::ZERO);
}

// RFC 9000 section 13.1
#[test]
fn acknowledging_what_was_never_sent_is_a_violation() {
    for space in SpaceId::ALL {
        for ranges in [&[(0, 0)][..], &[(1, 1)], &[(0, 1 << 40)], &[(PacketNumber::MAX.as_u64(), PacketNumber::MAX.as_u64())]] {
            let mut sender = Sender::new(space);
            assert_eq!(sender.ack(1, ranges, None).unwrap_err().code, TransportErrorCode::PROTOCOL_VIOLATION);
        }
        let mut sender = Sender::new(space);
        sender.send(0, PacketKind::AckEliciting);
        assert_eq!(sender.ack(1, &[(0, 1)], None).unwrap_err().code, TransportErrorCode::PROTOCOL_VIOLATION);
        assert!(sender.ack(1, &[(0, 0)], None).is_ok());
    }
}

// RFC 9000 section 21.4: optimistic acknowledgement.
#[test]
fn acknowledging_a_number_left_out_is_a_violation() {
    let mut sender = Sender::new(SpaceId::Data);
    let numbers: Vec<_> = (0..2000).map(|ms| sender.send(ms, PacketKind::AckEliciting)).collect();
    let skipped: Vec<_> = (0..=*numbers.last().unwrap()).filter(|number| !numbers.contains(number)).collect();
    assert!((3..=8).contains(&skipped.len()), "{skipped:?}");
    assert!(skipped[0] < 64);
    for number in &skipped {
        for ranges in [&[(*number, *number)][..], &[(number - 1, number + 1)], &[(0, 1999)]] {
            let mut cheat = Sender::new(SpaceId::Data);
            (0..2000).for_each(|ms| _ = cheat.send(ms, PacketKind::AckEliciting));
            assert_eq!(cheat.ack(2000, ranges, None).unwrap_err().code, TransportErrorCode::PROTOCOL_VIOLATION);
        }
    }
    // An honest peer reports what it got.
    let mut honest = Vec::new();
    let mut start = 0;
    for number in skipped.iter().chain([&(numbers.last().unwrap() + 1)]) {
        honest.insert(0, (start, number - 1));
        start = number + 1;
    }
    let (acked, _) = sender.ack(2000, &honest, None).unwrap();
    assert_eq!(acked.len(), numbers.len());
}

#[test]
fn handshakes_leave_no_number_out() {
    let mut sender = Sender::new(SpaceId::Initial);
    for expected in 0..1000 {
        assert_eq!(sender.send(expected, PacketKind::AckEliciting), expected);
    }
}

// RFC 9000 section 12.3
#[test]
fn numbers_end() {
    let mut sender = Sender::new(SpaceId::Data);
    sender.space.numbers.next = Some(PacketNumber::MAX);
    sender.send(0, PacketKind::AckEliciting);
    assert_eq!(sender.space.next_number(), None);
    let last = PacketNumber::MAX.as_u64();
    assert_eq!(sender.ack(1, &[(last, last)], None).unwrap().0, [last]);
}

// RFC 9000 section 13.4.2.1: marks are validated by ACKs that raise the largest number.
#[test]
fn marked_packets_and_the_largest_number() {
    let mut sender = Sender::new(SpaceId::Data);
    for ms in 0..5 {
        let number = sender.space.next_number().unwrap();
        let mut packet = SentPacket::new(number, at(ms), PathId::FIRST, 1200, PacketKind::AckEliciting);
        packet.marked = ms > 1;
        sender.space.on_sent(packet, &mut vec![Token::Ping], &mut sender.secrets);
    }
    let mut ack = |range| {
        let summary = sender.ack(10, &[range], None).unwrap().1;
        (summary.marked, summary.raised)
    };
    assert_eq!(ack((0, 0)), (0, true));
    assert_eq!(ack((4, 4)), (1, true));
    assert_eq!(ack((1, 3)), (2, false));
    assert_eq!(ack((4, 4)), (0, false));
}

fn write_ack(space: &mut Space, ms: u64, room: usize) -> (bool, Vec<Token>, Vec<u8>) {
    let mut payload = vec![0; room];
    let mut tokens = Vec::new();
    let mut out = FrameWriter::new(&mut payload, &mut tokens);
    let is_written = space.write_ack(at(ms), 3, false, &mut out);
    let len = out.finish().len;
    payload.truncate(len);
    (is_written, tokens, payload)
}

// RFC 9000 section 13.2.1, 13.2.3
#[test]
fn acks_are_written_once_and_fit() {
    let mut space = Space::new(SpaceId::Data, 25 * MS);
    assert!(!write_ack(&mut space, 0, 1200).0, "nothing came");
    for number in 0..200 {
        space.received.on_packet(at(10), at(10), pn(number * 2), true, Some(EcnMark::Ect0));
    }
    assert!(!write_ack(&mut space, 18, 5).0, "no room");
    let (is_written, tokens, payload) = write_ack(&mut space, 18, 1200);
    assert!(is_written);
    assert_eq!(tokens, [Token::Ack { largest: pn(398) }]);
    let Some(Ok(Frame::Ack(ack))) = FrameIter::new(&payload, PacketType::OneRtt, Side::Client).next() else {
        panic!("no ACK");
    };
    assert_eq!((ack.largest, ack.delay.as_u64(), ack.ranges.count()), (pn(398), 1000, MAX_RANGES));
    assert_eq!(ack.ecn, Some(EcnCounts { ect0: 200, ect1: 0, ce: 0 }));
    assert!(!write_ack(&mut space, 19, 1200).0, "acknowledged twice");
    space.received.on_packet(at(20), at(20), pn(400), true, None);
    let (is_written, _, payload) = write_ack(&mut space, 20, 30);
    assert!(is_written && payload.len() <= 30);
}

// RFC 9000 section 13.2.4: acknowledged ACKs bound what is reported.
#[test]
fn an_acknowledged_ack_prunes_ranges() {
    let mut sender = Sender::new(SpaceId::Data);
    for number in [0, 2, 4, 6] {
        sender.space.received.on_packet(at(0), at(0), pn(number), true, None);
    }
    let mut tokens = write_ack(&mut sender.space, 0, 1200).1;
    let packet = SentPacket::new(pn(0), at(0), PathId::FIRST, 40, PacketKind::AckOnly);
    sender.space.on_sent(packet, &mut tokens, &mut sender.secrets);
    sender.space.received.on_packet(at(0), at(0), pn(8), true, None);
    sender.ack(1, &[(0, 0)], None).unwrap();
    assert_eq!(sender.space.received.ranges().collect::<Vec<_>>(), [pn(8)..=pn(8)]);
}

// RFC 9000 section 13.2.4: one who only receives asks for an acknowledgement now and then.
#[test]
fn long_runs_of_acks_want_a_ping() {
    let mut sender = Sender::new(SpaceId::Data);
    for ms in 0..MAX_ACK_ONLY_RUN {
        assert!(!sender.space.wants_ping());
        sender.send(ms.into(), PacketKind::AckOnly);
    }
    assert!(sender.space.wants_ping());
    sender.send(100, PacketKind::AckEliciting);
    assert!(!sender.space.wants_ping());
    (0..100).for_each(|ms| _ = sender.send(100 + ms, PacketKind::AckOnly));
    assert!(!sender.space.wants_ping(), "the answer to the first is still awaited");
}

/// Our ACKs seem not to arrive: one goes with a PING, whose probes repeat it.
#[test]
fn a_peer_that_probes_is_asked_for_an_acknowledgement() {
    let mut sender = Sender::new(SpaceId::Data);
    for (number, ms) in (0..).zip([0, 100, 300]) {
        assert!(!sender.space.wants_ping());
        sender.space.received.on_packet(at(ms), at(ms), pn(number), true, None);
    }
    assert!(sender.space.wants_ping() && sender.space.is_unheard());
    sender.send(300, PacketKind::AckEliciting);
    assert!(!sender.space.wants_ping());
    sender.space.received.on_packet(at(700), at(700), pn(3), true, None);
    sender.space.received.on_packet(at(1500), at(1500), pn(4), true, None);
    assert!(!sender.space.wants_ping(), "the answer to the first is still awaited");
}

#[test]
fn probes_repeat_the_acknowledgement_of_data() {
    for (id, is_repeated) in [(SpaceId::Initial, false), (SpaceId::Handshake, false), (SpaceId::Data, true)] {
        let mut space = Space::new(id, 25 * MS);
        let write = |space: &mut Space| {
            let mut payload = [0; 100];
            let mut tokens = Vec::new();
            space.write_ack(at(10), 3, true, &mut FrameWriter::new(&mut payload, &mut tokens))
        };
        assert!(!write(&mut space), "nothing came");
        space.received.on_packet(at(0), at(0), pn(0), true, None);
        assert!(write(&mut space));
        assert_eq!(write(&mut space), is_repeated, "{id:?}");
    }
}

// RFC 9000 section 17.2.5.3
#[test]
fn a_restart_forgets_what_was_sent() {
    let mut sender = Sender::new(SpaceId::Initial);
    (0..3).for_each(|ms| _ = sender.send(ms, PacketKind::AckEliciting));
    sender.space.received.on_packet(at(0), at(0), pn(0), true, None);
    sender.ack(5, &[(2, 2)], None).unwrap();
    sender.space.detect_lost(at(5), &timing(), |_, _| {});
    assert!(sender.space.times().loss.is_some());
    let mut forgotten = Vec::new();
    sender.space.on_restart(|packet, _| forgotten.push(packet.number.as_u64()));
    assert_eq!(forgotten, [0, 1]);
    let times = sender.space.times();
    assert_eq!((times.loss, times.last_ack_eliciting), (None, None));
    assert!(sender.space.received.is_ack_pending());
    assert_eq!(sender.space.next_number(), Some(pn(3)));
}

#[test]
fn ack_delay_of_any_size() {
    assert_eq!(decode_ack_delay(VarInt::from_u32(100), 3), Duration::from_micros(800));
    assert_eq!(decode_ack_delay(VarInt::MAX, 20), Duration::from_micros(u64::MAX));
    assert_eq!(decode_ack_delay(VarInt::MAX, 255), Duration::from_micros(u64::MAX));
    assert_eq!(encode_ack_delay(Duration::from_micros(807), 3).as_u64(), 100);
    assert_eq!(encode_ack_delay(Duration::MAX, 0), VarInt::MAX);
}

// Attack: an acknowledgement of a number left out long ago, and of the one left out last, when many were.
#[test]
fn the_last_numbers_left_out_are_remembered() {
    let mut sender = Sender::new(SpaceId::Data);
    let mut skipped = Vec::new();
    let mut previous = 0;
    for _ in 0..100_000 {
        let number = sender.send(0, PacketKind::AckOnly);
        skipped.extend(previous + 1..number);
        previous = number;
    }
    assert!(skipped.len() > Numbers::REMEMBERED, "{skipped:?}");
    for number in skipped.iter().rev().take(Numbers::REMEMBERED) {
        assert!(!sender.space.numbers.were_sent(pn(number - 1), pn(number + 1)));
        assert!(sender.space.numbers.were_sent(pn(number + 1), pn(number + 1)));
    }
}

/// A connection holds three spaces and shall fit into 2 KiB.
#[test]
fn size() {
    assert!(size_of::<Space>() <= 512, "{} bytes", size_of::<Space>());
}
