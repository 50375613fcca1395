//! Tests of the ring of sent packets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const MS: u64 = 1_000_000;

fn pn(number: u64) -> PacketNumber {
    PacketNumber::new(number).unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * MS)
}

fn timing(delay_ms: u64) -> LossTiming {
    LossTiming {
        path: PathId::FIRST,
        delay: Duration::from_millis(delay_ms),
        persistent_congestion: Duration::from_millis(300),
        first_sample: Some(at(0)),
    }
}

fn packet(number: u64, sent_ms: u64, kind: PacketKind) -> SentPacket {
    SentPacket::new(pn(number), at(sent_ms), PathId::FIRST, 1200, kind)
}

fn token(number: u64) -> Token {
    Token::Crypto { offset: number, len: 1 }
}

impl SentPackets {
    fn send(&mut self, number: u64, sent_ms: u64, kind: PacketKind) {
        self.on_sent(packet(number, sent_ms, kind), &mut vec![token(number)]);
    }

    fn acked(&mut self, range: RangeInclusive<u64>) -> Vec<u64> {
        let mut numbers = Vec::new();
        self.on_acked(pn(*range.start())..=pn(*range.end()), |packet, tokens| {
            assert_eq!(tokens.collect::<Vec<_>>(), [token(packet.number.as_u64())]);
            numbers.push(packet.number.as_u64());
        });
        numbers
    }

    fn lost(&mut self, now_ms: u64, largest: u64, timing: &LossTiming) -> (Vec<u64>, LossSummary) {
        let mut numbers = Vec::new();
        let summary = self.detect_lost(at(now_ms), pn(largest), timing, |packet, tokens| {
            assert_eq!(tokens.collect::<Vec<_>>(), [token(packet.number.as_u64())]);
            numbers.push(packet.number.as_u64());
        });
        (numbers, summary)
    }
}

// RFC 9002 section 6.1.1
#[test]
fn three_packets_later_is_lost() {
    let mut sent = SentPackets::default();
    for number in 0..6 {
        sent.send(number, 10, PacketKind::AckEliciting);
    }
    assert_eq!(sent.acked(4..=4), [4]);
    let (lost, summary) = sent.lost(20, 4, &timing(100));
    assert_eq!(lost, [0, 1]);
    // RFC 9002 section 6.1.2: packets 2 and 3 follow 100 ms after they were sent; packet 5 was not overtaken.
    assert_eq!((summary.packets, summary.next), (2, Some(at(110))));
    assert_eq!(sent.lost(109, 4, &timing(100)).0, []);
    let (lost, summary) = sent.lost(110, 4, &timing(100));
    assert_eq!((lost, summary.next), (vec![2, 3], None));
    assert!(sent.has_ack_eliciting());
    assert_eq!(sent.acked(0..=5), [5]);
    assert!(sent.is_empty() && !sent.has_ack_eliciting() && sent.tokens.is_empty());
}

#[test]
fn nothing_is_settled_twice() {
    let mut sent = SentPackets::default();
    for number in 0..10 {
        sent.send(number, 0, PacketKind::AckEliciting);
    }
    assert_eq!(sent.acked(3..=4), [3, 4]);
    assert_eq!(sent.acked(2..=6), [2, 5, 6]);
    assert_eq!(sent.acked(2..=6), []);
    assert_eq!(sent.lost(0, 6, &timing(100)).0, [0, 1]);
    assert_eq!(sent.acked(0..=9), [7, 8, 9]);
}

// Attack: data comes in for hours, and nobody acknowledges the ACKs.
#[test]
fn runs_of_ack_only_packets_share_a_record() {
    let mut sent = SentPackets::default();
    sent.send(0, 0, PacketKind::AckEliciting);
    for number in 1..100_000 {
        sent.send(number, number, PacketKind::AckOnly);
    }
    assert_eq!((sent.records.len(), sent.tokens.len()), (2, 2));
    assert!(sent.records.capacity() <= 8);
    sent.send(100_000, 100_000, PacketKind::AckEliciting);
    sent.send(100_001, 100_000, PacketKind::AckOnly);
    assert_eq!(sent.records.len(), 4);
    assert_eq!(sent.acked(0..=100_001), [0, 99_999, 100_000, 100_001]);
    // Each settled record left; a later ACK-only packet does not replace what is no longer there.
    sent.send(100_002, 100_001, PacketKind::AckOnly);
    assert_eq!(sent.acked(100_002..=100_002), [100_002]);
}

#[test]
fn an_acknowledged_ack_only_packet_is_not_replaced() {
    let mut sent = SentPackets::default();
    sent.send(0, 0, PacketKind::AckEliciting);
    sent.send(1, 0, PacketKind::AckOnly);
    assert_eq!(sent.acked(1..=1), [1]);
    sent.send(2, 0, PacketKind::AckOnly);
    assert_eq!(sent.acked(0..=2), [0, 2]);
    assert!(sent.is_empty());
}

// RFC 9002 section 6.1: only packets in flight arm the timer, and count as lost.
#[test]
fn ack_only_packets_go_silently() {
    let mut sent = SentPackets::default();
    sent.send(0, 0, PacketKind::AckOnly);
    sent.send(1, 5, PacketKind::AckEliciting);
    sent.send(2, 5, PacketKind::AckEliciting);
    assert_eq!(sent.acked(2..=2), [2]);
    let (lost, summary) = sent.lost(6, 2, &timing(100));
    assert_eq!((lost, summary.packets, summary.next), (vec![], 0, Some(at(105))));
    let (lost, summary) = sent.lost(105, 2, &timing(100));
    assert_eq!((lost, summary.packets, summary.next), (vec![0, 1], 1, None));
}

// RFC 9002 section 7.6.2 and 7.6.3
#[test]
fn persistent_congestion() {
    let run = |acked: &[u64], first_sample, kind| {
        let mut sent = SentPackets::default();
        for number in 0..5 {
            sent.send(number, 100 * (number + 1), kind);
        }
        sent.send(5, 600, PacketKind::AckEliciting);
        sent.send(6, 600, PacketKind::AckEliciting);
        sent.send(7, 600, PacketKind::AckEliciting);
        for number in acked {
            sent.acked(*number..=*number);
        }
        sent.acked(7..=7);
        let timing = LossTiming { first_sample, ..timing(100) };
        sent.lost(700, 7, &timing).1.persistent_congestion
    };
    let eliciting = PacketKind::AckEliciting;
    // Packets 0 to 4 span 400 ms, more than 300.
    assert!(run(&[], Some(at(0)), eliciting));
    // From 1 to 4, and from 0 to 3, are 300 ms: not more.
    assert!(!run(&[0, 5, 6], Some(at(0)), eliciting));
    assert!(!run(&[4, 5, 6], Some(at(0)), eliciting));
    // One delivered in between breaks the run.
    assert!(!run(&[2, 5, 6], Some(at(0)), eliciting));
    assert!(run(&[5, 6], Some(at(0)), eliciting));
    // Packets sent before the first sample do not count.
    assert!(!run(&[5, 6], Some(at(100)), eliciting));
    assert!(!run(&[], None, eliciting));
    // Nor do MTU probes, and packets that nobody acknowledges.
    assert!(!run(&[5, 6], Some(at(0)), PacketKind::MtuProbe));
    assert!(!run(&[5, 6], Some(at(0)), PacketKind::Padding));
}

// RFC 9002 section 7.6.2: the last of a run are lost by time, one call after the other.
#[test]
fn persistent_congestion_over_several_calls() {
    let run = |acked: Option<u64>, first| {
        let mut sent = SentPackets::default();
        sent.send(0, 100, first);
        for number in 1..6 {
            sent.send(number, 100 * number, PacketKind::AckEliciting);
        }
        sent.send(6, 560, PacketKind::AckEliciting);
        sent.acked(6..=6);
        acked.map(|number| sent.acked(number..=number));
        // Those below 4 are lost by their number, 200 ms of the run; 4 and 5 follow by time.
        [600, 700, 800].map(|now| sent.lost(now, 6, &timing(300)).1.persistent_congestion)
    };
    // From 100 to 500 ms are more than 300. A packet that nobody settles may stand in front of all.
    for first in [PacketKind::AckEliciting, PacketKind::AckOnly] {
        assert_eq!(run(None, first), [false, false, true]);
        assert_eq!(run(Some(4), first), [false; 3], "one in between arrived");
        assert_eq!(run(Some(1), first), [false; 3], "from 200 ms on it is too short");
    }
}

/// A span is said once, and not again for what is lost after it; another one is.
#[test]
fn persistent_congestion_is_said_once_a_span() {
    let mut sent = SentPackets::default();
    for number in 0..12 {
        sent.send(number, 100 * (number + 1), PacketKind::AckEliciting);
    }
    for (largest, expected) in [(4, false), (7, true), (8, false), (9, false), (11, true)] {
        // Each call takes those that are three below.
        assert_eq!(sent.lost(0, largest, &timing(5000)).1.persistent_congestion, expected, "{largest}");
    }
}

#[test]
fn a_clock_that_just_started_loses_nothing_early() {
    let mut sent = SentPackets::default();
    for number in 0..3 {
        sent.send(number, 0, PacketKind::AckEliciting);
    }
    sent.acked(2..=2);
    let (lost, summary) = sent.lost(0, 2, &timing(100));
    assert_eq!((lost, summary.next), (vec![], Some(at(100))));
    let endless = LossTiming { delay: Duration::MAX, ..timing(0) };
    assert_eq!(sent.lost(1 << 30, 2, &endless).0, []);
}

// RFC 9002 section 6.2: what a probe repeats stays outstanding.
#[test]
fn probes_see_the_oldest_ack_eliciting_packets() {
    let mut sent = SentPackets::default();
    sent.send(0, 0, PacketKind::AckOnly);
    for number in 1..6 {
        sent.send(number, 0, PacketKind::AckEliciting);
    }
    sent.acked(2..=2);
    let mut seen = Vec::new();
    sent.for_each_oldest(2, |_, tokens| seen.extend(tokens));
    assert_eq!(seen, [token(1), token(3)]);
    assert_eq!(sent.acked(0..=9), [0, 1, 3, 4, 5]);
}

#[test]
fn clearing_gives_back_what_is_outstanding() {
    let mut sent = SentPackets::default();
    for number in 0..6 {
        sent.send(number, 0, PacketKind::AckEliciting);
    }
    sent.acked(1..=2);
    let mut forgotten = Vec::new();
    sent.clear(|packet, _| forgotten.push(packet.number.as_u64()));
    assert_eq!(forgotten, [0, 3, 4, 5]);
    assert!(sent.is_empty() && !sent.has_ack_eliciting());
    sent.send(6, 0, PacketKind::AckEliciting);
    assert_eq!(sent.acked(0..=6), [6]);
}

/// Random sends, acknowledgements and losses against a map of outstanding packets.
#[test]
fn agrees_with_a_model() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Token places wrap.
        let first_token = u32::MAX - rng.u32(0..2000);
        let mut sent = SentPackets { first_token, ..SentPackets::default() };
        let mut model: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let (mut next, mut largest, mut now) = (0_u64, None, 0_u64);
        for _ in 0..500 {
            now += rng.u64(0..3);
            match rng.u32(0..10) {
                0..6 => {
                    next += rng.u64(1..10).saturating_sub(7);
                    let count = rng.usize(0..4);
                    let mut tokens: Vec<_> = (0..count as u64).map(|i| token(next * 8 + i)).collect();
                    sent.on_sent(packet(next, now, PacketKind::AckEliciting), &mut tokens);
                    assert!(tokens.is_empty());
                    model.insert(next, (now, count));
                    next += 1;
                }
                6..8 if next > 0 => {
                    let end = next - 1 - rng.u64(0..next.min(12));
                    let start = end.saturating_sub(rng.u64(0..6));
                    let mut expected = Vec::new();
                    for number in start..=end {
                        expected.extend(model.remove(&number).map(|(_, count)| (number, count)));
                    }
                    let mut got = Vec::new();
                    sent.on_acked(pn(start)..=pn(end), |packet, tokens| {
                        let number = packet.number.as_u64();
                        let tokens: Vec<_> = tokens.collect();
                        got.push((number, tokens.len()));
                        for (i, settled) in tokens.into_iter().enumerate() {
                            assert_eq!(settled, token(number * 8 + i as u64), "seed {seed}");
                        }
                    });
                    assert_eq!(got, expected, "seed {seed}");
                    // An ACK of numbers that were left out is refused before it gets here.
                    largest = largest.max(got.last().map(|(number, _)| *number));
                }
                _ => {
                    let Some(largest) = largest else { continue };
                    let delay = 20;
                    let is_lost = |number: u64, sent: u64| number + 3 <= largest || (number < largest && sent + delay <= now);
                    let expected: Vec<_> = model.iter().filter(|(n, (s, _))| is_lost(**n, *s)).map(|(n, _)| *n).collect();
                    model.retain(|number, (sent, _)| !is_lost(*number, *sent));
                    let next_loss = model.iter().find(|(n, _)| **n < largest).map(|(_, (s, _))| at(s + delay));
                    let mut got = Vec::new();
                    let summary = sent.detect_lost(at(now), pn(largest), &timing(delay), |packet, _| {
                        got.push(packet.number.as_u64());
                    });
                    assert_eq!(got, expected, "seed {seed}");
                    assert_eq!(summary.next, next_loss, "seed {seed}");
                    assert_eq!(summary.packets as usize, expected.len());
                    // What is settled does not linger.
                    let span = sent.records.len() - model.len();
                    assert!(span <= PACKET_THRESHOLD as usize + 1, "seed {seed}: {span} settled records");
                }
            }
            assert_eq!(sent.has_ack_eliciting(), !model.is_empty(), "seed {seed}");
            let count: usize = sent.records.iter().map(|record| usize::from(record.tokens)).sum();
            assert_eq!(sent.tokens.len(), count, "seed {seed}");
        }
    }
}

// Attack: a thousand ranges in an ACK must not each walk the window.
#[test]
fn ranges_elsewhere_cost_no_walk() {
    let mut sent = SentPackets::default();
    for number in 0..100_000 {
        sent.send(number, 0, PacketKind::AckEliciting);
    }
    let mut settled = 0;
    for round in 0..500 {
        for range in (0..600).rev() {
            let number = 90_000 + range * 2 + round % 2;
            sent.on_acked(pn(number)..=pn(number), |_, _| settled += 1);
        }
    }
    assert_eq!(settled, 1200);
}

// What a burst took is given back once it is over.
#[test]
fn an_idle_ring_is_small() {
    let mut sent = SentPackets::default();
    for number in 0..10_000 {
        sent.send(number, 0, PacketKind::AckEliciting);
    }
    sent.acked(0..=9_999);
    assert!(sent.records.capacity() <= RETAINED && sent.tokens.capacity() <= RETAINED);
}
