//! Versions: quiche speaks version 1 alone, and knows nothing of compatible negotiation (RFC 9368). What Weald does with such a peer.

use weald_quic::{ClientConfig, ConnectError, ConnectionError, ServerConfig, Version};

use crate::{
    quiche_side::{Client, Options, Server},
    sides::{self, Identity, client, quiche_fetches, requests, together, weald_fetches},
};

#[test]
fn who_prefers_version_2_goes_on_in_version_1() {
    let identity = Identity::new();
    let server = ServerConfig::new(identity.weald_server().build().unwrap()).versions([Version::V2, Version::V1]);
    let (weald, quiche) = quiche_fetches(&identity, server, &Options::default(), requests(1, 10_000));
    assert_eq!((weald.version, quiche.version), (Version::V1, quiche::PROTOCOL_VERSION));

    let client = ClientConfig::new(identity.weald_client().build().unwrap()).versions([Version::V2, Version::V1]);
    let (weald, quiche) = weald_fetches(&identity, client, &Options::default(), requests(1, 10_000));
    assert_eq!((weald.version, quiche.version), (Version::V1, quiche::PROTOCOL_VERSION));
}

/// Each end sends a Version Negotiation packet to whom it does not understand, and gives up on one that names no version of its own
/// (RFC 9000 section 6).
#[test]
fn who_speaks_version_2_alone_is_not_understood() {
    let identity = Identity::new();
    let server = ServerConfig::new(identity.weald_server().build().unwrap()).versions([Version::V2]);
    let mut quiche = Client::new(&identity, &Options::default());
    let (told, address) = std::sync::mpsc::channel();
    let (stats, closed) = together(
        move || {
            let endpoint = sides::server(server);
            told.send(endpoint.local_addr().unwrap()).unwrap();
            while endpoint.stats().version_negotiations == 0 {
                weald_runtime::sleep(std::time::Duration::from_millis(2));
            }
            endpoint.stats()
        },
        move || quiche.fetch(address.recv().unwrap(), None, &requests(1, 10)).unwrap_err(),
    );
    assert_eq!((stats.accepted, closed), (0, None));

    let config = ClientConfig::new(identity.weald_client().build().unwrap()).versions([Version::V2]);
    let mut quiche = Server::new(&identity, &Options::default());
    let address = quiche.address();
    let (error, ()) =
        together(move || sides::fetch(&client(), &config, address, false, &requests(1, 10)).unwrap_err(), move || quiche.refuse_version());
    assert!(matches!(error, ConnectError::Connection(ConnectionError::VersionMismatch)), "{error}");
}
