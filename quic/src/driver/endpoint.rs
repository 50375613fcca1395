//! The application's handle of an endpoint, and how an endpoint comes up.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weald_crypto::{CryptoPool, Tickets};
use weald_runtime::channel::{RecvError, oneshot};
use weald_runtime::net::{UdpSocket, UdpSocketOptions};
use weald_runtime::{Handle, Hook, HookHandle, Progress, RoundContext, embedding};

use super::connection::Connection;
use super::endpoint_shared::EndpointShared;
use super::error::ConnectError;
use super::incoming::Incoming;
use super::link::{Command, Connect, Link};
use super::metrics::EndpointMetrics;
use super::worker::WorkerEndpoint;
use super::{host, lock, steering};
use crate::config::{ClientConfig, EndpointConfig, ServerConfig};
use crate::endpoint;
use crate::governor::Governor;
use crate::handle::EndpointKeys;
use crate::stats::EndpointStats;
use crate::wire::VarInt;

/// Most workers that an endpoint uses: the steering octet tells no more apart.
const MAX_WORKERS: usize = 256;

/// Bytes of datagrams that the kernel is asked to keep until a worker takes them, each way: what 10 Gbit/s bring in 3 ms.
const SOCKET_BUFFER: usize = 4 << 20;

/// A UDP address to accept connections at, or to connect from.
///
/// Cheap to clone, and usable from any coroutine or thread once it is made. When the last handle is dropped, nothing is
/// accepted any more; connections go on, and the sockets are closed after the last of them.
pub struct Endpoint {
    shared: Arc<EndpointShared>,
    address: SocketAddr,
}

impl Endpoint {
    /// Accepts connections at `address`, on all workers of the caller's runtime: each has a socket of its own there, and
    /// serves the connections that come in on it. Port 0 lets the system choose.
    ///
    /// # Errors
    /// The address is in use or none of this host's, and the error names it; or the caller is outside of a runtime.
    pub fn server(config: ServerConfig, address: SocketAddr) -> io::Result<Self> {
        Self::server_with(&EndpointConfig::new(), config, address)
    }

    /// The same for an endpoint that shares something with others, or with itself before it was restarted.
    ///
    /// # Errors
    /// As [`Endpoint::server`].
    pub fn server_with(endpoint: &EndpointConfig, config: ServerConfig, address: SocketAddr) -> io::Result<Self> {
        let runtime = current_runtime()?;
        let workers = (0..runtime.workers().min(MAX_WORKERS)).collect();
        Self::open(runtime, endpoint, Some(config), address, workers)
    }

    /// An endpoint to connect from. It has one socket, on the caller's worker; the unspecified address and port 0 let the
    /// system choose.
    ///
    /// # Errors
    /// As [`Endpoint::server`].
    pub fn client(address: SocketAddr) -> io::Result<Self> {
        Self::client_with(&EndpointConfig::new(), address)
    }

    /// The same for an endpoint that shares something with others, or with itself before it was restarted.
    ///
    /// # Errors
    /// As [`Endpoint::server`].
    pub fn client_with(endpoint: &EndpointConfig, address: SocketAddr) -> io::Result<Self> {
        let runtime = current_runtime()?;
        let worker = weald_runtime::worker_index().unwrap_or(0);
        Self::open(runtime, endpoint, None, address, vec![worker])
    }

    /// What [`Endpoint::connect`] uses from now on.
    pub fn set_default_client_config(&self, config: ClientConfig) {
        let former = lock(&self.shared.client_config).replace(config);
        drop(former);
    }

    /// Waits for the next connection whose handshake is complete, or whose early data was accepted, if the
    /// [TLS configuration](weald_crypto::ServerConfigBuilder::early_data) lets clients send some: see
    /// [`Connection::early_data`]. `None` once the endpoint is closed, or if the caller is cancelled.
    #[track_caller]
    pub fn accept(&self) -> Option<Connection> {
        self.shared.accept()
    }

    /// Waits for the next client, of a server that [screens](ServerConfig::screening) them. `None` once the endpoint is closed,
    /// or if the caller is cancelled.
    #[track_caller]
    pub fn accept_incoming(&self) -> Option<Incoming> {
        self.shared.accept_incoming()
    }

    /// Connects to a server with the default configuration; see [`Endpoint::connect_with`].
    ///
    /// # Errors
    /// [`ConnectError`]
    #[track_caller]
    pub fn connect(&self, address: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let config = lock(&self.shared.client_config).clone();
        self.connect_with(config.ok_or(ConnectError::NoDefaultClientConfig)?, address, server_name)
    }

    /// Connects to a server, and waits until the handshake is complete. `server_name` is what its certificate must be for: a
    /// DNS name, or an IP address in text.
    ///
    /// # Errors
    /// [`ConnectError`]
    #[track_caller]
    pub fn connect_with(&self, config: ClientConfig, address: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let connection = self.begin(config, address, server_name, false)?;
        connection.wait_connected()?;
        Ok(connection)
    }

    /// Connects to a server with the default configuration, and with early data if that is possible; see
    /// [`Endpoint::connect_0rtt_with`].
    ///
    /// # Errors
    /// [`ConnectError`]
    #[track_caller]
    pub fn connect_0rtt(&self, address: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let config = lock(&self.shared.client_config).clone();
        self.connect_0rtt_with(config.ok_or(ConnectError::NoDefaultClientConfig)?, address, server_name)
    }

    /// Connects to a server, and does not wait for its answer if an earlier connection of `config` brought a ticket that allows
    /// early data (0-RTT): what is written then leaves with the first packets. Else it is as [`Endpoint::connect_with`];
    /// [`Connection::early_data`] says which. Streams are opened, and limited, as the server allowed on the earlier connection.
    ///
    /// **Whoever sees early data can send it once more**, to a server that does not know it (RFC 9001 9.2): write nothing early
    /// that must not happen twice, or call [`Connection::wait_handshake`] before. If the server rejects early data, all that was
    /// written is sent again once the handshake is complete; that the application protocol has become another one ends the
    /// connection.
    ///
    /// # Errors
    /// [`ConnectError`]
    #[track_caller]
    pub fn connect_0rtt_with(&self, config: ClientConfig, address: SocketAddr, server_name: &str) -> Result<Connection, ConnectError> {
        let connection = self.begin(config, address, server_name, true)?;
        connection.wait_usable()?;
        Ok(connection)
    }

    /// The address that the endpoint is bound to.
    ///
    /// # Errors
    /// None at present: the address was learnt when the sockets were bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Closes all connections with `code` and `reason`, and accepts no more. Does not wait; [`Endpoint::wait_idle`] does.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.shared.close(code.into(), reason);
    }

    /// Waits until all connections are over, their closing periods included (three probe timeouts: RFC 9000 10.2), so that
    /// peers had the chance to learn of it. Returns as well if the caller is cancelled.
    #[track_caller]
    pub fn wait_idle(&self) {
        self.shared.wait_idle();
    }

    /// What all workers' parts of the endpoint did so far.
    pub fn stats(&self) -> EndpointStats {
        self.shared.links.iter().fold(EndpointStats::default(), |sum, link| sum + link.stats())
    }

    /// What the endpoint did so far, and what it holds: its counts, and those of what it may share with others.
    pub fn metrics(&self) -> EndpointMetrics {
        let governor = &self.shared.governor;
        EndpointMetrics {
            stats: self.stats(),
            open_connections: self.open_connections(),
            memory_held: governor.held(),
            memory_limit: governor.limit(),
            crypto_pool: self.crypto_pool().map(CryptoPool::stats),
            tickets: self.shared.tickets.as_ref().map(Tickets::stats),
        }
    }

    /// The budget of memory that the endpoint's connections share.
    pub fn governor(&self) -> &Governor {
        &self.shared.governor
    }

    /// The threads that run its handshakes' steps. `None` in a simulation.
    pub fn crypto_pool(&self) -> Option<&CryptoPool> {
        self.shared.crypto_pool.as_ref()
    }

    /// How many connections there are, those included that are about to close.
    pub fn open_connections(&self) -> usize {
        self.shared.open_connections()
    }

    #[track_caller]
    fn begin(&self, config: ClientConfig, address: SocketAddr, server_name: &str, early_data: bool) -> Result<Connection, ConnectError> {
        if self.shared.is_closed() {
            return Err(ConnectError::EndpointStopping);
        }
        let remote = as_received(address);
        if remote.is_ipv6() && self.address.is_ipv4() {
            return Err(ConnectError::InvalidRemoteAddress(address));
        }
        let (reply, answer) = oneshot::channel();
        let connect = Connect { config, remote, server_name: server_name.to_owned(), early_data, reply };
        if !self.link().command(Command::Connect(Box::new(connect))) {
            return Err(ConnectError::EndpointStopping);
        }
        answer.recv().map_err(|error| match error {
            RecvError::Disconnected => ConnectError::EndpointStopping,
            RecvError::Cancelled => ConnectError::Cancelled,
        })?
    }

    fn open(
        runtime: Handle,
        endpoint: &EndpointConfig,
        config: Option<ServerConfig>,
        address: SocketAddr,
        workers: Vec<usize>,
    ) -> io::Result<Self> {
        let keys = keys(endpoint)?;
        let several = workers.len() > 1;
        if several && address.port() != 0 {
            // Sockets that share a port bind beside those of any other process of the user that share it, too. Ours must be
            // alone, so the port is taken for a moment without sharing.
            drop(UdpSocket::bind(address)?);
        }
        let links = workers.iter().map(|worker| Arc::new(Link::new(runtime.clone(), *worker))).collect();
        let governor = endpoint.governor.clone().unwrap_or_else(host::governor);
        let pool = host::crypto_pool(endpoint.crypto_pool.as_ref());
        let mut endpoint = Self { shared: Arc::new(EndpointShared::new(runtime, links, pool, governor, config.as_ref())), address };
        let config = config.map(|mut config| {
            config.limits = config.limits.on_host(host::memory(), workers.len());
            Arc::new(config)
        });
        // One after the other, because steering goes by the order of binding.
        for index in 0..workers.len() {
            let part = Part {
                index,
                keys: keys.clone(),
                config: config.clone(),
                options: options().reuse_port(several),
                shared: Arc::clone(&endpoint.shared),
                steers: several && index + 1 == workers.len(),
            };
            endpoint.address = part.install(endpoint.address)?;
        }
        Ok(endpoint)
    }

    /// The part that makes the caller's connections: that of the caller's own worker, if it is one of the endpoint's.
    fn link(&self) -> &Arc<Link> {
        let links = &self.shared.links;
        let own = weald_runtime::worker_index().and_then(|worker| links.iter().find(|link| link.worker == worker));
        own.unwrap_or(&links[0])
    }
}

fn current_runtime() -> io::Result<Handle> {
    let outside = || io::Error::new(io::ErrorKind::Unsupported, "no runtime here: call it inside of weald_runtime::run");
    Handle::current().ok_or_else(outside)
}

/// The keys of a new endpoint: ids of an earlier one mean nothing to it.
fn keys(config: &EndpointConfig) -> io::Result<EndpointKeys> {
    let (mut made, mut epoch) = ([0; 32], [0; 8]);
    if embedding::is_simulated() {
        // A simulation repeats, so that nothing in it is secret.
        let mut rng = fastrand::Rng::with_seed(embedding::seed().unwrap_or(0));
        rng.fill(&mut made);
        rng.fill(&mut epoch);
    } else {
        weald_crypto::random_bytes(&mut made)?;
        weald_crypto::random_bytes(&mut epoch)?;
    }
    let secret = config.secret.as_ref().unwrap_or(&made);
    Ok(EndpointKeys::with_token_secret(secret, u64::from_be_bytes(epoch), config.server_id, config.token_secret.as_ref()))
}

fn options() -> UdpSocketOptions {
    // RFC 9000 14: datagrams must not be fragmented.
    UdpSocketOptions::default().gro(true).dont_fragment(true).receive_buffer(SOCKET_BUFFER).send_buffer(SOCKET_BUFFER)
}

/// One worker's part of an endpoint that comes up.
struct Part {
    index: usize,
    keys: EndpointKeys,
    config: Option<Arc<ServerConfig>>,
    options: UdpSocketOptions,
    shared: Arc<EndpointShared>,
    /// It is the last of several: all sockets are there, to steer among.
    steers: bool,
}

impl Part {
    /// Brings it up on its worker, and returns the address that its socket is bound to.
    fn install(self, address: SocketAddr) -> io::Result<SocketAddr> {
        let shared = Arc::clone(&self.shared);
        let worker = shared.links[self.index].worker;
        let (reply, bound) = oneshot::channel();
        let hook = shared.runtime.add_hook(worker, move |handle| {
            let (hook, result): (Box<dyn Hook>, _) =
                match self.bind(address, handle).and_then(|endpoint| Ok((endpoint.socket.local_addr()?, endpoint))) {
                    Ok((address, endpoint)) => (Box::new(endpoint), Ok(address)),
                    // It goes with the endpoint, whose only handle is about to be dropped.
                    Err(error) => (Box::new(Unbound), Err(error)),
                };
            // Who asked may have been cancelled: the same.
            drop(reply.send(result));
            hook
        })?;
        shared.add_hook(hook);
        bound.recv().map_err(io::Error::other)?
    }

    fn bind(self, address: SocketAddr, handle: HookHandle) -> io::Result<WorkerEndpoint> {
        let socket = self.options.bind(address)?;
        if self.steers
            && let Err(error) = socket.attach_steering(&steering::program(self.keys.steering()))
        {
            tracing::warn!(%error, "the kernel does not steer datagrams to workers; those that land wrong are forwarded");
        }
        let link = Arc::clone(&self.shared.links[self.index]);
        link.connect(handle);
        let workers = self.shared.links.len() as u16;
        let seed = embedding::seed().unwrap_or(0);
        let mut endpoint = endpoint::Endpoint::new(self.keys, self.index as u8, workers, self.config, seed);
        let now = super::now();
        endpoint.set_wall_clock(now, host::wall_time(now));
        Ok(WorkerEndpoint::new(socket, endpoint, self.shared, link))
    }
}

/// What stands in for a part whose socket could not be bound.
struct Unbound;

impl Hook for Unbound {
    fn poll(&mut self, _: &mut RoundContext<'_>) -> Progress {
        Progress::Idle
    }

    fn flush(&mut self, _: &mut RoundContext<'_>) -> Progress {
        Progress::Idle
    }

    fn next_timeout(&self) -> Option<weald_runtime::time::Instant> {
        None
    }
}

/// An address as it stands on datagrams that come from it. A connection drops what comes from another one (RFC 9000 9).
fn as_received(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        // The system tells the interface only where the address needs one.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

impl Clone for Endpoint {
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self { shared: Arc::clone(&self.shared), address: self.address }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.drop_handle();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}
