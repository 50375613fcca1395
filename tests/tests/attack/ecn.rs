//! Marks of Explicit Congestion Notification, and a peer that lies about them (RFC 9000, 13.4.2.1).

use std::collections::BTreeSet;
use std::time::Duration;

use weald_quic::codec::{AckToSend, EcnCounts, Stream};
use weald_quic::{Connection, PacketNumber, StreamId, VarInt};
use weald_runtime::net::Ecn;
use weald_tests::attacker::{AckPolicy, Arena, Attacker, Kind, Setup, Stage, under_attack};

/// A client that keeps its own account of what came marked, and acknowledges when it is told to.
struct Accountant {
    client: Attacker,
    numbers: BTreeSet<u64>,
    marked: u64,
    /// Streams that were opened.
    streams: u32,
}

impl Accountant {
    fn new(arena: &Arena) -> Self {
        let mut client = arena.client(1);
        client.acks(AckPolicy::Never);
        client.handshake(Stage::Complete);
        let mut accountant = Self { client, numbers: BTreeSet::new(), marked: 0, streams: 0 };
        accountant.listen();
        accountant
    }

    /// Takes in what comes, until nothing does for a while. Says how many packets were marked, and how many not.
    fn listen(&mut self) -> (u64, u64) {
        let (mut marked, mut plain) = (0, 0);
        while let Some(seen) = self.client.next(Duration::from_millis(30)) {
            for packet in seen.packets.iter().filter(|packet| packet.kind == Kind::OneRtt) {
                self.numbers.insert(packet.number);
                if seen.ecn == Some(Ecn::Ect0) { marked += 1 } else { plain += 1 }
            }
        }
        self.marked += marked;
        (marked, plain)
    }

    /// Has the server echo some kilobytes, and takes in what comes.
    fn ask(&mut self) -> (u64, u64) {
        let id = StreamId::from(VarInt::from(4 * self.streams));
        self.streams += 1;
        for part in 0..6 {
            self.client.packet(Kind::OneRtt).frame(&Stream { id, offset: 1000 * part, fin: part == 5, data: &[7; 1000] }).send();
        }
        self.listen()
    }

    /// Acknowledges all that came.
    fn acknowledge(&mut self, counts: Option<EcnCounts>) {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in self.numbers.iter().rev().copied() {
            match ranges.last_mut() {
                Some((start, _)) if *start == number + 1 => *start = number,
                _ => ranges.push((number, number)),
            }
        }
        let number = |number| PacketNumber::new(number).expect("a packet number");
        let ranges = ranges.into_iter().map(|(start, end)| number(start)..=number(end));
        let ack = AckToSend::fit(VarInt::ZERO, ranges, counts, 1000).expect("there is room");
        self.client.packet(Kind::OneRtt).frame(&ack).send();
        self.listen();
    }

    fn server(&self, arena: &Arena) -> Connection {
        let connections = arena.connections();
        connections.into_iter().find(|connection| connection.remote_address() == self.client.address()).expect("it lives")
    }
}

fn counts(ect0: u64, ect1: u64, ce: u64) -> Option<EcnCounts> {
    Some(EcnCounts { ect0, ect1, ce })
}

// RFC 9000, 13.4.2, A.4
#[test]
fn counts_that_fit_keep_the_marks() {
    under_attack("ECN counts, honest", 1, Setup::new(1), |arena| {
        let mut accountant = Accountant::new(arena);
        for _ in 0..5 {
            accountant.ask();
            accountant.acknowledge(counts(accountant.marked, 0, 0));
        }
        let (marked, plain) = accountant.ask();
        assert!(marked > 3 && plain == 0, "{marked} marked packets and {plain} others");
        assert!(accountant.marked > 10, "{}", accountant.marked);
        let server = accountant.server(arena);
        let window = server.stats().congestion_window;
        assert!(server.stats().ecn);
        // One packet was marked on its way: that is congestion, as the loss of it would be (RFC 9002, 7.1).
        accountant.acknowledge(counts(accountant.marked - 1, 0, 1));
        assert_eq!(server.stats().ecn_marks, 1);
        assert!(server.stats().congestion_window < window, "{} of {window}", server.stats().congestion_window);
    });
}

/// Has the server send with marks, then lies as `lie` makes of the true count. Nothing is marked any more, and congestion control
/// takes no notice.
fn lie(seed: u64, lie: impl Fn(u64) -> Option<EcnCounts>) {
    under_attack("ECN counts, false", seed, Setup::new(seed), |arena| {
        let mut accountant = Accountant::new(arena);
        accountant.ask();
        accountant.acknowledge(counts(accountant.marked, 0, 0));
        accountant.ask();
        let server = accountant.server(arena);
        let before = server.stats();
        assert!(before.ecn && before.ecn_marks == 0, "{before:?}");
        accountant.acknowledge(lie(accountant.marked));
        let after = server.stats();
        assert!(!after.ecn && after.ecn_marks == 0, "{after:?}");
        assert!(
            after.congestion_window >= before.congestion_window,
            "{} before, {} after",
            before.congestion_window,
            after.congestion_window
        );
        let (marked, plain) = accountant.ask();
        assert!(marked == 0 && plain > 3, "{marked} marked packets and {plain} others");
        // Marks that come later, true or not, are not believed either.
        accountant.acknowledge(counts(accountant.marked, 0, 1));
        assert!(server.stats().congestion_window >= before.congestion_window);
        accountant.client.acks(AckPolicy::Honest);
        accountant.client.expect_alive();
    });
}

#[test]
fn counts_that_exceed_what_was_sent() {
    lie(2, |marked| counts(marked + 1, 0, 0));
    lie(3, |marked| counts(marked, 0, 1));
    lie(4, |marked| counts(marked, 0, (1 << 62) - 1));
}

#[test]
fn counts_that_fall() {
    lie(5, |_| counts(0, 0, 0));
    lie(6, |marked| counts(marked / 2, 0, 0));
    // The sum is right: as if packets had been marked after they were counted.
    lie(10, |marked| counts(marked / 4, 0, marked - marked / 4));
}

#[test]
fn counts_that_are_missing() {
    lie(7, |_| None);
}

#[test]
fn counts_of_marks_that_nobody_sent() {
    lie(8, |marked| counts(marked, 1, 0));
    lie(9, |marked| counts(0, marked, 0));
}
