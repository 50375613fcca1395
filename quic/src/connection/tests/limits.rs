//! Every limit on what a peer may make a connection hold takes effect where it is said to: a client that has the limit against a
//! server that goes beyond it.

use std::collections::BTreeMap;

use super::pair::{Network, Pair};
use super::{SECOND, forge};
use crate::config::{ConnectionLimits, TransportConfig};
use crate::connection::parameters;
use crate::error::{ConnectionError, TransportErrorCode};
use crate::id::ConnectionId;
use crate::random::Noise;
use crate::recovery::SpaceId;
use crate::side::Side;
use crate::wire::{FrameWriter, TransportParameters, Version, VersionInformation};

/// What is seen with these limits.
type Observe = fn(ConnectionLimits) -> String;

fn connected(limits: ConnectionLimits) -> Pair {
    // Two pieces for the windows.
    let config = TransportConfig::default().stream_window(1024).connection_window(1024).limits(limits);
    let mut pair = Pair::with(1, Network::CLEAN, config, TransportConfig::default(), 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.run(SECOND, |_| false);
    pair
}

/// Delivers the server's frames to the client, in a packet.
fn deliver(pair: &mut Pair, frames: &[u8]) {
    let now = pair.now;
    let datagram = forge(pair.server.connection(), now, SpaceId::Data, frames, 0);
    pair.deliver(false, &datagram);
}

/// The code with which the client closes.
fn code(pair: &mut Pair) -> String {
    pair.run(SECOND, |pair| pair.client.closed.is_some());
    match &pair.client.closed {
        None => "open".to_owned(),
        Some(ConnectionError::Transport(error)) => error.code.to_string(),
        other => panic!("{other:?}"),
    }
}

/// For each limit: another value than the default, where that shows, and what it shows.
fn rows() -> BTreeMap<&'static str, (ConnectionLimits, Observe, String)> {
    let base = ConnectionLimits::default;
    BTreeMap::from([
        (
            "crypto_buffer",
            (
                base().crypto_buffer(8192),
                (|limits| {
                    let mut pair = connected(limits);
                    // CRYPTO of one byte at offset 10,000.
                    deliver(&mut pair, &[0x06, 0x67, 0x10, 0x01, 0x00]);
                    code(&mut pair)
                }) as Observe,
                TransportErrorCode::CRYPTO_BUFFER_EXCEEDED.to_string(),
            ),
        ),
        (
            "undecryptable_packets",
            (
                base().undecryptable_packets(2),
                |limits| {
                    let config = TransportConfig::default().limits(limits);
                    let mut pair = Pair::with(1, Network::CLEAN, config, TransportConfig::default(), 0);
                    pair.flush();
                    let id = pair.client.connection().local_ids.handshake_id();
                    // As 1-RTT packets that overtook the handshake.
                    let packet = [&[0x40][..], &id[..], &[7; 40]].concat();
                    (0..5).for_each(|_| pair.deliver(false, &packet));
                    format!("{} dropped", pair.client.connection().stats().packets_dropped)
                },
                "3 dropped".to_owned(),
            ),
        ),
        (
            "path_responses",
            (
                base().path_responses(2),
                |limits| {
                    let mut pair = connected(limits);
                    deliver(&mut pair, &[0x1a, 1, 2, 3, 4, 5, 6, 7, 8].repeat(5));
                    let (mut room, mut tokens) = ([0; 1000], Vec::new());
                    pair.client.connection().path_responses.write_frames(&mut FrameWriter::new(&mut room, &mut tokens));
                    format!("{} answers", tokens.len())
                },
                "2 answers".to_owned(),
            ),
        ),
        (
            "stream_pieces",
            (
                base().stream_pieces(10),
                |limits| {
                    let mut pair = connected(limits);
                    // The server's first unidirectional stream, a byte at each second offset.
                    let frames: Vec<u8> = (1..20).flat_map(|piece| [0x0e, 0x03, 0x40, piece * 2, 0x01, 0xaa]).collect();
                    deliver(&mut pair, &frames);
                    code(&mut pair)
                },
                TransportErrorCode::INTERNAL_ERROR.to_string(),
            ),
        ),
        (
            "ack_ranges",
            (
                base().ack_ranges(2),
                |limits| {
                    let mut pair = connected(limits);
                    let now = pair.now;
                    let packets: Vec<_> = (0..10).map(|_| forge(pair.server.connection(), now, SpaceId::Data, &[0x01], 0)).collect();
                    packets.iter().step_by(2).for_each(|packet| pair.deliver(false, packet));
                    let before = pair.client.connection().stats().packets_dropped;
                    pair.deliver(false, &packets[1]);
                    let is_dropped = pair.client.connection().stats().packets_dropped > before;
                    (if is_dropped { "too late" } else { "taken" }).to_owned()
                },
                "too late".to_owned(),
            ),
        ),
        (
            "connection_ids",
            (
                base().connection_ids(7),
                |limits| {
                    let config = TransportConfig::default().limits(limits);
                    let bytes = parameters::client(
                        &config,
                        ConnectionId::new(&[1; 8]).unwrap(),
                        VersionInformation::only(Version::V1),
                        &mut Noise::new(1),
                    );
                    let declared = TransportParameters::decode(&bytes, Side::Client).unwrap();
                    let mut pair = connected(limits);
                    // Sequence numbers from 4 on; the server has issued those up to 3.
                    for number in 4..7 {
                        deliver(&mut pair, &[&[0x18, number, 0x00, 0x08], &[number; 8][..], &[number; 16]].concat());
                    }
                    format!("{} {}", declared.active_connection_id_limit, code(&mut pair))
                },
                "7 open".to_owned(),
            ),
        ),
    ])
}

/// The names of all fields: one that is missing here does not compile.
macro_rules! limits {
    ($($field:ident),* $(,)?) => {{
        let ConnectionLimits { $($field: _),* } = ConnectionLimits::default();
        [$(stringify!($field)),*]
    }};
}

#[test]
fn every_limit_takes_effect() {
    let rows = rows();
    for limit in limits![crypto_buffer, undecryptable_packets, path_responses, stream_pieces, ack_ranges, connection_ids] {
        let Some((limits, observe, expected)) = rows.get(limit) else { panic!("nothing shows what {limit} does") };
        let (default, seen) = (observe(ConnectionLimits::default()), observe(*limits));
        println!("{limit:<24} {default:>24} {seen:>24}");
        assert_eq!(seen, *expected, "{limit}");
        assert_ne!(seen, default, "{limit} is that of the default");
    }
}
