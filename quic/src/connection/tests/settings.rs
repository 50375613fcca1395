//! Every value of a transport configuration reaches the wire or an algorithm, and presets are what they say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use weald_crypto::simulation;

use super::SECOND;
use super::pair::{Network, Pair, client_config};
use crate::config::{ConnectionLimits, TransportConfig};
use crate::connection::spin::Spin;
use crate::connection::{WhenFull, parameters};
use crate::endpoint::Endpoint;
use crate::handle::EndpointKeys;
use crate::id::ConnectionId;
use crate::random::Noise;
use crate::recovery::congestion::{AckedPacket, CongestionSignal, Controller, ControllerFactory, ControllerStart};
use crate::side::Side;
use crate::stats::ConnectionStats;
use crate::stream_id::Direction;
use crate::time::Instant;
use crate::trace::{Trace, TraceFactory, TraceStart};
use crate::wire::{TransportParameters, Version, VersionInformation};

/// The transport parameters that the peer gets.
fn declared(config: &TransportConfig) -> TransportParameters {
    let bytes = parameters::client(config, ConnectionId::new(&[1; 8]).unwrap(), VersionInformation::only(Version::V1), &mut Noise::new(1));
    TransportParameters::decode(&bytes, Side::Client).unwrap()
}

/// What a client's connection to `remote` starts with.
fn start(config: &TransportConfig, remote: &str) -> ConnectionStats {
    let remote: SocketAddr = remote.parse().unwrap();
    let mut endpoint = Endpoint::new(EndpointKeys::new(&[1; 32], 1, 0), 0, 1, None, 1);
    let now = Instant::from_nanos(0);
    endpoint.connect(now, &client_config(1, config.clone()), remote, simulation::SERVER_NAME).unwrap().1.stats()
}

/// A client with this configuration, and a server with the default one and datagrams, connected.
fn connected(config: &TransportConfig) -> Pair {
    let mut pair = Pair::with(1, Network::CLEAN, config.clone(), TransportConfig::default().datagrams(true), 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair
}

/// A client of whose packets none arrives.
fn alone(config: &TransportConfig) -> Pair {
    Pair::with(1, Network { loss: 100, ..Network::CLEAN }, config.clone(), TransportConfig::default(), 0)
}

/// How many bytes so many streams take before the network takes any.
fn taken(config: &TransportConfig, streams: usize) -> usize {
    let mut pair = connected(config);
    let client = pair.client.connection();
    let block = vec![0; 4 << 20];
    (0..streams)
        .map(|_| {
            let id = client.open(Direction::Uni).unwrap();
            std::iter::from_fn(|| client.write(id, &block).ok()).sum::<usize>()
        })
        .sum()
}

/// A controller of the application's own.
#[derive(Debug)]
struct Fixed;

impl ControllerFactory for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn build(&self, _: ControllerStart) -> Box<dyn Controller> {
        Box::new(Fixed)
    }
}

impl Controller for Fixed {
    fn on_acked(&mut self, _: AckedPacket) {}
    fn on_congestion(&mut self, _: Instant, _: Instant, _: CongestionSignal) {}
    fn on_persistent_congestion(&mut self) {}
    fn on_mtu(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        77_777
    }

    fn in_slow_start(&self) -> bool {
        false
    }
}

/// Counts connections, and watches none.
#[derive(Debug, Default)]
struct Started(AtomicU32);

impl TraceFactory for Started {
    fn build(&self, start: TraceStart) -> Option<Box<dyn Trace>> {
        assert!(start.side.is_client());
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// What the peer, or an algorithm, sees of a setting.
type Observe = fn(&TransportConfig) -> String;

/// For each setting: a configuration that has another value of it than the default, where that shows, and what it shows.
fn rows() -> BTreeMap<&'static str, (TransportConfig, Observe, &'static str)> {
    let base = TransportConfig::default;
    let seconds = Duration::from_secs;
    BTreeMap::from([
        (
            "max_idle_timeout",
            (base().max_idle_timeout(Some(seconds(7))), (|c| format!("{:?}", declared(c).max_idle_timeout)) as Observe, "Some(7s)"),
        ),
        (
            "handshake_timeout",
            (
                base().handshake_timeout(seconds(3)),
                |c| {
                    let mut pair = alone(c);
                    let began = pair.now;
                    assert!(pair.run(60 * SECOND, |pair| pair.client.closed.is_some()));
                    format!("{:?}", pair.now - began)
                },
                "3s",
            ),
        ),
        (
            "keep_alive",
            (
                base().keep_alive(Some(seconds(4))),
                |c| {
                    let mut pair = connected(c);
                    pair.run(2 * SECOND, |_| false);
                    let before = pair.trace.iter().filter(|(_, to_server, _)| *to_server).count();
                    pair.run(10 * SECOND, |_| false);
                    format!("{}", pair.trace.iter().filter(|(_, to_server, _)| *to_server).count() > before)
                },
                "true",
            ),
        ),
        ("max_streams_bi", (base().max_streams_bi(3), |c| declared(c).initial_max_streams_bidi.to_string(), "3")),
        ("max_streams_uni", (base().max_streams_uni(4), |c| declared(c).initial_max_streams_uni.to_string(), "4")),
        (
            "stream_window",
            (
                base().stream_window(5),
                |c| {
                    let seen = declared(c);
                    let windows = [
                        seen.initial_max_stream_data_uni,
                        seen.initial_max_stream_data_bidi_local,
                        seen.initial_max_stream_data_bidi_remote,
                    ];
                    format!("{windows:?}")
                },
                "[5, 5, 5]",
            ),
        ),
        ("connection_window", (base().connection_window(6), |c| declared(c).initial_max_data.to_string(), "6")),
        ("send_window", (base().send_window(70_000), |c| taken(c, 1).to_string(), "70000")),
        ("send_buffer", (base().send_buffer(80_000), |c| (taken(c, 20) < 200_000).to_string(), "true")),
        ("datagrams", (base().datagrams(true), |c| (declared(c).max_datagram_frame_size > 0).to_string(), "true")),
        (
            "datagram_receive_buffer",
            (
                base().datagrams(true).datagram_receive_buffer(9_000),
                |c| (1..10_000).contains(&declared(c).max_datagram_frame_size).to_string(),
                "true",
            ),
        ),
        (
            "datagram_send_buffer",
            (
                base().datagram_send_buffer(10_000),
                |c| {
                    let mut pair = connected(c);
                    let client = pair.client.connection();
                    let mut send = || client.send_datagram(Bytes::from_static(&[0; 1000]), WhenFull::Block).is_ok();
                    // Each counts for a little more than its bytes.
                    let sent = (0..100).take_while(|_| send()).count();
                    (5..=10).contains(&sent).to_string()
                },
                "true",
            ),
        ),
        (
            "initial_rtt",
            (
                base().initial_rtt(Duration::from_millis(50)),
                |c| {
                    let mut pair = alone(c);
                    let began = pair.now.as_nanos();
                    pair.run(5 * SECOND, |pair| pair.trace.iter().any(|(at, ..)| *at > began));
                    // RFC 9002 6.2.2: the RTT and four times its half.
                    format!("{:?}", Duration::from_nanos(pair.trace.last().unwrap().0 - began))
                },
                "150ms",
            ),
        ),
        ("max_ack_delay", (base().max_ack_delay(Duration::from_millis(8)), |c| format!("{:?}", declared(c).max_ack_delay), "8ms")),
        ("udp_payload_v4", (base().udp_payload_v4(1472), |c| start(c, "192.0.2.1:443").mtu.to_string(), "1472")),
        (
            "udp_payload_v6",
            (
                base().udp_payload_v6(1452),
                |c| {
                    let mut pair = connected(c);
                    let id = pair.client.send(Direction::Uni, 100_000);
                    assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 100_000)));
                    pair.trace.iter().map(|(.., len)| *len).max().unwrap().to_string()
                },
                "1452",
            ),
        ),
        ("initial_window", (base().initial_window(20), |c| start(c, "192.0.2.1:443").congestion_window.to_string(), "24000")),
        ("congestion", (base().congestion(Fixed), |c| start(c, "192.0.2.1:443").congestion_window.to_string(), "77777")),
        (
            "key_update_interval",
            (
                base().key_update_interval(Some(20)),
                |c| {
                    let mut pair = connected(c);
                    let id = pair.client.send(Direction::Uni, 100_000);
                    assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 100_000)));
                    (pair.server.connection().stats().key_updates > 0).to_string()
                },
                "true",
            ),
        ),
        (
            "limits",
            (base().limits(ConnectionLimits::default().connection_ids(7)), |c| declared(c).active_connection_id_limit.to_string(), "7"),
        ),
        ("spin_bit", (base().spin_bit(false), |c| matches!(connected(c).client.connection().spin, Spin::Abstains).to_string(), "true")),
        (
            "trace",
            (
                base().trace(Started::default()),
                |c| {
                    connected(c);
                    format!("{:?}", c.trace)
                },
                "Some(Started(1))",
            ),
        ),
    ])
}

/// The names of all fields: one that is missing here does not compile.
macro_rules! settings {
    ($($field:ident),* $(,)?) => {{
        let TransportConfig { $($field: _),* } = TransportConfig::default();
        [$(stringify!($field)),*]
    }};
}

#[test]
fn every_setting_is_seen_by_the_peer_or_changes_an_algorithm() {
    let settings = settings![
        max_idle_timeout,
        handshake_timeout,
        keep_alive,
        max_streams_bi,
        max_streams_uni,
        stream_window,
        connection_window,
        send_window,
        send_buffer,
        datagrams,
        datagram_receive_buffer,
        datagram_send_buffer,
        initial_rtt,
        max_ack_delay,
        udp_payload_v4,
        udp_payload_v6,
        initial_window,
        congestion,
        key_update_interval,
        spin_bit,
        trace,
        limits,
    ];
    let rows = rows();
    for setting in settings {
        let Some((config, observe, expected)) = rows.get(setting) else { panic!("nothing shows what {setting} does") };
        let (default, seen) = (observe(&TransportConfig::default()), observe(config));
        println!("{setting:<24} {default:>24} {seen:>16}");
        assert_eq!(seen, *expected, "{setting}");
        assert_ne!(seen, default, "{setting} is that of the default");
    }
}

#[test]
fn presets_as_the_peer_sees_them() {
    const MIB: u64 = 1 << 20;
    let millis = Duration::from_millis;
    let presets = [
        ("default", TransportConfig::default(), (1_250_000, 10_000_000, 100, 100, millis(30_000), millis(25), false)),
        ("lan", TransportConfig::lan(), (16 * MIB, 256 * MIB, 256, 512, millis(60_000), millis(5), true)),
        ("wan", TransportConfig::wan(), (4 * MIB, 32 * MIB, 100, 100, millis(30_000), millis(25), false)),
    ];
    for (name, config, expected) in presets {
        let seen = declared(&config);
        println!("{name}: {seen:?}");
        let stream = seen.initial_max_stream_data_uni;
        assert_eq!((seen.initial_max_stream_data_bidi_local, seen.initial_max_stream_data_bidi_remote), (stream, stream));
        let streams = (seen.initial_max_streams_bidi, seen.initial_max_streams_uni);
        let datagrams = seen.max_datagram_frame_size > 0;
        let seen = (stream, seen.initial_max_data, streams.0, streams.1, seen.max_idle_timeout.unwrap(), seen.max_ack_delay, datagrams);
        assert_eq!(seen, expected, "{name}");
    }
    // What starts a connection: the datagrams' size, the window, and the guess of the round-trip time.
    let starts = |config: TransportConfig| {
        ["192.0.2.1:443", "[::ffff:192.0.2.1]:443", "[2001:db8::1]:443"].map(|remote| {
            let start = start(&config, remote);
            (start.mtu, start.congestion_window, start.rtt)
        })
    };
    let lan = |mtu, window| (mtu, window, Duration::from_micros(200));
    assert_eq!(starts(TransportConfig::lan()), [lan(1472, 147_200), lan(1472, 147_200), lan(1452, 145_200)]);
    assert_eq!(starts(TransportConfig::wan()), [(1200, 12_000, millis(50)); 3]);
    assert_eq!(starts(TransportConfig::default()), [(1200, 12_000, millis(333)); 3]);
}
