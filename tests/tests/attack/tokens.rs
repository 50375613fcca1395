//! Tokens of address validation that prove nothing: those of others, of another time, of another server, made up, and used before (RFC
//! 9000, 8.1.2 to 8.1.4). Each server asks everybody for a Retry, so that what a token proves shows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_quic::codec::{Crypto, Frame, Packet, Packets};
use weald_quic::{Endpoint, EndpointConfig, RetryPolicy, ServerLimits, TransportConfig};
use weald_runtime::net::UdpSocket;
use weald_runtime::sim::{NetworkConfig, Simulation};
use weald_runtime::time::Instant;
use weald_runtime::{sleep, spawn};
use weald_tests::attack::echo;
use weald_tests::attacker::{Attacker, Closed, Kind, Stage};
use weald_tests::world::{client_address, link, server_address, server_config};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: u64 = 3_600_000_000_000;
const INVALID_TOKEN: u64 = 0x0b;
/// How long an address's token is good here.
const LIFETIME: Duration = Duration::from_secs(600);

/// Runs `attack` on a server with this secret, from this time on.
fn at_a_server<T>(secret: u8, begin: u64, attack: impl FnOnce(&Endpoint) -> T) -> T {
    let network = NetworkConfig { link: link(), trace: false, ..NetworkConfig::default() };
    Simulation::new(1).network(network).begin(Instant::from_nanos(begin)).run(|| {
        let limits = ServerLimits::default().token_lifetime(LIFETIME);
        let config = server_config(1, TransportConfig::default()).retry(RetryPolicy::Always).limits(limits);
        let server = Endpoint::server_with(&EndpointConfig::new().secret([secret; 32]), config, server_address()).expect("a server");
        let accepting = server.clone();
        spawn(move || {
            while let Some(connection) = accepting.accept() {
                spawn(move || echo(&connection));
            }
        });
        let result = attack(&server);
        server.close(0_u32.into(), b"");
        result
    })
}

fn client(number: u16) -> Attacker {
    let mut address = client_address(number);
    address.set_port(1000);
    Attacker::client(number.into(), address, server_address())
}

/// A client that has its token from a Retry, that token, and the first packet that it is about to send with it.
fn after_a_retry(number: u16) -> (Attacker, Vec<u8>, Vec<u8>) {
    let hello = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&hello);
    let mut client = client(number).crypto(move |level, data| {
        if level == weald_crypto::Level::Initial {
            *kept.lock().expect("nobody panics") = std::mem::take(data);
        }
    });
    client.handshake(Stage::HelloSent);
    let hello = hello.lock().expect("nobody panics").clone();
    let crypto = Crypto { offset: 0, data: &hello };
    client.packet(Kind::Initial).frame(&crypto).send();
    let retry = client.next(SECOND).expect("a Retry");
    let Some(Ok(Packet::Retry(retry))) = Packets::new(&retry.datagram, 8).next() else { panic!("a Retry") };
    let second = client.packet(Kind::Initial).frame(&crypto).build();
    (client, retry.token.to_vec(), second)
}

/// The token of an address that is given to a client on its connection.
fn address_token(number: u16) -> Vec<u8> {
    let mut client = client(number);
    client.handshake(Stage::Complete);
    loop {
        let seen = client.next(SECOND).expect("a token comes");
        if let Some(token) = seen.frames().find_map(|frame| if let Frame::NewToken(new) = frame { Some(new.token.to_vec()) } else { None })
        {
            return token;
        }
    }
}

fn is_retry(answer: &[u8]) -> bool {
    matches!(Packets::new(answer, 8).next(), Some(Ok(Packet::Retry(_))))
}

/// RFC 9000, 8.1.2: a Retry's token is good at the address and the port that it was sent to, for a few seconds, and once. Who brings it
/// from elsewhere or too late is told so; what was not made here is no token.
#[test]
fn retry_tokens_of_others_and_of_another_time() {
    at_a_server(1, HOUR, |server| {
        let (mut client, _, second) = after_a_retry(1);
        for (row, host, port) in [("a Retry's token from another port", 1, 1001), ("a Retry's token from another address", 2, 1000)] {
            let socket = UdpSocket::bind(SocketAddr::from(([10, 1, 0, host], port))).expect("a free address");
            socket.set_read_timeout(Some(SECOND)).expect("a timeout");
            let before = server.stats();
            for _ in 0..3 {
                socket.send_to(&second, server_address()).expect("it is sent");
                let mut told = [0; 2048];
                let (len, _) = socket.recv_from(&mut told).expect(row);
                assert!(len < 100 && !is_retry(&told[..len]), "{row}: {:02x?}", &told[..len]);
            }
            let after = server.stats();
            assert_eq!((after.invalid_tokens, after.validated), (before.invalid_tokens + 3, 0), "{row}");
        }
        // It was given to this one.
        client.send(&second);
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        assert_eq!(server.stats().validated, 1);
        client.packet(Kind::OneRtt).raw(&[0x1c, 0, 0, 0]).send();
        sleep(30 * SECOND);
        assert_eq!(server.open_connections(), 0);
        // A connection was made for it, which is over. By now it is too old, too.
        client.send(&second);
        assert!(matches!(client.run(SECOND), Some(Closed::Transport { code: INVALID_TOKEN, .. })), "a Retry's token that was used");
        let (mut late, _, second) = after_a_retry(3);
        sleep(17 * SECOND);
        late.send(&second);
        assert!(matches!(late.run(SECOND), Some(Closed::Transport { code: INVALID_TOKEN, .. })), "a Retry's token too late");
        // Nobody's: whoever brings it is like any other.
        let (mut forger, token, _) = after_a_retry(4);
        for bit in [0, 9, 100, 8 * token.len() - 1] {
            let mut token = token.clone();
            token[bit / 8] ^= 1 << (bit % 8);
            let _ = forger.packet(Kind::Initial).token(&token).raw(&[0x01]).send();
            assert!(is_retry(&forger.next_raw(SECOND).expect("an answer")), "a Retry's token with bit {bit} flipped");
        }
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.validated, server.open_connections()), (1, 1, 0));
    });
}

/// RFC 9000, 8.1.3, 8.1.4: an address's token, on later connections. Where it proves nothing, the client is like any other.
#[test]
fn tokens_of_addresses_that_prove_nothing() {
    const MINUTE: u64 = HOUR / 60;
    const GIVEN: u64 = 10 * HOUR;
    let token = at_a_server(1, GIVEN, |_| address_token(1));
    let flipped = |bit: usize| {
        let mut token = token.clone();
        token[bit / 8] ^= 1 << (bit % 8);
        token
    };
    // The server's secret and time, the client's host, what it brings, and how often it is believed of three times.
    for (row, secret, time, host, token, believed) in [
        ("an address's token", 1, GIVEN + MINUTE, 1, token.clone(), 1),
        ("an address's token from another address", 1, GIVEN + MINUTE, 2, token.clone(), 0),
        ("an address's token that has expired", 1, GIVEN + 11 * MINUTE, 1, token.clone(), 0),
        ("an address's token a week later", 1, GIVEN + 7 * 24 * HOUR, 1, token.clone(), 0),
        ("an address's token from the future", 1, GIVEN - HOUR, 1, token.clone(), 0),
        ("an address's token of another key", 2, GIVEN + MINUTE, 1, token.clone(), 0),
        ("an address's token with its key's number changed", 1, GIVEN + MINUTE, 1, flipped(7), 0),
        ("an address's token with a bit flipped", 1, GIVEN + MINUTE, 1, flipped(200), 0),
        ("an address's token cut short", 1, GIVEN + MINUTE, 1, token[..token.len() - 1].to_vec(), 0),
    ] {
        at_a_server(secret, time, |server| {
            for attempt in 0..3 {
                let mut address = client_address(host);
                address.set_port(2000 + attempt);
                let mut client = Attacker::client(attempt.into(), address, server_address()).token(&token);
                client.handshake(Stage::HelloSent);
                let is_believed = !is_retry(&client.next_raw(SECOND).expect("an answer"));
                assert_eq!(is_believed, attempt < believed, "{row}, {attempt}");
                // Whoever it is, they get in by a Retry.
                let mut honest = self::client(100 + attempt);
                honest.handshake(Stage::Confirmed);
            }
            // Those, and who was believed.
            let stats = server.stats();
            assert_eq!((stats.validated, stats.retries), (3 + u64::from(believed), 6 - u64::from(believed)), "{row}");
        });
    }
}
