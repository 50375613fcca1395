//! Loss recovery, congestion control, pacing and ECN on whole endpoints (RFC 9002; RFC 9000, 13.4).

use std::time::Duration;

use weald_quic::{Algorithm, Connection, ConnectionStats, Side, TransportConfig};
use weald_runtime::sim::{self, LinkConfig, Verdict};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::world::{client_address, connect, link, receive, record, send, server_address, simulate, simulate_untraced};

use super::MEGABYTE;

/// The client sends `len` bytes. What its connection has counted then.
fn upload(seed: u64, len: usize, transport: TransportConfig) -> ConnectionStats {
    let serve = move |connection: Connection| {
        let mut input = connection.accept_uni().expect("a stream comes");
        receive(&mut input, seed, len);
        connection.closed();
    };
    connect(seed, transport, TransportConfig::default(), serve, |connection| {
        let mut out = connection.open_uni().expect("a stream");
        send(&mut out, seed, len);
        assert_eq!(out.stopped().expect("the connection lives"), None);
        connection.stats()
    })
}

// RFC 9002, 7.1: marks shrink the window as losses would, and nothing has to be sent again.
#[test]
fn a_router_that_marks_needs_not_drop() {
    for controller in [Algorithm::NewReno, Algorithm::Cubic] {
        let marking = LinkConfig { rate: Some(2_500_000), queue: 500_000, mark_queue: Some(30_000), ..link() };
        let dropping = LinkConfig { queue: 60_000, mark_queue: None, ..marking.clone() };
        let transport = || TransportConfig::default().congestion(controller);
        let marked = simulate_untraced(1, marking, || upload(1, 5 * MEGABYTE, transport()));
        let dropped = simulate_untraced(1, dropping, || upload(1, 5 * MEGABYTE, transport()));
        assert!(marked.ecn && marked.ecn_marks > 0, "{marked:?}");
        assert_eq!(marked.packets_lost, 0);
        assert!(dropped.packets_lost > 0, "{dropped:?}");
    }
}

// RFC 9000, 13.4.2.1: counts are missing or too low.
#[test]
fn a_router_that_erases_marks_is_noticed() {
    let stats = simulate(2, LinkConfig { bleach: true, ..link() }, || {
        let stats = upload(2, MEGABYTE, TransportConfig::default());
        (stats, sim::trace().iter().filter(|entry| entry.verdict == Verdict::Bleached).count())
    });
    assert!(!stats.0.ecn, "{:?}", stats.0);
    // RFC 9000, A.4: the ten of the test, at each end.
    assert!((1..=20).contains(&stats.1), "{} packets were marked", stats.1);
}

#[test]
fn ecn_works_over_a_bad_link() {
    let bad = LinkConfig { loss: 0.05, reorder: 0.2, duplicate: 0.1, mark: 0.02, ..link() };
    let capable = (0..20).filter(|seed| {
        let stats = simulate_untraced(*seed, bad.clone(), || upload(*seed, MEGABYTE, TransportConfig::default()));
        stats.ecn && stats.ecn_marks > 0
    });
    // A loss among the first, answered by a probe, can end the test too early.
    assert!(capable.count() >= 18);
}

// RFC 9002, 7.7: at one instant no more leaves than ten packets, or what is sent in a millisecond.
#[test]
fn nothing_leaves_in_bursts() {
    for (delay, window) in [(10, 10), (50, 100), (150, 10)] {
        let path = LinkConfig { delay: Duration::from_millis(delay), rate: Some(12_500_000), queue: 4 << 20, ..link() };
        let transport = || {
            let transport = TransportConfig::default().initial_window(window).initial_rtt(Duration::from_millis(2 * delay));
            transport.stream_window(8 << 20).connection_window(8 << 20).send_window(8 << 20)
        };
        let trace = simulate(3, path, || {
            let serve = move |connection: Connection| {
                let mut input = connection.accept_uni().expect("a stream comes");
                receive(&mut input, 3, 4 * MEGABYTE);
                connection.closed();
            };
            connect(3, transport(), transport(), serve, |connection| {
                let mut out = connection.open_uni().expect("a stream");
                send(&mut out, 3, 4 * MEGABYTE);
                assert_eq!(out.stopped().expect("the connection lives"), None);
            });
            sim::trace()
        });
        let mut burst = (Instant::default(), 0);
        let mut largest = 0;
        for entry in trace.iter().filter(|entry| entry.to == server_address() && matches!(entry.verdict, Verdict::Sent { .. })) {
            burst = if entry.time == burst.0 { (entry.time, burst.1 + entry.size) } else { (entry.time, entry.size) };
            largest = largest.max(burst.1);
        }
        // Twice the rate of the link in a millisecond are 25,000 bytes.
        assert!((2_400..=25_000).contains(&largest), "{largest} bytes at once, {delay} ms away");
    }
}

// RFC 9002, 7.6.2: all that the client sends is lost for two seconds while it probes. The first round trip after that carries what
// two datagrams and the probes that were answered make.
#[test]
fn persistent_congestion_begins_anew() {
    let rtt = 2 * link().delay;
    let (back, before, stats, trace) = simulate(4, LinkConfig { rate: Some(2_500_000), ..link() }, || {
        let network = sim::network().expect("a simulation");
        let serve = |connection: Connection| {
            let mut input = connection.accept_uni().expect("a stream comes");
            receive(&mut input, 4, 4 * MEGABYTE);
            connection.closed();
        };
        connect(4, TransportConfig::default(), TransportConfig::default(), serve, |connection| {
            let mut out = connection.open_uni().expect("a stream");
            let sending = spawn(move || {
                send(&mut out, 4, 4 * MEGABYTE);
                assert_eq!(out.stopped().expect("the connection lives"), None);
            });
            sleep(Duration::from_millis(500));
            let before = connection.stats();
            assert!(before.congestion_window > 30_000 && before.persistent_congestions == 0, "{before:?}");
            network.blackhole(client_address(1).ip(), server_address().ip());
            sleep(Duration::from_secs(2));
            assert!(connection.stats().probe_timeouts >= 3);
            network.lift_blackhole(client_address(1).ip(), server_address().ip());
            let back = Instant::now();
            sending.join().expect("it does not panic");
            (back, before.congestion_window, connection.stats(), sim::trace())
        })
    });
    assert_eq!(stats.persistent_congestions, 1, "{stats:?}");
    // The answer to the first probe that arrives.
    let mut arrived = trace.iter().filter(|entry| entry.to == server_address() && entry.verdict == Verdict::Delivered);
    let heard = arrived.find(|entry| entry.time > back && entry.size >= 1200).expect("a probe arrives").time + rtt / 2;
    let sent = trace.iter().filter(|entry| entry.to == server_address() && matches!(entry.verdict, Verdict::Sent { .. }));
    let round: usize = sent.filter(|entry| (heard..heard + rtt).contains(&entry.time)).map(|entry| entry.size).sum();
    assert!((1200..=6000).contains(&round), "{round} bytes in a round trip, of a window that was {before}");
}

// RFC 9000, 13.4.2: a firewall that drops what is marked costs the packets of the test, and there are no more marks.
#[test]
fn a_firewall_that_drops_marks_is_noticed() {
    for seed in 1..=5 {
        record("dropped-marks", seed, LinkConfig { drop_ecn: true, ..link() }, |log| {
            let start = Instant::now();
            let stats = upload(seed, MEGABYTE, TransportConfig::default().trace(log.clone()));
            assert!(!stats.ecn, "{stats:?}");
            let marked = log.count(Side::Client, "sends", "ECT(0)");
            assert!((1..=10).contains(&marked), "{marked} packets were marked");
            // What was lost with them is sent again, and nothing else is.
            assert!(stats.packets_lost >= marked as u64 && stats.packets_lost < 30, "{stats:?}");
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        });
    }
}

// RFC 9000, 13.4.2.1; RFC 9002, 6.1: an ACK that was overtaken by later ones says nothing new, and nothing wrong either.
#[test]
fn acknowledgements_out_of_order_do_no_harm() {
    for seed in 1..=5 {
        record("reordered-acks", seed, link(), |log| {
            let network = sim::network().expect("a simulation");
            let late = LinkConfig { reorder: 0.3, reorder_delay: Duration::from_millis(15), ..link() };
            network.set_link(server_address().ip(), client_address(1).ip(), late);
            let stats = upload(seed, MEGABYTE, TransportConfig::default().trace(log.clone()));
            let acks = log.find(Side::Client, "receives", "ACK ");
            let largest = |line: &str| line.split("ACK ").nth(1)?.split([' ', '-', ',']).map_while(|word| word.parse::<u64>().ok()).max();
            let numbers: Vec<_> = acks.iter().filter(|(_, line)| line.starts_with("1-RTT")).filter_map(|(_, line)| largest(line)).collect();
            let overtaken = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count();
            assert!(overtaken > 10, "{overtaken} of {} ACKs were overtaken", numbers.len());
            assert!(stats.ecn, "{stats:?}");
            assert_eq!(stats.packets_lost, 0, "{stats:?}");
        });
    }
}
