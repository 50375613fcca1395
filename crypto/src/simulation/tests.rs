//! The same seed gives the same bytes; another seed, or another session, gives others.

use std::time::Duration;

use crate::simulation::{Clock, SERVER_NAME, roots, server_credentials};
use crate::{CipherSuite, ClientConfig, EarlyData, Level, NamedGroup, ServerConfig, Session, Terms, Version};

/// Both ends' configurations under a seed.
fn configs(seed: u64, suite: CipherSuite) -> (ClientConfig, ServerConfig) {
    let (chain, key) = server_credentials();
    let client = ClientConfig::builder().alpn(["h3"]).roots(roots()).cipher_suites([suite]).simulation(seed);
    let server = ServerConfig::builder().alpn(["h3"]).certificate(chain, key).simulation(seed + 1);
    (client.build().unwrap(), server.build().unwrap())
}

/// What an observer of both ends and their keys sees of a handshake.
#[derive(Debug, PartialEq)]
struct Transcript {
    bytes: Vec<(Level, Vec<u8>)>,
    mask: [u8; 5],
    group: NamedGroup,
}

fn transcript((client, server): &(ClientConfig, ServerConfig)) -> Transcript {
    let mut client = Session::client(client, Version::V1, SERVER_NAME, vec![1, 2, 3]).unwrap();
    let mut server = Session::server(server, Version::V1, vec![4, 5, 6], Terms::default());
    let hello = client.advance(&[]).unwrap().output;
    let flight = server.advance(&hello).unwrap().output;
    let finished = client.advance(&flight).unwrap();
    let done = server.advance(&finished.output).unwrap();
    assert!(finished.complete && done.complete);
    let (_, keys) = finished.keys.last().unwrap();
    let mask = keys.local.header.mask(&[0; 16]);
    let group = finished.outcome.unwrap().group;
    Transcript { bytes: [hello, flight, finished.output, done.output].concat(), mask, group }
}

#[test]
fn a_seed_decides_every_byte() {
    for suite in CipherSuite::ALL {
        let (first, second) = (configs(7, suite), configs(7, suite));
        let transcripts = [transcript(&first), transcript(&first), transcript(&second), transcript(&second)];
        assert_eq!(transcripts[0], transcripts[2]);
        assert_eq!(transcripts[1], transcripts[3]);
        // A configuration's second session is not its first.
        assert_ne!(transcripts[0], transcripts[1]);
        assert_ne!(transcripts[0], transcript(&configs(8, suite)));
        assert_eq!(transcripts[0].group, NamedGroup::X25519);
    }
}

/// Jobs of several sessions may be mixed in any order without changing one of them.
#[test]
fn sessions_do_not_share_a_generator() {
    let hello = |session: &mut Session| session.advance(&[]).unwrap().output;
    let new = |client: &ClientConfig| Session::client(client, Version::V1, SERVER_NAME, Vec::new()).unwrap();
    let (client, _) = configs(1, CipherSuite::Aes128GcmSha256);
    let (mut a, mut b) = (new(&client), new(&client));
    let in_order = [hello(&mut a), hello(&mut b)];
    let (client, _) = configs(1, CipherSuite::Aes128GcmSha256);
    let (mut a, mut b) = (new(&client), new(&client));
    let second = hello(&mut b);
    assert_eq!(in_order, [hello(&mut a), second]);
}

/// Tickets and early data follow from the seed, too, and with them the keys of 0-RTT packets.
#[test]
fn early_data_in_a_simulation() {
    let connect = |client: &ClientConfig, server: &ServerConfig| {
        let mut client = Session::client(client, Version::V1, SERVER_NAME, vec![1, 2, 3]).unwrap();
        client.offer_early_data();
        let mut server = Session::server(server, Version::V1, vec![4, 5, 6], Terms::default());
        let hello = client.advance(&[]).unwrap();
        let answer = server.advance(&hello.output).unwrap();
        let finished = client.advance(&answer.output).unwrap();
        let done = server.advance(&finished.output).unwrap();
        client.advance(&done.output).unwrap();
        let [at_client, at_server] = [hello.early_keys, answer.early_keys].map(|keys| keys.map(|keys| keys.header.mask(&[7; 16])));
        assert_eq!(at_client, at_server);
        (finished.outcome.unwrap().early_data, at_client, hello.output)
    };
    let connections = [1, 1, 2].map(|seed| {
        let clock = Clock::new();
        let (chain, key) = server_credentials();
        let client = ClientConfig::builder().alpn(["h3"]).roots(roots()).simulation(seed).clock(clock.clone()).build().unwrap();
        let server = ServerConfig::builder().alpn(["h3"]).certificate(chain, key).early_data(true).simulation(seed).clock(clock.clone());
        let server = server.build().unwrap();
        let first = connect(&client, &server);
        assert_eq!(first.0, EarlyData::NotOffered);
        clock.advance(Duration::from_secs(3600));
        let second = connect(&client, &server);
        assert_eq!(second.0, EarlyData::Accepted);
        second
    });
    assert!(connections[0] == connections[1] && connections[1] != connections[2]);
}
