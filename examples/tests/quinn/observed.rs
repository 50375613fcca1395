//! What quinn's TLS does and quinn does not tell: which groups it took up, how many ClientHellos it read, and which sessions came back.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rustls::{
    DigitallySignedStruct, NamedGroup, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ClientHello, ResolvesServerCert, StoresServerSessions},
    sign::CertifiedKey,
};

/// What happened so far, on all connections with one configuration.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Groups that a client sent its half of a key exchange for, one after the other.
    started: Mutex<Vec<NamedGroup>>,
    /// Groups whose secret an end computed: one a connection.
    agreed: Mutex<Vec<NamedGroup>>,
    /// ClientHellos that a server read: two on a connection with a HelloRetryRequest.
    hellos: AtomicUsize,
    /// Certificates that a client verified: none on a connection that resumes.
    certificates: AtomicUsize,
    /// Sessions that a server found again.
    sessions: AtomicUsize,
}

impl Observed {
    pub(crate) fn started(&self) -> Vec<NamedGroup> {
        self.started.lock().unwrap().clone()
    }

    pub(crate) fn agreed(&self) -> Vec<NamedGroup> {
        self.agreed.lock().unwrap().clone()
    }

    pub(crate) fn hellos(&self) -> usize {
        self.hellos.load(Ordering::SeqCst)
    }

    pub(crate) fn certificates(&self) -> usize {
        self.certificates.load(Ordering::SeqCst)
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::SeqCst)
    }

    /// The same groups, observed. rustls wants them for as long as the process lives.
    pub(crate) fn groups(self: &Arc<Self>, groups: &[&'static dyn SupportedKxGroup]) -> Vec<&'static dyn SupportedKxGroup> {
        let observed = |&group| -> &'static dyn SupportedKxGroup { Box::leak(Box::new(Group { group, observed: self.clone() })) };
        groups.iter().map(observed).collect()
    }
}

#[derive(Debug)]
struct Group {
    group: &'static dyn SupportedKxGroup,
    observed: Arc<Observed>,
}

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        self.observed.started.lock().unwrap().push(self.group.name());
        Ok(Box::new(Started { exchange: self.group.start()?, observed: self.observed.clone() }))
    }

    fn start_and_complete(&self, share: &[u8]) -> Result<CompletedKeyExchange, rustls::Error> {
        self.observed.agreed.lock().unwrap().push(self.group.name());
        self.group.start_and_complete(share)
    }

    fn name(&self) -> NamedGroup {
        self.group.name()
    }
}

struct Started {
    exchange: Box<dyn ActiveKeyExchange>,
    observed: Arc<Observed>,
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, rustls::Error> {
        self.observed.agreed.lock().unwrap().push(self.exchange.group());
        self.exchange.complete(share)
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        self.exchange.hybrid_component()
    }

    fn complete_hybrid_component(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, rustls::Error> {
        let component = self.exchange.hybrid_component().map(|(group, _)| group);
        self.observed.agreed.lock().unwrap().extend(component);
        self.exchange.complete_hybrid_component(share)
    }

    fn pub_key(&self) -> &[u8] {
        self.exchange.pub_key()
    }

    fn group(&self) -> NamedGroup {
        self.exchange.group()
    }
}

/// A server's certificate. rustls asks for it with each ClientHello.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) observed: Arc<Observed>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.observed.hellos.fetch_add(1, Ordering::SeqCst);
        Some(self.certified.clone())
    }
}

/// Where a server keeps sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) sessions: Arc<dyn StoresServerSessions>,
    pub(crate) observed: Arc<Observed>,
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.sessions.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions.take(key).inspect(|_| {
            self.observed.sessions.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}

/// How a client verifies.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) verifier: Arc<dyn ServerCertVerifier>,
    pub(crate) observed: Arc<Observed>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.observed.certificates.fetch_add(1, Ordering::SeqCst);
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
