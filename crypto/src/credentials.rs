//! Certificates and private keys, as they come from files: PEM or DER in, errors that name the file out.

use std::fmt;
use std::path::Path;

use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::ConfigError;

#[cfg(test)]
mod tests;

/// Certificates in their order: a chain, its end entity first; or a set of roots.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub(crate) origin: String,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl Certificates {
    /// Reads the certificates of a PEM file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file cannot be read, [`ConfigError::Pem`] if it is malformed, and
    /// [`ConfigError::NoCertificate`] if it holds none.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::parse(path.as_ref().display().to_string(), &read(path.as_ref())?)
    }

    /// Takes the certificates out of PEM text. Other items in it are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] if it is malformed, and [`ConfigError::NoCertificate`] if it holds none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        Self::parse("the given certificates".to_owned(), pem)
    }

    /// Takes certificates in DER. Whether they can be used shows when a configuration is built with them.
    pub fn from_der(certificates: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { origin: "the given certificates".to_owned(), certificates: certificates.into_iter().map(CertificateDer::from).collect() }
    }

    /// The certificates in DER.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }

    fn parse(origin: String, pem: &[u8]) -> Result<Self, ConfigError> {
        match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => Err(ConfigError::NoCertificate { origin }),
            Ok(certificates) => Ok(Self { origin, certificates }),
            Err(error) => Err(ConfigError::Pem { origin, reason: error.to_string() }),
        }
    }
}

/// A private key: PKCS#8, PKCS#1 (RSA) or SEC 1 (elliptic curves). Zeroised when
/// dropped; `Debug` does not show it.
pub struct PrivateKey {
    pub(crate) origin: String,
    pub(crate) key: Zeroizing<PrivateKeyDer<'static>>,
}

impl PrivateKey {
    /// Reads the first private key of a PEM file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file cannot be read, [`ConfigError::Pem`] if it is malformed, and
    /// [`ConfigError::NoPrivateKey`] if it holds none.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let pem = Zeroizing::new(read(path.as_ref())?);
        Self::parse(path.as_ref().display().to_string(), &pem)
    }

    /// Takes the first private key out of PEM text. Other items in it are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pem`] if it is malformed, and [`ConfigError::NoPrivateKey`] if it holds none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        Self::parse("the given private key".to_owned(), pem)
    }

    /// Takes a private key in DER, of whichever of the three forms it is.
    ///
    /// # Errors
    ///
    /// [`ConfigError::PrivateKey`] if it is none of them.
    pub fn from_der(der: Vec<u8>) -> Result<Self, ConfigError> {
        let origin = "the given private key".to_owned();
        match PrivateKeyDer::try_from(der) {
            Ok(key) => Ok(Self { origin, key: Zeroizing::new(key) }),
            Err(reason) => Err(ConfigError::PrivateKey { origin, reason: reason.to_owned() }),
        }
    }

    fn parse(origin: String, pem: &[u8]) -> Result<Self, ConfigError> {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => Ok(Self { origin, key: Zeroizing::new(key) }),
            Err(PemError::NoItemsFound) => Err(ConfigError::NoPrivateKey { origin }),
            Err(error) => Err(ConfigError::Pem { origin, reason: error.to_string() }),
        }
    }
}

impl Clone for PrivateKey {
    fn clone(&self) -> Self {
        Self { origin: self.origin.clone(), key: Zeroizing::new(self.key.clone_key()) }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("origin", &self.origin).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}
