//! Traces for people: nothing is missing in them, and a seed gives the same.

use weald_quic::TransportConfig;
use weald_runtime::sim::{self, LinkConfig};
use weald_tests::trace_file;
use weald_tests::world::{exchange, link, record};

/// What is written of a hundred kilobytes each way over a link with every fault.
fn trace(seed: u64) -> String {
    let bad = LinkConfig { loss: 0.05, reorder: 0.1, duplicate: 0.05, corrupt: 0.03, rate: Some(1_250_000), queue: 8_000, ..link() };
    record("traces", seed, bad, |log| {
        let transport = || TransportConfig::default().trace(log.clone());
        exchange(seed, 100_000, transport(), transport());
        trace_file::lines(log, &sim::trace())
    })
}

#[test]
fn a_line_for_each_event_and_the_same_for_each_seed() {
    let text = trace(1);
    assert_eq!(text, trace(1));
    assert_ne!(text, trace(2));
    let lines: Vec<_> = text.lines().collect();
    // What left has a fate, and all times are in order.
    assert!(lines.iter().filter(|line| line.contains("  sends     ")).all(|line| line.contains("  -- ")));
    assert!(!text.contains("not known"), "{text}");
    let times: Vec<f64> = lines.iter().map(|line| line.split_whitespace().next().expect("a time").parse().expect("a number")).collect();
    assert!(times.is_sorted() && times[0] == 0.0);
    for needle in [
        "client 1   sends     Initial 0 [PADDING ",
        "server 1   receives  Initial ",
        ", CRYPTO 0..",
        "in one datagram with the next",
        "HANDSHAKE_DONE",
        "STREAM 0 0..",
        " fin]",
        "  -- LOST",
        "  -- LOST: the link's queue is full",
        "  -- held back, arrives in ",
        ", twice",
        "a bit flipped, ",
        "drops     ",
        "came before",
        "not authentic",
        "loses     1-RTT ",
        "timeout   ",
        "path      window ",
        "state     connected",
        "state     confirmed",
        "state     closing: closed",
        "state     draining: closed by the peer's application: code 0x0: done",
        "state     drained",
    ] {
        assert!(text.contains(needle), "no {needle:?} in\n{text}");
    }
}
