//! Peers that break the rules, at the level of datagrams, against a whole endpoint that serves an honest client beside them
//! (RFC 9000, 21). Oracle: the offender gets what the RFC says, at most its share of memory and bytes, and the honest
//! client does not notice.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::{Level, simulation};
use weald_quic::{ConnectError, Connection, ConnectionError, Endpoint, ServerConfig, TransportConfig};
use weald_runtime::net::UdpSocket;
use weald_runtime::sim::{self, Verdict};
use weald_runtime::time::Instant;
use weald_runtime::{JoinHandle, sleep, spawn};
use weald_tests::hand::{Closed, FULL, HandPeer, parameter, parameters, varint};
use weald_tests::world::{
    client_address, client_config, link, receive, send, server_address, server_config, server_config_with_chain, simulate,
};

const SECOND: Duration = Duration::from_secs(1);
const TRANSPORT_PARAMETER_ERROR: u64 = 0x08;
const FRAME_ENCODING_ERROR: u64 = 0x07;
const PROTOCOL_VIOLATION: u64 = 0x0a;

/// A server that gives each stream back as it came.
fn serve(config: ServerConfig) -> Endpoint {
    fn echo(connection: &Connection) {
        while let Ok((mut out, mut input)) = connection.accept_bi() {
            spawn(move || {
                if let Ok(bytes) = input.read_to_end(1 << 20)
                    && out.write_all(&bytes).is_ok()
                {
                    let _ = out.finish();
                    let _ = out.stopped();
                }
            });
        }
    }
    let endpoint = Endpoint::server(config, server_address()).expect("a server");
    let accepting = endpoint.clone();
    spawn(move || {
        while let Some(connection) = accepting.accept() {
            spawn(move || echo(&connection));
        }
    });
    endpoint
}

/// An honest client that has exchanged data with the server before the attack, does so all along, and once more afterwards.
struct Honest {
    connection: Connection,
    all_along: JoinHandle<usize>,
    stop: weald_runtime::channel::Sender<()>,
}

impl Honest {
    fn begin() -> Self {
        let endpoint = Endpoint::client(client_address(9999)).expect("a client");
        let config = client_config(99, TransportConfig::default());
        let connection = endpoint.connect_with(config, server_address(), simulation::SERVER_NAME).expect("a connection");
        Self::exchange(&connection, 0);
        let (stop, stopped) = weald_runtime::channel::bounded(1);
        let busy = connection.clone();
        let all_along = spawn(move || {
            let mut exchanges = 0;
            while stopped.try_recv().is_err() {
                exchanges += 1;
                Self::exchange(&busy, exchanges as u64);
                sleep(Duration::from_millis(50));
            }
            exchanges
        });
        Self { connection, all_along, stop }
    }

    fn exchange(connection: &Connection, seed: u64) {
        let (mut out, mut input) = connection.open_bi().expect("the connection lives");
        send(&mut out, seed, 5_000);
        receive(&mut input, seed, 5_000);
    }

    fn end(self) {
        self.stop.send(()).expect("it listens");
        assert!(self.all_along.join().expect("it does not panic") > 0);
        Self::exchange(&self.connection, 1);
        assert_eq!(self.connection.close_reason(), None);
        // Whoever comes after an attack is served, too.
        let mut next = HandPeer::new(12345, client_address(9998), server_address(), parameters);
        next.connect();
    }
}

/// Runs an attack on a server that an honest client uses.
fn attack(seed: u64, config: ServerConfig, attack: impl FnOnce(&Endpoint)) {
    simulate(seed, link(), || {
        let server = serve(config);
        let honest = Honest::begin();
        attack(&server);
        honest.end();
        server.close(0_u32.into(), b"");
    });
}

fn default_server(seed: u64) -> ServerConfig {
    server_config(seed, TransportConfig::default())
}

/// RFC 9000, 5.2: what is no QUIC, or is damaged, gets no answer and leaves nothing behind.
#[test]
fn noise_is_dropped() {
    attack(1, default_server(1), |server| {
        let mut rng = fastrand::Rng::with_seed(1);
        let socket = UdpSocket::bind(client_address(1)).expect("a socket");
        let connections = server.open_connections();
        for _ in 0..3000 {
            let mut noise = vec![0; rng.usize(0..1500)];
            rng.fill(&mut noise);
            // A version that is unknown may be answered; see below. Here it is version 1 or a short header, and too short
            // for a reset.
            if let Some(version) = noise.get_mut(1..5) {
                version.copy_from_slice(&[0, 0, 0, 1]);
            }
            if noise.first().is_some_and(|first| first & 0x80 == 0) {
                noise.truncate(20);
            }
            socket.send_to(&noise, server_address()).expect("it is sent");
            if rng.u32(0..100) == 0 {
                sleep(Duration::from_millis(1));
            }
        }
        socket.set_read_timeout(Some(SECOND)).expect("a timeout");
        assert!(socket.recv_from(&mut [0; 2048]).is_err(), "noise is answered");
        assert_eq!(server.open_connections(), connections);
        assert!(server.stats().dropped >= 2900, "{:?}", server.stats());
    });
}

/// RFC 9000, 14.1: a first datagram cut anywhere is dropped. So it is when it is filled up again, since it does not
/// authenticate.
#[test]
fn every_truncation_of_an_initial_is_dropped() {
    attack(2, default_server(2), |server| {
        let connections = server.open_connections();
        let mut client = HandPeer::new(7, client_address(1), server_address(), parameters);
        let whole = client.first_flight();
        assert_eq!(whole.len(), FULL);
        for len in 0..whole.len() {
            client.send(&whole[..len]);
            let mut filled = whole[..len].to_vec();
            filled.resize(FULL, 0x55);
            // The first bytes say which version it is; an unknown one is answered.
            if len >= 5 {
                client.send(&filled);
            }
            if len % 64 == 0 {
                sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(client.receive_raw(SECOND), None);
        assert_eq!(server.open_connections(), connections);
        // The same datagram whole is what a server waits for.
        client.send(&whole);
        while !client.confirmed {
            assert!(client.receive(SECOND));
        }
    });
}

/// RFC 9001, 5.5: a packet that does not authenticate is dropped, and the connection it pretends to be for goes on.
#[test]
fn flipped_bits_are_dropped() {
    attack(3, default_server(3), |server| {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut client = HandPeer::new(7, client_address(1), server_address(), parameters);
        let connections = server.open_connections();
        let first = client.first_flight();
        for _ in 0..500 {
            let mut changed = first.clone();
            // Not in the version, which would be answered, nor in the source id, which anybody may choose. (The
            // destination id makes the keys.)
            let at = match rng.usize(0..FULL - 13) {
                at @ 0 => at,
                at => at + 13,
            };
            if (15..23).contains(&at) {
                continue;
            }
            changed[at] ^= 1 << rng.u32(0..if at == 0 { 6 } else { 8 });
            client.send(&changed);
        }
        assert_eq!(client.receive_raw(SECOND), None);
        assert_eq!(server.open_connections(), connections);
        client.send(&first);
        while !client.confirmed {
            assert!(client.receive(SECOND));
        }
        let mut ping = client.packet(Level::OneRtt, &[0x01], 60);
        for _ in 0..500 {
            let mut changed = ping.clone();
            // The destination id stays, so that it gets as far as the connection.
            let at = rng.usize(1 + client.destination.len()..60);
            changed[at] ^= 1 << rng.u32(0..8);
            client.send(&changed);
        }
        while client.receive(SECOND) {}
        assert_eq!(client.closed, None);
        let before = client.bytes_received;
        client.send(&std::mem::take(&mut ping));
        assert!(client.receive(SECOND), "the real packet is acknowledged");
        assert!(client.bytes_received > before);
        assert_eq!(client.closed, None);
    });
}

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

/// RFC 9000, 6.1, 17.2.1: only a full datagram is answered, with the ids changed over, and a connection comes of neither.
#[test]
fn an_unknown_version_is_negotiated() {
    attack(6, default_server(6), |server| {
        let connections = server.open_connections();
        let mut client = HandPeer::new(1, client_address(1), server_address(), parameters);
        let genuine = client.first_flight();
        for version in [0x0a1a_2a3a_u32, 0xff00_001d, 0x6b33_43cf, 2, u32::MAX] {
            let mut datagram = genuine.clone();
            datagram[1..5].copy_from_slice(&version.to_be_bytes());
            client.send(&datagram[..FULL - 1]);
            assert_eq!(client.receive_raw(SECOND), None, "an answer to {} bytes", FULL - 1);
            client.send(&datagram);
            let answer = client.receive_raw(SECOND).expect("an answer");
            assert!(answer.len() < FULL);
            assert_eq!((answer[0] & 0x80, &answer[1..5]), (0x80, &[0; 4][..]));
            let ids = [&[8][..], &client.source, &[8], &client.destination].concat();
            let versions = answer[5..].strip_prefix(&ids[..]).expect("the ids, changed over");
            let mut versions = versions.chunks(4).map(|version| u32::from_be_bytes(version.try_into().expect("four bytes")));
            assert!(versions.clone().all(|offered| offered != version), "{version:#x}");
            assert!(versions.any(|offered| offered == 1));
        }
        // Version 0 is Version Negotiation itself, which a server ignores.
        let mut datagram = genuine.clone();
        datagram[1..5].copy_from_slice(&[0; 4]);
        client.send(&datagram);
        assert_eq!(client.receive_raw(SECOND), None);
        assert_eq!(server.open_connections(), connections);
        assert_eq!(server.stats().version_negotiations, 5);
    });
}

/// First packets of clients that do not exist, from forged addresses: no more of them are kept than the configuration says,
/// on each worker, and those for no longer than a handshake may take.
#[test]
fn a_flood_of_initials_is_bounded() {
    const PENDING: usize = 50;
    const WORKERS: usize = 2;
    attack(7, default_server(7).max_pending_handshakes(PENDING), |server| {
        let connections = server.open_connections();
        let mut clients: Vec<_> = (1..=100)
            .map(|number| {
                let mut client = HandPeer::new(number.into(), client_address(number), server_address(), parameters);
                let hello = client.hello();
                (client, hello)
            })
            .collect();
        let mut most = 0;
        for round in 0..10 {
            for (client, hello) in &mut clients {
                let first = client.packet(Level::Initial, hello, FULL);
                client.send(&first);
            }
            sleep(Duration::from_millis(100));
            most = most.max(server.open_connections() - connections);
            assert!(most <= WORKERS * PENDING, "round {round}: {most} handshakes");
        }
        assert!(most >= PENDING, "the flood did not reach the bound: {most}");
        assert!(server.stats().refused > 0);
        // RFC 9000, 8.1
        for (client, _) in &mut clients {
            while client.receive_raw(Duration::from_millis(1)).is_some() {}
            assert!(client.bytes_received <= 3 * client.bytes_sent);
        }
        sleep(30 * SECOND);
        assert_eq!(server.open_connections(), connections);
    });
}

/// What a server with a chain of many datagrams sends to clients that never say more than their first datagrams, as the wire
/// has it, until it gives up.
fn bytes_to_a_silent_client(chain: usize, datagrams: usize, first: impl Fn(&mut HandPeer, &[u8]) -> Vec<u8>) -> (usize, usize) {
    simulate(8, link(), || {
        let server = serve(server_config_with_chain(8, TransportConfig::default(), chain));
        let mut client = HandPeer::new(1, client_address(1), server_address(), parameters);
        let hello = client.hello();
        for _ in 0..datagrams {
            let datagram = first(&mut client, &hello);
            client.send(&datagram);
        }
        let start = Instant::now();
        while start.elapsed() < 60 * SECOND {
            sleep(SECOND);
        }
        assert_eq!(server.open_connections(), 0);
        let sent = |to: SocketAddr| {
            let is_sent = |verdict| matches!(verdict, Verdict::Sent { .. } | Verdict::Reordered { .. });
            sim::trace().iter().filter(|entry| entry.to == to && is_sent(entry.verdict)).map(|entry| entry.size).sum()
        };
        (sent(server_address()), sent(client.address()))
    })
}

/// RFC 9000, 8.1: probes and the close count as well, and each datagram is credited once, whatever is in it.
#[test]
fn three_times_what_a_client_sent_and_no_more() {
    let (sent, received) = bytes_to_a_silent_client(30, 1, |client, hello| client.packet(Level::Initial, hello, FULL));
    assert!(sent == FULL && (2 * FULL..=3 * FULL).contains(&received), "{received} bytes for {sent}");
    let (sent, received) = bytes_to_a_silent_client(30, 3, |client, hello| client.packet(Level::Initial, hello, FULL));
    assert!(sent == 3 * FULL && (3 * FULL..=9 * FULL).contains(&received), "{received} bytes for {sent}");
    // A short chain needs less, however often it is sent again.
    let (sent, received) = bytes_to_a_silent_client(1, 1, |client, hello| client.packet(Level::Initial, hello, FULL));
    assert!(sent == FULL && received <= 3 * FULL, "{received} bytes for {sent}");
    // Several packets in one datagram.
    let (sent, received) = bytes_to_a_silent_client(30, 1, |client, hello| {
        let hello = client.packet(Level::Initial, hello, 0);
        let pings: Vec<u8> = (0..5).flat_map(|_| client.packet(Level::Initial, &[0x01], 100)).collect();
        [hello, pings, client.packet(Level::Initial, &[0x01], 600)].concat()
    });
    assert!(sent >= FULL && received <= 3 * sent, "{received} bytes for {sent}");
}

/// RFC 9000, 10.3, 10.3.3: packets for nobody are answered by something shorter, or not at all, so that no two endpoints
/// talk for ever.
#[test]
fn packets_for_nobody_get_shrinking_answers() {
    attack(9, default_server(9), |server| {
        let socket = UdpSocket::bind(client_address(1)).expect("a socket");
        socket.set_read_timeout(Some(SECOND)).expect("a timeout");
        let mut buffer = [0; 2048];
        let mut rng = fastrand::Rng::with_seed(9);
        let mut answers = 0;
        for len in (1..60).chain([100, 1200, 1452]) {
            let mut datagram = vec![0; len];
            rng.fill(&mut datagram);
            datagram[0] = 0x40 | datagram[0] & 0x3f;
            loop {
                socket.send_to(&datagram, server_address()).expect("it is sent");
                let Ok((len, _)) = socket.recv_from(&mut buffer) else { break };
                assert!(len < datagram.len(), "{len} bytes answer {}", datagram.len());
                answers += 1;
                // The other endpoint does the same with what it gets.
                datagram.truncate(len);
                rng.fill(&mut datagram[1..]);
            }
        }
        assert!(answers > 0);
        assert!(server.stats().resets >= answers);
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
