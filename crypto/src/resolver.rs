//! Which certificate chain a server shows, by the name that the client asks for (RFC 6066, 3).
//!
//! Owns the chains of a server, how a name finds one, and their exchange while the server runs. Does not own how a chain is
//! read (`credentials.rs`) or checked against its key (`config.rs`).
//!
//! Invariants: a table is built whole before it takes another's place, so a handshake meets the old chains or the new ones
//! and never some of each; and what cannot be built leaves the old ones in place.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{DnsName, ServerName};

use crate::config::certified_key;
use crate::{Certificates, ConfigError, PrivateKey};

#[cfg(test)]
mod tests;

/// A server's certificate chains, each with the key of its first certificate, and the names that they are for.
///
/// A client that asks for a name gets the chain of that name; else that of the wildcard which the name falls under; else the
/// one for all others. A client that asks for none, as one that was given an IP address, gets the one for all others. Where
/// there is no such chain, the handshake fails with the alert unrecognized_name.
#[derive(Clone, Debug, Default)]
pub struct ServerCertificates {
    others: Option<(Certificates, PrivateKey)>,
    named: Vec<(String, Certificates, PrivateKey)>,
}

impl ServerCertificates {
    /// No chains yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The chain for all names that no other chain is for, the server's own certificate first, and the private key of that
    /// one.
    #[must_use]
    pub fn certificate(mut self, chain: Certificates, key: PrivateKey) -> Self {
        self.others = Some((chain, key));
        self
    }

    /// A chain for clients that ask for `name`: a DNS name, or `*.` and a DNS name, which stands for all names with one label
    /// more (RFC 9525, 6.3). Upper and lower case are the same.
    #[must_use]
    pub fn certificate_for(mut self, name: impl Into<String>, chain: Certificates, key: PrivateKey) -> Self {
        self.named.push((name.into(), chain, key));
        self
    }
}

/// Chains that are ready for use.
struct Table {
    others: Option<Arc<CertifiedKey>>,
    exact: BTreeMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcards: BTreeMap<String, Arc<CertifiedKey>>,
}

impl Table {
    fn new(certificates: ServerCertificates, provider: &CryptoProvider) -> Result<Self, ConfigError> {
        let ServerCertificates { others, named } = certificates;
        if others.is_none() && named.is_empty() {
            return Err(ConfigError::ServerWithoutCertificate);
        }
        let others = others.map(|(chain, key)| certified_key(chain, key, provider).map(Arc::new)).transpose()?;
        let mut table = Self { others, exact: BTreeMap::new(), wildcards: BTreeMap::new() };
        for (name, chain, key) in named {
            table.add(name, chain, key, provider)?;
        }
        Ok(table)
    }

    fn add(&mut self, name: String, chain: Certificates, key: PrivateKey, provider: &CryptoProvider) -> Result<(), ConfigError> {
        let (wildcard, dns) = match name.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, &name[..]),
        };
        // RFC 6066, 3: only DNS names are asked for, never addresses.
        let Ok(dns) = DnsName::try_from(dns).map(|dns| dns.to_lowercase_owned()) else {
            return Err(ConfigError::CertificateName { name });
        };
        let origin = chain.origin.clone();
        let certified = certified_key(chain, key, provider)?;
        // What one certificate covers below a wildcard cannot be told from one name; clients will tell.
        if !wildcard {
            let covered = certified.end_entity_cert().and_then(|certificate| {
                let certificate = ParsedCertificate::try_from(certificate)?;
                verify_server_name(&certificate, &ServerName::DnsName(dns.clone()))
            });
            if covered.is_err() {
                return Err(ConfigError::NotCovered { name, certificate: origin });
            }
        }
        let names = if wildcard { &mut self.wildcards } else { &mut self.exact };
        match names.insert(dns.as_ref().to_owned(), Arc::new(certified)) {
            None => Ok(()),
            Some(_) => Err(ConfigError::NamedTwice { name }),
        }
    }

    /// The chain for a client that asks for `name`, in lower case.
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let below = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(below)
        });
        named.or(self.others.as_ref()).cloned()
    }
}

/// A server's chains, which may be exchanged while it runs.
pub(crate) struct Resolver(RwLock<Arc<Table>>);

impl Resolver {
    pub(crate) fn new(certificates: ServerCertificates, provider: &CryptoProvider) -> Result<Self, ConfigError> {
        Ok(Self(RwLock::new(Arc::new(Table::new(certificates, provider)?))))
    }

    /// Shows `certificates` from the next handshake on.
    pub(crate) fn reload(&self, certificates: ServerCertificates, provider: &CryptoProvider) -> Result<(), ConfigError> {
        let table = Arc::new(Table::new(certificates, provider)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    fn table(&self) -> Arc<Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        self.table().find(hello.server_name())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        let wildcards = table.wildcards.keys().map(|parent| format!("*.{parent}"));
        let names: Vec<String> = table.exact.keys().cloned().chain(wildcards).collect();
        f.debug_struct("Resolver").field("names", &names).field("others", &table.others.is_some()).finish()
    }
}
