//! The whole stack on virtual time and a simulated network, through the blocking API: what a network may do, and what
//! applications may, loses no byte and wedges nobody. One file for what one part of the protocol promises.
//!
//! | file | scenarios | RFC (9000 where none is named) |
//! |-|-|-|
//! | `timing` | the timing cases of the public interop runner: longrtt, blackhole, handshakeloss, handshakecorruption, transferloss, transfercorruption, amplificationlimit, chacha20, retry, keyupdate, ecn, ipv6 | 8.1, 13.4, 17.2.5; 9001 5 and 6; 9002 5 and 6 |
//! | `streams` | multiplexing of two thousand files, windows, many streams under loss, priorities, a close that waits, key updates while data flows | 2, 3, 4; 9001 6 |
//! | `networks` | each fault by itself, thousands of networks drawn from seeds, the same trace for the same seed, lost acknowledgements | 13; 9002 |
//! | `handshake` | nobody there, a certificate of another name | 10.1; 9001 4 |
//! | `zero_rtt` | sessions that resume, early data: accepted, rejected, after a Retry, over bad networks, to a server that is gone | 7.4.1; 9001 4.6 |
//! | `versions` | versions agreed on, negotiated and given up, with Retry and early data, over bad networks | 6; 9368; 9369 |
//! | `closing` | idle timeout, keep-alive, close and its repetition, draining, a peer that vanishes, clients that break off | 10.1, 10.2 |
//! | `addresses` | Retry, tokens, load, resets after a restart, connection ids that rotate, a budget of memory | 5.1, 8.1, 10.3, 21.11 |
//! | `recovery` | ECN, pacing, persistent congestion, acknowledgements out of order | 13.4; 9002 6 and 7 |
//! | `datagrams` | datagrams of applications | 9221 |
//! | `traces` | what a trace file has, the same for the same seed | |
//! | `wire_image` | what the network sees: the spin bit | 17.4 |
//! | `goodput` | throughput beside another stack | 9002 7; 9438 |
//!
//! What one event of an end means is tested beside the code of `weald-quic`: a close at each moment of a handshake (10.2.3) is in
//! `connection/tests/closing.rs`. A scenario that records itself writes `target/traces/NAME-SEED.txt` when it fails, and with
//! `WEALD_TRACES` set in any case.

mod addresses;
mod closing;
mod datagrams;
mod goodput;
mod handshake;
mod networks;
mod recovery;
mod streams;
mod timing;
mod traces;
mod versions;
mod wire_image;
mod zero_rtt;

use weald_quic::Endpoint;
use weald_runtime::sim::LinkConfig;
use weald_tests::world::{client_address, link};

const MEGABYTE: usize = 1_000_000;

/// 5 % of datagrams lost, a tenth held back behind later ones.
fn lossy() -> LinkConfig {
    LinkConfig { loss: 0.05, reorder: 0.1, ..link() }
}

fn client_endpoint() -> Endpoint {
    Endpoint::client(client_address(1)).expect("a client")
}
