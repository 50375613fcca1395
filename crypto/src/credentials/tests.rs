//! Errors of files: each names the file, and what is wrong with it.

use std::path::PathBuf;

use super::{Certificates, PrivateKey};
use crate::ConfigError;

/// A file of this test's own, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weald-crypto-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_missing_file_is_named() {
    let path = "/no/such/directory/cert.pem";
    for error in [Certificates::from_pem_file(path).unwrap_err(), PrivateKey::from_pem_file(path).unwrap_err()] {
        assert!(matches!(error, ConfigError::File { .. }));
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn a_file_without_the_wanted_item_is_named() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let file = File::new("key.pem", &key);
    let error = Certificates::from_pem_file(&file.0).unwrap_err();
    assert!(matches!(error, ConfigError::NoCertificate { .. }));
    assert!(error.to_string().starts_with(&file.0.display().to_string()), "{error}");
    assert!(PrivateKey::from_pem_file(&file.0).is_ok());

    let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let file = File::new("cert.pem", &certificate);
    let error = PrivateKey::from_pem_file(&file.0).unwrap_err();
    assert!(matches!(error, ConfigError::NoPrivateKey { .. }));
    assert!(error.to_string().starts_with(&file.0.display().to_string()), "{error}");
    assert_eq!(Certificates::from_pem_file(&file.0).unwrap().iter().len(), 1);
}

#[test]
fn broken_pem() {
    let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let cut = &certificate[..certificate.len() / 2];
    assert!(matches!(Certificates::from_pem(cut.as_bytes()), Err(ConfigError::Pem { .. })));
    let damaged = certificate.replace('M', "!");
    assert!(matches!(Certificates::from_pem(damaged.as_bytes()), Err(ConfigError::Pem { .. })));
    let both = certificate.repeat(2);
    assert_eq!(Certificates::from_pem(both.as_bytes()).unwrap().iter().len(), 2);
}

#[test]
fn der_keys() {
    let key = rcgen::KeyPair::generate().unwrap();
    assert!(PrivateKey::from_der(key.serialize_der()).is_ok());
    assert!(matches!(PrivateKey::from_der(vec![1, 2, 3]), Err(ConfigError::PrivateKey { .. })));
    let shown = format!("{:?}", PrivateKey::from_der(key.serialize_der()).unwrap());
    assert_eq!(shown, r#"PrivateKey { origin: "the given private key", .. }"#);
}
