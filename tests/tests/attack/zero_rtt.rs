//! 0-RTT packets that were captured and are sent again: where nobody has keys for them they are dropped unopened and leave nothing behind,
//! and where early data is taken it is heard once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_crypto::{Level, Tickets};
use weald_quic::codec::{Crypto, Frame, Stream};
use weald_quic::{Connection, EarlyData, Endpoint, RetryPolicy, ServerConfig, StreamId, TransportConfig, VarInt};
use weald_runtime::net::UdpSocket;
use weald_runtime::{sleep, spawn};
use weald_tests::attack::serve;
use weald_tests::attacker::{Attacker, Kind, Setup, Stage, under_attack};
use weald_tests::world::{
    client_address, client_tls, early_server_config, link, server_address, server_config, server_tls_builder, simulate_untraced,
};

const SECOND: Duration = Duration::from_secs(1);
const REPLAYS: u64 = 10_000;

/// A 0-RTT packet with data of a stream, of 1200 bytes.
fn early_data(client: &mut Attacker) -> Vec<u8> {
    let id = StreamId::from(VarInt::ZERO);
    client.packet(Kind::ZeroRtt).frame(&Stream { id, offset: 0, fin: true, data: b"buy" }).pad_to(1200).build()
}

fn replay(client: &mut Attacker, packet: &[u8]) {
    for round in 0..REPLAYS {
        client.send(packet);
        if round % 100 == 99 {
            sleep(Duration::from_millis(1));
        }
    }
}

/// RFC 9001, 5.7, 9.2: before the connection, in the handshake, and behind it.
#[test]
fn replays_are_dropped_in_each_state() {
    under_attack("0-RTT packets replayed", 1, Setup::new(1), |arena| {
        let connections = arena.server.open_connections();
        let before = arena.server.stats();
        let mut client = arena.client(1);
        let packet = early_data(&mut client);
        // Nobody knows the id.
        replay(&mut client, &packet);
        client.expect_silence();
        let after = arena.server.stats();
        assert_eq!(arena.server.open_connections(), connections);
        assert_eq!((after.dropped - before.dropped, after.refused), (REPLAYS, before.refused));
        arena.heap_below(4_000_000);
        // The client's first id, which its Initial packet has made known; before TLS is done, and after.
        client.handshake(Stage::HandshakeKeys);
        replay(&mut client, &packet);
        // They took no room from what waits for its keys: 1-RTT data in front of the client's Finished (RFC 9001, 5.7).
        while !client.has_keys(Kind::OneRtt) {
            client.next(SECOND).expect("the rest of the server's flight");
        }
        let id = StreamId::from(VarInt::ZERO);
        client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"echo" }).send();
        client.handshake(Stage::Complete);
        loop {
            let seen = client.next(SECOND).expect("the echo");
            if seen.frames().any(|frame| matches!(frame, Frame::Stream(Stream { data: b"echo", .. }))) {
                break;
            }
        }
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        let [connection] = &arena.connections()[..] else { panic!("one connection") };
        let dropped = connection.stats().packets_dropped;
        assert!(dropped >= REPLAYS, "{dropped} were dropped");
        // The id that the server gave.
        let packet = early_data(&mut client);
        replay(&mut client, &packet);
        client.expect_alive();
        assert!(connection.stats().packets_dropped >= dropped + REPLAYS);
        arena.memory_below(60_000);
    });
}

/// RFC 9001, 9.2: nor does a server that was started again know them.
#[test]
fn replays_across_a_restart_are_dropped() {
    simulate_untraced(2, link(), || {
        let start = |seed| -> Endpoint { serve(server_config(seed, TransportConfig::default())) };
        let server = start(2);
        let mut client = Attacker::client(2, client_address(1), server_address());
        client.handshake(Stage::HelloSent);
        let early = early_data(&mut client);
        client.handshake(Stage::Confirmed);
        let late = early_data(&mut client);
        client.expect_alive();
        server.close(0_u32.into(), b"");
        server.wait_idle();
        drop(server);
        // What it had running lets go of the address.
        sleep(SECOND);
        let server = start(3);
        for packet in [early, late] {
            // From where it was captured, and from elsewhere.
            replay(&mut client, &packet);
            let elsewhere = UdpSocket::bind(client_address(2)).expect("a free address");
            elsewhere.set_read_timeout(Some(SECOND)).expect("a timeout");
            for _ in 0..100 {
                elsewhere.send_to(&packet, server_address()).expect("it is sent");
            }
            assert!(elsewhere.recv_from(&mut [0; 2048]).is_err(), "an answer");
        }
        assert_eq!((server.open_connections(), server.stats().accepted, server.stats().refused.total()), (0, 0, 0));
        // Who comes anew is served.
        let serving = spawn(move || {
            let mut client = Attacker::client(4, client_address(3), server_address());
            client.handshake(Stage::Confirmed);
            client.expect_alive();
        });
        serving.join().expect("no panic");
        server.close(0_u32.into(), b"");
    });
}

/// What an application that takes early data has heard.
#[derive(Clone, Default)]
struct Heard {
    /// Streams that came early, and all.
    early: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    connections: Arc<Mutex<Vec<Connection>>>,
}

impl Heard {
    fn counts(&self) -> (usize, usize) {
        (self.early.load(Ordering::Relaxed), self.streams.load(Ordering::Relaxed))
    }

    fn serve(&self, config: ServerConfig) -> Endpoint {
        let endpoint = Endpoint::server(config, server_address()).expect("a server");
        let (accepting, heard) = (endpoint.clone(), self.clone());
        spawn(move || {
            while let Some(connection) = accepting.accept() {
                let heard = heard.clone();
                heard.connections.lock().expect("nobody panics").push(connection.clone());
                spawn(move || {
                    while let Ok((_, receive)) = connection.accept_bi() {
                        heard.early.fetch_add(receive.is_0rtt().into(), Ordering::Relaxed);
                        heard.streams.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        endpoint
    }
}

/// What a client sent first: its ClientHello, and early data. The server has taken it when this returns.
fn captured(number: u16, heard: &Heard) -> [Vec<u8>; 2] {
    let tls = client_tls(number.into());
    let mut before = Attacker::client(1, client_address(number), server_address()).client_tls(tls.clone());
    before.handshake(Stage::Confirmed);
    before.expect_alive();
    let hello = Arc::new(Mutex::new(Vec::new()));
    let copy = Arc::clone(&hello);
    let mut client =
        Attacker::client(2, client_address(number), server_address()).client_tls(tls).early_data().crypto(move |level, data| {
            if level == Level::Initial {
                copy.lock().expect("nobody panics").clone_from(data);
            }
        });
    let counts = heard.counts();
    client.handshake(Stage::HelloSent);
    let early = early_data(&mut client);
    client.send(&early);
    client.handshake(Stage::Confirmed);
    assert_eq!(client.is_early_data_accepted(), Some(true));
    client.expect_alive();
    assert_eq!(heard.counts(), (counts.0 + 1, counts.1 + 1));
    // As it was: the destination is what the client made up.
    let original = client.original_id();
    let data = hello.lock().expect("nobody panics").clone();
    let initial = client.packet(Kind::Initial).dcid(&original).number(0).frame(&Crypto { offset: 0, data: &data }).build();
    [initial, early]
}

/// Sends a captured first flight from so many addresses, as many at a time as servers bear without asking for a Retry.
fn replay_flight(flight: &[Vec<u8>; 2], times: u64) {
    for round in 0..times {
        let socket = UdpSocket::bind(client_address(1000 + (round % 500) as u16)).expect("a free address");
        for packet in flight {
            socket.send_to(packet, server_address()).expect("it is sent");
        }
        if round % 500 == 499 {
            // Longer than a handshake may take, and than the connection that is closed then is remembered.
            sleep(Duration::from_secs(20));
        }
    }
}

/// RFC 8446, 8; RFC 9001, 9.2: by the ten thousand, at the server that has heard it.
#[test]
fn captured_early_data_is_heard_once() {
    simulate_untraced(3, link(), || {
        let heard = Heard::default();
        let tickets = Tickets::seeded(3);
        let tls = server_tls_builder(3, 1).early_data(true).tickets(tickets.clone()).build().expect("the fixture is valid");
        let server = heard.serve(ServerConfig::new(tls).retry(RetryPolicy::Never));
        let flight = captured(1, &heard);
        replay_flight(&flight, REPLAYS);
        sleep(20 * SECOND);
        assert_eq!(heard.counts(), (1, 1));
        let stats = tickets.stats();
        assert_eq!((stats.early_data_accepted, stats.early_data_replayed), (1, REPLAYS));
        assert_eq!(stats.strikes, 1);
        heard.connections.lock().expect("nobody panics").clear();
        sleep(20 * SECOND);
        assert_eq!(server.open_connections(), 0);
        server.close(0_u32.into(), b"");
    });
}

/// The same at a server that was started again with the same keys of tickets: it knows no ticket that was used.
#[test]
fn captured_early_data_is_not_heard_after_a_restart() {
    simulate_untraced(4, link(), || {
        let config = || {
            let tickets = Tickets::from_secret([7; 32]);
            let tls = server_tls_builder(4, 1).early_data(true).tickets(tickets.clone()).build().expect("the fixture is valid");
            (ServerConfig::new(tls).retry(RetryPolicy::Never), tickets)
        };
        let heard = Heard::default();
        let (first, _) = config();
        let server = heard.serve(first);
        let flight = captured(1, &heard);
        // This client comes back afterwards.
        let tls = client_tls(2);
        let mut honest = Attacker::client(5, client_address(2), server_address()).client_tls(tls.clone());
        honest.handshake(Stage::Confirmed);
        honest.expect_alive();
        server.close(0_u32.into(), b"");
        server.wait_idle();
        drop(server);
        sleep(SECOND);
        let (second, tickets) = config();
        let server = heard.serve(second);
        replay_flight(&flight, 1000);
        sleep(20 * SECOND);
        assert_eq!(heard.counts(), (1, 1));
        assert_eq!((tickets.stats().early_data_elsewhere, tickets.stats().early_data_accepted), (1000, 0));
        // Its session resumes, and what it wanted to say early comes later.
        let mut honest = Attacker::client(6, client_address(2), server_address()).client_tls(tls).early_data();
        honest.handshake(Stage::HelloSent);
        let early = early_data(&mut honest);
        honest.send(&early);
        honest.handshake(Stage::Confirmed);
        assert_eq!(honest.is_early_data_accepted(), Some(false));
        honest.expect_alive();
        assert_eq!((heard.counts(), tickets.stats().resumed), ((1, 1), 1001));
        let connection = heard.connections.lock().expect("nobody panics").pop().expect("a connection");
        assert!(connection.handshake().resumed && connection.early_data() == EarlyData::Rejected);
        server.close(0_u32.into(), b"");
    });
}

/// RFC 9001, 5.7: more than fits, for a ClientHello whose rest does not come; and more than was permitted, when it has come.
#[test]
fn a_flood_of_early_data_is_bounded() {
    let transport = TransportConfig::default().connection_window(20_000).stream_window(20_000);
    under_attack("a flood of early data", 5, Setup::of(early_server_config(5, transport)), |arena| {
        let mut client = arena.early_client(1);
        let original = client.original_id();
        client.packet(Kind::Initial).frame(&Crypto { offset: 0, data: &[1] }).send();
        for round in 0..2_000 {
            client.packet(Kind::ZeroRtt).dcid(&original).pad_to(1200).send();
            if round % 20 == 19 {
                sleep(Duration::from_millis(20));
            }
        }
        arena.heap_below(1_000_000);
        let mut client = arena.early_client(3);
        client.handshake(Stage::HelloSent);
        let id = StreamId::from(VarInt::ZERO);
        // With gaps: what is read between two of them gives credit.
        for offset in (0..40).map(|n| n * 10_000) {
            client.packet(Kind::ZeroRtt).frame(&Stream { id, offset, fin: false, data: &[1; 1000] }).send();
        }
        // FLOW_CONTROL_ERROR
        client.expect_close(0x03);
    });
}
