//! The whole stack on virtual time and a simulated network, through the blocking API: what a network may do, and what
//! applications may, loses no byte and wedges nobody. One file for what one part of the protocol promises.

mod addresses;
mod closing;
mod datagrams;
mod goodput;
mod handshake;
mod networks;
mod recovery;
mod streams;

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
