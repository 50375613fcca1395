//! Acknowledgements that lie, that never end, and packet numbers chosen to make them long (RFC 9000, 13.1, 13.2, 21.4).

use std::collections::BTreeSet;
use std::time::Duration;

use weald_quic::codec::{AckToSend, Frame, Ping, Stream};
use weald_quic::{PacketNumber, StreamId, VarInt};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::attacker::{AckPolicy, Application, Arena, Attacker, Kind, Setup, Stage, under_attack};

const PROTOCOL_VIOLATION: u64 = 0x0a;
const MOMENT: Duration = Duration::from_millis(30);

/// A connection is never larger than this for what comes here.
const MEMORY: usize = 40_000;

fn confirmed(arena: &Arena) -> Attacker {
    let mut client = arena.client(1);
    client.handshake(Stage::Confirmed);
    while client.next(MOMENT).is_some() {}
    client
}

fn acknowledge(client: &mut Attacker, first: u64, last: u64) {
    let number = |number| PacketNumber::new(number).expect("a packet number");
    let ack = AckToSend::fit(VarInt::ZERO, [number(first)..=number(last)].into_iter(), None, 100).expect("there is room");
    client.packet(Kind::OneRtt).frame(&ack).send();
}

/// The numbers of the packets in which the server echoes some bytes.
fn echoed(client: &mut Attacker, stream: u32) -> BTreeSet<u64> {
    let id = StreamId::from(VarInt::from(4 * stream));
    for part in 0..4 {
        client.packet(Kind::OneRtt).frame(&Stream { id, offset: 1000 * part, fin: part == 3, data: &[7; 1000] }).send();
    }
    let seen = std::iter::from_fn(|| client.next(MOMENT)).flat_map(|seen| seen.packets);
    seen.filter(|packet| packet.kind == Kind::OneRtt).map(|packet| packet.number).collect()
}

// RFC 9000, 13.1. Seen in quiche, CVE-2025-4820.
#[test]
fn packets_that_were_never_sent() {
    for (seed, row, first, last) in [
        (1, "an ACK of the future", 5_000, 5_000),
        (2, "an ACK of all up to the future", 0, 5_000),
        (3, "an ACK of the last number that there can be", (1 << 62) - 1, (1 << 62) - 1),
    ] {
        under_attack(row, seed, Setup::new(seed), |arena| {
            let mut client = confirmed(arena);
            acknowledge(&mut client, first, last);
            client.expect_close(PROTOCOL_VIOLATION);
        });
    }
}

// RFC 9000, 21.4: who acknowledges ahead of what comes, acknowledges what was left out.
#[test]
fn packets_that_were_left_out() {
    for seed in 4..6 {
        under_attack("ACK of a number left out", seed, Setup::new(seed), |arena| {
            let mut client = confirmed(arena);
            let mut numbers = BTreeSet::new();
            let mut streams = 0..40;
            let left_out = loop {
                numbers.append(&mut echoed(&mut client, streams.next().expect("no number is left out")));
                let gaps = numbers.iter().zip(numbers.iter().skip(1)).find(|(one, next)| **one + 1 < **next);
                if let Some((before, _)) = gaps {
                    break before + 1;
                }
            };
            acknowledge(&mut client, left_out, left_out);
            client.expect_close(PROTOCOL_VIOLATION);
        });
    }
}

// Seen in OpenSSL, CVE-2026-63075: hours of ACKs, 100 ms apart.
#[test]
fn acknowledgements_for_hours() {
    under_attack("ACKs for hours", 7, Setup::new(7), |arena| {
        let mut client = confirmed(arena);
        let largest = *echoed(&mut client, 0).last().expect("an echo");
        let received = client.bytes_received();
        for _ in 0..36_000 * 2 {
            acknowledge(&mut client, largest, largest);
            sleep(Duration::from_millis(100));
        }
        // Nobody answers an ACK (RFC 9000, 13.2.1).
        while client.next(MOMENT).is_some() {}
        assert!(client.bytes_received() - received < 1_000, "{} bytes in answer", client.bytes_received() - received);
        client.expect_alive();
        arena.memory_below(MEMORY);
    });
}

// The other direction: the server sends nothing but ACKs for hours, and never hears that they came.
#[test]
fn acknowledgements_that_nobody_acknowledges() {
    under_attack("ACKs unheard for hours", 8, Setup::new(8), |arena| {
        let mut client = confirmed(arena);
        client.acks(AckPolicy::Never);
        for _ in 0..36_000 {
            client.packet(Kind::OneRtt).frame(&Ping).send();
            client.next(Duration::from_millis(200));
        }
        arena.memory_below(MEMORY);
        client.expect_alive();
    });
}

// RFC 9000, 13.2.3: with each second number missing an ACK has as many ranges as packets came, were there no bound.
#[test]
fn every_second_packet_number() {
    for (seed, row, honest) in [(9, "every second number", true), (10, "every second number, and no ACK", false)] {
        under_attack(row, seed, Setup::new(seed), |arena| {
            let mut client = confirmed(arena);
            client.acks(if honest { AckPolicy::Honest } else { AckPolicy::Never });
            let mut most = 0;
            for number in 100..5_100 {
                client.packet(Kind::OneRtt).number(2 * number).frame(&Ping).send();
                while let Some(seen) = client.next(Duration::ZERO) {
                    most = most.max(ranges(&seen));
                }
                if number % 16 == 0 {
                    sleep(Duration::from_millis(1));
                }
            }
            while let Some(seen) = client.next(MOMENT) {
                most = most.max(ranges(&seen));
            }
            assert!((2..=64).contains(&most), "an ACK of {most} ranges");
            arena.memory_below(MEMORY);
            client.expect_alive();
        });
    }
}

/// The other direction: what the server sends is acknowledged as if each second packet were lost, a thousand ranges at once, again and
/// again. It takes each packet in once.
#[test]
fn acknowledgements_of_many_ranges() {
    for (seed, row, again) in [(11, "an ACK of many ranges", 0), (12, "ACKs of many ranges without end", 5_000)] {
        under_attack(row, seed, Setup::new(seed), |arena| {
            let mut client = confirmed(arena);
            client.acks(AckPolicy::Never);
            let id = StreamId::from(VarInt::ZERO);
            let mut numbers = BTreeSet::new();
            // Its congestion window is opened by honest acknowledgements first.
            for part in 0..3_000 {
                client.packet(Kind::OneRtt).frame(&Ping).frame(&Stream { id, offset: part, fin: false, data: b"x" }).send();
                client.packet(Kind::OneRtt).frame(&Ping).send();
                while let Some(seen) = client.next(Duration::from_millis(1)) {
                    numbers.extend(seen.packets.iter().filter(|packet| packet.kind == Kind::OneRtt).map(|packet| packet.number));
                }
            }
            while let Some(seen) = client.next(MOMENT) {
                numbers.extend(seen.packets.iter().filter(|packet| packet.kind == Kind::OneRtt).map(|packet| packet.number));
            }
            assert!(numbers.len() > 2_000, "{}", numbers.len());
            let seconds: Vec<_> = numbers.iter().rev().step_by(2).map(|number| PacketNumber::new(*number).expect("a number")).collect();
            for _ in 0..=again {
                let ranges = seconds.iter().take(1_000).map(|number| *number..=*number);
                let ack = AckToSend::fit(VarInt::ZERO, ranges, None, 3_000).expect("there is room");
                client.packet(Kind::OneRtt).frame(&ack).send();
                sleep(Duration::from_micros(10));
            }
            client.acks(AckPolicy::Honest);
            client.expect_alive();
            arena.memory_below(MEMORY);
            assert!(arena.opened() > 6_000 + again, "they were taken in");
            let lost = arena.connections()[0].stats().packets_lost;
            assert!(lost < numbers.len() as u64, "{lost} of {}", numbers.len());
        });
    }
}

/// A peer that holds its acknowledgements back and then says all at once: what that lets out does not leave at once (RFC 9002, 7.7).
#[test]
fn acknowledgements_held_back() {
    for (seed, row, patience) in [(13, "ACKs of whole windows", MOMENT), (14, "ACKs after a second", Duration::from_secs(1))] {
        under_attack(row, seed, Setup::new(seed).application(Application::Idle), |arena| {
            let mut client = confirmed(arena);
            client.acks(AckPolicy::Never);
            let server = arena.connections().remove(0);
            let mut stream = server.open_uni().expect("a stream");
            let writing = spawn(move || stream.write_all(&vec![7; 1 << 20]).is_ok());
            let mut numbers = BTreeSet::new();
            let mut burst = (Instant::now(), 0);
            let mut largest = 0;
            for _ in 0..12 {
                while let Some(seen) = client.next(patience) {
                    numbers.extend(seen.packets.iter().filter(|packet| packet.kind == Kind::OneRtt).map(|packet| packet.number));
                    let now = Instant::now();
                    burst = if now == burst.0 { (now, burst.1 + seen.datagram.len()) } else { (now, seen.datagram.len()) };
                    largest = largest.max(burst.1);
                }
                let all: Vec<_> = numbers.iter().rev().map(|number| PacketNumber::new(*number).expect("a number")).collect();
                let ranges = all.chunk_by(|one, next| one.as_u64() == next.as_u64() + 1);
                let ranges = ranges.map(|range| range[range.len() - 1]..=range[0]);
                let ack = AckToSend::fit(VarInt::ZERO, ranges, None, 1000).expect("there is room");
                client.packet(Kind::OneRtt).frame(&ack).send();
            }
            assert!(numbers.len() > 60, "{}", numbers.len());
            assert!((2_400..=25_000).contains(&largest), "{largest} bytes at once");
            drop(writing);
        });
    }
}

fn ranges(seen: &weald_tests::attacker::Seen) -> usize {
    seen.frames().filter_map(|frame| if let Frame::Ack(ack) = frame { Some(ack.ranges.count()) } else { None }).max().unwrap_or(0)
}
