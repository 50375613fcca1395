//! Peers whose packets are genuine and whose frames or transport parameters are not, as clients and as servers (RFC 9000, 11,
//! 21): the connection closes with the right code, and no other is touched. What is permitted is bounded.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::{Level, simulation};
use weald_quic::{ConnectError, ConnectionError, Endpoint, TransportConfig};
use weald_runtime::{sleep, spawn};
use weald_tests::attack::{Honest, attack, default_server, serve};
use weald_tests::hand::{Closed, HandPeer, parameter, parameters, varint};
use weald_tests::world::{client_address, client_config, link, server_address, server_config, simulate};

const SECOND: Duration = Duration::from_secs(1);
const TRANSPORT_PARAMETER_ERROR: u64 = 0x08;
const FRAME_ENCODING_ERROR: u64 = 0x07;
const PROTOCOL_VIOLATION: u64 = 0x0a;

/// RFC 9000, 12.4, 11, 20.1: the offender is told, and nobody else is touched.
#[test]
fn a_malformed_frame_closes_that_connection_with_the_right_code() {
    attack(4, default_server(4), |server| {
        let connections = server.open_connections();
        let cases: [(&[u8], u64); 9] = [
            (&[0x40, 0x55], FRAME_ENCODING_ERROR),
            (&[0x1f], FRAME_ENCODING_ERROR),
            (&[0x20], FRAME_ENCODING_ERROR),
            // A type that ends with the packet, in every width.
            (&[0x40], FRAME_ENCODING_ERROR),
            (&[0x06, 0x00, 0x40], FRAME_ENCODING_ERROR),
            // More ranges than any packet has room for.
            (&[0x02, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00], FRAME_ENCODING_ERROR),
            (&[0x1e], PROTOCOL_VIOLATION),
            // Data of a stream of the server's that it never opened.
            (&[0x0a, 0x01, 0x01, 0x00], 0x05),
            // One stream too many.
            (&[0x0a, 0x44, 0x00, 0x01, 0x00], 0x04),
        ];
        for (number, (frames, code)) in cases.into_iter().enumerate() {
            let number = number as u16 + 1;
            let mut client = HandPeer::new(number.into(), client_address(number), server_address(), parameters);
            client.connect();
            // The last bytes of a packet: without padding, so that what is cut short stays so.
            client.send_frames(Level::OneRtt, &[&[0x01, 0x01, 0x01][..], frames].concat());
            match client.run(5 * SECOND) {
                Some(Closed::Transport(told, _)) => assert_eq!(told, code, "{frames:02x?}"),
                other => panic!("{frames:02x?}: {other:?}"),
            }
        }
        // What is closed is forgotten (RFC 9000, 10.2).
        sleep(10 * SECOND);
        assert_eq!(server.open_connections(), connections);
    });
}

/// RFC 9000, 7.4, 18.2. In the handshake, where all that the peer can open by then says so.
#[test]
fn malformed_transport_parameters_close_that_connection_with_the_right_code() {
    fn with(id: u64, value: &'static [u8]) -> impl Fn(&[u8]) -> Vec<u8> {
        move |source| {
            let mut out = parameters(source);
            parameter(&mut out, id, value);
            out
        }
    }
    type Make = Box<dyn Fn(&[u8]) -> Vec<u8>>;
    let cases: Vec<(&str, Make)> = vec![
        ("none at all", Box::new(|_| Vec::new())),
        ("no initial_source_connection_id", Box::new(|_| parameters(&[])[..].split_last_chunk::<2>().expect("two bytes").0.to_vec())),
        ("another initial_source_connection_id", Box::new(|source| parameters(&[source, &[1]].concat()))),
        ("one twice", Box::new(with(0x04, &[0x01]))),
        ("an end inside", Box::new(|source| [parameters(source), vec![0x01, 0x02, 0x40]].concat())),
        ("a length without an end", Box::new(|source| [parameters(source), vec![0x01]].concat())),
        ("a number with bytes behind it", Box::new(with(0x01, &[0x01, 0x00]))),
        ("max_udp_payload_size of 1199", Box::new(with(0x03, &[0x44, 0xaf]))),
        ("ack_delay_exponent of 21", Box::new(with(0x0a, &[21]))),
        ("max_ack_delay of 2^14", Box::new(with(0x0b, &[0x80, 0x00, 0x40, 0x00]))),
        ("active_connection_id_limit of 1", Box::new(with(0x0e, &[0x01]))),
        ("active_connection_id_limit that is empty", Box::new(with(0x0e, &[]))),
        ("stateless_reset_token from a client", Box::new(with(0x02, &[7; 16]))),
        ("original_destination_connection_id from a client", Box::new(with(0x00, &[7; 8]))),
        ("retry_source_connection_id from a client", Box::new(with(0x10, &[7; 8]))),
        ("preferred_address from a client", Box::new(with(0x0d, &[7; 49]))),
        (
            "initial_max_streams above 2^60",
            Box::new(|source| {
                let mut out = Vec::new();
                let mut number = Vec::new();
                varint(&mut number, (1 << 60) + 1);
                parameter(&mut out, 0x08, &number);
                parameter(&mut out, 0x0f, source);
                out
            }),
        ),
    ];
    attack(5, default_server(5), |server| {
        let connections = server.open_connections();
        for (number, (name, parameters)) in cases.into_iter().enumerate() {
            let number = number as u16 + 1;
            let mut client = HandPeer::new(number.into(), client_address(number), server_address(), parameters);
            let first = client.first_flight();
            client.send(&first);
            match client.run(5 * SECOND) {
                Some(Closed::Transport(code, _)) => assert_eq!(code, TRANSPORT_PARAMETER_ERROR, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        sleep(20 * SECOND);
        assert_eq!(server.open_connections(), connections);
    });
}

/// A client that has a connection to an honest server connects to one that breaks rules, by `hostile`, which gets the address
/// to be at. Gives why the client says that it failed.
fn connect_to_hostile(seed: u64, hostile: impl FnOnce(SocketAddr) + Send + 'static) -> ConnectionError {
    let address = SocketAddr::from(([10, 0, 0, 2], 443));
    simulate(seed, link(), || {
        let server = serve(default_server(seed));
        let hostile = spawn(move || hostile(address));
        let endpoint = Endpoint::client(client_address(1)).expect("a client");
        let config = client_config(seed, TransportConfig::default());
        let honest = endpoint.connect_with(config.clone(), server_address(), simulation::SERVER_NAME).expect("a connection");
        Honest::exchange(&honest, 1);
        let failure = match endpoint.connect_with(config, address, simulation::SERVER_NAME) {
            Ok(connection) => connection.closed(),
            Err(ConnectError::Connection(error)) => error,
            Err(other) => panic!("{other}"),
        };
        hostile.join().expect("it does not panic");
        // The endpoint's other connection did not notice.
        Honest::exchange(&honest, 2);
        server.close(0_u32.into(), b"");
        failure
    })
}

fn code_of(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::Transport(error) => error.code.as_u64(),
        other => panic!("the peer is not blamed: {other}"),
    }
}

/// What every client accepts from the server with id `source`, to which the first packet was sent as `original`.
fn server_parameters(original: &[u8], source: &[u8]) -> Vec<u8> {
    let mut out = parameters(source);
    parameter(&mut out, 0x00, original);
    out
}

/// RFC 9000, 7.3, 7.4, 18.2, at a client.
#[test]
fn malformed_transport_parameters_of_a_server_are_refused() {
    type Make = fn(&[u8], &[u8]) -> Vec<u8>;
    let cases: [(&str, Make); 8] = [
        ("none at all", |_, _| Vec::new()),
        ("no original_destination_connection_id", |_, source| parameters(source)),
        ("another original_destination_connection_id", |_, source| server_parameters(&[7; 8], source)),
        ("another initial_source_connection_id", |original, _| server_parameters(original, &[7; 8])),
        ("retry_source_connection_id without a Retry", |original, source| {
            let mut out = server_parameters(original, source);
            parameter(&mut out, 0x10, source);
            out
        }),
        ("stateless_reset_token of 15 bytes", |original, source| {
            let mut out = server_parameters(original, source);
            parameter(&mut out, 0x02, &[7; 15]);
            out
        }),
        ("preferred_address with an id of no bytes", |original, source| {
            let mut out = server_parameters(original, source);
            parameter(&mut out, 0x0d, &[0; 41]);
            out
        }),
        ("one twice", |original, source| [server_parameters(original, source), parameters(source)].concat()),
    ];
    for (name, make) in cases {
        let error = connect_to_hostile(10, move |address| {
            let mut server = HandPeer::accept(10, address, make);
            match server.run(5 * SECOND) {
                Some(Closed::Transport(code, _)) => assert_eq!(code, TRANSPORT_PARAMETER_ERROR, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        });
        assert_eq!(code_of(&error), TRANSPORT_PARAMETER_ERROR, "{name}");
    }
}

/// RFC 9000, 12.4, 19, at a client.
#[test]
fn a_malformed_frame_of_a_server_closes_that_connection_with_the_right_code() {
    let cases = [
        (vec![0x40, 0x55], FRAME_ENCODING_ERROR),
        // NEW_TOKEN without one.
        (vec![0x07, 0x00], FRAME_ENCODING_ERROR),
        // NEW_CONNECTION_ID that retires more than itself.
        ([&[0x18, 0x01, 0x02, 0x08][..], &[7; 24]].concat(), FRAME_ENCODING_ERROR),
        // Data of a stream that the client never opened.
        (vec![0x0a, 0x00, 0x01, 0x00], 0x05),
        // One stream too many.
        (vec![0x0a, 0x44, 0x01, 0x01, 0x00], 0x04),
        // More data than was permitted.
        (vec![0x0e, 0x03, 0xc0, 0, 0, 0, 0x40, 0, 0, 0, 0x01, 0xff], 0x03),
    ];
    for (frames, code) in cases {
        let name = format!("{frames:02x?}");
        let failure = connect_to_hostile(11, move |address| {
            let mut server = HandPeer::accept(11, address, server_parameters);
            server.connect();
            server.send_frames(Level::OneRtt, &frames);
            match server.run(5 * SECOND) {
                Some(Closed::Transport(told, _)) => assert_eq!(told, code, "{frames:02x?}"),
                other => panic!("{frames:02x?}: {other:?}"),
            }
        });
        assert_eq!(code_of(&failure), code, "{name}");
    }
}

/// A client that follows the protocol's letter, and sends without end what costs it little: what it is worth in memory stays
/// within its windows, or the connection closes.
#[test]
fn floods_of_valid_frames_are_bounded() {
    const PACKETS: u64 = 3000;
    /// The connection of a client by hand has windows of this size.
    const WINDOW: u32 = 100_000;
    type Flood = fn(u64) -> Vec<u8>;
    fn numbers(frame_type: u64, values: &[u64]) -> Vec<u8> {
        let mut frame = Vec::new();
        varint(&mut frame, frame_type);
        values.iter().for_each(|value| varint(&mut frame, *value));
        frame
    }
    let floods: [(&str, Flood); 11] = [
        // CVE-2024-22189
        ("NEW_CONNECTION_ID that retires all before it", |n| {
            let mut frame = numbers(0x18, &[n + 1, n + 1]);
            frame.push(8);
            frame.extend_from_slice(&n.to_be_bytes());
            frame.extend_from_slice(&[n as u8; 16]);
            frame
        }),
        // CVE-2023-49295
        ("PATH_CHALLENGE", |n| (0..100).flat_map(|at| [&[0x1a][..], &(n * 100 + at).to_be_bytes()].concat()).collect()),
        ("a byte at each second offset, the first withheld", |n| {
            let offsets = (0..16).map(|at| 1 + 2 * (n * 16 + at)).filter(|offset| *offset < WINDOW.into());
            offsets.flat_map(|offset| [numbers(0x0e, &[0, offset, 1]), vec![0x55]].concat()).chain([0x01]).collect()
        }),
        ("empty STREAM frames", |n| (0..100).flat_map(|_| numbers(0x0e, &[0, n % 100, 0])).collect()),
        ("a stream opened and reset", |n| numbers(0x04, &[4 * (n % 100), 7, 0])),
        ("STOP_SENDING", |n| numbers(0x05, &[4 * (n % 100), 7])),
        ("STREAM_DATA_BLOCKED", |n| numbers(0x15, &[4 * (n % 100), n])),
        ("MAX_STREAMS", |n| numbers(0x12, &[1000 + n])),
        ("DATA_BLOCKED and PING", |n| [numbers(0x14, &[n]), vec![0x01]].concat()),
        ("PATH_RESPONSE", |n| [&[0x1b][..], &n.to_be_bytes()].concat()),
        ("ACK of the first packet, again", |_| vec![0x02, 0x00, 0x00, 0x00, 0x00]),
    ];
    for (number, (name, flood)) in (1..).zip(floods) {
        let transport = TransportConfig::default().stream_window(WINDOW).connection_window(WINDOW);
        let most = simulate(12, link(), || {
            let server = Endpoint::server(server_config(12, transport), server_address()).expect("a server");
            let accepting = server.clone();
            // The application accepts the connection, and nothing else.
            let accepted = spawn(move || accepting.accept().expect("a connection comes"));
            let mut client = HandPeer::new(number, client_address(1), server_address(), parameters);
            client.connect();
            let connection = accepted.join().expect("no panic");
            let mut most = 0;
            for n in 0..PACKETS {
                let packet = client.packet(Level::OneRtt, &flood(n), 0);
                client.send(&packet);
                if n % 50 == 49 {
                    sleep(Duration::from_millis(5));
                    most = most.max(connection.memory());
                }
            }
            sleep(SECOND);
            let reply = client.bytes_sent;
            while client.closed.is_none() && client.receive_raw(Duration::from_millis(100)).is_some() {}
            assert!(client.bytes_received < 2 * reply, "{name}: {} bytes answer {reply}", client.bytes_received);
            most.max(connection.memory())
        });
        println!("{name}: {most} bytes");
        assert!(most < 3 * WINDOW as usize, "{name}: {most} bytes");
    }
}
