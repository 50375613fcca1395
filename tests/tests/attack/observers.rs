//! Who sees every packet of a connection, and cannot open one: reset tokens guessed from the ids in them, and copies that come before the
//! original, from elsewhere.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_crypto::simulation;
use weald_quic::codec::{Frame, Ping, Stream};
use weald_quic::{Endpoint, EndpointConfig, StreamId, TransportConfig, VarInt};
use weald_runtime::net::UdpSocket;
use weald_runtime::{sleep, spawn};
use weald_tests::attack::echo;
use weald_tests::attacker::{Attacker, Kind, Setup, Stage, under_attack};
use weald_tests::world::{client_address, client_config, link, receive, send, server_address, server_config, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
/// Of a server's own ids, which the first byte of a short packet stands before.
const ID_LEN: usize = 18;

/// Who passes on everything between a client and the server, and reads what is not sealed.
struct Relay {
    /// Where the client finds it.
    front: Arc<UdpSocket>,
    /// The id that the client's last short packet went to.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    fn address() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 2], 443))
    }

    /// Where its client has to be.
    fn client() -> SocketAddr {
        SocketAddr::from(([10, 1, 0, 1], 4000))
    }

    fn start() -> Self {
        let bind = |address| Arc::new(UdpSocket::bind(address).expect("a free address"));
        let (front, back) = (bind(Self::address()), bind(SocketAddr::from(([10, 0, 0, 2], 444))));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (from_client, to_server, noted) = (Arc::clone(&front), Arc::clone(&back), Arc::clone(&seen));
        spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, _)) = from_client.recv_from(&mut buffer) {
                if buffer[0] & 0x80 == 0 {
                    *noted.lock().expect("nobody panics") = buffer[1..=ID_LEN].to_vec();
                }
                to_server.send_to(&buffer[..len], server_address()).expect("it is sent");
            }
        });
        let to_client = Arc::clone(&front);
        spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, _)) = back.recv_from(&mut buffer) {
                to_client.send_to(&buffer[..len], Self::client()).expect("it is sent");
            }
        });
        Self { front, seen }
    }

    /// Sends what resets the client's connection if `token` is right.
    fn reset(&self, token: &[u8]) {
        self.front.send_to(&[&[0x41; 30], token].concat(), Self::client()).expect("it is sent");
    }
}

/// The token in the answer of the server at `address` to a short packet for `id`.
fn ask(address: SocketAddr, id: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind(client_address(50)).expect("a free address");
    socket.set_read_timeout(Some(SECOND)).expect("a timeout");
    socket.send_to(&[&[0x41][..], id, &[0x55; 100]].concat(), address).expect("it is sent");
    let mut buffer = [0; 2048];
    let (len, _) = socket.recv_from(&mut buffer).ok()?;
    Some(buffer[len - 16..len].to_vec())
}

/// Netty, CVE-2026-50009. RFC 9000, 10.3.2, 21.11: a token cannot be known to who knows the id: not from the id itself, nor by asking the
/// server that gave it, another one, or one that has its secret but is another.
#[test]
fn reset_tokens_that_are_guessed_from_visible_ids() {
    simulate_untraced(1, link(), || {
        let start = |endpoint: EndpointConfig, address: SocketAddr| {
            let server = Endpoint::server_with(&endpoint, server_config(1, TransportConfig::default()), address).expect("a server");
            let accepting = server.clone();
            spawn(move || {
                while let Some(connection) = accepting.accept() {
                    spawn(move || echo(&connection));
                }
            });
            server
        };
        let at = |host| SocketAddr::from(([10, 0, 0, host], 443));
        let server = start(EndpointConfig::new().secret([7; 32]).server_id(1), server_address());
        let others = [
            ("of a neighbour", start(EndpointConfig::new().secret([7; 32]).server_id(2), at(3)), at(3)),
            ("of another", start(EndpointConfig::new().secret([8; 32]).server_id(1), at(4)), at(4)),
        ];
        let relay = Relay::start();
        let endpoint = Endpoint::client(Relay::client()).expect("a client");
        let config = client_config(1, TransportConfig::default());
        let connection = endpoint.connect_with(config, Relay::address(), simulation::SERVER_NAME).expect("a connection");
        let exchange = |seed| {
            let (mut out, mut input) = connection.open_bi().expect("the connection lives");
            send(&mut out, seed, 5_000);
            receive(&mut input, seed, 5_000);
        };
        exchange(1);
        let id = relay.seen.lock().expect("nobody panics").clone();
        assert_eq!(id.len(), ID_LEN, "a short packet was seen");
        for guess in [&id[..16], &id[id.len() - 16..], &id.iter().rev().copied().collect::<Vec<_>>()[..16], &[0; 16], &[0xff; 16]] {
            relay.reset(guess);
        }
        sleep(SECOND);
        assert_eq!(connection.close_reason(), None, "a token of the id");
        for (whose, _, address) in &others {
            relay.reset(&ask(*address, &id).expect("it does not know the id"));
            sleep(SECOND);
            assert_eq!(connection.close_reason(), None, "the token {whose}");
        }
        // The one that knows the connection does not give it away.
        assert_eq!(ask(server_address(), &id), None);
        exchange(2);
        // It does when there is none.
        connection.close(0_u32.into(), b"");
        sleep(30 * SECOND);
        assert!(ask(server_address(), &id).is_some());
        server.close(0_u32.into(), b"");
    });
}

/// RFC 9000, 9.3.3, 21.5.2: a copy of each packet that comes from another port before the original does. The connection stays where it is,
/// nothing goes there, and what only the copy brings has not come.
#[test]
fn copies_from_another_port_that_come_first() {
    under_attack("racing copies behind the handshake", 2, Setup::new(2), |arena| {
        let copying = copies(2);
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        for index in 0..500_u32 {
            let id = StreamId::from(VarInt::from(4 * index));
            let packet = client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"echo" }).build();
            copying.send_to(&packet, server_address()).expect("it is sent");
            client.send(&packet);
            loop {
                let seen = client.next(SECOND).expect("the echo");
                if seen.frames().any(|frame| matches!(frame, Frame::Stream(Stream { id: echoed, .. }) if echoed == id)) {
                    break;
                }
            }
        }
        expect_that_a_copy_alone_is_none(&mut client, &copying);
        assert!(copying.recv_from(&mut [0; 2048]).is_err(), "something was sent to the copy's address");
    });
    under_attack("racing copies of the whole handshake", 3, Setup::new(3), |arena| {
        let copying = copies(3);
        let (hellos, mut client) = hellos(arena.client(1));
        client.handshake(Stage::HelloSent);
        let hello = hellos.lock().expect("nobody panics").clone();
        let first = client.packet(Kind::Initial).frame(&weald_quic::codec::Crypto { offset: 0, data: &hello }).build();
        let mut copied = 0;
        for _ in 0..20 {
            copying.send_to(&first, server_address()).expect("it is sent");
            copied += first.len();
        }
        sleep(SECOND / 100);
        client.send(&first);
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        // Who copied a first packet is a client like any other until it has to show that it is one (8.1).
        let mut answered = 0;
        while let Ok((len, _)) = copying.recv_from(&mut [0; 2048]) {
            answered += len;
        }
        assert!(answered <= 3 * copied, "{answered} bytes for {copied}");
        expect_that_a_copy_alone_is_none(&mut client, &copying);
        drop(client);
        arena.expect_forgotten();
    });
}

fn copies(seed: u64) -> UdpSocket {
    let copying = UdpSocket::bind(SocketAddr::from(([10, 1, 0, 1], 7000 + seed as u16))).expect("a free port");
    copying.set_read_timeout(Some(SECOND)).expect("a timeout");
    copying
}

/// A client that keeps its ClientHello for the test to send.
fn hellos(client: Attacker) -> (Arc<Mutex<Vec<u8>>>, Attacker) {
    let hello = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&hello);
    let client = client.crypto(move |level, data| {
        if level == weald_crypto::Level::Initial {
            *kept.lock().expect("nobody panics") = std::mem::take(data);
        }
    });
    (hello, client)
}

fn expect_that_a_copy_alone_is_none(client: &mut Attacker, copying: &UdpSocket) {
    for _ in 0..10 {
        let packet = client.packet(Kind::OneRtt).frame(&Ping).build();
        copying.send_to(&packet, server_address()).expect("it is sent");
    }
    while client.next(SECOND / 10).is_some() {}
    let before = client.packet(Kind::OneRtt).frame(&Ping).send();
    while !client.is_acked(Kind::OneRtt, before) {
        client.next(SECOND).expect("an answer");
    }
    assert!((before - 10..before).all(|number| !client.is_acked(Kind::OneRtt, number)), "copies were taken for packets");
}
