//! Each fault by itself, and the promise of equal traces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Burst, LinkConfig, Network, NetworkConfig, TraceEntry, Verdict};
use crate::net::{Ecn, RecvBatch, SendBatch, Transmit, UdpSocketOptions};
use crate::reactor::Direction;
use crate::sim::network::SimulatedSocket;
use crate::sys::control::Ancillary;
use crate::sys::message::Outgoing;
use crate::time::Instant;

const MILLISECOND: u64 = 1_000_000;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn network(link: LinkConfig, seed: u64) -> Network {
    Network::new(NetworkConfig { link, ..NetworkConfig::default() }, fastrand::Rng::with_seed(seed), fastrand::Rng::with_seed(!seed))
}

fn bind(network: &Network, address: &str) -> SimulatedSocket {
    network.bind(&UdpSocketOptions::default(), address.parse().expect("an address")).expect("bind")
}

fn send(socket: &SimulatedSocket, now: u64, to: SocketAddr, bytes: &[u8]) {
    let datagram = Outgoing { bytes, remote: to, ancillary: Ancillary::default() };
    socket.send(at(now), &datagram).expect("send");
}

fn verdicts(network: &Network) -> Vec<Verdict> {
    network.trace().iter().map(|entry| entry.verdict).collect()
}

/// A pair of sockets on a network with one kind of link.
fn pair(link: LinkConfig) -> (Network, SimulatedSocket, SimulatedSocket) {
    let network = network(link, 1);
    let (a, b) = (bind(&network, "10.0.0.1:0"), bind(&network, "10.0.0.2:0"));
    (network, a, b)
}

fn received(socket: &SimulatedSocket) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| socket.receive().map(|datagram| datagram.bytes)).collect()
}

#[test]
fn a_datagram_flies_for_the_delay_and_wakes_its_receiver() {
    let (network, a, b) = pair(LinkConfig { delay: Duration::from_millis(10), ..LinkConfig::default() });
    let _ = b.source().try_io(Direction::Read, || Ok(((), crate::reactor::Drained(true))));
    let ancillary = Ancillary { ecn: 0b10, ..Ancillary::default() };
    let datagram = Outgoing { bytes: b"hello", remote: b.local_address(), ancillary };
    a.send(at(5), &datagram).expect("send");
    let arrival = at(10 * MILLISECOND + 5);
    assert_eq!(network.next_deadline(), Some(arrival));
    assert_eq!(network.advance(at(10 * MILLISECOND + 4)), 0);
    assert!(!b.source().is_ready(Direction::Read));
    assert_eq!(network.advance(arrival), 1);
    assert!(b.source().is_ready(Direction::Read));
    let got = b.receive().expect("a datagram");
    assert_eq!((&got.bytes[..], got.remote, got.ecn), (&b"hello"[..], a.local_address(), Some(Ecn::Ect0)));
    assert_eq!(got.local, b.local_address().ip());
    assert_eq!(verdicts(&network), [Verdict::Sent { arrival }, Verdict::Delivered]);
    assert_eq!(network.next_deadline(), None);
}

#[test]
fn jitter_delays_and_keeps_the_order() {
    let jitter = Duration::from_millis(20);
    let (network, a, b) = pair(LinkConfig { jitter, ..LinkConfig::default() });
    for byte in 0..200u8 {
        send(&a, u64::from(byte) * MILLISECOND, b.local_address(), &[byte]);
    }
    network.advance(at(u64::MAX));
    assert_eq!(received(&b), (0..200u8).map(|byte| vec![byte]).collect::<Vec<_>>());
    let spread: Vec<u64> = network
        .trace()
        .iter()
        .filter_map(|entry| match entry.verdict {
            Verdict::Sent { arrival } => Some(arrival.as_nanos() - entry.time.as_nanos()),
            _ => None,
        })
        .collect();
    assert!(spread.iter().all(|&nanos| (MILLISECOND..=21 * MILLISECOND).contains(&nanos)));
    assert!(spread.iter().any(|&nanos| nanos > 15 * MILLISECOND));
}

#[test]
fn loss_has_its_probability() {
    let (network, a, b) = pair(LinkConfig { loss: 0.1, ..LinkConfig::default() });
    for _ in 0..10_000 {
        send(&a, 0, b.local_address(), b"x");
    }
    let lost = verdicts(&network).iter().filter(|&&verdict| verdict == Verdict::Lost).count();
    assert!((850..1150).contains(&lost), "{lost}");
}

#[test]
fn reordered_datagrams_are_overtaken() {
    let link = LinkConfig { reorder: 0.2, reorder_delay: Duration::from_millis(3), ..LinkConfig::default() };
    let (network, a, b) = pair(link);
    for byte in 0..100u8 {
        send(&a, u64::from(byte) * MILLISECOND, b.local_address(), &[byte]);
    }
    network.advance(at(u64::MAX));
    let mut got = received(&b);
    assert_ne!(got, (0..100u8).map(|byte| vec![byte]).collect::<Vec<_>>());
    got.sort_unstable();
    assert_eq!(got, (0..100u8).map(|byte| vec![byte]).collect::<Vec<_>>(), "none is lost");
}

#[test]
fn a_rate_spaces_datagrams_and_its_queue_drops_the_tail() {
    // 1,000 bytes take 1 ms; 3,000 may wait.
    let link = LinkConfig { delay: Duration::ZERO, rate: Some(1_000_000), queue: 3_000, ..LinkConfig::default() };
    let (network, a, b) = pair(link);
    for _ in 0..5 {
        send(&a, 0, b.local_address(), &[0; 1_000]);
    }
    let sent = |ms| Verdict::Sent { arrival: at(ms * MILLISECOND) };
    assert_eq!(verdicts(&network), [sent(1), sent(2), sent(3), Verdict::QueueFull, Verdict::QueueFull]);
    // A place is free as soon as one has passed.
    send(&a, MILLISECOND, b.local_address(), &[0; 1_000]);
    assert_eq!(verdicts(&network).last(), Some(&sent(4)));
}

#[test]
fn duplicates_arrive_twice_and_corruption_flips_one_bit() {
    let (network, a, b) = pair(LinkConfig { duplicate: 1.0, corrupt: 1.0, ..LinkConfig::default() });
    send(&a, 0, b.local_address(), &[0; 100]);
    send(&a, 0, b.local_address(), &[]);
    network.advance(at(u64::MAX));
    let got = received(&b);
    assert_eq!(got.len(), 4);
    assert_eq!(got[0], got[1]);
    assert_eq!(got[0].iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}

#[test]
fn a_full_receiver_and_a_missing_one_drop() {
    let (network, a, b) = pair(LinkConfig { delay: Duration::ZERO, ..LinkConfig::default() });
    let small = UdpSocketOptions::default().receive_buffer(4_000);
    let c = network.bind(&small, "10.0.0.3:9".parse().expect("an address")).expect("bind");
    for _ in 0..4 {
        send(&a, 0, c.local_address(), &[0; 1_000]);
    }
    let gone = b.local_address();
    send(&a, 0, gone, b"late");
    drop(b);
    network.advance(at(0));
    assert_eq!(received(&c).len(), 2);
    let verdicts = verdicts(&network);
    assert_eq!(verdicts.iter().filter(|&&verdict| verdict == Verdict::BufferFull).count(), 2);
    assert_eq!(verdicts.last(), Some(&Verdict::Unreachable));
    // Reading makes room again.
    send(&a, 1, c.local_address(), &[0; 1_000]);
    network.advance(at(1));
    assert_eq!(received(&c).len(), 1);
}

#[test]
fn a_link_of_its_own_overrides_the_default_in_one_direction() {
    let (network, a, b) = pair(LinkConfig::default());
    let (from, to) = (a.local_address().ip(), b.local_address().ip());
    network.set_link(from, to, LinkConfig { loss: 1.0, ..LinkConfig::default() });
    send(&a, 0, b.local_address(), b"lost");
    send(&b, 0, a.local_address(), b"found");
    network.advance(at(u64::MAX));
    assert!(received(&b).is_empty());
    assert_eq!(received(&a), [b"found"]);
}

#[test]
fn addresses_are_taken_shared_and_freed() {
    let network = network(LinkConfig::default(), 1);
    let options = UdpSocketOptions::default();
    let any: SocketAddr = "0.0.0.0:443".parse().expect("an address");
    let one: SocketAddr = "10.0.0.1:443".parse().expect("an address");
    let first = network.bind(&options, any).expect("bind");
    assert!(network.bind(&options, one).is_err(), "covered by the socket for all addresses");
    assert!(network.bind(&options.clone().reuse_port(true), any).is_err(), "both must agree to share");
    drop(first);
    let options = options.reuse_port(true);
    let sharers = [network.bind(&options, any).expect("bind"), network.bind(&options, any).expect("bind")];
    let senders: Vec<_> = (0..32).map(|_| bind(&network, "10.0.0.9:0")).collect();
    for sender in &senders {
        send(sender, 0, one, b"x");
        send(sender, 0, one, b"y");
    }
    network.advance(at(u64::MAX));
    let got = sharers.map(|sharer| received(&sharer).len());
    assert_eq!(got[0] + got[1], 64);
    assert!(got.iter().all(|&count| count > 0 && count % 2 == 0), "spread by sender: {got:?}");
}

#[test]
fn an_ipv6_socket_for_all_addresses_serves_ipv4() {
    let network = network(LinkConfig::default(), 1);
    let server = bind(&network, "[::]:443");
    let client = bind(&network, "127.0.0.1:0");
    send(&client, 0, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443), b"question");
    network.advance(at(u64::MAX));
    let question = server.receive().expect("a question");
    assert_eq!(question.remote, client.local_address());
    send(&server, 0, question.remote, b"answer");
    network.advance(at(u64::MAX));
    assert_eq!(client.receive().expect("an answer").remote.to_string(), "127.0.0.1:443");
    let v6: SocketAddr = "[::1]:1".parse().expect("an address");
    let datagram = Outgoing { bytes: b"x", remote: v6, ancillary: Ancillary::default() };
    assert!(client.send(at(0), &datagram).is_err(), "not of its family");
}

/// A storm over a bad network, seeded.
fn storm(seed: u64) -> Vec<TraceEntry> {
    let link = LinkConfig {
        delay: Duration::from_millis(7),
        jitter: Duration::from_millis(3),
        loss: 0.05,
        reorder: 0.05,
        duplicate: 0.02,
        corrupt: 0.01,
        rate: Some(5_000_000),
        ..LinkConfig::default()
    };
    let network = network(link, seed);
    let (a, b) = (bind(&network, "10.0.0.1:0"), bind(&network, "10.0.0.2:0"));
    let mut now = 0;
    for round in 0..500u64 {
        send(&a, now, b.local_address(), &vec![round as u8; 1_200]);
        now += 150_000;
        while network.next_deadline().is_some_and(|deadline| deadline <= at(now)) {
            network.advance(at(now));
            for datagram in received(&b) {
                send(&b, now, a.local_address(), &datagram[..10]);
            }
        }
    }
    network.trace()
}

#[test]
fn one_seed_gives_one_trace() {
    assert_eq!(storm(42), storm(42));
    assert_ne!(storm(42), storm(43));
}

#[test]
fn a_trace_that_is_not_wanted_is_not_kept() {
    let config = NetworkConfig { trace: false, ..NetworkConfig::default() };
    let network = Network::new(config, fastrand::Rng::with_seed(1), fastrand::Rng::with_seed(2));
    let socket = bind(&network, "10.0.0.1:0");
    send(&socket, 0, socket.local_address(), b"x");
    assert_eq!(network.advance(at(u64::MAX)), 1);
    assert!(network.trace().is_empty());
}

#[test]
fn sockets_of_an_entered_network_are_simulated() {
    let network = network(LinkConfig::default(), 1);
    let entered = network.enter();
    let options = UdpSocketOptions::default();
    let receiver = options.bind("203.0.113.7:443").expect("an address that no host here has");
    let sender = options.bind("0.0.0.0:0").expect("bind");
    let mut batch = SendBatch::new();
    batch.reserve()[..250].fill(7);
    let local: IpAddr = "203.0.113.9".parse().expect("an address");
    batch.commit(Transmit {
        remote: receiver.local_addr().expect("an address"),
        local: Some(local),
        ecn: Some(Ecn::Ce),
        len: 250,
        segment_size: Some(100),
    });
    assert_eq!(sender.try_send_batch(&mut batch).expect("send"), 1);
    assert!(batch.is_empty());
    let mut received = RecvBatch::with_slots(2, 2_048);
    assert!(receiver.try_recv_batch(&mut received).is_err(), "it flies");
    assert!(!receiver.is_readable());
    network.advance(network.next_deadline().expect("in flight"));
    assert!(receiver.is_readable());
    assert_eq!(receiver.try_recv_batch(&mut received).expect("two of three"), 2);
    let first = received.iter().next().expect("a datagram");
    assert_eq!((first.bytes.len(), first.segment_size, first.ecn), (100, 100, Some(Ecn::Ce)), "a train is cut");
    assert_eq!(first.remote.ip(), local);
    let mut buffer = [0; 100];
    let (len, _) = receiver.recv_from(&mut buffer).expect("the last");
    assert_eq!(len, 50);
    drop(entered);
    let error = options.bind("203.0.113.7:443").expect_err("the system's network has no such address");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
}

fn count(verdicts: &[Verdict], wanted: Verdict) -> usize {
    verdicts.iter().filter(|&&verdict| verdict == wanted).count()
}

/// 20,000 datagrams from one to the other: how long the runs of losses are.
fn runs_of_losses(link: LinkConfig, seed: u64) -> Vec<usize> {
    let network = network(link, seed);
    let (a, b) = (bind(&network, "10.0.0.1:0"), bind(&network, "10.0.0.2:0"));
    let mut runs = Vec::new();
    let mut run = 0;
    for _ in 0..20_000 {
        let before = network.trace().len();
        send(&a, 0, b.local_address(), b"x");
        if network.lock().trace[before].verdict == Verdict::Lost {
            run += 1;
        } else if run > 0 {
            runs.push(std::mem::take(&mut run));
        }
        network.lock().trace.clear();
    }
    runs
}

#[test]
fn bursts_are_as_long_and_as_frequent_as_asked_for() {
    let burst = Burst { enter: 0.01, leave: 0.2, loss: 1.0 };
    let runs = runs_of_losses(LinkConfig { burst: Some(burst), ..LinkConfig::default() }, 1);
    let lost: usize = runs.iter().sum();
    let mean = lost as f64 / runs.len() as f64;
    assert!((4.0..6.0).contains(&mean), "{mean} a burst");
    assert!((150..250).contains(&runs.len()), "{} bursts", runs.len());
    let single = runs_of_losses(LinkConfig { loss: lost as f64 / 20_000.0, ..LinkConfig::default() }, 1);
    assert!(single.iter().sum::<usize>() as f64 / (single.len() as f64) < 1.2, "without bursts they are single");
}

/// Sends a datagram with a mark, and says with which it arrives.
fn mark_after(link: LinkConfig, sent: Option<Ecn>) -> Option<Ecn> {
    let (network, a, b) = pair(link);
    let ancillary = Ancillary { ecn: sent.map_or(0, Ecn::bits), ..Ancillary::default() };
    a.send(at(0), &Outgoing { bytes: b"x", remote: b.local_address(), ancillary }).expect("sent");
    network.advance(at(u64::MAX));
    b.receive().expect("it arrives").ecn
}

#[test]
fn links_mark_and_bleach() {
    let base = LinkConfig::default;
    for ecn in [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)] {
        assert_eq!(mark_after(base(), ecn), ecn);
        assert_eq!(mark_after(LinkConfig { mark: 1.0, ..base() }, ecn), ecn.map(|_| Ecn::Ce), "only what is capable");
        assert_eq!(mark_after(LinkConfig { bleach: true, mark: 1.0, ..base() }, ecn), None);
    }
}

#[test]
fn a_link_can_drop_what_is_marked() {
    let (network, a, b) = pair(LinkConfig { drop_ecn: true, ..LinkConfig::default() });
    for ecn in [0, Ecn::Ect0.bits(), Ecn::Ect1.bits(), Ecn::Ce.bits()] {
        let ancillary = Ancillary { ecn, ..Ancillary::default() };
        a.send(at(0), &Outgoing { bytes: &[ecn], remote: b.local_address(), ancillary }).expect("sent");
    }
    assert_eq!(count(&verdicts(&network), Verdict::Lost), 3);
    network.advance(at(u64::MAX));
    assert_eq!(received(&b).len(), 1);
}

#[test]
fn a_queue_marks_from_its_threshold_on() {
    let link = LinkConfig { rate: Some(1_000_000), mark_queue: Some(2_000), ..LinkConfig::default() };
    let (network, a, b) = pair(link);
    let ancillary = Ancillary { ecn: Ecn::Ect0.bits(), ..Ancillary::default() };
    for _ in 0..5 {
        a.send(at(0), &Outgoing { bytes: &[0; 1_000], remote: b.local_address(), ancillary }).expect("sent");
    }
    assert_eq!(count(&verdicts(&network), Verdict::Marked), 3);
    network.advance(at(u64::MAX));
    let marks: Vec<_> = std::iter::from_fn(|| b.receive()).map(|datagram| datagram.ecn == Some(Ecn::Ce)).collect();
    assert_eq!(marks, [false, false, true, true, true]);
}

#[test]
fn a_link_drops_what_is_longer_than_its_mtu() {
    let (network, a, b) = pair(LinkConfig { mtu: Some(1_400), ..LinkConfig::default() });
    send(&a, 0, b.local_address(), &[0; 1_372]);
    send(&a, 0, b.local_address(), &[0; 1_373]);
    assert_eq!(count(&verdicts(&network), Verdict::TooLong), 1);
    network.advance(at(u64::MAX));
    assert_eq!(received(&b).len(), 1);
}

#[test]
fn an_interface_refuses_what_it_may_not_fragment() {
    let config = NetworkConfig { mtu: Some(1_500), ..NetworkConfig::default() };
    let network = Network::new(config, fastrand::Rng::with_seed(1), fastrand::Rng::with_seed(2));
    let bind = |options: UdpSocketOptions| network.bind(&options, "[2001:db8::1]:0".parse().expect("an address")).expect("bind");
    let (whole, in_pieces) = (bind(UdpSocketOptions::default().dont_fragment(true)), bind(UdpSocketOptions::default()));
    let send = |socket: &SimulatedSocket, len: usize| {
        let remote = in_pieces.local_address();
        socket.send(at(0), &Outgoing { bytes: &vec![0; len], remote, ancillary: Ancillary::default() })
    };
    send(&whole, 1_452).expect("1,500 bytes with 48 of headers");
    let error = send(&whole, 1_453).expect_err("one too many");
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    send(&in_pieces, 5_000).expect("fragmented");
    network.set_mtu(Some(1_280));
    send(&whole, 1_232).expect("1,280 bytes with 48 of headers");
    send(&whole, 1_233).expect_err("one too many");
    network.set_mtu(None);
    send(&whole, 1_453).expect("no limit");
    network.advance(at(u64::MAX));
    assert_eq!(received(&in_pieces).len(), 4);
}

#[test]
fn blackholes_swallow_one_direction_for_their_time() {
    let (network, a, b) = pair(LinkConfig::default());
    let (from, to) = (a.local_address().ip(), b.local_address().ip());
    network.schedule(at(10 * MILLISECOND), move |network| network.blackhole(from, to));
    network.schedule(at(20 * MILLISECOND), move |network| network.lift_blackhole(from, to));
    for ms in [5, 15, 25] {
        network.advance(at(ms * MILLISECOND));
        send(&a, ms * MILLISECOND, b.local_address(), &[ms as u8]);
        send(&b, ms * MILLISECOND, a.local_address(), &[ms as u8]);
    }
    network.advance(at(u64::MAX));
    assert_eq!(received(&b), [[5], [25]]);
    assert_eq!(received(&a), [[5], [15], [25]]);
    assert_eq!(count(&verdicts(&network), Verdict::Blackholed), 1);
}

#[test]
fn a_partition_keeps_groups_apart_and_leaves_others_alone() {
    let (network, a, b) = pair(LinkConfig::default());
    let c = bind(&network, "10.0.0.3:0");
    network.partition([vec![a.local_address().ip()], vec![b.local_address().ip()]]);
    send(&a, 0, b.local_address(), b"ab");
    send(&b, 0, a.local_address(), b"ba");
    send(&a, 0, c.local_address(), b"ac");
    send(&c, 0, b.local_address(), b"cb");
    assert_eq!(count(&verdicts(&network), Verdict::Partitioned), 2);
    network.heal();
    send(&a, 0, b.local_address(), b"again");
    network.advance(at(u64::MAX));
    assert!(received(&a).is_empty());
    assert_eq!(received(&b), [&b"cb"[..], b"again"]);
    assert_eq!(received(&c), [b"ac"]);
}

#[test]
fn a_nat_shows_new_addresses_and_lets_replies_back() {
    let (network, inside, server) = pair(LinkConfig::default());
    let public: IpAddr = "203.0.113.1".parse().expect("an address");
    let seen = |number: u64| {
        send(&inside, number, server.local_address(), b"question");
        network.advance(at(u64::MAX));
        server.receive().expect("a question").remote
    };
    assert_eq!(seen(0), inside.local_address());
    network.rebind(inside.local_address().ip(), public);
    let first = seen(1);
    assert_eq!(first.ip(), public);
    assert_eq!(seen(2), first, "it is kept");
    send(&server, 3, first, b"answer");
    network.advance(at(u64::MAX));
    let answer = inside.receive().expect("it finds back");
    assert_eq!((answer.remote, answer.local), (server.local_address(), inside.local_address().ip()));
    network.rebind(inside.local_address().ip(), public);
    let second = seen(4);
    assert!(second.ip() == public && second.port() != first.port());
    for former in [first, inside.local_address()] {
        send(&server, 5, former, b"lost");
        network.advance(at(u64::MAX));
        assert_eq!(verdicts(&network).last(), Some(&Verdict::Unreachable));
    }
    send(&server, 6, second, b"answer");
    network.advance(at(u64::MAX));
    assert_eq!(received(&inside), [b"answer"]);
    // Links are those of the host, however it is seen.
    network.set_link(server.local_address().ip(), inside.local_address().ip(), LinkConfig { loss: 1.0, ..LinkConfig::default() });
    send(&server, 7, second, b"lost");
    assert_eq!(verdicts(&network).last(), Some(&Verdict::Lost));
}

/// What came later draws from a generator of its own: a seed's losses stay what they were.
#[test]
fn later_faults_leave_the_luck_of_the_first() {
    let lost = |link: LinkConfig| {
        let (network, a, b) = pair(link);
        (0..200).for_each(|_| send(&a, 0, b.local_address(), b"x"));
        let trace = verdicts(&network);
        trace.iter().filter(|verdict| **verdict != Verdict::Marked).map(|&verdict| verdict == Verdict::Lost).collect::<Vec<_>>()
    };
    let base = LinkConfig { loss: 0.3, ..LinkConfig::default() };
    let burst = Some(Burst { enter: 0.0, leave: 1.0, loss: 1.0 });
    assert_eq!(lost(base.clone()), lost(LinkConfig { mark: 0.5, burst, ..base }));
}
