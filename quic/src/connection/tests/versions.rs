//! Which version two ends go by: agreed on without a round trip, with one, and in spite of those who meddle (RFC 9368, RFC 9369).

use std::time::Duration;

use weald_crypto::simulation;

use super::SECOND;
use super::first_flight::{first_datagram, ids, negotiation, reconnect};
use super::pair::{Network, Pair, client_config, server_config};
use crate::config::{ClientConfig, RetryPolicy, ServerConfig, TransportConfig};
use crate::connection::Scratch;
use crate::error::{ConnectionError, TransportErrorCode};
use crate::id::ConnectionId;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;
use crate::wire::header::{LongHeader, LongType, Packet, Packets};
use crate::wire::{PacketNumber, Version, Writer};

const V1: Version = Version::V1;
const V2: Version = Version::V2;

fn client(versions: &[Version]) -> ClientConfig {
    client_config(1, TransportConfig::default()).versions(versions.iter().copied())
}

fn server(versions: &[Version]) -> ServerConfig {
    server_config(2, TransportConfig::default(), 0).versions(versions.iter().copied())
}

/// A client whose ClientHello fills three datagrams.
fn talkative(versions: &[Version]) -> ClientConfig {
    let names = std::iter::once(b"test".to_vec()).chain((0..12).map(|name| vec![b'a' + name; 200]));
    let crypto = weald_crypto::ClientConfig::builder().alpn(names).roots(simulation::roots()).simulation(1).build().unwrap();
    ClientConfig::new(crypto).versions(versions.iter().copied())
}

/// Whether both ends complete, in this version, and data flows.
fn goes_by(pair: &mut Pair, version: Version) -> bool {
    if !pair.run(60 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed) {
        return false;
    }
    let id = pair.client.send(Direction::Uni, 10_000);
    assert!(pair.run(60 * SECOND, |pair| pair.server.received.get(&id).is_some_and(|(_, finished)| *finished)));
    assert!(pair.server.has_received(id, 10_000));
    [&mut pair.client, &mut pair.server].into_iter().all(|node| node.connection().version() == version)
}

/// RFC 9368 2.1, 2.3.
#[test]
fn every_pair_of_lists_leads_where_it_should() {
    let cases: &[(&[Version], &[Version], Option<Version>)] = &[
        (&[V1], &[V1], Some(V1)),
        (&[V1], &[V2, V1], Some(V1)),
        (&[V2, V1], &[V1], Some(V1)),
        (&[V1, V2], &[V2, V1], Some(V1)),
        (&[V2, V1], &[V1, V2], Some(V1)),
        // Both prefer it.
        (&[V2, V1], &[V2, V1], Some(V2)),
        (&[V2], &[V2, V1], Some(V2)),
        (&[V2], &[V1, V2], Some(V2)),
        // By Version Negotiation.
        (&[V1, V2], &[V2], Some(V2)),
        (&[V2, V1], &[V2], Some(V2)),
        (&[V2], &[V1], None),
        (&[V1], &[V2], None),
    ];
    let lossy = Network { loss: 20, reorder: 30, duplicate: 10, corrupt: 2, ..Network::CLEAN };
    for (ours, theirs, version) in cases {
        for seed in 0..20 {
            let network = if seed == 0 { Network::CLEAN } else { lossy };
            for retry in [RetryPolicy::Never, RetryPolicy::Always] {
                for config in [client(ours), talkative(ours)] {
                    let mut pair = Pair::configured(seed, network, config, server(theirs).retry(retry));
                    let name = format!("{ours:?} and {theirs:?}, seed {seed}, {retry:?}");
                    match version {
                        Some(version) => {
                            // A network that loses as much may outlast the handshake's ten seconds.
                            let goes = goes_by(&mut pair, *version);
                            assert!(goes || (seed > 0 && pair.client.closed == Some(ConnectionError::TimedOut)), "{name}");
                        }
                        None => {
                            pair.run(60 * SECOND, |pair| pair.client.dropped);
                            let closed = pair.client.closed.take();
                            let expected = [ConnectionError::VersionMismatch, ConnectionError::TimedOut];
                            assert!(expected[..if seed == 0 { 1 } else { 2 }].contains(&closed.unwrap()), "{name}");
                        }
                    }
                }
            }
        }
    }
}

/// RFC 9368 2.3: agreeing costs no round trip, RFC 9368 2.1: being told costs one.
#[test]
fn round_trips_of_either_negotiation() {
    for (ours, theirs, round_trips) in [(&[V1][..], &[V1][..], 1), (&[V2, V1], &[V2, V1], 1), (&[V2], &[V2], 1), (&[V1, V2], &[V2], 2)] {
        let mut pair = Pair::configured(1, Network::CLEAN, client(ours), server(theirs));
        let began = pair.now;
        assert!(pair.run(SECOND, |pair| pair.client.connected));
        assert_eq!(pair.now - began, Duration::from_millis(20 * round_trips), "{ours:?} and {theirs:?}");
    }
}

/// The first datagrams of a client, and a server that has received none.
fn flight(config: ClientConfig, server: ServerConfig) -> (Pair, Vec<Vec<u8>>) {
    let mut pair = Pair::configured(1, Network::CLEAN, config, server);
    let mut datagrams = vec![first_datagram(&mut pair)];
    let now = pair.now;
    let mut buf = [0; 1500];
    while let Some(transmit) = pair.client.connection().transmit(now, &mut buf, &mut Scratch::default()) {
        datagrams.push(buf[..transmit.len].to_vec());
    }
    (pair, datagrams)
}

/// The versions and types of the packets in a datagram.
fn seen(datagram: &[u8]) -> Vec<(Version, crate::wire::PacketType)> {
    let packets = Packets::new(datagram, 18).map_while(Result::ok);
    packets
        .filter_map(|packet| match packet {
            Packet::Protected(packet) => Some((packet.version?, packet.packet_type)),
            _ => None,
        })
        .collect()
}

/// A ClientHello in pieces, in any order: until it is whole it costs no step of TLS, and is acknowledged in the version that the
/// client has chosen (RFC 9369 4.1).
#[test]
fn a_client_hello_costs_nothing_before_it_is_whole() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let (mut pair, datagrams) = flight(talkative(&[V2, V1]), server(&[V2, V1]));
        assert_eq!(datagrams.len(), 3);
        for (count, at) in order.into_iter().enumerate() {
            pair.deliver(true, &datagrams[at]);
            let now = pair.now;
            let connection = pair.server.connection();
            let is_whole = count == 2;
            assert_eq!(connection.version(), if is_whole { V2 } else { V1 });
            match connection.poll_crypto_job() {
                Some(job) => {
                    assert!(is_whole, "{order:?}");
                    connection.on_crypto_done(now, job.run(), &mut Scratch::default());
                }
                None => assert!(!is_whole, "{order:?}"),
            }
            let mut buf = [0; 1500];
            let sent = connection.transmit(now, &mut buf, &mut Scratch::default()).expect("an acknowledgement");
            let version = if is_whole { V2 } else { V1 };
            assert!(seen(&buf[..sent.len]).iter().all(|(of, _)| *of == version), "{order:?}");
            pair.deliver(false, &buf[..sent.len]);
        }
        assert!(goes_by(&mut pair, V2), "{order:?}");
    }
}

/// As above, with one and two of the datagrams lost.
#[test]
fn a_client_hello_in_pieces_survives_losses() {
    for lost in 1..7usize {
        let (mut pair, datagrams) = flight(talkative(&[V2, V1]), server(&[V2, V1]));
        for (at, datagram) in datagrams.iter().enumerate() {
            if lost & 1 << at == 0 {
                pair.deliver(true, datagram);
            }
        }
        assert!(goes_by(&mut pair, V2), "without {lost:03b}");
    }
}

/// RFC 9000 7.5: what is too long is refused at its first four bytes.
#[test]
fn an_endless_client_hello_is_refused_at_once() {
    let limits = crate::config::ConnectionLimits::default().crypto_buffer(4096);
    let transport = || TransportConfig::default().limits(limits);
    for (message, code) in [([1, 0, 0x10, 0], 0x132), ([1, 0xff, 0xff, 0xff], 0x132), ([2, 0, 0, 1], 0x10a), ([20, 0, 0, 1], 0x10a)] {
        let (mut pair, _) = flight(client(&[V1]), server_config(2, transport(), 0));
        let now = pair.now;
        let forged = super::forge(pair.client.connection(), now, SpaceId::Initial, &[&[6, 0, 4][..], &message].concat(), 1200);
        pair.deliver(true, &forged);
        pair.flush();
        match &pair.server.closed {
            Some(ConnectionError::Transport(error)) => assert_eq!(error.code.as_u64(), code, "{message:?}"),
            other => panic!("{message:?}: {other:?}"),
        }
    }
}

/// RFC 9368 4: what a Version Negotiation packet hides comes out in the handshake.
#[test]
fn a_forged_version_negotiation_is_found_out() {
    // The client prefers version 1, which the packet leaves out and the server speaks.
    let (mut pair, first) = flight(client(&[V1, V2]), server(&[V2, V1]));
    let (original, source) = ids(&first[0]);
    pair.deliver(false, &negotiation(source, original, &[V2.as_u32(), 0x1a2a_3a4a]));
    assert_eq!(pair.client.connection().version(), V2);
    pair.run(5 * SECOND, |pair| pair.client.closed.is_some() && pair.server.closed.is_some());
    match pair.client.closed.take() {
        Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::VERSION_NEGOTIATION_ERROR),
        other => panic!("{other:?}"),
    }
    assert!(!pair.client.connected);
    // One that leads to the version that is preferred does no harm.
    let (mut pair, first) = flight(client(&[V2, V1]), server(&[V2, V1]));
    let (original, source) = ids(&first[0]);
    pair.deliver(false, &negotiation(source, original, &[V2.as_u32()]));
    assert!(goes_by(&mut pair, V2));
}

/// RFC 9368 4: one with the version that was tried is ignored, and so is a second one, whatever it says.
#[test]
fn only_the_first_version_negotiation_counts() {
    let (mut pair, first) = flight(client(&[V1, V2]), server(&[V2]));
    let (original, source) = ids(&first[0]);
    pair.deliver(false, &negotiation(source, original, &[V2.as_u32(), V1.as_u32()]));
    assert_eq!(pair.client.connection().version(), V1);
    pair.deliver(false, &negotiation(source, original, &[V2.as_u32()]));
    assert_eq!(pair.client.connection().version(), V2);
    let second = first_datagram(&mut pair);
    assert_eq!(seen(&second)[0].0, V2);
    let (fresh, _) = ids(&second);
    assert_ne!(fresh, original, "answers to the first attempt are none to the second");
    for (to, versions) in [(fresh, &[V1.as_u32()][..]), (fresh, &[5]), (original, &[5])] {
        pair.deliver(false, &negotiation(source, to, versions));
        assert!(!pair.client.connection().is_closed() && pair.client.connection().version() == V2);
    }
    pair.deliver(true, &second);
    assert!(goes_by(&mut pair, V2));
}

/// The same Initial packet as another version would have it: anyone on the way can do that.
fn in_version(datagram: &[u8], from: Version, to: Version, id: ConnectionId, sender: weald_crypto::Side) -> Vec<u8> {
    let Some(Ok(Packet::Protected(packet))) = Packets::new(datagram, 18).next() else { panic!("no packet") };
    let keys = weald_crypto::initial_keys(from.protection(), &id, sender).local;
    let mut header = Vec::new();
    let plain = packet.unprotect(keys.header.mask(packet.sample().unwrap()), &mut header).unwrap();
    let number = plain.packet_number.expand(None).unwrap_or(PacketNumber::ZERO);
    let sealed = packet.ciphertext(&plain);
    let mut payload = vec![0; sealed.len() - 16];
    keys.packet.open(number.as_u64(), &header, sealed, &mut payload).unwrap();

    let keys = weald_crypto::initial_keys(to.protection(), &id, sender).local;
    let long = LongHeader { long_type: LongType::Initial { token: packet.token }, version: to, dcid: packet.dcid, scid: packet.scid };
    let mut out = vec![0; long.size(plain.packet_number)];
    let encoded = long.encode(plain.packet_number, &mut Writer::new(&mut out));
    let start = out.len();
    out.extend(&payload);
    out.extend([0; 16]);
    encoded.set_length(&mut out, payload.len() + 16);
    let (head, body) = out.split_at_mut(start);
    let (body, tag) = body.split_at_mut(payload.len());
    keys.packet.seal(number.as_u64(), head, body, &[], tag);
    let mask = keys.header.mask(encoded.sample(&out).unwrap());
    encoded.protect(&mut out, mask);
    out
}

/// RFC 9368 4: the server compares the version in the header with the one that the client says it has chosen.
#[test]
fn a_first_flight_in_another_version_than_it_says_is_refused() {
    for (says, shown) in [(V1, V2), (V2, V1)] {
        let (mut pair, first) = flight(client(&[says]), server(&[V2, V1]));
        let (original, _) = ids(&first[0]);
        pair.deliver(true, &in_version(&first[0], says, shown, original, weald_crypto::Side::Client));
        pair.flush();
        match &pair.server.closed {
            Some(ConnectionError::Transport(error)) => assert_eq!(error.code, TransportErrorCode::VERSION_NEGOTIATION_ERROR),
            other => panic!("{other:?}"),
        }
    }
}

/// RFC 9369 4.1: who makes a client change its version gains nothing, since the keys of all that follows depend on it.
#[test]
fn a_server_that_is_made_to_seem_of_another_version_is_not_believed() {
    let (mut pair, first) = flight(client(&[V1, V2]), server(&[V2, V1]));
    let (original, _) = ids(&first[0]);
    pair.deliver(true, &first[0]);
    let now = pair.now;
    let server = pair.server.connection();
    let job = server.poll_crypto_job().unwrap();
    server.on_crypto_done(now, job.run(), &mut Scratch::default());
    let mut buf = [0; 1500];
    let sent = server.transmit(now, &mut buf, &mut Scratch::default()).unwrap();
    assert_eq!(server.version(), V1);
    pair.deliver(false, &in_version(&buf[..sent.len], V1, V2, original, weald_crypto::Side::Server));
    pair.deliver(false, &buf[..sent.len]);
    let connected = pair.run(60 * SECOND, |pair| pair.client.connected || pair.client.dropped);
    assert!(connected && !pair.client.connected);
}

/// RFC 9369 4.1: once the version is agreed on, packets of another have no effect, and before that only Initial packets have any.
#[test]
fn packets_of_another_version_are_dropped() {
    let (mut pair, first) = flight(client(&[V2, V1]), server(&[V2, V1]));
    pair.deliver(true, &first[0]);
    // The client's own packets of the version that it has chosen are read until it has heard from the server.
    let server = pair.server.connection().stats();
    pair.deliver(true, &first[0]);
    let again = pair.server.connection().stats();
    assert_eq!(again.packets_received, server.packets_received + 1);
    assert!(goes_by(&mut pair, V2));
    let id = pair.client.connection().handshake_id();
    let before = pair.client.connection().stats();
    let long = |version: Version, first: u8, is_initial: bool| {
        let token: &[u8] = if is_initial { &[0] } else { &[] };
        [&[first][..], &version.as_u32().to_be_bytes(), &[18], id.as_slice(), &[0], token, &[40], &[7; 40]].concat()
    };
    let types = [0xc0, 0xd0, 0xe0, 0xf0];
    let packets = types.into_iter().flat_map(|first| [long(V1, first, first == 0xc0), long(V2, first, first == 0xd0)]);
    for packet in packets {
        pair.deliver(false, &packet);
    }
    let after = pair.client.connection().stats();
    assert_eq!((after.packets_dropped, after.packets_received), (before.packets_dropped + 8, before.packets_received));
    assert!(!pair.client.connection().is_closed());
}

/// RFC 9369 5: a token comes from a connection of the version that was agreed on, and is shown in that alone.
#[test]
fn tokens_belong_to_the_version_that_was_agreed_on() {
    use crate::connection::{MemoryTokenStore, TokenStore};
    use std::sync::Arc;
    for config in [client(&[V2, V1]), talkative(&[V2, V1])] {
        let store = Arc::new(MemoryTokenStore::new());
        let config = config.token_store(Some(Arc::clone(&store) as _));
        let mut pair = Pair::configured(1, Network::CLEAN, config, server(&[V2, V1]));
        assert!(goes_by(&mut pair, V2));
        pair.run(SECOND, |_| false);
        assert_eq!(store.take(simulation::SERVER_NAME, V1), None);
        assert!(store.take(simulation::SERVER_NAME, V2).is_some());
    }
    // What was sealed for either is shown to the server again, in both.
    for (ours, agreed) in [(&[V1, V2], V1), (&[V2, V1], V2)] {
        let config = talkative(ours);
        let mut pair = Pair::configured(1, Network::CLEAN, config.clone(), server(&[V2, V1]));
        assert!(goes_by(&mut pair, agreed));
        pair.run(SECOND, |_| false);
        let again = config.versions([agreed]);
        reconnect(&mut pair, &again);
        assert_eq!(pair.server.endpoint.stats().validated, 1, "{agreed}");
    }
}
