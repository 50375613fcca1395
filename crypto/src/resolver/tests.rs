//! Which chain a name finds, what is refused, and what a reload leaves behind.

use super::{Resolver, ServerCertificates, Table};
use crate::{Certificates, CipherSuite, ConfigError, NamedGroup, PrivateKey, provider};

fn credentials(names: &[&str]) -> (Certificates, PrivateKey) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKey::from_pem(made.signing_key.serialize_pem().as_bytes()).unwrap();
    (Certificates::from_pem(made.cert.pem().as_bytes()).unwrap(), key)
}

fn provider() -> rustls::crypto::CryptoProvider {
    provider::provider(&NamedGroup::ALL, &CipherSuite::ALL)
}

fn table(certificates: ServerCertificates) -> Result<Table, ConfigError> {
    Table::new(certificates, &provider())
}

/// Adds a chain of `covered` for `name`.
fn with(certificates: ServerCertificates, name: &str, covered: &[&str]) -> (ServerCertificates, Vec<u8>) {
    let (chain, key) = credentials(covered);
    let der = chain.iter().next().unwrap().to_vec();
    (certificates.certificate_for(name, chain, key), der)
}

#[test]
fn the_nearest_chain_is_found() {
    let (others, key) = credentials(&["c.example"]);
    let other_der = others.iter().next().unwrap().to_vec();
    let certificates = ServerCertificates::new();
    let (certificates, a) = with(certificates, "A.example", &["a.example"]);
    let (certificates, wildcard) = with(certificates, "*.example", &["*.example"]);
    let (certificates, deeper) = with(certificates, "*.a.example", &["*.a.example"]);
    let without_others = table(certificates.clone()).unwrap();
    let table = table(certificates.certificate(others, key)).unwrap();
    let found = |table: &Table, name| table.find(name).map(|chain| chain.cert[0].to_vec());
    let cases = [
        (Some("a.example"), &a, true),
        (Some("b.example"), &wildcard, true),
        (Some("b.a.example"), &deeper, true),
        // One label, not two, and not none.
        (Some("b.b.example"), &other_der, false),
        (Some("c.b.a.example"), &other_der, false),
        (Some("example"), &other_der, false),
        (Some("elsewhere.org"), &other_der, false),
        (None, &other_der, false),
    ];
    for (name, expected, named) in cases {
        assert_eq!(found(&table, name).as_ref(), Some(expected), "{name:?}");
        assert_eq!(found(&without_others, name).as_ref(), named.then_some(expected), "{name:?}");
    }
}

#[test]
fn bad_names_are_refused() {
    for name in ["", "*", "*.", "*.*.example", "a.*.example", "a b", "192.0.2.1", "::1", "a..example"] {
        let (certificates, _) = with(ServerCertificates::new(), name, &["a.example"]);
        match table(certificates) {
            Err(ConfigError::CertificateName { name: told }) => assert_eq!(told, name),
            Err(other) => panic!("{name:?}: {other}"),
            Ok(_) => panic!("{name:?} was accepted"),
        }
    }
    let (certificates, _) = with(ServerCertificates::new(), "a.example", &["a.example"]);
    for (name, twice) in [("A.EXAMPLE", true), ("*.example", false), ("b.example", false)] {
        let (certificates, _) = with(certificates.clone(), name, &[name]);
        match table(certificates) {
            Err(ConfigError::NamedTwice { name: told }) => assert!(twice && told == name, "{name:?}"),
            Err(other) => panic!("{name:?}: {other}"),
            Ok(_) => assert!(!twice, "{name:?}"),
        }
    }
    assert!(matches!(table(ServerCertificates::new()), Err(ConfigError::ServerWithoutCertificate)));
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let (certificates, _) = with(ServerCertificates::new(), "a.example", &["b.example", "c.example"]);
    let refused = table(certificates).err().expect("it is for another name");
    assert!(matches!(refused, ConfigError::NotCovered { .. }) && refused.to_string().contains("a.example"), "{refused}");
    let (certificates, _) = with(ServerCertificates::new(), "a.site.example", &["*.site.example"]);
    assert!(table(certificates).is_ok(), "a wildcard covers it");
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let (certificates, old) = with(ServerCertificates::new(), "a.example", &["a.example"]);
    let resolver = Resolver::new(certificates, &provider()).unwrap();
    let shown = || resolver.table().find(Some("a.example")).map(|chain| chain.cert[0].to_vec());
    let (chain, _) = credentials(&["a.example"]);
    let (_, foreign) = credentials(&["a.example"]);
    let mismatched = ServerCertificates::new().certificate(chain, foreign);
    assert!(matches!(resolver.reload(mismatched, &provider()), Err(ConfigError::KeyMismatch { .. })));
    assert_eq!(shown(), Some(old));
    let (certificates, new) = with(ServerCertificates::new(), "a.example", &["a.example"]);
    resolver.reload(certificates, &provider()).unwrap();
    assert_eq!(shown(), Some(new));
    let (certificates, _) = with(ServerCertificates::new(), "b.example", &["b.example"]);
    resolver.reload(certificates, &provider()).unwrap();
    assert_eq!(shown(), None, "what was not given again is gone");
    assert_eq!(format!("{resolver:?}"), r#"Resolver { names: ["b.example"], others: false }"#);
}
