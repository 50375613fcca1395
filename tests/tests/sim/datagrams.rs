//! Datagrams of the application over the whole stack (RFC 9221).

use std::collections::BTreeSet;
use std::time::Duration;

use weald_quic::{Connection, ConnectionError, SendDatagramError, TransportConfig};
use weald_runtime::sim::LinkConfig;
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::world::{connect, link, payload, receive, send, simulate};

fn transport() -> TransportConfig {
    TransportConfig::default().datagrams(true)
}

fn numbered(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = payload(n.into(), len);
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// The number of a datagram that has arrived unchanged.
fn number(datagram: &[u8]) -> u32 {
    let n = u32::from_be_bytes(datagram[..4].try_into().expect("four bytes"));
    assert!(datagram == numbered(n, datagram.len()), "datagram {n} has changed");
    n
}

/// All numbers that arrive until the connection ends, in their order.
fn collect(connection: &Connection) -> Vec<u32> {
    std::iter::from_fn(|| connection.read_datagram().ok()).map(|datagram| number(&datagram)).collect()
}

/// A sender that waits for room over a lossy link: about a tenth is lost, nothing comes twice or changed, and nothing else is
/// missing.
#[test]
fn a_sender_that_waits_loses_what_the_network_loses() {
    const COUNT: u32 = 2_000;
    for seed in 1..=3 {
        let bad = LinkConfig { loss: 0.1, reorder: 0.1, duplicate: 0.1, ..link() };
        simulate(seed, bad, || {
            let client = transport().datagram_send_buffer(10_000);
            let serve = |connection: Connection| {
                let arrived = collect(&connection);
                let distinct: BTreeSet<_> = arrived.iter().collect();
                assert_eq!(distinct.len(), arrived.len(), "a datagram came twice");
                let received = connection.stats().datagram_frames_received;
                assert_eq!(connection.stats().datagram_frames_dropped + arrived.len() as u64, received);
                assert!((COUNT * 85 / 100..COUNT * 95 / 100).contains(&(arrived.len() as u32)), "{} arrived", arrived.len());
            };
            connect(seed, client, transport().datagram_receive_buffer(1 << 20), serve, |connection| {
                for n in 0..COUNT {
                    connection.send_datagram(numbered(n, 1000)).expect("the peer takes them");
                }
                assert!(connection.close_after_flush(Duration::from_secs(60)).expect("the connection lives"));
                let stats = connection.stats();
                assert_eq!((stats.datagram_frames_sent, stats.datagram_frames_dropped), (COUNT.into(), 0));
                sleep(Duration::from_secs(1));
            });
        });
    }
}

/// A source that is faster than the link, where only what is new counts: what arrives is never old, and the last one does.
#[test]
fn dropping_the_oldest_keeps_what_arrives_fresh() {
    // A hundred datagrams a second pass, and a thousand are made.
    let slow = LinkConfig { rate: Some(100_000), ..link() };
    simulate(1, slow, || {
        let client = transport().datagram_send_buffer(10_000);
        let serve = |connection: Connection| {
            let start = Instant::now();
            let mut last = 0;
            let mut count = 0;
            while let Ok(datagram) = connection.read_datagram() {
                let made = Duration::from_millis(number(&datagram).into());
                let age = start.elapsed().saturating_sub(made);
                assert!(age < Duration::from_secs(1), "{age:?} old");
                last = number(&datagram);
                count += 1;
            }
            assert_eq!(last, 4_999);
            assert!((300..700).contains(&count), "{count} arrived");
        };
        connect(1, client, transport(), serve, |connection| {
            for n in 0..5_000 {
                connection.send_datagram_dropping(numbered(n, 1000)).expect("there is always room");
                sleep(Duration::from_millis(1));
            }
            assert!(connection.stats().datagram_frames_dropped > 4_000);
            assert!(connection.close_after_flush(Duration::from_secs(60)).expect("the connection lives"));
            sleep(Duration::from_secs(1));
        });
    });
}

/// A stream of a megabyte and as many datagrams as pass beside it, over a link that has room for neither: both move.
#[test]
fn datagrams_and_a_stream_share_a_link() {
    for (seed, link) in [(1, LinkConfig { rate: Some(500_000), ..link() }), (2, LinkConfig { rate: Some(500_000), loss: 0.02, ..link() })] {
        simulate(seed, link, || {
            let serve = |connection: Connection| {
                let reading = connection.clone();
                let datagrams = spawn(move || collect(&reading).len());
                let start = Instant::now();
                receive(&mut connection.accept_uni().expect("a stream comes"), 1, super::MEGABYTE);
                // Two seconds alone: with its half of the packets it takes no more than a little above four.
                assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
                connection.close(0_u32.into(), b"");
                let bytes = 1000 * datagrams.join().expect("it does not panic");
                assert!(bytes > super::MEGABYTE / 3, "{bytes} bytes of datagrams");
            };
            connect(seed, transport(), transport(), serve, |connection| {
                let flooding = connection.clone();
                let flood = spawn(move || {
                    for n in 0.. {
                        if flooding.send_datagram(numbered(n, 1000)).is_err() {
                            return;
                        }
                    }
                });
                send(&mut connection.open_uni().expect("a stream"), 1, super::MEGABYTE);
                assert!(matches!(connection.closed(), ConnectionError::ApplicationClosed(_)));
                flood.join().expect("it does not panic");
            });
        });
    }
}

/// The peer's limit, the path's and none: what is too long is refused at once and by its size, and the longest arrives.
#[test]
fn sizes_are_limited_by_the_peer_and_the_path() {
    let cases = [
        (TransportConfig::default(), TransportConfig::default().datagrams(true).datagram_receive_buffer(500), Some(497..=497)),
        (TransportConfig::default(), transport(), Some(1_150..=1_200)),
        (TransportConfig::default().udp_payload(1_452), transport(), Some(1_400..=1_452)),
        (transport(), TransportConfig::default(), None),
    ];
    for (client, server, expected) in cases {
        simulate(1, link(), || {
            let longest = expected.clone();
            let serve = move |connection: Connection| {
                if let Some(longest) = longest {
                    let datagram = connection.read_datagram().expect("the longest arrives");
                    assert!(longest.contains(&datagram.len()) && number(&datagram) == 1);
                }
                connection.closed();
            };
            connect(1, client, server, serve, |connection| {
                sleep(Duration::from_millis(100));
                let max = connection.max_datagram_size();
                assert_eq!(max.is_some(), expected.is_some());
                let Some(max) = max else {
                    assert_eq!(connection.send_datagram(vec![1]), Err(SendDatagramError::Unsupported));
                    return;
                };
                assert!(expected.expect("there is one").contains(&max), "{max}");
                assert_eq!(connection.send_datagram(vec![0; max + 1]), Err(SendDatagramError::TooLarge { max }));
                connection.send_datagram(numbered(1, max)).expect("it fits");
                sleep(Duration::from_millis(100));
            });
        });
    }
}
