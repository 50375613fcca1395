//! Sessions that resume, and data that goes before the handshake: accepted and rejected (RFC 9001 4.6).

use std::time::Duration;

use weald_crypto::SessionStore;
use weald_quic::EarlyData;

use crate::sides::{ALPN, Identity, NAME, quinn_client, quinn_meets_weald, quinn_server, quinn_serves, weald_meets_quinn, weald_serves};

/// More than goes before the handshake.
const LEN: usize = 30_000;
/// What is looked for anew until it is there.
const AGAIN: Duration = Duration::from_millis(2);

fn request() -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    blake3::Hasher::new().update(b"early").finalize_xof().fill(&mut bytes);
    bytes
}

/// Gives a request back, and says whether it came early, whether the session was resumed, and what became of early data.
fn answer(connection: &weald_quic::Connection) -> (bool, bool, EarlyData) {
    let (mut send, mut receive) = connection.accept_bi().unwrap();
    let early = receive.is_0rtt();
    send.write_all(&receive.read_to_end(LEN).unwrap()).unwrap();
    send.finish().unwrap();
    let verdict = connection.wait_handshake().unwrap();
    connection.closed();
    (early, connection.handshake().resumed, verdict)
}

#[test]
fn quinn_sends_early_data() {
    let identity = Identity::new();
    let crypto = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(identity.chain(), identity.key());
    let server = weald_quic::ServerConfig::new(crypto.early_data(true).build().unwrap());
    let mut tls = identity.quinn_client_tls(ALPN);
    tls.enable_early_data = true;
    let client = quinn_client(tls);
    let (answers, accepted) = weald_serves(
        server,
        |endpoint| {
            let connection = endpoint.accept().unwrap();
            weald_meets_quinn(&connection);
            connection.closed();
            [(); 2].map(|()| answer(&endpoint.accept().unwrap()))
        },
        |endpoint, address| async move {
            let connect = || endpoint.connect_with(client.clone(), address, NAME).unwrap();
            let connection = connect().await.unwrap();
            quinn_meets_weald(&connection).await;
            connection.close(0_u32.into(), b"");
            let mut accepted = Vec::new();
            for early in [true, false] {
                let (connection, verdict) = if early {
                    let (connection, verdict) = connect().into_0rtt().unwrap_or_else(|_| panic!("quinn has no ticket"));
                    (connection, Some(verdict))
                } else {
                    (connect().await.unwrap(), None)
                };
                let (mut send, mut receive) = connection.open_bi().await.unwrap();
                send.write_all(&request()).await.unwrap();
                send.finish().unwrap();
                assert_eq!(receive.read_to_end(LEN).await.unwrap(), request());
                if let Some(verdict) = verdict {
                    accepted.push(verdict.await);
                }
                connection.close(0_u32.into(), b"");
            }
            accepted
        },
    );
    assert_eq!(accepted, [true]);
    // Quinn offers early data whenever it may, and has none to send the second time.
    assert_eq!(answers[0], (true, true, EarlyData::Accepted));
    assert_eq!((answers[1].0, answers[1].1), (false, true));
}

#[test]
fn weald_sends_early_data() {
    let identity = Identity::new();
    let (mut takes, mut takes_not) = (identity.quinn_server_tls(), identity.quinn_server_tls());
    takes.max_early_data_size = u32::MAX;
    // The same sessions, and no early data.
    takes_not.session_storage = takes.session_storage.clone();
    takes_not.ticketer = takes.ticketer.clone();
    let (takes, takes_not) = (quinn_server(takes), quinn_server(takes_not));
    let sessions = SessionStore::default();
    let crypto = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(identity.chain()).sessions(sessions.clone());
    let client = weald_quic::ClientConfig::new(crypto.build().unwrap());
    let (verdicts, early) = quinn_serves(
        takes,
        move |endpoint| async move {
            let mut early = Vec::new();
            for turn in 0..3 {
                let (connection, _) =
                    endpoint.accept().await.unwrap().accept().unwrap().into_0rtt().unwrap_or_else(|_| panic!("a server may"));
                if turn == 0 {
                    quinn_meets_weald(&connection).await;
                } else {
                    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
                    early.push(receive.is_0rtt());
                    send.write_all(&receive.read_to_end(LEN).await.unwrap()).await.unwrap();
                    send.finish().unwrap();
                }
                if turn == 1 {
                    endpoint.set_server_config(Some(takes_not.clone()));
                }
                connection.closed().await;
            }
            early
        },
        move |endpoint, address| {
            let connection = endpoint.connect_with(client.clone(), address, NAME).unwrap();
            weald_meets_quinn(&connection);
            while sessions.is_empty() {
                weald_runtime::sleep(AGAIN);
            }
            connection.close(0_u32.into(), b"");
            let known = sessions.len();
            [known, known].map(|_| {
                let connection = endpoint.connect_0rtt_with(client.clone(), address, NAME).unwrap();
                assert_eq!(connection.early_data(), EarlyData::Offered);
                let (mut send, mut receive) = connection.open_bi().unwrap();
                send.write_all(&request()).unwrap();
                send.finish().unwrap();
                assert!(receive.read_to_end(LEN).unwrap() == request());
                let verdict = connection.wait_handshake().unwrap();
                assert!(connection.handshake().resumed);
                while sessions.is_empty() {
                    weald_runtime::sleep(AGAIN);
                }
                connection.close(0_u32.into(), b"");
                verdict
            })
        },
    );
    assert_eq!(verdicts, [EarlyData::Accepted, EarlyData::Rejected]);
    assert_eq!(early, [true, false]);
}
