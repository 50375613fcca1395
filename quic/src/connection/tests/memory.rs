//! What connections take in memory.

use std::time::Duration;

use super::SECOND;
use super::pair::Pair;
use crate::connection::Connection;
use crate::stream_id::Direction;

/// Prints the parts of a connection, and gives the sum of what they have allocated.
fn heap(name: &str, connection: &Connection) -> usize {
    println!("{name}: {} bytes by itself, {} in all", size_of::<Connection>(), connection.memory());
    for (part, inline, heap) in connection.memory_parts() {
        println!("    {part:<10} {inline:>5} + {heap:>5}");
    }
    connection.memory() - size_of::<Connection>()
}

#[test]
fn a_connection_that_has_fallen_quiet_takes_five_kilobytes_besides_itself() {
    const LEN: usize = 10_000_000;
    let mut pair = Pair::connected(1);
    pair.server.answer = LEN;
    let id = pair.client.send(Direction::Bi, LEN);
    let is_done = |pair: &mut Pair| pair.server.has_received(id, LEN) && pair.client.has_received(id, LEN) && pair.server.is_flushed();
    assert!(pair.run(60 * SECOND, is_done));
    let busy = pair.client.connection().memory();
    pair.run(2 * SECOND, |_| false);
    let idle = [heap("client", pair.client.connection()), heap("server", pair.server.connection())];
    assert!(idle.iter().all(|heap| *heap <= 5 * 1024), "{idle:?}");
    assert!(busy > pair.client.connection().memory());
}

#[test]
fn the_handshakes_memory_goes_with_it() {
    let mut pair = Pair::connected(1);
    let mut early = Pair::new(1, super::pair::Network::CLEAN);
    early.run(Duration::from_millis(25), |_| false);
    assert!(!early.server.connection().is_confirmed());
    let part = |connection: &Connection, name| {
        let parts = connection.memory_parts();
        parts.iter().find(|part| part.0 == name).map(|part| part.2).unwrap()
    };
    for (name, factor) in [("handshake", 3), ("spaces", 2)] {
        let (before, after) = (part(early.server.connection(), name), part(pair.server.connection(), name));
        assert!(before > factor * after, "{name}: {before}, {after}");
    }
}
