//! Retry, and the tokens that save a client the next one (RFC 9000 8.1.2, 8.1.3).

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use weald_quic::{MemoryTokenStore, RetryPolicy, TokenStore, Version};

use crate::sides::{Identity, NAME, quinn_meets_weald, quinn_serves, weald_meets_quinn, weald_serves};

/// What is looked for anew until it is there.
const AGAIN: Duration = Duration::from_millis(2);

#[test]
fn a_quinn_client_follows_a_retry_and_its_token_saves_the_next() {
    let identity = Identity::new();
    let client = identity.quinn_client();
    let ((server, connections), clients) = weald_serves(
        identity.weald_server().retry(RetryPolicy::Always),
        |endpoint| {
            let connections = [(); 2].map(|()| {
                let connection = endpoint.accept().unwrap();
                weald_meets_quinn(&connection);
                connection.closed();
                connection.stats()
            });
            (endpoint.stats(), connections)
        },
        |endpoint, address| async move {
            let mut clients = Vec::new();
            for _ in 0..2 {
                let connection = endpoint.connect_with(client.clone(), address, NAME).unwrap().await.unwrap();
                quinn_meets_weald(&connection).await;
                while connection.stats().frame_rx.new_token == 0 {
                    tokio::time::sleep(AGAIN).await;
                }
                clients.push(connection.stats());
                connection.close(0_u32.into(), b"");
            }
            clients
        },
    );
    assert_eq!(connections.map(|stats| (stats.retried, stats.address_token)), [(true, false), (false, true)]);
    assert_eq!((server.accepted, server.validated, server.retries, server.invalid_tokens), (2, 2, 1, 0), "{server:?}");
    // Quinn sends its first CRYPTO frames again after a Retry, and has another statistic for neither.
    let crypto = |client: usize| clients[client].frame_tx.crypto;
    assert!(crypto(0) > crypto(1), "{} and {} CRYPTO frames", crypto(0), crypto(1));
}

/// Says of each token whether it was seen before.
#[derive(Default)]
struct Seen(Mutex<HashSet<u128, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>>);

impl quinn::TokenLog for Seen {
    fn check_and_insert(&self, nonce: u128, _: SystemTime, _: Duration) -> Result<(), quinn::TokenReuseError> {
        if self.0.lock().unwrap().insert(nonce) { Ok(()) } else { Err(quinn::TokenReuseError) }
    }
}

/// A store that counts what it is given.
#[derive(Default)]
struct Counting {
    store: MemoryTokenStore,
    put: AtomicUsize,
}

impl TokenStore for Counting {
    fn put(&self, server_name: &str, version: Version, token: Vec<u8>) {
        self.store.put(server_name, version, token);
        self.put.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self, server_name: &str, version: Version) -> Option<Vec<u8>> {
        self.store.take(server_name, version)
    }
}

#[test]
fn a_weald_client_follows_quinns_retry_and_its_token_saves_the_next() {
    let identity = Identity::new();
    let mut server = identity.quinn_server();
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.log(Arc::new(Seen::default())).sent(1);
    server.validation_token_config(tokens);
    let store = Arc::new(Counting::default());
    let client = identity.weald_client().token_store(Some(Arc::clone(&store) as _));

    let (clients, servers) = quinn_serves(
        server,
        |endpoint| async move {
            let mut servers = Vec::new();
            for _ in 0..2 {
                let mut retries = 0;
                let connection = loop {
                    let incoming = endpoint.accept().await.unwrap();
                    if incoming.remote_address_validated() {
                        break incoming.await.unwrap();
                    }
                    incoming.retry().unwrap();
                    retries += 1;
                };
                quinn_meets_weald(&connection).await;
                connection.closed().await;
                servers.push((retries, connection.stats().frame_tx.new_token));
            }
            servers
        },
        move |endpoint, address| {
            [(); 2].map(|()| {
                let known = store.put.load(Ordering::Relaxed);
                let connection = endpoint.connect_with(client.clone(), address, NAME).unwrap();
                weald_meets_quinn(&connection);
                while store.put.load(Ordering::Relaxed) == known {
                    weald_runtime::sleep(AGAIN);
                }
                connection.close(0_u32.into(), b"");
                connection.stats()
            })
        },
    );
    assert_eq!(clients.map(|stats| (stats.retried, stats.address_token)), [(true, false), (false, true)]);
    // A client that heard nothing yet sends its first packet again, and is sent another Retry then.
    assert!(servers[0].0 >= 1 && servers[1].0 == 0, "{servers:?}");
    assert!(servers.iter().all(|(_, tokens)| *tokens >= 1), "{servers:?}");
}
