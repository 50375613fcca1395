//! QUIC without HTTP: a server that sends back what it gets on each stream, and a client with many streams at once:
//! `cargo run --example echo -p weald`.

use weald_crypto::{Certificates, PrivateKey};
use weald_quic::{ClientConfig, Connection, Endpoint, ServerConfig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What client and server agree to speak.
const ALPN: &[u8] = b"echo";
const STREAMS: usize = 200;

fn main() -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let chain = Certificates::from_der([made.cert.der().to_vec()]);
    let key = PrivateKey::from_der(made.signing_key.serialize_der())?;
    let server_tls = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain.clone(), key).build()?;
    let client_tls = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(chain).build()?;

    weald_runtime::run(|| -> Result<()> {
        let server = Endpoint::server(ServerConfig::new(server_tls), "127.0.0.1:0".parse()?)?;
        let address = server.local_addr()?;
        let serving = weald_runtime::spawn({
            let server = server.clone();
            move || {
                // `None` once the endpoint closes. On the connection's own worker its streams cost least.
                while let Some(connection) = server.accept() {
                    drop(connection.clone().spawn(move || echo(&connection)));
                }
            }
        });

        let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
        let connection = endpoint.connect_with(ClientConfig::new(client_tls), address, "localhost")?;
        // More streams than the server allows at once: opening one waits for another to end.
        let asking: Vec<_> = (0..STREAMS)
            .map(|n| {
                let connection = connection.clone();
                weald_runtime::spawn(move || ask(&connection, n))
            })
            .collect();
        let mut bytes = 0;
        for asked in asking {
            bytes += asked.join().map_err(|error| error.to_string())??;
        }
        println!("{STREAMS} streams, {bytes} bytes there and back, round trip {:?}", connection.rtt());

        connection.close(0u32.into(), b"done");
        endpoint.wait_idle();
        server.close(0u32.into(), b"done");
        serving.join().map_err(|error| error.to_string())?;
        Ok(())
    })
}

/// A coroutine for each stream, until the connection ends.
fn echo(connection: &Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi() {
        drop(connection.spawn(move || -> Result<()> {
            // Pieces come as they lay in packets; nothing is copied on the way in.
            while let Some(chunk) = receive.read_chunk(usize::MAX)? {
                send.write_all(&chunk)?;
            }
            send.finish()?;
            Ok(())
        }));
    }
}

/// Sends a message on a stream of its own, and checks that it comes back.
fn ask(connection: &Connection, n: usize) -> Result<usize> {
    let message = format!("message {n} ").repeat(1000);
    let (mut send, mut receive) = connection.open_bi()?;
    send.write_all(message.as_bytes())?;
    send.finish()?;
    let answer = receive.read_to_end(message.len())?;
    if answer != message.as_bytes() {
        return Err(format!("message {n} came back changed").into());
    }
    Ok(answer.len())
}
