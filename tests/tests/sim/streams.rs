//! Streams and their windows over the whole stack.

use std::time::Duration;

use weald_quic::{Connection, TransportConfig};
use weald_runtime::sim::LinkConfig;
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::world::{connect, exchange, link, payload, receive, send, simulate, simulate_untraced};

use super::lossy;

/// Windows far below the path's capacity, at either level: all arrives, and a reader that does not read stops the writer.
#[test]
fn small_windows_are_kept_and_do_not_wedge() {
    for (stream_window, connection_window) in [(1_000, 100_000), (100_000, 1_500), (1, 64), (3_000, 3_000)] {
        let len = if stream_window == 1 { 2_000 } else { 60_000 };
        let small = || TransportConfig::default().stream_window(stream_window).connection_window(connection_window).send_window(5_000);
        for (seed, link) in [(1, link()), (2, lossy())] {
            simulate(seed, link, || exchange(seed, len, small(), small()));
        }
    }
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_at_the_window() {
    const WINDOW: u32 = 50_000;
    for (stream_window, connection_window) in [(WINDOW, 10 * WINDOW), (10 * WINDOW, WINDOW)] {
        simulate(1, link(), || {
            let server = TransportConfig::default().stream_window(stream_window).connection_window(connection_window);
            let client = TransportConfig::default().send_window(10_000);
            let serve = |connection: Connection| {
                let mut input = connection.accept_uni().expect("a stream comes");
                sleep(Duration::from_secs(10));
                receive(&mut input, 1, 500_000);
                connection.closed();
            };
            connect(1, client, server, serve, |connection| {
                let mut out = connection.open_uni().expect("a stream");
                let start = Instant::now();
                let bytes = payload(1, 500_000);
                let mut written = 0;
                while written < bytes.len() && start.elapsed() < Duration::from_secs(9) {
                    written += out.write(&bytes[written..]).expect("it is sent");
                    // What is acknowledged or waits: the window, and what the sender may hold besides.
                    assert!(start.elapsed() > Duration::from_secs(9) || written <= (WINDOW + 10_000) as usize, "{written}");
                }
                assert!(written >= WINDOW as usize);
                out.write_all(&bytes[written..]).expect("it is sent");
                out.finish().expect("it is open");
                assert_eq!(out.stopped().expect("the connection lives"), None);
                assert!(start.elapsed() >= Duration::from_secs(10));
            });
        });
    }
}

/// Five hundred streams of each side at once, which is five times what is permitted at a time.
#[test]
fn many_streams_under_loss() {
    const STREAMS: u64 = 500;
    /// Opens streams, and checks that each comes back as it was sent.
    fn ask(connection: &Connection, seed: u64) {
        let asking: Vec<_> = (0..STREAMS)
            .map(|number| {
                let connection = connection.clone();
                spawn(move || {
                    let (mut out, mut input) = connection.open_bi().expect("a stream, in time");
                    let len = 1 + (number as usize * 37) % 3000;
                    send(&mut out, seed + number, len);
                    receive(&mut input, seed + number, len);
                })
            })
            .collect();
        asking.into_iter().for_each(|asking| asking.join().expect("no panic"));
    }
    fn answer(connection: &Connection) {
        let answering: Vec<_> = (0..STREAMS)
            .map(|_| {
                let (mut out, mut input) = connection.accept_bi().expect("a stream comes");
                spawn(move || {
                    let bytes = input.read_to_end(10_000).expect("it arrives");
                    out.write_all(&bytes).expect("it is sent");
                    out.finish().expect("it is open");
                    assert_eq!(out.stopped().expect("the connection lives"), None);
                })
            })
            .collect();
        answering.into_iter().for_each(|answering| answering.join().expect("no panic"));
    }
    for seed in 1..=4 {
        simulate_untraced(seed, lossy(), || {
            let serve = |connection: Connection| {
                let asking = connection.clone();
                let asking = spawn(move || ask(&asking, 7_000_000));
                answer(&connection);
                asking.join().expect("no panic");
                connection.closed();
            };
            connect(seed, TransportConfig::default(), TransportConfig::default(), serve, |connection| {
                let answering = connection.clone();
                let answering = spawn(move || answer(&answering));
                ask(connection, 1_000);
                answering.join().expect("no panic");
                // The server's last answers are acknowledged before the connection closes.
                sleep(Duration::from_secs(2));
            });
        });
    }
}

/// Two thousand files, each on a stream of its own, a hundred of which are permitted at a time (the interop runner's multiplexing), and
/// with the numbers of a fast local network.
#[test]
fn two_thousand_files() {
    const FILES: u64 = 2_000;
    let local = || TransportConfig::default().max_streams_bi(256).max_streams_uni(512);
    for (seed, link, transport) in [(1, link(), TransportConfig::default()), (2, lossy(), TransportConfig::default()), (3, link(), local())]
    {
        simulate_untraced(seed, link, || {
            let serve = |connection: Connection| {
                let mut serving = Vec::new();
                for _ in 0..FILES {
                    let (mut out, mut input) = connection.accept_bi().expect("a request comes");
                    serving.push(spawn(move || {
                        let request = input.read_to_end(8).expect("it arrives");
                        let number = u64::from_be_bytes(request.try_into().expect("eight bytes"));
                        send(&mut out, number, 32);
                        assert_eq!(out.stopped().expect("the connection lives"), None);
                    }));
                }
                serving.into_iter().for_each(|serving| serving.join().expect("no panic"));
                connection.closed();
            };
            connect(seed, transport.clone(), transport.clone(), serve, |connection| {
                let asking: Vec<_> = (0..FILES)
                    .map(|number| {
                        let connection = connection.clone();
                        spawn(move || {
                            let (mut out, mut input) = connection.open_bi().expect("a stream, in time");
                            out.write_all(&number.to_be_bytes()).expect("it is sent");
                            out.finish().expect("it is open");
                            receive(&mut input, number, 32);
                        })
                    })
                    .collect();
                asking.into_iter().for_each(|asking| asking.join().expect("no panic"));
                sleep(Duration::from_secs(2));
            });
        });
    }
}

/// A small urgent stream beside a large one over a slow link: it passes as if it were alone, and the large one is not harmed. The other
/// way round the small one waits for all of it.
#[test]
fn an_urgent_stream_does_not_wait_for_bulk() {
    const BULK: usize = 1_000_000;
    for (priority, is_quick) in [(1, true), (-1, false)] {
        for seed in 1..=3 {
            let link = LinkConfig { rate: Some(250_000), loss: if seed == 3 { 0.01 } else { 0.0 }, ..link() };
            simulate_untraced(seed, link, || {
                let serve = |connection: Connection| {
                    let mut bulk = connection.accept_uni().expect("the large stream comes");
                    let reading = spawn(move || receive(&mut bulk, 1, BULK));
                    for number in 0..3 {
                        receive(&mut connection.accept_uni().expect("a small stream comes"), number, 2_000);
                    }
                    reading.join().expect("no panic");
                    connection.closed();
                };
                connect(seed, TransportConfig::default(), TransportConfig::default(), serve, |connection| {
                    let mut bulk = connection.open_uni().expect("a stream");
                    assert_eq!(bulk.priority(), Ok(0));
                    send(&mut bulk, 1, BULK);
                    sleep(Duration::from_millis(500));
                    for number in 0..3 {
                        let mut urgent = connection.open_uni().expect("a stream");
                        urgent.set_priority(priority).expect("it is open");
                        let start = Instant::now();
                        send(&mut urgent, number, 2_000);
                        assert_eq!(urgent.stopped().expect("the connection lives"), None);
                        // What the link's queue holds goes before it: 64 KiB, a quarter of a second.
                        let took = start.elapsed();
                        assert!(!is_quick || took < Duration::from_millis(800), "{took:?}");
                        assert!(is_quick || number > 0 || took > Duration::from_secs(2), "{took:?}");
                    }
                    assert_eq!(bulk.stopped().expect("the connection lives"), None);
                });
            });
        }
    }
}

/// Five hundred streams with something on each, and the connection closed behind them: it waits until the peer has all of it.
#[test]
fn closing_waits_for_five_hundred_streams() {
    for seed in 1..=3 {
        simulate_untraced(seed, lossy(), || {
            let serve = |connection: Connection| {
                for _ in 0..500 {
                    let mut input = connection.accept_uni().expect("a stream comes");
                    receive(&mut input, 7, 3_000);
                }
                connection.closed();
            };
            let server = TransportConfig::default().max_streams_uni(500);
            connect(seed, TransportConfig::default(), server, serve, |connection| {
                for _ in 0..500 {
                    send(&mut connection.open_uni().expect("a stream"), 7, 3_000);
                }
                assert_eq!(connection.close_after_flush(Duration::from_secs(60)), Ok(true));
            });
        });
    }
}

/// Keys that are replaced again and again by both ends while data flows (RFC 9001 6): nothing is lost, and both count them.
#[test]
fn keys_are_replaced_while_data_flows() {
    for (seed, link) in [(1, link()), (2, lossy())] {
        simulate_untraced(seed, link, || {
            let serve = |connection: Connection| {
                let updating = connection.clone();
                let mut input = connection.accept_uni().expect("a stream comes");
                spawn(move || {
                    while updating.close_reason().is_none() {
                        updating.update_keys();
                        sleep(Duration::from_millis(70));
                    }
                });
                receive(&mut input, 1, super::MEGABYTE);
                assert!(connection.stats().key_updates > 3, "{:?}", connection.stats());
                connection.closed();
            };
            connect(seed, TransportConfig::default(), TransportConfig::default(), serve, |connection| {
                let mut out = connection.open_uni().expect("a stream");
                for piece in payload(1, super::MEGABYTE).chunks(50_000) {
                    out.write_all(piece).expect("it is sent");
                    connection.update_keys();
                    sleep(Duration::from_millis(50));
                }
                out.finish().expect("it is open");
                assert_eq!(out.stopped().expect("the connection lives"), None);
                assert!(connection.stats().key_updates > 3, "{:?}", connection.stats());
            });
        });
    }
}
