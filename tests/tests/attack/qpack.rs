//! Integers without end in HTTP/3's field compression (Netty CVE-2026-100661), one byte at a time, against a whole server that an honest
//! client uses all along.

use std::time::Duration;

use weald_http3::{Client, Config, server};
use weald_quic::codec::Stream;
use weald_quic::{Direction, Endpoint, Side, StreamId, TransportConfig};
use weald_runtime::channel::bounded;
use weald_runtime::{sleep, spawn};
use weald_tests::attacker::{Attacker, Closed, Kind, Stage};
use weald_tests::world::{client_address, link, server_address, simulate_untraced};

const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
const QPACK_DECODER_STREAM_ERROR: u64 = 0x202;

fn client_tls(seed: u64) -> weald_crypto::ClientConfig {
    let builder = weald_crypto::ClientConfig::builder().alpn([weald_http3::ALPN]).roots(weald_crypto::simulation::roots());
    builder.simulation(seed).build().expect("the fixture is valid")
}

fn start() -> Endpoint {
    let (chain, key) = weald_crypto::simulation::server_credentials();
    let tls = weald_crypto::ServerConfig::builder().alpn([weald_http3::ALPN]).certificate(chain, key).simulation(1);
    let config = weald_quic::ServerConfig::new(tls.build().expect("the fixture is valid")).transport(TransportConfig::default());
    let endpoint = Endpoint::server(config, server_address()).expect("a server");
    let serving = endpoint.clone();
    spawn(move || {
        server::serve(&serving, Config::default(), |_, responder| responder.send_with_body(http::Response::new(()), "body"));
    });
    endpoint
}

/// A stream of the client's that begins with `start`, then has the byte `endless` as often as it likes. Gives the code that the server
/// closes the connection with, and after how many bytes.
fn trickle(number: u16, direction: Direction, start: &[u8], endless: u8) -> (u64, u64) {
    const MOST: u64 = 100;
    let mut client = Attacker::client(number.into(), client_address(number), server_address()).client_tls(client_tls(number.into()));
    client.handshake(Stage::Confirmed);
    let id = StreamId::new(Side::Client, direction, 0).expect("a stream id");
    client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: false, data: start }).send();
    for sent in 0..MOST {
        client.packet(Kind::OneRtt).frame(&Stream { id, offset: start.len() as u64 + sent, fin: false, data: &[endless] }).send();
        // Its answer takes 20 ms.
        if let Some(closed) = client.run(Duration::from_millis(40)) {
            let Closed::Application(code) = closed else { panic!("{closed:?}") };
            return (code, sent);
        }
    }
    panic!("{MOST} bytes, and no end");
}

#[test]
fn integers_without_end_on_the_streams_of_qpack_and_in_a_field_section() {
    simulate_untraced(1, link(), || {
        let server = start();
        let endpoint = Endpoint::client(client_address(999)).expect("a client");
        let config = weald_quic::ClientConfig::new(client_tls(999));
        let connection = endpoint.connect_with(config, server_address(), weald_crypto::simulation::SERVER_NAME).expect("a connection");
        let honest = Client::new(connection, Config::default()).expect("a client");
        let get = move || {
            let response = honest.get("https://localhost/".parse().expect("a URI")).expect("an answer");
            assert_eq!(response.into_body().read_to_end(100).expect("a body"), b"body");
        };
        get();
        let (stop, stopped) = bounded(1);
        let all_along = spawn(move || {
            while stopped.try_recv().is_err() {
                get();
                sleep(Duration::from_millis(50));
            }
        });
        let cases: [(&str, Direction, &[u8], u8, u64); 6] = [
            // Set Dynamic Table Capacity (RFC 9204, 4.3.1), whose prefix has five bits; the same, of ones.
            ("zeros on the encoder stream", Direction::Uni, &[0x02, 0x3f], 0x80, QPACK_ENCODER_STREAM_ERROR),
            ("ones on the encoder stream", Direction::Uni, &[0x02, 0x3f], 0xff, QPACK_ENCODER_STREAM_ERROR),
            // Stream Cancellation (4.4.2).
            ("zeros on the decoder stream", Direction::Uni, &[0x03, 0x7f], 0x80, QPACK_DECODER_STREAM_ERROR),
            ("ones on the decoder stream", Direction::Uni, &[0x03, 0x7f], 0xff, QPACK_DECODER_STREAM_ERROR),
            // HEADERS of 20 bytes: Required Insert Count (4.5.1.1); a string's length (4.1.2).
            ("zeros in a field section", Direction::Bi, &[0x01, 20, 0xff], 0x80, QPACK_DECOMPRESSION_FAILED),
            ("ones in a field section", Direction::Bi, &[0x01, 20, 0x00, 0x00, 0x27], 0xff, QPACK_DECOMPRESSION_FAILED),
        ];
        for (number, (row, direction, start, endless, expected)) in (1..).zip(cases) {
            let (code, sent) = trickle(number, direction, start, endless);
            assert_eq!(code, expected, "{row}");
            // Nine bytes are all that a number of 62 bits needs; a section is read whole.
            assert!(sent <= 20, "{row}: {sent} bytes");
        }
        stop.send(()).expect("it listens");
        all_along.join().expect("the honest client does not notice");
        server.close(0_u32.into(), b"");
    });
}
