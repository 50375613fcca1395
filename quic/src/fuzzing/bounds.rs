//! What a connection may hold, by what it is configured to: an oracle for whole connections. Each bound is a formula in the limits of
//! [`TransportConfig`] and [`ConnectionLimits`](crate::ConnectionLimits), with room for how containers grow and no more.

use crate::config::TransportConfig;
use crate::connection::Connection;

/// What the bounds depend on besides the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// Streams that the application here has opened.
    pub(super) own_streams: usize,
    /// Bytes that it has written to streams.
    pub(super) written: usize,
    /// Bytes of the datagrams that it has sent.
    pub(super) datagrams: usize,
    /// The largest congestion window so far.
    pub(super) window: u64,
}

/// A container has room for up to twice what it holds.
const GROWTH: usize = 2;
/// A stream's own state, its place in the table, and its places in queues, each in at most one of every kind.
const STREAM: usize = 1536;
/// A piece of received data in its map: its offset and its chunk, in a tree that may be two thirds full.
const PIECE: usize = 64;
/// What written data takes beyond its bytes on one stream: the last buffer and the first that is not acknowledged whole.
const PARTIAL_BUFFERS: usize = 2 * crate::chunk::SEND_CHUNK;
/// A stream may write as much however much the others hold (see [`TransportConfig::send_buffer`]).
const RESERVED: usize = 2048;
/// A datagram's place in its queue counts against the buffer with as much.
const DATAGRAM: usize = 64;
/// The longest datagram there is on these paths.
const PACKET: usize = 1500;
/// A record of a sent packet, with tokens for its frames.
const RECORD: usize = 32 + 4 * 24;
/// The smallest packet that counts against the congestion window.
const SMALLEST_PACKET: usize = 24;
/// Records kept for packets to come, and for probes and acknowledgements beyond the window.
const SPARE_RECORDS: usize = 128;
/// Pieces between gaps that CRYPTO data of a level may have, each an entry of a map.
const CRYPTO_PIECES: usize = 256;
/// What this end says in its handshake at one level: a chain of certificates at most.
const FLIGHT: usize = 16 * 1024;
/// Keys of all levels, the next and the previous ones.
const KEYS: usize = 8 * 1024;
/// A few values on the heap, of a constant size each.
const CONSTANT: usize = 2 * 1024;

/// Panics if `connection` holds more than it is configured to.
pub(super) fn check(connection: &Connection, config: &TransportConfig, extent: Extent) {
    let limits = &config.limits;
    let streams = (config.max_streams_bi + config.max_streams_uni) as usize + extent.own_streams;
    let sending = config.max_streams_bi as usize + extent.own_streams;

    // What the peer and the application hold of buffers, as the connection counts it.
    let received = 2 * config.connection_window as usize;
    let written = extent.written.min(config.send_buffer as usize + sending * RESERVED);
    let to_send = extent.datagrams.min((config.datagram_send_buffer as usize).max(PACKET + DATAGRAM));
    let datagrams = 2 * config.datagram_receive_buffer as usize + to_send;
    let crypto = 3 * (GROWTH * config.limits.crypto_buffer as usize + CRYPTO_PIECES * PIECE) + 2 * FLIGHT * GROWTH;
    let undecryptable = usize::from(limits.undecryptable_packets) * (1638 + 256);
    let early = if connection.is_confirmed() { 0 } else { crypto + undecryptable + CONSTANT };
    let held = connection.held();
    let bound = received + written + datagrams + early;
    assert!(held <= bound, "{held} bytes held, {bound} permitted: {extent:?}");

    // What is allocated, part by part.
    let pieces = limits.stream_pieces as usize + config.connection_window as usize / 512 + streams;
    let records = GROWTH * (SPARE_RECORDS + extent.window as usize / SMALLEST_PACKET);
    let ids = usize::from(limits.connection_ids);
    for (part, _, heap) in connection.memory_parts() {
        let bound = match part {
            "handshake" => crypto + undecryptable + CONSTANT,
            "streams" => received + pieces * PIECE + streams * STREAM + written + sending * PARTIAL_BUFFERS + CONSTANT,
            // As often as not queues of datagrams are as long as what they hold.
            "datagrams" => GROWTH * datagrams + CONSTANT,
            "spaces" => records * RECORD + 3 * CONSTANT,
            // In use, retired and not acknowledged, and some that are remembered.
            "ids" => GROWTH * (ids + 2 * ids + 16) * DATAGRAM,
            "path" => GROWTH * usize::from(limits.path_responses) * 8 + CONSTANT,
            "keys" => KEYS,
            "close" => PACKET + CONSTANT,
            _ => CONSTANT,
        };
        assert!(heap <= bound, "{part}: {heap} bytes allocated, {bound} permitted: {extent:?}");
    }
}
