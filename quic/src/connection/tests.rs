//! Whole connections, client against server. `pair` is the world that they live in.

pub(crate) mod pair;

use std::time::Duration;

use self::pair::{Network, Pair};
use crate::stream_id::Direction;

const SECOND: Duration = Duration::from_secs(1);

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
}
