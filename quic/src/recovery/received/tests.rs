//! Tests of received packet numbers.

use std::collections::BTreeSet;

use super::*;

const DELAY: Duration = Duration::from_millis(25);

fn pn(number: u64) -> PacketNumber {
    PacketNumber::new(number).unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

impl Received {
    /// Receives an ack-eliciting packet and says when its ACK is due.
    fn receive(&mut self, ms: u64, number: u64) -> Option<Instant> {
        self.on_packet(at(ms), at(ms), pn(number), true, None);
        self.ack_deadline()
    }

    fn numbers(&self) -> Vec<(u64, u64)> {
        self.ranges().map(|range| (range.start().as_u64(), range.end().as_u64())).collect()
    }
}

// RFC 9000 section 13.2.2: at once for the second, after max_ack_delay for one.
#[test]
fn every_second_packet() {
    let mut received = Received::new(DELAY);
    assert!(!received.is_ack_pending());
    assert_eq!(received.receive(100, 0), Some(at(125)));
    assert_eq!(received.receive(110, 1), Some(at(110)));
    received.on_ack_written();
    assert_eq!(received.ack_deadline(), None);
    assert_eq!(received.receive(120, 2), Some(at(145)));
    assert_eq!(received.receive(200, 3), Some(at(145)), "a deadline that passed moved");
}

// RFC 9000 section 13.2.1: out of order, after a gap, or marked.
#[test]
fn at_once_when_reordered_missing_or_marked() {
    let mut received = Received::new(DELAY);
    let mut due = |number, mark| {
        received.on_packet(at(100), at(100), pn(number), true, mark);
        let due = received.ack_deadline();
        received.on_ack_written();
        due
    };
    let later = Some(at(100) + DELAY);
    assert_eq!(due(1, None), Some(at(100)), "packet 0 is missing");
    assert_eq!(due(0, None), Some(at(100)), "packet 0 is late");
    assert_eq!(due(2, None), later);
    assert_eq!(due(5, None), Some(at(100)), "3 and 4 are missing");
    assert_eq!(due(6, None), later, "the gap was reported");
    assert_eq!(due(7, Some(EcnMark::Ce)), Some(at(100)));
    assert_eq!(due(8, Some(EcnMark::Ect0)), later);
    assert_eq!(received.ecn(), Some(EcnCounts { ect0: 1, ect1: 0, ce: 1 }));
}

// RFC 9000 section 13.2.1: what elicits nothing is reported with the next ACK, and alone triggers none.
#[test]
fn packets_that_elicit_nothing() {
    let mut received = Received::new(DELAY);
    for number in 0..10 {
        received.on_packet(at(number), at(number), pn(number), false, None);
    }
    assert!(!received.is_ack_pending());
    assert_eq!(received.receive(20, 10), Some(at(45)));
    assert_eq!(received.numbers(), [(0, 10)]);
    assert_eq!(received.ack_delay(at(30)), Duration::from_millis(10));
}

// RFC 9000 section 13.2.1: Initial and Handshake packets.
#[test]
fn without_delay_every_packet_is_acknowledged_at_once() {
    let mut received = Received::new(Duration::ZERO);
    assert_eq!(received.receive(100, 0), Some(at(100)));
}

#[test]
fn ranges_join() {
    let mut received = Received::new(DELAY);
    for number in [5, 1, 3, 9, 2, 4, 7] {
        assert!(!received.is_duplicate(pn(number)));
        received.receive(0, number);
        assert!(received.is_duplicate(pn(number)));
    }
    assert_eq!(received.numbers(), [(9, 9), (7, 7), (1, 5)]);
    for number in [0, 6, 8, 10] {
        assert!(!received.is_duplicate(pn(number)));
    }
    assert_eq!(received.largest(), Some(pn(9)));
}

// Attack: every second number; RFC 9000 section 13.2.3.
#[test]
fn a_peer_that_leaves_gaps_is_bounded() {
    let mut received = Received::new(DELAY);
    for number in 0..8 {
        received.receive(0, number * 2);
    }
    assert!(matches!(received.ranges.storage, Storage::Inline(_)));
    for number in 8..100_000 {
        received.receive(0, number * 2);
    }
    let ranges = received.numbers();
    assert_eq!(ranges.len(), MAX_RANGES);
    assert_eq!((ranges[0], ranges[63]), ((199_998, 199_998), (199_872, 199_872)));
    // What was forgotten is not taken a second time, nor are the gaps among it.
    for number in [0, 1, 199_869, 199_870] {
        assert!(received.is_duplicate(pn(number)), "{number}");
    }
    assert!(!received.is_duplicate(pn(199_871)));
    // A number below all ranges is taken once and forgotten at once.
    received.receive(0, 199_869 + 2);
    assert_eq!(received.numbers().len(), MAX_RANGES);
    assert!(received.is_duplicate(pn(199_871)));
}

#[test]
fn the_oldest_of_many_is_taken_once() {
    let mut received = Received::new(DELAY);
    for number in 1..=MAX_RANGES as u64 {
        received.receive(0, number * 10);
    }
    assert!(!received.is_duplicate(pn(5)));
    received.receive(0, 5);
    assert!(received.is_duplicate(pn(5)));
    assert_eq!(received.numbers().len(), MAX_RANGES);
    assert!(!received.is_duplicate(pn(6)));
}

// RFC 9000 section 13.2.4
#[test]
fn acknowledged_ranges_are_forgotten() {
    let mut received = Received::new(DELAY);
    for number in 0..20 {
        received.receive(0, number * 2);
    }
    assert!(matches!(received.ranges.storage, Storage::Boxed(_)));
    received.on_ack_acked(pn(30));
    assert_eq!(received.numbers(), [(38, 38), (36, 36), (34, 34), (32, 32)]);
    assert!(matches!(received.ranges.storage, Storage::Inline(_)), "few ranges stay on the heap");
    assert!(received.is_duplicate(pn(29)) && received.is_duplicate(pn(30)) && !received.is_duplicate(pn(31)));
    // The largest stays for good: numbers are decoded from it, and an ACK frame needs one.
    for largest in [38, PacketNumber::MAX.as_u64()] {
        received.on_ack_acked(pn(largest));
        assert_eq!(received.numbers(), [(38, 38)]);
        assert!(received.is_duplicate(pn(37)) && received.is_duplicate(pn(38)));
        assert!(!received.is_duplicate(pn(39)));
    }
    received.on_ack_acked(pn(3));
    assert_eq!(received.numbers(), [(38, 38)]);
    received.on_ack_written();
    assert_eq!(received.receive(10, 39), Some(at(10) + DELAY), "no gap after what was forgotten");
}

#[test]
fn the_last_packet_number() {
    let mut received = Received::new(DELAY);
    let last = PacketNumber::MAX.as_u64();
    received.receive(0, last);
    received.receive(0, last - 1);
    assert_eq!(received.numbers(), [(last - 1, last)]);
    received.on_ack_acked(PacketNumber::MAX);
    assert!(received.is_duplicate(PacketNumber::MAX));
}

/// Random arrivals and acknowledged ACKs against a set: nothing is taken twice, and what is reported was received.
#[test]
fn agrees_with_a_model() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut received = Received::new(DELAY);
        let mut model = BTreeSet::new();
        let spread = [4, 40, 400][seed as usize % 3];
        for step in 0..1000 {
            let number = (step + rng.u64(0..spread)).saturating_sub(rng.u64(0..spread));
            if received.is_duplicate(pn(number)) {
                assert!(model.contains(&number) || pn(number) < received.floor, "seed {seed}: {number} is new");
            } else {
                assert!(model.insert(number), "seed {seed}: {number} taken twice");
                received.receive(step, number);
                assert!(received.is_duplicate(pn(number)), "seed {seed}");
            }
            if rng.u32(0..50) == 0 {
                received.on_ack_acked(pn(step.saturating_sub(rng.u64(0..2 * spread))));
            }
            let ranges = received.numbers();
            assert!(ranges.len() <= MAX_RANGES, "seed {seed}");
            assert_eq!(ranges[0].1, *model.last().unwrap(), "seed {seed}");
            assert!(ranges.windows(2).all(|pair| pair[0].0 > pair[1].1 + 1), "seed {seed}: {ranges:?}");
            let reported: usize = ranges.iter().map(|(start, end)| (end - start + 1) as usize).sum();
            let first = ranges.last().unwrap().0;
            assert_eq!(reported, model.range(first..).count(), "seed {seed}");
            assert!(ranges.iter().all(|(start, end)| model.range(*start..=*end).count() as u64 == end - start + 1));
            assert!(received.floor <= pn(first), "seed {seed}");
        }
    }
}

// RFC 9002 section 6.2.1, 6.2.4: probes come in ones and twos, each later than those before, whichever of them are lost.
#[test]
fn a_peer_that_probes_is_told_from_one_that_sends() {
    /// Whether packets at these times are taken for probes after each.
    fn probing(times: &[u64]) -> Vec<bool> {
        let mut received = Received::new(DELAY);
        let verdict = |(number, ms): (u64, &u64)| {
            received.receive(*ms, number);
            received.is_peer_probing()
        };
        (0..).zip(times).map(verdict).collect()
    }
    assert_eq!(probing(&[0, 100, 300, 700]), [false, false, true, true]);
    assert_eq!(probing(&[0, 100, 100, 300, 305]), [false, false, false, true, true], "two at a time");
    assert_eq!(probing(&[0, 100, 700, 1500]), [false, false, true, true], "one is lost");
    let last = |times: &[u64]| *probing(times).last().unwrap();
    assert!(!last(&[0, 10, 20, 30, 40, 50, 60]), "a steady sender");
    assert!(!last(&[0, 0, 0, 40, 40, 40, 80, 80, 80, 120, 120, 120]), "one that its window stops");
    assert!(!last(&[0, 400, 500, 600, 700]), "a pause");
    assert!(last(&[0, 4_000, 4_001, 4_002, 4_003, 4_103, 4_303, 4_703]), "probes after a pause");
    let mut received = Received::new(DELAY);
    for (number, ms) in (0..).zip([0, 100, 300]) {
        received.receive(ms, number);
    }
    received.on_ack_ensured();
    assert!(!received.is_peer_probing());
}

// RFC 9000 section 13.2.5: what waited for its keys was here before.
#[test]
fn the_delay_counts_from_the_arrival() {
    let mut received = Received::new(Duration::from_millis(25));
    received.on_packet(at(900), at(100), pn(0), true, None);
    assert_eq!(received.ack_deadline(), Some(at(925)));
    assert_eq!(received.ack_delay(at(925)), Duration::from_millis(825));
}

/// A peer whose packets came and whose probes were lost is one that does not hear us; one that was idle is not, whatever it leaves out.
#[test]
fn a_long_silence_and_lost_packets_are_probes() {
    for (number, ms, is_probing) in [(9, 400, true), (9, 399, false), (8, 400, false), (7, 60_000, false)] {
        let mut received = Received::new(DELAY);
        for (ms, number) in [(0, 4), (100, 5), (200, 6), (200 + ms, number)] {
            received.receive(ms, number);
        }
        assert_eq!(received.is_peer_probing(), is_probing, "{number} after {ms} ms");
        received.on_ack_ensured();
        assert!(!received.is_peer_probing());
    }
}
