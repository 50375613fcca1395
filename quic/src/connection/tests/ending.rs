//! How connections end: timeouts, closes, resets.

use super::pair::{Network, Pair, client_address};
use super::{SECOND, bytes, forge};
use crate::config::TransportConfig;
use crate::connection::{CryptoDone, DatagramMeta, Scratch};
use crate::endpoint::{Endpoint, Routed};
use crate::error::{ApplicationClose, ApplicationCode, ConnectionError, TransportErrorCode};
use crate::handle::EndpointKeys;
use crate::recovery::SpaceId;
use crate::stream_id::Direction;

#[test]
fn silence_ends_a_connection_without_a_word() {
    // RFC 9000 10.1: the smaller of both values, after the last packet.
    let client = TransportConfig::default().max_idle_timeout(Some(7 * SECOND));
    let mut pair = Pair::with(1, Network::CLEAN, client, TransportConfig::default(), 0);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair.run(2 * SECOND, |_| false);
    let (sent, start) = (pair.trace.len(), pair.trace.last().unwrap().0);
    assert!(pair.run(20 * SECOND, |pair| pair.client.dropped && pair.server.dropped));
    assert_eq!(pair.client.closed, Some(ConnectionError::TimedOut));
    assert_eq!(pair.server.closed, Some(ConnectionError::TimedOut));
    assert_eq!(pair.trace.len(), sent);
    let silence = pair.now.as_nanos() - start;
    assert!((7_000_000_000..7_100_000_000).contains(&silence), "{silence}");
    assert_eq!(pair.client.endpoint.connections() + pair.server.endpoint.connections(), 0);
}

#[test]
fn keep_alive_keeps_a_connection_open() {
    // RFC 9000 10.1.2
    let client = TransportConfig::default().keep_alive(Some(10 * SECOND));
    let mut pair = Pair::with(1, Network::CLEAN, client, TransportConfig::default(), 0);
    pair.run(300 * SECOND, |pair| pair.client.closed.is_some());
    assert!(pair.client.closed.is_none() && pair.server.closed.is_none());
    let pings = pair.trace.iter().filter(|(at, ..)| *at > 20_000_000_000).count();
    assert!((40..80).contains(&pings), "{pings}");
}

#[test]
fn a_keep_alive_of_the_idle_timeout_or_more_keeps_a_connection_open() {
    // RFC 9000 10.1, 10.1.2: the peer's timeout may be the smaller one.
    for interval in [7, 20, 600] {
        let client = TransportConfig::default().keep_alive(Some(interval * SECOND));
        let server = TransportConfig::default().max_idle_timeout(Some(7 * SECOND));
        let mut pair = Pair::with(1, Network::CLEAN, client, server, 0);
        pair.run(280 * SECOND, |pair| pair.client.closed.is_some());
        assert!(pair.client.closed.is_none() && pair.server.closed.is_none(), "every {interval} s");
        // A PING and its answer for each half.
        let pings = pair.trace.iter().filter(|(at, ..)| *at > 20_000_000_000).count();
        assert!((140..180).contains(&pings), "{pings}");
    }
}

#[test]
fn a_server_that_never_answers_is_a_timeout() {
    let mut pair = Pair::new(1, Network { loss: 100, ..Network::CLEAN });
    assert!(pair.run(30 * SECOND, |pair| pair.client.dropped));
    assert_eq!(pair.client.closed, Some(ConnectionError::TimedOut));
    // Initial, then probes at 1, 3, 7 times the first period.
    assert!((5..16).contains(&pair.trace.len()), "{}", pair.trace.len());
    assert!(pair.trace.iter().all(|(.., len)| *len == 1200));
}

#[test]
fn an_application_close_tells_code_and_reason() {
    // RFC 9000 10.2
    let mut pair = Pair::connected(3);
    let now = pair.now;
    pair.client.connection().close(now, ApplicationCode::from_u32(42), b"enough");
    assert!(pair.run(5 * SECOND, |pair| pair.client.dropped && pair.server.dropped));
    assert_eq!(pair.client.closed, Some(ConnectionError::LocallyClosed));
    let told = ApplicationClose { code: ApplicationCode::from_u32(42), reason: bytes("enough") };
    assert_eq!(pair.server.closed, Some(ConnectionError::ApplicationClosed(told)));
    assert_eq!(pair.server.endpoint.connections(), 0);
}

#[test]
fn an_application_close_in_the_handshake_says_nothing_of_the_application() {
    // RFC 9000 10.2.3
    let mut pair = Pair::new(3, Network::CLEAN);
    pair.run(SECOND, |pair| pair.server.connection.is_some());
    let now = pair.now;
    pair.server.connection().close(now, ApplicationCode::from_u32(42), b"secret");
    assert!(pair.run(5 * SECOND, |pair| pair.client.closed.is_some()));
    match pair.client.closed.take() {
        Some(ConnectionError::ConnectionClosed(close)) => {
            assert_eq!(close.code, TransportErrorCode::APPLICATION_ERROR);
            assert!(close.reason.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_close_is_repeated_but_not_for_every_packet() {
    // RFC 9000 10.2.1
    let mut pair = Pair::connected(4);
    let now = pair.now;
    pair.client.connection().close(now, ApplicationCode::from_u32(1), b"");
    let mut buf = [0; 1500];
    assert!(pair.client.connection().transmit(now, &mut buf, &mut Scratch::default()).is_some());
    let mut answers = 0;
    for _ in 0..100 {
        let ping = forge(pair.server.connection(), now, SpaceId::Data, &[1], 0);
        pair.deliver(false, &ping);
        while pair.client.connection().transmit(now, &mut buf, &mut Scratch::default()).is_some() {
            answers += 1;
        }
    }
    assert_eq!(answers, 7);
    // What ends the draining is time: three probe timeouts.
    assert!(pair.run(SECOND, |pair| pair.client.dropped));
}

#[test]
fn a_draining_connection_is_silent() {
    // RFC 9000 10.2.2
    let mut pair = Pair::connected(5);
    let now = pair.now;
    pair.client.connection().close(now, ApplicationCode::from_u32(1), b"");
    let mut buf = [0; 1500];
    let close = pair.client.connection().transmit(now, &mut buf, &mut Scratch::default()).unwrap();
    pair.server.connection().open(Direction::Uni);
    pair.deliver(true, &buf[..close.len]);
    assert!(pair.server.connection().transmit(now, &mut buf, &mut Scratch::default()).is_none());
    assert!(!pair.server.connection().is_drained());
    let ping = forge(pair.client.connection(), now, SpaceId::Data, &[1], 0);
    pair.deliver(true, &ping);
    assert!(pair.server.connection().transmit(now, &mut buf, &mut Scratch::default()).is_none());
}

#[test]
fn a_server_that_lost_its_state_resets() {
    // RFC 9000 10.3: the secret survives the restart, all else is gone.
    let mut pair = Pair::connected(6);
    pair.server.connection = None;
    pair.server.endpoint = Endpoint::new(EndpointKeys::new(&[2; 32], 1234, 0), 0, 1, None, 9);
    pair.client.send(Direction::Uni, 1000);
    assert!(pair.run(SECOND, |pair| pair.client.dropped));
    assert_eq!(pair.client.closed, Some(ConnectionError::Reset));
    assert_eq!(pair.server.endpoint.stats().resets, 1);
}

#[test]
fn a_reset_with_a_wrong_token_is_noise() {
    // RFC 9000 10.3.1; CVE-2026-44434
    let mut pair = Pair::connected(6);
    for fill in [0, 0x41, 0xff] {
        for len in [21, 43, 1200] {
            let mut datagram = vec![fill; len];
            datagram[0] = 0x41;
            pair.deliver(false, &datagram);
            let (_, client) = pair.client.connection.as_mut().unwrap();
            let meta = DatagramMeta { remote: pair.server.address, local: None, ecn: None };
            client.receive(pair.now, &datagram, meta, &mut Scratch::default());
        }
    }
    assert!(!pair.client.connection().is_closed());
    // The right token from the right place ends it, even if the id in front says nothing.
    let token = pair.client.connection().remote_ids.reset_token().unwrap();
    let mut datagram = vec![0x41; 30];
    datagram.extend_from_slice(token.as_bytes());
    let stranger = DatagramMeta { remote: client_address(), local: None, ecn: None };
    assert!(matches!(pair.client.endpoint.receive(pair.now, &datagram, stranger), Routed::Answer(_)));
    pair.deliver(false, &datagram);
    pair.run(SECOND, |pair| pair.client.dropped);
    assert_eq!(pair.client.closed, Some(ConnectionError::Reset));
}

#[test]
fn a_job_that_comes_back_late_is_discarded() {
    let mut pair = Pair::new(8, Network::CLEAN);
    pair.server.stuck = true;
    pair.run(SECOND, |pair| pair.server.connection.is_some());
    let now = pair.now;
    let job = pair.server.connection().poll_crypto_job().unwrap();
    assert!(pair.server.connection().poll_crypto_job().is_none());
    pair.server.connection().close(now, ApplicationCode::from_u32(1), b"");
    pair.server.connection().on_crypto_done(now, job.run(), &mut Scratch::default());
    assert!(!pair.server.connection().keys.has(weald_crypto::Level::Handshake));
    assert!(pair.run(10 * SECOND, |pair| pair.server.dropped && pair.client.dropped));
}

#[test]
fn a_job_that_is_lost_fails_the_handshake() {
    let mut pair = Pair::new(8, Network::CLEAN);
    pair.server.stuck = true;
    pair.run(SECOND, |pair| pair.server.connection.is_some());
    let now = pair.now;
    assert!(pair.server.connection().poll_crypto_job().is_some());
    pair.server.connection().on_crypto_done(now, CryptoDone::lost(), &mut Scratch::default());
    pair.server.stuck = false;
    assert!(pair.run(10 * SECOND, |pair| pair.server.dropped && pair.client.dropped));
    // RFC 8446 6.2: internal_error.
    let Some(ConnectionError::Transport(error)) = &pair.server.closed else { panic!("{:?}", pair.server.closed) };
    assert_eq!(error.code, TransportErrorCode::crypto(80));
}

#[test]
fn a_connection_that_closes_lets_go_of_what_it_had_to_send() {
    let mut pair = Pair::connected(6);
    pair.client.deaf = true;
    pair.server.answer = 10_000;
    let read = pair.client.send(Direction::Bi, 10);
    pair.run(SECOND, |_| false);
    pair.network.loss = 100;
    let streams: Vec<_> = (0..10).map(|_| pair.client.send(Direction::Uni, 500_000)).collect();
    pair.flush();
    let held = pair.client.connection().memory();
    assert!(held > 5_000_000, "{held}");
    let now = pair.now;
    pair.client.connection().close(now, ApplicationCode::from_u32(1), b"");
    let held = pair.client.connection().memory();
    assert!(held < 40_000 && !pair.client.connection().is_drained(), "{held}");
    assert!(pair.client.connection().held() <= 16 * 1024, "no more than what was received and not read");
    // What had arrived can still be read.
    assert!(pair.client.connection().read(read, 100).unwrap().is_some());
    assert!(streams.iter().all(|id| pair.client.connection().is_sending(*id)));
    pair.network.loss = 0;
    assert!(pair.run(5 * SECOND, |pair| pair.server.closed.is_some() && pair.client.dropped));
}

#[test]
fn an_idle_timeout_below_a_round_trip_is_one_of_three_probe_timeouts() {
    // RFC 9000 10.1
    let client = TransportConfig::default().max_idle_timeout(Some(SECOND / 1000));
    let mut pair = Pair::with(1, Network::CLEAN, client, TransportConfig::default(), 0);
    pair.server.answer = 10_000;
    assert!(pair.run(SECOND, |pair| pair.client.confirmed && pair.server.confirmed), "{:?}", pair.server.closed);
    let id = pair.client.send(Direction::Bi, 10_000);
    assert!(pair.run(SECOND, |pair| pair.server.has_received(id, 10_000) && pair.client.has_received(id, 10_000)));
    // And no longer.
    assert!(pair.run(2 * SECOND, |pair| pair.client.dropped && pair.server.dropped));
    assert_eq!((pair.client.closed, pair.server.closed), (Some(ConnectionError::TimedOut), Some(ConnectionError::TimedOut)));
}
