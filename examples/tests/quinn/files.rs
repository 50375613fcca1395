//! `weald serve` and `weald get` against quinn in the other role: 100 MB over hq-interop, every byte compared.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::sides::tokio_runtime;

const ALPN: &[u8] = b"hq-interop";
const SIZE: usize = 100_000_000;

/// A folder with a file to fetch and a certificate for localhost.
struct Fixture {
    folder: tempfile::TempDir,
    content: Vec<u8>,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut content = vec![0; SIZE];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        std::fs::write(folder.path().join("file"), &content).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { folder, content, certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A child that does not outlive the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn weald() -> Command {
    Command::new(Path::new(env!("CARGO_BIN_EXE_weald")))
}

#[test]
fn quinn_fetches_from_weald_serve() {
    let fixture = Fixture::new();
    let mut child = weald()
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--root", fixture.folder.path().to_str().unwrap()])
        .args(["--cert", &fixture.path("cert.pem"), "--key", &fixture.path("key.pem")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _server = Server(child);
    let listening: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let address: SocketAddr = listening["address"].as_str().unwrap().parse().unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(fixture.certificate.clone()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));

    let body = tokio_runtime().block_on(async {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connection = endpoint.connect_with(config, address, "localhost").unwrap().await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(b"GET /file\r\n").await.unwrap();
        send.finish().unwrap();
        receive.read_to_end(2 * SIZE).await.unwrap()
    });
    assert!(body == fixture.content, "{} bytes came, and they differ from the {SIZE} of the file", body.len());
}

#[test]
fn weald_get_fetches_from_quinn() {
    let fixture = Fixture::new();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![fixture.certificate.clone()], PrivatePkcs8KeyDer::from(fixture.key.clone()).into())
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));

    let runtime = tokio_runtime();
    let endpoint = {
        let _inside = runtime.enter();
        quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    };
    let port = endpoint.local_addr().unwrap().port();
    let content = fixture.content.clone();
    runtime.spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        assert_eq!(receive.read_to_end(1024).await.unwrap(), b"GET /file\r\n");
        send.write_all(&content).await.unwrap();
        send.finish().unwrap();
        connection.closed().await;
    });

    let output = weald()
        .args(["get", "--json", "--ca", &fixture.path("cert.pem"), "--output", &fixture.path("out")])
        .arg(format!("https://localhost:{port}/file"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["connections"][0]["alpn"], "hq-interop");
    assert_eq!(report["transfers"][0]["blake3"], blake3::hash(&fixture.content).to_hex().as_str());
    assert!(std::fs::read(fixture.path("out")).unwrap() == fixture.content, "the saved file differs");
}
