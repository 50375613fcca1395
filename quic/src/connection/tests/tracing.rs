//! What a trace is told is what happened: the same that the counters count, and at both ends the same packets.

use std::sync::{Arc, Mutex};

use super::SECOND;
use super::pair::{Network, Pair};
use crate::config::TransportConfig;
use crate::error::ApplicationCode;
use crate::id::ConnectionId;
use crate::side::Side;
use crate::stream_id::Direction;
use crate::time::Instant;
use crate::trace::{DropReason, Trace, TraceEvent, TraceFactory, TraceStart, TraceTimer};

/// Keeps the lines of all connections.
#[derive(Clone, Debug, Default)]
struct Log {
    lines: Arc<Mutex<Vec<Line>>>,
    starts: Arc<Mutex<Vec<(Side, ConnectionId)>>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    now: Instant,
    side: Side,
    kind: &'static str,
    text: String,
}

struct Watch(Log, Side);

impl TraceFactory for Log {
    fn build(&self, start: TraceStart) -> Option<Box<dyn Trace>> {
        self.starts.lock().unwrap().push((start.side, start.original));
        Some(Box::new(Watch(self.clone(), start.side)))
    }
}

impl Trace for Watch {
    fn event(&mut self, now: Instant, event: &TraceEvent<'_>) {
        let (kind, text) = match event {
            TraceEvent::DatagramReceived { size, .. } => ("datagram in", size.to_string()),
            TraceEvent::Received(packet) => ("received", packet.to_string()),
            TraceEvent::Kept { packet_type, .. } => ("kept", packet_type.to_string()),
            TraceEvent::Dropped { reason, .. } => ("dropped", format!("{reason:?}")),
            TraceEvent::Sent(packet) => ("sent", packet.to_string()),
            TraceEvent::DatagramSent { size, .. } => ("datagram out", size.to_string()),
            TraceEvent::Lost { packet_type, number } => ("lost", format!("{packet_type} {number}")),
            TraceEvent::PersistentCongestion => ("congestion", String::new()),
            TraceEvent::Metrics(metrics) => ("metrics", metrics.congestion_window.to_string()),
            TraceEvent::Timeout(timer) => (if let TraceTimer::Probe(_) = timer { "probe" } else { "timeout" }, timer.to_string()),
            TraceEvent::Retry => ("retry", String::new()),
            TraceEvent::VersionChanged(version) => ("version changed", version.to_string()),
            TraceEvent::KeysUpdated { updates } => ("keys", updates.to_string()),
            TraceEvent::State(state) => ("state", state.to_string()),
        };
        self.0.lines.lock().unwrap().push(Line { now, side: self.1, kind, text });
    }
}

impl Log {
    fn of(&self, side: Side, kind: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.side == side && line.kind == kind).map(|line| line.text.clone()).collect()
    }
}

/// A pair of which both ends are watched, and which has moved so many bytes each way.
fn watched(seed: u64, network: Network, len: usize) -> (Pair, Log) {
    let log = Log::default();
    let transport = || TransportConfig::default().trace(log.clone());
    let mut pair = Pair::with(seed, network, transport(), transport(), 0);
    assert!(pair.run(30 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.server.answer = len;
    let id = pair.client.send(Direction::Bi, len);
    assert!(pair.run(60 * SECOND, |pair| pair.client.has_received(id, len) && pair.client.is_flushed()));
    (pair, log)
}

#[test]
fn what_one_end_sends_is_what_the_other_receives() {
    let (mut pair, log) = watched(3, Network::CLEAN, 200_000);
    pair.client.connection().update_keys();
    pair.client.send(Direction::Uni, 100);
    pair.run(2 * SECOND, |_| false);
    for side in [Side::Client, Side::Server] {
        let (sent, received) = (log.of(side, "sent"), log.of(!side, "received"));
        assert!(sent.len() > 100, "{sent:?}");
        assert_eq!(sent, received);
        // Spin bit and key phase are seen in both states.
        for bits in [" spin 0 ", " spin 1 ", " phase 0 ", " phase 1 "] {
            assert!(sent.iter().any(|line| line.contains(bits)), "{bits}");
        }
        assert_eq!(log.of(side, "keys"), ["1"]);
        assert_eq!(log.of(side, "datagram out"), log.of(!side, "datagram in"));
        assert_eq!(log.of(side, "dropped"), [""; 0]);
    }
    // Both ends know the connection by one id.
    let starts = log.starts.lock().unwrap();
    assert!(matches!(&starts[..], [(Side::Client, id), (Side::Server, same)] if id == same), "{starts:?}");
    let first = &log.of(Side::Client, "sent")[0];
    assert!(first.starts_with("Initial 0 [PADDING ") && first.contains(", CRYPTO 0.."), "{first}");
}

#[test]
fn events_and_counters_agree_on_a_bad_network() {
    for seed in 1..=10 {
        let network = Network { loss: 10, reorder: 20, duplicate: 10, corrupt: 5, ..Network::CLEAN };
        let (mut pair, log) = watched(seed, network, 100_000);
        for (side, node) in [(Side::Client, &mut pair.client), (Side::Server, &mut pair.server)] {
            let stats = node.connection().stats();
            let count = |kind| log.of(side, kind).len() as u64;
            let duplicates = log.of(side, "dropped").iter().filter(|reason| **reason == format!("{:?}", DropReason::Duplicate)).count();
            assert_eq!(count("sent"), stats.packets_sent, "seed {seed}");
            assert_eq!(count("datagram out"), stats.datagrams_sent, "seed {seed}");
            assert_eq!(count("datagram in"), stats.datagrams_received, "seed {seed}");
            // Duplicates authenticate, too.
            assert_eq!(count("received") + duplicates as u64, stats.packets_received, "seed {seed}");
            assert_eq!(count("dropped"), stats.packets_dropped, "seed {seed}");
            assert_eq!(count("probe"), stats.probe_timeouts, "seed {seed}");
            // Packets of ACKs alone are lost without being counted.
            assert!(stats.packets_lost > 0 && count("lost") >= stats.packets_lost, "seed {seed}");
            assert!(duplicates > 0);
            assert_eq!(log.of(side, "metrics").last(), Some(&stats.congestion_window.to_string()));
        }
    }
}

#[test]
fn states_and_timers_are_told_in_their_order() {
    let (mut pair, log) = watched(1, Network::CLEAN, 100);
    let now = pair.now;
    pair.client.connection().close(now, ApplicationCode::from_u32(7), b"bye");
    pair.run(10 * SECOND, |pair| pair.client.dropped && pair.server.dropped);
    assert_eq!(log.of(Side::Client, "state"), ["connected", "confirmed", "closing: closed", "drained"]);
    let told = "draining: closed by the peer's application: code 0x7: bye";
    assert_eq!(log.of(Side::Server, "state"), ["connected", "confirmed", told, "drained"]);
    let last = log.of(Side::Client, "sent").pop().unwrap();
    assert!(last.contains("[CONNECTION_CLOSE of the application, code 0x7 \"bye\"]"), "{last}");
    assert_eq!(log.of(Side::Client, "timeout"), ["close"]);
    // Times never fall.
    let lines = log.lines.lock().unwrap();
    assert!(lines.is_sorted_by_key(|line| line.now));
}

#[test]
fn silence_is_told() {
    let log = Log::default();
    let transport = TransportConfig::default().trace(log.clone()).keep_alive(Some(4 * SECOND)).max_idle_timeout(Some(10 * SECOND));
    let mut pair = Pair::with(1, Network::CLEAN, transport, TransportConfig::default(), 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.run(SECOND, |_| false);
    pair.network.loss = 100;
    assert!(pair.run(60 * SECOND, |pair| pair.client.dropped));
    let timeouts = log.of(Side::Client, "timeout");
    assert_eq!(timeouts.first().map(String::as_str), Some("keep-alive"));
    assert_eq!(timeouts.last().map(String::as_str), Some("idle"));
    assert!(log.of(Side::Client, "probe").len() > 2);
    assert_eq!(log.of(Side::Client, "state"), ["connected", "confirmed", "ended: timed out", "drained"]);
    // The server is not watched.
    assert!(log.lines.lock().unwrap().iter().all(|line| line.side == Side::Client));
}
