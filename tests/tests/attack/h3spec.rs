//! The checks of transports that h3spec makes (github.com/kazu-yamamoto/h3spec, TransportError.hs), under its names and with the exact
//! codes of RFC 9000 and RFC 9001. Each is made in h3spec's way, and most in another besides.

use weald_crypto::Level;
use weald_quic::codec::{Crypto, MaxStreamData, NewConnectionId, PathChallenge, Ping, ResetStream, StopSending, Stream, StreamsBlocked};
use weald_quic::{
    ApplicationCode, CidSequence, ConnectionError, ConnectionId, Direction, ResetToken, Side, StreamId, TransportConfig, VarInt,
};
use weald_tests::attacker::{Attacker, Ids, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::hand::{parameter, parameters, varint};
use weald_tests::world::early_server_config;

const FLOW_CONTROL_ERROR: u64 = 0x03;
const STREAM_LIMIT_ERROR: u64 = 0x04;
const STREAM_STATE_ERROR: u64 = 0x05;
const FRAME_ENCODING_ERROR: u64 = 0x07;
const TRANSPORT_PARAMETER_ERROR: u64 = 0x08;
const PROTOCOL_VIOLATION: u64 = 0x0a;
/// RFC 9001, 4.8: CRYPTO_ERROR with TLS's alert.
const UNEXPECTED_MESSAGE: u64 = 0x100 + 10;
const MISSING_EXTENSION: u64 = 0x100 + 109;
const UNSUPPORTED_EXTENSION: u64 = 0x100 + 110;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// TLS HandshakeTypes (RFC 8446, 4).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const END_OF_EARLY_DATA: [u8; 4] = [5, 0, 0, 0];
/// TLS extensions (RFC 7301, 3.1; RFC 9001, 8.2).
const APPLICATION_LAYER_PROTOCOL_NEGOTIATION: u16 = 16;
const QUIC_TRANSPORT_PARAMETERS: u16 = 0x39;

type Act = fn(&mut Attacker);
type Make = Box<dyn Fn(Attacker) -> Attacker>;

/// What a client does once its connection is confirmed, and what the server closes it with.
fn after_the_handshake(checks: &[(&str, u64, Act)]) {
    under_attack("h3spec", 1, Setup::new(1), |arena| {
        for (number, (name, code, act)) in (1..).zip(checks) {
            println!("{name}");
            let mut client = arena.client(number);
            client.handshake(Stage::Confirmed);
            act(&mut client);
            client.expect_close(*code);
        }
        arena.expect_forgotten();
    });
}

/// A client that does not come to the end of its handshake.
fn in_the_handshake(checks: Vec<(&str, u64, Make)>) {
    under_attack("h3spec", 2, Setup::new(2), |arena| {
        for (number, (name, code, make)) in (1..).zip(checks) {
            println!("{name}");
            let mut client = make(arena.client(number));
            // A server may be through with the handshake before it finds fault.
            let _ = client.try_handshake(Stage::Confirmed);
            client.expect_close(code);
        }
        arena.expect_forgotten();
    });
}

/// A stream by its initiator, direction and index.
fn stream(initiator: Side, direction: Direction, index: u64) -> StreamId {
    StreamId::new(initiator, direction, index).expect("a stream id")
}

const BI: StreamId = match StreamId::new(Side::Client, Direction::Bi, 0) {
    Some(id) => id,
    None => panic!(),
};

#[test]
fn limits() {
    after_the_handshake(&[
        ("FLOW_CONTROL_ERROR if a STREAM frame with a large offset is received [Transport 4.1]", FLOW_CONTROL_ERROR, |client| {
            client.packet(Kind::OneRtt).frame(&Stream { id: BI, offset: 100_000_000, fin: true, data: b"GET /\r\n" }).send();
        }),
        ("... the last byte that there can be", FLOW_CONTROL_ERROR, |client| {
            let offset = VarInt::MAX.as_u64() - 1;
            client.packet(Kind::OneRtt).frame(&Stream { id: BI, offset, fin: true, data: b"G" }).send();
        }),
        ("STREAM_LIMIT_ERROR if a stream ID exceeding the limit", STREAM_LIMIT_ERROR, |client| {
            let id = stream(Side::Client, Direction::Bi, 250_000_000);
            client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"GET /\r\n" }).send();
        }),
        ("... the first past it, one way", STREAM_LIMIT_ERROR, |client| {
            let id = stream(Side::Client, Direction::Uni, 100);
            client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: false, data: b"" }).send();
        }),
    ]);
}

/// Transport parameters of a client, with one more or without one.
fn with(id: u64, value: &'static [u8]) -> Make {
    Box::new(move |client| {
        client.parameters(move |ids: &Ids| {
            let mut out = parameters(&ids.source);
            parameter(&mut out, id, value);
            out
        })
    })
}

fn with_number(id: u64, value: u64) -> Make {
    let mut encoded = Vec::new();
    varint(&mut encoded, value);
    with(id, encoded.leak())
}

#[test]
fn transport_parameters() {
    let preferred_address: &[u8] = &[&[127, 0, 0, 1, 1, 0xbb][..], &[0; 18], &[8], &[1; 8], &[2; 16]].concat();
    let preferred_address = preferred_address.to_vec().leak();
    let missing: Make = Box::new(|client| {
        // It is the last one, of ten bytes.
        client.parameters(|ids| parameters(&ids.source)[..].split_last_chunk::<10>().expect("more than ten bytes").0.to_vec())
    });
    in_the_handshake(vec![
        ("TRANSPORT_PARAMETER_ERROR if initial_source_connection_id is missing [7.3]", TRANSPORT_PARAMETER_ERROR, missing),
        ("... if original_destination_connection_id is received [18.2]", TRANSPORT_PARAMETER_ERROR, with(0x00, b"DUMMY")),
        ("... if preferred_address is received [18.2]", TRANSPORT_PARAMETER_ERROR, with(0x0d, preferred_address)),
        ("... if retry_source_connection_id is received [18.2]", TRANSPORT_PARAMETER_ERROR, with(0x10, b"DUMMY")),
        ("... if stateless_reset_token is received [18.2]", TRANSPORT_PARAMETER_ERROR, with(0x02, &[7; 16])),
        ("... if max_udp_payload_size < 1200 [7.4, 18.2]", TRANSPORT_PARAMETER_ERROR, with_number(0x03, 1090)),
        ("... by one", TRANSPORT_PARAMETER_ERROR, with_number(0x03, 1199)),
        ("... if ack_delay_exponent > 20 [7.4, 18.2]", TRANSPORT_PARAMETER_ERROR, with_number(0x0a, 30)),
        ("... by one", TRANSPORT_PARAMETER_ERROR, with_number(0x0a, 21)),
        ("... if max_ack_delay >= 2^14 [7.4, 18.2]", TRANSPORT_PARAMETER_ERROR, with_number(0x0b, 1 << 15)),
        ("... just so", TRANSPORT_PARAMETER_ERROR, with_number(0x0b, 1 << 14)),
    ]);
}

#[test]
fn packets() {
    after_the_handshake(&[
        ("FRAME_ENCODING_ERROR if a frame of unknown type is received [12.4]", FRAME_ENCODING_ERROR, |client| {
            client.packet(Kind::OneRtt).raw(&[0x20]).frame(&Ping).send();
        }),
        ("PROTOCOL_VIOLATION on no frames [12.4]", PROTOCOL_VIOLATION, |client| {
            client.packet(Kind::OneRtt).send();
        }),
        ("PROTOCOL_VIOLATION if reserved bits in Short are non-zero [17.2]", PROTOCOL_VIOLATION, |client| {
            client.packet(Kind::OneRtt).reserved(1).frame(&Ping).send();
        }),
        ("... the other one", PROTOCOL_VIOLATION, |client| {
            client.packet(Kind::OneRtt).reserved(2).frame(&Ping).send();
        }),
        ("PROTOCOL_VIOLATION if NEW_TOKEN is received [19.7]", PROTOCOL_VIOLATION, |client| {
            client.packet(Kind::OneRtt).frame(&weald_quic::codec::NewToken { token: b"token" }).send();
        }),
        ("PROTOCOL_VIOLATION if HANDSHAKE_DONE is received [19.20]", PROTOCOL_VIOLATION, |client| {
            client.packet(Kind::OneRtt).frame(&weald_quic::codec::HandshakeDone).send();
        }),
    ]);
}

/// Before the handshake is over, as a server discards its Handshake keys then.
#[test]
fn handshake_packets() {
    let checks: [(&str, Act); 4] = [
        ("PROTOCOL_VIOLATION if reserved bits in Handshake are non-zero [17.2]", |client| {
            client.packet(Kind::Handshake).reserved(1).frame(&Ping).send();
        }),
        ("... the other one", |client| {
            client.packet(Kind::Handshake).reserved(2).frame(&Ping).send();
        }),
        ("PROTOCOL_VIOLATION if PATH_CHALLENGE in Handshake is received [17.2.4]", |client| {
            client.packet(Kind::Handshake).frame(&PathChallenge(*b"01234567")).send();
        }),
        ("PROTOCOL_VIOLATION on no frames [12.4], in Handshake", |client| {
            client.packet(Kind::Handshake).send();
        }),
    ];
    under_attack("h3spec", 3, Setup::new(3), |arena| {
        for (number, (name, act)) in (1..).zip(checks) {
            println!("{name}");
            let mut client = arena.client(number);
            client.handshake(Stage::HandshakeKeys);
            act(&mut client);
            client.expect_close(PROTOCOL_VIOLATION);
        }
        arena.expect_forgotten();
    });
}

#[test]
fn streams() {
    const CODE: fn() -> ApplicationCode = || ApplicationCode::from(7);
    after_the_handshake(&[
        ("STREAM_STATE_ERROR if RESET_STREAM is received for a send-only stream [19.4]", STREAM_STATE_ERROR, |client| {
            let id = stream(Side::Server, Direction::Uni, 0);
            client.packet(Kind::OneRtt).frame(&ResetStream { id, code: CODE(), final_size: 0 }).send();
        }),
        ("STREAM_STATE_ERROR if STOP_SENDING is received for a non-existing stream [19.5]", STREAM_STATE_ERROR, |client| {
            let id = stream(Side::Server, Direction::Bi, 25);
            client.packet(Kind::OneRtt).frame(&StopSending { id, code: CODE() }).send();
        }),
        ("... one-way", STREAM_STATE_ERROR, |client| {
            let id = stream(Side::Server, Direction::Uni, 0);
            client.packet(Kind::OneRtt).frame(&StopSending { id, code: CODE() }).send();
        }),
        ("STREAM_STATE_ERROR if a STREAM frame is for a locally-initiated stream not yet created [19.8]", STREAM_STATE_ERROR, |client| {
            let id = stream(Side::Server, Direction::Bi, 0);
            client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"x" }).send();
        }),
        ("STREAM_STATE_ERROR if it receives a STREAM frame for a send-only stream [19.8]", STREAM_STATE_ERROR, |client| {
            let id = stream(Side::Server, Direction::Uni, 0);
            client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"x" }).send();
        }),
        ("STREAM_STATE_ERROR if MAX_STREAM_DATA is received for a stream not yet created [19.10]", STREAM_STATE_ERROR, |client| {
            let id = stream(Side::Server, Direction::Bi, 25);
            client.packet(Kind::OneRtt).frame(&MaxStreamData { id, limit: 1_000_000 }).send();
        }),
        ("STREAM_STATE_ERROR if MAX_STREAM_DATA is received for a receive-only stream [19.10]", STREAM_STATE_ERROR, |client| {
            let id = stream(Side::Client, Direction::Uni, 0);
            client.packet(Kind::OneRtt).frame(&MaxStreamData { id, limit: 1_000_000 }).send();
        }),
    ]);
}

#[test]
fn frames() {
    fn new_connection_id(client: &mut Attacker, sequence: u64, retire_prior_to: u64, id: &[u8]) {
        let mut frame = vec![0x18];
        varint(&mut frame, sequence);
        varint(&mut frame, retire_prior_to);
        frame.push(id.len() as u8);
        frame.extend_from_slice(id);
        frame.extend_from_slice(&[9; 16]);
        client.packet(Kind::OneRtt).raw(&frame).send();
    }
    fn counted(client: &mut Attacker, frame_type: u64) {
        let mut frame = Vec::new();
        varint(&mut frame, frame_type);
        varint(&mut frame, (1 << 60) + 1);
        client.packet(Kind::OneRtt).raw(&frame).send();
    }
    // The same bytes are a valid frame where the numbers are.
    let valid = NewConnectionId {
        sequence: CidSequence::from(VarInt::from_u32(1)),
        retire_prior_to: CidSequence::ZERO,
        id: ConnectionId::new(&[1; 8]).expect("at most 20 bytes"),
        reset_token: ResetToken::from([9; 16]),
    };
    under_attack("none", 4, Setup::new(4), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        client.packet(Kind::OneRtt).frame(&valid).frame(&StreamsBlocked { direction: Direction::Bi, limit: 1 << 60 }).send();
        client.expect_alive();
    });
    after_the_handshake(&[
        ("FRAME_ENCODING_ERROR if invalid MAX_STREAMS is received [19.11]", FRAME_ENCODING_ERROR, |client| counted(client, 0x12)),
        ("... of the other kind", FRAME_ENCODING_ERROR, |client| counted(client, 0x13)),
        ("STREAM_LIMIT_ERROR or FRAME_ENCODING_ERROR if invalid STREAMS_BLOCKED is received [19.14]", FRAME_ENCODING_ERROR, |client| {
            counted(client, 0x16);
        }),
        ("... of the other kind", FRAME_ENCODING_ERROR, |client| counted(client, 0x17)),
        ("FRAME_ENCODING_ERROR if NEW_CONNECTION_ID with invalid Retire_Prior_To is received [19.15]", FRAME_ENCODING_ERROR, |client| {
            new_connection_id(client, 1, 10, &[1; 8]);
        }),
        ("... by one", FRAME_ENCODING_ERROR, |client| new_connection_id(client, 1, 2, &[1; 8])),
        ("FRAME_ENCODING_ERROR if NEW_CONNECTION_ID with 0-byte CID is received [19.15]", FRAME_ENCODING_ERROR, |client| {
            new_connection_id(client, 1, 0, &[]);
        }),
        ("... of 21 bytes", FRAME_ENCODING_ERROR, |client| new_connection_id(client, 1, 0, &[1; 21])),
    ]);
}

#[test]
fn tls_messages() {
    /// Changes what the client sends at one level.
    fn editing(at: Level, edit: fn(&mut Vec<u8>)) -> Make {
        Box::new(move |client| {
            client.crypto(move |level, data| {
                if level == at {
                    edit(data);
                }
            })
        })
    }
    fn offering(alpn: &'static [u8]) -> Make {
        Box::new(move |client| {
            let builder = weald_crypto::ClientConfig::builder().alpn([alpn]);
            client.client_tls(builder.roots(weald_crypto::simulation::roots()).simulation(1).build().expect("the fixture is valid"))
        })
    }
    in_the_handshake(vec![
        (
            "unexpected_message TLS alert if KeyUpdate in Handshake is received [TLS 6]",
            UNEXPECTED_MESSAGE,
            editing(Level::Handshake, |data| data.extend_from_slice(&KEY_UPDATE)),
        ),
        ("... before Finished", UNEXPECTED_MESSAGE, editing(Level::Handshake, |data| drop(data.splice(..0, KEY_UPDATE)))),
        (
            "no_application_protocol TLS alert if no application protocols are supported [TLS 8.1]",
            NO_APPLICATION_PROTOCOL,
            offering(b"dummy"),
        ),
        (
            "... if none is offered",
            NO_APPLICATION_PROTOCOL,
            editing(Level::Initial, |data| edit_extension(data, APPLICATION_LAYER_PROTOCOL_NEGOTIATION, None)),
        ),
        (
            "missing_extension TLS alert if the quic_transport_parameters extension is not included [TLS 8.2]",
            MISSING_EXTENSION,
            editing(Level::Initial, |data| edit_extension(data, QUIC_TRANSPORT_PARAMETERS, None)),
        ),
        (
            "... but under the number of a draft",
            MISSING_EXTENSION,
            editing(Level::Initial, |data| edit_extension(data, QUIC_TRANSPORT_PARAMETERS, Some(0xffa5))),
        ),
        (
            "unexpected_message TLS alert if EndOfEarlyData is received [TLS 8.3]",
            UNEXPECTED_MESSAGE,
            editing(Level::Handshake, |data| drop(data.splice(..0, END_OF_EARLY_DATA))),
        ),
        ("... behind Finished", UNEXPECTED_MESSAGE, editing(Level::Handshake, |data| data.extend_from_slice(&END_OF_EARLY_DATA))),
    ]);
    after_the_handshake(&[
        ("unexpected_message TLS alert if KeyUpdate in 1-RTT is received [TLS 6]", UNEXPECTED_MESSAGE, |client| {
            client.send_crypto(Kind::OneRtt, &KEY_UPDATE);
        }),
        ("... a byte of it", UNEXPECTED_MESSAGE, |client| client.send_crypto(Kind::OneRtt, &KEY_UPDATE[..1])),
    ]);
}

/// RFC 9001, 8.2, at a client: it is in EncryptedExtensions, whose own extensions begin behind six bytes.
#[test]
fn missing_extensions_of_a_server() {
    fn edit(data: &mut [u8], other: u16) {
        let mut at = 6;
        while data[at..at + 2] != QUIC_TRANSPORT_PARAMETERS.to_be_bytes() {
            at += 4 + usize::from(u16::from_be_bytes([data[at + 2], data[at + 3]]));
        }
        data[at..at + 2].copy_from_slice(&other.to_be_bytes());
    }
    // A draft's number, and nobody's: this one a client has not asked for, which TLS minds first.
    for (other, code) in [(0xffa5, MISSING_EXTENSION), (0x2a2a, UNSUPPORTED_EXTENSION)] {
        let ended = client_under_attack("no transport parameters", 5, move |server| {
            let mut server = server.crypto(move |level, data| {
                if level == Level::Handshake {
                    edit(data, other);
                }
            });
            let _ = server.try_handshake(Stage::Confirmed);
            server.expect_close(code);
        });
        assert!(matches!(&ended, Some(ConnectionError::Transport(error)) if error.code.as_u64() == code), "{ended:?}");
    }
}

#[test]
fn early_data() {
    let setup = Setup::of(early_server_config(6, TransportConfig::default()));
    under_attack("h3spec", 6, setup, |arena| {
        println!("PROTOCOL_VIOLATION if CRYPTO in 0-RTT is received [TLS 8.3]");
        let mut client = arena.early_client(1);
        client.handshake(Stage::HelloSent);
        client.packet(Kind::ZeroRtt).frame(&Crypto { offset: 0, data: &END_OF_EARLY_DATA }).send();
        client.expect_close(PROTOCOL_VIOLATION);
        println!("... a byte of it, when early data is accepted, behind data");
        let mut client = arena.early_client(2);
        client.handshake(Stage::HelloSent);
        client.packet(Kind::ZeroRtt).frame(&Stream { id: BI, offset: 0, fin: false, data: b"GET /" }).send();
        client.handshake(Stage::HandshakeKeys);
        client.packet(Kind::ZeroRtt).frame(&Crypto { offset: 0, data: &END_OF_EARLY_DATA[..1] }).send();
        client.expect_close(PROTOCOL_VIOLATION);
        arena.expect_forgotten();
    });
}

/// Removes an extension from a ClientHello (RFC 8446, 4.1.2), or gives it another number.
///
/// # Panics
///
/// If it is no ClientHello, or has no such extension.
fn edit_extension(hello: &mut Vec<u8>, number: u16, other: Option<u16>) {
    let read = |hello: &[u8], at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    // Type and length, version, random; session id, cipher suites, compression methods.
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + read(hello, at);
    at += 1 + usize::from(hello[at]);
    let all = at;
    at += 2;
    while read(hello, at) != usize::from(number) {
        at += 4 + read(hello, at + 2);
    }
    let len = 4 + read(hello, at + 2);
    match other {
        Some(other) => hello[at..at + 2].copy_from_slice(&other.to_be_bytes()),
        None => {
            hello.drain(at..at + len);
            let extensions = (read(hello, all) - len) as u16;
            hello[all..all + 2].copy_from_slice(&extensions.to_be_bytes());
            let body = (hello.len() - 4) as u32;
            hello[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
        }
    }
}
