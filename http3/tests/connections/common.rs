//! Two hosts in a simulation: endpoints, good and raw peers, and HTTP/3's bytes written by hand.

use std::net::SocketAddr;

use http::{Request, Response};
use weald_crypto::simulation::{SERVER_NAME, roots, server_credentials};
use weald_http3::server::Responder;
use weald_http3::{ALPN, Client, Config, Error, RecvBody, server};
use weald_quic::{ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig, TransportConfig};

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn uri(path: &str) -> http::Uri {
    format!("https://{SERVER_NAME}{path}").parse().unwrap()
}

/// A server's endpoint at 10.0.0.1.
pub fn server_endpoint(transport: TransportConfig) -> Endpoint {
    let (chain, key) = server_credentials();
    let tls = weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(chain, key).simulation(1).build().unwrap();
    Endpoint::server(ServerConfig::new(tls).transport(transport), address("10.0.0.1:443")).unwrap()
}

/// A client's host with a connection to the server.
pub struct Peer {
    /// Held, since a connection needs its endpoint.
    _endpoint: Endpoint,
    pub connection: Connection,
}

pub fn connect() -> Peer {
    let tls = weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(roots()).simulation(2).build().unwrap();
    let endpoint = Endpoint::client(address("10.0.0.2:0")).unwrap();
    let connection = endpoint.connect_with(ClientConfig::new(tls), address("10.0.0.1:443"), SERVER_NAME).unwrap();
    Peer { _endpoint: endpoint, connection }
}

/// Serves with `handler`, on a coroutine, what comes to a new server.
pub fn serve<H>(config: Config, handler: H) -> Endpoint
where
    H: Fn(Request<RecvBody>, Responder) -> Result<(), Error> + Send + Sync + 'static,
{
    let endpoint = server_endpoint(TransportConfig::default());
    let accepting = endpoint.clone();
    drop(weald_runtime::spawn(move || server::serve(&accepting, config, handler)));
    endpoint
}

/// Sends the request's body back.
pub fn echo(mut request: Request<RecvBody>, responder: Responder) -> Result<(), Error> {
    let mut body = responder.send(Response::new(()))?;
    while let Some(chunk) = request.body_mut().read_chunk(usize::MAX)? {
        body.write_all(&chunk)?;
    }
    body.finish()
}

/// Whether a connection of its own gets an answer.
pub fn works() -> bool {
    let peer = connect();
    let client = Client::new(peer.connection.clone(), Config::default()).unwrap();
    let request = Request::post(uri("/")).body(bytes::Bytes::from_static(b"still here")).unwrap();
    let answer = client.request(request).unwrap().body_mut().read_to_end(100).unwrap();
    answer == b"still here"
}

/// The code with which the peer's application closed the connection.
pub fn close_code(connection: &Connection) -> u64 {
    match connection.closed() {
        ConnectionError::ApplicationClosed(close) => close.code.as_u64(),
        other => panic!("the connection ended otherwise: {other}"),
    }
}

pub fn varint(value: u64) -> Vec<u8> {
    match value {
        0..=0x3f => vec![value as u8],
        0x40..=0x3fff => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        0x4000..=0x3fff_ffff => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
        _ => (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

pub fn frame(frame_type: u64, payload: &[u8]) -> Vec<u8> {
    [varint(frame_type), varint(payload.len() as u64), payload.to_vec()].concat()
}

pub const DATA: u64 = 0x00;
pub const HEADERS: u64 = 0x01;
pub const CANCEL_PUSH: u64 = 0x03;
pub const SETTINGS: u64 = 0x04;
pub const PUSH_PROMISE: u64 = 0x05;
pub const GOAWAY: u64 = 0x07;
pub const MAX_PUSH_ID: u64 = 0x0d;
/// A reserved type (RFC 9114 section 7.2.8).
pub const GREASE: u64 = 0x1f * 7 + 0x21;

/// The section of `GET https://host/`, out of the static table.
pub const GET: &[u8] = b"\0\0\xd1\xd7\xc1\x50\x04host";
/// The section of `:status: 200`.
pub const OK: &[u8] = b"\0\0\xd9";

/// A section and one more field, of a name of less than 7 bytes.
pub fn with_field(section: &[u8], name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 7 && value.len() < 127);
    [section, &[0x20 | name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// A section and its Content-Length.
pub fn with_length(section: &[u8], length: &str) -> Vec<u8> {
    [section, &[0x54, length.len() as u8], length.as_bytes()].concat()
}

/// A control stream's first bytes.
pub fn control() -> Vec<u8> {
    [varint(0), frame(SETTINGS, &[])].concat()
}
