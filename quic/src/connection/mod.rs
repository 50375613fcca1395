//! One connection: a value that takes datagrams, timeouts, finished crypto jobs and the application's verbs, and gives
//! datagrams, deadlines, crypto jobs and events. It has no clock, socket or thread.
//!
//! The parts own their frames and know neither each other nor this module: `handshake`, `keys`, `ids`, `spaces`, `early`,
//! `close`, `path_response`, `zero_rtt` here, and `crate::streams` and `crate::path`. What a part needs for the handshake alone it
//! drops itself when that is confirmed. Six files apply what they cause:
//!
//! - `receive`: datagram to opened packets
//! - `dispatch`: each frame of a packet to the part that owns it
//! - `acknowledge`: tokens of acknowledged and lost packets back to the parts
//! - `transmit`: the ordered list of parts that fill a datagram
//! - `negotiation`: the version, from what both ends say of theirs
//! - `lifecycle`: handshake progress, timers, the end
//!
//! The methods are of four kinds. *Inputs* (`receive`, `on_timeout`, `on_crypto_done`, `on_panic`) change the state, *outputs*
//! (`transmit`, `next_timeout`, `poll_event`, `poll_crypto_job`, `poll_endpoint_event`) are asked after every input and verb
//! until they give `None`, *verbs* are the application's, *getters* only look.

mod acknowledge;
mod close;
mod crypto_stream;
mod datagrams;
mod dispatch;
mod early;
mod handshake;
mod ids;
mod keys;
mod lifecycle;
mod memory;
mod negotiation;
mod packet_writer;
mod parameters;
mod path_response;
mod receive;
mod scratch;
mod space;
mod spaces;
mod spin;
mod timers;
mod token_store;
mod transmit;
mod undecryptable;
mod verbs;
mod zero_rtt;

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weald_crypto::{Level, Outcome, Session};

pub use self::datagrams::{DatagramEvent, SendDatagramError, WhenFull};
pub use self::handshake::{CryptoDone, CryptoJob};
pub use self::scratch::Scratch;
pub use self::token_store::{MemoryTokenStore, TokenStore};
pub use self::zero_rtt::EarlyData;

use self::close::Close;
use self::datagrams::Datagrams;
use self::early::Early;
use self::handshake::Handshake;
use self::ids::{LocalIds, RemoteIds};
use self::keys::KeyRing;
use self::negotiation::{Attempt, Negotiation, Opening};
use self::parameters::{Peer, ServerIds};
use self::path_response::PathResponses;
use self::spaces::Spaces;
use self::spin::Spin;
use self::timers::{Timer, Timers};
use self::token_store::NextToken;
use crate::chunk::Pool;
use crate::config::{ClientConfig, ServerConfig, TransportConfig};
use crate::ecn::EcnMark;
use crate::endpoint::{ConnectError, EndpointEvent, Incoming, Validation};
use crate::error::ConnectionError;
use crate::handle::IdIssuer;
use crate::id::{ConnectionId, ResetToken};
use crate::path::{Path, PathConfig};
use crate::path_id::PathId;
use crate::random::{Noise, Secrets};
use crate::recovery::SpaceId;
use crate::recovery::loss::LossTimer;
use crate::side::Side;
use crate::stats::{ConnectionStats, Counters};
use crate::streams::{StreamEvent, Streams};
use crate::time::Instant;
use crate::trace::{TraceStart, Tracer};
use crate::wire::{PacketType, Version};

/// What came with a received datagram.
#[derive(Clone, Copy, Debug)]
pub struct DatagramMeta {
    /// Where it came from.
    pub remote: SocketAddr,
    /// The address it was sent to, if known.
    pub local: Option<IpAddr>,
    /// Its ECN mark.
    pub ecn: Option<EcnMark>,
}

/// A datagram to send; its bytes are in the buffer that was given.
#[derive(Clone, Copy, Debug)]
pub struct Transmit {
    /// How many bytes of the buffer.
    pub len: usize,
    /// Where to.
    pub remote: SocketAddr,
    /// From which address, if known.
    pub local: Option<IpAddr>,
    /// The ECN mark to set.
    pub ecn: Option<EcnMark>,
}

/// What happened to a connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is early data: at a client, it can be sent from now on, at a server it was accepted. Streams can be opened and accepted
    /// before the handshake is complete; the peer may be one who replays what another said.
    EarlyData,
    /// The handshake is complete: streams can be opened, and the peer is who it says.
    Connected,
    /// The peer is known to be complete as well.
    Confirmed,
    /// Something happened to streams.
    Stream(StreamEvent),
    /// Something happened to datagrams.
    Datagrams(DatagramEvent),
    /// The connection is over. The last event.
    Closed(ConnectionError),
}

/// One QUIC connection.
pub struct Connection {
    side: Side,
    version: Version,
    config: Arc<TransportConfig>,
    handshake: Handshake,
    keys: KeyRing,
    local_ids: LocalIds,
    remote_ids: RemoteIds,
    next_token: NextToken,
    spaces: Spaces,
    path: Path,
    path_responses: PathResponses,
    streams: Streams,
    /// From the first one on, in either direction.
    datagrams: Option<Box<Datagrams>>,
    loss: LossTimer,
    timers: Timers,
    close: Close,
    /// Until the handshake is confirmed, and late packets of early data are overdue.
    early: Option<Box<Early>>,
    early_data: EarlyData,
    peer: Peer,
    /// Ack-eliciting packets owed in each space because of a probe timeout.
    probes: [u8; 3],
    /// A PING is owed so that the connection stays alive.
    ping: bool,
    /// A key update was asked for and could not start yet.
    update_keys: bool,
    /// An ack-eliciting packet was sent since the last packet came in (RFC 9000 10.1).
    spoke: bool,
    /// At a client: the server is known to have validated our address (RFC 9002 6.2.2.1).
    peer_validated_us: bool,
    /// The reset token that the endpoint knows of.
    registered_token: Option<ResetToken>,
    events: VecDeque<Event>,
    endpoint_events: VecDeque<EndpointEvent>,
    pool: Pool,
    noise: Noise,
    secrets: Secrets,
    spin: Spin,
    stats: Counters,
    trace: Tracer,
    /// Where to panic, once.
    #[cfg(test)]
    pub(crate) fault: Option<&'static str>,
}

/// What the endpoint lends a new connection.
pub(crate) struct Lent {
    pub(crate) issuer: IdIssuer,
    pub(crate) pool: Pool,
    /// For what the peer sees.
    pub(crate) noise: Noise,
    /// For what it must not guess.
    pub(crate) secrets: Secrets,
}

impl Connection {
    /// A client's connection, with `original` as the unpredictable id that its first packets go to. `wants_early_data` says
    /// whether the application may send before the handshake is complete.
    pub(crate) fn client(
        now: Instant,
        config: &ClientConfig,
        remote: SocketAddr,
        (server_name, wants_early_data): (&str, bool),
        original: ConnectionId,
        mut lent: Lent,
    ) -> Result<Self, ConnectError> {
        let (local_ids, _) = LocalIds::new(lent.issuer).ok_or(ConnectError::Full)?;
        let version = negotiation::first(&config.versions, |version| config.crypto.remembers(version.protection(), server_name));
        let attempt = Attempt { crypto: config.crypto.clone(), server_name: server_name.into() };
        let negotiation = Negotiation::client(Arc::clone(&config.versions), version, attempt);
        let declared = negotiation.information(version);
        let parameters = parameters::client(&config.transport, local_ids.handshake_id(), declared, &mut lent.noise);
        let mut session = Session::client(&config.crypto, version.protection(), server_name, parameters)?;
        if wants_early_data {
            session.offer_early_data();
        }
        // RFC 9000 8.1.3
        let token = token_store::usable(config.token_store.as_ref().and_then(|store| store.take(server_name, version)));
        let address_token = !token.is_empty();
        let early = Early { token, ..Early::client(original, negotiation) };
        let mut connection = Self::new(
            now,
            version,
            &config.transport,
            Handshake::client(session),
            local_ids,
            RemoteIds::new(original, config.transport.limits.connection_ids),
            (remote, None),
            early,
            (lent.pool, lent.noise, lent.secrets),
        );
        connection.start_trace(now, original);
        connection.stats.address_token = address_token;
        if let Some(store) = &config.token_store {
            connection.next_token = NextToken::keep(Arc::clone(store), server_name);
        }
        Ok(connection)
    }

    /// A server's connection for a client. `None` if the issuer is used up.
    pub(crate) fn server(now: Instant, config: &ServerConfig, incoming: &Incoming, local: Option<IpAddr>, lent: Lent) -> Option<Self> {
        let (local_ids, token) = LocalIds::new(lent.issuer)?;
        // RFC 9000 7.3: after a Retry the client's first packet went to another id than this one.
        let (first, retry_source) = match incoming.validation {
            Validation::Retry { first, .. } => (first, Some(incoming.original)),
            Validation::None | Validation::Address(_) => (incoming.original, None),
        };
        let ids = ServerIds { source: local_ids.handshake_id(), original: first, retry_source };
        let opening = Opening { crypto: config.crypto.clone(), ids, reset_token: token, terms: zero_rtt::terms(config) };
        let negotiation = Negotiation::server(Arc::clone(&config.versions), incoming.version, opening);
        let mut connection = Self::new(
            now,
            incoming.version,
            &config.transport,
            Handshake::server(),
            local_ids,
            RemoteIds::new(incoming.source, config.transport.limits.connection_ids),
            (incoming.remote, local),
            Early { awaits_early_data: config.crypto.takes_early_data(), ..Early::server(incoming.original, incoming.source, negotiation) },
            (lent.pool, lent.noise, lent.secrets),
        );
        connection.start_trace(now, first);
        connection.stats.retried = matches!(incoming.validation, Validation::Retry { .. });
        connection.stats.address_token = matches!(incoming.validation, Validation::Address(_));
        if incoming.is_validated() {
            // RFC 9000 8.1.2, 8.1.3
            connection.path.amplification_mut().on_validated();
        }
        Some(connection)
    }

    #[expect(clippy::too_many_arguments, reason = "the two constructors above are its only callers")]
    fn new(
        now: Instant,
        version: Version,
        config: &Arc<TransportConfig>,
        handshake: Handshake,
        local_ids: LocalIds,
        remote_ids: RemoteIds,
        (remote, local): (SocketAddr, Option<IpAddr>),
        early: Early,
        (pool, mut noise, mut secrets): (Pool, Noise, Secrets),
    ) -> Self {
        let side = handshake.side();
        let path = new_path(now, config, remote, local, side.is_client());
        let mut keys = KeyRing::default();
        let crypto_side = match side {
            Side::Client => weald_crypto::Side::Client,
            Side::Server => weald_crypto::Side::Server,
        };
        keys.install_initial(version, weald_crypto::initial_keys(version.protection(), &early.original, crypto_side));
        let mut connection = Self {
            side,
            version,
            config: Arc::clone(config),
            handshake,
            keys,
            local_ids,
            remote_ids,
            next_token: NextToken::default(),
            spaces: Spaces::new(config.max_ack_delay, config.limits.ack_ranges),
            path,
            path_responses: PathResponses::default(),
            datagrams: None,
            streams: parameters::streams(side, config, &mut secrets),
            loss: LossTimer::default(),
            timers: Timers::new(),
            close: Close::new(),
            early: Some(Box::new(early)),
            early_data: EarlyData::default(),
            peer: Peer::default(),
            probes: [0; 3],
            ping: false,
            update_keys: false,
            spoke: false,
            peer_validated_us: side.is_server(),
            registered_token: None,
            events: VecDeque::new(),
            endpoint_events: VecDeque::new(),
            pool,
            spin: Spin::new(config.spin_bit, &mut noise),
            noise,
            secrets,
            stats: Counters::default(),
            trace: Tracer::none(),
            #[cfg(test)]
            fault: None,
        };
        connection.timers.set(Timer::Handshake, Some(now + config.handshake_timeout));
        connection.restart_idle_timer(now);
        connection
    }

    fn start_trace(&mut self, now: Instant, original: ConnectionId) {
        let Self { side, path, config, .. } = self;
        let start = || TraceStart { now, side: *side, remote: path.remote(), local: path.local(), original };
        self.trace = Tracer::new(config, start);
    }

    // Outputs.

    /// When to call [`Connection::on_timeout`], if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What happened, the oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(Event::EarlyData | Event::Connected | Event::Confirmed) = self.events.front() {
            return self.events.pop_front();
        }
        // What was received before the end can still be read.
        let stream = self.streams.poll_event().map(Event::Stream);
        let datagram = || self.datagrams.as_mut()?.poll_event().map(Event::Datagrams);
        stream.or_else(datagram).or_else(|| self.events.pop_front())
    }

    /// The next step of TLS to be run, on any thread; its result goes to [`Connection::on_crypto_done`].
    pub fn poll_crypto_job(&mut self) -> Option<CryptoJob> {
        if !self.close.is_open() {
            return None;
        }
        self.handshake.poll_job()
    }

    /// What the endpoint must know, for [`crate::protocol::Endpoint::on_event`].
    pub fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        self.endpoint_events.pop_front()
    }

    // Getters.

    /// Which end of the connection this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The QUIC version. It may change until the handshake is complete (RFC 9368 2.3).
    pub fn version(&self) -> Version {
        self.version
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        self.path.remote()
    }

    /// The local address, if known.
    pub fn local(&self) -> Option<IpAddr> {
        self.path.local()
    }

    /// What TLS agreed on: `None` before [`Event::Connected`].
    pub fn outcome(&self) -> Option<&Outcome> {
        self.handshake.outcome()
    }

    /// Whether the handshake is complete and the connection not closed.
    pub fn is_established(&self) -> bool {
        self.handshake.is_complete() && self.close.is_open()
    }

    /// Whether the handshake is confirmed (RFC 9001 4.1.2).
    pub fn is_confirmed(&self) -> bool {
        self.handshake.is_confirmed()
    }

    /// Whether the connection is closed, by whomever.
    pub fn is_closed(&self) -> bool {
        !self.close.is_open()
    }

    /// Whether all state can be dropped: nothing will be sent any more, and nothing is expected.
    pub fn is_drained(&self) -> bool {
        self.close.is_drained()
    }

    #[cfg(test)]
    fn panic_if_asked(&mut self, place: &str) {
        if self.fault.take_if(|fault| *fault == place).is_some() {
            panic!("asked to panic in {place}");
        }
    }

    #[cfg(test)]
    pub(crate) fn handshake_id(&self) -> ConnectionId {
        self.local_ids.handshake_id()
    }

    /// At a server: the client is to have one of these tokens for its next connection (RFC 9000 8.1.3), by the version that is agreed
    /// on.
    pub(crate) fn give_token(&mut self, tokens: Vec<(Version, Vec<u8>)>) {
        self.next_token = NextToken::give(tokens);
    }

    /// Whether a packet of the peer authenticated.
    pub(crate) fn has_heard(&self) -> bool {
        self.early.as_ref().is_none_or(|early| early.heard)
    }

    /// What the connection did so far.
    pub fn stats(&self) -> ConnectionStats {
        let Counters {
            datagrams_received,
            bytes_received,
            packets_received,
            packets_dropped,
            datagrams_sent,
            bytes_sent,
            packets_sent,
            packets_lost,
            probe_timeouts,
            persistent_congestions,
            retried,
            address_token,
        } = self.stats;
        let datagrams = self.datagrams.as_ref().map(|datagrams| datagrams.counts()).unwrap_or_default();
        ConnectionStats {
            datagram_frames_sent: datagrams.sent,
            datagram_frames_received: datagrams.received,
            datagram_frames_lost: datagrams.lost,
            datagram_frames_dropped: datagrams.dropped,
            datagrams_received,
            bytes_received,
            packets_received,
            packets_dropped,
            datagrams_sent,
            bytes_sent,
            packets_sent,
            packets_lost,
            probe_timeouts,
            persistent_congestions,
            key_updates: self.keys.updates(),
            retried,
            address_token,
            rtt: self.path.rtt().smoothed(),
            rtt_variation: self.path.rtt().variation(),
            min_rtt: self.path.rtt().min(),
            congestion_window: self.path.window(),
            bytes_in_flight: self.path.in_flight(),
            mtu: self.path.mtu(),
            ecn: self.path.ecn().is_capable(),
            ecn_marks: self.path.ecn().marks(),
        }
    }
}

/// The path that a connection begins on; a server's is not `validated`.
fn new_path(now: Instant, config: &TransportConfig, remote: SocketAddr, local: Option<IpAddr>, validated: bool) -> Path {
    let config = PathConfig {
        congestion: &*config.congestion,
        initial_window_packets: config.initial_window,
        initial_rtt: config.initial_rtt,
        mtu: config.udp_payload_to(remote),
    };
    Path::new(now, PathId::FIRST, remote, local, &config, validated)
}

/// The encryption level whose keys protect what a space sends.
fn level(space: SpaceId) -> Level {
    match space {
        SpaceId::Initial => Level::Initial,
        SpaceId::Handshake => Level::Handshake,
        SpaceId::Data => Level::OneRtt,
    }
}

/// The encryption level of a packet.
fn packet_level(packet_type: PacketType) -> Level {
    match packet_type {
        PacketType::Initial => Level::Initial,
        PacketType::ZeroRtt => Level::ZeroRtt,
        PacketType::Handshake => Level::Handshake,
        PacketType::OneRtt => Level::OneRtt,
    }
}

/// The number space of a packet: 0-RTT and 1-RTT packets share one (RFC 9000 12.3).
fn space_of(packet_type: PacketType) -> SpaceId {
    match packet_type {
        PacketType::Initial => SpaceId::Initial,
        PacketType::Handshake => SpaceId::Handshake,
        PacketType::ZeroRtt | PacketType::OneRtt => SpaceId::Data,
    }
}

/// The packets that a space sends once the handshake is over.
fn packet_type(space: SpaceId) -> PacketType {
    match space {
        SpaceId::Initial => PacketType::Initial,
        SpaceId::Handshake => PacketType::Handshake,
        SpaceId::Data => PacketType::OneRtt,
    }
}
