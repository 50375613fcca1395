//! Key exchanges that are cut, stretched or spoilt, hellos of several packets, and a server that wants another group: with every group
//! that is offered, the hybrid of X25519 and ML-KEM among them. What is checked here is the TLS library's work; that its verdict ends
//! the handshake with the right code is ours.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::{CipherSuite, Level, NamedGroup, simulation};
use weald_quic::codec::{Crypto, Ping};
use weald_quic::{ClientConfig, ConnectError, ConnectionError, Endpoint, ServerConfig, Version};
use weald_runtime::spawn;
use weald_tests::attack::{Honest, serve};
use weald_tests::attacker::{Attacker, Closed, Ended, Kind, Setup, Stage, under_attack};
use weald_tests::world::{ALPN, client_address, link, server_address, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
/// Alerts (RFC 8446, 6.2) as codes of the transport (RFC 9001, 4.8).
const ILLEGAL_PARAMETER: u64 = 0x100 + 47;
const DECODE_ERROR: u64 = 0x100 + 50;
const KEY_SHARE: u16 = 51;

/// A client with real random numbers, which a simulation's groups are too few for. It does not look at the time either.
fn client_tls(groups: impl IntoIterator<Item = NamedGroup>) -> weald_crypto::ClientConfig {
    let tls = weald_crypto::ClientConfig::builder().alpn([ALPN]).dangerous_skip_verification();
    tls.groups(groups).cipher_suites([CipherSuite::Aes128GcmSha256]).build().expect("a valid config")
}

fn server_tls(groups: impl IntoIterator<Item = NamedGroup>) -> weald_crypto::ServerConfig {
    let (chain, key) = simulation::server_credentials();
    weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain, key).groups(groups).build().expect("a valid config")
}

fn server(groups: impl IntoIterator<Item = NamedGroup>) -> Setup {
    // The honest client of the arena speaks X25519.
    let groups: Vec<_> = groups.into_iter().chain([NamedGroup::X25519]).collect();
    Setup::of(ServerConfig::new(server_tls(groups)))
}

/// What is done to a key share.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Short,
    Long,
    Empty,
    /// Of the right length, and wrong.
    Spoilt,
}

const LENGTHS: [Edit; 3] = [Edit::Short, Edit::Long, Edit::Empty];

impl Edit {
    fn apply(self, share: &mut Vec<u8>) {
        match self {
            Self::Short => _ = share.pop(),
            Self::Long => share.push(7),
            Self::Empty => share.clear(),
            Self::Spoilt => share[4] ^= 1,
        }
    }
}

fn read_u16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Edits the first key share of a ClientHello, or that of a ServerHello, and every length around it.
fn edit_share(hello: &mut Vec<u8>, edit: Edit) {
    let is_client = hello[0] == 1;
    // RFC 8446, 4.1.2, 4.1.3: type, length, version, random, session id; then suites and compressions, or one of each.
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += if is_client { 2 + read_u16(hello, at) } else { 2 };
    at += if is_client { 1 + usize::from(hello[at]) } else { 1 };
    let extensions = at;
    at += 2;
    while read_u16(hello, at) != usize::from(KEY_SHARE) {
        at += 4 + read_u16(hello, at + 2);
    }
    let mut lengths = vec![extensions, at + 2];
    at += 4;
    if is_client {
        lengths.push(at);
        at += 2;
    }
    lengths.push(at + 2);
    let len = read_u16(hello, at + 2);
    let mut share = hello[at + 4..][..len].to_vec();
    edit.apply(&mut share);
    let grown = share.len() as isize - len as isize;
    hello.splice(at + 4..at + 4 + len, share);
    for length in lengths {
        let changed = (read_u16(hello, length) as isize + grown) as u16;
        hello[length..length + 2].copy_from_slice(&changed.to_be_bytes());
    }
    let body = (hello.len() - 4) as u32;
    hello[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
}

fn with_edited_share(attacker: Attacker, edit: Edit) -> Attacker {
    attacker.crypto(move |level, data| {
        if level == Level::Initial && !data.is_empty() {
            edit_share(data, edit);
        }
    })
}

/// RFC 8446, 4.2.8; draft-ietf-tls-ecdhe-mlkem: a share one byte too short, too long, or empty.
#[test]
fn shares_of_clients_with_a_wrong_length() {
    for group in NamedGroup::ALL {
        under_attack("a key share with a wrong length", 1, server([group]), |arena| {
            for (number, edit) in (1..).zip(LENGTHS) {
                let mut client = with_edited_share(arena.client(number).client_tls(client_tls([group])), edit);
                match client.try_handshake(Stage::Confirmed) {
                    // An empty one is no share at all (RFC 8446, 4.2.8), and cannot even be read.
                    Err(Ended::Closed(Closed::Transport { code: ILLEGAL_PARAMETER | DECODE_ERROR, .. })) => {}
                    other => panic!("{group:?}, {edit:?}: {other:?}"),
                }
            }
            arena.expect_forgotten();
        });
    }
}

/// A client of ours that connects to an attacker with these groups. Gives why it failed.
fn attack_a_client(groups: Vec<NamedGroup>, attack: impl FnOnce(Attacker) + Send + 'static) -> Option<ConnectionError> {
    let at = SocketAddr::from(([10, 0, 0, 2], 443));
    simulate_untraced(1, link(), move || {
        let hostile = Attacker::server(1, at).server_tls(server_tls(groups.clone()));
        let attacking = spawn(move || attack(hostile));
        let endpoint = Endpoint::client(client_address(1)).expect("a client");
        let connection = endpoint.connect_with(ClientConfig::new(client_tls(groups)), at, simulation::SERVER_NAME);
        attacking.join().expect("the attack succeeds");
        match connection {
            Ok(connection) => connection.close_reason(),
            Err(ConnectError::Connection(error)) => Some(error),
            Err(other) => panic!("{other}"),
        }
    })
}

#[test]
fn shares_of_servers_with_a_wrong_length() {
    for (group, edit) in NamedGroup::ALL.into_iter().flat_map(|group| LENGTHS.map(|edit| (group, edit))) {
        let ended = attack_a_client(vec![group], move |server| {
            let mut server = with_edited_share(server, edit);
            match server.try_handshake(Stage::Confirmed) {
                Err(Ended::Closed(Closed::Transport { code: ILLEGAL_PARAMETER | DECODE_ERROR, .. })) => {}
                other => panic!("{group:?}, {edit:?}: {other:?}"),
            }
        });
        assert!(ended.is_some());
    }
}

/// A share of the right length with a bit flipped: both ends come to different secrets, and neither believes the other.
#[test]
fn shares_that_are_spoilt() {
    for group in NamedGroup::ALL {
        under_attack("a spoilt key share", 2, server([group]), |arena| {
            let mut client = with_edited_share(arena.client(1).client_tls(client_tls([group])), Edit::Spoilt);
            let ended = client.try_handshake(Stage::Confirmed);
            assert!(matches!(ended, Err(Ended::Silent | Ended::Tls(_) | Ended::Closed(_))), "{group:?}: {ended:?}");
            drop(client);
            arena.expect_forgotten();
        });
        let ended = attack_a_client(vec![group], move |server| {
            let mut server = with_edited_share(server, Edit::Spoilt);
            assert!(server.try_handshake(Stage::Confirmed).is_err(), "{group:?}");
        });
        assert!(ended.is_some(), "{group:?}");
    }
}

/// A hello of the hybrid group, which fills two Initial packets and more, each of them lost once, late, or again and again.
#[test]
fn hellos_of_several_packets() {
    for pieces in 2..=4 {
        for way in 0..4 {
            under_attack("a hello of several packets", 3, server(NamedGroup::ALL), |arena| {
                let hello = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
                let kept = std::sync::Arc::clone(&hello);
                let mut client = arena.client(1).client_tls(client_tls(NamedGroup::ALL)).crypto(move |level, data| {
                    if level == Level::Initial {
                        *kept.lock().expect("no panic") = std::mem::take(data);
                    }
                });
                client.handshake(Stage::HelloSent);
                let hello = hello.lock().expect("no panic").clone();
                assert!(hello.len() > 1200, "{} bytes", hello.len());
                let len = hello.len().div_ceil(pieces);
                let parts: Vec<(u64, &[u8])> = hello.chunks(len).enumerate().map(|(at, part)| ((at * len) as u64, part)).collect();
                let order: Vec<usize> = match way {
                    0 => (0..pieces).collect(),
                    1 => (0..pieces).rev().collect(),
                    // The first is lost, and comes last; each comes three times.
                    2 => (1..pieces).chain([0]).collect(),
                    _ => (0..3 * pieces).map(|at| at % pieces).collect(),
                };
                for at in order {
                    let (offset, data) = parts[at];
                    client.packet(Kind::Initial).frame(&Crypto { offset, data }).frame(&Ping).pad_to(1200).send();
                }
                client.handshake(Stage::Confirmed);
                client.expect_alive();
            });
        }
    }
}

/// RFC 8446, 4.1.4: a server that asks for another group, and gets one it did not ask for, or the same hello once more.
#[test]
fn a_request_for_another_group() {
    under_attack("HelloRetryRequest", 4, server([]), |arena| {
        // What our server asks for is given.
        let mut client = arena.client(1).client_tls(client_tls([NamedGroup::Secp256r1, NamedGroup::X25519]));
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        // The second hello has a share one byte too short, too long, or empty.
        for (number, edit) in (2..).zip(LENGTHS) {
            let mut hellos = 0;
            let tls = client_tls([NamedGroup::Secp256r1, NamedGroup::X25519]);
            let mut client = arena.client(number).client_tls(tls).crypto(move |level, data| {
                if level == Level::Initial && !data.is_empty() {
                    hellos += 1;
                    if hellos == 2 {
                        edit_share(data, edit);
                    }
                }
            });
            match client.try_handshake(Stage::Confirmed) {
                Err(Ended::Closed(Closed::Transport { code: 0x100..0x200, .. })) => {}
                other => panic!("{edit:?}: {other:?}"),
            }
        }
        // The first hello once more.
        let mut first = Vec::new();
        let tls = client_tls([NamedGroup::Secp256r1, NamedGroup::X25519]);
        let mut client = arena.client(9).client_tls(tls).crypto(move |level, data| {
            if level == Level::Initial && !data.is_empty() {
                if first.is_empty() {
                    first.clone_from(data);
                } else {
                    data.clone_from(&first);
                }
            }
        });
        match client.try_handshake(Stage::Confirmed) {
            Err(Ended::Closed(Closed::Transport { code: 0x100..0x200, .. })) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(client.run(SECOND), client.closed().cloned());
    });
}

/// RFC 9368, 2.1, 2.3: in the version that both agree on, by Version Negotiation or on the way; and then in the group (RFC 8446, 4.1.4).
#[test]
fn a_request_for_another_group_in_another_version() {
    const V1: Version = Version::V1;
    const V2: Version = Version::V2;
    for (row, spoken, offered, round_trips) in [
        ("HelloRetryRequest after Version Negotiation", &[V2][..], [V1, V2], 3),
        ("HelloRetryRequest in the version that a server goes on in", &[V2, V1], [V2, V1], 2),
    ] {
        simulate_untraced(5, link(), || {
            let server = serve(ServerConfig::new(server_tls([NamedGroup::Secp256r1])).versions(spoken.iter().copied()));
            let endpoint = Endpoint::client(client_address(1)).expect("a client");
            let config = ClientConfig::new(client_tls([NamedGroup::X25519, NamedGroup::Secp256r1])).versions(offered);
            let connection = endpoint.connect_with(config, server_address(), simulation::SERVER_NAME).expect(row);
            let info = connection.handshake();
            assert_eq!((info.version, info.group), (V2, NamedGroup::Secp256r1), "{row}");
            assert!(info.duration >= round_trips * SECOND / 50, "{row}: {:?}", info.duration);
            Honest::exchange(&connection, 1);
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle();
            server.close(0_u32.into(), b"");
        });
    }
}
