//! TLS between two endpoints, as applications set it up and see it: who the peer is, which certificate is shown, what is agreed
//! on, and with which alert it fails (RFC 9001, 4.8). Keys, groups and certificates are real ones, so that the bytes of a seed
//! are not the same twice; the network and the time are simulated.

use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use weald_crypto::{
    Certificates, CipherSuite, ClientAuth, ClientConfigBuilder, NamedGroup, PrivateKey, ServerCertificates, ServerConfigBuilder,
};
use weald_quic::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, ServerConfig, TransportConfig, TransportErrorCode};
use weald_runtime::sim::LinkConfig;
use weald_runtime::{JoinHandle, spawn};
use weald_tests::world::{client_address, link, receive, send, server_address, simulate_untraced};

const HOST: &str = "server.example";
const ALPN: &[u8] = b"weald-test";

// Alerts: RFC 8446, 6.
const BAD_CERTIFICATE: u8 = 42;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;
const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A certificate that signs itself, and its key.
fn credentials(name: &str, change: impl FnOnce(&mut CertificateParams)) -> (Certificates, PrivateKey) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    let certificate = params.self_signed(&key).expect("a certificate");
    let key = PrivateKey::from_pem(key.serialize_pem().as_bytes()).expect("a key");
    (Certificates::from_pem(certificate.pem().as_bytes()).expect("a certificate"), key)
}

fn for_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

fn server_tls() -> (ServerConfigBuilder, Certificates) {
    let (chain, key) = credentials(HOST, |_| ());
    (weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain.clone(), key), chain)
}

fn client_tls(roots: &Certificates) -> ClientConfigBuilder {
    weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(roots.clone())
}

/// A server that echoes each connection's streams, and gives the connections it had when it ends.
struct Server {
    endpoint: Endpoint,
    accepting: JoinHandle<Vec<Connection>>,
}

impl Server {
    fn new(tls: weald_crypto::ServerConfig) -> Self {
        let endpoint = Endpoint::server(ServerConfig::new(tls), server_address()).expect("a server");
        let accepting = endpoint.clone();
        let accepting = spawn(move || {
            let mut connections = Vec::new();
            while let Some(connection) = accepting.accept() {
                connections.push(connection.clone());
                drop(spawn(move || {
                    while let Ok((mut out, mut input)) = connection.accept_bi() {
                        let bytes = input.read_to_end(1 << 20).expect("it arrives");
                        out.write_all(&bytes).expect("it is sent");
                        out.finish().expect("it is open");
                    }
                }));
            }
            connections
        });
        Self { endpoint, accepting }
    }

    fn end(self) -> Vec<Connection> {
        self.endpoint.close(0_u32.into(), b"");
        self.accepting.join().expect("no panic")
    }
}

fn connect(number: u16, tls: ClientConfigBuilder, host: &str) -> Result<Connection, ConnectError> {
    let endpoint = Endpoint::client(client_address(number)).expect("a client");
    endpoint.connect_with(ClientConfig::new(tls.build().expect("it is whole")), server_address(), host)
}

/// A stream there and back.
fn exchange(connection: &Connection) {
    let (mut out, mut input) = connection.open_bi().expect("a stream");
    send(&mut out, 5, 20_000);
    receive(&mut input, 5, 20_000);
}

/// What a refused client is told.
fn told(connection: &Connection) -> TransportErrorCode {
    match connection.closed() {
        ConnectionError::ConnectionClosed(told) => told.code,
        other => panic!("{other}"),
    }
}

fn lossy() -> LinkConfig {
    LinkConfig { loss: 0.05, reorder: 0.2, duplicate: 0.1, ..link() }
}

#[test]
fn a_server_sees_who_its_clients_are() {
    let (chain, key) = credentials("client", for_clients);
    for auth in [ClientAuth::Optional, ClientAuth::Required] {
        for seed in 0..10 {
            simulate_untraced(seed, lossy(), || {
                let (tls, roots) = server_tls();
                let server = Server::new(tls.client_roots(chain.clone(), auth).build().expect("it is whole"));
                let known = connect(1, client_tls(&roots).identity(chain.clone(), key.clone()), HOST).expect("a connection");
                exchange(&known);
                let nobody = connect(2, client_tls(&roots), HOST);
                match auth {
                    ClientAuth::Optional => exchange(&nobody.expect("it need not tell")),
                    ClientAuth::Required => {
                        // Its handshake may be complete before the server has seen the certificate that is none.
                        let code = match nobody {
                            Ok(connection) => told(&connection),
                            Err(ConnectError::Connection(ConnectionError::ConnectionClosed(told))) => told.code,
                            Err(other) => panic!("{other}"),
                        };
                        assert_eq!(code, TransportErrorCode::crypto(CERTIFICATE_REQUIRED));
                    }
                }
                // Who was let in before does not notice.
                exchange(&known);
                let mut shown: Vec<_> = server.end().iter().map(|connection| connection.handshake().peer_certificates).collect();
                shown.sort();
                let der: Vec<Vec<u8>> = chain.iter().map(<[u8]>::to_vec).collect();
                match auth {
                    ClientAuth::Optional => assert_eq!(shown, [Vec::new(), der]),
                    ClientAuth::Required => assert_eq!(shown, [der]),
                }
            });
        }
    }
}

/// One that the server has no root for, an expired one, and one of a client that has another's certificate and not its key.
#[test]
fn a_bad_certificate_of_a_client_is_refused_with_its_alert() {
    simulate_untraced(1, link(), || {
        let good = credentials("client", for_clients);
        let stranger = credentials("stranger", for_clients);
        let expired = credentials("expired", |params| {
            for_clients(params);
            params.not_after = rcgen::date_time_ymd(2001, 2, 3);
        });
        let (tls, roots) = server_tls();
        let tls = tls.client_roots(good.0, ClientAuth::Optional).client_roots(expired.0.clone(), ClientAuth::Optional);
        let server = Server::new(tls.build().expect("it is whole"));
        for (number, (chain, key), alert) in [(1, stranger, UNKNOWN_CA), (2, expired, CERTIFICATE_EXPIRED)] {
            let connection = connect(number, client_tls(&roots).identity(chain, key), HOST).expect("its own handshake is complete");
            assert_eq!(told(&connection), TransportErrorCode::crypto(alert));
        }
        assert!(server.end().is_empty(), "nobody was let in");
    });
}

#[test]
fn certificates_follow_the_name_and_change_while_the_server_runs() {
    simulate_untraced(2, lossy(), || {
        let (a, a_key) = credentials("a.site.example", |_| ());
        let (wildcard, wildcard_key) = credentials("*.site.example", |_| ());
        let by_address = |params: &mut CertificateParams| params.subject_alt_names = vec![SanType::IpAddress(server_address().ip())];
        let (others, others_key) = credentials("others", by_address);
        let tls = weald_crypto::ServerConfig::builder()
            .alpn([ALPN])
            .certificate(others.clone(), others_key)
            .certificate_for("a.site.example", a.clone(), a_key)
            .certificate_for("*.site.example", wildcard.clone(), wildcard_key)
            .build()
            .expect("it is whole");
        let server = Server::new(tls.clone());
        let der = |chain: &Certificates| chain.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut connections = Vec::new();
        for (number, host, chain) in [(1, "a.site.example", &a), (2, "b.site.example", &wildcard), (3, "10.0.0.1", &others)] {
            let connection = connect(number, client_tls(chain), host).expect("a connection");
            assert_eq!(connection.handshake().peer_certificates, der(chain), "{host}");
            exchange(&connection);
            connections.push(connection);
        }
        let (renewed, renewed_key) = credentials("a.site.example", |_| ());
        tls.reload(ServerCertificates::new().certificate_for("a.site.example", renewed.clone(), renewed_key)).expect("it is whole");
        let connection = connect(4, client_tls(&renewed), "a.site.example").expect("a connection");
        assert_eq!(connection.handshake().peer_certificates, der(&renewed));
        let refused = connect(5, client_tls(&wildcard), "b.site.example").expect_err("its chain is gone");
        assert!(matches!(refused, ConnectError::Connection(ConnectionError::ConnectionClosed(_))), "{refused}");
        // Who was connected stays so.
        connections.iter().for_each(exchange);
        let mut names: Vec<_> = server.end().iter().filter_map(|connection| connection.handshake().server_name).collect();
        names.sort();
        assert_eq!(names, ["a.site.example", "a.site.example", "b.site.example"]);
    });
}

#[test]
fn both_ends_export_the_same_material_and_no_others_do() {
    for (number, suite) in (1..).zip(CipherSuite::ALL) {
        simulate_untraced(3, link(), || {
            let (tls, roots) = server_tls();
            let server = Server::new(tls.build().expect("it is whole"));
            let client = connect(number, client_tls(&roots).cipher_suites([suite]), HOST).expect("a connection");
            let other = connect(number, client_tls(&roots).cipher_suites([suite]), HOST).expect("a connection");
            exchange(&client);
            exchange(&other);
            let ends = server.end();
            let export = |connection: &Connection, label: &[u8], context: &[u8]| {
                let mut out = [0; 40];
                connection.export_keying_material(&mut out, label, context).expect("it is short");
                out
            };
            let material = export(&client, b"EXPERIMENTAL test", b"context");
            assert_eq!(ends.iter().filter(|end| export(end, b"EXPERIMENTAL test", b"context") == material).count(), 1);
            assert_ne!(export(&client, b"EXPERIMENTAL test", b""), material);
            assert_ne!(export(&client, b"EXPERIMENTAL", b"context"), material);
            assert_ne!(export(&other, b"EXPERIMENTAL test", b"context"), material);
            assert!(client.export_keying_material(&mut [0; 255 * 48 + 1], b"label", b"").is_err());
        });
    }
}

/// RFC 9001, 8.1: error 0x178, which both ends know, and no connection is accepted.
#[test]
fn no_common_application_protocol_is_an_error() {
    simulate_untraced(4, link(), || {
        let (tls, roots) = server_tls();
        let server = Server::new(tls.build().expect("it is whole"));
        match connect(1, client_tls(&roots).alpn(["another"]), HOST) {
            Err(ConnectError::Connection(ConnectionError::ConnectionClosed(told))) => {
                assert_eq!((told.code.as_u64(), told.code.alert()), (0x178, Some(NO_APPLICATION_PROTOCOL)));
            }
            other => panic!("{other:?}"),
        }
        assert!(server.end().is_empty());
    });
}

/// RFC 9001, 4.4: a client believes no server but the one it meant, and says why it leaves.
#[test]
fn a_server_that_is_not_the_one_meant_is_left_with_an_alert() {
    let (stranger, _) = credentials("stranger", |_| ());
    let expired = credentials(HOST, |params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let not_yet = credentials(HOST, |params| params.not_before = rcgen::date_time_ymd(3001, 2, 3));
    let other = credentials("other.example", |_| ());
    let untrusted = credentials(HOST, |_| ());
    let cases = [
        (expired.0.clone(), expired, CERTIFICATE_EXPIRED, "expired"),
        (not_yet.0.clone(), not_yet, CERTIFICATE_EXPIRED, "not valid"),
        (other.0.clone(), other, BAD_CERTIFICATE, "other.example"),
        (stranger, untrusted, UNKNOWN_CA, "trusted"),
    ];
    for (number, (roots, (chain, key), alert, why)) in (1..).zip(cases) {
        simulate_untraced(5, link(), || {
            let tls = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain, key);
            let server = Server::new(tls.build().expect("it is whole"));
            match connect(number, client_tls(&roots), HOST) {
                Err(ConnectError::Connection(ConnectionError::Transport(error))) => {
                    assert_eq!(error.code, TransportErrorCode::crypto(alert), "{error}");
                    assert!(error.reason.contains(HOST) && error.reason.contains(why), "{error}");
                }
                other => panic!("{why}: {other:?}"),
            }
            assert!(server.end().is_empty(), "{why}");
        });
    }
}

/// A first flight of two packets, as the hybrid group makes it, or two first flights around a HelloRetryRequest, over a network
/// that loses, reorders and repeats.
#[test]
fn handshakes_of_every_group_survive_a_bad_network() {
    let cases: [(&[NamedGroup], &[NamedGroup]); 4] = [
        (&[NamedGroup::X25519MlKem768], &[NamedGroup::X25519MlKem768]),
        (&[NamedGroup::X25519], &[NamedGroup::X25519]),
        (&NamedGroup::ALL, &[NamedGroup::Secp256r1]),
        (&[NamedGroup::Secp256r1, NamedGroup::X25519MlKem768], &[NamedGroup::X25519MlKem768]),
    ];
    for (offered, accepted) in cases {
        for seed in 0..25 {
            let link = LinkConfig { loss: 0.15, reorder: 0.4, duplicate: 0.2, reorder_delay: Duration::from_millis(30), ..link() };
            simulate_untraced(seed, link, || {
                let (tls, roots) = server_tls();
                let tls = tls.groups(accepted.iter().copied()).build().expect("it is whole");
                let transport = TransportConfig::default().handshake_timeout(Duration::from_secs(60));
                let config = ServerConfig::new(tls).transport(transport.clone());
                let endpoint = Endpoint::server(config, server_address()).expect("a server");
                let client = client_tls(&roots).groups(offered.iter().copied()).build().expect("it is whole");
                let connecting = Endpoint::client(client_address(1)).expect("a client");
                let connection = connecting.connect_with(ClientConfig::new(client).transport(transport), server_address(), HOST);
                let connection = connection.expect("a connection");
                let accepted_connection = endpoint.accept().expect("a connection comes");
                assert_eq!(connection.handshake().group, accepted[0]);
                assert_eq!(accepted_connection.handshake().group, accepted[0]);
            });
        }
    }
}
