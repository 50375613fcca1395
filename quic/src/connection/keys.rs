//! The packet protection keys of a connection: which exist, which generation of 1-RTT keys is in use, and when they are
//! discarded or updated (RFC 9001 4.9, 5, 6).
//!
//! Owns the key phase. Does not own packets: callers hand in bytes and packet numbers.
//!
//! Invariants: the next generation always exists before it is needed, so that a packet with a flipped phase costs the
//! same whether or not it is genuine (RFC 9001 9.5); the previous one only until its discard time.

use weald_crypto::{DirectionKeys, HeaderKey, Keys, Level, OneRttSecrets, OpenError, PacketKey, PacketKeys};

use crate::error::{TransportError, TransportErrorCode};
use crate::recovery::SpaceId;
use crate::side::Side;
use crate::time::Instant;
use crate::wire::{PacketNumber, PacketType, Version};

/// All keys of one connection.
#[derive(Default)]
pub(crate) struct KeyRing {
    initial: Option<Box<Initial>>,
    handshake: Option<Box<Keys>>,
    zero_rtt: Option<Box<ZeroRtt>>,
    one_rtt: Option<Box<OneRtt>>,
    /// Packets that did not authenticate, over all keys (RFC 9001 6.6).
    forged: u64,
    handshake_discarded: bool,
    /// Stand for what the cipher withstands: packets sealed, and packets forged.
    #[cfg(test)]
    pub(crate) limits: Option<(u64, u64)>,
}

/// The keys of Initial packets, which anyone can derive.
struct Initial {
    /// The version of what is sent.
    version: Version,
    keys: Keys,
    /// What opens packets of another version, while the peer may send some (RFC 9369 4.1).
    other: Option<(Version, DirectionKeys)>,
}

struct OneRtt {
    local_header: HeaderKey,
    remote_header: HeaderKey,
    local: PacketKey,
    remote: PacketKey,
    next: PacketKeys,
    next_secrets: OneRttSecrets,
    previous: Option<Previous>,
    phase: bool,
    /// First packet sent, and first and largest received, in this phase.
    first_sent: Option<PacketNumber>,
    first_received: Option<PacketNumber>,
    largest_received: Option<PacketNumber>,
    /// The peer acknowledged a packet of this phase.
    acknowledged: bool,
    /// The peer updated, and has not been sent an acknowledgement in this phase yet.
    owes_ack: bool,
    sealed: u64,
    /// How often the keys were updated.
    updates: u64,
}

/// The keys of early data, which flows from the client alone (RFC 9001 5.6).
enum ZeroRtt {
    /// At a client.
    Seals(DirectionKeys),
    /// At a server, until late packets are overdue.
    Opens { keys: DirectionKeys, discard_at: Option<Instant> },
}

struct Previous {
    remote: PacketKey,
    discard_at: Option<Instant>,
}

/// A packet to open: header protection is removed.
#[derive(Clone, Copy)]
pub(crate) struct Sealed<'a> {
    pub(crate) number: PacketNumber,
    /// The version in its header; short ones have none.
    pub(crate) version: Option<Version>,
    /// The key phase bit, false in long headers.
    pub(crate) phase: bool,
    /// All before the payload.
    pub(crate) header: &'a [u8],
    /// Ciphertext and tag.
    pub(crate) payload: &'a [u8],
}

/// What came of a packet that authenticated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) len: usize,
    /// The keys before the current ones opened it.
    pub(crate) old_keys: bool,
    /// The packet was the first of a new phase: the previous keys can go in three probe timeouts (RFC 9001 6.5).
    pub(crate) phase_began: bool,
}

/// Why a packet did not open.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// Not authentic: the packet never was.
    Forged,
    /// The connection must close.
    Fatal(TransportError),
}

/// The keys that seal one packet.
pub(crate) struct SealKeys<'a> {
    pub(crate) packet: &'a PacketKey,
    pub(crate) header: &'a HeaderKey,
    pub(crate) phase: bool,
}

impl KeyRing {
    pub(crate) fn install_initial(&mut self, version: Version, keys: Keys) {
        self.initial = Some(Box::new(Initial { version, keys, other: None }));
    }

    /// As [`KeyRing::install_initial`], and packets of the version before can still be opened.
    pub(crate) fn switch_initial(&mut self, version: Version, keys: Keys) {
        let other = self.initial.take().map(|before| (before.version, before.keys.remote));
        self.initial = Some(Box::new(Initial { version, keys, other }));
    }

    /// Packets of another version can be opened, too.
    pub(crate) fn add_initial(&mut self, version: Version, keys: DirectionKeys) {
        if let Some(initial) = &mut self.initial {
            initial.other = Some((version, keys));
        }
    }

    /// Whether Initial packets of a version can be opened.
    pub(crate) fn opens_initial(&self, version: Version) -> bool {
        self.initial.as_ref().is_some_and(|initial| initial.remote(Some(version)).is_some())
    }

    pub(crate) fn install_handshake(&mut self, keys: Keys) {
        self.handshake = Some(Box::new(keys));
    }

    /// The keys of the client's early data, for this end.
    pub(crate) fn install_zero_rtt(&mut self, side: Side, keys: DirectionKeys) {
        self.zero_rtt = Some(Box::new(match side {
            Side::Client => ZeroRtt::Seals(keys),
            Side::Server => ZeroRtt::Opens { keys, discard_at: None },
        }));
    }

    /// A client's 0-RTT keys go with it: nothing is sent under them any more (RFC 9001 4.9.3, 5.6).
    pub(crate) fn install_one_rtt(&mut self, keys: Keys, secrets: &OneRttSecrets) {
        self.zero_rtt.take_if(|keys| matches!(**keys, ZeroRtt::Seals(_)));
        let next_secrets = secrets.next();
        let DirectionKeys { packet: local, header: local_header } = keys.local;
        let DirectionKeys { packet: remote, header: remote_header } = keys.remote;
        self.one_rtt = Some(Box::new(OneRtt {
            local_header,
            remote_header,
            local,
            remote,
            next: next_secrets.packet_keys(),
            next_secrets,
            previous: None,
            phase: false,
            first_sent: None,
            first_received: None,
            largest_received: None,
            acknowledged: false,
            owes_ack: false,
            sealed: 0,
            updates: 0,
        }));
    }

    pub(crate) fn has(&self, level: Level) -> bool {
        match level {
            Level::Initial => self.initial.is_some(),
            Level::Handshake => self.handshake.is_some(),
            Level::OneRtt => self.one_rtt.is_some(),
            Level::ZeroRtt => self.zero_rtt.is_some(),
        }
    }

    /// What a packet of a space is sent as now, if there are keys for it.
    pub(crate) fn sends(&self, space: SpaceId) -> Option<PacketType> {
        match space {
            SpaceId::Initial => self.initial.is_some().then_some(PacketType::Initial),
            SpaceId::Handshake => self.handshake.is_some().then_some(PacketType::Handshake),
            SpaceId::Data if self.one_rtt.is_some() => Some(PacketType::OneRtt),
            SpaceId::Data => matches!(self.zero_rtt.as_deref(), Some(ZeroRtt::Seals(_))).then_some(PacketType::ZeroRtt),
        }
    }

    /// Whether late packets of the client's early data can still be opened.
    pub(crate) fn opens_early_data(&self) -> bool {
        matches!(self.zero_rtt.as_deref(), Some(ZeroRtt::Opens { .. }))
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.initial.as_ref().map_or(0, |keys| keys.memory())
            + self.handshake.as_ref().map_or(0, |keys| size_of::<Keys>() + keys.memory())
            + self.zero_rtt.as_ref().map_or(0, |keys| keys.memory())
            + self.one_rtt.as_ref().map_or(0, |keys| keys.memory())
    }

    /// Whether the Handshake keys were there and are gone for good.
    pub(crate) fn is_handshake_over(&self) -> bool {
        self.handshake_discarded
    }

    pub(crate) fn discard(&mut self, level: Level) {
        match level {
            Level::Initial => self.initial = None,
            Level::Handshake => {
                self.handshake = None;
                self.handshake_discarded = true;
            }
            Level::OneRtt => self.one_rtt = None,
            Level::ZeroRtt => self.zero_rtt = None,
        }
    }

    /// What removes the header protection of packets from the peer, with this version in their header.
    pub(crate) fn remote_header(&self, level: Level, version: Option<Version>) -> Option<&HeaderKey> {
        match level {
            Level::Initial => self.initial.as_ref()?.remote(version).map(|keys| &keys.header),
            Level::Handshake => self.handshake.as_ref().map(|keys| &keys.remote.header),
            Level::OneRtt => self.one_rtt.as_ref().map(|keys| &keys.remote_header),
            Level::ZeroRtt => self.zero_rtt.as_ref()?.opening().map(|keys| &keys.header),
        }
    }

    /// Opens the payload of a packet into `out`.
    pub(crate) fn open(&mut self, now: Instant, level: Level, sealed: Sealed<'_>, out: &mut [u8]) -> Result<Opened, OpenFailure> {
        let (result, cipher_limit) = match level {
            Level::Initial | Level::Handshake => {
                let keys = match level {
                    Level::Initial => self.initial.as_ref().and_then(|keys| keys.remote(sealed.version)),
                    _ => self.handshake.as_ref().map(|keys| &keys.remote),
                };
                let Some(DirectionKeys { packet: key, .. }) = keys else { return Err(OpenFailure::Forged) };
                let opened = sealed.open(key, out);
                (opened.map(|len| Opened { len, old_keys: false, phase_began: false }), key.integrity_limit())
            }
            Level::OneRtt => {
                let Some(keys) = &mut self.one_rtt else { return Err(OpenFailure::Forged) };
                let cipher_limit = keys.remote.integrity_limit();
                match keys.open(now, sealed, out) {
                    Ok(Ok(opened)) => (Ok(opened), cipher_limit),
                    Ok(Err(error)) => return Err(OpenFailure::Fatal(error)),
                    Err(error) => (Err(error), cipher_limit),
                }
            }
            Level::ZeroRtt => {
                let Some(keys) = self.zero_rtt.as_ref().and_then(|keys| keys.opening()) else { return Err(OpenFailure::Forged) };
                let opened = sealed.open(&keys.packet, out);
                (opened.map(|len| Opened { len, old_keys: false, phase_began: false }), keys.packet.integrity_limit())
            }
        };
        #[cfg(not(test))]
        let limit = cipher_limit;
        #[cfg(test)]
        let limit = self.limits.map_or(cipher_limit, |(_, forged)| forged);
        result.map_err(|OpenError { .. }| {
            self.forged += 1;
            // RFC 9001 6.6
            if self.forged >= limit {
                let reason = "more forged packets than the cipher withstands";
                return OpenFailure::Fatal(TransportErrorCode::AEAD_LIMIT_REACHED.because(reason));
            }
            OpenFailure::Forged
        })
    }

    /// The keys for the next packet of `level`.
    pub(crate) fn local(&self, level: Level) -> Option<SealKeys<'_>> {
        match level {
            Level::Initial => self.initial.as_ref().map(|initial| SealKeys::long(&initial.keys)),
            Level::Handshake => self.handshake.as_deref().map(SealKeys::long),
            Level::OneRtt => {
                self.one_rtt.as_ref().map(|keys| SealKeys { packet: &keys.local, header: &keys.local_header, phase: keys.phase })
            }
            Level::ZeroRtt => match self.zero_rtt.as_deref()? {
                ZeroRtt::Seals(keys) => Some(SealKeys { packet: &keys.packet, header: &keys.header, phase: false }),
                ZeroRtt::Opens { .. } => None,
            },
        }
    }

    /// A 1-RTT packet was sealed.
    pub(crate) fn on_sealed(&mut self, number: PacketNumber, carries_ack: bool) {
        if let Some(keys) = &mut self.one_rtt {
            keys.sealed += 1;
            keys.first_sent.get_or_insert(number);
            keys.owes_ack &= !carries_ack;
        }
    }

    /// Whether a 1-RTT packet was sealed with the current keys.
    pub(crate) fn is_current(&self, number: PacketNumber) -> bool {
        self.one_rtt.as_ref().is_some_and(|keys| keys.first_sent.is_some_and(|first| number >= first))
    }

    /// A 1-RTT packet was acknowledged.
    pub(crate) fn on_acked(&mut self, number: PacketNumber) {
        if let Some(keys) = &mut self.one_rtt {
            keys.acknowledged |= keys.first_sent.is_some_and(|first| number >= first);
        }
    }

    /// Starts a key update, if RFC 9001 6.1 allows one now: the caller knows the handshake to be confirmed, a packet of
    /// this phase was acknowledged, and the previous keys are gone.
    #[must_use]
    pub(crate) fn update(&mut self) -> bool {
        match &mut self.one_rtt {
            Some(keys) if keys.acknowledged && keys.previous.is_none() => {
                keys.promote();
                true
            }
            _ => false,
        }
    }

    /// Makes the next update possible at once.
    #[cfg(test)]
    pub(crate) fn pretend_settled(&mut self) {
        if let Some(keys) = &mut self.one_rtt {
            keys.acknowledged = true;
            keys.previous = None;
        }
    }

    /// Packets sealed in this phase.
    pub(crate) fn sealed(&self) -> u64 {
        self.one_rtt.as_ref().map_or(0, |keys| keys.sealed)
    }

    /// How many packets one generation of keys may seal (RFC 9001 6.6).
    pub(crate) fn confidentiality_limit(&self) -> u64 {
        #[cfg(test)]
        if let Some((sealed, _)) = self.limits {
            return sealed;
        }
        self.one_rtt.as_ref().map_or(u64::MAX, |keys| keys.local.confidentiality_limit())
    }

    /// Whether the peer began the last key update, and was not answered yet.
    pub(crate) fn owes_answer(&self) -> bool {
        self.one_rtt.as_ref().is_some_and(|keys| keys.owes_ack)
    }

    /// Key updates so far, by either end.
    pub(crate) fn updates(&self) -> u64 {
        self.one_rtt.as_ref().map_or(0, |keys| keys.updates)
    }

    /// Sets when the previous keys go.
    pub(crate) fn discard_previous_at(&mut self, at: Instant) {
        if let Some(previous) = self.one_rtt.as_mut().and_then(|keys| keys.previous.as_mut()) {
            previous.discard_at.get_or_insert(at);
        }
    }

    /// Sets when a server's 0-RTT keys go.
    pub(crate) fn discard_zero_rtt_at(&mut self, at: Instant) {
        if let Some(ZeroRtt::Opens { discard_at, .. }) = self.zero_rtt.as_deref_mut() {
            discard_at.get_or_insert(at);
        }
    }

    /// Discards the keys whose time has come, of those before the current ones and of early data, and says when that is to be
    /// asked next.
    pub(crate) fn discard_old(&mut self, now: Instant) -> Option<Instant> {
        let is_due = |discard_at: Option<Instant>| discard_at.is_some_and(|at| at <= now);
        if let Some(keys) = &mut self.one_rtt {
            keys.previous.take_if(|previous| is_due(previous.discard_at));
        }
        self.zero_rtt.take_if(|keys| is_due(keys.discard_at()));
        let previous = self.one_rtt.as_ref().and_then(|keys| keys.previous.as_ref()?.discard_at);
        previous.into_iter().chain(self.zero_rtt.as_ref().and_then(|keys| keys.discard_at())).min()
    }
}

impl Sealed<'_> {
    fn open(&self, key: &PacketKey, out: &mut [u8]) -> Result<usize, OpenError> {
        key.open(self.number.as_u64(), self.header, self.payload, out)
    }
}

impl<'a> SealKeys<'a> {
    fn long(keys: &'a Keys) -> Self {
        Self { packet: &keys.local.packet, header: &keys.local.header, phase: false }
    }
}

impl Initial {
    /// What opens packets with this version in their header.
    fn remote(&self, version: Option<Version>) -> Option<&DirectionKeys> {
        if version == Some(self.version) {
            return Some(&self.keys.remote);
        }
        self.other.as_ref().filter(|(other, _)| version == Some(*other)).map(|(_, keys)| keys)
    }

    fn memory(&self) -> usize {
        let other = self.other.as_ref().map_or(0, |(_, keys)| keys.packet.memory() + keys.header.memory());
        size_of::<Self>() + self.keys.memory() + other
    }
}

impl ZeroRtt {
    fn opening(&self) -> Option<&DirectionKeys> {
        match self {
            ZeroRtt::Seals(_) => None,
            ZeroRtt::Opens { keys, .. } => Some(keys),
        }
    }

    fn discard_at(&self) -> Option<Instant> {
        match self {
            ZeroRtt::Seals(_) => None,
            ZeroRtt::Opens { discard_at, .. } => *discard_at,
        }
    }

    fn memory(&self) -> usize {
        let (ZeroRtt::Seals(keys) | ZeroRtt::Opens { keys, .. }) = self;
        size_of::<Self>() + keys.packet.memory() + keys.header.memory()
    }
}

impl OneRtt {
    /// The outer error is a forgery, the inner one the peer's fault.
    fn open(&mut self, now: Instant, sealed: Sealed<'_>, out: &mut [u8]) -> Result<Result<Opened, TransportError>, OpenError> {
        let Sealed { number, phase, .. } = sealed;
        self.previous.take_if(|previous| previous.discard_at.is_some_and(|at| at <= now));
        if phase == self.phase {
            let len = sealed.open(&self.remote, out)?;
            let phase_began = self.first_received.is_none() && self.previous.is_some();
            self.on_received(number);
            return Ok(Ok(Opened { len, old_keys: false, phase_began }));
        }
        // RFC 9001 6.5: a packet older than this phase is one of the previous; before the peer has answered our update, all
        // its packets are.
        let is_older = self.first_received.is_none_or(|first| number < first);
        if is_older && let Some(previous) = &self.previous {
            let len = sealed.open(&previous.remote, out)?;
            return Ok(Ok(Opened { len, old_keys: true, phase_began: false }));
        }
        let len = sealed.open(&self.next.remote, out)?;
        // RFC 9001 6.2: an update before the last one was acknowledged; 6.4: newer keys on an older packet.
        if self.owes_ack {
            return Ok(Err(TransportErrorCode::KEY_UPDATE_ERROR.because("a key update before the last one was confirmed")));
        }
        if self.largest_received.is_some_and(|largest| number < largest) {
            return Ok(Err(TransportErrorCode::KEY_UPDATE_ERROR.because("newer keys protect an older packet")));
        }
        self.promote();
        self.owes_ack = true;
        self.on_received(number);
        Ok(Ok(Opened { len, old_keys: false, phase_began: true }))
    }

    fn memory(&self) -> usize {
        let headers = self.local_header.memory() + self.remote_header.memory();
        let packets = self.local.memory() + self.remote.memory() + self.next.memory();
        let previous = self.previous.as_ref().map_or(0, |previous| previous.remote.memory());
        size_of::<Self>() + headers + packets + previous
    }

    fn on_received(&mut self, number: PacketNumber) {
        self.first_received = Some(self.first_received.map_or(number, |first| first.min(number)));
        self.largest_received = self.largest_received.max(Some(number));
    }

    /// The next generation becomes the current one, the current one the previous.
    fn promote(&mut self) {
        self.next_secrets = self.next_secrets.next();
        let current = std::mem::replace(&mut self.next, self.next_secrets.packet_keys());
        self.local = current.local;
        let remote = std::mem::replace(&mut self.remote, current.remote);
        self.previous = Some(Previous { remote, discard_at: None });
        self.phase = !self.phase;
        self.first_sent = None;
        self.first_received = None;
        self.largest_received = None;
        self.acknowledged = false;
        self.owes_ack = false;
        self.sealed = 0;
        self.updates += 1;
    }
}
