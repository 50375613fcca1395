//! What the network sees of a connection.

use std::time::Duration;

use weald_quic::{Connection, Side, TransportConfig};
use weald_tests::world::{connect, link, receive, record, send};

use super::MEGABYTE;

/// Times between the changes of the spin bit in what a server receives, while a client sends a megabyte.
fn periods(seed: u64, transport: fn() -> TransportConfig) -> Vec<Duration> {
    record("spin", seed, link(), |log| {
        let transport = || transport().trace(log.clone());
        let serve = move |connection: Connection| {
            receive(&mut connection.accept_uni().expect("a stream comes"), seed, MEGABYTE);
            connection.closed();
        };
        connect(seed, transport(), transport(), serve, |connection| {
            let mut out = connection.open_uni().expect("a stream");
            send(&mut out, seed, MEGABYTE);
            assert_eq!(out.stopped().expect("the connection lives"), None);
        });
        let bits = log.find(Side::Server, "receives", "1-RTT").into_iter().map(|(time, line)| (time, line.contains(" spin 1 ")));
        let mut edges = Vec::new();
        let mut last = false;
        for (time, bit) in bits {
            if bit != std::mem::replace(&mut last, bit) {
                edges.push(time);
            }
        }
        edges.windows(2).map(|pair| pair[1] - pair[0]).collect()
    })
}

/// RFC 9000, 17.4: the bit changes once in each round trip, which takes 20 ms here, a little longer when an end has nothing to say.
#[test]
fn the_spin_bit_shows_the_round_trip() {
    let spinning = (1..=20).filter(|seed| {
        let periods = periods(*seed, TransportConfig::default);
        let whole = periods.iter().filter(|period| (20..50).contains(&period.as_millis())).count();
        // One connection in sixteen abstains: its bits are noise.
        periods.len() > 5 && whole * 10 >= periods.len() * 9
    });
    let spinning = spinning.count();
    assert!((15..20).contains(&spinning), "{spinning} of 20");
    // Who is told to does not take part, and that shows in noise.
    let noise = periods(1, || TransportConfig::default().spin_bit(false));
    assert!(noise.len() > 50, "{} changes", noise.len());
}
