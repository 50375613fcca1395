//! What a client and a server bring to every handshake: whom they trust, who they are, what they speak.
//!
//! A builder takes values as they come and checks them all in `build`, so that a mistake shows before the first
//! connection and not in it. What is built is shared: cloning costs a reference.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "simulation")]
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::client_auth::{self, ClientAuth};
#[cfg(any(test, feature = "simulation"))]
use crate::clock::Clock;
use crate::resolver::{Resolver, ServerCertificates};
use crate::resumption::{ClientStore, ServerStore};
use crate::secrets_tap::Tap;
use crate::session_store::Key;
#[cfg(feature = "simulation")]
use crate::simulation;
use crate::{
    Certificates, CipherSuite, ClientHello, ConfigError, KeyLog, NamedGroup, PrivateKey, SessionStore, Tickets, Version, provider,
};

#[cfg(test)]
mod tests;

/// A client's configuration. Cheap to clone.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// The same, but that it offers early data when it can.
    pub(crate) tls_with_early_data: Arc<rustls::ClientConfig>,
    /// Where sessions are remembered, and under which number of this configuration.
    pub(crate) sessions: Option<(SessionStore, u64)>,
    #[cfg(feature = "simulation")]
    pub(crate) seeds: Option<Arc<Seeds>>,
}

impl ClientConfig {
    /// A configuration with nothing set.
    pub fn builder() -> ClientConfigBuilder {
        ClientConfigBuilder::default()
    }

    /// Whether a session with the server of this name is remembered that connections of this version resume; it may have expired.
    pub fn remembers(&self, version: Version, server_name: &str) -> bool {
        let has = |(store, configuration): &(SessionStore, u64)| store.has(&Key::new(*configuration, version, server_name));
        self.sessions.as_ref().is_some_and(has)
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").finish_non_exhaustive()
    }
}

/// Gathers a [`ClientConfig`]: application protocols and roots at least.
#[derive(Debug, Default)]
pub struct ClientConfigBuilder {
    common: Common,
    roots: Vec<Certificates>,
    system_roots: Vec<CertificateDer<'static>>,
    skip_verification: bool,
    identity: Option<(Certificates, PrivateKey)>,
    sessions: Remember<SessionStore>,
}

impl ClientConfigBuilder {
    /// The application protocols to offer, the most preferred first (RFC 7301). Required.
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Trusts these roots as well. Each must be usable, or `build` fails and names it.
    #[must_use]
    pub fn roots(mut self, roots: Certificates) -> Self {
        self.roots.push(roots);
        self
    }

    /// Trusts the system's roots, in DER, as well. Those that cannot be used are passed over: such sets hold ancient
    /// ones, and nobody chose them one by one.
    #[must_use]
    pub fn system_roots<C: Into<Vec<u8>>>(mut self, roots: impl IntoIterator<Item = C>) -> Self {
        self.system_roots.extend(roots.into_iter().map(|root| CertificateDer::from(root.into())));
        self
    }

    /// The chain to show to a server that asks who the client is, the client's own certificate first, and the private key of
    /// that one. It is shown to whoever asks, under whichever authorities; without one, the client shows none.
    #[must_use]
    pub fn identity(mut self, chain: Certificates, key: PrivateKey) -> Self {
        self.identity = Some((chain, key));
        self
    }

    /// Remembers sessions in `sessions`, to resume them. By default a configuration has a [`SessionStore`] of its own.
    #[must_use]
    pub fn sessions(mut self, sessions: SessionStore) -> Self {
        self.sessions = Remember::In(sessions);
        self
    }

    /// Remembers no session: each handshake is a full one, and no server can tell by what it resumes that a client was there before
    /// (RFC 9001, 4.5).
    #[must_use]
    pub fn without_sessions(mut self) -> Self {
        self.sessions = Remember::Nothing;
        self
    }

    /// Accepts any certificate. The connection is then encrypted with whoever answered: for tests, and `--insecure`.
    #[must_use]
    pub fn dangerous_skip_verification(mut self) -> Self {
        self.skip_verification = true;
        self
    }

    /// The key exchange groups to offer, the most preferred first. [`NamedGroup::ALL`] by default.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = NamedGroup>) -> Self {
        self.common.groups = groups.into_iter().collect();
        self
    }

    /// The cipher suites to offer, the most preferred first. [`CipherSuite::ALL`] by default.
    #[must_use]
    pub fn cipher_suites(mut self, suites: impl IntoIterator<Item = CipherSuite>) -> Self {
        self.common.suites = suites.into_iter().collect();
        self
    }

    /// Tells every secret to `key_log`.
    #[must_use]
    pub fn key_log(mut self, key_log: Arc<dyn KeyLog>) -> Self {
        self.common.key_log = Some(key_log);
        self
    }

    /// Takes all randomness from `seed`, and the time from a clock that stands still unless [`clock`](Self::clock) gives another one; see
    /// [`crate::simulation`].
    /// The only group is then [`NamedGroup::X25519`].
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulation(mut self, seed: u64) -> Self {
        self.common.seed = Some(seed);
        self
    }

    /// Takes the time of day from `clock` instead of the system.
    #[cfg(any(test, feature = "simulation"))]
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.common.clock = Some(clock);
        self
    }

    /// Checks all that was set.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], by its kind: no or bad application protocols, no roots, an unusable root, an unusable certificate or
    /// key of its own, a key that is not the certificate's, nothing to negotiate.
    pub fn build(mut self) -> Result<ClientConfig, ConfigError> {
        let Checked { provider, time, alpn, key_log } = self.common.check()?;
        let provider = Arc::new(provider);
        let verifier: Arc<dyn ServerCertVerifier> = if self.skip_verification {
            Arc::new(AnyCertificate(provider.signature_verification_algorithms))
        } else {
            let roots = root_store(&self.roots, self.system_roots)?.ok_or(ConfigError::ClientWithoutRoots)?;
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            builder.build().map_err(|error| ConfigError::Tls { reason: error.to_string() })?
        };
        let identity = self.identity.map(|(chain, key)| certified_key(chain, key, &provider)).transpose()?;
        let tls = rustls::ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_refused)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut tls = match identity {
            Some(identity) => tls.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => tls.with_no_client_auth(),
        };
        tls.alpn_protocols = alpn;
        tls.key_log = key_log;
        let sessions = match self.sessions {
            Remember::ByDefault => Some(SessionStore::default()),
            Remember::In(sessions) => Some(sessions),
            Remember::Nothing => None,
        };
        let sessions = sessions.map(|sessions| {
            let number = sessions.register();
            (sessions, number)
        });
        tls.resumption = Resumption::store(Arc::new(ClientStore));
        // rustls tells by the verifier and the identity whose session it is: the two share them.
        let mut tls_with_early_data = tls.clone();
        tls_with_early_data.enable_early_data = true;
        Ok(ClientConfig {
            tls: Arc::new(tls),
            tls_with_early_data: Arc::new(tls_with_early_data),
            sessions,
            #[cfg(feature = "simulation")]
            seeds: self.common.seed.map(|seed| Arc::new(Seeds::new(seed))),
        })
    }
}

/// A server's configuration. Cheap to clone.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// The same with each of its groups alone, the preferred first.
    pub(crate) by_group: Arc<[(NamedGroup, Arc<rustls::ServerConfig>)]>,
    pub(crate) tickets: Option<Tickets>,
    /// A digest of what is wanted of clients' certificates, which tickets are bound to.
    pub(crate) client_policy: Arc<[u8]>,
    certificates: Arc<Resolver>,
    #[cfg(feature = "simulation")]
    pub(crate) seeds: Option<Arc<Seeds>>,
}

impl ServerConfig {
    /// The tickets that clients are given, if they are given any. Their counts are those of all who share them.
    pub fn tickets(&self) -> Option<&Tickets> {
        self.tickets.as_ref()
    }

    /// Whether clients that resume may send early data, see [`ServerConfigBuilder::early_data`].
    pub fn takes_early_data(&self) -> bool {
        self.tls.max_early_data_size > 0
    }

    /// A configuration with nothing set.
    pub fn builder() -> ServerConfigBuilder {
        ServerConfigBuilder::default()
    }

    /// Puts `certificates` in the place of all chains that the server has: handshakes that start from now on are shown them,
    /// through every clone of this configuration. Connections that exist go on, and so does what else was configured. Clients that come
    /// back with a ticket resume, and see no chain at all, for as long as their tickets are good.
    ///
    /// ```
    /// # use weald_crypto::{Certificates, ConfigError, PrivateKey, ServerCertificates, ServerConfig};
    /// fn renew(running: &ServerConfig) -> Result<(), ConfigError> {
    ///     let certificates = ServerCertificates::new()
    ///         .certificate(Certificates::from_pem_file("chain.pem")?, PrivateKey::from_pem_file("key.pem")?);
    ///     running.reload(certificates)
    /// }
    /// # let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    /// # let chain = Certificates::from_pem(made.cert.pem().as_bytes()).unwrap();
    /// # let key = PrivateKey::from_pem(made.signing_key.serialize_pem().as_bytes()).unwrap();
    /// # let running = ServerConfig::builder().alpn(["h3"]).certificate(chain, key).build().unwrap();
    /// assert!(renew(&running).is_err(), "there are no such files, so the server keeps what it has");
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`], as [`ServerConfigBuilder::build`] has it for certificates and keys. The server keeps what it has then.
    pub fn reload(&self, certificates: ServerCertificates) -> Result<(), ConfigError> {
        self.certificates.reload(certificates, self.tls.crypto_provider())
    }

    /// The configuration to answer a client with: of the groups that it has sent its half of a key exchange for, the most preferred
    /// one here is taken. TLS by itself would take the client's first, even where that costs a round trip.
    pub(crate) fn for_client(&self, hello: &ClientHello<'_>) -> Arc<rustls::ServerConfig> {
        let is_at_hand = |group| hello.groups().any(|offered| offered == group) && hello.key_shares().any(|shared| shared == group);
        let chosen = self.by_group.iter().find(|(group, _)| is_at_hand(*group));
        chosen.map_or_else(|| self.tls.clone(), |(_, tls)| tls.clone())
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").finish_non_exhaustive()
    }
}

/// Gathers a [`ServerConfig`]: application protocols, a certificate chain and its key at least.
#[derive(Debug, Default)]
pub struct ServerConfigBuilder {
    common: Common,
    certificates: ServerCertificates,
    client_roots: Vec<Certificates>,
    client_auth: Option<ClientAuth>,
    tickets: Remember<Tickets>,
    early_data: bool,
}

impl ServerConfigBuilder {
    /// The application protocols that are spoken, the most preferred first (RFC 7301). Required.
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// The certificate chain, the server's own first, and the private key of that one. Required, unless every client asks for
    /// a name that [`certificate_for`](Self::certificate_for) has a chain for.
    #[must_use]
    pub fn certificate(mut self, chain: Certificates, key: PrivateKey) -> Self {
        self.certificates = self.certificates.certificate(chain, key);
        self
    }

    /// Another chain and its key, for clients that ask for `name`, which may be a wildcard: see [`ServerCertificates`].
    #[must_use]
    pub fn certificate_for(mut self, name: impl Into<String>, chain: Certificates, key: PrivateKey) -> Self {
        self.certificates = self.certificates.certificate_for(name, chain, key);
        self
    }

    /// Asks clients for a certificate, which must be signed under one of `roots`. Each root must be usable, or `build` fails
    /// and names it. Called again, it adds roots, and the last `auth` counts. By default clients are asked for none.
    ///
    /// A client is done with its handshake before the server has seen its certificate: one that is refused connects, and
    /// then its connection is closed with the alert.
    #[must_use]
    pub fn client_roots(mut self, roots: Certificates, auth: ClientAuth) -> Self {
        self.client_roots.push(roots);
        self.client_auth = Some(auth);
        self
    }

    /// Gives clients tickets of `tickets`, to resume their sessions with. By default a configuration has [`Tickets`] of its own.
    ///
    /// Configurations that share them resume each other's sessions, for the same server name, if they want the same certificates of
    /// their clients.
    #[must_use]
    pub fn tickets(mut self, tickets: Tickets) -> Self {
        self.tickets = Remember::In(tickets);
        self
    }

    /// Gives clients no tickets: each handshake is a full one.
    #[must_use]
    pub fn without_tickets(mut self) -> Self {
        self.tickets = Remember::Nothing;
        self
    }

    /// Whether clients that resume may send data before the handshake (0-RTT). They may not by default.
    ///
    /// **Whoever sees such data can send it again**, unread, to another server, or to one that has forgotten (RFC 8446, 8; RFC 9001,
    /// 9.2). Here a ticket brings early data once, and only to the [`Tickets`] that made it, which are those of one process. But a
    /// client whose early data is rejected sends it again as other data. So take nothing early that must not happen twice.
    #[must_use]
    pub fn early_data(mut self, accept: bool) -> Self {
        self.early_data = accept;
        self
    }

    /// The key exchange groups to accept, the most preferred first. [`NamedGroup::ALL`] by default. Of those that a client has sent its
    /// half of a key exchange for, the first one here is taken; if there is none, the first of the client's, for a round trip more
    /// (HelloRetryRequest).
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = NamedGroup>) -> Self {
        self.common.groups = groups.into_iter().collect();
        self
    }

    /// The cipher suites to accept. [`CipherSuite::ALL`] by default. Among those, the client's order decides.
    #[must_use]
    pub fn cipher_suites(mut self, suites: impl IntoIterator<Item = CipherSuite>) -> Self {
        self.common.suites = suites.into_iter().collect();
        self
    }

    /// Tells every secret to `key_log`.
    #[must_use]
    pub fn key_log(mut self, key_log: Arc<dyn KeyLog>) -> Self {
        self.common.key_log = Some(key_log);
        self
    }

    /// Takes all randomness from `seed`, and the time from a clock that stands still unless [`clock`](Self::clock) gives another one; see
    /// [`crate::simulation`].
    /// The only group is then [`NamedGroup::X25519`].
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulation(mut self, seed: u64) -> Self {
        self.common.seed = Some(seed);
        self
    }

    /// Takes the time of day from `clock` instead of the system.
    #[cfg(any(test, feature = "simulation"))]
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.common.clock = Some(clock);
        self
    }

    /// Checks all that was set.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], by its kind: no or bad application protocols, no certificate, an unusable certificate or key, a
    /// key that is not the certificate's, a bad name, one given twice or one that its certificate does not cover, no or
    /// unusable roots for clients, early data without tickets, nothing to negotiate.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes to give.
    pub fn build(mut self) -> Result<ServerConfig, ConfigError> {
        let Checked { provider, time, alpn, key_log } = self.common.check()?;
        let provider = Arc::new(provider);
        let certificates = Arc::new(Resolver::new(self.certificates, &provider)?);
        let client_policy = client_auth::policy(&self.client_roots, self.client_auth);
        let tickets = match self.tickets {
            Remember::ByDefault => Some(self.common.tickets()),
            Remember::In(tickets) => Some(tickets),
            Remember::Nothing if self.early_data => return Err(ConfigError::EarlyDataWithoutTickets),
            Remember::Nothing => None,
        };
        let clients = match self.client_auth {
            Some(auth) => {
                let roots = root_store(&self.client_roots, Vec::new())?.ok_or(ConfigError::ServerWithoutClientRoots)?;
                client_auth::verifier(roots, auth, provider.clone())?
            }
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let configured = |provider: Arc<CryptoProvider>| -> Result<Arc<rustls::ServerConfig>, ConfigError> {
            let mut tls = rustls::ServerConfig::builder_with_details(provider, time.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(tls_refused)?
                .with_client_cert_verifier(clients.clone())
                .with_cert_resolver(certificates.clone());
            tls.alpn_protocols.clone_from(&alpn);
            tls.key_log = key_log.clone();
            tls.session_storage = Arc::new(ServerStore);
            tls.send_tls13_tickets = tickets.as_ref().map_or(0, Tickets::per_connection);
            // RFC 9001, 4.6.1: the only other value that QUIC has.
            tls.max_early_data_size = if self.early_data { u32::MAX } else { 0 };
            Ok(Arc::new(tls))
        };
        let mut by_group = Vec::new();
        for key_exchange in &provider.kx_groups {
            let alone = CryptoProvider { kx_groups: vec![*key_exchange], ..CryptoProvider::clone(&provider) };
            if let Some(group) = NamedGroup::from_tls(key_exchange.name()) {
                by_group.push((group, configured(Arc::new(alone))?));
            }
        }
        Ok(ServerConfig {
            tls: configured(provider)?,
            by_group: by_group.into(),
            tickets,
            client_policy,
            certificates,
            #[cfg(feature = "simulation")]
            seeds: self.common.seed.map(|seed| Arc::new(Seeds::new(seed))),
        })
    }
}

/// Where sessions go.
#[derive(Debug, Default)]
enum Remember<T> {
    #[default]
    ByDefault,
    In(T),
    Nothing,
}

/// What both roles set alike.
#[derive(Debug)]
struct Common {
    alpn: Vec<Vec<u8>>,
    groups: Vec<NamedGroup>,
    suites: Vec<CipherSuite>,
    key_log: Option<Arc<dyn KeyLog>>,
    #[cfg(any(test, feature = "simulation"))]
    clock: Option<Clock>,
    #[cfg(feature = "simulation")]
    seed: Option<u64>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            alpn: Vec::new(),
            groups: NamedGroup::ALL.to_vec(),
            suites: CipherSuite::ALL.to_vec(),
            key_log: None,
            #[cfg(any(test, feature = "simulation"))]
            clock: None,
            #[cfg(feature = "simulation")]
            seed: None,
        }
    }
}

struct Checked {
    provider: CryptoProvider,
    time: Arc<dyn TimeProvider>,
    alpn: Vec<Vec<u8>>,
    key_log: Arc<Tap>,
}

impl Common {
    fn check(&mut self) -> Result<Checked, ConfigError> {
        if self.alpn.is_empty() {
            return Err(ConfigError::NoApplicationProtocol);
        }
        // RFC 7301, 3.1: a protocol's name is 1 to 255 bytes long.
        if let Some(name) = self.alpn.iter().find(|name| !(1..=255).contains(&name.len())) {
            return Err(ConfigError::ApplicationProtocol { name: String::from_utf8_lossy(name).into_owned() });
        }
        if self.groups.is_empty() {
            return Err(ConfigError::NothingToNegotiate { what: "key exchange group" });
        }
        if self.suites.is_empty() {
            return Err(ConfigError::NothingToNegotiate { what: "cipher suite" });
        }
        let (provider, time) = self.provider();
        let key_log = Arc::new(Tap::new(self.key_log.take()));
        Ok(Checked { provider, time, alpn: std::mem::take(&mut self.alpn), key_log })
    }

    fn provider(&self) -> (CryptoProvider, Arc<dyn TimeProvider>) {
        let provider = provider::provider(&self.groups, &self.suites);
        #[cfg(feature = "simulation")]
        if self.seed.is_some() {
            return (simulation::seeded(provider), Arc::new(self.clock.clone().unwrap_or_default()));
        }
        #[cfg(any(test, feature = "simulation"))]
        if let Some(clock) = &self.clock {
            return (provider, Arc::new(clock.clone()));
        }
        (provider, Arc::new(DefaultTimeProvider))
    }

    /// The tickets of a server that was given none.
    fn tickets(&self) -> Tickets {
        #[cfg(feature = "simulation")]
        if let Some(seed) = self.seed {
            return Tickets::seeded(seed);
        }
        Tickets::new()
    }
}

fn tls_refused(error: rustls::Error) -> ConfigError {
    ConfigError::Tls { reason: error.to_string() }
}

/// `None` if there is no root at all.
fn root_store(roots: &[Certificates], system_roots: Vec<CertificateDer<'static>>) -> Result<Option<RootCertStore>, ConfigError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(system_roots);
    for set in roots {
        for (index, root) in set.certificates.iter().enumerate() {
            store.add(root.clone()).map_err(|error| ConfigError::Certificate {
                origin: set.origin.clone(),
                position: index + 1,
                reason: error.to_string(),
            })?;
        }
    }
    Ok(Some(store).filter(|store| !store.is_empty()))
}

/// A chain and the key that it is shown with, if they belong together.
pub(crate) fn certified_key(chain: Certificates, key: PrivateKey, provider: &CryptoProvider) -> Result<CertifiedKey, ConfigError> {
    if chain.certificates.is_empty() {
        return Err(ConfigError::NoCertificate { origin: chain.origin });
    }
    let signing_key = provider
        .key_provider
        .load_private_key(key.key.clone_key())
        .map_err(|error| ConfigError::PrivateKey { origin: key.origin.clone(), reason: error.to_string() })?;
    let certified = CertifiedKey::new(chain.certificates, signing_key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(ConfigError::KeyMismatch { certificate: chain.origin, key: key.origin })
        }
        Err(error) => Err(ConfigError::Certificate { origin: chain.origin, position: 1, reason: error.to_string() }),
    }
}

/// Accepts every certificate. That the server holds its key is still checked, so that what `--insecure` gives up is
/// knowing who answered, and nothing else.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // RFC 9001, 4.2: QUIC needs TLS 1.3, and nothing older is configured.
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The seeds of a configuration's sessions, one after the other: two connections must not share their keys even in a
/// simulation, or the second's packets would open with the first's keys.
#[cfg(feature = "simulation")]
pub(crate) struct Seeds {
    seed: u64,
    sessions: AtomicU64,
}

#[cfg(feature = "simulation")]
impl Seeds {
    const fn new(seed: u64) -> Self {
        Self { seed, sessions: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> simulation::Generator {
        // Relaxed: a count, which orders nothing else.
        simulation::Generator::new(self.seed, self.sessions.fetch_add(1, Ordering::Relaxed))
    }
}
