//! Bytes that go to the other end and come back, with and without a Retry (RFC 9000 section 8.1.2).

use weald_quic::{ClientConfig, RetryPolicy, ServerConfig, Version};

use crate::{
    quiche_side::Options,
    sides::{Identity, quiche_fetches, requests, weald_fetches},
};

/// Of a request: more than a stream's first window.
const LEN: usize = 1_500_000;

#[test]
fn quiche_transfers() {
    for retries in [false, true] {
        let identity = Identity::new();
        let policy = if retries { RetryPolicy::Always } else { RetryPolicy::Never };
        let server = ServerConfig::new(identity.weald_server().build().unwrap()).retry(policy);
        let (weald, quiche) = quiche_fetches(&identity, server, &Options::default(), requests(3, LEN));
        assert_eq!((weald.version, weald.resumed, weald.retried), (Version::V1, false, retries));
        assert_eq!((quiche.version, quiche.resumed, quiche.retried), (quiche::PROTOCOL_VERSION, false, retries));
    }
}

#[test]
fn weald_transfers() {
    for retries in [false, true] {
        let identity = Identity::new();
        let client = ClientConfig::new(identity.weald_client().build().unwrap());
        let options = Options { retries, ..Options::default() };
        let (weald, quiche) = weald_fetches(&identity, client, &options, requests(3, LEN));
        assert_eq!((weald.version, weald.resumed, weald.retried), (Version::V1, false, retries));
        assert_eq!((quiche.version, quiche.resumed, quiche.retried), (quiche::PROTOCOL_VERSION, false, retries));
    }
}
