//! Clients that wait for the application's word: [`Incoming`] is what it sees of one, and [`Waiting`] is what its worker keeps
//! of it meanwhile.
//!
//! Owns both, and the decision's way to the worker. Does not own what the limits and the policy decide before the application is
//! asked: `endpoint::admit`.
//!
//! Invariants: a worker keeps as many clients as the backlog allows, each for as long as a handshake may take, and of each the
//! datagrams of a first flight; nothing is decrypted for a client that nobody has accepted.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weald_runtime::channel::{RecvError, oneshot};

use super::connection::Connection;
use super::connection_shared::ConnectionRef;
use super::link::{Command, Link};
use super::worker::Core;
use crate::connection::DatagramMeta;
use crate::endpoint::{self, AcceptError};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::refusal::Refusal;
use crate::time::Instant;

/// Datagrams that are kept of a client: a ClientHello with a post-quantum key share fills two, and each may be sent again.
const DATAGRAMS: usize = 4;

/// A client that waits longer has given up, or is about to.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that asks for a connection, and that a server which [screens](crate::ServerConfig::screening) its clients has not
/// answered yet. Dropped, it is refused.
///
/// ```no_run
/// # fn is_known(_: std::net::SocketAddr) -> bool { true }
/// # fn serve(server: &weald_quic::Endpoint) {
/// while let Some(incoming) = server.accept_incoming() {
///     if !is_known(incoming.remote_address()) {
///         incoming.refuse();
///     } else if !incoming.remote_address_validated() {
///         // It comes again if the address is its own.
///         let _ = incoming.retry();
///     } else {
///         weald_runtime::spawn(move || incoming.accept());
///     }
/// }
/// # }
/// ```
#[must_use = "a client that is dropped is refused"]
pub struct Incoming {
    ticket: Ticket,
    is_answered: bool,
    is_validated: bool,
    may_retry: bool,
    link: Arc<Link>,
}

/// The client's address, the id that its packets go to, and which of those that had both this is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    client: (SocketAddr, Vec<u8>),
    serial: u64,
}

/// What the application decided.
pub(super) struct Decision {
    ticket: Ticket,
    verdict: Verdict,
}

enum Verdict {
    Accept(oneshot::Sender<Result<Connection, ConnectionError>>),
    Refuse,
    Retry,
    Ignore,
}

impl Incoming {
    /// Where the client is, or claims to be: [`Incoming::remote_address_validated`].
    pub fn remote_address(&self) -> SocketAddr {
        self.ticket.client.0
    }

    /// Whether the client is known to receive what is sent to its address (RFC 9000 8.1): it was sent a Retry there, or a token
    /// on an earlier connection.
    pub fn remote_address_validated(&self) -> bool {
        self.is_validated
    }

    /// Whether [`Incoming::retry`] is possible: a client follows one Retry.
    pub fn may_retry(&self) -> bool {
        self.may_retry
    }

    /// Lets the client in, and waits until the handshake is complete.
    ///
    /// # Errors
    /// The handshake failed; the client's packet was forged; there are as many connections or handshakes as the limits allow;
    /// the client waited for this for more than ten seconds, and is [`TimedOut`](ConnectionError::TimedOut); the endpoint is
    /// gone, and with it the client: [`LocallyClosed`](ConnectionError::LocallyClosed); or the caller is cancelled.
    #[track_caller]
    pub fn accept(mut self) -> Result<Connection, ConnectionError> {
        let (reply, answer) = oneshot::channel();
        if !self.decide(Verdict::Accept(reply)) {
            return Err(ConnectionError::LocallyClosed);
        }
        let connection = answer.recv().map_err(|error| match error {
            RecvError::Disconnected => ConnectionError::LocallyClosed,
            RecvError::Cancelled => ConnectionError::Cancelled,
        })??;
        connection.wait_connected()?;
        Ok(connection)
    }

    /// Tells the client that it is not accepted.
    pub fn refuse(mut self) {
        self.decide(Verdict::Refuse);
    }

    /// Asks the client to show that it owns its address (RFC 9000 8.1.2). It costs the client a round trip, and nothing is kept
    /// for it meanwhile: if it does, it comes as another [`Incoming`].
    ///
    /// # Errors
    /// It has done so: gives the client back.
    pub fn retry(mut self) -> Result<(), Incoming> {
        if !self.may_retry() {
            return Err(self);
        }
        self.decide(Verdict::Retry);
        Ok(())
    }

    /// Forgets the client without a word. It asks again for a while, and each time is a new [`Incoming`].
    pub fn ignore(mut self) {
        self.decide(Verdict::Ignore);
    }

    /// Once. False if the worker is gone.
    fn decide(&mut self, verdict: Verdict) -> bool {
        if std::mem::replace(&mut self.is_answered, true) {
            return false;
        }
        self.link.command(Command::Decide(Box::new(Decision { ticket: self.ticket.clone(), verdict })))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.decide(Verdict::Refuse);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("remote_address", &self.remote_address()).finish_non_exhaustive()
    }
}

/// The clients of one worker that wait.
#[derive(Default)]
pub(super) struct Waiting {
    clients: BTreeMap<(SocketAddr, Vec<u8>), Waiter>,
    /// When each has waited long enough, in order.
    deadlines: VecDeque<(Instant, Ticket)>,
    serials: u64,
}

struct Waiter {
    serial: u64,
    client: endpoint::Incoming,
    meta: DatagramMeta,
    datagrams: Vec<Box<[u8]>>,
}

impl Waiting {
    /// Keeps a datagram of a client that waits. False if it does not wait.
    fn add(&mut self, client: &endpoint::Incoming, datagram: &[u8]) -> bool {
        let Some(waiter) = self.clients.get_mut(&name(client)) else { return false };
        if waiter.datagrams.len() < DATAGRAMS {
            waiter.datagrams.push(datagram.into());
        }
        true
    }

    fn insert(&mut self, now: Instant, client: endpoint::Incoming, datagram: &[u8], meta: DatagramMeta) -> Ticket {
        self.serials += 1;
        let ticket = Ticket { client: name(&client), serial: self.serials };
        let waiter = Waiter { serial: self.serials, client, meta, datagrams: vec![datagram.into()] };
        self.clients.insert(ticket.client.clone(), waiter);
        if self.deadlines.len() > 2 * self.clients.len() + 16 {
            // Of those that were answered nothing is waited for any more.
            let clients = &self.clients;
            self.deadlines.retain(|(_, ticket)| clients.get(&ticket.client).is_some_and(|waiter| waiter.serial == ticket.serial));
        }
        self.deadlines.push_back((now + PATIENCE, ticket.clone()));
        ticket
    }

    fn take(&mut self, ticket: &Ticket) -> Option<Waiter> {
        let is_same = self.clients.get(&ticket.client).is_some_and(|waiter| waiter.serial == ticket.serial);
        if is_same { self.clients.remove(&ticket.client) } else { None }
    }

    /// Forgets those that have waited long enough, and says how many there were.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut forgotten = 0;
        while self.next_deadline().is_some_and(|deadline| deadline <= now)
            && let Some((_, ticket)) = self.deadlines.pop_front()
        {
            forgotten += usize::from(self.take(&ticket).is_some());
        }
        forgotten
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    fn len(&self) -> usize {
        self.clients.len()
    }
}

fn name(client: &endpoint::Incoming) -> (SocketAddr, Vec<u8>) {
    (client.remote(), client.original.to_vec())
}

impl Core {
    /// Lets a client wait for the application's word. False if too many do.
    pub(super) fn ask(&mut self, now: Instant, client: endpoint::Incoming, datagram: &[u8], meta: DatagramMeta) -> bool {
        if self.waiting.add(&client, datagram) {
            return true;
        }
        if self.waiting.len() >= self.shared.backlog {
            return false;
        }
        self.shared.ask(Incoming {
            ticket: self.waiting.insert(now, client, datagram, meta),
            is_answered: false,
            is_validated: client.is_validated(),
            may_retry: client.may_retry(),
            link: Arc::clone(&self.link),
        });
        true
    }

    /// Does what the application decided.
    pub(super) fn decide(&mut self, now: Instant, Decision { ticket, verdict }: Decision) {
        let waiter = self.waiting.take(&ticket);
        match (verdict, waiter) {
            (Verdict::Accept(reply), waiter) => {
                let answer = waiter.ok_or(ConnectionError::TimedOut).and_then(|waiter| self.let_in(now, &waiter));
                // Who asked may have been cancelled; the handle in the answer then closes the connection.
                drop(reply.send(answer));
            }
            (Verdict::Refuse, Some(waiter)) => {
                if let Some(answer) = self.endpoint.refuse(now, waiter.client, Refusal::Application) {
                    self.answer(&answer, waiter.meta);
                }
            }
            (Verdict::Retry, Some(waiter)) => {
                if let Some(answer) = self.endpoint.retry(now, waiter.client) {
                    self.answer(&answer, waiter.meta);
                }
            }
            (Verdict::Ignore, Some(_)) => self.endpoint.count_refusal(Refusal::Application),
            (Verdict::Refuse | Verdict::Retry | Verdict::Ignore, None) => {}
        }
    }

    fn let_in(&mut self, now: Instant, waiter: &Waiter) -> Result<Connection, ConnectionError> {
        let mut datagrams = waiter.datagrams.iter();
        let accepted = loop {
            let first = datagrams.next().ok_or(ConnectionError::TimedOut)?;
            match self.endpoint.accept(now, waiter.client, first, waiter.meta) {
                // Anybody may have made it: it does not stand in for the client's own behind it (RFC 9000 5.2.2).
                Err(AcceptError::Unauthenticated) if datagrams.len() > 0 => {}
                accepted => break accepted,
            }
        };
        let (handle, protocol) = accepted.map_err(|error| {
            let code = match error {
                AcceptError::NotServing | AcceptError::Full => TransportErrorCode::CONNECTION_REFUSED,
                AcceptError::Unauthenticated => TransportErrorCode::PROTOCOL_VIOLATION,
                AcceptError::TokenUsed => TransportErrorCode::INVALID_TOKEN,
                AcceptError::Defect => TransportErrorCode::INTERNAL_ERROR,
            };
            ConnectionError::Transport(code.because(error.to_string()))
        })?;
        let connection = self.insert(now, handle, protocol);
        let answer = Connection::new(ConnectionRef::new(Arc::clone(&connection)));
        let mut state = connection.lock_in_place();
        state.set_announced();
        for datagram in datagrams {
            state.work(now, |protocol| protocol.receive(now, datagram, waiter.meta, &mut self.scratch));
        }
        self.mark(&connection);
        self.settle(now, &connection, state);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Incoming as Client;
    use crate::id::ConnectionId;
    use crate::wire::Version;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn what_is_kept_of_those_who_wait_is_bounded_in_size_and_time() {
        let meta = |port| DatagramMeta { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: None, ecn: None };
        let id = |fill| ConnectionId::new(&[fill; 8]).unwrap();
        let client = |port| Client::new(meta(port).remote, Version::V1, id(7), id(8), 1200).unwrap();
        let mut waiting = Waiting::default();
        assert!(!waiting.add(&client(1), &[0; 1200]));
        let first = waiting.insert(at(0), client(1), &[0; 1200], meta(1));
        for _ in 0..100 {
            assert!(waiting.add(&client(1), &[0; 1200]));
        }
        let second = waiting.insert(at(5), client(2), &[0; 1200], meta(2));
        assert_eq!((waiting.len(), waiting.next_deadline()), (2, Some(at(10))));
        let taken = waiting.take(&first).unwrap();
        assert_eq!(taken.datagrams.len(), DATAGRAMS);
        assert!(waiting.take(&first).is_none());
        // The same client again is another, whom an old answer does not meet.
        let again = waiting.insert(at(6), client(1), &[0; 1200], meta(1));
        assert!(waiting.take(&first).is_none());
        waiting.expire(at(10));
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting.next_deadline(), Some(at(15)));
        waiting.expire(at(15));
        assert!(waiting.take(&second).is_none());
        waiting.expire(at(16));
        assert!(waiting.take(&again).is_none());
        assert_eq!((waiting.len(), waiting.next_deadline()), (0, None));
        // However many come and are answered, little is kept.
        for port in 1..10_000 {
            let ticket = waiting.insert(at(20), client(port), &[0; 1200], meta(port));
            assert!(waiting.take(&ticket).is_some());
        }
        assert!(waiting.deadlines.len() < 20 && waiting.len() == 0);
    }
}
