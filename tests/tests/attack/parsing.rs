//! What decoders of other stacks have stumbled over, on whole endpoints.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_crypto::{Level, TAG_LEN};
use weald_quic::codec::{Crypto, Frame, Packet, Packets, Ping, RetryToSend, Writer};
use weald_quic::{ConnectionError, ConnectionId, Version};
use weald_tests::attacker::{Attacker, Closed, Ended, Ids, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::hand::{FULL, HandPeer, parameter, parameters, varint};
use weald_tests::world::{client_address, server_address};

const SECOND: Duration = Duration::from_secs(1);
const FRAME_ENCODING_ERROR: u64 = 0x07;
const TRANSPORT_PARAMETER_ERROR: u64 = 0x08;
const PROTOCOL_VIOLATION: u64 = 0x0a;
/// The largest number that QUIC carries.
const LARGEST: u64 = (1 << 62) - 1;

/// A number in so many bytes, 1, 2, 4 or 8.
fn wide(value: u64, bytes: usize) -> Vec<u8> {
    let prefix = (bytes.trailing_zeros() as u8) << 6;
    let mut encoded = value.to_be_bytes()[8 - bytes..].to_vec();
    encoded[0] |= prefix;
    encoded
}

/// Frame types with the frames that carry them, in widths that are not the shortest, and types that are none in all widths. With the
/// code that each asks for.
fn frame_types() -> Vec<(Vec<u8>, u64)> {
    // RFC 9221 has 0x30 and 0x31.
    let known = (0x00..=0x1e).chain([0x30, 0x31]);
    let unknown = [0x1f, 0x20, 0x21, 0x2f, 0x32, 0x3f];
    let shorter = known.chain(unknown).flat_map(|frame_type| [2, 4, 8].map(|bytes| (wide(frame_type, bytes), PROTOCOL_VIOLATION)));
    let unknown = unknown.map(|frame_type| (wide(frame_type, 1), FRAME_ENCODING_ERROR));
    let large = [(0x40, 2), (0x3fff, 2), (0x4000, 4), ((1 << 30) - 1, 4), (1 << 30, 8), (LARGEST, 8)];
    let large = large.map(|(frame_type, bytes)| (wide(frame_type, bytes), FRAME_ENCODING_ERROR));
    shorter.chain(unknown).chain(large).map(|(frame_type, code)| ([frame_type, vec![0; 40]].concat(), code)).collect()
}

/// Panic of quinn (CVE-2023-42805). RFC 9000, 12.4: the type has one encoding, and an unknown one is an error.
#[test]
fn frame_types_of_every_width_at_a_server() {
    under_attack("frame types of every width", 1, Setup::new(1), |arena| {
        for (number, (frame, code)) in (1..).zip(frame_types()) {
            let mut client = arena.client(number);
            client.handshake(Stage::Confirmed);
            client.packet(Kind::OneRtt).raw(&frame).send();
            match client.run(SECOND) {
                Some(Closed::Transport { code: told, .. }) => assert_eq!(told, code, "{frame:02x?}"),
                other => panic!("{frame:02x?}: {other:?}"),
            }
        }
        arena.memory_below(100_000);
    });
}

/// The same before the handshake is over: in Initial packets, which everybody can make, and in Handshake packets.
#[test]
fn frame_types_of_every_width_in_the_handshake() {
    for (seed, stage, kind) in [(2, Stage::HelloSent, Kind::Initial), (18, Stage::HandshakeKeys, Kind::Handshake)] {
        under_attack("frame types of every width", seed, Setup::new(seed), |arena| {
            for (number, (frame, code)) in (1..).zip(frame_types()) {
                let mut client = arena.client(number);
                client.handshake(stage);
                client.packet(kind).raw(&frame).send();
                match client.run(SECOND) {
                    Some(Closed::Transport { code: told, .. }) => assert_eq!(told, code, "{frame:02x?}"),
                    other => panic!("{frame:02x?}: {other:?}"),
                }
            }
            arena.expect_forgotten();
        });
    }
}

#[test]
fn frame_types_of_every_width_at_a_client() {
    for (frame, code) in frame_types() {
        let name = format!("{frame:02x?}");
        let ended = client_under_attack("frame types of every width", 3, move |mut server| {
            server.handshake(Stage::Confirmed);
            server.packet(Kind::OneRtt).raw(&frame).send();
            server.expect_close(code);
        });
        assert!(matches!(&ended, Some(ConnectionError::Transport(error)) if error.code.as_u64() == code), "{name}: {ended:?}");
    }
}

/// A transport parameter: its number, whether only servers send it, whether it is an integer and then its largest
/// value, and a valid value.
struct Known {
    id: u64,
    server_only: bool,
    largest: Option<u64>,
    valid: Vec<u8>,
}

fn known_parameters() -> Vec<Known> {
    let integer = |id, largest| {
        let mut valid = Vec::new();
        varint(&mut valid, 1200.min(largest));
        Known { id, server_only: false, largest: Some(largest), valid }
    };
    let bytes = |id, valid: &[u8]| Known { id, server_only: id != 0x0c && id != 0x0f, largest: None, valid: valid.to_vec() };
    let preferred_address = [&[127, 0, 0, 1, 1, 0xbb][..], &[0; 18], &[8], &[1; 8], &[2; 16]].concat();
    vec![
        bytes(0x00, &[1; 8]),
        integer(0x01, LARGEST),
        bytes(0x02, &[2; 16]),
        integer(0x03, LARGEST),
        integer(0x04, LARGEST),
        integer(0x05, LARGEST),
        integer(0x06, LARGEST),
        integer(0x07, LARGEST),
        integer(0x08, 1 << 60),
        integer(0x09, 1 << 60),
        integer(0x0a, 20),
        integer(0x0b, (1 << 14) - 1),
        bytes(0x0c, &[]),
        bytes(0x0d, &preferred_address),
        integer(0x0e, LARGEST),
        bytes(0x0f, &[1; 8]),
        bytes(0x10, &[1; 8]),
        // max_datagram_frame_size (RFC 9221, 3).
        integer(0x20, LARGEST),
    ]
}

/// What is done to one transport parameter, and whether it may be.
fn damaged_parameters(sender_is_server: bool) -> Vec<(String, u64, Vec<u8>, bool)> {
    let mut cases = Vec::new();
    for Known { id, server_only, largest, valid } in known_parameters() {
        let mut put = |what: &str, values: &[&[u8]], may: bool| {
            let mut out = Vec::new();
            values.iter().for_each(|value| parameter(&mut out, id, value));
            cases.push((format!("{what} {id:#04x}"), id, out, may && (sender_is_server || !server_only)));
        };
        put("an empty", &[&[]], id == 0x0c);
        put("a duplicate", &[&valid, &valid], false);
        put("the largest", &[&wide(LARGEST, 8)], largest == Some(LARGEST));
        if let Some(largest) = largest {
            put("the largest that may be", &[&wide(largest, 8)], true);
            put("a truncated", &[&[0xc0, 0, 0]], false);
            put("a long", &[&[valid.clone(), vec![0]].concat()], false);
        }
        let mut cut = Vec::new();
        varint(&mut cut, id);
        cases.push((format!("without a length {id:#04x}"), id, cut.clone(), false));
        cut.push(0x20);
        cases.push((format!("cut short {id:#04x}"), id, cut, false));
    }
    cases
}

/// What both ends accept, without the parameter `id`, and `damaged` in its place.
fn parameters_with(ids: &Ids, id: u64, damaged: &[u8], is_server: bool) -> Vec<u8> {
    let mut all = parameters(&ids.source);
    if is_server {
        parameter(&mut all, 0x00, &ids.original);
    }
    let mut out = Vec::new();
    let mut rest = &all[..];
    // All numbers and lengths of these fit one byte.
    while let [number, len, ..] = *rest {
        let (whole, others) = rest.split_at(2 + usize::from(len));
        if u64::from(number) != id {
            out.extend_from_slice(whole);
        }
        rest = others;
    }
    out.extend_from_slice(damaged);
    out
}

/// Panic of quinn (CVE-2026-31812). RFC 9000, 7.4, 18: each parameter empty, truncated, too large and twice.
#[test]
fn damaged_transport_parameters_of_clients() {
    under_attack("damaged transport parameters", 4, Setup::new(4), |arena| {
        for (number, (name, id, damaged, may)) in (1..).zip(damaged_parameters(false)) {
            let mut client = arena.client(number).parameters(move |ids| parameters_with(ids, id, &damaged, false));
            match client.try_handshake(Stage::Confirmed) {
                Ok(()) if may => client.expect_alive(),
                Err(Ended::Closed(Closed::Transport { code: TRANSPORT_PARAMETER_ERROR, .. })) if !may => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        arena.memory_below(100_000);
    });
}

#[test]
fn damaged_transport_parameters_of_servers() {
    for (name, id, damaged, may) in damaged_parameters(true) {
        let what = name.clone();
        let ended = client_under_attack("damaged transport parameters", 5, move |server| {
            let mut server = server.parameters(move |ids| parameters_with(ids, id, &damaged, true));
            match server.try_handshake(Stage::Confirmed) {
                Ok(()) if may => server.expect_alive(),
                Err(Ended::Closed(Closed::Transport { code: TRANSPORT_PARAMETER_ERROR, .. })) if !may => {}
                other => panic!("{what}: {other:?}"),
            }
        });
        assert_eq!(ended.is_none(), may, "{name}: {ended:?}");
    }
}

/// Panic of s2n-quic (CVE-2026-94450). RFC 9000, 7.2, 17.2: a client's first destination id has 8 to 20 bytes.
#[test]
fn first_destination_ids_of_every_length() {
    under_attack("first destination ids", 6, Setup::new(6), |arena| {
        let connections = arena.server.open_connections();
        for len in 0..8 {
            let mut client = arena.client(1 + len).destination(&[7; 8][..len.into()]);
            client.handshake(Stage::HelloSent);
            client.expect_silence();
            assert_eq!(arena.server.open_connections(), connections, "{len} bytes");
        }
        for len in 8..=20 {
            let mut client = arena.client(20 + len).destination(&[len as u8; 20][..len.into()]);
            client.handshake(Stage::Confirmed);
            client.expect_alive();
        }
    });
}

/// RFC 9000, 17.2: longer ids are for versions to come, whose clients are told which versions there are (RFC 8999, 6).
#[test]
fn first_destination_ids_that_are_too_long() {
    under_attack("first destination ids", 7, Setup::new(7), |arena| {
        let connections = arena.server.open_connections();
        for (number, len) in (1..).zip([21, 22, 64, 254, 255]) {
            let mut client = HandPeer::new(number, client_address(number as u16), server_address(), parameters);
            client.destination = vec![9; len];
            let mut first = client.first_flight();
            client.send(&first);
            assert_eq!(client.receive_raw(SECOND), None, "{len} bytes");
            first[1..5].copy_from_slice(&0x0a1a_2a3a_u32.to_be_bytes());
            client.send(&first);
            let answer = client.receive_raw(SECOND).expect("Version Negotiation");
            let ids = [&[8][..], &client.source, &[len as u8], &client.destination].concat();
            assert_eq!(&answer[1..5], [0; 4]);
            assert!(answer[5..].starts_with(&ids), "{len} bytes");
        }
        assert_eq!(arena.server.open_connections(), connections);
    });
}

/// Out-of-bounds read of neqo (GHSA-hvhj). RFC 9000, 17.2.5: a Retry has a token and 16 bytes of integrity tag.
#[test]
fn retry_packets_that_end_early() {
    let ended = client_under_attack("short Retry packets", 8, |mut server| {
        let first = server.next_raw(5 * SECOND).expect("a client comes");
        let Some(Ok(Packet::Protected(first))) = Packets::new(&first, 8).next() else { panic!("an Initial packet") };
        for len in (0..=TAG_LEN).chain([TAG_LEN + 1, TAG_LEN + 9, 1000]) {
            let behind = vec![0x5a; len];
            let retry = RetryToSend { version: Version::V1, dcid: first.scid, scid: server.source_id(), token: &behind };
            let mut packet = vec![0; retry.size()];
            retry.encode(&mut Writer::new(&mut packet));
            server.send(&packet);
            // The same in front of something else.
            server.send(&[packet, vec![0; 100]].concat());
        }
        server.handshake(Stage::Confirmed);
        server.expect_alive();
    });
    assert_eq!(ended, None);
}

/// RFC 9000, 17.2.5.1: one for another connection, and one that says where the client is already.
#[test]
fn retry_packets_for_others() {
    let ended = client_under_attack("forged Retry packets", 9, |mut server| {
        let datagram = server.next_raw(5 * SECOND).expect("a client comes");
        let Some(Ok(Packet::Protected(first))) = Packets::new(&datagram, 8).next() else { panic!("an Initial packet") };
        let mut send = |dcid: ConnectionId, scid: ConnectionId, tag_for: &[u8], token: &[u8]| {
            let retry = RetryToSend { version: Version::V1, dcid, scid, token };
            let mut packet = vec![0; retry.size()];
            retry.encode(&mut Writer::new(&mut packet));
            let tag = weald_runtime::on_worker_stack(|| weald_crypto::retry_integrity_tag(weald_crypto::Version::V1, tag_for, &packet));
            packet.extend_from_slice(&tag);
            server.send(&packet);
        };
        let other = ConnectionId::new(&[3; 8]).expect("at most 20 bytes");
        send(other, other, &first.dcid, b"token");
        send(first.scid, other, &other, b"token");
        // RFC 9000, 17.2.5.2: the source id must be another than the packet's destination.
        send(first.scid, first.dcid, &first.dcid, b"token");
        // A token that leaves no room in the packets that bring it back.
        send(first.scid, other, &first.dcid, &[7; 1100]);
        server.handshake(Stage::Confirmed);
        server.expect_alive();
    });
    assert_eq!(ended, None);
}

/// Memory of neqo (GHSA-5m9j). RFC 9000, 19.3: a count of ranges that no packet has room for.
#[test]
fn ack_frames_with_more_ranges_than_bytes() {
    let counts = [1, 63, 64, u64::from(u32::MAX), LARGEST - 1, LARGEST];
    let ack = |count: u64, ecn: u8| {
        let mut frame = vec![0x02 | ecn];
        [0, 0, count, 0].iter().for_each(|value| varint(&mut frame, *value));
        frame
    };
    under_attack("ACKs to a server with too many ranges", 10, Setup::new(10), |arena| {
        let mut number = 0;
        for (stage, kind) in [(Stage::HelloSent, Kind::Initial), (Stage::HandshakeKeys, Kind::Handshake), (Stage::Confirmed, Kind::OneRtt)]
        {
            for frame in counts.iter().flat_map(|count| [ack(*count, 0), ack(*count, 1)]) {
                number += 1;
                let mut client = arena.client(number);
                client.handshake(stage);
                // PADDING would be ranges.
                client.packet(kind).raw(&[0; 1200]).raw(&frame).pad_to(0).send();
                client.expect_close(FRAME_ENCODING_ERROR);
            }
        }
        arena.memory_below(100_000);
        arena.heap_below(4_000_000);
    });
    for count in counts {
        let ended = client_under_attack("ACKs to a client with too many ranges", 11, move |mut server| {
            server.handshake(Stage::Confirmed);
            server.packet(Kind::OneRtt).raw(&ack(count, 0)).send();
            server.expect_close(FRAME_ENCODING_ERROR);
        });
        assert!(ended.is_some());
    }
}

/// The first bytes of types that go on.
const ENDS: [&[u8]; 6] = [&[0x40], &[0x80], &[0x80, 0, 0], &[0xc0], &[0xc0, 0, 0, 0], &[0xff; 7]];

/// HAProxy CVE-2026-26080. RFC 9000, 12.4: a packet that ends inside the type of a frame.
#[test]
fn packets_that_end_inside_a_frame_type() {
    under_attack("end inside a frame type", 12, Setup::new(12), |arena| {
        let mut number = 0;
        for (stage, kind, before) in [
            (Stage::HelloSent, Kind::Initial, 1200),
            (Stage::HandshakeKeys, Kind::Handshake, 10),
            (Stage::Confirmed, Kind::OneRtt, 10),
            (Stage::Confirmed, Kind::OneRtt, 0),
        ] {
            for end in ENDS {
                number += 1;
                let mut client = arena.client(number);
                client.handshake(stage);
                client.packet(kind).raw(&vec![0; before]).raw(end).pad_to(0).send();
                client.expect_close(FRAME_ENCODING_ERROR);
            }
        }
    });
}

#[test]
fn packets_that_end_inside_a_frame_type_at_a_client() {
    let packets =
        [(Stage::HelloSent, Kind::Initial, 1200), (Stage::HandshakeKeys, Kind::Handshake, 10), (Stage::Confirmed, Kind::OneRtt, 0)];
    for ((stage, kind, before), end) in packets.into_iter().flat_map(|packet| ENDS.map(|end| (packet, end))) {
        let ended = client_under_attack("end inside a frame type", 19, move |mut server| {
            server.handshake(stage);
            server.packet(kind).raw(&vec![0; before]).raw(end).pad_to(0).send();
            server.expect_close(FRAME_ENCODING_ERROR);
        });
        assert!(ended.is_some(), "{end:02x?} in {kind:?}");
    }
}

/// HAProxy CVE-2026-26081. RFC 9000, 8.1.3, 17.2.2: tokens that nobody gave, of any length.
#[test]
fn initial_packets_with_tokens_of_any_length() {
    under_attack("tokens of any length", 13, Setup::new(13), |arena| {
        for len in (0..=64_u16).chain([100, 500, 900]) {
            let mut client = arena.client(1 + len).token(&vec![len as u8; len.into()]);
            client.handshake(Stage::Confirmed);
            client.expect_alive();
        }
    });
}

/// The same, cut so that the packet ends within the token or its length.
#[test]
fn initial_packets_that_end_inside_the_token() {
    under_attack("tokens that end early", 14, Setup::new(14), |arena| {
        let connections = arena.server.open_connections();
        let mut client = arena.client(1);
        let whole = client.packet(Kind::Initial).frame(&Ping).build();
        // Flags, version, two ids of eight bytes with their lengths.
        let token_at = 1 + 4 + 2 * 9;
        assert_eq!(whole[token_at], 0);
        for len in [1_u64, 63, 64, 1000, 16_383, 1 << 20, LARGEST] {
            for bytes in [1, 2, 4, 8] {
                if len >> (8 * bytes - 2) == 0 {
                    let mut datagram = [&whole[..token_at], &wide(len, bytes)].concat();
                    datagram.resize(FULL, 0x33);
                    client.send(&datagram);
                }
            }
        }
        client.expect_silence();
        assert_eq!(arena.server.open_connections(), connections);
    });
}

/// A client whose ClientHello is edited, kept, and sent only if it says so.
fn client_with_hello(client: Attacker, sends: bool, edit: fn(&mut Vec<u8>)) -> (Attacker, Arc<Mutex<Vec<u8>>>) {
    let hello = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&hello);
    let client = client.crypto(move |level, data| {
        if level == Level::Initial {
            edit(data);
            kept.lock().expect("nobody panics").clone_from(data);
            if !sends {
                data.clear();
            }
        }
    });
    (client, hello)
}

/// OpenSSL CVE-2026-42764. Initial packets again and again, in one datagram and in several, with others between.
#[test]
fn duplicate_initial_packets() {
    under_attack("duplicate Initial packets", 15, Setup::new(15), |arena| {
        let (mut client, hello) = client_with_hello(arena.client(1), true, |_| {});
        client.handshake(Stage::HelloSent);
        let hello = hello.lock().expect("nobody panics").clone();
        let crypto = Crypto { offset: 0, data: &hello };
        // As it was sent, its data under another number, and beside it.
        let whole = client.packet(Kind::Initial).number(0).frame(&crypto).build();
        let again = client.packet(Kind::Initial).frame(&crypto).pad_to(0).build();
        let ping = client.packet(Kind::Initial).frame(&Ping).pad_to(0).build();
        for _ in 0..20 {
            client.send(&whole);
            client.send(&[&whole[..], &whole[..]].concat());
            client.send(&[&whole[..], &ping[..], &again[..], &ping[..]].concat());
        }
        client.handshake(Stage::Confirmed);
        client.send(&[&whole[..], &ping[..], &again[..]].concat());
        client.expect_alive();
        // RFC 9000, 8.1
        assert!(client.bytes_received() < 3 * client.bytes_sent());
        arena.memory_below(100_000);
    });
}

/// The same with a ClientHello that TLS refuses, while more of the datagram waits to be read.
#[test]
fn tls_failures_inside_a_datagram() {
    // Another message; a session id that is too long; extensions that end outside of the message.
    let edits: [fn(&mut Vec<u8>); 3] = [
        |hello| hello[0] = 2,
        |hello| hello[4 + 2 + 32] = 255,
        |hello| {
            let last = hello.len() - 1;
            hello.drain(last..);
            let body = (hello.len() - 4) as u32;
            hello[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
        },
    ];
    under_attack("TLS failures inside a datagram", 16, Setup::new(16), |arena| {
        for (number, edit) in (1..).zip(edits) {
            let (mut client, hello) = client_with_hello(arena.client(number), false, edit);
            client.handshake(Stage::HelloSent);
            let hello = hello.lock().expect("nobody panics").clone();
            let bad = client.packet(Kind::Initial).frame(&Crypto { offset: 0, data: &hello }).pad_to(0).build();
            let ping = client.packet(Kind::Initial).frame(&Ping).pad_to(0).build();
            let filled = client.packet(Kind::Initial).frame(&Ping).build();
            // A Handshake packet that cannot be opened.
            let mut early = ping.clone();
            early[0] |= 0x20;
            let datagram = [&bad[..], &ping, &early, &bad, &filled].concat();
            for _ in 0..20 {
                client.send(&datagram);
            }
            match client.run(5 * SECOND) {
                Some(Closed::Transport { code: 0x100..0x200, .. }) => {}
                other => panic!("edit {number}: {other:?}"),
            }
            assert!(client.bytes_received() <= 3 * client.bytes_sent());
        }
        arena.expect_forgotten();
    });
}

/// And a ServerHello that a client's TLS refuses, twice in a datagram, with more behind it.
#[test]
fn tls_failures_inside_a_datagram_at_a_client() {
    // Another message; a version that was not offered; extensions that end outside of the message.
    let edits: [fn(&mut Vec<u8>); 3] = [|hello| hello[0] = 1, |hello| hello[5] = 9, |hello| hello.truncate(hello.len() - 1)];
    for edit in edits {
        let ended = client_under_attack("TLS failures inside a datagram", 20, move |server| {
            let hello = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&hello);
            let mut server = server.crypto(move |level, data| {
                if level == Level::Initial {
                    *kept.lock().expect("nobody panics") = std::mem::take(data);
                }
            });
            server.handshake(Stage::HelloSent);
            while hello.lock().expect("nobody panics").is_empty() {
                server.next(SECOND).expect("a ClientHello");
            }
            let mut hello = hello.lock().expect("nobody panics").clone();
            edit(&mut hello);
            let body = (hello.len() - 4) as u32;
            hello[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
            let bad = server.packet(Kind::Initial).frame(&Crypto { offset: 0, data: &hello }).pad_to(0).build();
            let ping = server.packet(Kind::Initial).frame(&Ping).pad_to(0).build();
            let mut early = ping.clone();
            early[0] |= 0x20;
            let filled = server.packet(Kind::Initial).frame(&Ping).build();
            for _ in 0..20 {
                server.send(&[&bad[..], &ping, &early, &bad, &filled].concat());
            }
            match server.run(5 * SECOND) {
                Some(Closed::Transport { code: 0x100..0x200, .. }) => {}
                other => panic!("{other:?}"),
            }
        });
        assert!(matches!(ended, Some(ConnectionError::Transport(_))), "{ended:?}");
    }
}

/// RFC 9000, 10.2.1: a frame that is an error, behind a ClientHello that is none and in front of more. What the connection would have
/// done is not done.
#[test]
fn errors_between_a_client_hello_and_more() {
    under_attack("errors behind a ClientHello", 17, Setup::new(17), |arena| {
        let unknown: &[u8] = &[0x21];
        let (in_one_packet, in_two) = (true, false);
        for (number, as_one) in (1..).zip([in_one_packet, in_two]) {
            let (mut client, hello) = client_with_hello(arena.client(number), false, |_| {});
            client.handshake(Stage::HelloSent);
            let hello = hello.lock().expect("nobody panics").clone();
            let crypto = Crypto { offset: 0, data: &hello };
            let datagram = if as_one {
                client.packet(Kind::Initial).frame(&crypto).raw(unknown).build()
            } else {
                let first = client.packet(Kind::Initial).frame(&crypto).pad_to(0).build();
                [first, client.packet(Kind::Initial).raw(unknown).frame(&crypto).build()].concat()
            };
            client.send(&datagram);
            let mut answers = Vec::new();
            while let Some(seen) = client.next(SECOND) {
                answers.push(seen);
            }
            assert!(matches!(client.closed(), Some(Closed::Transport { code: FRAME_ENCODING_ERROR, .. })), "{:?}", client.closed());
            let says_more = |frame| matches!(frame, Frame::Crypto(_));
            assert!(!answers.iter().any(|seen| seen.frames().any(says_more)), "{answers:?}");
        }
        arena.expect_forgotten();
    });
}
