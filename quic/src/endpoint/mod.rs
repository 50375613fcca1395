//! One worker's endpoint: says for each datagram which connection it is for, answers those that are for none, and makes
//! connections. It does no I/O and holds no connections; the caller keeps them in a table by [`ConnectionHandle::slot`].
//!
//! Owns the slots (`slots`), the routes that ids do not give (`route`), stateless resets (`reset`), version negotiation
//! (`version`), what a first packet must be like (`accept`), who of those that send one gets in (`admit`), the packets that
//! turn others away (`retry`), and what proves an address (`token`). Does not own what an id says: that is `crate::handle`'s.
//!
//! Invariants: every table is bounded, by the live connections or by the limit on pending handshakes; an answer is smaller
//! than what it answers; a datagram is forwarded to the worker that its id names, and to no other.

mod accept;
mod admit;
pub(crate) mod reset;
mod retry;
pub(crate) mod route;
mod slots;
pub(crate) mod token;
mod version;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::accept::{AcceptError, ConnectError, Incoming};
pub use self::admit::Admission;
pub use self::token::WallTime;

pub(crate) use self::accept::Validation;

use self::reset::PeerTokens;
use self::route::{Initials, KeyedHash};
use self::slots::{Occupant, Slots};
use self::token::{Tokens, WallClock};
use crate::chunk::Pool;
use crate::config::{ClientConfig, MIN_UDP_PAYLOAD, ServerConfig};
use crate::connection::{Connection, DatagramMeta, Lent, Scratch};
use crate::handle::{ConnectionHandle, EndpointKeys, ID_LEN, Opened};
use crate::id::{ConnectionId, ResetToken};
use crate::random::{Noise, Secrets};
use crate::refusal::Refusal;
use crate::stats::EndpointStats;
use crate::time::Instant;
use crate::wire::PacketType;
use crate::wire::header::{Packet, Packets};

/// Answers to strangers in a row, and how long it takes until one more is allowed: resets and version negotiation must
/// not become anyone's work load.
const MAX_ANSWERS: u32 = 1000;
const ANSWER_INTERVAL: Duration = Duration::from_micros(100);

/// Where a datagram belongs.
#[derive(Debug)]
pub enum Routed {
    /// To this live connection: [`Connection::receive`].
    Existing(ConnectionHandle),
    /// To nobody yet: [`Endpoint::accept`] it with the same datagram, or drop it.
    Incoming(Incoming),
    /// To the endpoint of another worker, which is to `receive` it.
    Forward {
        /// The worker.
        worker: u8,
    },
    /// It is to be answered with these bytes, from where it arrived to where it came from.
    Answer(Vec<u8>),
    /// To nobody.
    Dropped,
}

/// What a connection has to tell its endpoint.
#[derive(Debug)]
pub struct EndpointEvent(EventKind);

#[derive(Debug)]
enum EventKind {
    /// The peer uses our id by now: the id that it made up is no route any more.
    Confirmed { remote: SocketAddr, original: ConnectionId },
    /// The token by which the peer resets the connection has changed.
    Token { remote: SocketAddr, old: Option<ResetToken>, new: Option<ResetToken> },
    /// The connection is over: its slot is free.
    Drained,
}

impl EndpointEvent {
    pub(crate) fn confirmed(remote: SocketAddr, original: ConnectionId) -> Self {
        Self(EventKind::Confirmed { remote, original })
    }

    pub(crate) fn token(remote: SocketAddr, old: Option<ResetToken>, new: Option<ResetToken>) -> Self {
        Self(EventKind::Token { remote, old, new })
    }

    pub(crate) fn drained() -> Self {
        Self(EventKind::Drained)
    }
}

/// The endpoint of one worker.
pub struct Endpoint {
    keys: EndpointKeys,
    worker: u8,
    workers: u16,
    server: Option<Arc<ServerConfig>>,
    slots: Slots,
    initials: Initials,
    peer_tokens: PeerTokens,
    tokens: Tokens,
    clock: WallClock,
    answers: AnswerBudget,
    pool: Pool,
    scratch: Scratch,
    noise: Noise,
    unpredictable: u64,
    stats: EndpointStats,
}

impl Endpoint {
    /// The endpoint of `worker`, one of `workers` (at most 256) that share `keys`. It accepts connections if `server` is
    /// there. `seed` decides everything that must vary but need not be secret.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn new(keys: EndpointKeys, worker: u8, workers: u16, server: Option<Arc<ServerConfig>>, seed: u64) -> Self {
        assert!(u16::from(worker) < workers && workers <= 256, "worker {worker} of {workers}");
        let hash = |counter| KeyedHash::new(keys.unpredictable(worker, counter));
        Self {
            initials: Initials::new(hash(0)),
            peer_tokens: PeerTokens::new(hash(1)),
            tokens: keys.tokens(),
            clock: WallClock::new(Instant::from_nanos(0), WallTime::from_unix(0)),
            keys,
            worker,
            workers,
            server,
            slots: Slots::new(),
            answers: AnswerBudget::default(),
            pool: Pool::new(),
            scratch: Scratch::default(),
            noise: Noise::new(seed),
            unpredictable: 2,
            stats: EndpointStats::default(),
        }
    }

    /// Accepts connections with another configuration from now on, or none.
    pub fn set_server(&mut self, server: Option<Arc<ServerConfig>>) {
        self.server = server;
    }

    /// Says what time of day it is at `now`, once: tokens of address validation are good for a time, also for an endpoint that
    /// is made after this one's end. Without it they are good for this endpoint alone.
    pub fn set_wall_clock(&mut self, now: Instant, time: WallTime) {
        self.clock = WallClock::new(now, time);
    }

    /// Says where a datagram belongs. Looks at its first packet alone.
    pub fn receive(&mut self, now: Instant, datagram: &[u8], meta: DatagramMeta) -> Routed {
        let routed = self.route(now, datagram, meta);
        match routed {
            Routed::Dropped => self.stats.dropped += 1,
            Routed::Forward { .. } => self.stats.forwarded += 1,
            Routed::Existing(_) | Routed::Incoming(_) | Routed::Answer(_) => {}
        }
        routed
    }

    fn route(&mut self, now: Instant, datagram: &[u8], meta: DatagramMeta) -> Routed {
        let Some(Ok(packet)) = Packets::new(datagram, ID_LEN).next() else {
            // RFC 9000 10.3: a reset may look like anything that has a short header.
            return self.find_reset(datagram, meta).map_or(Routed::Dropped, Routed::Existing);
        };
        match packet {
            Packet::Protected(packet) if packet.packet_type == PacketType::OneRtt => {
                if let Some(routed) = self.route_by_id(&packet.dcid) {
                    return routed;
                }
                if let Some(handle) = self.find_reset(datagram, meta) {
                    return Routed::Existing(handle);
                }
                self.reset(now, &packet.dcid, datagram.len())
            }
            Packet::Protected(packet) => {
                if let Some(handle) = self.initials.find(meta.remote, packet.dcid) {
                    return Routed::Existing(handle);
                }
                if let Some(routed) = self.route_by_id(&packet.dcid) {
                    return routed;
                }
                let (Some(version), Some(server)) = (packet.version.filter(|_| packet.packet_type == PacketType::Initial), &self.server)
                else {
                    return Routed::Dropped;
                };
                if !server.versions.contains(&version) {
                    return self.negotiate_version(now, &packet.dcid, &packet.scid, datagram.len());
                }
                Incoming::new(meta.remote, version, packet.dcid, packet.scid, datagram.len())
                    .map_or(Routed::Dropped, |incoming| self.validate(now, incoming, packet.token))
            }
            Packet::Retry(packet) => self.route_by_id(&packet.dcid).unwrap_or(Routed::Dropped),
            Packet::VersionNegotiation(packet) => self.route_by_id(packet.dcid).unwrap_or(Routed::Dropped),
            Packet::Unsupported(packet) => self.negotiate_version(now, packet.dcid, packet.scid, datagram.len()),
        }
    }

    /// Begins a connection to a server. The handle is its place in the caller's table.
    ///
    /// # Errors
    /// [`ConnectError`] says what is wrong with the name, the address or the configuration.
    pub fn connect(
        &mut self,
        now: Instant,
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<(ConnectionHandle, Connection), ConnectError> {
        self.begin(now, config, remote, server_name, false)
    }

    /// The same, with early data if an earlier connection allows it: [`Event::EarlyData`] then says so.
    ///
    /// # Errors
    /// As [`Endpoint::connect`].
    ///
    /// [`Event::EarlyData`]: crate::protocol::Event::EarlyData
    pub fn connect_0rtt(
        &mut self,
        now: Instant,
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<(ConnectionHandle, Connection), ConnectError> {
        self.begin(now, config, remote, server_name, true)
    }

    fn begin(
        &mut self,
        now: Instant,
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
        wants_early_data: bool,
    ) -> Result<(ConnectionHandle, Connection), ConnectError> {
        if remote.port() == 0 || remote.ip().is_unspecified() {
            return Err(ConnectError::Remote(remote));
        }
        let handle = self.slots.take(Occupant::Connected).ok_or(ConnectError::Full)?;
        // RFC 9000 7.2: unpredictable, and at least eight bytes.
        let noise = self.unpredictable();
        let original = ConnectionId::new(&noise).unwrap_or(ConnectionId::EMPTY);
        let lent = self.lend(handle);
        match Connection::client(now, config, remote, (server_name, wants_early_data), original, lent) {
            Ok(connection) => {
                self.stats.connected += 1;
                Ok((handle, connection))
            }
            Err(error) => {
                self.free(handle);
                Err(error)
            }
        }
    }

    /// Takes in what a connection gave by [`Connection::poll_endpoint_event`]. Says whether the connection is over, so that
    /// the caller can drop it: its handle is then free.
    pub fn on_event(&mut self, handle: ConnectionHandle, event: EndpointEvent) -> bool {
        match event.0 {
            EventKind::Confirmed { remote, original } => self.initials.remove(remote, original),
            EventKind::Token { remote, old, new } => {
                if let Some(old) = old {
                    self.peer_tokens.remove(remote, old, handle);
                }
                if let Some(new) = new {
                    self.peer_tokens.insert(remote, new, handle);
                }
            }
            EventKind::Drained => {
                self.free(handle);
                return true;
            }
        }
        false
    }

    /// The buffers that this endpoint's connections share.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How many connections live.
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// How many of them are servers' whose handshake is not confirmed.
    pub fn pending_handshakes(&self) -> usize {
        self.initials.len()
    }

    /// The driver has treated a datagram of a connection as lost, for want of memory.
    #[cfg(feature = "driver")]
    pub(crate) fn count_shed(&mut self) {
        self.stats.shed += 1;
    }

    /// The driver had too many steps of TLS waiting to let a client in.
    #[cfg(feature = "driver")]
    pub(crate) fn count_overload(&mut self) {
        self.stats.overloaded += 1;
    }

    /// A client was not accepted.
    pub(crate) fn count_refusal(&mut self, reason: Refusal) {
        self.stats.refused.count(reason);
    }

    /// What the endpoint did so far.
    pub fn stats(&self) -> EndpointStats {
        self.stats
    }

    fn free(&mut self, handle: ConnectionHandle) {
        if self.slots.free(handle) == Occupant::Accepted {
            self.keys.leave();
        }
    }

    fn route_by_id(&self, id: &[u8]) -> Option<Routed> {
        let Opened { worker, handle, .. } = self.keys.open(id)?;
        if worker != self.worker {
            return (u16::from(worker) < self.workers).then_some(Routed::Forward { worker });
        }
        self.slots.is_live(handle).then_some(Routed::Existing(handle))
    }

    fn find_reset(&self, datagram: &[u8], meta: DatagramMeta) -> Option<ConnectionHandle> {
        self.peer_tokens.find(meta.remote, datagram).filter(|handle| self.slots.is_live(*handle))
    }

    /// RFC 9000 6.1, 5.2.2: only full datagrams are answered, so that the answer is smaller.
    fn negotiate_version(&mut self, now: Instant, destination: &[u8], source: &[u8], received: usize) -> Routed {
        let Some(server) = self.server.as_ref().filter(|_| received >= MIN_UDP_PAYLOAD.into()) else { return Routed::Dropped };
        if !self.answers.take(now) {
            return Routed::Dropped;
        }
        self.stats.version_negotiations += 1;
        Routed::Answer(version::negotiation(destination, source, &server.versions, self.noise.u64() as u32))
    }

    /// RFC 9000 10.3
    fn reset(&mut self, now: Instant, id: &[u8], received: usize) -> Routed {
        // The token costs a hash, which a flood gets no more of than of answers.
        if received <= reset::MIN_RESET || !self.answers.take(now) {
            return Routed::Dropped;
        }
        let mut filler = [0; 32];
        self.noise.fill(&mut filler);
        let token = self.keys.reset_token(id);
        match reset::reset(&token, received, &filler) {
            Some(packet) => {
                self.stats.resets += 1;
                Routed::Answer(packet)
            }
            None => Routed::Dropped,
        }
    }

    fn lend(&mut self, handle: ConnectionHandle) -> Lent {
        Lent {
            issuer: self.keys.issuer(self.worker, handle),
            pool: self.pool.clone(),
            noise: Noise::new(self.noise.u64()),
            secrets: Secrets::new(self.unpredictable()),
        }
    }

    fn unpredictable(&mut self) -> [u8; 16] {
        self.unpredictable += 1;
        self.keys.unpredictable(self.worker, self.unpredictable)
    }
}

/// A token bucket over all answers to strangers.
#[derive(Default)]
struct AnswerBudget {
    spent: u32,
    since: Option<Instant>,
}

impl AnswerBudget {
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let earned = (now - since).as_nanos() / ANSWER_INTERVAL.as_nanos();
        if earned > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(earned).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        let allowed = self.spent < MAX_ANSWERS;
        self.spent += u32::from(allowed);
        allowed
    }
}
