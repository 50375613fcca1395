//! Handshakes and packets with rustls as it is, on aws-lc-rs: whichever library computes here, that one computes there.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::quic::{ClientConnection, Connection, KeyChange, Keys, ServerConnection, Version as TlsVersion};
use rustls_pki_types::ServerName;

use super::*;

/// The peer's end of a handshake.
struct Peer {
    connection: Connection,
    write_level: Level,
    one_rtt: Option<Keys>,
}

impl Peer {
    fn new(connection: impl Into<Connection>) -> Self {
        Self { connection: connection.into(), write_level: Level::Initial, one_rtt: None }
    }

    fn advance(&mut self, flight: &[(Level, Vec<u8>)]) -> Flight {
        let mut output = self.write();
        for (_, bytes) in flight {
            self.connection.read_hs(bytes).unwrap();
            output.extend(self.write());
        }
        output
    }

    fn write(&mut self) -> Flight {
        let mut output = Vec::new();
        loop {
            let mut bytes = Vec::new();
            let change = self.connection.write_hs(&mut bytes);
            if change.is_none() && bytes.is_empty() {
                return output;
            }
            if !bytes.is_empty() {
                output.push((self.write_level, bytes));
            }
            match change {
                Some(KeyChange::Handshake { .. }) => self.write_level = Level::Handshake,
                Some(KeyChange::OneRtt { keys, .. }) => {
                    self.write_level = Level::OneRtt;
                    self.one_rtt = Some(keys);
                }
                None => {}
            }
        }
    }
}

fn provider(group: NamedGroup, suite: CipherSuite) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups.retain(|known| known.name() == group.tls());
    if group == NamedGroup::X25519MlKem768 {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    }
    provider.cipher_suites.retain(|known| known.suite() == suite.tls());
    Arc::new(provider)
}

/// Runs the handshake of `side`, which is ours, and compares what both ends came to.
fn agree(side: Side, session: &mut Session, peer: &mut Peer, group: NamedGroup, suite: CipherSuite) {
    let what = format!("{side:?}, {group}, {suite}");
    let mut here = Collected::default();
    let mut flight = match side {
        Side::Client => here.add(session.advance(&[]).unwrap()),
        Side::Server => here.add(session.advance(&peer.advance(&[])).unwrap()),
    };
    while !flight.is_empty() {
        let answer = peer.advance(&flight);
        if answer.is_empty() {
            break;
        }
        flight = here.add(session.advance(&answer).unwrap_or_else(|error| panic!("{what}: {error}")));
    }
    assert!(here.complete && !peer.connection.is_handshaking(), "{what}");
    let outcome = here.outcomes.pop().unwrap();
    assert_eq!((outcome.group, outcome.suite), (group, suite), "{what}");
    assert_eq!(peer.connection.negotiated_key_exchange_group().unwrap().name(), group.tls(), "{what}");
    assert_eq!(here.parameters, [b"peer parameters"], "{what}");

    let theirs = peer.connection.export_keying_material([0; 40], b"label", Some(b"context")).unwrap();
    assert_eq!(exported(&outcome, b"label", b"context"), theirs, "{what}");

    let (_, ours) = here.keys.iter().find(|(level, _)| *level == Level::OneRtt).unwrap();
    let theirs = peer.one_rtt.as_ref().unwrap();
    let mut packet = b"from here................".to_vec();
    let (payload, tag) = packet.split_at_mut(9);
    ours.local.packet.seal(7, b"header", payload, &[], tag);
    assert_eq!(theirs.remote.packet.decrypt_in_place(7, b"header", &mut packet).unwrap(), b"from here", "{what}");
    let mut packet = b"from there".to_vec();
    let tag = theirs.local.packet.encrypt_in_place(8, b"header", &mut packet).unwrap();
    packet.extend_from_slice(tag.as_ref());
    let mut out = [0; 10];
    assert_eq!(ours.remote.packet.open(8, b"header", &packet, &mut out), Ok(10), "{what}");
    assert_eq!(&out, b"from there");
}

fn each_group_and_suite() -> impl Iterator<Item = (NamedGroup, CipherSuite)> {
    NamedGroup::ALL.into_iter().flat_map(|group| CipherSuite::ALL.map(|suite| (group, suite)))
}

#[test]
fn a_client_of_rustls() {
    let (chain, key) = credentials(|_| ());
    let server = ServerConfig::builder().alpn(["h3"]).certificate(chain.clone(), key).build().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain.certificates[0].clone()).unwrap();
    let roots = Arc::new(roots);
    for (group, suite) in each_group_and_suite() {
        let builder = rustls::ClientConfig::builder_with_provider(provider(group, suite));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut client = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        client.alpn_protocols = vec![b"h3".to_vec()];
        let name = ServerName::try_from(HOST).unwrap();
        let client = ClientConnection::new(Arc::new(client), TlsVersion::V1, name, b"peer parameters".to_vec()).unwrap();
        let mut session = Session::server(&server, Version::V1, Vec::new(), Terms::default());
        agree(Side::Server, &mut session, &mut Peer::new(client), group, suite);
    }
}

#[test]
fn a_server_of_rustls() {
    let (chain, key) = credentials(|_| ());
    let client = ClientConfig::builder().alpn(["h3"]).roots(chain.clone()).build().unwrap();
    for (group, suite) in each_group_and_suite() {
        let builder = rustls::ServerConfig::builder_with_provider(provider(group, suite));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
        let mut server = builder.with_single_cert(chain.certificates.clone(), key.key.clone_key()).unwrap();
        server.alpn_protocols = vec![b"h3".to_vec()];
        let server = ServerConnection::new(Arc::new(server), TlsVersion::V1, b"peer parameters".to_vec()).unwrap();
        let mut session = Session::client(&client, Version::V1, HOST, Vec::new()).unwrap();
        agree(Side::Client, &mut session, &mut Peer::new(server), group, suite);
    }
}
