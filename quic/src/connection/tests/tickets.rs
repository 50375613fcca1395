//! A client's TLS session after the handshake: kept for the tickets that a server gives, and no longer.

use std::time::Duration;

use super::pair::{Network, Pair, client_config, server_config};
use super::{SECOND, code, forge};
use crate::config::{ClientConfig, ServerConfig, TransportConfig};
use crate::error::TransportErrorCode;
use crate::recovery::SpaceId;

fn configs(server: impl FnOnce(weald_crypto::ServerConfigBuilder) -> weald_crypto::ServerConfigBuilder) -> (ClientConfig, ServerConfig) {
    let (chain, key) = weald_crypto::simulation::server_credentials();
    let crypto = server(weald_crypto::ServerConfig::builder().alpn([b"test"]).certificate(chain, key).simulation(1));
    (client_config(1, TransportConfig::default()), ServerConfig::new(crypto.build().unwrap()))
}

fn confirmed((client, server): (ClientConfig, ServerConfig)) -> Pair {
    let mut pair = Pair::configured(1, Network::CLEAN, client, server);
    assert!(pair.run(5 * SECOND, |pair| pair.client.confirmed && pair.server.confirmed));
    pair
}

#[test]
fn sessions_resume() {
    let (client, server) = (client_config(1, TransportConfig::default()), server_config(1, TransportConfig::default(), 0));
    for resumes in [false, true, true] {
        let mut pair = confirmed((client.clone(), server.clone()));
        for node in [&mut pair.client, &mut pair.server] {
            assert_eq!(node.connection().outcome().unwrap().resumed, resumes);
        }
        assert!(pair.run(SECOND, |pair| !pair.client.connection().handshake.awaits_tickets()));
        // RFC 9001 4.9: nothing of TLS is left at either end once all was acknowledged.
        pair.run(SECOND, |_| false);
        for node in [&mut pair.client, &mut pair.server] {
            assert!(!node.connection().handshake.is_exchanging());
        }
    }
}

#[test]
fn a_client_waits_for_tickets_for_a_while() {
    let mut pair = confirmed(configs(|builder| builder.without_tickets()));
    assert!(pair.client.connection().handshake.awaits_tickets());
    pair.run(Duration::from_millis(2500), |_| false);
    assert!(pair.client.connection().handshake.awaits_tickets());
    pair.run(SECOND, |_| false);
    assert!(!pair.client.connection().handshake.is_exchanging() && pair.client.closed.is_none());
}

/// Tickets without end, while TLS is busy, when it waits for the first, and when it is gone (RFC 8446 4.6.1).
#[test]
fn a_flood_of_tickets_is_read_over() {
    // A ticket of 40 bytes that is none to rustls: its lifetime is of years, and it has no extensions.
    let mut ticket = vec![4, 0, 0, 36, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23];
    ticket.extend([7; 23]);
    ticket.extend([0, 0]);
    for stuck in [true, false] {
        let mut pair = confirmed(configs(|builder| builder.without_tickets()));
        pair.client.stuck = stuck;
        let mut offset = 0u32;
        for _ in 0..5_000 {
            let mut frames = vec![0x06];
            frames.extend((0x8000_0000 | offset).to_be_bytes());
            frames.extend([0x44, 0x10]);
            let bytes = ticket.repeat(26);
            frames.extend(&bytes[..0x410]);
            offset += 0x410;
            let now = pair.now;
            let datagram = forge(pair.server.connection(), now, SpaceId::Data, &frames, 0);
            pair.deliver(false, &datagram);
            pair.client.work(now);
            assert!(pair.client.connection().memory() < 150_000);
        }
        assert!(pair.client.closed.is_none(), "{:?}", pair.client.closed);
        pair.client.stuck = false;
        pair.run(SECOND, |_| false);
        assert!(pair.client.closed.is_none() && !pair.client.connection().handshake.awaits_tickets());
    }
}

/// RFC 9001 6: a part of the message is enough, while TLS is still there to read tickets, and behind the one that it was given.
#[test]
fn a_key_update_of_tls_is_refused() {
    for gives in [false, true] {
        let mut pair = confirmed(configs(|builder| if gives { builder } else { builder.without_tickets() }));
        pair.run(SECOND, |_| false);
        assert_eq!(pair.client.connection().handshake.awaits_tickets(), !gives);
        // A byte of what comes next, wherever the ticket ends.
        let frames: Vec<u8> = (0..400u16).flat_map(|at| [[0x06].as_slice(), &(0x4000 | at).to_be_bytes(), &[1, 0x18]].concat()).collect();
        for frames in frames.chunks(5 * 200) {
            let now = pair.now;
            let datagram = forge(pair.server.connection(), now, SpaceId::Data, frames, 0);
            pair.deliver(false, &datagram);
        }
        pair.run(SECOND, |pair| pair.client.closed.is_some() && pair.server.closed.is_some());
        assert_eq!(code((pair.client.closed.take(), pair.server.closed.take())), Some(TransportErrorCode::crypto(10)), "{gives}");
    }
}
