//! What someone else can say in a peer's name: first answers that come late, closes and packets that anybody can make, and messages of
//! the network about its datagrams.

use std::time::Duration;

use weald_crypto::{retry_integrity_tag, simulation};
use weald_quic::codec::{AckToSend, Close, NewConnectionId, Packet, Packets, RetryToSend, Stream, Writer};
use weald_quic::{
    CidSequence, ConnectionError, ConnectionId, Endpoint, PacketNumber, ResetToken, StreamId, TransportConfig, VarInt, Version,
};
use weald_runtime::sim::{LinkConfig, NetworkConfig, Simulation, network};
use weald_runtime::{on_worker_stack, sleep, spawn};
use weald_tests::attack::serve;
use weald_tests::attacker::{AckPolicy, Attacker, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::world::{client_address, client_config, link, server_address, server_config, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
/// Each comes after a packet of the peer was heard.
const STAGES: [Stage; 4] = [Stage::HelloSent, Stage::HandshakeKeys, Stage::Complete, Stage::Confirmed];

fn version_negotiation(destination: &[u8], source: &[u8], versions: &[u32]) -> Vec<u8> {
    let mut packet = vec![0xca, 0, 0, 0, 0];
    for id in [destination, source] {
        packet.push(id.len() as u8);
        packet.extend_from_slice(id);
    }
    versions.iter().for_each(|version| packet.extend_from_slice(&version.to_be_bytes()));
    packet
}

/// A Retry whose integrity tag is right for who sent its first packet to `original`.
fn retry(destination: ConnectionId, original: &[u8]) -> Vec<u8> {
    let retry = RetryToSend { version: Version::V1, dcid: destination, scid: id(9), token: b"a token" };
    let mut packet = vec![0; retry.size()];
    retry.encode(&mut Writer::new(&mut packet));
    let tag = on_worker_stack(|| retry_integrity_tag(weald_crypto::Version::V1, original, &packet));
    [&packet[..], &tag].concat()
}

fn id(fill: u8) -> ConnectionId {
    ConnectionId::new(&[fill; 8]).expect("at most 20 bytes")
}

/// Version Negotiation and Retry with every id that could be right.
fn send_first_answers(attacker: &mut Attacker, original: ConnectionId) {
    let (to, from) = (attacker.destination_id(), attacker.source_id());
    for source in [original, from, to] {
        for versions in [&[0x0a1a_2a3a][..], &[0x709a_50c4, 5], &[5; 200]] {
            attacker.send(&version_negotiation(&to, &source, versions));
        }
    }
    for original in [original, from] {
        let packet = retry(to, &original);
        attacker.send(&packet);
    }
}

/// Use after free of msquic (GHSA-xh5m). RFC 9000, 6.2, 17.2.5.2: a client follows neither once it has heard the server.
#[test]
fn late_first_answers_to_a_client() {
    for stage in STAGES {
        let ended = client_under_attack("late Version Negotiation and Retry", 1, move |mut server| {
            server.handshake(stage);
            let original = server.original_id();
            for _ in 0..3 {
                send_first_answers(&mut server, original);
            }
            server.handshake(Stage::Confirmed);
            send_first_answers(&mut server, original);
            server.expect_alive();
        });
        assert_eq!(ended, None, "{stage:?}");
    }
}

/// RFC 9000, 6.2: a client that has heard nothing believes a Version Negotiation that names both ids and not its own version. Any other
/// was made by who saw less than the first packet, or knows less.
#[test]
fn version_negotiation_before_anything_was_heard() {
    for (row, versions, ids, is_believed) in [
        ("Version Negotiation that names the client's version", &[0x0a1a_2a3a, 1][..], [true, true], false),
        ("Version Negotiation for another client", &[5], [false, true], false),
        ("Version Negotiation from another server", &[5], [true, false], false),
        ("Version Negotiation in order", &[0x0a1a_2a3a, 5], [true, true], true),
    ] {
        let ended = client_under_attack(row, 10, move |mut server| {
            let datagram = server.next_raw(5 * SECOND).expect("a client comes");
            let Some(Ok(Packet::Protected(first))) = Packets::new(&datagram, 8).next() else { panic!("an Initial packet") };
            let [to, from] = [(first.scid, ids[0]), (first.dcid, ids[1])].map(|(right, is_right)| if is_right { right } else { id(3) });
            for _ in 0..5 {
                server.send(&version_negotiation(&to, &from, versions));
            }
            if !is_believed {
                // It goes on as it began.
                let again = server.next_raw(5 * SECOND).expect("it goes on");
                let Some(Ok(Packet::Protected(again))) = Packets::new(&again, 8).next() else { panic!("an Initial packet") };
                assert_eq!((again.dcid, again.scid), (first.dcid, first.scid), "{row}");
                server.handshake(Stage::Confirmed);
                server.expect_alive();
            }
        });
        assert_eq!(ended, is_believed.then_some(ConnectionError::VersionMismatch), "{row}");
    }
}

/// And a server never does.
#[test]
fn first_answers_to_a_server() {
    under_attack("Version Negotiation and Retry to a server", 2, Setup::new(2), |arena| {
        for (number, stage) in (1..).zip(STAGES) {
            let mut client = arena.client(number);
            let original = client.original_id();
            client.handshake(stage);
            for _ in 0..3 {
                send_first_answers(&mut client, original);
            }
            client.handshake(Stage::Confirmed);
            send_first_answers(&mut client, original);
            client.expect_alive();
        }
        arena.memory_below(64 * 1024);
    });
}

fn close() -> Close<'static> {
    Close { code: VarInt::from_u32(0x0a).into(), frame: None, reason: b"" }
}

/// Who has seen the first packets has the Initial keys (RFC 9000, 21.1.1.2). Once these are gone, with the handshake well on its way,
/// they say nothing (RFC 9001, 4.9.1).
#[test]
fn closes_with_the_keys_that_everybody_has() {
    for stage in [Stage::Complete, Stage::Confirmed] {
        let ended = client_under_attack("CONNECTION_CLOSE in an Initial packet", 3, move |mut server| {
            server.handshake(stage);
            for len in [0, 1200] {
                server.packet(Kind::Initial).frame(&close()).pad_to(len).send();
            }
            server.handshake(Stage::Confirmed);
            server.expect_alive();
        });
        assert_eq!(ended, None, "{stage:?}");
        under_attack("CONNECTION_CLOSE in an Initial packet", 4, Setup::new(4), |arena| {
            let mut client = arena.client(1);
            client.handshake(stage);
            for len in [0, 1200] {
                client.packet(Kind::Initial).frame(&close()).pad_to(len).send();
            }
            client.handshake(Stage::Confirmed);
            client.expect_alive();
        });
    }
}

/// The right ids, every type of packet, and a body that nobody sealed.
#[test]
fn bodies_that_nobody_sealed() {
    fn send_noise(attacker: &mut Attacker, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        for kind in [Kind::Initial, Kind::ZeroRtt, Kind::Handshake, Kind::OneRtt] {
            for _ in 0..20 {
                if !attacker.has_keys(kind) {
                    continue;
                }
                // The header is in order, and the number is the next.
                let mut packet = attacker.packet(kind).frame(&close()).pad_to(1200).build();
                let at = packet.len() - 1 - rng.usize(0..1100);
                packet[at] ^= 1 << rng.u32(0..8);
                attacker.send(&packet);
            }
        }
    }
    for stage in STAGES {
        let ended = client_under_attack("packets with a bit flipped", 5, move |mut server| {
            server.handshake(stage);
            send_noise(&mut server, 5);
            server.handshake(Stage::Confirmed);
            server.expect_alive();
        });
        assert_eq!(ended, None, "{stage:?}");
        under_attack("packets with a bit flipped", 6, Setup::new(6), |arena| {
            let mut client = arena.client(1);
            client.handshake(stage);
            send_noise(&mut client, 6);
            client.handshake(Stage::Confirmed);
            client.expect_alive();
        });
    }
}

/// Clients that all give the same reset token (RFC 9000, 10.3.1): a reset is for the connection of its address alone.
#[test]
fn reset_tokens_that_many_clients_have() {
    for (row, differ) in [("one reset token of many clients", 0), ("reset tokens that differ in a byte", 1)] {
        under_attack(row, 7, Setup::new(7), |arena| {
            let mut clients: Vec<_> = (1..=60).map(|number| arena.client(number)).collect();
            let token = |number: usize| {
                let mut token = [7; 16];
                token[15] += differ * number as u8;
                token
            };
            for (number, client) in clients.iter_mut().enumerate() {
                client.handshake(Stage::Confirmed);
                let frame = NewConnectionId {
                    sequence: CidSequence::from(1),
                    retire_prior_to: CidSequence::from(1),
                    id: id(7),
                    reset_token: ResetToken::from(token(number)),
                };
                client.packet(Kind::OneRtt).frame(&frame).send();
                client.expect_alive();
            }
            let before = arena.server.open_connections();
            let (first, others) = clients.split_first_mut().expect("sixty");
            first.send(&[&[0x41; 30][..], &token(0)].concat());
            sleep(SECOND);
            assert_eq!(arena.server.open_connections(), before - 1);
            for client in others {
                client.expect_alive();
            }
        });
    }
}

/// RFC 9000, 14.2.1, 14.4; seen in quic-go, CVE-2024-53259: the network says that only less than 1200 bytes pass. It is not believed:
/// what is sent is as long as before.
#[test]
fn a_path_that_claims_to_be_narrower_than_quic() {
    for limit in [68, 576, 1199] {
        // Each send of a longer datagram fails with EMSGSIZE, as after a forged ICMP message.
        let narrow = NetworkConfig { link: link(), mtu: Some(limit + 28), trace: true };
        let sizes = Simulation::new(1).network(narrow).run(|| {
            let endpoint = Endpoint::client(client_address(1)).expect("a client");
            let started = weald_runtime::time::Instant::now();
            let result = endpoint.connect_with(client_config(1, TransportConfig::default()), server_address(), simulation::SERVER_NAME);
            assert!(result.is_err() && started.elapsed() >= 9 * SECOND, "it gives up when the handshake's time is over");
            weald_runtime::sim::trace().iter().map(|entry| entry.size).collect::<Vec<_>>()
        });
        assert!(sizes.is_empty(), "{sizes:?} got through {limit} bytes");
    }
    // On a connection, for a while: the same, and by routers that drop what is longer.
    let claims = [("an interface that is too narrow for a while", false), ("a router that is too narrow for a while", true)];
    for (limit, (row, drops)) in [68, 576, 1199].into_iter().flat_map(|limit| claims.map(|claim| (limit, claim))) {
        simulate_untraced(2, link(), || {
            let server = serve(server_config(2, TransportConfig::default()));
            let endpoint = Endpoint::client(client_address(1)).expect("a client");
            let config = client_config(2, TransportConfig::default());
            let connection = endpoint.connect_with(config, server_address(), simulation::SERVER_NAME).expect("a connection");
            let mtu = connection.stats().mtu;
            assert!(mtu >= 1200);
            let network = network().expect("a simulation");
            let narrow = Some(limit + 28);
            if drops {
                network.set_default_link(LinkConfig { mtu: narrow, ..link() });
            } else {
                network.set_mtu(narrow);
            }
            let (mut out, mut input) = connection.open_bi().expect("a stream");
            let writing = spawn(move || {
                out.write_all(&[7; 50_000]).expect("the connection lives");
                out.finish().expect("it is open");
                out.stopped().expect("the connection lives")
            });
            sleep(5 * SECOND);
            assert_eq!(connection.stats().mtu, mtu, "{row}: it is believed");
            network.set_default_link(link());
            network.set_mtu(None);
            assert_eq!(input.read_to_end(50_000).expect("it arrives").len(), 50_000);
            assert_eq!(writing.join().expect("no panic"), None);
            assert_eq!(connection.stats().mtu, mtu);
            server.close(0_u32.into(), b"");
        });
    }
}

/// Acknowledgements that claim to have waited for ever, over a link that takes no time; what was measured stays sane.
#[test]
fn delays_of_no_time_and_of_all_time() {
    for (seed, row, delay) in [(8, "ACK delays of 2^62 from here", Duration::from_nanos(1)), (9, "ACK delays of 2^62 from far", SECOND)] {
        under_attack(row, seed, Setup::new(seed).link(LinkConfig { delay, ..link() }).honest_within(10 * SECOND), |arena| {
            let mut client = arena.client(1);
            client.handshake(Stage::Confirmed);
            client.acks(AckPolicy::Never);
            for stream in 0..50_u32 {
                let id = StreamId::from(VarInt::from(4 * stream));
                client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"echo" }).send();
                let mut newest = None;
                while let Some(seen) = client.next(2 * delay + SECOND / 100) {
                    newest = seen.packets.iter().filter(|packet| packet.kind == Kind::OneRtt).map(|packet| packet.number).max().or(newest);
                }
                if let Some(newest) = newest {
                    let number = PacketNumber::new(newest).expect("a packet number");
                    let delay = VarInt::from_u64((1 << 62) - 1).expect("the largest");
                    let ack = AckToSend::fit(delay, [number..=number].into_iter(), None, 100).expect("there is room");
                    client.packet(Kind::OneRtt).frame(&ack).send();
                }
            }
            client.acks(AckPolicy::Honest);
            client.expect_alive();
            let stats = arena.connections()[0].stats();
            assert!(stats.rtt < 20 * SECOND && stats.min_rtt >= 2 * delay, "{stats:?}");
        });
    }
}
