//! Routing: which datagram goes where, and what strangers are told.

mod addresses;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{RetryPolicy, ServerLimits};
use crate::connection::tests::pair::{client_config, server_config};
use crate::handle::ID_LEN;

fn now() -> Instant {
    Instant::from_nanos(1_000_000_000)
}

fn keys(epoch: u64) -> EndpointKeys {
    EndpointKeys::new(&[3; 32], epoch, 0)
}

fn server(worker: u8, config: ServerConfig) -> Endpoint {
    Endpoint::new(keys(1), worker, 2, Some(Arc::new(config)), worker.into())
}

fn meta(port: u16) -> DatagramMeta {
    DatagramMeta { remote: SocketAddr::new([192, 0, 2, 1].into(), port), local: None, ecn: None }
}

/// A client's first datagram.
fn first_datagram(seed: u64) -> Vec<u8> {
    let mut endpoint = Endpoint::new(EndpointKeys::new(&[9; 32], seed, 0), 0, 1, None, seed);
    let config = client_config(seed, crate::TransportConfig::default());
    let remote = "198.51.100.1:443".parse().unwrap();
    let (_, mut client) = endpoint.connect(now(), &config, remote, "localhost").unwrap();
    let job = client.poll_crypto_job().unwrap();
    client.on_crypto_done(now(), job.run(), &mut Scratch::default());
    let mut buf = [0; 1500];
    let len = client.transmit(now(), &mut buf, &mut Scratch::default()).unwrap().len;
    buf[..len].to_vec()
}

fn accept(endpoint: &mut Endpoint, datagram: &[u8], port: u16) -> Result<(ConnectionHandle, Connection), AcceptError> {
    match endpoint.receive(now(), datagram, meta(port)) {
        Routed::Incoming(incoming) => endpoint.accept(now(), incoming, datagram, meta(port)),
        other => panic!("{other:?}"),
    }
}

/// A short packet to an id.
fn short(id: &[u8], len: usize) -> Vec<u8> {
    let mut packet = vec![0x40; len];
    packet[1..1 + id.len()].copy_from_slice(id);
    packet
}

fn config() -> ServerConfig {
    server_config(1, crate::TransportConfig::default(), 0)
}

#[test]
fn an_id_leads_to_its_connection_and_worker() {
    let mut first = server(0, config());
    let mut second = server(1, config());
    let datagram = first_datagram(1);
    let (handle, connection) = accept(&mut second, &datagram, 1).unwrap();
    let issuer = keys(1).issuer(1, handle).issue().unwrap().1;
    assert_eq!(issuer, connection.handshake_id());
    let packet = short(&issuer, 50);
    assert!(matches!(second.receive(now(), &packet, meta(2)), Routed::Existing(found) if found == handle));
    assert!(matches!(first.receive(now(), &packet, meta(2)), Routed::Forward { worker: 1 }));
    assert_eq!(first.stats().forwarded, 1);
    // A worker that does not exist is nobody.
    let nowhere = keys(1).issuer(7, handle).issue().unwrap().1;
    assert!(matches!(first.receive(now(), &short(&nowhere, 50), meta(2)), Routed::Answer(_)));
}

#[test]
fn a_flipped_bit_in_an_id_leads_nowhere() {
    let mut endpoint = server(0, config());
    let (handle, connection) = accept(&mut endpoint, &first_datagram(1), 1).unwrap();
    let id = connection.handshake_id();
    for bit in 0..ID_LEN * 8 {
        let mut packet = short(&id, 50);
        packet[1 + bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(endpoint.receive(now(), &packet, meta(1)), Routed::Answer(_)), "bit {bit}");
    }
    assert!(matches!(endpoint.receive(now(), &short(&id, 50), meta(1)), Routed::Existing(found) if found == handle));
}

#[test]
fn the_first_id_is_a_route_until_the_connection_ends() {
    let mut endpoint = server(0, config());
    let datagram = first_datagram(1);
    let (handle, mut connection) = accept(&mut endpoint, &datagram, 1).unwrap();
    // Again, from the same place and from another.
    assert!(matches!(endpoint.receive(now(), &datagram, meta(1)), Routed::Existing(found) if found == handle));
    assert!(matches!(endpoint.receive(now(), &datagram, meta(2)), Routed::Incoming(_)));
    let mut at = now();
    while !connection.is_drained() {
        while connection.transmit(at, &mut [0; 1500], &mut Scratch::default()).is_some() {}
        at = connection.next_timeout().unwrap();
        connection.on_timeout(at);
    }
    let mut over = false;
    while let Some(event) = connection.poll_endpoint_event() {
        over |= endpoint.on_event(handle, event);
    }
    assert!(over && at > now());
    assert_eq!((endpoint.connections(), endpoint.pending_handshakes()), (0, 0));
    // The slot is used again, the id is not.
    let (again, _) = accept(&mut endpoint, &datagram, 1).unwrap();
    assert!(again.slot() == handle.slot() && again != handle);
    assert!(matches!(endpoint.receive(now(), &short(&connection.handshake_id(), 50), meta(1)), Routed::Answer(_)));
}

#[test]
fn pending_handshakes_are_bounded() {
    let mut endpoint = server(0, config().retry(RetryPolicy::Never).limits(ServerLimits::default().max_pending_handshakes(3)));
    let datagram = first_datagram(1);
    for port in 1..=3 {
        accept(&mut endpoint, &datagram, port).unwrap();
    }
    assert!(matches!(accept(&mut endpoint, &datagram, 4), Err(AcceptError::Full)));
    assert_eq!((endpoint.connections(), endpoint.stats().refused.total()), (3, 1));
    assert_eq!(endpoint.stats().refused[Refusal::Limit], 1);
}

#[test]
fn what_cannot_be_a_first_packet_is_dropped() {
    let mut endpoint = server(0, config());
    let datagram = first_datagram(1);
    let dropped = |endpoint: &mut Endpoint, datagram: &[u8]| matches!(endpoint.receive(now(), datagram, meta(1)), Routed::Dropped);
    assert!(dropped(&mut endpoint, &[]));
    assert!(dropped(&mut endpoint, &datagram[..1199]));
    // Handshake and 0-RTT packets of strangers.
    for kind in [0x10, 0x20] {
        let mut other = datagram.clone();
        other[0] = other[0] & 0xcf | kind;
        assert!(dropped(&mut endpoint, &other));
    }
    endpoint.set_server(None);
    assert!(dropped(&mut endpoint, &datagram));
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn answers_to_strangers_shrink_and_run_out() {
    // RFC 9000 10.3.3: two endpoints that know nothing of each other fall silent.
    let mut ends = [server(0, config()), Endpoint::new(keys(2), 0, 1, None, 2)];
    let mut packet = short(&[0xaa; ID_LEN], 1200);
    let mut rounds = 0;
    while let Routed::Answer(answer) = ends[rounds % 2].receive(now(), &packet, meta(1)) {
        assert!(answer.len() < packet.len());
        packet = answer;
        rounds += 1;
    }
    assert!((2..100).contains(&rounds), "{rounds}");
    // A flood is answered up to the budget, which comes back with time.
    let flood = short(&[0xaa; ID_LEN], 100);
    let answered = |at: Instant, endpoint: &mut Endpoint| {
        (0..10_000).filter(|_| matches!(endpoint.receive(at, &flood, meta(1)), Routed::Answer(_))).count()
    };
    assert!(answered(now(), &mut ends[0]) < MAX_ANSWERS as usize);
    assert_eq!(answered(now() + Duration::from_millis(10), &mut ends[0]), 100);
}

#[test]
fn an_unusable_name_or_address_is_refused_and_leaves_nothing() {
    let mut endpoint = server(0, config());
    let config = client_config(1, crate::TransportConfig::default());
    let good = "198.51.100.1:443".parse().unwrap();
    assert!(matches!(endpoint.connect(now(), &config, good, "no name"), Err(ConnectError::Config(_))));
    for remote in ["198.51.100.1:0", "0.0.0.0:443"] {
        let result = endpoint.connect(now(), &config, remote.parse().unwrap(), "localhost");
        assert!(matches!(result, Err(ConnectError::Remote(_))));
    }
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn what_a_connection_keeps_to_itself_does_not_follow_from_what_strangers_see() {
    // RFC 9000 21.4: a peer that foresees which packet numbers are left out can acknowledge what it did not get.
    let drawn = |secret, seed| {
        let mut endpoint = Endpoint::new(EndpointKeys::new(&[secret; 32], 0, 0), 0, 1, None, seed);
        let mut draw = |slot| {
            let mut lent = endpoint.lend(ConnectionHandle::new(slot, 0));
            (lent.noise.u64(), lent.secrets.u64())
        };
        [draw(0), draw(1)]
    };
    let [first, second] = drawn(1, 1);
    assert_ne!(first.1, second.1, "each connection has its own");
    let [other_noise, _] = drawn(1, 2);
    assert_eq!((first.0 == other_noise.0, first.1), (false, other_noise.1), "secrets do not follow from the noise");
    let [other_secret, _] = drawn(2, 1);
    assert_eq!((first.0, first.1 == other_secret.1), (other_secret.0, false), "secrets follow from the secret");
}
