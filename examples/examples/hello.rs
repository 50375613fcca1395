//! An HTTP/3 server, and a client that asks it, in one program: `cargo run --example hello -p weald`.

use http::Response;
use weald_crypto::{Certificates, PrivateKey};
use weald_http3::{ALPN, Client, Config, server};
use weald_quic::{ClientConfig, Endpoint, ServerConfig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    // A fresh certificate that only this program knows; a real server reads its own with `Certificates::from_pem_file`.
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
                server::serve(&server, Config::default(), |request, responder| {
                    // A coroutine of its own: block as you like.
                    responder.send_with_body(Response::new(()), format!("You asked for {}\n", request.uri().path()))
                });
            }
        });

        let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
        let connection = endpoint.connect_with(ClientConfig::new(client_tls), address, "localhost")?;
        let client = Client::new(connection, Config::default())?;
        for path in ["/", "/hello"] {
            let mut response = client.get(format!("https://localhost{path}").parse()?)?;
            let body = response.body_mut().read_to_end(1 << 20)?;
            print!("{} {}", response.status(), String::from_utf8_lossy(&body));
        }

        client.close();
        server.close(0u32.into(), b"done");
        serving.join().map_err(|error| error.to_string())?;
        Ok(())
    })
}
