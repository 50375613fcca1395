//! Packets that are genuine and whose frames are drawn at random, from values near the borders above all: whatever a peer
//! says, nothing panics, and the connection works or is closed by the rules.

use std::time::Duration;

use weald_crypto::Level;

use super::forge;
use super::pair::{Network, Pair};
use crate::error::ConnectionError;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;
use crate::wire::{VarInt, Writer};

fn put(out: &mut Vec<u8>, value: u64) {
    let mut buf = [0; 8];
    let mut writer = Writer::new(&mut buf);
    writer.put_varint(VarInt::saturating(value));
    out.extend_from_slice(writer.written());
}

/// A number that some limit may be near to.
fn number(rng: &mut fastrand::Rng) -> u64 {
    const BORDERS: [u64; 12] = [0, 1, 2, 3, 100, 1000, 65_536, 1_250_000, 10_000_000, 1 << 60, (1 << 62) - 2, (1 << 62) - 1];
    match rng.u8(0..4) {
        0 => BORDERS[rng.usize(..BORDERS.len())],
        1 => BORDERS[rng.usize(..BORDERS.len())].saturating_sub(rng.u64(0..3)),
        _ => rng.u64(0..40),
    }
}

/// Puts a frame. A tame one breaks no rule at first sight, so that the connection lives to see the next.
fn frame(rng: &mut fastrand::Rng, to_server: bool, out: &mut Vec<u8>) {
    const TAME: [u64; 17] = [0x01, 0x04, 0x05, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x15, 0x18, 0x1a];
    let tame = rng.u8(0..16) != 0;
    let kind = if tame { TAME[rng.usize(..TAME.len())] } else { rng.u64(0..0x1f) };
    put(out, kind);
    let value = |rng: &mut fastrand::Rng| if tame { rng.u64(0..3000) } else { number(rng) };
    // On which the victim receives, or sends.
    let id = |rng: &mut fastrand::Rng, receives: bool| {
        // RFC 9000 2.1: the lowest bit says who opened it, the next that it goes one way.
        let opener = u64::from(!to_server);
        let one_way = if receives { 2 * rng.u64(0..2) } else { 0 };
        if tame { (4 * rng.u64(0..12)) | one_way | opener } else { rng.u64(0..24) }
    };
    let bytes = |rng: &mut fastrand::Rng, out: &mut Vec<u8>| {
        let len = rng.usize(0..30);
        put(out, len as u64);
        (0..len).for_each(|_| out.push(rng.u8(..)));
    };
    match kind {
        0x02 | 0x03 => {
            let count = rng.u64(0..5);
            [number(rng), number(rng), count, rng.u64(0..10)].into_iter().for_each(|value| put(out, value));
            (0..2 * count).for_each(|_| put(out, rng.u64(0..4)));
            (0..3 * u64::from(kind == 3)).for_each(|_| put(out, number(rng)));
        }
        0x04 => [id(rng, true), number(rng), value(rng)].into_iter().for_each(|value| put(out, value)),
        0x05 | 0x11 => [id(rng, false), number(rng)].into_iter().for_each(|value| put(out, value)),
        0x15 => [id(rng, true), number(rng)].into_iter().for_each(|value| put(out, value)),
        0x06 => {
            put(out, number(rng));
            bytes(rng, out);
        }
        0x07 => bytes(rng, out),
        0x08..=0x0f => {
            put(out, id(rng, true));
            if kind & 4 != 0 {
                put(out, value(rng));
            }
            if kind & 2 != 0 {
                bytes(rng, out);
            }
        }
        0x12 | 0x13 | 0x16 | 0x17 => put(out, if tame { rng.u64(0..1 << 60) } else { number(rng) }),
        0x10 | 0x14 | 0x19 => put(out, number(rng)),
        0x18 => {
            let sequence = rng.u64(0..12);
            put(out, sequence);
            put(out, if tame { sequence } else { rng.u64(0..=sequence) });
            out.push(8);
            out.extend([sequence as u8; 24]);
        }
        0x1a | 0x1b => out.extend([7; 8]),
        _ => {}
    }
}

#[test]
fn any_frames_are_taken_or_refused_by_the_rules() {
    let mut packets = 0;
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::connected(seed);
        let to_server = rng.bool();
        pair.server.answer = rng.usize(0..50_000);
        pair.client.send(Direction::Bi, rng.usize(1..50_000));
        pair.client.send(Direction::Uni, rng.usize(1..50_000));
        for _ in 0..60 {
            if rng.u8(0..3) == 0 {
                pair.run(Duration::from_millis(rng.u64(0..60)), |_| false);
            }
            let now = pair.now;
            let from = if to_server { &mut pair.client } else { &mut pair.server };
            if from.connection.is_none() || from.connection().is_closed() {
                break;
            }
            if rng.u8(0..20) == 0 {
                from.connection().update_keys();
            }
            let mut frames = Vec::new();
            for _ in 0..rng.u8(1..6) {
                frame(&mut rng, to_server, &mut frames);
            }
            packets += 1;
            let datagram = forge(from.connection(), now, SpaceId::Data, &frames, 0);
            pair.deliver(to_server, &datagram);
            let victim = if to_server { &mut pair.server } else { &mut pair.client };
            if victim.connection.is_some() {
                assert!(victim.connection().memory() < 25_000_000, "seed {seed}");
            }
        }
        pair.run(Duration::from_secs(200), |pair| pair.client.dropped && pair.server.dropped);
        let victim = if to_server { &mut pair.server } else { &mut pair.client };
        if let Some(ConnectionError::Transport(error)) = &victim.closed {
            assert_ne!(error.reason, "a defect of this implementation", "seed {seed}");
        }
        assert!(victim.dropped, "seed {seed}: the idle timeout ends it if nothing else does");
    }
    assert!(packets > 4000, "{packets} packets: connections end too early to see much");
}

#[test]
fn any_frames_of_a_handshake_are_taken_or_refused_by_the_rules() {
    let mut completed = 0;
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new(seed, Network { loss: 10, reorder: 20, ..Network::CLEAN });
        let to_server = rng.bool();
        for _ in 0..rng.u8(1..12) {
            pair.run(Duration::from_millis(rng.u64(0..25)), |_| false);
            if pair.server.connection.is_none() || pair.client.connection.is_none() {
                continue;
            }
            let now = pair.now;
            let from = if to_server { &mut pair.client } else { &mut pair.server };
            let levels = [(SpaceId::Initial, Level::Initial), (SpaceId::Handshake, Level::Handshake)];
            let (space, level) = levels[rng.usize(..2)];
            if !from.connection().keys.has(level) || from.connection().is_closed() {
                continue;
            }
            let mut frames = vec![0x01];
            match rng.u8(0..6) {
                0 => frames.extend([0x02, rng.u8(0..4), 0, 0, rng.u8(0..4)]),
                1 | 2 => {
                    // What TLS has read already is not read again.
                    frames.push(0x06);
                    put(&mut frames, if rng.bool() { rng.u64(0..200) } else { number(&mut rng) });
                    let len = rng.usize(0..40);
                    put(&mut frames, len as u64);
                    (0..len).for_each(|_| frames.push(rng.u8(..)));
                }
                3 if rng.u8(0..4) == 0 => frame(&mut rng, to_server, &mut frames),
                _ => {}
            }
            let datagram = forge(from.connection(), now, space, &frames, 1200);
            pair.deliver(to_server, &datagram);
        }
        pair.run(Duration::from_secs(10), |pair| pair.client.confirmed && pair.server.confirmed);
        completed += usize::from(pair.client.confirmed);
        pair.run(Duration::from_secs(200), |_| false);
        assert!(pair.client.dropped && (pair.server.dropped || pair.server.connection.is_none()), "seed {seed}");
    }
    assert!(completed > 30, "{completed} handshakes lived");
}
