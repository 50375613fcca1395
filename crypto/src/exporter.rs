//! Keying material for applications, bound to a connection (RFC 8446, 7.5; RFC 5705).

use std::fmt;

use zeroize::Zeroizing;

use crate::CipherSuite;
use crate::backend::digest;
use crate::hkdf::Prk;
use crate::keys::Secret;

/// Yields the same keying material at both ends of a connection, and nowhere else.
#[derive(Clone, Debug)]
pub struct Exporter {
    suite: CipherSuite,
    secret: Secret,
}

/// More keying material was asked for than the suite's hash can give, or the label is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportError;

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an exporter gives at most 255 hashes of material, under a label of at most 249 bytes")
    }
}

impl std::error::Error for ExportError {}

impl Exporter {
    pub(crate) const fn new(suite: CipherSuite, secret: Secret) -> Self {
        Self { suite, secret }
    }

    /// Fills `out` with the keying material of `label` and `context`. Material of different lengths is unrelated.
    ///
    /// # Errors
    ///
    /// [`ExportError`] if `out` is longer than 255 hashes (8,160 bytes, or 12,240 with SHA-384), or `label` than 249 bytes.
    pub fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), ExportError> {
        let hash = match self.suite {
            CipherSuite::Aes128GcmSha256 | CipherSuite::ChaCha20Poly1305Sha256 => &digest::SHA256,
            CipherSuite::Aes256GcmSha384 => &digest::SHA384,
        };
        let mut derived = Zeroizing::new([0; 48]);
        let derived = &mut derived[..self.suite.secret_len()];
        let exporter = Prk::new(self.suite.hmac(), self.secret.as_bytes());
        exporter.expand_label(label, digest::digest(hash, &[]).as_ref(), derived).map_err(|_| ExportError)?;
        let derived = Prk::new(self.suite.hmac(), derived);
        derived.expand_label(b"exporter", digest::digest(hash, context).as_ref(), out).map_err(|_| ExportError)
    }
}
