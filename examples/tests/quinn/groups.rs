//! Which key exchange group two ends agree on, with a HelloRetryRequest and without (RFC 8446 sections 4.1.4 and 4.2.8).

use std::time::Duration;

use rustls::crypto::{SupportedKxGroup, aws_lc_rs::kx_group};
use weald_crypto::NamedGroup::{self, Secp256r1, X25519, X25519MlKem768};
use weald_quic::{ConnectError, ConnectionError, RetryPolicy};

use crate::sides::{Identity, NAME, quinn_client, quinn_server, quinn_serves, weald_accepts, weald_connects, weald_serves};

/// Bytes that are sent and come back.
const LEN: usize = 1_000_000;
/// `handshake_failure` as a code of QUIC (RFC 9001 section 4.8).
const HANDSHAKE_FAILURE: u64 = 0x100 + 40;

/// What both ends have, and what must come of it.
#[derive(Clone, Copy)]
struct Case {
    client: &'static [NamedGroup],
    server: &'static [NamedGroup],
    agreed: NamedGroup,
    /// The server asks for another half of a key exchange than the client has sent.
    again: bool,
}

const CASES: [Case; 8] = [
    // Both have all: the preferred one.
    Case { client: &NamedGroup::ALL, server: &NamedGroup::ALL, agreed: X25519MlKem768, again: false },
    // A client that has the hybrid group first sends X25519's half beside it.
    Case { client: &NamedGroup::ALL, server: &[X25519, Secp256r1], agreed: X25519, again: false },
    Case { client: &[X25519], server: &NamedGroup::ALL, agreed: X25519, again: false },
    Case { client: &[Secp256r1], server: &NamedGroup::ALL, agreed: Secp256r1, again: false },
    // A policy of the hybrid group alone, on either end.
    Case { client: &[X25519MlKem768], server: &NamedGroup::ALL, agreed: X25519MlKem768, again: false },
    Case { client: &[X25519, X25519MlKem768], server: &[X25519MlKem768], agreed: X25519MlKem768, again: true },
    Case { client: &NamedGroup::ALL, server: &[Secp256r1], agreed: Secp256r1, again: true },
    Case { client: &[X25519, Secp256r1], server: &[Secp256r1, X25519MlKem768], agreed: Secp256r1, again: true },
];

fn of_rustls(groups: &[NamedGroup]) -> Vec<&'static dyn SupportedKxGroup> {
    let group = |group: &NamedGroup| match group {
        X25519MlKem768 => kx_group::X25519MLKEM768,
        X25519 => kx_group::X25519,
        Secp256r1 => kx_group::SECP256R1,
    };
    groups.iter().map(group).collect()
}

fn name_of_rustls(group: NamedGroup) -> rustls::NamedGroup {
    of_rustls(&[group])[0].name()
}

fn content() -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    blake3::Hasher::new().update(b"groups").finalize_xof().fill(&mut bytes);
    bytes
}

/// Sends all back that comes, and then tells of the handshake.
fn weald_part(connection: &weald_quic::Connection) -> (NamedGroup, bool) {
    let (mut send, mut receive) = connection.accept_bi().unwrap();
    send.write_all(&receive.read_to_end(LEN).unwrap()).unwrap();
    send.finish().unwrap();
    connection.closed();
    (connection.handshake().group, connection.stats().retried)
}

async fn quinn_part(connection: quinn::Connection) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&content()).await.unwrap();
    send.finish().unwrap();
    assert!(receive.read_to_end(LEN).await.unwrap() == content(), "what came back is not what was sent");
    connection.close(0_u32.into(), b"");
}

#[test]
fn groups_of_a_weald_server() {
    for (case, retries) in CASES.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let identity = Identity::new();
        let crypto = identity.weald_server_tls().groups(case.server.iter().copied());
        let policy = if retries { RetryPolicy::Always } else { RetryPolicy::Never };
        let server = weald_quic::ServerConfig::new(crypto.build().unwrap()).retry(policy);
        let (tls, observed) = identity.quinn_client_observed(&of_rustls(case.client));
        let ((group, retried), ()) = weald_accepts(server, quinn_client(tls), |weald| weald_part(&weald), quinn_part);
        let what = format!("{:?} at the client, {:?} at the server, Retry: {retries}", case.client, case.server);
        assert_eq!((group, retried), (case.agreed, retries), "{what}");
        assert_eq!(observed.agreed(), [name_of_rustls(case.agreed)], "{what}");
        // Its first half, and the one that it was asked for.
        let mut started = vec![name_of_rustls(case.client[0])];
        started.extend(case.again.then(|| name_of_rustls(case.agreed)));
        assert_eq!(observed.started(), started, "{what}");
    }
}

#[test]
fn groups_of_a_weald_client() {
    for case in CASES {
        let identity = Identity::new();
        let crypto = identity.weald_client_tls().groups(case.client.iter().copied());
        let client = weald_quic::ClientConfig::new(crypto.build().unwrap());
        let (tls, observed) = identity.quinn_server_observed(&of_rustls(case.server));
        let ((group, _), ()) = weald_connects(client, quinn_server(tls), |weald| weald_part(&weald), quinn_part);
        let what = format!("{:?} at the client, {:?} at the server", case.client, case.server);
        assert_eq!(group, case.agreed, "{what}");
        assert_eq!((observed.agreed(), observed.hellos()), (vec![name_of_rustls(case.agreed)], 1 + usize::from(case.again)), "{what}");
    }
}

/// A policy of the hybrid group alone lets nobody in who has another one.
#[test]
fn no_group_in_common() {
    let identity = Identity::new();
    let server = weald_quic::ServerConfig::new(identity.weald_server_tls().groups([X25519MlKem768]).build().unwrap());
    let (tls, observed) = identity.quinn_client_observed(&of_rustls(&[X25519, Secp256r1]));
    let ((), error) = weald_serves(
        server,
        |endpoint| {
            while endpoint.stats().accepted == 0 {
                weald_runtime::sleep(Duration::from_millis(2));
            }
        },
        |endpoint, address| async move { endpoint.connect_with(quinn_client(tls), address, NAME).unwrap().await.unwrap_err() },
    );
    let quinn::ConnectionError::ConnectionClosed(close) = error else { panic!("{error}") };
    assert_eq!(u64::from(close.error_code), HANDSHAKE_FAILURE);
    assert_eq!(observed.agreed(), []);

    let client = weald_quic::ClientConfig::new(identity.weald_client_tls().groups([X25519MlKem768]).build().unwrap());
    let (tls, observed) = identity.quinn_server_observed(&of_rustls(&[X25519, Secp256r1]));
    let (error, refused) = quinn_serves(
        quinn_server(tls),
        |endpoint| async move { endpoint.accept().await.unwrap().await.unwrap_err() },
        move |endpoint, address| endpoint.connect_with(client, address, NAME).unwrap_err(),
    );
    let ConnectError::Connection(ConnectionError::ConnectionClosed(close)) = error else { panic!("{error}") };
    assert_eq!(close.code.as_u64(), HANDSHAKE_FAILURE);
    assert!(matches!(refused, quinn::ConnectionError::TransportError(_)), "{refused}");
    assert_eq!(observed.agreed(), []);
}
