//! Sessions that resume, and data that goes before the handshake: accepted, and rejected without a loss (RFC 9001 4.6).
//!
//! A client gets a ticket from a server, and comes again with early data to another one, which knows more or less of the first.

use std::{sync::Arc, time::Duration};

use rustls::crypto::aws_lc_rs::{ALL_KX_GROUPS, kx_group};
use weald_crypto::{NamedGroup, SessionStore, Tickets};
use weald_quic::{EarlyData, RetryPolicy, TransportConfig};

use crate::{
    observed::{Observed, Sessions},
    sides::{ALPN, Identity, NAME, quinn_client, quinn_meets_weald, quinn_server, quinn_serves, weald_meets_quinn, weald_serves},
};

/// Of a request: more than goes before the handshake.
const LEN: usize = 30_000;
/// Streams of a client, each with a request.
const REQUESTS: u8 = 3;
/// What is looked for anew until it is there.
const AGAIN: Duration = Duration::from_millis(2);

fn request(number: u8) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut bytes);
    bytes
}

fn requests() -> Vec<Vec<u8>> {
    (0..REQUESTS).map(request).collect()
}

/// What an end says of a connection that began with early data.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    resumed: bool,
    early_data: EarlyData,
    retried: bool,
}

const ACCEPTED: Outcome = Outcome { resumed: true, early_data: EarlyData::Accepted, retried: false };
const REJECTED: Outcome = Outcome { resumed: true, early_data: EarlyData::Rejected, retried: false };
const FORGOTTEN: Outcome = Outcome { resumed: false, early_data: EarlyData::Rejected, retried: false };

fn outcome(connection: &weald_quic::Connection, early_data: EarlyData) -> Outcome {
    Outcome { resumed: connection.handshake().resumed, early_data, retried: connection.stats().retried }
}

/// Quinn gets a ticket of one weald server, and sends early data to another one, that `second` makes of what the first one has.
fn quinn_comes_again(expected: &Outcome, second: impl Fn(weald_crypto::ServerConfigBuilder, Tickets) -> weald_quic::ServerConfig) {
    let identity = Identity::new();
    let tickets = Tickets::new();
    let first = identity.weald_server_tls().tickets(tickets.clone()).early_data(true);
    let first = weald_quic::ServerConfig::new(first.build().unwrap());
    let second = second(identity.weald_server_tls(), tickets);
    let (mut tls, observed) = identity.quinn_client_observed(ALL_KX_GROUPS);
    tls.enable_early_data = true;
    let mut client = quinn_client(tls);
    // Its tokens would save it the Retry.
    client.token_store(Arc::new(quinn::NoneTokenStore));
    let (told, address_of_second) = tokio::sync::oneshot::channel();
    let ((found, served, any_early), accepted) = weald_serves(
        first,
        |endpoint| {
            let connection = endpoint.accept().unwrap();
            weald_meets_quinn(&connection);
            connection.closed();
            let endpoint = weald_quic::Endpoint::server(second, (std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            told.send(endpoint.local_addr().unwrap()).unwrap();
            let connection = endpoint.accept().unwrap();
            let (mut served, mut any_early) = (Vec::new(), false);
            while let Ok((mut send, mut receive)) = connection.accept_bi() {
                any_early |= receive.is_0rtt();
                let request = receive.read_to_end(LEN).unwrap();
                send.write_all(&request).unwrap();
                send.finish().unwrap();
                served.push(request);
            }
            let verdict = connection.wait_handshake().unwrap_or(connection.early_data());
            endpoint.wait_idle();
            (outcome(&connection, verdict), served, any_early)
        },
        |endpoint, address| async move {
            let connection = endpoint.connect_with(client.clone(), address, NAME).unwrap().await.unwrap();
            quinn_meets_weald(&connection).await;
            connection.close(0_u32.into(), b"");
            let address = address_of_second.await.unwrap();
            let connecting = endpoint.connect_with(client, address, NAME).unwrap();
            let (connection, verdict) = connecting.into_0rtt().unwrap_or_else(|_| panic!("quinn has no ticket"));
            let mut streams = Vec::new();
            for request in requests() {
                let (mut send, receive) = connection.open_bi().await.unwrap();
                // Once it knows of the rejection it takes no more.
                let _ = send.write_all(&request).await;
                let _ = send.finish();
                streams.push(receive);
            }
            let accepted = verdict.await;
            for (request, mut receive) in requests().into_iter().zip(streams) {
                if !accepted {
                    // Quinn leaves it to its application to send again what was rejected.
                    let error = receive.read_to_end(LEN).await.unwrap_err();
                    assert!(matches!(error, quinn::ReadToEndError::Read(quinn::ReadError::ZeroRttRejected)), "{error}");
                    let mut send;
                    (send, receive) = connection.open_bi().await.unwrap();
                    send.write_all(&request).await.unwrap();
                    send.finish().unwrap();
                }
                assert!(receive.read_to_end(LEN).await.unwrap() == request, "what came back is not what was sent");
            }
            connection.close(0_u32.into(), b"");
            accepted
        },
    );
    assert_eq!(&found, expected);
    assert_eq!(accepted, expected.early_data == EarlyData::Accepted);
    assert_eq!(any_early, accepted, "early data comes to who takes it");
    assert!(served == requests(), "each request comes once, and whole");
    assert_eq!(observed.certificates(), 1 + usize::from(!expected.resumed));
}

#[test]
fn quinn_sends_early_data() {
    quinn_comes_again(&ACCEPTED, |tls, tickets| weald_quic::ServerConfig::new(tls.tickets(tickets).early_data(true).build().unwrap()));
}

#[test]
fn quinn_sends_early_data_and_is_asked_for_its_address() {
    quinn_comes_again(&Outcome { retried: true, ..ACCEPTED }, |tls, tickets| {
        weald_quic::ServerConfig::new(tls.tickets(tickets).early_data(true).build().unwrap()).retry(RetryPolicy::Always)
    });
}

#[test]
fn quinn_sends_early_data_to_a_server_with_other_ticket_keys() {
    for policy in [RetryPolicy::Never, RetryPolicy::Always] {
        quinn_comes_again(&Outcome { retried: policy == RetryPolicy::Always, ..FORGOTTEN }, |tls, _| {
            weald_quic::ServerConfig::new(tls.early_data(true).build().unwrap()).retry(policy)
        });
    }
}

#[test]
fn quinn_sends_early_data_to_a_server_that_takes_none() {
    quinn_comes_again(&REJECTED, |tls, tickets| weald_quic::ServerConfig::new(tls.tickets(tickets).build().unwrap()));
}

/// A HelloRetryRequest is the end of early data (RFC 8446 section 4.2.10).
#[test]
fn quinn_sends_early_data_and_is_asked_for_another_group() {
    quinn_comes_again(&REJECTED, |tls, tickets| {
        let tls = tls.tickets(tickets).early_data(true).groups([NamedGroup::Secp256r1]);
        weald_quic::ServerConfig::new(tls.build().unwrap())
    });
}

/// What the client remembers would let it send more than the server allows now (RFC 9000 section 7.4.1).
#[test]
fn quinn_sends_early_data_to_a_server_with_lower_limits() {
    quinn_comes_again(&REJECTED, |tls, tickets| {
        weald_quic::ServerConfig::new(tls.tickets(tickets).early_data(true).build().unwrap())
            .transport(TransportConfig::default().max_streams_bi(50))
    });
}

/// Quinn offers early data whenever it may, also if it has none to send.
#[test]
fn quinn_resumes() {
    let identity = Identity::new();
    let (mut tls, observed) = identity.quinn_client_observed(ALL_KX_GROUPS);
    tls.enable_early_data = true;
    let client = quinn_client(tls);
    let (resumed, ()) = weald_serves(
        identity.weald_server(),
        |endpoint| {
            [(); 3].map(|()| {
                let connection = endpoint.accept().unwrap();
                weald_meets_quinn(&connection);
                connection.closed();
                outcome(&connection, connection.early_data())
            })
        },
        |endpoint, address| async move {
            for _ in 0..3 {
                let connection = endpoint.connect_with(client.clone(), address, NAME).unwrap().await.unwrap();
                quinn_meets_weald(&connection).await;
                connection.close(0_u32.into(), b"");
            }
        },
    );
    let offers_nothing = |resumed| Outcome { resumed, early_data: EarlyData::NotOffered, retried: false };
    assert_eq!(resumed, [false, true, true].map(offers_nothing));
    assert_eq!(observed.certificates(), 1);
}

/// Weald gets a ticket of one quinn server, and sends early data to another one, that `second` makes of the first. Says what the
/// second saw.
fn weald_comes_again(expected: &Outcome, second: impl Fn(&mut rustls::ServerConfig, &Identity) -> Option<Arc<Observed>>) -> Arc<Observed> {
    let identity = Identity::new();
    let (mut first, observed) = identity.quinn_server_observed(ALL_KX_GROUPS);
    first.max_early_data_size = u32::MAX;
    let mut again = first.clone();
    let of_second = second(&mut again, &identity);
    let sessions = SessionStore::default();
    let crypto = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(identity.chain()).sessions(sessions.clone());
    let client = weald_quic::ClientConfig::new(crypto.build().unwrap()).token_store(None);
    let retries = expected.retried;
    let (found, (served, any_early)) = quinn_serves(
        quinn_server(first),
        move |endpoint| async move {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            endpoint.set_server_config(Some(quinn_server(again)));
            quinn_meets_weald(&connection).await;
            connection.closed().await;
            let mut incoming = endpoint.accept().await.unwrap();
            if retries {
                assert!(!incoming.remote_address_validated());
                incoming.retry().unwrap();
                incoming = endpoint.accept().await.unwrap();
                assert!(incoming.remote_address_validated());
            }
            let (connection, _) = incoming.accept().unwrap().into_0rtt().unwrap_or_else(|_| panic!("a server may"));
            let (mut served, mut any_early) = (Vec::new(), false);
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                any_early |= receive.is_0rtt();
                let request = receive.read_to_end(LEN).await.unwrap();
                send.write_all(&request).await.unwrap();
                send.finish().unwrap();
                served.push(request);
            }
            (served, any_early)
        },
        move |endpoint, address| {
            let connection = endpoint.connect_with(client.clone(), address, NAME).unwrap();
            weald_meets_quinn(&connection);
            while sessions.is_empty() {
                weald_runtime::sleep(AGAIN);
            }
            connection.close(0_u32.into(), b"");
            let connection = endpoint.connect_0rtt_with(client, address, NAME).unwrap();
            assert_eq!(connection.early_data(), EarlyData::Offered);
            let streams = requests().into_iter().map(|request| {
                let (mut send, receive) = connection.open_bi().unwrap();
                send.write_all(&request).unwrap();
                send.finish().unwrap();
                (request, receive)
            });
            for (request, mut receive) in streams.collect::<Vec<_>>() {
                // What was rejected goes again by itself.
                assert!(receive.read_to_end(LEN).unwrap() == request, "what came back is not what was sent");
            }
            let verdict = connection.wait_handshake().unwrap();
            connection.close(0_u32.into(), b"");
            outcome(&connection, verdict)
        },
    );
    assert_eq!(&found, expected);
    assert_eq!(any_early, expected.early_data == EarlyData::Accepted, "early data comes to who takes it");
    assert!(served == requests(), "each request comes once, and whole");
    let seen = of_second.unwrap_or(observed);
    assert_eq!(seen.sessions(), usize::from(expected.resumed));
    seen
}

#[test]
fn weald_sends_early_data() {
    weald_comes_again(&ACCEPTED, |_, _| None);
}

#[test]
fn weald_sends_early_data_and_is_asked_for_its_address() {
    weald_comes_again(&Outcome { retried: true, ..ACCEPTED }, |_, _| None);
}

#[test]
fn weald_sends_early_data_to_a_server_that_has_forgotten() {
    for retried in [false, true] {
        weald_comes_again(&Outcome { retried, ..FORGOTTEN }, |tls, identity| {
            let (other, observed) = identity.quinn_server_observed(ALL_KX_GROUPS);
            *tls = other;
            tls.max_early_data_size = u32::MAX;
            Some(observed)
        });
    }
}

#[test]
fn weald_sends_early_data_to_a_server_that_takes_none() {
    weald_comes_again(&REJECTED, |tls, _| {
        tls.max_early_data_size = 0;
        None
    });
}

#[test]
fn weald_sends_early_data_and_is_asked_for_another_group() {
    let seen = weald_comes_again(&REJECTED, |tls, identity| {
        let sessions = tls.session_storage.clone();
        let (other, observed) = identity.quinn_server_observed(&[kx_group::SECP256R1]);
        *tls = other;
        tls.max_early_data_size = u32::MAX;
        tls.session_storage = Arc::new(Sessions { sessions, observed: observed.clone() });
        Some(observed)
    });
    assert_eq!(seen.hellos(), 2);
}
