//! What `build` refuses, and that it says why.

use super::{ClientConfig, ServerConfig};
use crate::{Certificates, CipherSuite, ClientAuth, ConfigError, NamedGroup, PrivateKey};

fn credentials(name: &str) -> (Certificates, PrivateKey) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKey::from_pem(made.signing_key.serialize_pem().as_bytes()).unwrap();
    (Certificates::from_pem(made.cert.pem().as_bytes()).unwrap(), key)
}

#[test]
fn client_needs_protocols_and_roots() {
    let (roots, _) = credentials("a.example");
    let none = ClientConfig::builder().roots(roots.clone()).build();
    assert!(matches!(none, Err(ConfigError::NoApplicationProtocol)));
    for name in [String::new(), "x".repeat(256)] {
        let bad = ClientConfig::builder().alpn([name]).roots(roots.clone()).build();
        assert!(matches!(bad, Err(ConfigError::ApplicationProtocol { .. })));
    }
    assert!(matches!(ClientConfig::builder().alpn(["h3"]).build(), Err(ConfigError::ClientWithoutRoots)));
    assert!(ClientConfig::builder().alpn(["h3"]).dangerous_skip_verification().build().is_ok());
    assert!(ClientConfig::builder().alpn(["h3"]).roots(roots).build().is_ok());
}

#[test]
fn something_must_be_left_to_negotiate() {
    let client = || ClientConfig::builder().alpn(["h3"]).dangerous_skip_verification();
    let groups = client().groups(Vec::<NamedGroup>::new()).build();
    assert!(matches!(groups, Err(ConfigError::NothingToNegotiate { what: "key exchange group" })));
    let suites = client().cipher_suites(Vec::<CipherSuite>::new()).build();
    assert!(matches!(suites, Err(ConfigError::NothingToNegotiate { what: "cipher suite" })));
}

#[test]
fn bad_roots() {
    let (good, _) = credentials("a.example");
    let ders: Vec<Vec<u8>> = good.iter().map(<[u8]>::to_vec).chain([vec![0x30, 0x00]]).collect();
    let strict = ClientConfig::builder().alpn(["h3"]).roots(Certificates::from_der(ders.clone())).build();
    assert!(matches!(strict, Err(ConfigError::Certificate { position: 2, .. })), "{strict:?}");
    // A system's set is taken as far as it can be used.
    assert!(ClientConfig::builder().alpn(["h3"]).system_roots(ders).build().is_ok());
}

#[test]
fn server_needs_a_certificate_and_its_key() {
    let (chain, key) = credentials("a.example");
    let (_, other) = credentials("b.example");
    let server = || ServerConfig::builder().alpn(["h3"]);
    assert!(matches!(server().build(), Err(ConfigError::ServerWithoutCertificate)));
    let empty = Certificates::from_der(Vec::<Vec<u8>>::new());
    assert!(matches!(server().certificate(empty, key.clone()).build(), Err(ConfigError::NoCertificate { .. })));
    assert!(matches!(server().certificate(chain.clone(), other).build(), Err(ConfigError::KeyMismatch { .. })));
    let junk = Certificates::from_der([vec![0x30, 0x00]]);
    let refused = server().certificate(junk, key.clone()).build();
    assert!(matches!(refused, Err(ConfigError::Certificate { position: 1, .. })), "{refused:?}");
    // The outside of PKCS#8, around nothing.
    let hollow = b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let hollow = PrivateKey::from_pem(hollow).unwrap();
    assert!(matches!(server().certificate(chain.clone(), hollow).build(), Err(ConfigError::PrivateKey { .. })));
    assert!(server().certificate(chain, key).build().is_ok());
}

#[test]
fn a_clients_own_certificate_must_be_its_keys() {
    let (chain, key) = credentials("a.example");
    let (_, other) = credentials("b.example");
    let client = || ClientConfig::builder().alpn(["h3"]).dangerous_skip_verification();
    assert!(matches!(client().identity(chain.clone(), other).build(), Err(ConfigError::KeyMismatch { .. })));
    let empty = Certificates::from_der(Vec::<Vec<u8>>::new());
    assert!(matches!(client().identity(empty, key.clone()).build(), Err(ConfigError::NoCertificate { .. })));
    assert!(client().identity(chain, key).build().is_ok());
}

#[test]
fn roots_for_clients_must_be_there_and_usable() {
    let (chain, key) = credentials("a.example");
    let server =
        |roots| ServerConfig::builder().alpn(["h3"]).certificate(chain.clone(), key.clone()).client_roots(roots, ClientAuth::Required);
    let empty = Certificates::from_der(Vec::<Vec<u8>>::new());
    let refused = server(empty.clone()).build();
    assert!(matches!(refused, Err(ConfigError::ServerWithoutClientRoots)), "{refused:?}");
    let refused = server(Certificates::from_der([vec![0x30, 0x00]])).build();
    assert!(matches!(refused, Err(ConfigError::Certificate { position: 1, .. })), "{refused:?}");
    // Sets add up.
    assert!(server(empty).client_roots(chain.clone(), ClientAuth::Required).build().is_ok());
}
