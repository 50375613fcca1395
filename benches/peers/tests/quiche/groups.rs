//! Which key exchange group two ends agree on, with a HelloRetryRequest and without (RFC 8446 sections 4.1.4 and 4.2.8).

use weald_crypto::NamedGroup::{self, Secp256r1, X25519, X25519MlKem768};
use weald_quic::{ConnectError, ConnectionError};

use crate::{
    quiche_side::{Client, Options, Server},
    sides::{self, Identity, client, quiche_fetches, requests, together, weald_fetches},
};

/// All that Weald has, as BoringSSL names it.
const ALL: &str = "X25519MLKEM768:X25519:P-256";
/// `handshake_failure` as a code of QUIC (RFC 9001 section 4.8).
const HANDSHAKE_FAILURE: u64 = 0x100 + 40;

fn name_of_boring(group: NamedGroup) -> &'static str {
    match group {
        X25519MlKem768 => "X25519MLKEM768",
        X25519 => "X25519",
        Secp256r1 => "P-256",
    }
}

#[test]
fn groups_of_a_weald_server() {
    let cases: [(_, &[NamedGroup], _, _); 6] = [
        (ALL, &NamedGroup::ALL, X25519MlKem768, false),
        ("X25519:P-256", &NamedGroup::ALL, X25519, false),
        (ALL, &[X25519, Secp256r1], X25519, false),
        (ALL, &[Secp256r1], Secp256r1, true),
        ("X25519:P-256", &[X25519MlKem768, Secp256r1], Secp256r1, true),
        // BoringSSL sends its halves of the first group of elliptic curves and of the first hybrid one, whatever the order.
        ("P-256:X25519MLKEM768", &[X25519MlKem768], X25519MlKem768, false),
    ];
    for (theirs, ours, agreed, again) in cases {
        let identity = Identity::new();
        let server = weald_quic::ServerConfig::new(identity.weald_server().groups(ours.iter().copied()).build().unwrap());
        let options = Options { groups: theirs, ..Options::default() };
        let (weald, quiche) = quiche_fetches(&identity, server, &options, requests(1, 100_000));
        let what = format!("{theirs} at the client, {ours:?} at the server");
        assert_eq!(weald.group, agreed, "{what}");
        assert_eq!((quiche.group, quiche.hello_retry), (Some(name_of_boring(agreed)), again), "{what}");
    }
}

#[test]
fn groups_of_a_weald_client() {
    let cases: [(&[NamedGroup], _, _, _); 6] = [
        (&NamedGroup::ALL, ALL, X25519MlKem768, false),
        (&[X25519], ALL, X25519, false),
        (&NamedGroup::ALL, "X25519", X25519, false),
        (&NamedGroup::ALL, "P-256", Secp256r1, true),
        (&[X25519, Secp256r1], "P-256", Secp256r1, true),
        (&[X25519, X25519MlKem768], "X25519MLKEM768", X25519MlKem768, true),
    ];
    for (ours, theirs, agreed, again) in cases {
        let identity = Identity::new();
        let client = weald_quic::ClientConfig::new(identity.weald_client().groups(ours.iter().copied()).build().unwrap());
        let options = Options { groups: theirs, ..Options::default() };
        let (weald, quiche) = weald_fetches(&identity, client, &options, requests(1, 100_000));
        let what = format!("{ours:?} at the client, {theirs} at the server");
        assert_eq!(weald.group, agreed, "{what}");
        assert_eq!((quiche.group, quiche.hello_retry), (Some(name_of_boring(agreed)), again), "{what}");
    }
}

/// A policy of the hybrid group alone lets nobody in who has another one.
#[test]
fn no_group_in_common() {
    let identity = Identity::new();
    let server = weald_quic::ServerConfig::new(identity.weald_server().groups([X25519MlKem768]).build().unwrap());
    let mut quiche = Client::new(&identity, &Options { groups: "X25519:P-256", ..Options::default() });
    let (told, address) = std::sync::mpsc::channel();
    let ((), closed) = together(
        move || {
            let endpoint = sides::server(server);
            told.send(endpoint.local_addr().unwrap()).unwrap();
            while endpoint.stats().accepted == 0 {
                weald_runtime::sleep(std::time::Duration::from_millis(2));
            }
            endpoint.wait_idle();
        },
        move || quiche.fetch(address.recv().unwrap(), None, &requests(1, 10)).unwrap_err(),
    );
    assert_eq!(closed, Some(HANDSHAKE_FAILURE));

    let config = weald_quic::ClientConfig::new(identity.weald_client().groups([X25519MlKem768]).build().unwrap());
    let mut quiche = Server::new(&identity, &Options { groups: "X25519:P-256", ..Options::default() });
    let address = quiche.address();
    let (error, report) = together(
        move || {
            let endpoint = client();
            let error = sides::fetch(&endpoint, &config, address, false, &requests(1, 10)).unwrap_err();
            endpoint.wait_idle();
            error
        },
        move || quiche.serve(),
    );
    let ConnectError::Connection(ConnectionError::ConnectionClosed(close)) = error else { panic!("{error}") };
    assert_eq!(close.code.as_u64(), HANDSHAKE_FAILURE);
    assert_eq!(report.group, None);
}
