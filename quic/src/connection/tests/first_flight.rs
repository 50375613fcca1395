//! The first packets: Retry, Version Negotiation, forged Initials, TLS that fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_crypto::simulation::SERVER_NAME;

use super::pair::{Network, Pair, client_config, server_address, server_config};
use super::{SECOND, forge};
use crate::config::{ClientConfig, RetryPolicy, ServerLimits, TransportConfig};
use crate::connection::{DatagramMeta, MemoryTokenStore, Scratch, TokenStore, level};
use crate::error::{ApplicationCode, ConnectionError, TransportErrorCode};
use crate::id::ConnectionId;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;
use crate::wire::header::{Packet, Packets, RetryToSend};
use crate::wire::{Version, Writer};

/// The ids of the first packet in a datagram.
pub(super) fn ids(datagram: &[u8]) -> (ConnectionId, ConnectionId) {
    match Packets::new(datagram, 18).next() {
        Some(Ok(Packet::Protected(packet))) => (packet.dcid, packet.scid),
        other => panic!("{other:?}"),
    }
}

pub(super) fn first_datagram(pair: &mut Pair) -> Vec<u8> {
    let now = pair.now;
    let client = pair.client.connection();
    while let Some(job) = client.poll_crypto_job() {
        client.on_crypto_done(now, job.run(), &mut Scratch::default());
    }
    let mut buf = [0; 1500];
    let transmit = client.transmit(now, &mut buf, &mut Scratch::default()).unwrap();
    assert_eq!(transmit.len, 1200);
    buf[..transmit.len].to_vec()
}

pub(super) fn retry(original: ConnectionId, client: ConnectionId, server: ConnectionId, token: &[u8]) -> Vec<u8> {
    let packet = RetryToSend { version: Version::V1, dcid: client, scid: server, token };
    let mut bytes = vec![0; packet.size()];
    packet.encode(&mut Writer::new(&mut bytes));
    let tag = weald_crypto::retry_integrity_tag(weald_crypto::Version::V1, &original, &bytes);
    bytes.extend_from_slice(&tag);
    bytes
}

/// A Retry whose token every Initial packet carries must leave room for what the packets are for.
#[test]
fn a_retry_with_an_endless_token_is_dropped() {
    let mut pair = Pair::new(1, Network::CLEAN);
    let (original, client) = ids(&first_datagram(&mut pair));
    let chosen = ConnectionId::new(&[9; 20]).unwrap();
    for len in [513, 1100, 1400] {
        pair.deliver(false, &retry(original, client, chosen, &vec![7; len]));
    }
    let sent = pair.client.connection().transmit(pair.now, &mut [0; 1500], &mut Scratch::default());
    assert!(sent.is_none(), "the Retry was followed");
    pair.deliver(false, &retry(original, client, chosen, &[7; 512]));
    let sent = pair.client.connection().transmit(pair.now, &mut [0; 1500], &mut Scratch::default());
    assert_eq!(sent.unwrap().len, 1200);
}

#[test]
fn a_retry_starts_recovery_anew() {
    // RFC 9002 6.3
    let mut pair = Pair::new(1, Network { loss: 100, ..Network::CLEAN });
    let (original, client) = ids(&first_datagram(&mut pair));
    let began = pair.now;
    let probed = pair.run(8 * SECOND, |pair| pair.client.connection().stats().probe_timeouts == 2);
    assert!(probed && pair.client.connection().stats().bytes_in_flight >= 3600);
    let waited = pair.now - began;
    pair.deliver(false, &retry(original, client, ConnectionId::new(&[9; 8]).unwrap(), b"token"));
    assert_eq!(pair.client.connection().stats().bytes_in_flight, 0);
    pair.flush();
    let (sent, at) = (pair.trace.len(), pair.now);
    assert!(pair.run(8 * SECOND, |pair| pair.trace.len() > sent));
    // As long as the first time, where two waits before it took three times that, and the next of them would take four.
    assert!(pair.now - at < waited / 2, "{:?} after {waited:?}", pair.now - at);
}

// RFC 9002 6.2.4: each of two probes can do without the other.
#[test]
fn the_second_probe_carries_the_first_flight_too() {
    let mut pair = Pair::new(1, Network::CLEAN);
    pair.lost = vec![0, 1];
    // The probe timeout and a round trip; a PING would need another one for what it shows to be lost.
    assert!(pair.run(Duration::from_millis(1025), |pair| pair.client.connected), "{:?}", pair.trace);
    assert_eq!(pair.client.connection().stats().probe_timeouts, 1);
}

// RFC 9000 13.2.5, RFC 9002 5.3: packets wait for their keys while the handshake is probed for, which is no part of the round trip.
#[test]
fn what_was_lost_in_the_handshake_makes_no_round_trip_longer() {
    let mut measured = 0;
    for seed in 0..300 {
        let mut pair = Pair::new(seed, Network { loss: 40, ..Network::CLEAN });
        if !pair.run(60 * SECOND, |pair| pair.client.connected) {
            continue;
        }
        pair.client.send(Direction::Uni, 1000);
        if pair.run(60 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed) {
            for node in [&mut pair.client, &mut pair.server] {
                let (rtt, min) = (node.connection().stats().rtt, node.connection().stats().min_rtt);
                // Without a sample they are the guess.
                assert!(rtt <= Duration::from_millis(60) || rtt == min, "seed {seed}: {rtt:?}, at least {min:?}");
                assert!(rtt <= Duration::from_millis(333), "seed {seed}: {rtt:?}");
                measured += u32::from(rtt <= Duration::from_millis(60));
            }
        }
    }
    assert!(measured > 300, "{measured}");
}

// RFC 9001 4.1.2; CVE-2025-59530: kept until there are keys, it is read before our Finished has left, which the server cannot have.
#[test]
fn an_early_handshake_done_is_a_violation() {
    for (frames, is_early) in [(&[0x1e][..], true), (&[0x01], false), (&[0x01, 0x1e], true)] {
        let mut pair = Pair::new(1, Network::CLEAN);
        let has_keys = |pair: &mut Pair| pair.server.connection.as_ref().is_some_and(|(_, server)| server.keys.has(level(SpaceId::Data)));
        assert!(pair.run(SECOND, has_keys));
        let now = pair.now;
        let forged = forge(pair.server.connection(), now, SpaceId::Data, frames, 0);
        pair.deliver(false, &forged);
        let is_confirmed = pair.run(5 * SECOND, |pair| pair.client.confirmed || pair.client.closed.is_some()) && pair.client.confirmed;
        assert_eq!(is_confirmed, !is_early, "{frames:?}");
        match pair.client.closed.take() {
            Some(ConnectionError::Transport(error)) if is_early => assert_eq!(error.code, TransportErrorCode::PROTOCOL_VIOLATION),
            None if !is_early => {}
            other => panic!("{frames:?}: {other:?}"),
        }
    }
}

#[test]
fn a_client_follows_one_retry() {
    // RFC 9000 17.2.5.2
    let mut pair = Pair::new(1, Network::CLEAN);
    let first = first_datagram(&mut pair);
    let (original, client) = ids(&first);
    let chosen = ConnectionId::new(&[9; 11]).unwrap();
    let good = retry(original, client, chosen, b"the token");

    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let same_id = retry(original, client, original, b"the token");
    let mut buf = [0; 1500];
    for ignored in [damaged, same_id] {
        pair.deliver(false, &ignored);
        assert!(pair.client.connection().transmit(pair.now, &mut buf, &mut Scratch::default()).is_none());
    }

    pair.deliver(false, &good);
    let second = pair.client.connection().transmit(pair.now, &mut buf, &mut Scratch::default()).unwrap();
    assert_eq!(second.len, 1200);
    let (dcid, scid) = ids(&buf[..second.len]);
    assert_eq!((dcid, scid), (chosen, client));
    match Packets::new(&buf[..second.len], 18).next() {
        Some(Ok(Packet::Protected(packet))) => assert_eq!(packet.token, b"the token"),
        other => panic!("{other:?}"),
    }

    // RFC 9000 17.2.5.2: a second one is ignored.
    pair.deliver(false, &retry(original, client, ConnectionId::new(&[8; 8]).unwrap(), b"x"));
    assert!(pair.client.connection().transmit(pair.now, &mut buf[1200..1500], &mut Scratch::default()).is_none());
    // The server opens it with the keys of the id that it chose; but it knows of no Retry, and the client objects to that
    // (RFC 9000 7.3).
    let second = buf[..second.len].to_vec();
    pair.deliver(true, &second);
    assert!(pair.server.connection.is_some());
    pair.run(5 * SECOND, |pair| pair.client.closed.is_some());
    match pair.client.closed.take() {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::TRANSPORT_PARAMETER_ERROR),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_retry_after_an_answer_is_ignored() {
    let mut pair = Pair::new(1, Network::CLEAN);
    let first = first_datagram(&mut pair);
    let (original, client) = ids(&first);
    pair.deliver(true, &first);
    pair.run(SECOND, |pair| pair.client.connected);
    pair.deliver(false, &retry(original, client, ConnectionId::new(&[9; 11]).unwrap(), b"late"));
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed));
}

pub(super) fn negotiation(client: ConnectionId, server: ConnectionId, versions: &[u32]) -> Vec<u8> {
    let mut packet = vec![0xc0, 0, 0, 0, 0];
    for id in [client, server] {
        packet.push(id.len() as u8);
        packet.extend_from_slice(&id);
    }
    versions.iter().for_each(|version| packet.extend_from_slice(&version.to_be_bytes()));
    packet
}

#[test]
fn a_server_without_our_version_ends_the_attempt() {
    // RFC 9000 6.2
    let mut pair = Pair::new(1, Network::CLEAN);
    let first = first_datagram(&mut pair);
    let (original, client) = ids(&first);
    let other = ConnectionId::new(&[7; 8]).unwrap();
    for ignored in [negotiation(client, original, &[5, 1]), negotiation(client, other, &[5])] {
        pair.deliver(false, &ignored);
        assert!(!pair.client.connection().is_closed());
    }
    pair.deliver(false, &negotiation(client, original, &[5, 0x1a2a_3a4a]));
    pair.run(SECOND, |pair| pair.client.dropped);
    assert_eq!(pair.client.closed, Some(ConnectionError::VersionMismatch));
}

#[test]
fn version_negotiation_after_an_answer_or_at_a_server_is_ignored() {
    let mut pair = Pair::new(1, Network::CLEAN);
    let first = first_datagram(&mut pair);
    let (original, client) = ids(&first);
    pair.deliver(true, &first);
    pair.run(SECOND, |pair| pair.client.connected);
    pair.deliver(false, &negotiation(client, original, &[5]));
    let server = pair.server.connection().local_ids.handshake_id();
    pair.deliver(true, &negotiation(server, client, &[5]));
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
}

#[test]
fn an_unknown_version_is_negotiated() {
    // RFC 9000 6.1
    let mut pair = Pair::new(1, Network::CLEAN);
    let mut first = first_datagram(&mut pair);
    first[1..5].copy_from_slice(&0x5a6a_7a8au32.to_be_bytes());
    let meta = DatagramMeta { remote: super::pair::client_address(), local: None, ecn: None };
    let answer = match pair.server.endpoint.receive(pair.now, &first, meta) {
        crate::endpoint::Routed::Answer(answer) => answer,
        other => panic!("{other:?}"),
    };
    let (dcid, scid) = (first[6..6 + 16].to_vec(), first[23..23 + 18].to_vec());
    match Packets::new(&answer, 18).next() {
        Some(Ok(Packet::VersionNegotiation(packet))) => {
            assert_eq!((packet.dcid, packet.scid), (&scid[..], &dcid[..]));
            assert!(packet.versions().any(|version| version == Version::V1));
        }
        other => panic!("{other:?}"),
    }
    let small = pair.server.endpoint.receive(pair.now, &first[..1199], meta);
    assert!(matches!(small, crate::endpoint::Routed::Dropped));
    assert!(pair.server.connection.is_none());
}

#[test]
fn a_forged_initial_leaves_nothing_behind() {
    let mut pair = Pair::new(1, Network::CLEAN);
    let first = first_datagram(&mut pair);
    let mut forged = first.clone();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..10 {
        pair.deliver(true, &forged);
    }
    assert_eq!((pair.server.endpoint.connections(), pair.server.endpoint.pending_handshakes()), (0, 0));
    pair.deliver(true, &first);
    assert_eq!((pair.server.endpoint.connections(), pair.server.endpoint.pending_handshakes()), (1, 1));
    assert!(pair.run(5 * SECOND, |pair| pair.server.confirmed && pair.client.confirmed));
    assert_eq!((pair.server.endpoint.connections(), pair.server.endpoint.pending_handshakes()), (1, 0));
}

#[test]
fn initial_packets_in_small_datagrams_are_dropped() {
    // RFC 9000 14.1
    let mut pair = Pair::new(1, Network::CLEAN);
    pair.server.stuck = true;
    pair.run(SECOND, |pair| pair.server.connection.is_some());
    let now = pair.now;
    let received = pair.server.connection().stats().packets_received;
    let small = forge(pair.client.connection(), now, SpaceId::Initial, &[0x1c, 0, 0, 0], 1199);
    pair.deliver(true, &small);
    assert_eq!(pair.server.connection().stats().packets_received, received);
    let full = forge(pair.client.connection(), now, SpaceId::Initial, &[0x1c, 0, 0, 0], 1200);
    pair.deliver(true, &full);
    assert!(pair.server.connection().is_closed());
}

#[test]
fn a_wrong_server_name_fails_the_handshake_at_both_ends() {
    // RFC 9001 4.8
    let mut pair = Pair::new(1, Network::CLEAN);
    let config = client_config(1, TransportConfig::default());
    let connected = pair.client.endpoint.connect(pair.now, &config, server_address(), "example.org").unwrap();
    pair.client.connection = Some(connected);
    assert!(pair.run(5 * SECOND, |pair| pair.client.closed.is_some() && pair.server.closed.is_some()));
    match (pair.client.closed.take(), pair.server.closed.take()) {
        (Some(ConnectionError::Transport(ours)), Some(ConnectionError::ConnectionClosed(told))) => {
            assert_eq!(ours.code, told.code);
            assert!(ours.code.alert().is_some(), "{ours}");
            assert!(ours.reason.contains("example.org"), "{ours}");
            // What we think of a certificate is for our user, not for the peer.
            assert!(told.reason.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn packets_that_come_before_the_servers_handshake_is_complete_are_kept_for_then() {
    // RFC 9001 5.7
    let mut pair = Pair::new(1, Network::CLEAN);
    assert!(pair.run(SECOND, |pair| pair.client.connected));
    let id = pair.client.send(Direction::Uni, 5000);
    // The client's Finished arrives, and TLS takes until all the rest of the flight is there.
    pair.server.stuck = true;
    pair.run(Duration::from_millis(15), |_| false);
    assert!(!pair.server.connection().is_confirmed());
    pair.server.stuck = false;
    pair.flush();
    assert!(pair.server.has_received(id, 5000), "{:?}", pair.server.connection().stats());
    assert!(pair.run(SECOND, |pair| pair.client.confirmed));
    assert_eq!((pair.client.connection().stats().packets_lost, pair.server.connection().stats().packets_dropped), (0, 0));
}

/// A pair whose server sends a Retry to everyone.
fn retrying(seed: u64) -> Pair {
    let server = server_config(seed, TransportConfig::default(), 0).retry(RetryPolicy::Always);
    Pair::configured(seed, Network::CLEAN, client_config(seed, TransportConfig::default()), server)
}

#[test]
fn a_handshake_with_a_retry_bears_the_loss_of_any_datagram() {
    // RFC 9000 8.1.2, 7.3: both ends agree on the ids, whatever had to be sent again.
    for lost in 0..16 {
        let mut pair = retrying(1);
        pair.lost = vec![lost];
        assert!(pair.run(9 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed), "without datagram {lost}");
        let id = pair.client.send(Direction::Bi, 10_000);
        assert!(pair.run(9 * SECOND, |pair| pair.server.has_received(id, 10_000)), "without datagram {lost}");
        let stats = pair.server.endpoint.stats();
        assert_eq!((stats.accepted, stats.validated), (1, 1), "without datagram {lost}");
        // A client that heard nothing repeats its first packet, twice in each probe; it follows one Retry.
        assert!((1..=3).contains(&stats.retries), "without datagram {lost}: {stats:?}");
    }
}

#[test]
fn an_address_that_a_retry_validated_gets_the_whole_answer_at_once() {
    // RFC 9000 8.1
    let flight = |policy| {
        let server = server_config(1, TransportConfig::default(), 30).retry(policy);
        let mut pair = Pair::configured(1, Network::CLEAN, client_config(1, TransportConfig::default()), server);
        // The client is heard no more once it has asked.
        pair.run(SECOND, |pair| pair.server.connection.is_some());
        pair.network.loss = 100;
        pair.flying.clear();
        pair.run(SECOND, |_| false);
        pair.server.sent_bytes
    };
    assert!((2400..=3600).contains(&flight(RetryPolicy::Never)));
    assert!(flight(RetryPolicy::Always) > 2 * 3600);
}

/// Closes the client's connection, and connects again when both ends have forgotten it.
pub(super) fn reconnect(pair: &mut Pair, config: &ClientConfig) {
    let now = pair.now;
    pair.client.connection().close(now, ApplicationCode::from_u32(0), b"");
    assert!(pair.run(5 * SECOND, |pair| pair.client.dropped && pair.server.dropped));
    for node in [&mut pair.client, &mut pair.server] {
        (node.closed, node.connected, node.confirmed, node.dropped) = (None, false, false, false);
    }
    pair.client.connection = Some(pair.client.endpoint.connect(pair.now, config, server_address(), SERVER_NAME).unwrap());
    assert!(pair.run(9 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.run(SECOND, |_| false);
}

#[test]
fn a_token_of_an_earlier_connection_stands_in_for_a_retry_once() {
    // RFC 9000 8.1.3
    #[derive(Default)]
    struct Replays(Mutex<Vec<Vec<u8>>>);
    impl TokenStore for Replays {
        fn put(&self, name: &str, _: Version, token: Vec<u8>) {
            assert_eq!(name, SERVER_NAME);
            self.0.lock().unwrap().push(token);
        }
        fn take(&self, _: &str, _: Version) -> Option<Vec<u8>> {
            self.0.lock().unwrap().first().cloned()
        }
    }
    let stats = |pair: &Pair| {
        let stats = pair.server.endpoint.stats();
        (stats.accepted, stats.validated, stats.retries)
    };
    let told = |pair: &mut Pair| {
        [&mut pair.client, &mut pair.server].map(|node| {
            let stats = node.connection().stats();
            (stats.retried, stats.address_token)
        })
    };
    // NEW_TOKEN is sent again if it is lost, and in both datagrams of a probe.
    for lost in 0..16 {
        let replays = Arc::new(Replays::default());
        let config = client_config(1, TransportConfig::default()).token_store(Some(Arc::clone(&replays) as _));
        let server = server_config(1, TransportConfig::default(), 0).retry(RetryPolicy::Always);
        let mut pair = Pair::configured(1, Network::CLEAN, config.clone(), server);
        pair.lost = vec![lost];
        assert!(pair.run(9 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
        pair.run(SECOND, |_| false);
        assert!((1..=3).contains(&replays.0.lock().unwrap().len()), "without datagram {lost}");
        assert_eq!(told(&mut pair), [(true, false); 2]);
        pair.lost.clear();
        let first = stats(&pair);
        reconnect(&mut pair, &config);
        assert_eq!(stats(&pair), (2, 2, first.2));
        assert_eq!(told(&mut pair), [(false, true); 2]);
        // The same one again is worth nothing, and the client is asked as if it had none (RFC 9000 8.1.4).
        reconnect(&mut pair, &config);
        assert_eq!(stats(&pair), (3, 3, first.2 + 1));
        assert_eq!(told(&mut pair), [(true, true), (true, false)]);
    }
}

#[test]
fn a_client_uses_each_token_once_and_a_server_may_give_none() {
    let limits = ServerLimits::default();
    for (lifetime, tokens) in [(SECOND * 3600, 1), (Duration::ZERO, 0)] {
        let server = server_config(1, TransportConfig::default(), 0).limits(limits.token_lifetime(lifetime));
        let store = Arc::new(MemoryTokenStore::new());
        let config = client_config(1, TransportConfig::default()).token_store(Some(Arc::clone(&store) as _));
        let mut pair = Pair::configured(1, Network::CLEAN, config.clone(), server);
        assert!(pair.run(9 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
        pair.run(SECOND, |_| false);
        reconnect(&mut pair, &config);
        assert_eq!(pair.server.endpoint.stats().validated, tokens);
        let kept = [store.take(SERVER_NAME, Version::V1), store.take(SERVER_NAME, Version::V1)].into_iter().flatten().count();
        assert_eq!(kept as u64, tokens, "one a connection, and the first is used");
    }
}

/// RFC 9001 4.9.1: what answers a server's flight is one datagram, whose Handshake packet stands for the acknowledgement of the Initial one.
#[test]
fn a_client_answers_with_one_datagram_that_is_not_padded() {
    let mut pair = Pair::new(1, Network::CLEAN);
    assert!(pair.run(SECOND, |pair| pair.client.connected));
    pair.flush();
    let of_client: Vec<_> = pair.trace.iter().filter(|(_, to_server, _)| *to_server).map(|(.., len)| *len).collect();
    assert!(matches!(of_client[..], [1200, answer] if answer < 150), "{of_client:?}");
    // Spare connection ids make no packets of their own before they could be of use.
    assert_eq!(pair.client.connection().stats().packets_sent, 2);
    assert!(pair.run(SECOND, |pair| pair.server.confirmed));
    // An Initial and a Handshake packet, and one that has all the rest.
    assert_eq!(pair.server.connection().stats().packets_sent, 3);
    pair.run(SECOND, |_| false);
    assert!([pair.client, pair.server].iter_mut().all(|node| node.connection().local_ids.active().len() == 4));
}

/// Packets of a handshake are acknowledged by the answer to them, and without one if TLS takes long.
#[test]
fn an_acknowledgement_waits_for_slow_tls_but_not_for_long() {
    let mut pair = Pair::new(1, Network::CLEAN);
    for at_server in [true, false] {
        // Until the first packets have arrived at the end whose TLS is slow.
        let node = if at_server { &mut pair.server } else { &mut pair.client };
        node.stuck = true;
        let sent = |pair: &Pair| pair.trace.iter().filter(|(_, to_server, _)| *to_server != at_server).count();
        let before = sent(&pair);
        let arrived = |pair: &mut Pair| {
            let node = if at_server { &pair.server } else { &pair.client };
            node.connection.as_ref().is_some_and(|(_, connection)| connection.handshake.is_working())
        };
        // A client's own ClientHello is a job, too.
        if !at_server {
            assert!(pair.run(SECOND, |pair| pair.trace.iter().any(|(_, to_server, _)| !to_server)));
        }
        assert!(pair.run(SECOND, arrived));
        let then = pair.now;
        assert!(pair.run(SECOND, |pair| sent(pair) > before));
        assert_eq!(pair.now - then, Duration::from_millis(25), "at the server: {at_server}");
        let node = if at_server { &mut pair.server } else { &mut pair.client };
        node.stuck = false;
    }
    assert!(pair.run(SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
}
