//! Which version of QUIC two endpoints speak, over networks that lose and damage what they say of it (RFC 9368, RFC 9369).

use std::time::Duration;

use weald_crypto::simulation::SERVER_NAME;
use weald_quic::{ClientConfig, EarlyData, Endpoint, RetryPolicy, ServerConfig, TransportConfig, Version};
use weald_runtime::sim::LinkConfig;
use weald_runtime::{sleep, spawn};
use weald_tests::attack::echo;
use weald_tests::world::{
    client_config, early_server_config, link, receive, send, server_address, server_config, simulate, simulate_untraced,
};

use super::client_endpoint;

const V1: Version = Version::V1;
const V2: Version = Version::V2;

fn transport() -> TransportConfig {
    TransportConfig::default().handshake_timeout(Duration::from_secs(60))
}

/// Serves one connection, and gives its version and what became of its early data.
fn serve(config: ServerConfig) -> weald_runtime::JoinHandle<(Version, EarlyData)> {
    let server = Endpoint::server(config, server_address()).expect("a server");
    spawn(move || {
        let connection = server.accept().expect("a connection comes");
        echo(&connection);
        let seen = (connection.handshake().version, connection.early_data());
        server.close(0_u32.into(), b"");
        server.wait_idle();
        seen
    })
}

/// Connects, early if it may, and sends 20,000 bytes there and back. Gives the version and what became of early data.
fn visit(config: &ClientConfig, seed: u64) -> (Version, EarlyData) {
    let connection = client_endpoint().connect_0rtt_with(config.clone(), server_address(), SERVER_NAME).expect("a connection");
    let (mut out, mut input) = connection.open_bi().expect("a stream");
    send(&mut out, seed, 20_000);
    receive(&mut input, seed, 20_000);
    let early = connection.wait_handshake().expect("it lives");
    // A ticket comes.
    sleep(Duration::from_secs(2));
    connection.close(0_u32.into(), b"");
    (connection.handshake().version, early)
}

#[test]
fn each_pair_of_lists_over_any_network() {
    let cases: [(&[Version], &[Version], Version); 6] = [
        (&[V1], &[V2, V1], V1),
        (&[V2, V1], &[V2, V1], V2),
        (&[V2], &[V1, V2], V2),
        // By a Version Negotiation packet.
        (&[V1, V2], &[V2], V2),
        (&[V2, V1], &[V1], V1),
        (&[V2, V1], &[V2], V2),
    ];
    for seed in 0..30 {
        for (ours, theirs, expected) in cases {
            for retry in [RetryPolicy::Never, RetryPolicy::Always] {
                // Nothing protects a Version Negotiation packet, so nothing is damaged here: UDP's checksum is all there is.
                let rough = LinkConfig { loss: 0.2, reorder: 0.3, duplicate: 0.1, ..link() };
                simulate_untraced(seed, if seed == 0 { link() } else { rough }, || {
                    let serving = serve(server_config(seed, transport()).retry(retry).versions(theirs.iter().copied()));
                    let (version, _) = visit(&client_config(seed, transport()).versions(ours.iter().copied()), seed);
                    assert_eq!(version, expected, "{ours:?} and {theirs:?}, {retry:?}");
                    assert_eq!(serving.join().expect("no panic").0, expected);
                });
            }
        }
    }
}

/// RFC 9369, 5: a ticket is good on the version that it was made on. Early data goes in the first packets of a version that the
/// ticket is for, and a server that speaks another takes it after the handshake.
#[test]
fn early_data_keeps_to_the_version_of_its_ticket() {
    type Versions = &'static [Version];
    let cases: [(Versions, Versions, Versions, EarlyData); 5] = [
        (&[V1], &[V1], &[V1], EarlyData::Accepted),
        (&[V2], &[V2], &[V2], EarlyData::Accepted),
        (&[V1], &[V1, V2], &[V2], EarlyData::NotOffered),
        (&[V2], &[V1, V2], &[V1], EarlyData::NotOffered),
        // The server has given the version up meanwhile, and never sees what was offered.
        (&[V1], &[V2], &[V1, V2], EarlyData::Rejected),
    ];
    for (before, after, ours, expected) in cases {
        simulate(1, link(), || {
            let server = early_server_config(1, transport());
            let client = client_config(1, transport()).token_store(None);
            let serving = serve(server.clone().versions(before.iter().copied()));
            let (version, early) = visit(&client.clone().versions(before.iter().copied()), 1);
            assert_eq!((version, early), (before[0], EarlyData::NotOffered));
            serving.join().expect("no panic");
            sleep(Duration::from_secs(1));

            let serving = serve(server.versions(after.iter().copied()));
            let (version, early) = visit(&client.versions(ours.iter().copied()), 2);
            let name = format!("{before:?}, then {after:?} for {ours:?}");
            let at_server = if expected == EarlyData::Rejected { EarlyData::NotOffered } else { expected };
            assert_eq!(early, expected, "{name}");
            assert_eq!(serving.join().expect("no panic"), (version, at_server), "{name}");
        });
    }
}
