//! Tests of paths.

use super::*;
use crate::wire::PacketNumber;
use crate::wire::frame::EcnCounts;

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn path(algorithm: Algorithm, validated: bool) -> Path {
    let remote = SocketAddr::from(([127, 0, 0, 1], 443));
    let config = PathConfig { congestion: &algorithm, ..PathConfig::default() };
    Path::new(at(0), PathId::FIRST, remote, None, &config, validated)
}

fn packet(sent_ms: u64, size: u16, kind: PacketKind) -> SentPacket {
    SentPacket::new(PacketNumber::ZERO, at(sent_ms), PathId::FIRST, size, kind)
}

fn data(sent_ms: u64) -> SentPacket {
    packet(sent_ms, 1200, PacketKind::AckEliciting)
}

/// Sends full datagrams until something stands in the way.
fn fill(path: &mut Path, ms: u64) -> (Vec<SentPacket>, Blocked) {
    let mut sent = Vec::new();
    loop {
        if let Err(blocked) = path.can_send(at(ms), 1200) {
            return (sent, blocked);
        }
        path.on_packet_sent(at(ms), &data(ms));
        path.amplification_mut().on_datagram_sent(1200);
        sent.push(data(ms));
        assert!(sent.len() < 1000, "nothing stands in the way");
    }
}

// RFC 9002 section 7.2: the initial window leaves at once and no more.
#[test]
fn the_initial_window() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut path = path(algorithm, true);
        let (sent, blocked) = fill(&mut path, 0);
        assert_eq!((sent.len(), blocked), (10, Blocked::Window));
        assert_eq!((path.in_flight(), path.window()), (12_000, 12_000));
    }
}

// RFC 9000 section 8.1: three times what came in, for whatever is sent.
#[test]
fn an_unvalidated_path_is_limited_by_what_came_in() {
    let mut path = path(Algorithm::Cubic, false);
    assert_eq!(path.can_send(at(0), 1), Err(Blocked::Amplification));
    path.amplification_mut().on_datagram_received(1200);
    let (sent, blocked) = fill(&mut path, 0);
    assert_eq!((sent.len(), blocked), (3, Blocked::Amplification));
    path.amplification_mut().on_validated();
    let (sent, blocked) = fill(&mut path, 0);
    assert_eq!((sent.len(), blocked), (7, Blocked::Window));
}

// RFC 9002 section 7.7
#[test]
fn acknowledged_data_is_replaced_at_the_pace_of_the_path() {
    let mut path = path(Algorithm::Cubic, true);
    let (sent, _) = fill(&mut path, 0);
    path.on_rtt_sample(at(100), 100 * MS, PeerDelay::default());
    for packet in &sent {
        path.on_packet_acked(at(100), packet);
    }
    assert_eq!((path.in_flight(), path.window()), (0, 24_000));
    let (sent, blocked) = fill(&mut path, 100);
    assert!(sent.len() <= 10, "a burst of {}", sent.len());
    let Blocked::Pacing(at_time) = blocked else { panic!("{blocked:?}") };
    assert!(at_time > at(100) && at_time < at(150));
    assert_eq!(path.can_send(at_time, 1200), Ok(()));
}

// RFC 9002 section 7.8
#[test]
fn an_unused_window_does_not_grow() {
    let mut path = path(Algorithm::NewReno, true);
    for ms in (100..10_000).step_by(100) {
        assert_eq!(path.can_send(at(ms), 1200), Ok(()));
        path.on_packet_sent(at(ms), &data(ms));
        path.on_packet_acked(at(ms), &data(ms));
    }
    assert_eq!(path.window(), 12_000);
    // What follows the last full window is unused again.
    let (sent, _) = fill(&mut path, 11_000);
    sent.iter().for_each(|packet| path.on_packet_acked(at(11_100), packet));
    assert_eq!(path.window(), 24_000);
    path.on_packet_sent(at(12_000), &data(12_000));
    path.on_packet_acked(at(12_100), &data(12_000));
    assert_eq!(path.window(), 24_000);
}

// RFC 9002 section 7.3.2, 7.6.2
#[test]
fn losses_and_marks_shrink_the_window_once() {
    let mut path = path(Algorithm::NewReno, true);
    let (sent, _) = fill(&mut path, 10);
    // Three marked packets arrive, of which the network marked two, one after another.
    (0..3).for_each(|_| path.ecn.on_sent(at(10), 100 * MS));
    let report = |acked, ect0, ce| EcnReport { acked, counts: Some(EcnCounts { ect0, ect1: 0, ce }) };
    for packet in &sent[..5] {
        path.on_packet_lost(at(100), packet);
    }
    path.on_ecn_report(at(101), at(10), &report(1, 0, 1));
    assert_eq!((path.window(), path.in_flight()), (6000, 6000));
    path.on_ecn_report(at(150), at(150), &report(1, 1, 1));
    assert_eq!(path.window(), 6000, "no mark is new");
    path.on_ecn_report(at(200), at(150), &report(1, 1, 2));
    assert_eq!(path.window(), 3000);
    path.on_persistent_congestion();
    assert_eq!(path.window(), 2400);
    sent[5..].iter().for_each(|packet| path.on_packet_forgotten(packet));
    assert_eq!(path.in_flight(), 0);
}

// RFC 9000 section 14.4
#[test]
fn a_lost_mtu_probe_is_no_congestion() {
    let mut path = path(Algorithm::Cubic, true);
    let probe = packet(10, 1452, PacketKind::MtuProbe);
    path.on_packet_sent(at(10), &probe);
    assert_eq!(path.in_flight(), 1452);
    path.on_packet_lost(at(100), &probe);
    assert_eq!((path.window(), path.in_flight()), (12_000, 0));
    path.set_mtu(1452);
    assert_eq!(path.mtu(), 1452);
    path.set_mtu(68);
    assert_eq!(path.mtu(), MIN_MTU);
}

// RFC 9002 section 2: ACKs are not in flight.
#[test]
fn acks_do_not_count() {
    let mut path = path(Algorithm::Cubic, true);
    let ack = packet(0, 40, PacketKind::AckOnly);
    for _ in 0..1000 {
        path.on_packet_sent(at(0), &ack);
    }
    assert_eq!(path.can_send(at(0), 1200), Ok(()));
    path.on_packet_acked(at(1), &ack);
    path.on_packet_lost(at(1), &ack);
    path.on_packet_forgotten(&ack);
    assert_eq!((path.in_flight(), path.window()), (0, 12_000));
}

/// A bulk sender over a link of 10 Mbit/s and 40 ms with a queue of one more such product reaches what the link carries, and
/// no controller stops growing or stalls.
#[test]
fn fills_a_link() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut path = path(algorithm, true);
        let (rtt, per_packet, queue) = (40 * MS, Duration::from_nanos(960_000), 42);
        let (mut now, mut link_free) = (at(0), at(0));
        let mut in_network: std::collections::VecDeque<(Instant, SentPacket, bool)> = Default::default();
        let (mut delivered, mut lost) = (0_u64, 0_u64);
        let end = at(20_000);
        while now < end {
            let wake = match path.can_send(now, 1200) {
                Ok(()) => {
                    let packet = SentPacket::new(PacketNumber::ZERO, now, PathId::FIRST, 1200, PacketKind::AckEliciting);
                    path.on_packet_sent(now, &packet);
                    let start = link_free.max(now);
                    let is_dropped = start - now > per_packet * queue;
                    if !is_dropped {
                        link_free = start + per_packet;
                    }
                    in_network.push_back((link_free + rtt, packet, is_dropped));
                    continue;
                }
                Err(Blocked::Pacing(at)) => Some(at),
                Err(Blocked::Window) => None,
                Err(Blocked::Amplification) => panic!("validated"),
            };
            let arrival = in_network.front().map(|(at, ..)| *at);
            now = wake.into_iter().chain(arrival).min().expect("the sender stalls");
            while let Some((at, packet, is_dropped)) = in_network.front().copied()
                && at <= now
            {
                in_network.pop_front();
                if is_dropped {
                    lost += 1;
                    path.on_packet_lost(now, &packet);
                } else {
                    delivered += 1;
                    path.on_rtt_sample(now, now - packet.sent, PeerDelay::default());
                    path.on_packet_acked(now, &packet);
                }
            }
        }
        let capacity = (end - at(0)).as_nanos() as u64 / 960_000;
        assert!(delivered * 100 >= capacity * 95, "{algorithm:?}: {delivered} of {capacity}");
        assert!(lost > 0 && lost * 20 < delivered, "{algorithm:?}: {lost} lost of {delivered}");
    }
}
