//! What a client remembers of the servers that it was connected to: tickets, until they are used or expire.
//!
//! Owns the bounds and the order of forgetting. What a ticket holds is rustls's; how tickets get into and out of TLS is `resumption.rs`.
//!
//! Invariants: a ticket is given out at most once (RFC 8446, C.4), only to connections of the configuration, the version (RFC 9369, 5)
//! and the server name that it came from, and not after its time. No bound is exceeded whatever servers send.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Tls13ClientSessionValue;

use crate::{NamedGroup, Version};

/// Servers that are remembered unless told otherwise. A ticket takes 3 to 6 kB with the certificates that it rests on.
const DEFAULT_SERVERS: usize = 256;
/// Tickets that are kept of one server. Each connection brings another.
const TICKETS_PER_SERVER: usize = 4;

/// The sessions that clients may resume, in memory. Cheap to clone; clones share what is remembered.
///
/// Configurations may share a store, and with it the bound on what is remembered, but never a session: each one resumes what
/// it has verified by its own means.
#[derive(Clone)]
pub struct SessionStore(Arc<Store>);

struct Store {
    capacity: usize,
    configurations: AtomicU64,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    by_key: BTreeMap<Key, Server>,
    /// The servers by when they were last heard of, the longest ago first.
    by_age: BTreeMap<u64, Key>,
    /// Counts what happens, for `by_age`.
    now: u64,
}

struct Server {
    heard_of: u64,
    /// The newest last.
    sessions: VecDeque<Remembered>,
}

/// Whose sessions they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    configuration: u64,
    version: u32,
    server_name: String,
}

impl Key {
    pub(crate) fn new(configuration: u64, version: Version, server_name: &str) -> Self {
        Self { configuration, version: version.number(), server_name: server_name.to_ascii_lowercase() }
    }
}

/// One ticket, and what the connection was like that it came on.
pub(crate) struct Remembered {
    pub(crate) ticket: Tls13ClientSessionValue,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) group: NamedGroup,
    /// When the server last showed its certificate, in seconds since 1970.
    pub(crate) origin: u64,
    /// When it is good no longer.
    pub(crate) expires: u64,
}

impl SessionStore {
    /// Remembers sessions of up to `servers` servers, and forgets those first that were not heard of for longest.
    ///
    /// # Panics
    ///
    /// If `servers` is 0; see [`ClientConfigBuilder::without_sessions`](crate::ClientConfigBuilder::without_sessions).
    pub fn new(servers: usize) -> Self {
        assert!(servers > 0, "a session store has room for a server at least");
        Self(Arc::new(Store { capacity: servers, configurations: AtomicU64::new(0), servers: Mutex::default() }))
    }

    /// How many sessions are remembered, those included that have expired since.
    pub fn len(&self) -> usize {
        self.lock().by_key.values().map(|server| server.sessions.len()).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all sessions: who connects next cannot be linked to an earlier connection by what it resumes.
    pub fn clear(&self) {
        let mut servers = self.lock();
        servers.by_key.clear();
        servers.by_age.clear();
    }

    /// A number for a configuration that uses this store.
    pub(crate) fn register(&self) -> u64 {
        // Relaxed: each gets another number, and nothing else is ordered.
        self.0.configurations.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn put(&self, key: Key, remembered: Remembered) {
        let mut servers = self.lock();
        let Servers { by_key, by_age, now } = &mut *servers;
        *now += 1;
        let server = by_key.entry(key.clone()).or_insert_with(|| Server { heard_of: *now, sessions: VecDeque::new() });
        by_age.remove(&server.heard_of);
        server.heard_of = *now;
        by_age.insert(*now, key);
        if server.sessions.len() == TICKETS_PER_SERVER {
            server.sessions.pop_front();
        }
        server.sessions.push_back(remembered);
        if by_key.len() > self.0.capacity
            && let Some((_, eldest)) = by_age.pop_first()
        {
            by_key.remove(&eldest);
        }
    }

    /// Whether there is a session, be it one that has expired since.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.lock().by_key.contains_key(key)
    }

    /// Takes out the newest session that is good at `now`, in seconds since 1970.
    pub(crate) fn take(&self, key: &Key, now: u64) -> Option<Remembered> {
        let mut servers = self.lock();
        let server = servers.by_key.get_mut(key)?;
        server.sessions.retain(|session| now < session.expires);
        let newest = server.sessions.pop_back();
        let (heard_of, is_used_up) = (server.heard_of, server.sessions.is_empty());
        if is_used_up {
            servers.by_key.remove(key);
            servers.by_age.remove(&heard_of);
        }
        newest
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.0.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SessionStore {
    /// Room for 256 servers.
    fn default() -> Self {
        Self::new(DEFAULT_SERVERS)
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").field("servers", &self.0.capacity).finish_non_exhaustive()
    }
}
