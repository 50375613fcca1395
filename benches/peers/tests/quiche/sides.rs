//! What both ends share, and Weald's part.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    time::Duration,
};

use weald_crypto::{Certificates, ClientConfigBuilder, NamedGroup, PrivateKey, ServerConfigBuilder};
use weald_quic::{ClientConfig, ConnectError, Connection, EarlyData, Endpoint, ServerConfig, Version};

use crate::quiche_side::{self, Options};

/// What both ends offer.
pub(crate) const ALPN: &[u8] = b"weald-interop";
/// The name in the certificate.
pub(crate) const NAME: &str = "localhost";
/// Far more than a test needs on a busy machine: one that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// A server's certificate, which clients trust, and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn chain(&self) -> Certificates {
        Certificates::from_pem(self.certificate.as_bytes()).unwrap()
    }

    pub(crate) fn weald_server(&self) -> ServerConfigBuilder {
        let key = PrivateKey::from_pem(self.key.as_bytes()).unwrap();
        weald_crypto::ServerConfig::builder().alpn([ALPN]).certificate(self.chain(), key)
    }

    pub(crate) fn weald_client(&self) -> ClientConfigBuilder {
        weald_crypto::ClientConfig::builder().alpn([ALPN]).roots(self.chain())
    }
}

/// Requests that no two of are alike.
pub(crate) fn requests(count: u8, len: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let mut bytes = vec![0; len];
            fastrand::Rng::with_seed(number.into()).fill(&mut bytes);
            bytes
        })
        .collect()
}

/// What Weald saw of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) version: Version,
    pub(crate) group: NamedGroup,
    pub(crate) resumed: bool,
    pub(crate) early_data: EarlyData,
    /// Stream data came before the handshake.
    pub(crate) any_early: bool,
    pub(crate) retried: bool,
    /// What came on the streams, in their order.
    pub(crate) came: Vec<Vec<u8>>,
}

impl Report {
    fn new(connection: &Connection, any_early: bool, came: Vec<Vec<u8>>) -> Self {
        let info = connection.handshake();
        Self {
            version: info.version,
            group: info.group,
            resumed: info.resumed,
            early_data: connection.early_data(),
            any_early,
            retried: connection.stats().retried,
            came,
        }
    }
}

/// Serves the next connection until it ends: sends back what comes on each stream.
pub(crate) fn serve(endpoint: &Endpoint) -> Report {
    let connection = endpoint.accept().unwrap();
    let (mut came, mut any_early) = (Vec::new(), false);
    while let Ok((mut send, mut receive)) = connection.accept_bi() {
        any_early |= receive.is_0rtt();
        let request = receive.read_to_end(usize::MAX).unwrap();
        send.write_all(&request).unwrap();
        send.finish().unwrap();
        came.push(request);
    }
    Report::new(&connection, any_early, came)
}

/// Makes a connection, with early data if there is a session that allows it and `early` says so; sends the requests, each on a stream of
/// its own; closes when all answers are there.
pub(crate) fn fetch(
    endpoint: &Endpoint,
    config: &ClientConfig,
    server: SocketAddr,
    early: bool,
    requests: &[Vec<u8>],
) -> Result<Report, ConnectError> {
    fetch_and(endpoint, config, server, early, requests, || {})
}

/// The same, and `before_close` returns before the connection is closed.
pub(crate) fn fetch_and(
    endpoint: &Endpoint,
    config: &ClientConfig,
    server: SocketAddr,
    early: bool,
    requests: &[Vec<u8>],
    before_close: impl FnOnce(),
) -> Result<Report, ConnectError> {
    let config = config.clone();
    let connection = if early { endpoint.connect_0rtt_with(config, server, NAME) } else { endpoint.connect_with(config, server, NAME) }?;
    let mut receivers = Vec::new();
    let senders: Vec<_> = requests
        .iter()
        .map(|request| {
            let (mut send, receive) = connection.open_bi().unwrap();
            receivers.push(receive);
            let request = request.clone();
            weald_runtime::spawn(move || {
                send.write_all(&request).unwrap();
                send.finish().unwrap();
            })
        })
        .collect();
    let came = receivers.iter_mut().map(|receive| receive.read_to_end(usize::MAX).unwrap()).collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    connection.wait_handshake().map_err(ConnectError::Connection)?;
    let report = Report::new(&connection, false, came);
    before_close();
    connection.close(0_u32.into(), b"");
    Ok(report)
}

pub(crate) fn server(config: ServerConfig) -> Endpoint {
    Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

pub(crate) fn client() -> Endpoint {
    Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

/// One connection of quiche's to a Weald server, over which the requests go and come back: what both ends saw.
pub(crate) fn quiche_fetches(
    identity: &Identity,
    config: ServerConfig,
    options: &Options,
    requests: Vec<Vec<u8>>,
) -> (Report, quiche_side::Report) {
    let mut client = quiche_side::Client::new(identity, options);
    let (told, address) = mpsc::channel();
    let sent = requests.clone();
    let (weald, quiche) = together(
        move || {
            let endpoint = server(config);
            told.send(endpoint.local_addr().unwrap()).unwrap();
            let report = serve(&endpoint);
            endpoint.wait_idle();
            report
        },
        move || client.fetch(address.recv().unwrap(), None, &requests).unwrap().0,
    );
    assert!(weald.came == sent && quiche.came == sent, "what came is not what was sent");
    (weald, quiche)
}

/// The same with the roles exchanged.
pub(crate) fn weald_fetches(
    identity: &Identity,
    config: ClientConfig,
    options: &Options,
    requests: Vec<Vec<u8>>,
) -> (Report, quiche_side::Report) {
    let mut server = quiche_side::Server::new(identity, options);
    let address = server.address();
    let sent = requests.clone();
    let (weald, quiche) = together(
        move || {
            let endpoint = client();
            let report = fetch(&endpoint, &config, address, false, &requests).unwrap();
            endpoint.wait_idle();
            report
        },
        move || server.serve(),
    );
    assert!(weald.came == sent && quiche.came == sent, "what came is not what was sent");
    (weald, quiche)
}

/// Runs Weald's part, in a runtime, and quiche's part beside it, each to its end.
pub(crate) fn together<W: Send + 'static, Q: Send + 'static>(
    weald: impl FnOnce() -> W + Send + 'static,
    quiche: impl FnOnce() -> Q + Send + 'static,
) -> (W, Q) {
    let weald = in_thread("weald", move || weald_runtime::run(weald));
    let quiche = in_thread("quiche", quiche);
    // A part that panics says so on standard error, and leaves its channel.
    let quiche = quiche.recv_timeout(LONGEST).unwrap_or_else(|error| panic!("quiche's part: {error}"));
    (weald.recv_timeout(LONGEST).unwrap_or_else(|error| panic!("weald's part: {error}")), quiche)
}

fn in_thread<T: Send + 'static>(name: &str, part: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (done, result) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    // Left alone if the other part fails: the process ends with its tests.
    drop(thread.spawn(move || done.send(part())).unwrap());
    result
}
