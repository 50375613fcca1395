//! Streams and their windows over the whole stack.

use std::time::Duration;

use weald_quic::{Connection, TransportConfig};
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
