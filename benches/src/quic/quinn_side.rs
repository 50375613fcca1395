//! quinn's part of the measurement: a server and a client, each on a tokio runtime of one thread, both tuned to the same payload and to
//! windows that do not limit loopback.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt, crypto::rustls as quinn_tls};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::runtime::Runtime;
use weald_runtime::time::Instant;

use super::{ALPN, Direction, Identity, SERVER_NAME, UDP_PAYLOAD, WRITE_SIZE, decode_request, encode_request};

/// A connected pair.
pub(super) struct Pair {
    client: Runtime,
    connection: Connection,
    _endpoint: Endpoint,
    _server: Runtime,
}

/// The same windows as Weald's defaults: larger than the bandwidth-delay product of loopback by far.
const STREAM_WINDOW: u32 = 1_250_000;
const CONNECTION_WINDOW: u32 = 10_000_000;

impl Pair {
    pub(super) fn start(identity: &Identity) -> Result<Self> {
        let certificate = CertificateDer::from(identity.certificate.clone());
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = Arc::new(provider);

        let mut server_tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], PrivatePkcs8KeyDer::from(identity.key.clone()).into())?;
        server_tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut server_config = quinn::ServerConfig::with_crypto(Arc::new(quinn_tls::QuicServerConfig::try_from(server_tls)?));
        server_config.transport_config(transport());

        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate)?;
        let mut client_tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client_tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut client_config = quinn::ClientConfig::new(Arc::new(quinn_tls::QuicClientConfig::try_from(client_tls)?));
        client_config.transport_config(transport());

        let server = runtime("quinn-server")?;
        let listening = {
            let _inside = server.enter();
            Endpoint::server(server_config, (Ipv4Addr::LOCALHOST, 0).into())?
        };
        let address = listening.local_addr()?;
        server.spawn(serve(listening));

        let client = runtime("quinn-client")?;
        let (endpoint, connection) = client.block_on(async {
            let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
            let connection = endpoint.connect_with(client_config, address, SERVER_NAME)?.await?;
            anyhow::Ok((endpoint, connection))
        })?;
        Ok(Self { client, connection, _endpoint: endpoint, _server: server })
    }

    pub(super) fn transfer(&self, direction: Direction, bytes: u64) -> Result<Duration> {
        // On the runtime's own thread: quinn is faster without a hop between threads for every wake-up.
        let connection = self.connection.clone();
        let task = self.client.spawn(async move {
            let started = Instant::now();
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(&encode_request(direction, bytes)).await?;
            let received = match direction {
                Direction::Download => {
                    send.finish()?;
                    drain(&mut receive).await?
                }
                Direction::Upload => {
                    write(&mut send, bytes).await?;
                    send.finish()?;
                    receive.read_exact(&mut [0]).await?;
                    bytes
                }
            };
            ensure!(received == bytes, "{received} bytes came instead of {bytes}");
            Ok(started.elapsed())
        });
        self.client.block_on(task)?
    }
}

fn runtime(name: &str) -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .context("cannot start a tokio runtime")
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(UDP_PAYLOAD)
        .min_mtu(UDP_PAYLOAD)
        .mtu_discovery_config(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW));
    Arc::new(transport)
}

async fn serve(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let Ok(connection) = incoming.await else { continue };
        while let Ok((send, receive)) = connection.accept_bi().await {
            if let Err(error) = answer(send, receive).await {
                tracing::warn!(%error, "bench transfer failed");
            }
        }
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream) -> Result<()> {
    let mut request = [0; 9];
    receive.read_exact(&mut request).await?;
    let (direction, bytes) = decode_request(&request);
    match direction {
        Direction::Download => write(&mut send, bytes).await?,
        Direction::Upload => {
            let received = drain(&mut receive).await?;
            ensure!(received == bytes, "{received} bytes came instead of {bytes}");
            send.write_all(&[1]).await?;
        }
    }
    Ok(send.finish()?)
}

async fn write(send: &mut SendStream, bytes: u64) -> Result<()> {
    let piece = vec![0x5a; WRITE_SIZE];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(WRITE_SIZE as u64);
        send.write_all(&piece[..length as usize]).await?;
        left -= length;
    }
    Ok(())
}

async fn drain(receive: &mut RecvStream) -> Result<u64> {
    let mut received = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        received += chunk.bytes.len() as u64;
    }
    Ok(received)
}
