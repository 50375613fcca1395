//! Weald's part of the measurement: a server and a client, each on a runtime of one worker.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use weald_crypto::{Certificates, CipherSuite, PrivateKey};
use weald_quic::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig};
use weald_runtime::{Runtime, time::Instant};

use super::{ALPN, Direction, Identity, SERVER_NAME, UDP_PAYLOAD, WRITE_SIZE, decode_request, encode_request};

/// A connected pair.
pub(super) struct Pair {
    client: Runtime,
    connection: Connection,
    _endpoint: Endpoint,
    _server: Runtime,
}

impl Pair {
    pub(super) fn start(identity: &Identity) -> Result<Self> {
        let chain = Certificates::from_der([identity.certificate.clone()]);
        let server_tls = weald_crypto::ServerConfig::builder()
            .alpn([ALPN])
            .cipher_suites([CipherSuite::Aes128GcmSha256])
            .certificate(chain.clone(), PrivateKey::from_der(identity.key.clone())?)
            .build()?;
        let client_tls =
            weald_crypto::ClientConfig::builder().alpn([ALPN]).cipher_suites([CipherSuite::Aes128GcmSha256]).roots(chain).build()?;
        let transport = TransportConfig::default().udp_payload(UDP_PAYLOAD);
        let server_config = ServerConfig::new(server_tls).transport(transport.clone());
        let client_config = ClientConfig::new(client_tls).transport(transport);

        let server = Runtime::builder().name("bench-server").workers(1).build()?;
        let listening = server.run(|| Endpoint::server(server_config, (Ipv4Addr::LOCALHOST, 0).into()))?;
        let address = listening.local_addr()?;
        drop(server.handle().spawn(move || serve(&listening)));

        let client = Runtime::builder().name("bench-client").workers(1).build()?;
        let (endpoint, connection) = client.run(|| -> Result<_> {
            let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
            let connection = endpoint.connect_with(client_config, address, SERVER_NAME)?;
            Ok((endpoint, connection))
        })?;
        Ok(Self { client, connection, _endpoint: endpoint, _server: server })
    }

    pub(super) fn transfer(&self, direction: Direction, bytes: u64) -> Result<Duration> {
        self.client.run(|| {
            let started = Instant::now();
            let (mut send, mut receive) = self.connection.open_bi()?;
            send.write_all(&encode_request(direction, bytes))?;
            let received = match direction {
                Direction::Download => {
                    send.finish()?;
                    drain(&mut receive)?
                }
                Direction::Upload => {
                    write(&mut send, bytes)?;
                    send.finish()?;
                    let mut confirmation = [0];
                    receive.read_exact(&mut confirmation)?;
                    bytes
                }
            };
            ensure!(received == bytes, "{received} bytes came instead of {bytes}");
            Ok(started.elapsed())
        })
    }
}

fn serve(endpoint: &Endpoint) {
    while let Some(connection) = endpoint.accept() {
        while let Ok((send, receive)) = connection.accept_bi() {
            if let Err(error) = answer(send, receive) {
                tracing::warn!(%error, "bench transfer failed");
            }
        }
    }
}

fn answer(mut send: SendStream, mut receive: RecvStream) -> Result<()> {
    let mut request = [0; 9];
    receive.read_exact(&mut request)?;
    let (direction, bytes) = decode_request(&request);
    match direction {
        Direction::Download => write(&mut send, bytes)?,
        Direction::Upload => {
            let received = drain(&mut receive)?;
            ensure!(received == bytes, "{received} bytes came instead of {bytes}");
            send.write_all(&[1])?;
        }
    }
    Ok(send.finish()?)
}

fn write(send: &mut SendStream, bytes: u64) -> Result<()> {
    let piece = vec![0x5a; WRITE_SIZE];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(WRITE_SIZE as u64);
        send.write_all(&piece[..length as usize])?;
        left -= length;
    }
    Ok(())
}

fn drain(receive: &mut RecvStream) -> Result<u64> {
    let mut received = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX)? {
        received += chunk.len() as u64;
    }
    Ok(received)
}
