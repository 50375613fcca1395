//! Packet protection: what is not authentic changes nothing; key updates.

use std::time::Duration;

use super::pair::Pair;
use super::{SECOND, forge};
use crate::config::TransportConfig;
use crate::connection::Scratch;
use crate::connection::spin::Spin;
use crate::error::{ConnectionError, TransportErrorCode};
use crate::random::Noise;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;

#[test]
fn a_changed_bit_anywhere_drops_the_packet() {
    // RFC 9001 5.3
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let close = forge(pair.client.connection(), now, SpaceId::Data, &[0x1c, 0x0a, 0, 0], 0);
    let received = pair.server.connection().stats().packets_received;
    for bit in 0..close.len() * 8 {
        let mut damaged = close.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        pair.deliver(true, &damaged);
    }
    for len in 0..close.len() {
        pair.deliver(true, &close[..len]);
    }
    assert_eq!(pair.server.connection().stats().packets_received, received);
    assert!(!pair.server.connection().is_closed());
    // The connection lives on, until the packet comes as it was.
    let id = pair.client.send(Direction::Uni, 10_000);
    assert!(pair.run(SECOND, |pair| pair.server.has_received(id, 10_000)));
    pair.deliver(true, &close);
    assert!(pair.server.connection().is_closed());
}

#[test]
fn a_packet_that_comes_twice_counts_once() {
    // RFC 9000 12.3
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let stream = forge(pair.client.connection(), now, SpaceId::Data, &[0x0a, 0x02, 0x01, 0x55], 0);
    for _ in 0..3 {
        pair.deliver(true, &stream);
    }
    let stats = pair.server.connection().stats();
    assert_eq!(stats.packets_dropped, 2);
}

#[test]
fn keys_are_updated_by_either_end_while_data_flows() {
    // RFC 9001 6
    let mut pair = Pair::connected(2);
    let mut total = 0;
    for round in 0..6 {
        let updater = if round % 2 == 0 { &mut pair.client } else { &mut pair.server };
        updater.connection().update_keys();
        let up = pair.client.send(Direction::Uni, 30_000);
        let down = pair.server.send(Direction::Uni, 30_000);
        assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(up, 30_000) && pair.client.has_received(down, 30_000)));
        // RFC 9001 6.5: the old keys go before the next update.
        pair.run(SECOND, |_| false);
        total += 1;
        assert_eq!(pair.client.connection().stats().key_updates, total);
        assert_eq!(pair.server.connection().stats().key_updates, total);
    }
    assert!(pair.client.closed.is_none() && pair.server.closed.is_none());
}

#[test]
fn keys_are_updated_at_the_interval() {
    // RFC 9001 6.6
    let config = || crate::config::TransportConfig::default().key_update_interval(Some(100));
    let mut pair = Pair::with(2, super::pair::Network::CLEAN, config(), config(), 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed));
    for _ in 0..10 {
        let id = pair.client.send(Direction::Uni, 300_000);
        assert!(pair.run(5 * SECOND, |pair| pair.server.has_received(id, 300_000)));
        pair.run(SECOND, |_| false);
    }
    let updates = pair.client.connection().stats().key_updates;
    assert!((10..25).contains(&updates), "{updates}");
    assert!(pair.client.closed.is_none() && pair.server.closed.is_none());
}

#[test]
fn a_second_update_before_the_first_is_acknowledged_closes() {
    // RFC 9001 6.2
    let mut pair = Pair::connected(3);
    let now = pair.now;
    let twice = |pair: &mut Pair| {
        assert!(pair.client.connection().keys.update());
        // As a peer would that does not wait for the acknowledgement.
        pair.client.connection().keys.pretend_settled();
        forge(pair.client.connection(), now, SpaceId::Data, &[1], 0)
    };
    let first = twice(&mut pair);
    let second = twice(&mut pair);
    pair.deliver(true, &first);
    assert!(!pair.server.connection().is_closed());
    pair.deliver(true, &second);
    pair.run(SECOND, |pair| pair.server.closed.is_some());
    match pair.server.closed.take() {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::KEY_UPDATE_ERROR),
        other => panic!("{other:?}"),
    }
}

#[test]
fn flipped_phases_without_keys_are_only_dropped() {
    let mut pair = Pair::connected(4);
    let now = pair.now;
    for _ in 0..1000 {
        let mut packet = forge(pair.client.connection(), now, SpaceId::Data, &[1], 0);
        let last = packet.len() - 1;
        packet[0] ^= 0x04;
        packet[last] ^= 1;
        pair.deliver(true, &packet);
    }
    assert_eq!(pair.server.connection().stats().key_updates, 0);
    let id = pair.client.send(Direction::Uni, 10_000);
    assert!(pair.run(SECOND, |pair| pair.server.has_received(id, 10_000)));
}

#[test]
fn the_spin_bit_turns_once_a_round_trip() {
    // RFC 9000 17.4
    let config = || TransportConfig::default().spin_bit(true);
    let turns = |seed| {
        let mut pair = Pair::with(seed, super::pair::Network::CLEAN, config(), config(), 0);
        assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
        pair.run(SECOND, |_| false);
        if [pair.client.connection(), pair.server.connection()].iter().any(|connection| matches!(connection.spin, Spin::Abstains)) {
            return None;
        }
        let id = pair.client.send(Direction::Uni, 10_000_000);
        let (mut turns, mut last, began) = (0, None, pair.now);
        assert!(pair.run(SECOND, |pair| {
            let bit = pair.client.connection().spin.bit(&mut Noise::new(0));
            turns += u32::from(last.replace(bit).is_some_and(|last| last != bit));
            pair.server.has_received(id, 10_000_000)
        }));
        // A round trip takes 20 ms.
        Some((turns, (pair.now - began).as_millis() as u32 / 20))
    };
    let seen: Vec<(u32, u32)> = (0..10).filter_map(turns).collect();
    let is_one_a_trip = |(turns, trips): &(u32, u32)| *trips > 5 && turns.abs_diff(*trips) <= 1;
    assert!(seen.len() > 5 && seen.iter().all(is_one_a_trip), "{seen:?}");
}

#[test]
fn the_fixed_bit_varies_once_the_peer_takes_any_value() {
    // RFC 9287 3.1
    let mut pair = Pair::new(1, super::pair::Network::CLEAN);
    let mut seen = [[0; 2]; 2];
    let mut early = 0;
    let mut count = |pair: &mut Pair| {
        let is_known = pair.client.connected;
        for std::cmp::Reverse((_, _, to_server, datagram)) in &pair.flying {
            let bit = usize::from(datagram[0] & 0x40 != 0);
            if *to_server && !is_known && bit == 0 {
                early += 1;
            }
            seen[usize::from(*to_server)][bit] += 1;
        }
        false
    };
    pair.run(SECOND, &mut count);
    let (up, down) = (pair.client.send(Direction::Uni, 100_000), pair.server.send(Direction::Uni, 100_000));
    pair.run(SECOND, &mut count);
    assert!(pair.server.has_received(up, 100_000) && pair.client.has_received(down, 100_000));
    assert!(early == 0 && seen.iter().flatten().all(|count| *count > 10), "{early} {seen:?}");
}

#[test]
fn keys_that_are_used_up_end_the_connection_with_a_word() {
    // RFC 9001 6.6
    let mut pair = Pair::connected(1);
    pair.client.connection().keys.limits = Some((200, u64::MAX));
    // The server's answers never come, and without one the client cannot update again.
    let id = pair.client.send(Direction::Uni, 30_000);
    assert!(pair.run(SECOND, |pair| pair.server.has_received(id, 30_000)));
    pair.client.connection().update_keys();
    pair.client.connection().ping();
    let now = pair.now;
    let mut buf = [0; 1500];
    let mut sent = 0;
    let mut scratch = Scratch::default();
    while pair.client.connection().keys.sealed() < 200 && sent < 1000 && !pair.client.connection().is_closed() {
        pair.client.connection().probes[2] = 1;
        sent += u32::from(pair.client.connection().transmit(now, &mut buf, &mut scratch).is_some());
    }
    assert!(pair.client.connection().is_closed());
    assert!((184..=200).contains(&pair.client.connection().keys.sealed()), "room for the close");
    pair.run(SECOND, |pair| pair.server.closed.is_some());
    match (pair.client.closed.take(), pair.server.closed.take()) {
        (Some(ConnectionError::Transport(ours)), Some(ConnectionError::ConnectionClosed(told))) => {
            assert_eq!((ours.code, told.code), (TransportErrorCode::AEAD_LIMIT_REACHED, TransportErrorCode::AEAD_LIMIT_REACHED));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_updated_long_before_they_are_used_up() {
    // RFC 9001 6.6
    let mut pair = Pair::connected(1);
    for node in [&mut pair.client, &mut pair.server] {
        node.connection().keys.limits = Some((400, u64::MAX));
    }
    for _ in 0..10 {
        let id = pair.client.send(Direction::Uni, 150_000);
        assert!(pair.run(SECOND, |pair| pair.server.has_received(id, 150_000)), "{:?}", pair.client.closed);
        pair.run(SECOND, |_| false);
    }
    assert!(pair.client.connection().stats().key_updates >= 4);
    assert!(pair.client.closed.is_none() && pair.server.closed.is_none());
}

#[test]
fn more_forgeries_than_the_cipher_withstands_end_the_connection() {
    // RFC 9001 6.6
    let mut pair = Pair::connected(1);
    pair.server.connection().keys.limits = Some((u64::MAX, 50));
    let now = pair.now;
    for forged in 0..50 {
        assert!(!pair.server.connection().is_closed(), "{forged}");
        let mut packet = forge(pair.client.connection(), now, SpaceId::Data, &[1], 0);
        *packet.last_mut().unwrap() ^= 1;
        pair.deliver(true, &packet);
    }
    pair.run(SECOND, |pair| pair.server.closed.is_some());
    match pair.server.closed.take() {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::AEAD_LIMIT_REACHED),
        other => panic!("{other:?}"),
    }
}

#[test]
fn old_keys_on_the_acknowledgement_of_newer_ones_close() {
    // RFC 9001 6.2
    let mut pair = Pair::connected(1);
    let now = pair.now;
    pair.client.connection().update_keys();
    pair.client.connection().ping();
    let mut buf = [0; 1500];
    assert!(pair.client.connection().transmit(now, &mut buf, &mut Scratch::default()).is_some());
    // The server has not seen the packet, and yet acknowledges it.
    let number = pair.client.connection().spaces.get(SpaceId::Data).unwrap().next_number().unwrap().as_u64() - 1;
    let ack = [0x02, 0x40 | (number >> 8) as u8, number as u8, 0, 0, 0];
    let packet = forge(pair.server.connection(), now, SpaceId::Data, &ack, 0);
    pair.deliver(false, &packet);
    pair.run(SECOND, |pair| pair.client.closed.is_some());
    match pair.client.closed.take() {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::KEY_UPDATE_ERROR),
        other => panic!("{other:?}"),
    }
}

/// A peer that updates its keys as often as the rules let it: each update waits for an acknowledgement of ours, so that we
/// derive keys no more often than we answer.
#[test]
fn a_flood_of_key_updates_costs_no_more_than_its_answers() {
    let mut pair = Pair::connected(5);
    let mut answers = pair.server.connection().stats().packets_sent;
    for _ in 0..200 {
        pair.client.connection().keys.pretend_settled();
        pair.client.connection().update_keys();
        pair.client.connection().ping();
        pair.run(Duration::from_millis(50), |_| false);
    }
    answers = pair.server.connection().stats().packets_sent - answers;
    let updates = pair.server.connection().stats().key_updates;
    assert!(updates >= 100 && updates <= answers, "{updates} updates, {answers} answers");
    assert!(pair.server.closed.is_none());
}
