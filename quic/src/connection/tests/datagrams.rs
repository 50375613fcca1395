//! Datagrams of the application between two connections (RFC 9221).

use bytes::Bytes;

use super::pair::{Network, Pair};
use super::{SECOND, forge};
use crate::config::TransportConfig;
use crate::connection::{SendDatagramError, WhenFull};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::pressure::Pressure;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;

fn transport() -> TransportConfig {
    TransportConfig::default().datagrams(true)
}

/// A connected pair, over a clean network at first.
fn connected(client: TransportConfig, server: TransportConfig) -> Pair {
    let mut pair = Pair::with(5, Network::CLEAN, client, server, 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.run(SECOND, |_| false);
    pair
}

fn numbered(n: u32, len: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(len.max(4), n as u8);
    bytes.into()
}

/// The numbers of all datagrams that the server has, which are checked and given back.
fn read_all(pair: &mut Pair) -> Vec<u32> {
    let server = pair.server.connection();
    std::iter::from_fn(|| {
        let chunk = server.read_datagram()?;
        let n = u32::from_be_bytes(chunk[..4].try_into().unwrap());
        assert!(chunk[4..].iter().all(|&byte| byte == n as u8));
        server.release_datagram(chunk);
        Some(n)
    })
    .collect()
}

#[test]
fn datagrams_arrive_whole_up_to_the_longest() {
    let mut pair = connected(TransportConfig::default(), transport());
    assert_eq!(pair.server.connection().max_datagram_size(), None);
    let refused = pair.server.connection().send_datagram(Bytes::new(), WhenFull::Block);
    assert_eq!(refused, Err(SendDatagramError::Unsupported));
    let max = pair.client.connection().max_datagram_size().unwrap();
    assert!((1150..1200).contains(&max), "{max}");
    let too_long = pair.client.connection().send_datagram(vec![0; max + 1].into(), WhenFull::Block);
    assert_eq!(too_long, Err(SendDatagramError::TooLarge { max }));
    for n in 0..20 {
        pair.client.connection().send_datagram(numbered(n, max), WhenFull::Block).unwrap();
    }
    assert!(pair.client.connection().has_datagrams() && pair.client.connection().held() > 20 * max);
    pair.run(SECOND, |_| false);
    assert_eq!(read_all(&mut pair), (0..20).collect::<Vec<_>>());
    assert!(!pair.client.connection().has_datagrams());
    let (client, server) = (pair.client.connection().stats(), pair.server.connection().stats());
    assert_eq!((client.datagram_frames_sent, client.datagram_frames_lost, client.datagram_frames_dropped), (20, 0, 0));
    assert_eq!((server.datagram_frames_received, server.datagram_frames_dropped), (20, 0));
    assert_eq!((pair.client.connection().held(), pair.server.connection().held()), (0, 0));
}

/// RFC 9221 section 5: what is lost is not repeated, and nothing comes twice.
#[test]
fn what_is_lost_stays_lost() {
    let mut pair = connected(TransportConfig::default(), transport());
    pair.network = Network { loss: 20, reorder: 20, duplicate: 20, ..Network::CLEAN };
    let mut got = Vec::new();
    for n in 0..500 {
        pair.client.connection().send_datagram(numbered(n, 600), WhenFull::Block).unwrap();
        pair.run(SECOND / 100, |_| false);
        got.extend(read_all(&mut pair));
    }
    pair.network = Network::CLEAN;
    pair.client.connection().ping();
    pair.run(5 * SECOND, |_| false);
    got.extend(read_all(&mut pair));
    let stats = pair.client.connection().stats();
    assert_eq!(stats.datagram_frames_sent, 500);
    let distinct: std::collections::BTreeSet<_> = got.iter().collect();
    assert_eq!(distinct.len(), got.len(), "one came twice");
    // An acknowledgement may be late for one that arrived.
    assert!(got.len() as u64 + stats.datagram_frames_lost >= 500 && (350..450).contains(&got.len()), "{} and {stats:?}", got.len());
}

/// RFC 9221 section 3: a frame that was not permitted, or a larger one than was, closes the connection.
#[test]
fn frames_beyond_the_limit_are_refused() {
    let small = || transport().datagram_receive_buffer(100);
    let full = |head: &[u8], len: usize| [head, &vec![7; len]].concat();
    let cases: [(TransportConfig, Vec<u8>, bool); 9] = [
        (TransportConfig::default(), full(&[0x30], 0), false),
        (TransportConfig::default(), full(&[0x31, 0], 0), false),
        (TransportConfig::default(), full(&[0x31, 5], 5), false),
        (small(), full(&[0x30], 99), true),
        (small(), full(&[0x30], 100), false),
        (small(), full(&[0x31, 0x40, 97], 97), true),
        (small(), full(&[0x31, 0x40, 98], 98), false),
        (transport(), full(&[0x30], 1100), true),
        (transport(), full(&[0x31, 0], 0), true),
    ];
    for (config, frames, permitted) in cases {
        for to_server in [true, false] {
            let mut pair = connected(config.clone(), config.clone());
            let now = pair.now;
            let from = if to_server { &mut pair.client } else { &mut pair.server };
            let datagram = forge(from.connection(), now, SpaceId::Data, &frames, 0);
            pair.deliver(to_server, &datagram);
            pair.flush();
            let victim = if to_server { &mut pair.server } else { &mut pair.client };
            match &victim.closed {
                None => assert!(permitted, "{:x?}", &frames[..2]),
                Some(ConnectionError::Transport(error)) => {
                    assert!(!permitted, "{:x?}", &frames[..2]);
                    assert_eq!((error.code, error.frame), (TransportErrorCode::PROTOCOL_VIOLATION, Some(frames[0].into())));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A flood that the application never reads, alone and beside a stream: memory stays flat, and the stream goes on.
#[test]
fn a_flood_that_nobody_reads_is_bounded() {
    for len in [0, 1, 1100] {
        let mut pair = connected(transport(), transport());
        let stream = pair.client.send(Direction::Uni, 200_000);
        for n in 0..5_000u32 {
            let now = pair.now;
            let mut frames = vec![];
            let count = if len < 100 { 100 } else { 1 };
            for _ in 0..count {
                frames.extend([0x31, 0x40 | (len >> 8) as u8, len as u8]);
                frames.extend(vec![n as u8; len]);
            }
            let datagram = forge(pair.client.connection(), now, SpaceId::Data, &frames, 0);
            pair.deliver(true, &datagram);
            if n % 500 == 0 {
                assert!(pair.server.connection().memory() < 400_000, "{} bytes", pair.server.connection().memory());
                assert!(pair.server.connection().held() <= 2 * 64 * 1024 + 200_000);
                pair.run(SECOND / 10, |_| false);
            }
        }
        pair.run(5 * SECOND, |pair| pair.server.has_received(stream, 200_000));
        assert!(pair.server.has_received(stream, 200_000) && pair.server.closed.is_none());
        assert!(pair.server.connection().stats().datagram_frames_dropped > 4_000);
        // When memory is short, what nobody reads goes first.
        pair.server.connection().set_pressure(Pressure::Full);
        assert_eq!(pair.server.connection().held(), 0);
    }
}

/// Bulk data and a full queue of datagrams share the packets: neither starves.
#[test]
fn datagrams_and_streams_share_the_path() {
    let mut pair = connected(TransportConfig::default(), transport().datagram_receive_buffer(1 << 20));
    let stream = pair.client.send(Direction::Uni, 1_000_000);
    let max = pair.client.connection().max_datagram_size().unwrap();
    let mut next = 0;
    let mut datagrams = 0;
    for _ in 0..100_000 {
        while pair.client.connection().send_datagram(numbered(next, max), WhenFull::Block).is_ok() {
            next += 1;
        }
        pair.run(SECOND / 50, |_| false);
        datagrams += read_all(&mut pair).len();
        if pair.server.has_received(stream, 1_000_000) {
            break;
        }
    }
    assert!(pair.server.has_received(stream, 1_000_000), "the stream starved behind {datagrams} datagrams");
    let bytes = datagrams * max;
    assert!((700_000..2_000_000).contains(&bytes), "{bytes} bytes of datagrams beside 1,000,000 of the stream");
}
