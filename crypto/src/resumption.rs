//! How tickets get into and out of TLS: through rustls's session stores, on the thread that drives the session.
//!
//! rustls calls the stores, which belong to the configuration, in the middle of a handshake step. What they need to know of the
//! session, and what they yield, is lent to the thread for the length of the step, as in `secrets_tap.rs`.
//!
//! A server's store is never asked to store anything. rustls wants early data to come with sessions that are kept and taken out
//! once, so it believes that it keeps them: when it does, what it would keep is sealed into a ticket, and the ticket takes the place of the
//! random number that rustls sends (`session/new_ticket.rs`); when it asks for what it kept, the ticket is opened, and the strike register
//! has seen to the rest.
//!
//! Invariant: outside of [`lend`] the thread-local is empty, also after a panic.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::server::StoresServerSessions;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::ServerName;

use crate::session_store::{Key, Remembered};
use crate::tickets::{Issued, MAX_LIFETIME, Made, Opened};
use crate::{NamedGroup, SessionStore, Terms, Tickets, Version};

/// Tickets that are opened for one ClientHello. Who offers more than a few is not out to resume, and each costs a decryption.
const MAX_OFFERED: usize = 4;

/// The longest a ticket's message and the transport parameters that are remembered with it may be together, for a client to keep them. A
/// ticket is to be sent in a first flight.
const MAX_REMEMBERED: usize = 16 * 1024;

/// What one session's steps lend to the stores. Lives as long as the session.
pub(crate) enum Loan {
    Client(Box<ClientLoan>),
    Server(Box<ServerLoan>),
}

/// A client's side: where its tickets are, and what is known of the connection.
pub(crate) struct ClientLoan {
    pub(crate) store: SessionStore,
    pub(crate) configuration: u64,
    pub(crate) time: Arc<dyn TimeProvider>,
    pub(crate) version: Version,
    pub(crate) server_name: String,
    /// What the session that is being resumed was like.
    pub(crate) taken: Option<Taken>,
    /// Set once TLS has resumed it.
    pub(crate) resumed: bool,
    /// What is known of the ticket that TLS is about to read.
    pub(crate) arriving: Option<Arriving>,
    /// How many tickets came.
    pub(crate) arrived: usize,
}

/// See [`ClientLoan::taken`].
pub(crate) struct Taken {
    pub(crate) alpn: Option<Vec<u8>>,
    group: NamedGroup,
    origin: u64,
}

/// See [`ClientLoan::arriving`].
pub(crate) struct Arriving {
    /// In seconds.
    pub(crate) lifetime: u32,
    /// Bytes that the server can make the ticket take.
    pub(crate) len: usize,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) group: NamedGroup,
}

impl ClientLoan {
    fn key(&self) -> Key {
        Key::new(self.configuration, self.version, &self.server_name)
    }

    fn take(&mut self) -> Option<Tls13ClientSessionValue> {
        let now = seconds(&*self.time)?;
        let Remembered { ticket, alpn, group, origin, .. } = self.store.take(&self.key(), now)?;
        self.taken = Some(Taken { alpn, group, origin });
        Some(ticket)
    }

    fn put(&mut self, ticket: Tls13ClientSessionValue) {
        self.arrived += 1;
        let (Some(arriving), Some(now)) = (self.arriving.take(), seconds(&*self.time)) else { return };
        let resumed = self.taken.as_ref().filter(|_| self.resumed);
        let origin = resumed.map_or(now, |taken| taken.origin);
        // RFC 8446, 4.6.1: seven days at most, and a lifetime of 0 is none. What renewal after renewal rests on is limited alike.
        let longest = MAX_LIFETIME.as_secs();
        let expires = now.saturating_add(u64::from(arriving.lifetime).min(longest)).min(origin.saturating_add(longest));
        if expires <= now || arriving.len > MAX_REMEMBERED {
            return;
        }
        let Arriving { alpn, group, .. } = arriving;
        self.store.put(self.key(), Remembered { ticket, alpn, group, origin, expires });
    }
}

/// A server's side: what it seals tickets with, and what is known of the connection.
pub(crate) struct ServerLoan {
    pub(crate) tickets: Tickets,
    pub(crate) time: Arc<dyn TimeProvider>,
    pub(crate) version: Version,
    pub(crate) terms: Terms,
    /// What the server wants of its clients' certificates.
    pub(crate) policy: Arc<[u8]>,
    /// Whether the server takes early data at all.
    pub(crate) takes_early_data: bool,
    /// Whether the ClientHello that TLS is about to read offers it.
    pub(crate) offers_early_data: bool,
    /// Tickets that were shown.
    pub(crate) shown: usize,
    /// When certificates were last shown on the connection of the ticket that was opened last.
    pub(crate) origin: Option<u64>,
    /// Set once TLS has resumed that one.
    pub(crate) resumed: bool,
    /// The ticket that early data may come with: it stands in the strike register.
    pub(crate) struck: Option<u64>,
    /// The tickets that were made, each under the number that rustls sends in its place.
    pub(crate) issued: Vec<([u8; 32], Issued)>,
}

impl ServerLoan {
    fn made(&self, now: u64, origin: u64) -> Made<'_> {
        Made { now, version: self.version, origin, terms: &self.terms, policy: &self.policy }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> bool {
        let (Ok(key), Some(now)) = (<[u8; 32]>::try_from(key), seconds(&*self.time)) else { return false };
        let origin = self.origin.filter(|_| self.resumed).unwrap_or(now);
        let issued = self.tickets.issue(&self.made(now, origin), &key, value);
        let is_issued = issued.is_some();
        self.issued.extend(issued.map(|issued| (key, issued)));
        is_issued
    }

    fn take(&mut self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.shown += 1;
        if self.shown > MAX_OFFERED {
            return None;
        }
        let now = seconds(&*self.time)?;
        let mut opened = self.tickets.open(&self.made(now, now), ticket)?;
        self.origin = Some(opened.origin);
        // RFC 8446, 4.2.10: early data comes with the first ticket or not at all.
        if self.offers_early_data && self.takes_early_data && self.shown == 1 && self.tickets.strike(now, &opened) {
            self.struck = Some(opened.id);
        } else {
            forbid_early_data(&mut opened)?;
        }
        Some(std::mem::take(&mut *opened.value))
    }

    /// None of the early data that the ticket brought was taken.
    pub(crate) fn restore(&mut self) {
        if let Some(id) = self.struck.take() {
            self.tickets.restore(id);
        }
    }
}

/// Makes rustls refuse early data with this session, and resume it all the same: it takes early data only under the TLS version that
/// it kept, and compares that for nothing else. (The age would do, too, but what it is compared with is the client's to choose.)
fn forbid_early_data(opened: &mut Opened) -> Option<()> {
    const TLS_1_2: [u8; 2] = [3, 3];
    // The server name, if there is one, and then the version.
    let name_len = match opened.value.split_first_chunk::<2>()? {
        ([0, _], _) => 0,
        ([_, len], _) => 1 + usize::from(*len),
    };
    opened.value.get_mut(1 + name_len..)?.first_chunk_mut().map(|version| *version = TLS_1_2)
}

fn seconds(time: &dyn TimeProvider) -> Option<u64> {
    time.current_time().map(|time| time.as_secs())
}

thread_local! {
    static LENT: Cell<Option<Loan>> = const { Cell::new(None) };
}

/// Runs one handshake step with `loan`, if there is one, as the thread's. Not to be nested.
pub(crate) fn lend<T>(loan: &mut Option<Loan>, step: impl FnOnce() -> T) -> T {
    /// Takes back what was lent, however the step ends.
    struct Lent<'a>(&'a mut Option<Loan>);
    impl Drop for Lent<'_> {
        fn drop(&mut self) {
            *self.0 = LENT.take();
        }
    }
    LENT.set(loan.take());
    let _lent = Lent(loan);
    step()
}

/// What `answer` makes of the loan of the step that runs; `None` outside of one.
fn with_loan<T>(answer: impl FnOnce(&mut Loan) -> T) -> Option<T> {
    let mut loan = LENT.take()?;
    let answer = answer(&mut loan);
    LENT.set(Some(loan));
    Some(answer)
}

fn with_client<T>(answer: impl FnOnce(&mut ClientLoan) -> T) -> Option<T> {
    with_loan(|loan| match loan {
        Loan::Client(client) => Some(answer(client)),
        Loan::Server(_) => None,
    })?
}

fn with_server<T>(answer: impl FnOnce(&mut ServerLoan) -> T) -> Option<T> {
    with_loan(|loan| match loan {
        Loan::Server(server) => Some(answer(server)),
        Loan::Client(_) => None,
    })?
}

/// The store that a client's rustls is given.
#[derive(Debug)]
pub(crate) struct ClientStore;

impl ClientSessionStore for ClientStore {
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        with_client(|client| client.put(value));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        with_client(ClientLoan::take).flatten()
    }

    /// The group that the server chose when it gave the ticket: it may not want another, and asking for one ends early data.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        with_client(|client| client.taken.as_ref().map(|taken| taken.group.tls())).flatten()
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: rustls::NamedGroup) {}

    // RFC 9001, 4.2: there is nothing older than TLS 1.3.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}

/// The store that a server's rustls is given.
#[derive(Debug)]
pub(crate) struct ServerStore;

impl StoresServerSessions for ServerStore {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let value = zeroize::Zeroizing::new(value);
        with_server(|server| server.put(&key, &value)).unwrap_or(false)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        with_server(|server| server.take(key)).flatten()
    }

    // RFC 9001, 4.2: only what is older than TLS 1.3 asks this way.
    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}
