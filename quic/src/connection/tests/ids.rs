//! Connection ids of whole connections: rotation, and the last of them.

use super::pair::{Network, Pair};
use super::{SECOND, forge};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::recovery::SpaceId;
use crate::stream_id::Direction;

#[test]
fn ids_of_both_ends_rotate_while_data_flows() {
    // RFC 9000 5.1.2
    for seed in 0..10 {
        let mut pair = Pair::new(seed, Network { loss: 5, reorder: 20, duplicate: 5, ..Network::CLEAN });
        assert!(pair.run(9 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
        pair.server.answer = 300_000;
        let id = pair.client.send(Direction::Bi, 300_000);
        let mut seen = std::collections::HashSet::new();
        let mut rounds = 0;
        while !pair.client.has_received(id, 300_000) {
            rounds += 1;
            assert!(rounds < 1000, "seed {seed}");
            pair.run(SECOND / 10, |_| false);
            pair.client.connection().rotate_ids();
            pair.server.connection().rotate_ids();
            for node in [&mut pair.client, &mut pair.server] {
                seen.insert(node.connection().remote_ids.current());
                assert!(node.connection().local_ids.active().len() <= 8);
            }
        }
        pair.run(5 * SECOND, |_| false);
        assert!(pair.client.closed.is_none() && pair.server.closed.is_none(), "seed {seed}");
        assert!(seen.len() > rounds / 2, "seed {seed}: {} ids in {rounds} rounds", seen.len());
        // What was asked for last is done when all is quiet: the first ids are gone.
        for node in [&mut pair.client, &mut pair.server] {
            let active = node.connection().local_ids.active().to_vec();
            assert!(active.len() == 4 && active[0] > 4, "seed {seed}: {active:?}");
        }
    }
}

#[test]
fn nothing_rotates_before_the_handshake_is_confirmed_or_after_the_end() {
    let mut pair = Pair::new(1, Network::CLEAN);
    pair.client.connection().rotate_ids();
    pair.run(SECOND, |pair| pair.server.connection.is_some());
    let issued = pair.server.connection().local_ids.active().to_vec();
    pair.server.connection().rotate_ids();
    assert_eq!(pair.server.connection().local_ids.active(), issued);
    assert!(pair.run(9 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.run(SECOND, |_| false);
    let now = pair.now;
    pair.client.connection().close(now, crate::ApplicationCode::from_u32(0), b"");
    pair.client.connection().rotate_ids();
    assert!(!pair.client.connection().local_ids.has_pending());
}

#[test]
fn a_connection_without_ids_left_ends() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    pair.server.connection().local_ids.issuer().skip_to(u32::MAX);
    // The client retires all, in a packet to an id that was never issued; the forger's is as good as any.
    let frames = [[0x19, 0], [0x19, 1], [0x19, 2], [0x19, 3]].concat();
    let own = pair.client.connection().remote_ids.current();
    pair.client.connection().remote_ids.replace_first(crate::ConnectionId::new(&[7; 18]).unwrap());
    let retirement = forge(pair.client.connection(), now, SpaceId::Data, &frames, 0);
    pair.client.connection().remote_ids.replace_first(own);
    let meta = crate::protocol::DatagramMeta { remote: pair.client.address, local: None, ecn: None };
    let mut scratch = crate::protocol::Scratch::default();
    pair.server.connection().receive(now, &retirement, meta, &mut scratch);
    assert!(pair.run(9 * SECOND, |pair| pair.client.closed.is_some() && pair.server.closed.is_some()));
    assert_eq!(pair.server.closed, Some(ConnectionError::CidsExhausted));
    match pair.client.closed.take() {
        Some(ConnectionError::ConnectionClosed(close)) => assert_eq!(close.code, TransportErrorCode::INTERNAL_ERROR),
        other => panic!("{other:?}"),
    }
}
