//! quinn-proto's ends of a transfer: its protocol without I/O, driven by a coroutine on a socket of the simulation.
//!
//! Owns the socket, the clock that quinn-proto is shown, and the application. Invariant: it sees virtual time only; sizes and
//! times follow from the seed, for the certificate is Ed25519 and the only group X25519.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::congestion::{ControllerFactory, CubicConfig, NewRenoConfig};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, EndpointConfig, Event,
    IdleTimeout, ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use weald_crypto::simulation;
use weald_quic::Algorithm;
use weald_runtime::net::{Ecn, RecvBatch, SendBatch, Transmit, UdpSocket};
use weald_runtime::time::Instant;
use weald_runtime::{JoinHandle, on_worker_stack, spawn};

use super::{Role, STREAMS, Stack, Tuning};
use crate::world::{ALPN, client_address, server_address};

/// quinn-proto.
pub struct Quinn;

impl Stack for Quinn {
    fn name(&self) -> &'static str {
        "quinn"
    }

    fn serve(&self, seed: u64, tuning: &Tuning, role: Role) -> JoinHandle<u64> {
        let mut end = End::new(seed, Some(server_config(tuning)), server_address(), role);
        spawn(move || end.run())
    }

    fn connect(&self, seed: u64, tuning: &Tuning, role: Role) -> u64 {
        let mut end = End::new(seed + 1, None, client_address(1), role);
        let now = end.clock.now();
        let config = client_config(tuning);
        let connected = on_worker_stack(|| end.endpoint.connect(now, config, server_address(), simulation::SERVER_NAME));
        end.connection = Some(connected.expect("a valid configuration"));
        end.run()
    }
}

/// One end of a connection.
struct End {
    socket: UdpSocket,
    clock: Clock,
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    role: Role,
    streams: Vec<StreamId>,
    /// When the receiver closes.
    until: Option<Instant>,
    read: u64,
    out: SendBatch,
    is_over: bool,
}

/// quinn-proto wants the system's instants: virtual time is added to one of them.
struct Clock {
    system: std::time::Instant,
    start: Instant,
}

impl Clock {
    fn new() -> Clock {
        #[expect(clippy::disallowed_methods, reason = "only differences to it are ever looked at")]
        let system = std::time::Instant::now();
        Clock { system, start: Instant::now() }
    }

    fn now(&self) -> std::time::Instant {
        self.system + self.start.elapsed()
    }

    fn to_virtual(&self, at: std::time::Instant) -> Instant {
        self.start + at.saturating_duration_since(self.system)
    }
}

impl End {
    fn new(seed: u64, server: Option<ServerConfig>, address: SocketAddr, role: Role) -> End {
        let mut config = EndpointConfig::default();
        let mut bytes = [0; 32];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        config.rng_seed(Some(bytes));
        End {
            socket: UdpSocket::bind(address).expect("a free address"),
            clock: Clock::new(),
            endpoint: Endpoint::new(Arc::new(config), server.map(Arc::new), true, None),
            connection: None,
            role,
            streams: Vec::new(),
            until: None,
            read: 0,
            out: SendBatch::new(),
            is_over: false,
        }
    }

    /// Goes on until the connection is over. Returns the bytes that were read.
    fn run(&mut self) -> u64 {
        let mut batch = RecvBatch::with_slots(64, 2048);
        loop {
            self.transmit();
            if self.is_over {
                return self.read;
            }
            let timeout = self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout());
            let timeout = timeout.map(|at| self.clock.to_virtual(at)).into_iter().chain(self.until).min();
            let received = match timeout {
                Some(at) => self.socket.recv_batch_deadline(&mut batch, at),
                None => self.socket.recv_batch(&mut batch),
            };
            let batch = received.is_ok().then_some(&batch);
            on_worker_stack(|| self.take_in(batch));
        }
    }

    fn take_in(&mut self, batch: Option<&RecvBatch>) {
        let now = self.clock.now();
        for train in batch.into_iter().flat_map(RecvBatch::iter) {
            let ecn = train.ecn.map(|ecn| match ecn {
                Ecn::Ect0 => EcnCodepoint::Ect0,
                Ecn::Ect1 => EcnCodepoint::Ect1,
                Ecn::Ce => EcnCodepoint::Ce,
            });
            for datagram in train.segments() {
                self.on_datagram(now, train.remote, ecn, datagram);
            }
        }
        if let Some((_, connection)) = &mut self.connection
            && connection.poll_timeout().is_some_and(|at| at <= now)
        {
            connection.handle_timeout(now);
        }
        self.settle();
        self.play(now);
    }

    fn on_datagram(&mut self, now: std::time::Instant, remote: SocketAddr, ecn: Option<EcnCodepoint>, datagram: &[u8]) {
        let mut answer = Vec::new();
        match self.endpoint.handle(now, remote, None, ecn, BytesMut::from(datagram), &mut answer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) if self.connection.is_none() => {
                self.connection = Some(self.endpoint.accept(incoming, now, &mut answer, None).expect("a good first packet"));
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.endpoint.ignore(incoming),
            Some(DatagramEvent::Response(transmit)) => self.send(&transmit, &answer),
            None => {}
        }
    }

    /// Carries events between the endpoint, its connection and the application.
    fn settle(&mut self) {
        let Some((handle, connection)) = &mut self.connection else { return };
        while let Some(event) = connection.poll_endpoint_events() {
            self.is_over |= event.is_drained();
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match (event, self.role) {
                (Event::Connected, Role::Send) => {
                    self.streams.extend((0..STREAMS).map_while(|_| connection.streams().open(Dir::Uni)));
                }
                (Event::Connected, Role::Receive(span)) => self.until = Some(Instant::now() + span),
                (Event::Stream(StreamEvent::Opened { dir: Dir::Uni }), Role::Receive(_)) => {
                    self.streams.extend(std::iter::from_fn(|| connection.streams().accept(Dir::Uni)));
                }
                (Event::ConnectionLost { reason }, _) => {
                    // Anything else would be measured as a slow transfer.
                    assert!(
                        matches!(reason, ConnectionError::ApplicationClosed(_) | ConnectionError::TimedOut),
                        "quinn-proto gave up: {reason}"
                    );
                    self.is_over = true;
                }
                _ => {}
            }
        }
    }

    fn play(&mut self, now: std::time::Instant) {
        let Some((_, connection)) = &mut self.connection else { return };
        match self.role {
            // In turn, for the first one would take all the room that there is.
            Role::Send => {
                let mut blocked = 0;
                while blocked < self.streams.len() {
                    self.streams.rotate_left(1);
                    let is_written = connection.send_stream(self.streams[0]).write(&[0; 16_384]).is_ok();
                    blocked = if is_written { 0 } else { blocked + 1 };
                }
            }
            Role::Receive(_) => {
                for &stream in &self.streams {
                    let mut stream = connection.recv_stream(stream);
                    let Ok(mut chunks) = stream.read(true) else { continue };
                    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                        self.read += chunk.bytes.len() as u64;
                    }
                    let _ = chunks.finalize();
                }
            }
        }
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.until = None;
            // If the CONNECTION_CLOSE is lost, the sender's idle timeout ends it.
            connection.close(now, VarInt::from_u32(0), bytes::Bytes::new());
            self.is_over = true;
        }
    }

    fn transmit(&mut self) {
        let mut buffer = Vec::with_capacity(2048);
        let now = self.clock.now();
        while let Some((_, connection)) = &mut self.connection
            && let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer)
        {
            self.send(&transmit, &buffer);
            buffer.clear();
        }
        self.socket.send_batch(&mut self.out).expect("a simulated socket takes everything");
    }

    fn send(&mut self, transmit: &quinn_proto::Transmit, bytes: &[u8]) {
        if self.out.reserve().len() < transmit.size {
            self.socket.send_batch(&mut self.out).expect("a simulated socket takes everything");
        }
        self.out.reserve()[..transmit.size].copy_from_slice(&bytes[..transmit.size]);
        let ecn = transmit.ecn.map(|ecn| match ecn {
            EcnCodepoint::Ect0 => Ecn::Ect0,
            EcnCodepoint::Ect1 => Ecn::Ect1,
            EcnCodepoint::Ce => Ecn::Ce,
        });
        let (remote, len) = (transmit.destination, transmit.size);
        self.out.commit(Transmit { remote, local: None, ecn, len, segment_size: Some(len) });
    }
}

fn transport(tuning: &Tuning) -> Arc<TransportConfig> {
    let controller: Arc<dyn ControllerFactory + Send + Sync> = match tuning.controller {
        Algorithm::NewReno => Arc::new(NewRenoConfig::default()),
        Algorithm::Cubic => Arc::new(CubicConfig::default()),
    };
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(controller)
        .stream_receive_window(tuning.window.into())
        .receive_window(tuning.window.into())
        .send_window(tuning.window.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(Duration::from_secs(60)).expect("a short time")))
        .initial_mtu(1200)
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false);
    Arc::new(transport)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() })
}

/// The fixture that both stacks use: [`simulation::server_credentials`] as rustls takes it.
fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("../../../crypto/src/simulation/certificate.pem")).expect("the fixture is valid")
}

/// 2027-01-01, which the fixture's validity includes.
#[derive(Debug)]
struct StoppedClock;

impl TimeProvider for StoppedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_798_761_600)))
    }
}

fn server_config(tuning: &Tuning) -> ServerConfig {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../../crypto/src/simulation/key.pem")).expect("the fixture is valid");
    let builder = rustls::ServerConfig::builder_with_details(provider(), Arc::new(StoppedClock));
    let builder = builder.with_protocol_versions(&[&TLS13]).expect("the provider has TLS 1.3").with_no_client_auth();
    let mut tls = builder.with_single_cert(vec![certificate()], key).expect("the fixture is valid");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).expect("the provider has AES-128-GCM");
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(tuning));
    config
}

fn client_config(tuning: &Tuning) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate()).expect("the fixture is valid");
    let builder = rustls::ClientConfig::builder_with_details(provider(), Arc::new(StoppedClock));
    let builder = builder.with_protocol_versions(&[&TLS13]).expect("the provider has TLS 1.3").with_root_certificates(roots);
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("the provider has AES-128-GCM")));
    config.transport_config(transport(tuning));
    config
}
