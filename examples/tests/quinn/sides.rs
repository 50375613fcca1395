//! A weald endpoint and a quinn endpoint over the loopback, each in a runtime of its own in this process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use weald_crypto::{Certificates, PrivateKey};

use crate::observed::{self, Observed};

/// What both ends offer.
pub(crate) const ALPN: &[u8] = b"weald-interop";
/// The name in the certificate.
pub(crate) const NAME: &str = "localhost";
/// Far more than a test needs on a busy machine: one that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// Quinn's part of the tests, with as many threads as it needs.
pub(crate) fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A server's certificate, which clients trust, and its key.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    pub(crate) fn weald_server(&self) -> weald_quic::ServerConfig {
        weald_quic::ServerConfig::new(self.weald_server_tls().build().unwrap())
    }

    pub(crate) fn weald_server_tls(&self) -> weald_crypto::ServerConfigBuilder {
        weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(self.chain(), self.key())
    }

    pub(crate) fn weald_client(&self) -> weald_quic::ClientConfig {
        weald_quic::ClientConfig::new(self.weald_client_tls().build().unwrap())
    }

    pub(crate) fn weald_client_tls(&self) -> weald_crypto::ClientConfigBuilder {
        weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(self.chain())
    }

    pub(crate) fn quinn_server(&self) -> quinn::ServerConfig {
        quinn_server(self.quinn_server_tls())
    }

    pub(crate) fn quinn_server_tls(&self) -> rustls::ServerConfig {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls
    }

    pub(crate) fn quinn_client(&self) -> quinn::ClientConfig {
        self.quinn_client_that_offers(ALPN)
    }

    pub(crate) fn quinn_client_that_offers(&self, alpn: &[u8]) -> quinn::ClientConfig {
        quinn_client(self.quinn_client_tls(alpn))
    }

    pub(crate) fn quinn_client_tls(&self, alpn: &[u8]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls
    }

    /// A server's TLS with these groups, and what happens in it.
    pub(crate) fn quinn_server_observed(&self, groups: &[&'static dyn SupportedKxGroup]) -> (rustls::ServerConfig, Arc<Observed>) {
        let (provider, observed) = observed_provider(groups);
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let certified = Arc::new(CertifiedKey::from_der(vec![self.certificate.clone()], key.into(), &provider).unwrap());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(observed::Certificate { certified, observed: observed.clone() }));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let sessions = tls.session_storage.clone();
        tls.session_storage = Arc::new(observed::Sessions { sessions, observed: observed.clone() });
        (tls, observed)
    }

    /// The same of a client.
    pub(crate) fn quinn_client_observed(&self, groups: &[&'static dyn SupportedKxGroup]) -> (rustls::ClientConfig, Arc<Observed>) {
        let (provider, observed) = observed_provider(groups);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(observed::Verifier { verifier, observed: observed.clone() }))
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        (tls, observed)
    }

    pub(crate) fn key(&self) -> PrivateKey {
        PrivateKey::from_der(self.key.clone()).unwrap()
    }

    pub(crate) fn chain(&self) -> Certificates {
        Certificates::from_der([self.certificate.to_vec()])
    }
}

fn observed_provider(groups: &[&'static dyn SupportedKxGroup]) -> (Arc<CryptoProvider>, Arc<Observed>) {
    let observed: Arc<Observed> = Arc::default();
    (Arc::new(CryptoProvider { kx_groups: observed.groups(groups), ..aws_lc_rs::default_provider() }), observed)
}

pub(crate) fn quinn_server(tls: rustls::ServerConfig) -> quinn::ServerConfig {
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

pub(crate) fn quinn_client(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// Runs `serve` with a weald server and `fetch` with a quinn client that is to connect to the address. Both must return, and close
/// their connections before; what they return is returned.
pub(crate) fn weald_serves<W, Q, F>(
    config: weald_quic::ServerConfig,
    serve: impl FnOnce(weald_quic::Endpoint) -> W + Send + 'static,
    fetch: impl FnOnce(quinn::Endpoint, SocketAddr) -> F + Send + 'static,
) -> (W, Q)
where
    W: Send + 'static,
    Q: Send + 'static,
    F: Future<Output = Q> + Send + 'static,
{
    let (told, address) = tokio::sync::oneshot::channel();
    let weald = move || {
        let endpoint = weald_quic::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        told.send(endpoint.local_addr().unwrap()).unwrap();
        let served = serve(endpoint.clone());
        endpoint.wait_idle();
        served
    };
    together(weald, async move {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let fetched = fetch(endpoint.clone(), address.await.unwrap()).await;
        endpoint.wait_idle().await;
        fetched
    })
}

/// The same with a quinn server and a weald client.
pub(crate) fn quinn_serves<W, Q, F>(
    config: quinn::ServerConfig,
    serve: impl FnOnce(quinn::Endpoint) -> F + Send + 'static,
    fetch: impl FnOnce(weald_quic::Endpoint, SocketAddr) -> W + Send + 'static,
) -> (W, Q)
where
    W: Send + 'static,
    Q: Send + 'static,
    F: Future<Output = Q> + Send + 'static,
{
    let (told, address) = std::sync::mpsc::channel();
    let weald = move || {
        let address = address.recv().unwrap();
        let endpoint = weald_quic::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let fetched = fetch(endpoint.clone(), address);
        endpoint.wait_idle();
        fetched
    };
    together(weald, async move {
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        told.send(endpoint.local_addr().unwrap()).unwrap();
        let served = serve(endpoint.clone()).await;
        endpoint.wait_idle().await;
        served
    })
}

/// What both ends say first.
const GREETING: &[u8] = b"ready";

/// Returns when weald and quinn, which does the same, know that the handshake is complete at both ends: a close before that comes
/// without the application's code (RFC 9000 section 10.2.3), or before there is a connection to be accepted.
pub(crate) fn weald_meets_quinn(connection: &weald_quic::Connection) {
    if connection.side().is_client() {
        let (mut send, mut receive) = connection.open_bi().unwrap();
        send.write_all(GREETING).unwrap();
        assert_eq!(receive.read_to_end(100).unwrap(), GREETING);
    } else {
        let (mut send, mut receive) = connection.accept_bi().unwrap();
        let mut greeting = [0; GREETING.len()];
        receive.read_exact(&mut greeting).unwrap();
        send.write_all(&greeting).unwrap();
        send.finish().unwrap();
        // Until the client has read it; who closes at once then may have been faster with it than with the end of the stream.
        let _ = receive.read_to_end(100);
    }
}

/// Quinn's part of [`weald_meets_quinn`].
pub(crate) async fn quinn_meets_weald(connection: &quinn::Connection) {
    if connection.side().is_client() {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(GREETING).await.unwrap();
        assert_eq!(receive.read_to_end(100).await.unwrap(), GREETING);
    } else {
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        let mut greeting = [0; GREETING.len()];
        receive.read_exact(&mut greeting).await.unwrap();
        send.write_all(&greeting).await.unwrap();
        send.finish().unwrap();
        let _ = receive.read_to_end(100).await;
    }
}

/// Both ends of one connection whose handshake is complete at both: `weald_part` gets the server's handle and `quinn_part` the
/// client's.
pub(crate) fn weald_accepts<W, Q, F>(
    server: weald_quic::ServerConfig,
    client: quinn::ClientConfig,
    weald_part: impl FnOnce(weald_quic::Connection) -> W + Send + 'static,
    quinn_part: impl FnOnce(quinn::Connection) -> F + Send + 'static,
) -> (W, Q)
where
    W: Send + 'static,
    Q: Send + 'static,
    F: Future<Output = Q> + Send + 'static,
{
    weald_serves(
        server,
        |endpoint| {
            let connection = endpoint.accept().unwrap();
            weald_meets_quinn(&connection);
            weald_part(connection)
        },
        |endpoint, address| async move {
            let connection = endpoint.connect_with(client, address, NAME).unwrap().await.unwrap();
            quinn_meets_weald(&connection).await;
            quinn_part(connection).await
        },
    )
}

/// The same with the roles exchanged.
pub(crate) fn weald_connects<W, Q, F>(
    client: weald_quic::ClientConfig,
    server: quinn::ServerConfig,
    weald_part: impl FnOnce(weald_quic::Connection) -> W + Send + 'static,
    quinn_part: impl FnOnce(quinn::Connection) -> F + Send + 'static,
) -> (W, Q)
where
    W: Send + 'static,
    Q: Send + 'static,
    F: Future<Output = Q> + Send + 'static,
{
    quinn_serves(
        server,
        |endpoint| async move {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            quinn_meets_weald(&connection).await;
            quinn_part(connection).await
        },
        |endpoint, address| {
            let connection = endpoint.connect_with(client, address, NAME).unwrap();
            weald_meets_quinn(&connection);
            weald_part(connection)
        },
    )
}

/// Runs both parts to their ends. If one panics, the other is left alone and the panic goes on here.
fn together<W: Send + 'static, Q: Send + 'static>(
    weald: impl FnOnce() -> W + Send + 'static,
    quinn: impl Future<Output = Q> + Send + 'static,
) -> (W, Q) {
    let runtime = tokio_runtime();
    let weald = runtime.spawn_blocking(move || weald_runtime::run(weald));
    let quinn = runtime.spawn(quinn);
    let both = runtime.block_on(async { tokio::time::timeout(LONGEST, async { tokio::try_join!(weald, quinn) }).await });
    // A part that still runs would be waited for otherwise.
    runtime.shutdown_background();
    match both {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        Err(_) => panic!("not done after {LONGEST:?}"),
    }
}
