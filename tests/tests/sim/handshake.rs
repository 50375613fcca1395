//! How connections begin, and what keeps them from it.

use std::net::SocketAddr;
use std::time::Duration;

use weald_quic::{ConnectError, ConnectionError, Endpoint, TransportConfig};
use weald_runtime::sim::LinkConfig;
use weald_runtime::time::Instant;
use weald_tests::world::{self, client_config, link, server_address, server_config, simulate};

use super::client_endpoint;

#[test]
fn nobody_there_is_a_timeout() {
    simulate(1, LinkConfig { loss: 1.0, ..link() }, || {
        let transport =
            TransportConfig::default().handshake_timeout(Duration::from_secs(60)).max_idle_timeout(Some(Duration::from_secs(7)));
        let start = Instant::now();
        let refused = client_endpoint().connect_with(client_config(1, transport), server_address(), "localhost");
        assert!(matches!(refused, Err(ConnectError::Connection(ConnectionError::TimedOut))), "{:?}", refused.err());
        assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
        // RFC 9000, 10.1: not before three probe timeouts, which double from a first guess of one second.
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    });
}

#[test]
fn what_the_name_of_the_certificate_is_not_ends_the_handshake() {
    simulate(1, link(), || {
        let server = Endpoint::server(server_config(1, TransportConfig::default()), server_address()).expect("a server");
        let client = client_endpoint();
        let refused = client.connect_with(client_config(1, TransportConfig::default()), server_address(), "example.org");
        let message = refused.expect_err("the certificate is another's").to_string();
        assert!(message.contains("example.org"), "{message}");
        let address: SocketAddr = world::server_address();
        assert_eq!(server.local_addr().expect("an address"), address);
    });
}
