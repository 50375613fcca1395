//! An attacker as a peer: how it is set up, what it does when it is told, and what it has learnt. What it answers of itself is in
//! `answers`.
//!
//! Invariants: nothing that comes in makes it panic. It answers only while it is asked to receive, so that a test decides when.

mod answers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use weald_crypto::{Level, Session, TlsError};
use weald_quic::codec::{Crypto, EcnCounts, Frame, FrameIter, Ping};
use weald_quic::{ConnectionId, Side};
use weald_runtime::net::{Ecn, RecvBatch, UdpSocket};
use weald_runtime::time::Instant;

use self::answers::CRYPTO_PIECE;
use super::packets::{PacketBuilder, Protection};
use super::{AckPolicy, Kind};
use crate::hand::{parameter, parameters};
use crate::world;

/// The kinds that have a number space and a CRYPTO stream of their own.
const SPACES: [Kind; 3] = [Kind::Initial, Kind::Handshake, Kind::OneRtt];
/// How long an answer is waited for until what was sent last is sent again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is.
const REPEATS: usize = 10;
/// How long an answer may take that is checked.
const ANSWER: Duration = Duration::from_secs(5);

/// A client or a server that does as it is told.
pub struct Attacker {
    side: Side,
    socket: UdpSocket,
    spoofed: Option<UdpSocket>,
    remote: Option<SocketAddr>,
    /// Our id.
    pub(super) source: ConnectionId,
    /// The other end's id, once it is known; before that, what a client made up.
    pub(super) destination: ConnectionId,
    /// The token of our Initial packets.
    pub(super) token: Vec<u8>,
    pub(super) protection: Protection,
    /// What a client's first packet went to.
    original: ConnectionId,
    opening: Opening,
    session: Option<Session>,
    complete: bool,
    confirmed: bool,
    early_data: Option<bool>,
    closed: Option<Closed>,
    tls_error: Option<TlsError>,
    goal: Stage,
    /// What TLS gave and is not sent yet.
    held: Vec<(Kind, Vec<u8>)>,
    /// The CRYPTO frames that were sent last, by offset.
    flight: Vec<(Kind, u64, Vec<u8>)>,
    edit: Option<Edit>,
    spaces: [Space; 3],
    policy: AckPolicy,
    ecn_counts: Option<EcnCounts>,
    arrived: VecDeque<(Vec<u8>, Option<Ecn>)>,
    batch: RecvBatch,
    bytes_received: usize,
    bytes_sent: usize,
}

type Edit = Box<dyn FnMut(Level, &mut Vec<u8>) + Send>;
type MakeParameters = Box<dyn FnOnce(&Ids) -> Vec<u8> + Send>;

struct Opening {
    client_tls: weald_crypto::ClientConfig,
    server_tls: weald_crypto::ServerConfig,
    parameters: MakeParameters,
    early_data: bool,
}

/// The ids that transport parameters may have to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The attacker's own id.
    pub source: ConnectionId,
    /// The destination of the client's first packet.
    pub original: ConnectionId,
}

#[derive(Default)]
struct Space {
    next_number: u64,
    received: BTreeSet<u64>,
    owes_ack: bool,
    crypto_sent: u64,
    crypto_read: u64,
    crypto: BTreeMap<u64, Vec<u8>>,
    acked: Vec<RangeInclusive<u64>>,
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A client has sent its ClientHello. A server has sent its ServerHello, and nothing behind it.
    HelloSent,
    /// There are Handshake keys, and nothing was sent with them.
    HandshakeKeys,
    /// Both ends' Finished were seen or sent.
    Complete,
    /// HANDSHAKE_DONE came to a client, or was sent by a server.
    Confirmed,
}

/// What a CONNECTION_CLOSE frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Of the transport.
    Transport {
        /// The code.
        code: u64,
        /// The type of the frame at fault.
        frame: Option<u64>,
        /// For people.
        reason: String,
    },
    /// Of the application, with its code.
    Application(u64),
}

/// Why a handshake came no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The other end closed the connection.
    Closed(Closed),
    /// The other end says nothing.
    Silent,
    /// The attacker's own TLS wants no more.
    Tls(TlsError),
}

/// A datagram that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The packets that could be opened.
    pub packets: Vec<SeenPacket>,
    /// The datagram as it came.
    pub datagram: Vec<u8>,
    /// Its ECN mark.
    pub ecn: Option<Ecn>,
}

/// A packet that could be opened.
#[derive(Clone, Debug)]
pub struct SeenPacket {
    /// Its type.
    pub kind: Kind,
    /// Its number.
    pub number: u64,
    /// Its key phase bit.
    pub phase: bool,
    /// Its frames, encoded.
    pub payload: Vec<u8>,
    sender: Side,
}

impl SeenPacket {
    /// The frames, up to the first that is none.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        FrameIter::new(&self.payload, self.kind, self.sender).map_while(Result::ok)
    }
}

impl Seen {
    /// All frames of all packets.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.packets.iter().flat_map(SeenPacket::frames)
    }
}

impl Attacker {
    /// A client at `at`, which has sent nothing yet.
    ///
    /// # Panics
    ///
    /// If the address is not free.
    pub fn client(seed: u64, at: SocketAddr, server: SocketAddr) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let source = id(&rng.u64(..).to_be_bytes());
        let original = id(&rng.u64(..).to_be_bytes());
        Self::new(Side::Client, seed, at, Some(server), source, original)
    }

    /// A server at `at`, of the first client that comes.
    ///
    /// # Panics
    ///
    /// If the address is not free.
    pub fn server(seed: u64, at: SocketAddr) -> Self {
        let source = id(&fastrand::Rng::with_seed(seed).u64(..).to_be_bytes());
        Self::new(Side::Server, seed, at, None, source, ConnectionId::EMPTY)
    }

    fn new(side: Side, seed: u64, at: SocketAddr, remote: Option<SocketAddr>, source: ConnectionId, original: ConnectionId) -> Self {
        Self {
            side,
            socket: UdpSocket::bind(at).expect("a free address"),
            spoofed: None,
            remote,
            source,
            destination: original,
            token: Vec::new(),
            protection: Protection::new(side, &original),
            original,
            opening: Opening {
                client_tls: world::client_tls(seed),
                server_tls: world::server_tls(seed, 1),
                parameters: Box::new(default_parameters(side)),
                early_data: false,
            },
            session: None,
            complete: false,
            confirmed: false,
            early_data: None,
            closed: None,
            tls_error: None,
            goal: Stage::HelloSent,
            held: Vec::new(),
            flight: Vec::new(),
            edit: None,
            spaces: Default::default(),
            policy: AckPolicy::Honest,
            ecn_counts: None,
            arrived: VecDeque::new(),
            batch: RecvBatch::with_slots(16, 2048),
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    // What is set before the handshake.

    /// Other transport parameters, encoded.
    #[must_use]
    pub fn parameters(mut self, make: impl FnOnce(&Ids) -> Vec<u8> + Send + 'static) -> Self {
        self.opening.parameters = Box::new(make);
        self
    }

    /// Another id of its own, which may be empty.
    ///
    /// # Panics
    ///
    /// If it has more than 20 bytes.
    #[must_use]
    pub fn source(mut self, source: &[u8]) -> Self {
        self.source = id(source);
        self
    }

    /// Another id that a client's first packet goes to.
    ///
    /// # Panics
    ///
    /// If it has more than 20 bytes.
    #[must_use]
    pub fn destination(mut self, destination: &[u8]) -> Self {
        self.original = id(destination);
        self.destination = self.original;
        self.protection = Protection::new(self.side, destination);
        self
    }

    /// A token in its Initial packets.
    #[must_use]
    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    /// Another client's TLS.
    #[must_use]
    pub fn client_tls(mut self, tls: weald_crypto::ClientConfig) -> Self {
        self.opening.client_tls = tls;
        self
    }

    /// A client's 0-RTT packets have the keys that its TLS has for them, if an earlier connection with the same [TLS](Self::client_tls)
    /// brought a ticket.
    #[must_use]
    pub fn early_data(mut self) -> Self {
        self.opening.early_data = true;
        self
    }

    /// Another server's TLS.
    #[must_use]
    pub fn server_tls(mut self, tls: weald_crypto::ServerConfig) -> Self {
        self.opening.server_tls = tls;
        self
    }

    /// Changes handshake messages on their way out: what TLS gives at one level at one time, before it is cut into CRYPTO frames.
    #[must_use]
    pub fn crypto(mut self, edit: impl FnMut(Level, &mut Vec<u8>) + Send + 'static) -> Self {
        self.edit = Some(Box::new(edit));
        self
    }

    // What is set at any time.

    /// What is acknowledged from now on.
    pub fn acks(&mut self, policy: AckPolicy) {
        self.policy = policy;
    }

    /// The ECN counts that each ACK carries from now on.
    pub fn ecn_counts(&mut self, counts: Option<EcnCounts>) {
        self.ecn_counts = counts;
    }

    /// Protects 1-RTT packets with the next keys from now on, whatever the other end thinks of it.
    ///
    /// # Panics
    ///
    /// Without 1-RTT keys.
    pub fn update_keys(&mut self) {
        self.protection.update();
    }

    /// Sends from another address from now on; what is answered there is not received.
    ///
    /// # Panics
    ///
    /// If the address is not free.
    pub fn spoof(&mut self, from: SocketAddr) {
        self.spoofed = Some(UdpSocket::bind(from).expect("a free address"));
    }

    /// Sends from its own address again.
    pub fn stop_spoofing(&mut self) {
        self.spoofed = None;
    }

    // Where it is.

    /// Where it receives.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// The id that its packets go to.
    pub fn destination_id(&self) -> ConnectionId {
        self.destination
    }

    /// Its own id.
    pub fn source_id(&self) -> ConnectionId {
        self.source
    }

    /// What the client's first packet went to.
    pub fn original_id(&self) -> ConnectionId {
        self.original
    }

    /// Whether it has the keys of that kind.
    pub fn has_keys(&self, kind: Kind) -> bool {
        self.protection.has(kind)
    }

    /// At a client: whether the server takes its early data, once that is known.
    pub fn is_early_data_accepted(&self) -> Option<bool> {
        self.early_data
    }

    /// Whether the handshake is confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// The CONNECTION_CLOSE that came.
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// UDP payload that came in so far.
    pub fn bytes_received(&self) -> usize {
        self.bytes_received
    }

    /// UDP payload that went out so far.
    pub fn bytes_sent(&self) -> usize {
        self.bytes_sent
    }

    /// Where the CRYPTO data goes on that is sent in packets of that kind.
    pub fn crypto_offset(&self, kind: Kind) -> u64 {
        self.spaces[space(kind)].crypto_sent
    }

    /// Whether the last ACK frame that came in packets of that kind names this number.
    pub fn is_acked(&self, kind: Kind, number: u64) -> bool {
        self.spaces[space(kind)].acked.iter().any(|range| range.contains(&number))
    }

    // What it does.

    /// Shakes hands until it is there. What was sent last is sent again when nothing comes for a second.
    ///
    /// # Panics
    ///
    /// If it does not come to that.
    #[track_caller]
    pub fn handshake(&mut self, until: Stage) {
        if let Err(ended) = self.try_handshake(until) {
            panic!("the handshake does not come to {until:?}: {ended:?}");
        }
    }

    /// The same, for handshakes that may fail.
    ///
    /// # Errors
    ///
    /// Why it came no further.
    pub fn try_handshake(&mut self, until: Stage) -> Result<(), Ended> {
        self.goal = until;
        if self.side.is_client() && self.session.is_none() {
            self.begin();
        }
        self.answer();
        let mut silences = 0;
        while !self.is_at(until) {
            if let Some(closed) = &self.closed {
                return Err(Ended::Closed(closed.clone()));
            }
            if let Some(error) = &self.tls_error {
                return Err(Ended::Tls(error.clone()));
            }
            if self.next(PATIENCE).is_none() {
                silences += 1;
                if silences == REPEATS {
                    return Err(Ended::Silent);
                }
                self.repeat();
            }
        }
        Ok(())
    }

    fn is_at(&self, stage: Stage) -> bool {
        match stage {
            Stage::HelloSent => self.session.is_some(),
            Stage::HandshakeKeys => self.protection.has(Kind::Handshake),
            Stage::Complete => self.complete && self.held.is_empty(),
            Stage::Confirmed => self.confirmed,
        }
    }

    /// A packet in the making.
    pub fn packet(&mut self, kind: Kind) -> PacketBuilder<'_> {
        PacketBuilder::new(self, kind)
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// If nobody was heard of yet.
    pub fn send(&mut self, datagram: &[u8]) {
        let remote = self.remote.expect("a peer");
        let socket = self.spoofed.as_ref().unwrap_or(&self.socket);
        socket.send_to(datagram, remote).expect("the network takes it");
        self.bytes_sent += datagram.len();
    }

    /// Sends CRYPTO data where it goes on, of which its own TLS knows nothing. Its offset counts.
    pub fn send_crypto(&mut self, kind: Kind, data: &[u8]) {
        for data in data.chunks(CRYPTO_PIECE) {
            let offset = self.spaces[space(kind)].crypto_sent;
            self.spaces[space(kind)].crypto_sent += data.len() as u64;
            self.packet(kind).frame(&Crypto { offset, data }).send();
        }
    }

    /// The next datagram, which is answered as the handshake and the policy want it. `None` if none comes.
    pub fn next(&mut self, patience: Duration) -> Option<Seen> {
        let (datagram, ecn) = self.receive(patience)?;
        let seen = self.take_in(datagram, ecn);
        self.answer();
        Some(seen)
    }

    /// The next datagram, unread and unanswered.
    pub fn next_raw(&mut self, patience: Duration) -> Option<Vec<u8>> {
        self.receive(patience).map(|(datagram, _)| datagram)
    }

    /// Receives and answers until the other end closes the connection, or says nothing for `patience`.
    pub fn run(&mut self, patience: Duration) -> Option<Closed> {
        while self.closed.is_none() && self.next(patience).is_some() {}
        self.closed.clone()
    }

    // What is expected of the other end.

    /// Checks that it closes the connection with that code of the transport.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn expect_close(&mut self, code: u64) {
        match self.run(ANSWER) {
            Some(Closed::Transport { code: told, .. }) if told == code => {}
            other => panic!("the connection is not closed with {code:#x}: {other:?}"),
        }
    }

    /// Checks that it acknowledges a PING.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        let number = self.packet(Kind::OneRtt).frame(&Ping).send();
        while !self.is_acked(Kind::OneRtt, number) {
            assert!(self.next(ANSWER).is_some(), "no answer");
            assert_eq!(self.closed, None);
        }
    }

    /// Checks that it has nothing to say for a second.
    ///
    /// # Panics
    ///
    /// If it has.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        let datagram = self.next_raw(PATIENCE);
        assert_eq!(datagram, None, "an answer");
    }

    fn receive(&mut self, patience: Duration) -> Option<(Vec<u8>, Option<Ecn>)> {
        if self.arrived.is_empty() {
            self.socket.recv_batch_deadline(&mut self.batch, Instant::now() + patience).ok()?;
            for datagrams in self.batch.iter() {
                self.remote.get_or_insert(datagrams.remote);
                self.arrived.extend(datagrams.segments().map(|datagram| (datagram.to_vec(), datagrams.ecn)));
            }
        }
        let (datagram, ecn) = self.arrived.pop_front()?;
        self.bytes_received += datagram.len();
        Some((datagram, ecn))
    }
}

/// What both ends accept of each other, and a server's client needs.
fn default_parameters(side: Side) -> impl FnOnce(&Ids) -> Vec<u8> + Send {
    move |ids| {
        let mut out = parameters(&ids.source);
        if side.is_server() {
            parameter(&mut out, 0x00, &ids.original);
        }
        out
    }
}

/// The index of the packet's number space: 0-RTT and 1-RTT packets share one.
fn space(kind: Kind) -> usize {
    match kind {
        Kind::Initial => 0,
        Kind::Handshake => 1,
        Kind::ZeroRtt | Kind::OneRtt => 2,
    }
}

fn level(kind: Kind) -> Level {
    match kind {
        Kind::Initial => Level::Initial,
        Kind::ZeroRtt => Level::ZeroRtt,
        Kind::Handshake => Level::Handshake,
        Kind::OneRtt => Level::OneRtt,
    }
}

fn kind(level: Level) -> Kind {
    match level {
        Level::Initial => Kind::Initial,
        Level::ZeroRtt => Kind::ZeroRtt,
        Level::Handshake => Kind::Handshake,
        Level::OneRtt => Kind::OneRtt,
    }
}

fn id(bytes: &[u8]) -> ConnectionId {
    ConnectionId::new(bytes).expect("at most 20 bytes")
}
