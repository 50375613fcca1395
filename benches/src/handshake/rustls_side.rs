//! TLS alone: rustls' client and server in one thread, messages handed over in memory. What a handshake of QUIC costs cannot be less.
//!
//! It is told as a client is, and each end's processor time is that of its own calls.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use rustls::{
    DigitallySignedStruct, HandshakeKind, NamedGroup, SignatureScheme,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    quic::{ClientConnection, Connection, ServerConnection, Version},
    server::ServerSessionMemoryCache,
};

use super::protocol::{ALPN, Batch, Group, Kind, SERVER_NAME, Task, answer};

pub(super) fn run(task: &Task) -> Result<()> {
    let pair = Pair::new(task)?;
    if task.kind != Kind::Full {
        pair.shake()?;
    }
    answer(|count| {
        let mut batch = Batch::default();
        for _ in 0..count {
            let one = pair.shake()?;
            batch.handshakes += 1;
            batch.resumed += one.resumed;
            batch.early += one.early;
            batch.client += one.client;
            batch.server += one.server;
        }
        Ok(batch)
    })
}

struct Pair {
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
}

impl Pair {
    fn new(task: &Task) -> Result<Self> {
        Ok(Self { client: Arc::new(client_config(task, &Arc::default())?), server: Arc::new(server_config(task)?) })
    }

    fn shake(&self) -> Result<Batch> {
        let mut client_time = Clock::default();
        let mut server_time = Clock::default();
        let name = ServerName::try_from(SERVER_NAME)?;
        let mut client =
            client_time.count(|| ClientConnection::new(self.client.clone(), Version::V1, name, vec![0; 60]).map(Connection::from))??;
        let mut server =
            server_time.count(|| ServerConnection::new(self.server.clone(), Version::V1, vec![0; 90]).map(Connection::from))??;
        let early = client.zero_rtt_keys().is_some();
        let mut flight = Vec::new();
        // Until neither has more to say: tickets come after both are done.
        loop {
            client_time.count(|| write(&mut client, &mut flight))?;
            let said = !flight.is_empty();
            server_time.count(|| read(&mut server, &mut flight))??;
            server_time.count(|| write(&mut server, &mut flight))?;
            if !said && flight.is_empty() {
                break;
            }
            client_time.count(|| read(&mut client, &mut flight))??;
        }
        ensure!(!client.is_handshaking() && !server.is_handshaking(), "a handshake in memory did not complete");
        let Connection::Client(client) = &client else { unreachable!("it was made as a client") };
        Ok(Batch {
            handshakes: 1,
            resumed: u64::from(client.handshake_kind() == Some(HandshakeKind::Resumed)),
            early: u64::from(early && client.is_early_data_accepted()),
            elapsed: Duration::ZERO,
            client: client_time.0,
            server: server_time.0,
        })
    }
}

/// TLS messages are handed over one level at a time, as QUIC does.
fn write(connection: &mut Connection, flight: &mut Vec<Vec<u8>>) {
    loop {
        let mut bytes = Vec::new();
        let change = connection.write_hs(&mut bytes);
        let idle = bytes.is_empty() && change.is_none();
        if !bytes.is_empty() {
            flight.push(bytes);
        }
        if idle {
            return;
        }
    }
}

fn read(connection: &mut Connection, flight: &mut Vec<Vec<u8>>) -> Result<()> {
    for bytes in flight.drain(..) {
        connection.read_hs(&bytes)?;
    }
    Ok(())
}

/// Processor time of this thread, in parts.
#[derive(Default)]
struct Clock(Duration);

impl Clock {
    fn count<T>(&mut self, work: impl FnOnce() -> T) -> Result<T> {
        let began: Duration = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into();
        let result = work();
        self.0 += Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?).saturating_sub(began);
        Ok(result)
    }
}

/// What all that are built on rustls compute with: the one group, and AES-128-GCM.
pub(super) fn provider(group: Group) -> Arc<CryptoProvider> {
    let group = match group {
        Group::X25519 => aws_lc_rs::kx_group::X25519,
        Group::X25519MlKem768 => aws_lc_rs::kx_group::X25519MLKEM768,
    };
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    Arc::new(CryptoProvider { cipher_suites: vec![suite], kx_groups: vec![group], ..aws_lc_rs::default_provider() })
}

/// rustls' configuration of a server.
pub(super) fn server_config(task: &Task) -> Result<rustls::ServerConfig> {
    let certificate = CertificateDer::from(task.read("certificate.der")?);
    let key = PrivatePkcs8KeyDer::from(task.read("key.der")?);
    let mut config = rustls::ServerConfig::builder_with_provider(provider(task.group))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .context("the certificate")?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = task.tickets.into();
    // 0-RTT takes sessions that the server remembers.
    config.session_storage = ServerSessionMemoryCache::new(1 << 16);
    if task.kind == Kind::ZeroRtt {
        config.max_early_data_size = u32::MAX;
    }
    Ok(config)
}

/// rustls' configuration of a client, which counts the certificates that it verifies: a resumed session shows none.
pub(super) fn client_config(task: &Task, verified: &Arc<AtomicU64>) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(task.read("certificate.der")?))?;
    let provider = provider(task.group);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Counting { verifier, verified: Arc::clone(verified) }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    match task.kind {
        Kind::Full => config.resumption = Resumption::disabled(),
        Kind::Resumed | Kind::ZeroRtt => config.resumption = Resumption::store(Arc::new(Store::default())),
    }
    config.enable_early_data = task.kind == Kind::ZeroRtt;
    Ok(config)
}

/// Keeps all tickets of the one server that there is: rustls' own store keeps 8 a server, fewer than there are connections at once.
#[derive(Debug, Default)]
struct Store(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server_name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(value);
    }

    fn take_tls13_ticket(&self, _server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// A verifier that counts.
#[derive(Debug)]
struct Counting {
    verifier: Arc<WebPkiServerVerifier>,
    verified: Arc<AtomicU64>,
}

impl ServerCertVerifier for Counting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verified.fetch_add(1, Ordering::Relaxed);
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
