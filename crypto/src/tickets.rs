//! What a server seals into its tickets, and what it makes of those that come back.
//!
//! Owns the content of a ticket, how long it is good for, and whether early data may come with it. Does not own: the seal
//! (`tickets/keys.rs`), memory of used tickets (`strike_register.rs`), or how a ticket gets into and out of TLS (`resumption.rs`).
//!
//! Invariants: whoever is not among those who share the keys can neither make, change nor read a ticket. Everything in a ticket was
//! said by TLS on a connection whose peer has proven that it holds that connection's secrets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::strike_register::{Issuer, Strike, StrikeRegister};
use crate::{ConfigError, Terms, Version, random_bytes};
use keys::TicketKeys;

mod keys;

/// RFC 8446, 4.6.1: no ticket is good for longer, nor, by renewal, is what it rests on: who the peer is was proven at most that long ago.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Ids that a generation of the strike register holds: up to 10 MB in each of two, when 7,000 connections a second come with early data.
const DEFAULT_STRIKES: usize = 7 << 17;

/// The longest ticket that is made. A client has to send it in its first flight; only a client's long certificate chain makes one
/// longer, and then there is none.
pub(crate) const MAX_LEN: usize = 8 * 1024;

/// The first byte of a ticket's content, for formats to come.
const FORMAT: u8 = 1;

/// What a server's session tickets are sealed with, and how many it gives. Cheap to clone; clones share keys and counts.
///
/// A client that comes back with a ticket resumes: neither certificate nor signature is sent, made or checked. Servers that share
/// the keys, by a secret or a file, resume each other's sessions. Early data is taken by the one whose ticket it is, once: only
/// that one knows which tickets were used (see [`ServerConfigBuilder::early_data`](crate::ServerConfigBuilder::early_data)).
///
/// ```
/// # use std::time::Duration;
/// # use weald_crypto::{ConfigError, Tickets};
/// # fn tickets() -> Result<Tickets, ConfigError> {
/// // One hexadecimal key of 32 bytes a line: the first one seals, all open.
/// let tickets = Tickets::from_file("/etc/weald/ticket-keys")?.lifetime(Duration::from_secs(3600));
/// # Ok(tickets)
/// # }
/// # assert!(tickets().is_err());
/// ```
#[derive(Clone)]
pub struct Tickets {
    keys: Arc<TicketKeys>,
    register: Arc<StrikeRegister>,
    counters: Arc<Counters>,
    count: usize,
    lifetime: Duration,
}

impl Tickets {
    /// Tickets that only this process opens, for as long as it lives.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes to give.
    pub fn new() -> Self {
        let mut secret = [0; 32];
        random_bytes(&mut secret).expect("the system has random bytes");
        Self::from_secret(secret)
    }

    /// Tickets that whoever has the same secret opens. It must be as unpredictable as a private key.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes to give.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self::with_keys(TicketKeys::new(secret), random_number())
    }

    /// Tickets under the keys in a file: 64 hexadecimal digits a line, of which the first line seals and all open. Empty lines and
    /// lines that start with `#` are passed over.
    ///
    /// The file is looked at again when a ticket is made or opened, at most once a second, so that keys are exchanged while servers
    /// run: write the new key below the old one everywhere, then move it to the front everywhere, and after the tickets' lifetime take
    /// the old one out. Exchange the file by renaming, on a disk that answers at once: a handshake waits for it. One that cannot be read,
    /// or that says something else, changes nothing, and a warning says so once.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if it cannot be read, [`ConfigError::TicketKeys`] if it holds no key, or something else.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes to give.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Ok(Self::with_keys(TicketKeys::watch(path.as_ref())?, random_number()))
    }

    /// Tickets whose keys follow from a seed, for a simulation. **They protect nothing.**
    #[cfg(feature = "simulation")]
    pub fn seeded(seed: u64) -> Self {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&seed.to_be_bytes());
        Self::with_keys(TicketKeys::new(secret), seed)
    }

    fn with_keys(keys: TicketKeys, boot: u64) -> Self {
        Self {
            keys: Arc::new(keys),
            register: Arc::new(StrikeRegister::new(boot, DEFAULT_STRIKES)),
            counters: Arc::default(),
            count: 1,
            lifetime: DEFAULT_LIFETIME,
        }
    }

    /// How many tickets each connection is given, 1 by default. A client uses each once (RFC 8446, C.4), so one lets it come back,
    /// and more let it come back several times at once. Each costs a server some 10 microseconds.
    ///
    /// # Panics
    ///
    /// If `count` is not 1 to 8. For none, see [`ServerConfigBuilder::without_tickets`](crate::ServerConfigBuilder::without_tickets).
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        assert!((1..=8).contains(&count), "a connection is given 1 to 8 tickets, not {count}");
        self.count = count;
        self
    }

    /// For how long a ticket is good, in whole seconds. A day by default.
    ///
    /// A ticket of a resumed session is good for as long again, but never longer than seven days after the last handshake with
    /// certificates.
    ///
    /// # Panics
    ///
    /// If it is not a second to seven days (RFC 8446, 4.6.1).
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        let range = Duration::from_secs(1)..=MAX_LIFETIME;
        assert!(range.contains(&lifetime), "a ticket is good for a second to seven days, not for {lifetime:?}");
        self.lifetime = lifetime;
        self
    }

    /// How many connections may come with early data in about two minutes; 917,504 by default. Those beyond resume, without their
    /// early data. Each takes some 10 bytes, when it comes, and for up to four minutes.
    ///
    /// Tickets that were made before this call are not good for early data after it.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes to give.
    #[must_use]
    pub fn strikes(mut self, capacity: usize) -> Self {
        self.register = Arc::new(StrikeRegister::new(random_number(), capacity));
        self
    }

    /// What happened so far.
    pub fn stats(&self) -> TicketStats {
        let counters = &*self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TicketStats {
            issued: read(&counters.issued),
            resumed: read(&counters.resumed),
            unopened: read(&counters.unopened),
            expired: read(&counters.expired),
            other_version: read(&counters.other_version),
            early_data_accepted: read(&counters.early_data_accepted),
            early_data_rejected: read(&counters.early_data_rejected),
            early_data_replayed: read(&counters.early_data_replayed),
            early_data_elsewhere: read(&counters.early_data_elsewhere),
            early_data_other_terms: read(&counters.early_data_other_terms),
            early_data_register_full: read(&counters.early_data_register_full),
            strikes: self.register.len() as u64,
            strike_capacity: self.register.capacity() as u64,
        }
    }

    pub(crate) fn per_connection(&self) -> usize {
        self.count
    }

    /// Makes a ticket of what TLS wants to remember. `None` if it is too long to be one. `random` is 32 bytes that nobody can predict.
    pub(crate) fn issue(&self, made: &Made<'_>, random: &[u8; 32], value: &[u8]) -> Option<Issued> {
        let Made { now, origin, .. } = *made;
        let end = origin.saturating_add(MAX_LIFETIME.as_secs());
        let lifetime = self.lifetime.as_secs().min(end.saturating_sub(now));
        if lifetime == 0 {
            return None;
        }
        let [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, id @ ..] = *random;
        let mut plain = Zeroizing::new(Vec::with_capacity(256 + value.len()));
        plain.push(FORMAT);
        plain.extend_from_slice(&made.version.number().to_be_bytes());
        plain.extend_from_slice(&origin.to_be_bytes());
        plain.extend_from_slice(&now.saturating_add(lifetime).to_be_bytes());
        plain.extend_from_slice(&id[..8]);
        plain.extend_from_slice(&self.register.issuer(now).to_bytes());
        made.terms.encode(&mut plain);
        plain.extend_from_slice(value);
        let ticket = self.keys.seal(now, [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11], &plain, made.policy);
        if ticket.len() > MAX_LEN {
            return None;
        }
        self.counters.issued.add();
        Some(Issued { ticket, lifetime: lifetime as u32 })
    }

    /// Opens a ticket that a client showed, if it is good for resuming under these circumstances; `made.origin` is not looked at.
    pub(crate) fn open(&self, made: &Made<'_>, ticket: &[u8]) -> Option<Opened> {
        let plain = Some(ticket).filter(|ticket| ticket.len() <= MAX_LEN);
        let plain = plain.and_then(|ticket| self.keys.open(made.now, MAX_LIFETIME.as_secs(), ticket, made.policy));
        let Some(content) = plain.as_ref().and_then(|plain| Content::read(plain, made.terms)) else {
            self.counters.unopened.add();
            return None;
        };
        if content.expires <= made.now {
            self.counters.expired.add();
            return None;
        }
        // RFC 9369, 5: a ticket belongs to the version of the connection that it was given on.
        if content.version != made.version.number() {
            self.counters.other_version.add();
            return None;
        }
        Some(Opened {
            value: Zeroizing::new(content.value.to_vec()),
            origin: content.origin,
            id: content.id,
            issuer: content.issuer,
            keeps_terms: content.keeps_terms,
        })
    }

    /// Whether early data may come with a ticket. If so it is as good as taken: [`Tickets::restore`] it if it was not.
    pub(crate) fn strike(&self, now: u64, opened: &Opened) -> bool {
        if !opened.keeps_terms {
            self.counters.early_data_other_terms.add();
            return false;
        }
        match self.register.insert(now, opened.issuer, opened.id) {
            Strike::Taken => return true,
            Strike::Known => self.counters.early_data_replayed.add(),
            Strike::Elsewhere | Strike::ClockBehind => self.counters.early_data_elsewhere.add(),
            Strike::Full => self.counters.early_data_register_full.add(),
        }
        false
    }

    /// The handshake of a ticket failed, or TLS refused its early data: none of it was taken.
    pub(crate) fn restore(&self, id: u64) {
        self.register.remove(id);
    }

    pub(crate) fn on_resumed(&self) {
        self.counters.resumed.add();
    }

    pub(crate) fn on_early_data(&self, accepted: bool) {
        if accepted { self.counters.early_data_accepted.add() } else { self.counters.early_data_rejected.add() }
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("count", &self.count).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// What happened to the tickets of a [`Tickets`] and its clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TicketStats {
    /// Tickets that were given to clients.
    pub issued: u64,
    /// Handshakes that resumed a session.
    pub resumed: u64,
    /// Tickets that could not be opened: forged, changed, older than seven days, or made under keys that are not among the present
    /// ones, or by a server that wants other certificates of its clients.
    pub unopened: u64,
    /// Tickets that came after their time.
    pub expired: u64,
    /// Tickets that were made on a connection of another QUIC version.
    pub other_version: u64,
    /// Connections whose early data was accepted.
    pub early_data_accepted: u64,
    /// Connections whose early data was rejected, for those reasons that follow, or because the server takes none, the ticket did not
    /// resume, was not as old as the client said, or came from another application protocol, or another group was asked for.
    pub early_data_rejected: u64,
    /// Of those, the ones whose ticket had brought early data before.
    pub early_data_replayed: u64,
    /// Of those, the ones whose ticket is of another server or an earlier start of this one, or came after the clock was set back.
    pub early_data_elsewhere: u64,
    /// Of those, the ones whose ticket promises more than the server now keeps: see [`Terms`].
    pub early_data_other_terms: u64,
    /// Of those, the ones for whom there was no room left to remember that their ticket was used.
    pub early_data_register_full: u64,
    /// Used tickets that are remembered now.
    pub strikes: u64,
    /// How many are remembered at most: the [capacity](Tickets::strikes) for each of two generations, in each of which there may be room
    /// when there is none in the other.
    pub strike_capacity: u64,
}

impl TicketStats {
    /// Every count that only grows, with its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("issued", self.issued),
            ("resumed", self.resumed),
            ("unopened", self.unopened),
            ("expired", self.expired),
            ("other_version", self.other_version),
            ("early_data_accepted", self.early_data_accepted),
            ("early_data_rejected", self.early_data_rejected),
            ("early_data_replayed", self.early_data_replayed),
            ("early_data_elsewhere", self.early_data_elsewhere),
            ("early_data_other_terms", self.early_data_other_terms),
            ("early_data_register_full", self.early_data_register_full),
        ]
    }
}

#[derive(Debug, Default)]
struct Counters {
    issued: AtomicU64,
    resumed: AtomicU64,
    unopened: AtomicU64,
    expired: AtomicU64,
    other_version: AtomicU64,
    early_data_accepted: AtomicU64,
    early_data_rejected: AtomicU64,
    early_data_replayed: AtomicU64,
    early_data_elsewhere: AtomicU64,
    early_data_other_terms: AtomicU64,
    early_data_register_full: AtomicU64,
}

trait Count {
    fn add(&self);
}

impl Count for AtomicU64 {
    fn add(&self) {
        // Relaxed: a count, which orders nothing else.
        self.fetch_add(1, Ordering::Relaxed);
    }
}

/// The circumstances of a connection on which a ticket is made, or shown.
#[derive(Clone, Copy)]
pub(crate) struct Made<'a> {
    /// In seconds since 1970.
    pub(crate) now: u64,
    pub(crate) version: Version,
    /// When certificates were last shown.
    pub(crate) origin: u64,
    pub(crate) terms: &'a Terms,
    /// What the server wants of its clients' certificates. A ticket must not get around it.
    pub(crate) policy: &'a [u8],
}

/// A ticket for a client.
pub(crate) struct Issued {
    pub(crate) ticket: Vec<u8>,
    /// In seconds.
    pub(crate) lifetime: u32,
}

/// What a ticket said.
pub(crate) struct Opened {
    /// What TLS wanted to remember.
    pub(crate) value: Zeroizing<Vec<u8>>,
    pub(crate) origin: u64,
    pub(crate) id: u64,
    issuer: Issuer,
    keeps_terms: bool,
}

struct Content<'a> {
    version: u32,
    origin: u64,
    expires: u64,
    id: u64,
    issuer: Issuer,
    keeps_terms: bool,
    value: &'a [u8],
}

impl<'a> Content<'a> {
    fn read(plain: &'a [u8], terms: &Terms) -> Option<Self> {
        let (&[FORMAT], rest) = plain.split_first_chunk()? else { return None };
        let (version, rest) = rest.split_first_chunk()?;
        let (origin, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (issuer, mut rest) = rest.split_first_chunk()?;
        let keeps_terms = terms.keep(&mut rest)?;
        Some(Self {
            version: u32::from_be_bytes(*version),
            origin: u64::from_be_bytes(*origin),
            expires: u64::from_be_bytes(*expires),
            id: u64::from_be_bytes(*id),
            issuer: Issuer::from_bytes(*issuer),
            keeps_terms,
            value: rest,
        })
    }
}

fn random_number() -> u64 {
    let mut number = [0; 8];
    random_bytes(&mut number).expect("the system has random bytes");
    u64::from_be_bytes(number)
}
