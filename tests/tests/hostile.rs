//! Peers that break the rules, at the level of datagrams, against a whole endpoint that serves an honest client beside them
//! (RFC 9000, 21). Oracle: the offender gets what the RFC says, at most its share of memory and bytes, and the honest
//! client does not notice.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::Level;
use weald_quic::{Refusal, RetryPolicy, ServerLimits, TransportConfig};
use weald_runtime::net::UdpSocket;
use weald_runtime::sim::{self, Verdict};
use weald_runtime::sleep;
use weald_runtime::time::Instant;
use weald_tests::attack::{attack, default_server, serve};
use weald_tests::hand::{FULL, HandPeer, parameters};
use weald_tests::world::{client_address, link, server_address, server_config_with_chain, simulate};

const SECOND: Duration = Duration::from_secs(1);

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

/// RFC 9000, 6.1, 17.2.1: only a full datagram is answered, with the ids changed over, and a connection comes of neither.
#[test]
fn an_unknown_version_is_negotiated() {
    attack(6, default_server(6), |server| {
        let connections = server.open_connections();
        let mut client = HandPeer::new(1, client_address(1), server_address(), parameters);
        let genuine = client.first_flight();
        for version in [0x0a1a_2a3a_u32, 0xff00_001d, 0x709a_50c4, 2, u32::MAX] {
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
    attack(7, default_server(7).retry(RetryPolicy::Never).limits(ServerLimits::default().max_pending_handshakes(PENDING)), |server| {
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
        assert!(server.stats().refused[Refusal::Limit] > 0);
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
    // Several packets in one datagram, which counts once.
    for packets in [1, 2, 5, 10, 18] {
        let (sent, received) = bytes_to_a_silent_client(30, 1, |client, hello| {
            let hello = client.packet(Level::Initial, hello, 0);
            let pings: Vec<u8> = (0..packets).flat_map(|_| client.packet(Level::Initial, &[0x01], 50)).collect();
            [hello, pings, client.packet(Level::Initial, &[0x01], 900)].concat()
        });
        assert!(sent >= FULL && received <= 3 * sent, "{received} bytes for {sent}");
    }
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
