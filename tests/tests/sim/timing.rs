//! The timing cases of the public interop runner, with its own numbers: 15 ms one way, 10 Mbit/s, a queue of 25 packets, unless a case
//! says otherwise. Each asserts that all bytes are what they were, and that what the case is about was met.
//!
//! `multiplexing` is [`streams::two_thousand_files`](super::streams).

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::{CipherSuite, simulation};
use weald_quic::{ClientConfig, Connection, Endpoint, RetryPolicy, ServerConfig, Side, TransportConfig};
use weald_runtime::sim::{self, LinkConfig, Network, Verdict};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::seeds::{for_each, processors};
use weald_tests::trace_file::Log;
use weald_tests::world::{
    ALPN, client_address, client_config, receive, record, send, server_address, server_config, server_config_with_chain,
};

const KILOBYTE: usize = 1024;
const MEGABYTE: usize = 1024 * KILOBYTE;

/// The runner's network.
fn runner() -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(15), rate: Some(1_250_000), queue: 25 * 1500, ..LinkConfig::default() }
}

fn transport(log: &Log) -> TransportConfig {
    TransportConfig::default().trace(log.clone())
}

/// A server of files: a request is the number of one, which its bytes follow from, and its length.
fn serve(config: ServerConfig, address: SocketAddr) -> Endpoint {
    let endpoint = Endpoint::server(config, address).expect("a server");
    let accepting = endpoint.clone();
    spawn(move || {
        while let Some(connection) = accepting.accept() {
            spawn(move || {
                while let Ok((mut out, mut input)) = connection.accept_bi() {
                    let mut number = [0; 8];
                    let mut len = [0; 8];
                    // One that never learned that its client has all it wanted.
                    if input.read_exact(&mut number).is_err() || input.read_exact(&mut len).is_err() {
                        return;
                    }
                    send(&mut out, u64::from_be_bytes(number), u64::from_be_bytes(len) as usize);
                    let _ = out.stopped();
                }
            });
        }
    });
    endpoint
}

/// A client's connection to a server at the usual place.
fn visit(config: ClientConfig) -> Connection {
    let endpoint = Endpoint::client(client_address(1)).expect("a client");
    endpoint.connect_with(config, server_address(), simulation::SERVER_NAME).expect("a connection")
}

fn fetch(connection: &Connection, number: u64, len: usize) {
    let (mut out, mut input) = connection.open_bi().expect("a stream");
    out.write_all(&number.to_be_bytes()).expect("it is sent");
    out.write_all(&(len as u64).to_be_bytes()).expect("it is sent");
    out.finish().expect("it is open");
    receive(&mut input, number, len);
}

/// A client and a server with nothing special, and one file. What `then` says of the connection.
fn transfer<T>(name: &'static str, seed: u64, link: LinkConfig, len: usize, then: impl FnOnce(&Log, &Connection) -> T) -> T {
    record(name, seed, link, |log| {
        let _server = serve(server_config(seed, transport(log)), server_address());
        let connection = visit(client_config(seed, transport(log)));
        fetch(&connection, seed, len);
        let told = then(log, &connection);
        connection.close(0_u32.into(), b"");
        told
    })
}

/// 750 ms one way: more than twice the first guess of a round trip (RFC 9002, 6.2.2), so that the ClientHello is repeated though it
/// was not lost. It begins no second handshake.
#[test]
fn longrtt() {
    let rtt = Duration::from_millis(1500);
    transfer("longrtt", 1, LinkConfig { delay: rtt / 2, ..runner() }, KILOBYTE, |log, connection| {
        let hellos = log.find(Side::Client, "sends", "CRYPTO 0..");
        assert!(hellos.len() >= 2 && hellos[1].1.starts_with("Initial "), "{hellos:?}");
        assert_eq!(log.count(Side::Client, "state", "connected"), 1);
        assert_eq!(log.count(Side::Server, "state", "connected"), 1);
        let handshake = connection.handshake().duration;
        assert!(handshake >= rtt && handshake < rtt + Duration::from_millis(20), "{handshake:?}");
        // RFC 9002, 5.1: the sample is of the packet that was acknowledged, not of its repetition.
        let stats = connection.stats();
        assert!(stats.min_rtt >= rtt && stats.rtt < rtt + Duration::from_millis(20), "{stats:?}");
        // The second round trip brings the file.
        let last = log.find(Side::Client, "receives", " fin").pop().expect("the end of the file");
        assert!(last.0 < 2 * rtt + Duration::from_millis(100), "{last:?}");
    });
}

/// The network takes five seconds of the transfer, swallows two, and so on: the transfer goes on where it was, soon after each hole.
#[test]
fn blackhole() {
    record("blackhole", 1, runner(), |log| {
        let network = sim::network().expect("a simulation");
        let (hole, start) = (Duration::from_secs(2), Instant::now());
        for round in 1..=3 {
            let begin = start + round * Duration::from_secs(5) + (round - 1) * hole;
            let all = |network: &Network, change: fn(&Network, _, _)| {
                let (client, server) = (client_address(1).ip(), server_address().ip());
                change(network, client, server);
                change(network, server, client);
            };
            network.schedule(begin, move |network| all(network, Network::blackhole));
            network.schedule(begin + hole, move |network| all(network, Network::lift_blackhole));
        }
        let _server = serve(server_config(1, transport(log)), server_address());
        let connection = visit(client_config(1, transport(log)));
        fetch(&connection, 1, 10 * MEGABYTE);
        let took = start.elapsed();
        let swallowed = sim::trace().iter().filter(|entry| entry.verdict == Verdict::Blackholed).count();
        assert!(swallowed > 0);
        assert!(log.count(Side::Server, "timeout", "probe") >= 3, "the sender probes");
        // 8.4 s at the link's rate, and one hole. Probes double: the next after the end of the hole may come as late as the hole is long.
        assert!(took > Duration::from_millis(10_400) && took < Duration::from_secs(14), "{took:?}");
    });
}

/// 30 % of all packets lost, each way. Fifty connections, each with a file of a kilobyte: the runner gives all together 300 s.
#[test]
fn handshakeloss() {
    hard_handshakes("handshakeloss", &LinkConfig { loss: 0.3, ..runner() }, "timeout", "probe");
}

/// The same with 30 % of the packets damaged: not one damaged packet has an effect (RFC 9000, 5.2; RFC 9001, 5.3).
#[test]
fn handshakecorruption() {
    hard_handshakes("handshakecorruption", &LinkConfig { corrupt: 0.3, ..runner() }, "drops", "");
}

/// Fifty connections on such a network; in most of them a client's log has this event.
fn hard_handshakes(name: &'static str, link: &LinkConfig, verb: &'static str, text: &'static str) {
    let met = std::sync::Mutex::new((0, Duration::ZERO));
    for_each(0..50, processors(), |seed| {
        let (took, events) = record(name, seed, link.clone(), |log| {
            let start = Instant::now();
            let patient = || transport(log).handshake_timeout(Duration::from_secs(60));
            let _server = serve(server_config(seed, patient()), server_address());
            let connection = visit(client_config(seed, patient()));
            fetch(&connection, seed, KILOBYTE);
            assert_eq!(log.count(Side::Client, "state", "connected"), 1);
            (start.elapsed(), log.count(Side::Client, verb, text))
        });
        let mut met = met.lock().expect("nobody panicked");
        met.0 += u32::from(events > 0);
        met.1 += took;
    });
    let (met, took) = met.into_inner().expect("nobody panicked");
    assert!(met >= 30, "{met} of 50 connections met the case");
    assert!(took < Duration::from_secs(300), "{took:?}");
}

/// 2 % of all packets lost, each way, in two megabytes.
#[test]
fn transferloss() {
    for_each(0..10, processors(), |seed| {
        transfer("transferloss", seed, LinkConfig { loss: 0.02, ..runner() }, 2 * MEGABYTE, |log, _| {
            let lost = sim::trace().iter().filter(|entry| entry.verdict == Verdict::Lost).count();
            assert!(lost > 20, "{lost}");
            assert!(log.count(Side::Server, "loses", "1-RTT") > 10);
            let last = log.find(Side::Client, "receives", " fin").pop().expect("the end of the file");
            assert!(last.0 < Duration::from_secs(10), "{last:?}");
        });
    });
}

/// 2 % of all packets damaged, each way.
#[test]
fn transfercorruption() {
    for_each(0..10, processors(), |seed| {
        transfer("transfercorruption", seed, LinkConfig { corrupt: 0.02, ..runner() }, 2 * MEGABYTE, |log, _| {
            let damaged = sim::trace().iter().filter(|entry| entry.verdict == Verdict::Corrupted).count();
            let dropped = [Side::Client, Side::Server].map(|side| log.count(side, "drops", ""));
            assert!(damaged > 20 && dropped[0] > 10, "{damaged} {dropped:?}");
            // None is taken for anything else. A bit in the id or the version is seen before there is a connection to drop it.
            assert!(dropped.iter().sum::<usize>() <= damaged, "{damaged} {dropped:?}");
            let last = log.find(Side::Client, "receives", " fin").pop().expect("the end of the file");
            assert!(last.0 < Duration::from_secs(10), "{last:?}");
        });
    });
}

/// A chain of certificates that needs more than three times the client's first datagram, and nothing of the client arrives for a while
/// after it: the server sends no more than that, and goes on once the client has shown that it is where it says (RFC 9000, 8.1).
#[test]
fn amplificationlimit() {
    for silence in [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)] {
        record("amplificationlimit", silence.as_millis() as u64, runner(), |log| {
            let network = sim::network().expect("a simulation");
            let (client, server) = (client_address(1).ip(), server_address().ip());
            let start = Instant::now();
            network.schedule(start + Duration::from_millis(1), move |network| network.blackhole(client, server));
            network.schedule(start + silence, move |network| network.lift_blackhole(client, server));
            let _server = serve(server_config_with_chain(1, transport(log), 20), server_address());
            let connection = visit(client_config(1, transport(log)));
            fetch(&connection, 1, KILOBYTE);
            let validated = log.find(Side::Server, "receives", "Handshake ").first().expect("it is validated").0;
            let (mut received, mut sent, mut limit_reached, mut all) = (0, 0, false, 0);
            for entry in sim::trace() {
                let is_over = entry.time.saturating_duration_since(start) >= validated;
                if entry.to == server_address() && entry.verdict == Verdict::Delivered {
                    received += entry.size;
                }
                if entry.from == server_address() && matches!(entry.verdict, Verdict::Sent { .. }) {
                    all += entry.size;
                    sent += if is_over { 0 } else { entry.size };
                    assert!(is_over || sent <= 3 * received, "{sent} bytes for {received}");
                }
                limit_reached |= !is_over && sent + 1200 > 3 * received && received > 0;
            }
            assert!(limit_reached && all > 3 * 1200, "{sent} of {all} bytes, for {received}");
            assert!(validated >= silence, "{validated:?}");
        });
    }
}

/// A client that has ChaCha20 alone.
#[test]
fn chacha20() {
    record("chacha20", 1, runner(), |log| {
        let _server = serve(server_config(1, transport(log)), server_address());
        let suite = CipherSuite::ChaCha20Poly1305Sha256;
        let tls = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(simulation::roots()).simulation(1).cipher_suites([suite]);
        let connection = visit(ClientConfig::new(tls.build().expect("it is valid")).transport(transport(log)));
        assert_eq!(connection.handshake().cipher_suite, suite);
        fetch(&connection, 1, 3 * MEGABYTE);
        // RFC 9001, 6: it can be updated as the others.
        connection.update_keys();
        fetch(&connection, 2, 3 * MEGABYTE);
        assert_eq!(connection.stats().key_updates, 1);
    });
}

/// A server that asks every client for a proof of its address: one round trip more, and no more than one (RFC 9000, 8.1.2).
#[test]
fn retry() {
    record("retry", 1, runner(), |log| {
        let server = serve(server_config(1, transport(log)).retry(RetryPolicy::Always), server_address());
        let connection = visit(client_config(1, transport(log)));
        fetch(&connection, 1, KILOBYTE);
        assert_eq!(log.count(Side::Client, "receives", "Retry"), 1);
        assert_eq!((server.stats().retries, server.stats().validated), (1, 1));
        let handshake = connection.handshake().duration;
        assert!(handshake >= Duration::from_millis(60) && handshake < Duration::from_millis(80), "{handshake:?}");
        // RFC 9000, 17.2.5.3: packet numbers go on.
        let mut hellos = log.find(Side::Client, "sends", "CRYPTO 0..");
        hellos.retain(|(_, line)| !line.starts_with("Handshake "));
        assert!(hellos.len() == 2 && hellos[0].1.starts_with("Initial 0 ") && hellos[1].1.starts_with("Initial 1 "), "{hellos:?}");
    });
}

/// The client asks for new keys early in the transfer, and both ends go on with them (RFC 9001, 6).
#[test]
fn keyupdate() {
    record("keyupdate", 1, runner(), |log| {
        let _server = serve(server_config(1, transport(log)), server_address());
        let connection = visit(client_config(1, transport(log)));
        let updating = connection.clone();
        spawn(move || {
            sleep(Duration::from_millis(300));
            updating.update_keys();
        });
        fetch(&connection, 1, 3 * MEGABYTE);
        let updates = [Side::Client, Side::Server].map(|side| log.find(side, "keys", "update 1"));
        assert!(updates.iter().all(|updates| updates.len() == 1) && updates[0][0].0 < updates[1][0].0, "{updates:?}");
        for side in [Side::Client, Side::Server] {
            let (old, new) = (log.count(side, "sends", "phase 0"), log.count(side, "sends", "phase 1"));
            assert!(old > 50 && new > 500, "{side}: {old} packets, then {new}");
            assert_eq!(log.count(side, "drops", ""), 0);
        }
    });
}

/// Both ends mark what they send, tell the other of the marks, and find that the path bears them (RFC 9000, 13.4).
#[test]
fn ecn() {
    transfer("ecn", 1, runner(), 100 * KILOBYTE, |log, connection| {
        // A second request is marked, and answered with the counts.
        fetch(connection, 2, KILOBYTE);
        for side in [Side::Client, Side::Server] {
            assert!(log.count(side, "sends", "ECT(0)") > 0, "{side}");
            assert_eq!(log.count(side, "receives", "ECT(0)"), log.count(!side, "sends", "ECT(0)"), "{side}");
            assert!(log.count(side, "sends", " ect0 ") > 0, "{side}");
        }
        assert!(connection.stats().ecn);
    });
}

/// No datagram leaves by IPv4.
#[test]
fn ipv6() {
    record("ipv6", 1, runner(), |log| {
        let server: SocketAddr = "[2001:db8::1]:443".parse().expect("an address");
        let _server = serve(server_config(1, transport(log)), server);
        let endpoint = Endpoint::client("[2001:db8::2]:0".parse().expect("an address")).expect("a client");
        let connection = endpoint.connect_with(client_config(1, transport(log)), server, simulation::SERVER_NAME).expect("a connection");
        for (number, len) in [(1, 5 * KILOBYTE), (2, 10 * KILOBYTE), (3, 3 * MEGABYTE)] {
            fetch(&connection, number, len);
        }
        let trace = sim::trace();
        assert!(trace.len() > 5_000 && trace.iter().all(|entry| entry.from.is_ipv6() && entry.to.is_ipv6()));
        assert_eq!(log.count(Side::Client, "loses", ""), 0);
    });
}
