//! Early data between a client and a server that have met before: accepted, rejected, after a Retry, over bad networks, and
//! where one of them breaks the rules.

use std::time::Duration;

use weald_crypto::simulation;

use super::pair::{Network, Pair, server_address, server_config};
use super::{SECOND, forge_as};
use crate::config::{ClientConfig, RetryPolicy, ServerConfig, TransportConfig};
use crate::connection::{CryptoJob, DatagramMeta, EarlyData, Scratch};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::stream_id::{Direction, StreamId};
use crate::wire::PacketType;
use crate::wire::header::{Packet, Packets};

const ROUND_TRIP: Duration = Duration::from_millis(20);

/// A client's and a server's configuration, that of the server for early data.
fn configs(seed: u64, transport: TransportConfig) -> (ClientConfig, ServerConfig) {
    (super::pair::client_config(seed, TransportConfig::default()), server(seed, transport))
}

fn server(seed: u64, transport: TransportConfig) -> ServerConfig {
    let (chain, key) = simulation::server_credentials();
    let builder = weald_crypto::ServerConfig::builder().alpn([b"test"]).certificate(chain, key).simulation(seed);
    ServerConfig::new(builder.early_data(true).build().unwrap()).transport(transport)
}

/// Lets them meet, so that the client has a ticket.
fn meet(client: &ClientConfig, server: &ServerConfig) {
    let mut pair = Pair::configured(99, Network::CLEAN, client.clone(), server.clone());
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && !pair.client.connection().handshake.awaits_tickets()));
}

/// A pair that has met, with the client's first flight not sent yet, so that what is written goes with it.
fn again(seed: u64, network: Network, client: &ClientConfig, server: &ServerConfig) -> Pair {
    let mut pair = Pair::early(seed, network, client, server);
    let now = pair.now;
    let node = &mut pair.client;
    let job = node.connection().poll_crypto_job().expect("the first flight");
    let mut scratch = std::mem::take(&mut node.scratch);
    node.connection().on_crypto_done(now, CryptoJob::run(job), &mut scratch);
    node.scratch = scratch;
    pair
}

fn accepted(seed: u64) -> Pair {
    let (client, server) = configs(seed, TransportConfig::default());
    meet(&client, &server);
    let mut pair = again(seed, Network::CLEAN, &client, &server);
    assert_eq!(pair.client.connection().early_data(), EarlyData::Offered);
    pair
}

fn verdicts(pair: &mut Pair) -> [EarlyData; 2] {
    [pair.client.connection().early_data(), pair.server.connection().early_data()]
}

fn types(datagram: &[u8]) -> Vec<PacketType> {
    Packets::new(datagram, 18)
        .map(|packet| match packet {
            Ok(Packet::Protected(packet)) => packet.packet_type,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn early_data_is_there_before_the_handshake_is_complete() {
    let mut pair = accepted(1);
    pair.server.answer = 5_000;
    let small = pair.client.send(Direction::Bi, 100);
    let large = pair.client.send(Direction::Uni, 6_000);
    pair.flush();
    // RFC 9000 12.2, 14.1: the first datagram carries both, and is full.
    let first = pair.flying.iter().map(|std::cmp::Reverse(flying)| flying).min().unwrap().3.clone();
    assert_eq!((types(&first), first.len()), (vec![PacketType::Initial, PacketType::ZeroRtt], 1200));
    assert!(pair.flying.iter().all(|std::cmp::Reverse((_, _, to_server, datagram))| *to_server && datagram.len() <= 1200));
    let is_there = |pair: &mut Pair| pair.server.has_received(small, 100) && pair.server.has_received(large, 6_000);
    assert!(pair.run(ROUND_TRIP * 3 / 4, is_there), "half a round trip is enough");
    assert!(!pair.server.connected && !pair.client.connected);
    let server = pair.server.connection();
    assert_eq!(server.alpn(), Some(&b"test"[..]));
    assert!(server.outcome().is_none());
    // The answer does not wait for the handshake either.
    assert!(pair.run(ROUND_TRIP, |pair| pair.client.received.get(&small).is_some_and(|(bytes, _)| !bytes.is_empty())));
    assert!(pair.run(SECOND, |pair| pair.client.has_received(small, 5_000)));
    assert!(pair.run(SECOND, |pair| pair.client.confirmed && pair.server.confirmed && pair.client.is_flushed()));
    assert_eq!(verdicts(&mut pair), [EarlyData::Accepted; 2]);
    for node in [&mut pair.client, &mut pair.server] {
        let outcome = node.connection().outcome().unwrap();
        assert!(outcome.resumed && outcome.early_data == weald_crypto::EarlyData::Accepted);
        assert_eq!(node.connection().stats().packets_lost, 0);
    }
}

/// RFC 9001 4.6.2: nothing of what was written is lost, whatever the reason.
#[test]
fn rejected_early_data_is_sent_again() {
    type Change = fn(ServerConfig) -> ServerConfig;
    let reasons: [(&str, Change); 4] = [
        ("the server takes none", |_| server_config(1, TransportConfig::default(), 0)),
        ("its limits are smaller", |server| server.transport(TransportConfig::default().max_streams_bi(50))),
        ("its application changed", |server| server.application_settings(b"other")),
        ("its limits are far smaller", |server| {
            let transport = TransportConfig::default().max_streams_bi(3).max_streams_uni(2).stream_window(1000).connection_window(2000);
            server.transport(transport)
        }),
    ];
    for (reason, change) in reasons {
        let (client, server) = configs(1, TransportConfig::default());
        meet(&client, &server);
        let mut pair = again(2, Network::CLEAN, &client, &change(server));
        assert_eq!(pair.client.connection().early_data(), EarlyData::Offered, "{reason}");
        pair.server.answer = 300;
        let streams: Vec<_> = (0..10)
            .flat_map(|n| [(Direction::Bi, n * 700), (Direction::Uni, n * 900)])
            .map(|(direction, len)| (pair.client.send(direction, len), len))
            .collect();
        assert!(pair.run(10 * SECOND, |pair| streams.iter().all(|(id, len)| pair.server.has_received(*id, *len))), "{reason}");
        let answers = streams.iter().filter(|(id, _)| id.direction() == Direction::Bi);
        assert!(pair.run(10 * SECOND, |pair| answers.clone().all(|(id, _)| pair.client.has_received(*id, 300))), "{reason}");
        assert!(pair.run(SECOND, |pair| pair.client.confirmed && pair.client.is_flushed()));
        assert_eq!(verdicts(&mut pair)[0], EarlyData::Rejected, "{reason}");
        assert!(pair.client.closed.is_none() && pair.server.closed.is_none());
        assert!(pair.client.connection().outcome().unwrap().resumed, "{reason}");
        // RFC 9002 6.4: what was sent in vain is no loss.
        assert_eq!(pair.client.connection().stats().packets_lost, 0, "{reason}");
    }
}

/// RFC 9000 17.2.5.3: the same content goes out again, under the same keys and with new numbers.
#[test]
fn early_data_goes_on_after_a_retry() {
    let (client, server) = configs(1, TransportConfig::default());
    meet(&client, &server);
    let client = client.token_store(None);
    let mut pair = again(2, Network::CLEAN, &client, &server.retry(RetryPolicy::Always));
    let id = pair.client.send(Direction::Uni, 5_000);
    assert!(pair.run(ROUND_TRIP * 7 / 4, |pair| pair.server.has_received(id, 5_000)), "a round trip and a half");
    assert!(!pair.server.connected && pair.client.connection().stats().retried);
    assert!(pair.run(SECOND, |pair| pair.client.confirmed && pair.client.is_flushed()));
    assert_eq!(verdicts(&mut pair), [EarlyData::Accepted; 2]);
}

#[test]
fn bad_networks_lose_nothing() {
    let mut seen = [0; 2];
    for seed in 0..240 {
        let (client, mut server) = configs(seed, TransportConfig::default());
        meet(&client, &server);
        let client = client.token_store(None);
        if seed % 3 == 1 {
            server = server.retry(RetryPolicy::Always);
        }
        if seed % 4 == 3 {
            server = server.transport(TransportConfig::default().max_streams_bi(2).stream_window(3000));
        }
        let network = Network { loss: 20, reorder: 30, duplicate: 10, corrupt: 5, ..Network::CLEAN };
        let mut pair = again(seed, network, &client, &server);
        pair.server.answer = 2_000;
        let ids: Vec<_> = (0..4).map(|n| (pair.client.send(Direction::Bi, 4_000 * n), 4_000 * n)).collect();
        let is_done = |pair: &mut Pair| {
            ids.iter().all(|(id, len)| pair.server.has_received(*id, *len) && pair.client.has_received(*id, 2_000))
                || pair.client.closed.is_some()
        };
        assert!(pair.run(200 * SECOND, is_done), "seed {seed}");
        if let Some(error) = &pair.client.closed {
            // Nobody waits for ever.
            assert_eq!(*error, ConnectionError::TimedOut, "seed {seed}");
            continue;
        }
        seen[usize::from(verdicts(&mut pair)[0] == EarlyData::Accepted)] += 1;
    }
    assert!(seen[0] > 40 && seen[1] > 120, "{seen:?}");
}

/// RFC 9002 6.2.4: the probe that repeats the ClientHello has room for what was lost with it.
#[test]
fn what_is_lost_with_the_first_datagram_comes_with_its_probe() {
    let mut pair = accepted(1);
    pair.lost = vec![0];
    let id = pair.client.send(Direction::Uni, 200);
    assert!(pair.run(Duration::from_millis(1020), |pair| pair.server.has_received(id, 200)), "{:?}", pair.trace);
    assert_eq!(pair.client.connection().stats().probe_timeouts, 1);
    assert!(!pair.server.connected);
}

/// RFC 9000 12.4, 12.5, RFC 9001 8.3: in 0-RTT packets.
#[test]
fn frames_that_a_0_rtt_packet_may_not_carry() {
    let forbidden: [&[u8]; 7] = [
        &[0x02, 0, 0, 0, 0],
        &[0x03, 0, 0, 0, 0, 0, 0, 0],
        &[0x06, 0, 1, 5],
        &[0x07, 1, 0],
        &[0x19, 0],
        &[0x1b, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x1e],
    ];
    for frames in forbidden {
        let mut pair = accepted(1);
        pair.server.stuck = true;
        assert!(pair.run(SECOND, |pair| pair.server.connection.is_some()));
        let now = pair.now;
        // Once kept until there are keys, and once opened at once.
        let kept = frames.len() % 2 == 0;
        pair.server.stuck = kept;
        pair.server.work(now);
        let datagram = forge_as(pair.client.connection(), now, PacketType::ZeroRtt, frames, 0);
        pair.deliver(true, &datagram);
        pair.server.stuck = false;
        pair.run(SECOND, |pair| pair.client.closed.is_some() && pair.server.closed.is_some());
        match (pair.server.closed.take(), pair.client.closed.take()) {
            (Some(ConnectionError::Transport(error)), Some(ConnectionError::ConnectionClosed(told))) => {
                assert_eq!(error.code, TransportErrorCode::PROTOCOL_VIOLATION, "{frames:?}");
                assert_eq!((told.code, told.frame), (error.code, frames.first().map(|number| u64::from(*number))), "{frames:?}");
            }
            other => panic!("{frames:?}: {other:?}"),
        }
    }
}

/// RFC 9001 5.6: not by a client, even if it has the keys.
#[test]
fn a_client_opens_no_0_rtt_packets() {
    let mut pair = accepted(1);
    pair.flush();
    let now = pair.now;
    let client = pair.client.connection();
    let datagram = forge_as(client, now, PacketType::ZeroRtt, &[0x01], 50);
    let meta = DatagramMeta { remote: server_address(), local: None, ecn: None };
    client.receive(now, &datagram, meta, &mut Scratch::default());
    assert_eq!((client.stats().packets_received, client.stats().packets_dropped), (0, 1));
}

/// RFC 9001 4.9.3: three probe timeouts long a server opens late packets, also those to the id that the client made up.
#[test]
fn late_packets_are_opened_for_a_while() {
    let mut pair = accepted(1);
    let early = pair.client.send(Direction::Uni, 100);
    // The only 0-RTT packet besides those in the first datagram is held up.
    pair.flush();
    let now = pair.now;
    let held: Vec<_> = [0x01, 0x01].map(|frame| forge_as(pair.client.connection(), now, PacketType::ZeroRtt, &[frame], 50)).into();
    assert!(pair.run(SECOND, |pair| pair.server.confirmed && pair.server.has_received(early, 100)));
    let server = pair.server.connection();
    let received = server.stats().packets_received;
    assert_eq!(pair.server.endpoint.pending_handshakes(), 1);
    pair.deliver(true, &held[0]);
    assert_eq!(pair.server.connection().stats().packets_received, received + 1);
    pair.run(SECOND, |pair| pair.server.endpoint.pending_handshakes() == 0);
    assert_eq!(pair.server.endpoint.pending_handshakes(), 0);
    let server = pair.server.connection();
    assert!(!server.keys.opens_early_data() && server.early.is_none());
    let received = pair.server.connection().stats().packets_received;
    pair.deliver(true, &held[1]);
    assert_eq!(pair.server.connection().stats().packets_received, received);
    assert!(pair.client.closed.is_none() && pair.server.closed.is_none());
}

/// RFC 9001 5.7, RFC 9000 12.3: what comes before the keys is kept, as far as there is room, and no longer than of use.
#[test]
fn few_packets_are_kept_until_the_client_hello_is_read() {
    let mut pair = accepted(1);
    pair.server.stuck = true;
    assert!(pair.run(SECOND, |pair| pair.server.connection.is_some()));
    let empty = pair.server.connection().memory();
    for n in 0..1000 {
        let now = pair.now;
        let datagram = forge_as(pair.client.connection(), now, PacketType::ZeroRtt, &[0x01], 1200);
        pair.deliver(true, &datagram);
        assert!(pair.server.connection().memory() < empty + 20_000, "{n}");
    }
    // A server that takes no early data keeps none.
    let (client, server) = configs(1, TransportConfig::default());
    meet(&client, &server);
    let mut pair = again(2, Network::CLEAN, &client, &server_config(1, TransportConfig::default(), 0));
    pair.server.stuck = true;
    pair.client.send(Direction::Uni, 5_000);
    assert!(pair.run(SECOND, |pair| pair.server.connection.is_some()));
    pair.run(ROUND_TRIP, |_| false);
    assert!(pair.server.connection().early.as_ref().unwrap().undecryptable.memory() == 0);
}

/// RFC 9000 7.4.1: 0-RTT packets keep to the limits of the earlier connection, and 1-RTT packets have those of this one.
#[test]
fn early_data_keeps_to_what_is_remembered() {
    let (client, server) = configs(1, TransportConfig::default().stream_window(1000).max_streams_uni(2));
    meet(&client, &server);
    let larger = server.clone().transport(TransportConfig::default().stream_window(50_000).max_streams_uni(5));
    let mut pair = again(2, Network::CLEAN, &client, &larger);
    let id = pair.client.send(Direction::Uni, 4_000);
    pair.client.send(Direction::Uni, 10);
    assert_eq!(pair.client.connection().open(Direction::Uni), None, "a stream more than is remembered");
    assert!(pair.run(ROUND_TRIP * 3 / 4, |pair| pair.server.received.get(&id).is_some_and(|(bytes, _)| bytes.len() == 1000)));
    assert!(!pair.server.connected && pair.server.received[&id].0.len() == 1000);
    assert!(pair.run(SECOND, |pair| pair.server.has_received(id, 4_000)));
    assert_eq!(verdicts(&mut pair), [EarlyData::Accepted; 2]);
    assert_eq!(pair.client.connection().open(Direction::Uni).map(StreamId::index), Some(2));
    assert_eq!(pair.client.connection().stats().packets_lost, 0);
}

/// RFC 9000 7.4.1: a server that takes early data under less than it was sent by.
#[test]
fn smaller_limits_and_acceptance_do_not_go_together() {
    for limit in 0..2 {
        let mut pair = accepted(1);
        let client = pair.client.connection();
        client.early.as_mut().unwrap().offer.as_mut().unwrap().pretend_larger(limit);
        assert!(pair.run(SECOND, |pair| pair.client.closed.is_some()));
        match pair.client.closed.take() {
            Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::PROTOCOL_VIOLATION),
            other => panic!("{other:?}"),
        }
    }
}

/// What was written for one protocol must not be read as another.
#[test]
fn another_protocol_ends_the_connection() {
    let crypto = |protocols: [&'static [u8]; 2]| {
        let (chain, key) = simulation::server_credentials();
        weald_crypto::ServerConfig::builder().alpn(protocols).certificate(chain, key).simulation(1).early_data(true)
    };
    let tickets = weald_crypto::Tickets::seeded(1);
    let client = weald_crypto::ClientConfig::builder().alpn([b"one", b"two"]).roots(simulation::roots()).simulation(1);
    let client = ClientConfig::new(client.build().unwrap());
    let server = |protocols| ServerConfig::new(crypto(protocols).tickets(tickets.clone()).build().unwrap());
    meet(&client, &server([b"one", b"two"]));
    let mut pair = again(2, Network::CLEAN, &client, &server([b"two", b"three"]));
    assert_eq!(pair.client.connection().alpn(), Some(&b"one"[..]));
    let id = pair.client.send(Direction::Uni, 100);
    assert!(pair.run(SECOND, |pair| pair.client.closed.is_some() && pair.server.closed.is_some()));
    match pair.client.closed.take() {
        Some(ConnectionError::Transport(error)) => {
            assert_eq!(error.code, TransportErrorCode::crypto(120));
            assert!(error.reason.contains("\"one\"") && error.reason.contains("\"two\""), "{}", error.reason);
        }
        other => panic!("{other:?}"),
    }
    assert!(!pair.server.received.contains_key(&id));
}

/// A client that has nothing to remember begins as any other.
#[test]
fn without_a_ticket_nothing_is_early() {
    let (client, server) = configs(1, TransportConfig::default());
    let mut pair = again(1, Network::CLEAN, &client, &server);
    assert_eq!(pair.client.connection().early_data(), EarlyData::NotOffered);
    assert_eq!(pair.client.connection().open(Direction::Uni), None);
    assert!(pair.run(SECOND, |pair| pair.client.confirmed));
    assert_eq!(verdicts(&mut pair), [EarlyData::NotOffered; 2]);
}
