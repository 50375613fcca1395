//! Tickets that clients show to an endpoint: forged ones by the thousand, and more with early data than it can remember.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weald_crypto::{Level, Tickets, simulation};
use weald_quic::codec::Crypto;
use weald_quic::{EarlyData, Endpoint, RetryPolicy, ServerConfig, TransportConfig};
use weald_runtime::net::UdpSocket;
use weald_runtime::sleep;
use weald_tests::attack::{Honest, serve};
use weald_tests::attacker::{Kind, Setup, Stage, under_attack};
use weald_tests::world::{client_address, client_config, link, server_address, server_tls_builder, simulate_untraced};

/// Where the ticket lies that a ClientHello offers: pre_shared_key is its last extension (RFC 8446, 4.2.11).
fn offered(hello: &[u8]) -> std::ops::Range<usize> {
    let number = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    // Type and length of the extension, and the lengths of the identities and of the first one.
    let is_extension =
        |at: &usize| hello[*at..*at + 2] == [0, 41] && at + 4 + number(at + 2) == hello.len() && number(at + 4) == number(at + 6) + 6;
    let start = (0..hello.len() - 8).rfind(is_extension).expect("the client has a ticket");
    start + 8..start + 8 + number(start + 6)
}

/// The ClientHello with another ticket in its place, and all lengths around it as they must be.
fn with_ticket(hello: &[u8], ticket: &[u8]) -> Vec<u8> {
    let place = offered(hello);
    let grown = ticket.len() as isize - place.len() as isize;
    let mut changed = hello.to_vec();
    // RFC 8446, 4.1.2: type, length, version, random, session id, suites, compressions.
    let mut extensions = 4 + 2 + 32;
    extensions += 1 + usize::from(hello[extensions]);
    extensions += 2 + usize::from(u16::from_be_bytes([hello[extensions], hello[extensions + 1]]));
    extensions += 1 + usize::from(hello[extensions]);
    for length in [extensions, place.start - 6, place.start - 4, place.start - 2] {
        let len = u16::from_be_bytes([hello[length], hello[length + 1]]);
        let len = u16::try_from(isize::try_from(len).expect("16 bits") + grown).expect("it still fits");
        changed[length..length + 2].copy_from_slice(&len.to_be_bytes());
    }
    changed.splice(place, ticket.iter().copied());
    let body = u32::try_from(changed.len() - 4).expect("it is short");
    changed[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
    changed
}

/// Each is opened in vain, and its client is answered like one without; the ticket that they were made from is as good as before.
#[test]
fn forged_tickets_by_the_thousand() {
    let tickets = Tickets::seeded(1);
    let tls = server_tls_builder(1, 1).early_data(true).tickets(tickets.clone()).build().expect("the fixture is valid");
    under_attack("forged tickets", 1, Setup::of(ServerConfig::new(tls).retry(RetryPolicy::Never)), |arena| {
        let hello = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&hello);
        let mut client = arena.early_client(1).crypto(move |level, data| {
            if level == Level::Initial && !data.is_empty() {
                *kept.lock().expect("nobody panics") = std::mem::take(data);
            }
        });
        client.handshake(Stage::HelloSent);
        let hello = hello.lock().expect("nobody panics").clone();
        let ticket = hello[offered(&hello)].to_vec();
        assert_eq!(with_ticket(&hello, &ticket), hello);

        let flipped = |bit: usize| {
            let mut ticket = ticket.clone();
            ticket[bit / 8] ^= 1 << (bit % 8);
            ticket
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut random = |len: usize| std::iter::repeat_with(|| rng.u8(..)).take(len).collect::<Vec<u8>>();
        let forged: Vec<(&str, Vec<u8>)> = (0..8 * ticket.len())
            .map(|bit| ("a ticket with a bit flipped", flipped(bit)))
            .chain((1..ticket.len()).map(|len| ("a ticket cut short", ticket[..len].to_vec())))
            .chain([1, 2, 7, 24].map(|more| ("a ticket with bytes behind it", [&ticket[..], &vec![0; more]].concat())))
            .chain((0..200).map(|turn| ("a ticket of nobody", random(1 + turn * 2))))
            .collect();
        assert!(forged.len() > 1500, "{}", forged.len());
        let begin = (tickets.stats(), arena.server.stats());
        for (number, (row, ticket)) in (1..).zip(&forged) {
            let data = with_ticket(&hello, ticket);
            let packet = client.packet(Kind::Initial).number(0).frame(&Crypto { offset: 0, data: &data }).pad_to(1200).build();
            let socket = UdpSocket::bind(client_address(1000 + number % 250)).expect("a free address");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
            socket.send_to(&packet, server_address()).expect("it is sent");
            let (len, _) = socket.recv_from(&mut [0; 2048]).expect(row);
            assert!(len >= 1200, "{row}: {len} bytes are no flight of a server");
            assert_eq!(tickets.stats().unopened - begin.0.unopened, u64::from(number), "{row}, {number}");
            if number % 250 == 0 {
                // Longer than a handshake may take, and than the connection that is closed then is remembered.
                sleep(Duration::from_secs(20));
            }
        }
        arena.heap_below(12_000_000);
        let stats = (tickets.stats(), arena.server.stats());
        assert_eq!((stats.0.resumed, stats.0.early_data_accepted, stats.0.strikes), (begin.0.resumed, 0, 0));
        assert_eq!((stats.1.accepted - begin.1.accepted, stats.1.refused.total()), (forged.len() as u64, 0));
        arena.expect_forgotten();

        client.packet(Kind::Initial).frame(&Crypto { offset: 0, data: &hello }).pad_to(1200).send();
        client.handshake(Stage::Confirmed);
        assert_eq!((client.is_early_data_accepted(), tickets.stats().resumed), (Some(true), begin.0.resumed + 1));
        client.expect_alive();
    });
}

/// Of those who come with early data at once, one is remembered and heard early. The others resume, and are heard whole a round trip
/// later; when that one is no longer remembered, another may come.
#[test]
fn more_early_data_than_can_be_remembered() {
    simulate_untraced(2, link(), || {
        let clock = simulation::Clock::new();
        let tickets = Tickets::seeded(2).strikes(1);
        let tls = server_tls_builder(2, 1).early_data(true).tickets(tickets.clone()).clock(clock.clone());
        let server = serve(ServerConfig::new(tls.build().expect("the fixture is valid")));
        let endpoint = Endpoint::client(client_address(1)).expect("a client");
        let mut number = 0;
        let mut come_back = || {
            number += 1;
            let tls = weald_crypto::ClientConfig::builder().alpn([weald_tests::world::ALPN]).roots(simulation::roots());
            let tls = tls.simulation(number).clock(clock.clone()).build().expect("the fixture is valid");
            let config = weald_quic::ClientConfig::new(tls);
            let first = endpoint.connect_with(config.clone(), server_address(), simulation::SERVER_NAME).expect("a connection");
            Honest::exchange(&first, number);
            first.close(0_u32.into(), b"");
            let second = endpoint.connect_0rtt_with(config, server_address(), simulation::SERVER_NAME).expect("a connection");
            assert_eq!(second.early_data(), EarlyData::Offered);
            Honest::exchange(&second, number);
            assert!(second.handshake().resumed);
            second.wait_handshake().expect("it succeeds")
        };
        assert_eq!([come_back(), come_back(), come_back()], [EarlyData::Accepted, EarlyData::Rejected, EarlyData::Rejected]);
        let stats = tickets.stats();
        assert_eq!((stats.early_data_accepted, stats.early_data_register_full, stats.early_data_rejected), (1, 2, 2));
        assert_eq!((stats.resumed, stats.strikes, stats.strike_capacity), (3, 1, 2));
        clock.advance(Duration::from_secs(128));
        assert_eq!([come_back(), come_back()], [EarlyData::Accepted, EarlyData::Rejected]);
        assert_eq!((tickets.stats().strikes, tickets.stats().early_data_register_full), (2, 3));
        // Whoever sends none needs no room.
        let client = endpoint.connect_with(client_config(77, TransportConfig::default()), server_address(), simulation::SERVER_NAME);
        Honest::exchange(&client.expect("a connection"), 77);
        server.close(0_u32.into(), b"");
    });
}
