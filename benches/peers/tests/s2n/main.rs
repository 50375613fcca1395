//! Weald beside s2n-quic on rustls, in both roles: bytes that go to the other end and come back, over X25519MLKEM768.
//!
//! s2n-quic resumes no session on rustls: its server sends no ticket, which is looked at here as well.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
    time::Duration,
};

use rustls::{
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use s2n_quic::{Client, Server, client::Connect, provider::tls::rustls as s2n_tls};
use weald_crypto::{Certificates, NamedGroup, PrivateKey, SessionStore};
use weald_quic::{ClientConfig, Endpoint, ServerConfig};

const ALPN: &[u8] = b"weald-interop";
const NAME: &str = "localhost";
/// More than a stream's first window.
const LEN: usize = 3_000_000;
/// Far more than a test needs on a busy machine: one that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    fn chain(&self) -> Certificates {
        Certificates::from_der([self.certificate.to_vec()])
    }

    fn s2n_server(&self) -> s2n_tls::Server {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.into()
    }

    fn s2n_client(&self) -> s2n_tls::Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.into()
    }
}

/// With the hybrid group first, which is last by default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519], ..aws_lc_rs::default_provider() })
}

fn request() -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

fn on_tokio<T>(part: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(part)
}

/// Runs both parts to their ends, each in a thread of its own.
fn together<W: Send + 'static, S: Send + 'static>(
    weald: impl FnOnce() -> W + Send + 'static,
    s2n: impl FnOnce() -> S + Send + 'static,
) -> (W, S) {
    let (weald, s2n) = (in_thread("weald", move || weald_runtime::run(weald)), in_thread("s2n-quic", s2n));
    (weald.recv_timeout(LONGEST).unwrap(), s2n.recv_timeout(LONGEST).unwrap())
}

fn in_thread<T: Send + 'static>(name: &str, part: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (done, result) = mpsc::channel();
    drop(std::thread::Builder::new().name(name.to_owned()).spawn(move || done.send(part())).unwrap());
    result
}

#[test]
fn s2n_transfers() {
    let identity = Identity::new();
    let key = PrivateKey::from_der(identity.key.clone()).unwrap();
    let tls = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(identity.chain(), key).build().unwrap();
    let client = identity.s2n_client();
    let (told, address) = mpsc::channel();
    let (group, ()) = together(
        move || {
            let endpoint = Endpoint::server(ServerConfig::new(tls), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            told.send(endpoint.local_addr().unwrap()).unwrap();
            let connection = endpoint.accept().unwrap();
            let (mut send, mut receive) = connection.accept_bi().unwrap();
            send.write_all(&receive.read_to_end(LEN).unwrap()).unwrap();
            send.finish().unwrap();
            connection.closed();
            connection.handshake().group
        },
        move || {
            on_tokio(async {
                let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
                let mut client = Client::builder().with_tls(client).unwrap().with_io(local).unwrap().start().unwrap();
                let connect = Connect::new(address.recv().unwrap()).with_server_name(NAME);
                let mut connection = client.connect(connect).await.unwrap();
                let (mut receive, mut send) = connection.open_bidirectional_stream().await.unwrap().split();
                send.send(request().into()).await.unwrap();
                send.finish().unwrap();
                let mut came = Vec::new();
                while let Some(piece) = receive.receive().await.unwrap() {
                    came.extend_from_slice(&piece);
                }
                assert!(came == request(), "what came back is not what was sent");
                connection.close(0_u32.into());
                client.wait_idle().await.unwrap();
            });
        },
    );
    assert_eq!(group, NamedGroup::X25519MlKem768);
}

#[test]
fn weald_transfers() {
    let identity = Identity::new();
    let sessions = SessionStore::default();
    let tls = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(identity.chain()).sessions(sessions.clone()).build().unwrap();
    let server = identity.s2n_server();
    let (told, address) = mpsc::channel();
    let (group, ()) = together(
        move || {
            let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let connection = endpoint.connect_with(ClientConfig::new(tls), address.recv().unwrap(), NAME).unwrap();
            let (mut send, mut receive) = connection.open_bi().unwrap();
            let sender = weald_runtime::spawn(move || {
                send.write_all(&request()).unwrap();
                send.finish().unwrap();
            });
            assert!(receive.read_to_end(LEN).unwrap() == request(), "what came back is not what was sent");
            sender.join().unwrap();
            let group = connection.handshake().group;
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle();
            group
        },
        move || {
            on_tokio(async {
                let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
                let mut server = Server::builder().with_tls(server).unwrap().with_io(local).unwrap().start().unwrap();
                told.send(server.local_addr().unwrap()).unwrap();
                let mut connection = server.accept().await.unwrap();
                let (mut receive, mut send) = connection.accept_bidirectional_stream().await.unwrap().unwrap().split();
                let mut came = Vec::new();
                while let Some(piece) = receive.receive().await.unwrap() {
                    came.extend_from_slice(&piece);
                }
                send.send(came.into()).await.unwrap();
                send.finish().unwrap();
                // Until the client has closed.
                while let Ok(Some(_)) = connection.accept_bidirectional_stream().await {}
            });
        },
    );
    assert_eq!(group, NamedGroup::X25519MlKem768);
    assert!(sessions.is_empty(), "s2n-quic has begun to send tickets on rustls: see src/s2n_side.rs");
}
