//! Attacks that need no keys of the victim's peer, or a clock at its ends: forged first packets in every state, a slow TLS,
//! and periods at the borders of what is possible.

use std::time::Duration;

use super::first_flight::{first_datagram, ids, negotiation, retry};
use super::pair::{Network, Pair};
use super::{SECOND, forge};
use crate::config::TransportConfig;
use crate::connection::{Connection, DatagramMeta, Scratch};
use crate::id::ConnectionId;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;
use crate::time::Instant;

/// How far a pair has come when it is attacked.
const STATES: [fn(&mut Pair); 5] = [
    |pair| _ = pair.run(Duration::from_millis(12), |_| false),
    |pair| _ = pair.run(Duration::from_millis(22), |_| false),
    |pair| _ = pair.run(SECOND, |pair| pair.client.connected),
    |pair| _ = pair.run(SECOND, |pair| pair.client.confirmed && pair.server.confirmed),
    |pair| _ = pair.run(3 * SECOND, |_| false),
];

/// The id by which each end is reached.
fn id(connection: &Connection) -> ConnectionId {
    connection.local_ids.handshake_id()
}

/// Version Negotiation and Retry with the right ids, to both ends, once a packet of the peer was heard (RFC 9000 6.2,
/// 17.2.5.2): the versions named are not ours, and the Retry's tag is right, as both are for who has seen the first packet.
#[test]
fn late_version_negotiation_and_retry_change_nothing_in_any_state() {
    for (index, reach) in STATES.into_iter().enumerate() {
        let mut pair = Pair::new(1, Network::CLEAN);
        let first = first_datagram(&mut pair);
        let (original, client) = ids(&first);
        pair.deliver(true, &first);
        reach(&mut pair);
        let heard = index > 0;
        let server = id(pair.server.connection());
        let chosen = ConnectionId::new(&[9; 8]).unwrap();
        for forged in [negotiation(server, client, &[5]), negotiation(server, original, &[5]), retry(original, server, chosen, b"t")] {
            pair.deliver(true, &forged);
        }
        if heard {
            let now_used = pair.client.connection().remote_ids.current();
            for source in [original, server, now_used] {
                pair.deliver(false, &negotiation(client, source, &[5]));
            }
            pair.deliver(false, &retry(original, client, chosen, b"t"));
            assert_eq!(pair.client.connection().remote_ids.current(), now_used, "state {index}");
        }
        assert!(pair.client.closed.is_none() && pair.server.closed.is_none(), "state {index}");
        let done = pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed);
        assert!(done, "state {index}");
        let stream = pair.client.send(Direction::Uni, 10_000);
        assert!(pair.run(SECOND, |pair| pair.server.has_received(stream, 10_000)), "state {index}");
    }
}

/// Who has seen the first packets has the Initial keys, and can end a handshake that goes by them (RFC 9000 21.1.1.2). Once
/// the Initial keys are gone nobody can; nor at any time one who only knows the ids.
#[test]
fn a_forged_close_ends_nothing_once_the_initial_keys_are_gone() {
    for (index, reach) in STATES.into_iter().enumerate().skip(2) {
        let mut pair = Pair::new(2, Network::CLEAN);
        let first = first_datagram(&mut pair);
        let (original, client) = ids(&first);
        pair.deliver(true, &first);
        reach(&mut pair);
        let (server, now) = (id(pair.server.connection()), pair.now);
        // An Initial packet with a close, sealed by a third who has seen the first: a client of its own, with the same id.
        let mut third = Pair::new(2, Network::CLEAN);
        assert_eq!(ids(&first_datagram(&mut third)).0, original);
        let close = forge(third.client.connection(), now, SpaceId::Initial, &[0x1c, 0x0a, 0, 0], 1200);
        if index > 2 {
            let meta = DatagramMeta { remote: pair.client.address, local: None, ecn: None };
            pair.server.connection().receive(now, &close, meta, &mut Scratch::default());
        }
        // The right ids, and a body of noise.
        for to_server in [true, false] {
            let (destination, source) = if to_server { (server, client) } else { (client, server) };
            for first in [0xc3, 0xe3, 0x43] {
                let mut forged = vec![first];
                if first & 0x80 != 0 {
                    forged.extend([0, 0, 0, 1]);
                    for id in [destination, source] {
                        forged.push(id.len() as u8);
                        forged.extend_from_slice(&id);
                    }
                    forged.extend([0; 1].iter().take(usize::from(first == 0xc3)));
                    forged.extend([0x44, 0x00]);
                } else {
                    forged.extend_from_slice(&destination);
                }
                forged.resize(1200, 0x55);
                pair.deliver(to_server, &forged);
            }
        }
        assert!(pair.client.closed.is_none() && pair.server.closed.is_none(), "state {index}");
        assert!(!pair.client.connection().is_closed() && !pair.server.connection().is_closed(), "state {index}");
        assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed), "state {index}");
    }
}

/// Initial packets without end while TLS is at work elsewhere: what they bring is bounded, and so are the answers.
#[test]
fn initials_while_a_step_of_tls_is_out_are_bounded() {
    for is_moving in [false, true] {
        let mut pair = Pair::new(3, Network::CLEAN);
        pair.server.stuck = true;
        assert!(pair.run(SECOND, |pair| pair.server.connection.is_some()));
        let job = pair.server.connection().poll_crypto_job();
        assert!(job.is_some() && pair.server.connection().poll_crypto_job().is_none());
        let (mut most, mut received) = (0, 0);
        for packet in 0..10_000u32 {
            // CRYPTO that repeats what came, or moves on in small steps.
            let offset = if is_moving { 2000 + packet * 3 } else { 0 };
            let mut frames = vec![0x06];
            frames.extend((0x8000_0000 | offset).to_be_bytes());
            frames.extend([0x02, 0x55, 0x55]);
            let now = pair.now;
            let datagram = forge(pair.client.connection(), now, SpaceId::Initial, &frames, 1200);
            received += datagram.len() as u64;
            pair.deliver(true, &datagram);
            if pair.server.connection().is_closed() {
                break;
            }
            pair.flush();
            most = most.max(pair.server.connection().memory());
            pair.flying.clear();
        }
        assert!(most < 100_000, "{most}");
        assert!(pair.server.sent_bytes <= 3 * (received + 1200) && pair.server.sent_bytes < received / 4, "{}", pair.server.sent_bytes);
    }
}

/// Handshakes whose packets come in any order (CVE-2023-46239).
#[test]
fn handshakes_in_any_order() {
    for seed in 0..100 {
        let mut pair = Pair::new(seed, Network { reorder: 100, duplicate: 30, ..Network::CLEAN });
        pair.server.answer = 3000;
        assert!(pair.run(5 * SECOND, |pair| pair.client.connected), "seed {seed}: {:?}", pair.client.closed);
        let id = pair.client.send(Direction::Bi, 3000);
        assert!(pair.run(20 * SECOND, |pair| pair.server.has_received(id, 3000) && pair.client.has_received(id, 3000)), "seed {seed}");
        assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed), "seed {seed}");
    }
}

/// A peer that is gone, and an idle timeout that never comes: probes back off for as long as there is time.
#[test]
fn probes_without_end() {
    let config = || TransportConfig::default().max_idle_timeout(None);
    let mut pair = Pair::with(4, Network::CLEAN, config(), config(), 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.network.loss = 100;
    let id = pair.client.send(Direction::Uni, 100_000);
    pair.run(Duration::from_secs(10 * 86_400), |_| false);
    let probes = pair.client.connection().stats().probe_timeouts;
    assert!((64..20_000).contains(&probes), "{probes}");
    pair.network.loss = 0;
    assert!(pair.run(200 * SECOND, |pair| pair.server.has_received(id, 100_000)));
}

/// A peer that acknowledges nothing and sends as one that probes without end: our acknowledgements are asked for in two datagrams
/// instead of one, once until it acknowledges one of them. More than one datagram for each of its own are our own probes, two each time,
/// ever later.
#[test]
fn feigned_probes_draw_one_datagram_more_until_one_is_acknowledged() {
    let config = || TransportConfig::default().max_idle_timeout(None);
    for seed in 0..50 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::with(seed, Network::CLEAN, config(), config(), 0);
        assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
        let mut was_drawn = false;
        for _ in 0..4 {
            // All is acknowledged.
            pair.run(200 * SECOND, |_| false);
            assert!(!pair.server.connection().spaces.get(SpaceId::Data).unwrap().has_ack_eliciting(), "seed {seed}");
            let before = pair.server.connection().stats();
            let mut silence = Duration::from_millis(30);
            let mut pings = 0;
            for _ in 0..100 {
                // Ever longer, by whatever looks like a back-off, and from the start now and then, as if others were lost.
                silence = if rng.u8(0..12) == 0 { Duration::from_millis(30) } else { silence.mul_f64(1.04 + rng.f64()).min(20 * SECOND) };
                let end = pair.now + silence;
                while let Some(at) = pair.server.connection().next_timeout().filter(|at| *at <= end) {
                    pair.now = pair.now.max(at);
                    pair.server.connection().on_timeout(at);
                    transmit_into_nothing(&mut pair);
                }
                pair.now = end;
                for number in (0..rng.u8(1..=4)).rev() {
                    let ping = forge(pair.client.connection(), end, SpaceId::Data, &[1], 0);
                    if number == 0 {
                        pair.deliver(true, &ping);
                        pings += 1;
                    }
                }
                transmit_into_nothing(&mut pair);
                let after = pair.server.connection().stats();
                let (datagrams, probes) = (after.datagrams_sent - before.datagrams_sent, after.probe_timeouts - before.probe_timeouts);
                assert!(datagrams <= pings + 1 + 2 * probes, "seed {seed}: {datagrams} for {pings}, {probes} probes");
            }
            was_drawn |= pair.server.connection().spaces.get(SpaceId::Data).unwrap().has_ack_eliciting();
        }
        // It was taken for one that probes.
        assert!(was_drawn, "seed {seed}");
    }
}

/// What the server sends reaches nobody.
fn transmit_into_nothing(pair: &mut Pair) {
    let now = pair.now;
    while pair.server.connection().transmit(now, &mut [0; 1500], &mut Scratch::default()).is_some() {}
}

/// Round trips of no time, and acknowledgements that claim to have waited for 146,000 years.
#[test]
fn round_trips_of_no_time_and_of_all_time() {
    let mut pair = Pair::new(5, Network { delay: Duration::ZERO, ..Network::CLEAN });
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    let id = pair.client.send(Direction::Uni, 1_000_000);
    assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 1_000_000)));
    pair.client.connection().ping();
    pair.flush();
    let largest = pair.client.connection().spaces.get(SpaceId::Data).unwrap().next_number().unwrap().as_u64() - 1;
    let mut ack = vec![0x02];
    ack.extend((0x8000_0000 | largest as u32).to_be_bytes());
    ack.extend([0xff; 8]);
    ack.extend([0, 0]);
    let now = pair.now;
    let forged = forge(pair.server.connection(), now, SpaceId::Data, &ack, 0);
    pair.deliver(false, &forged);
    let id = pair.client.send(Direction::Uni, 100_000);
    assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 100_000)), "{:?}", pair.client.closed);
}

/// Just after boot the clock is near zero, and near its end nothing overflows.
#[test]
fn the_ends_of_the_clock() {
    for start in [0, 1, u64::MAX - 60_000_000_000] {
        let mut pair = Pair::at(Instant::from_nanos(start), 6);
        assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed), "{start}");
        let id = pair.client.send(Direction::Uni, 100_000);
        assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 100_000)), "{start}");
    }
}
