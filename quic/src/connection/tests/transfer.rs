//! Handshakes and transfers over networks of every kind.

use std::cmp::Reverse;
use std::time::Duration;

use super::SECOND;
use super::pair::{Network, Pair};
use crate::config::TransportConfig;
use crate::connection::Scratch;
use crate::error::TransportErrorCode;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;
use crate::token::Token;

#[test]
fn a_handshake_and_a_transfer_both_ways() {
    let mut pair = Pair::new(1, Network::CLEAN);
    pair.server.answer = 50_000;
    assert!(pair.run(5 * SECOND, |pair| pair.client.connected), "{:?}", pair.client.closed);
    let id = pair.client.send(Direction::Bi, 100_000);
    assert!(pair.run(10 * SECOND, |pair| pair.server.has_received(id, 100_000) && pair.client.has_received(id, 50_000)));
    assert!(pair.client.confirmed && pair.server.confirmed);
    let outcome = pair.client.connection().outcome().unwrap();
    assert_eq!(outcome.alpn.as_deref(), Some(&b"test"[..]));
    assert!(pair.run(SECOND, |pair| pair.client.is_flushed() && pair.server.is_flushed()));
}

/// Our acknowledgements are lost, and then the peer's probes: what we ask it to acknowledge says it again, for as long as it takes.
#[test]
fn an_acknowledgement_that_is_not_heard_is_said_again() {
    let mut pair = Pair::connected(1);
    pair.client.send(Direction::Uni, 1000);
    let before = pair.client.connection().stats().probe_timeouts;
    let has_probed = pair.run(10 * SECOND, |pair| {
        pair.flying.retain(|Reverse((_, _, to_server, _))| *to_server);
        pair.client.connection().stats().probe_timeouts == before + 3
    });
    assert!(has_probed && !pair.client.is_flushed());
    let probes = pair.client.connection().stats().probe_timeouts;
    pair.run(Duration::from_millis(15), |pair| {
        pair.flying.retain(|Reverse((_, _, to_server, _))| *to_server);
        false
    });
    // None of the client arrives any more.
    let is_heard = pair.run(10 * SECOND, |pair| {
        pair.flying.retain(|Reverse((_, _, to_server, _))| !to_server);
        pair.client.is_flushed()
    });
    assert!(is_heard, "{} probes", pair.client.connection().stats().probe_timeouts - probes);
}

/// The server's only acknowledgement of a Handshake packet is lost: that later packets are acknowledged shows as well that the
/// client is validated, and ends the back-off of probes (RFC 9002 6.2.1, 6.2.2.1).
#[test]
fn the_back_off_ends_without_an_acknowledged_handshake_packet() {
    let mut pair = Pair::connected(4);
    pair.client.connection().peer_validated_us = false;
    pair.network.loss = 100;
    let id = pair.client.send(Direction::Uni, 5_000);
    pair.run(2 * SECOND, |_| false);
    assert!(pair.client.connection().loss.probes() > 2);
    pair.network.loss = 0;
    assert!(pair.run(10 * SECOND, |pair| pair.server.has_received(id, 5_000) && pair.client.is_flushed()));
    assert_eq!(pair.client.connection().loss.probes(), 0);
}

#[test]
fn an_idle_connection_is_silent_and_owes_nothing() {
    let mut pair = Pair::connected(2);
    let before = pair.trace.len();
    pair.run(10 * SECOND, |_| false);
    assert_eq!(pair.trace.len(), before);
    assert_eq!(pair.client.connection().stats().bytes_in_flight, 0);
    assert_eq!(pair.server.connection().stats().bytes_in_flight, 0);
}

/// One transfer of 60 kB both ways under everything that a network does.
fn lossy(seed: u64) -> Vec<(u64, bool, usize)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let network = Network {
        delay: Duration::from_micros(rng.u64(100..100_000)),
        loss: rng.u32(0..=10),
        reorder: rng.u32(0..=30),
        duplicate: rng.u32(0..=10),
        corrupt: rng.u32(0..=5),
    };
    let mut pair = Pair::new(seed, network);
    pair.server.answer = 60_000;
    let connected = pair.run(10 * SECOND, |pair| pair.client.connected);
    assert!(connected, "seed {seed}: {network:?} {:?} {:?}", pair.client.closed, pair.server.closed);
    let two_ways = pair.client.send(Direction::Bi, 60_000);
    let one_way = pair.client.send(Direction::Uni, 3_000);
    let done = pair.run(60 * SECOND, |pair| {
        pair.server.has_received(two_ways, 60_000) && pair.server.has_received(one_way, 3_000) && pair.client.has_received(two_ways, 60_000)
    });
    assert!(done, "seed {seed}: {network:?} {:?} {:?}", pair.client.closed, pair.server.closed);
    let flushed = pair.run(60 * SECOND, |pair| pair.client.is_flushed() && pair.server.is_flushed());
    assert!(flushed, "seed {seed}: {network:?}");
    assert!(pair.client.closed.is_none() && pair.server.closed.is_none(), "seed {seed}");
    pair.trace
}

#[test]
fn no_byte_is_lost_whatever_the_network_does() {
    for seed in 0..400 {
        lossy(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 14, 15] {
        assert_eq!(lossy(seed), lossy(seed), "seed {seed}");
    }
    assert_ne!(lossy(3), lossy(4));
}

#[test]
fn handshakes_survive_heavy_loss() {
    for seed in 0..200 {
        let network = Network { loss: 40, reorder: 30, ..Network::CLEAN };
        let patient = || TransportConfig::default().handshake_timeout(300 * SECOND).max_idle_timeout(None);
        let mut pair = Pair::with(seed, network, patient(), patient(), 4);
        let done = pair.run(300 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed);
        assert!(done, "seed {seed}: {:?} {:?}", pair.client.closed, pair.server.closed);
    }
}

#[test]
fn the_server_sends_at_most_three_times_what_it_received() {
    // RFC 9000 8.1, with a certificate chain of many datagrams, under loss and probes.
    for seed in 0..20 {
        let network = Network { loss: if seed == 0 { 0 } else { 15 }, ..Network::CLEAN };
        let default = TransportConfig::default;
        let mut pair = Pair::with(seed, network, default(), default(), 30);
        let mut blocked = false;
        let done = pair.run(30 * SECOND, |pair| {
            if let Some((_, connection)) = &pair.server.connection
                && !connection.path.amplification().is_validated()
            {
                blocked |= connection.is_amplification_limited();
                assert!(pair.server.sent_bytes <= 3 * pair.server.received_bytes, "seed {seed}");
            }
            pair.client.confirmed
        });
        assert!(done, "seed {seed}: {:?} {:?}", pair.client.closed, pair.server.closed);
        assert!(blocked, "the chain was too short to meet the limit");
    }
}

#[test]
fn a_silent_client_gets_three_times_its_datagram_and_no_more() {
    // RFC 9000 8.1: probes and the close count too.
    let default = TransportConfig::default;
    let mut pair = Pair::with(5, Network::CLEAN, default(), default(), 30);
    pair.run(SECOND, |pair| pair.server.connection.is_some());
    pair.network.loss = 100;
    pair.flying.clear();
    pair.run(60 * SECOND, |pair| pair.server.dropped);
    assert!(pair.server.dropped, "the handshake times out");
    assert!(pair.server.received_bytes == 1200 && pair.server.sent_bytes <= 3600, "{}", pair.server.sent_bytes);
    assert_eq!(pair.server.endpoint.pending_handshakes(), 0);
    assert_eq!(pair.server.endpoint.connections(), 0);
}

#[test]
fn a_reader_that_stops_stops_the_writer_at_the_window() {
    // RFC 9000 4.1
    let server = TransportConfig::default().stream_window(20_000).connection_window(50_000);
    let mut pair = Pair::with(9, Network::CLEAN, TransportConfig::default(), server, 0);
    pair.server.deaf = true;
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed));
    let before = pair.server.received_bytes;
    let streams: Vec<_> = (0..5).map(|_| pair.client.send(Direction::Uni, 40_000)).collect();
    pair.run(20 * SECOND, |_| false);
    let arrived = pair.server.received_bytes - before;
    assert!((50_000..60_000).contains(&arrived), "{arrived}");
    pair.server.deaf = false;
    assert!(pair.run(30 * SECOND, |pair| streams.iter().all(|id| pair.server.has_received(*id, 40_000))));
}

#[test]
fn more_data_than_the_window_closes() {
    // RFC 9000 4.1: a STREAM frame of one byte at offset 2^30 of stream 0.
    let error = super::code(super::answer_to(true, &[0x0e, 0x00, 0xc0, 0, 0, 0, 0x40, 0, 0, 0, 0x01, 0xff]));
    assert_eq!(error, Some(TransportErrorCode::FLOW_CONTROL_ERROR));
}

#[test]
fn larger_datagrams_are_used_once_the_peer_allows_them() {
    let large = || TransportConfig::default().udp_payload(1472);
    let mut pair = Pair::with(3, Network::CLEAN, large(), large(), 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.connected));
    let id = pair.client.send(Direction::Uni, 100_000);
    assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 100_000)));
    assert_eq!(pair.trace.iter().map(|(.., len)| *len).max(), Some(1472));
}

#[test]
fn what_an_interrupted_call_left_in_the_lent_buffers_is_nobodys() {
    let mut pair = Pair::connected(4);
    let now = pair.now;
    let mut scratch = Scratch::default();
    scratch.tokens.iter_mut().for_each(|tokens| tokens.push(Token::HandshakeDone));
    scratch.header.extend([1; 100]);
    pair.client.connection().ping();
    let sent = pair.client.connection().transmit(now, &mut [0; 1500], &mut scratch);
    assert!(sent.is_some());
    let mut carried = Vec::new();
    pair.client.connection().spaces.get(SpaceId::Data).unwrap().for_each_oldest(1, |_, tokens| carried.extend(tokens));
    assert_eq!(carried, [Token::Ping]);
}
