//! How everyone reaches one worker's part of an endpoint: its list of dirty connections, and its inbox.
//!
//! Owns both, and when the worker must be rung. Does not own what the worker does with them.
//!
//! Invariant: after [`Link::sever`] nothing is taken in any more, so that who waits for an answer learns at once that there
//! will be none.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use weald_runtime::channel::oneshot;
use weald_runtime::{Handle, HookHandle};

use super::connection::Connection;
use super::connection_shared::ConnectionShared;
use super::error::ConnectError;
use super::incoming::Decision;
use super::lock;
use crate::config::ClientConfig;
use crate::connection::{CryptoDone, DatagramMeta};
use crate::error::ApplicationCode;
use crate::handle::ConnectionHandle;
use crate::stats::EndpointStats;

/// Bytes of datagrams that wait to be taken from the worker where they landed; more are dropped, as by a full socket.
const FORWARDED_BYTES: usize = 1 << 20;

/// One worker's part of an endpoint, as seen from outside.
pub(super) struct Link {
    /// The runtime, to spawn on the worker.
    pub(super) runtime: Handle,
    /// The worker's number in the runtime.
    pub(super) worker: usize,
    hook: OnceLock<HookHandle>,
    /// `None` after the end: a connection holds its link, and must not be held by it for ever.
    dirty: Mutex<Option<Vec<Arc<ConnectionShared>>>>,
    inbox: Mutex<Inbox>,
    stats: Mutex<EndpointStats>,
}

/// What waits for the worker.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) commands: Vec<Command>,
    pub(super) done: Vec<(ConnectionHandle, CryptoDone)>,
    pub(super) forwarded: Vec<Forwarded>,
    forwarded_bytes: usize,
    severed: bool,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.done.is_empty() && self.forwarded.is_empty()
    }
}

/// What an endpoint's handle asks of a worker.
pub(super) enum Command {
    Connect(Box<Connect>),
    /// Closes all connections.
    Close {
        code: ApplicationCode,
        reason: Arc<[u8]>,
    },
    /// What becomes of a client that waits for it.
    Decide(Box<Decision>),
    /// Accepts no more connections.
    StopAccepting,
}

/// A connection to make.
pub(super) struct Connect {
    pub(super) config: ClientConfig,
    pub(super) remote: SocketAddr,
    pub(super) server_name: String,
    /// With early data, if there can be some.
    pub(super) early_data: bool,
    pub(super) reply: oneshot::Sender<Result<Connection, ConnectError>>,
}

/// A datagram that landed on the wrong worker.
pub(super) struct Forwarded {
    pub(super) datagram: Box<[u8]>,
    pub(super) meta: DatagramMeta,
}

impl Link {
    pub(super) fn new(runtime: Handle, worker: usize) -> Self {
        Self {
            runtime,
            worker,
            hook: OnceLock::new(),
            dirty: Mutex::new(Some(Vec::new())),
            inbox: Mutex::default(),
            stats: Mutex::default(),
        }
    }

    /// The worker is there.
    pub(super) fn connect(&self, hook: HookHandle) {
        // A second hook would be a defect of the endpoint's construction, and the first stays right.
        let _ = self.hook.set(hook);
    }

    /// Puts a connection that has just become dirty on the list.
    pub(super) fn push_dirty(&self, connection: Arc<ConnectionShared>) {
        if let Some(dirty) = &mut *lock(&self.dirty) {
            dirty.push(connection);
        }
        self.ring();
    }

    /// Exchanges the list of dirty connections for an empty one.
    pub(super) fn take_dirty(&self, into: &mut Vec<Arc<ConnectionShared>>) {
        if let Some(dirty) = &mut *lock(&self.dirty) {
            std::mem::swap(dirty, into);
        }
    }

    /// False if the worker is gone.
    #[must_use]
    pub(super) fn command(&self, command: Command) -> bool {
        let mut inbox = lock(&self.inbox);
        if inbox.severed {
            // The command is dropped unlocked: it may hold a handle.
            drop(inbox);
            return false;
        }
        inbox.commands.push(command);
        drop(inbox);
        self.ring();
        true
    }

    pub(super) fn deliver(&self, connection: ConnectionHandle, done: CryptoDone) {
        let mut inbox = lock(&self.inbox);
        if !inbox.severed {
            inbox.done.push((connection, done));
        }
        drop(inbox);
        self.ring();
    }

    /// Hands over a batch of datagrams, as far as there is room.
    pub(super) fn forward(&self, batch: &mut Vec<Forwarded>) {
        let mut inbox = lock(&self.inbox);
        for forwarded in batch.drain(..) {
            let bytes = inbox.forwarded_bytes + forwarded.datagram.len();
            if !inbox.severed && bytes <= FORWARDED_BYTES {
                inbox.forwarded_bytes = bytes;
                inbox.forwarded.push(forwarded);
            }
        }
        drop(inbox);
        self.ring();
    }

    /// Exchanges the inbox for an empty one.
    pub(super) fn take_inbox(&self, into: &mut Inbox) {
        let mut inbox = lock(&self.inbox);
        if !inbox.is_empty() {
            into.severed = inbox.severed;
            into.forwarded_bytes = 0;
            std::mem::swap(&mut *inbox, into);
        }
    }

    /// The worker's part is gone.
    pub(super) fn sever(&self) {
        let mut inbox = lock(&self.inbox);
        let left = std::mem::replace(&mut *inbox, Inbox { severed: true, ..Inbox::default() });
        drop(inbox);
        // Who waits for a reply sees its sender go.
        drop(left);
        let dirty = lock(&self.dirty).take();
        drop(dirty);
    }

    pub(super) fn set_stats(&self, stats: EndpointStats) {
        *lock(&self.stats) = stats;
    }

    pub(super) fn stats(&self) -> EndpointStats {
        *lock(&self.stats)
    }

    /// Makes the worker look, unless the caller runs within its round: its hooks are still to come then.
    fn ring(&self) {
        if let Some(hook) = self.hook.get()
            && !hook.is_current()
        {
            hook.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(count: usize, len: usize) -> Vec<Forwarded> {
        let meta = DatagramMeta { remote: "192.0.2.1:1".parse().unwrap(), local: None, ecn: None };
        (0..count).map(|_| Forwarded { datagram: vec![0; len].into(), meta }).collect()
    }

    #[test]
    fn what_waits_to_be_taken_is_bounded() {
        weald_runtime::run(|| {
            let link = Link::new(Handle::current().unwrap(), 0);
            let mut inbox = Inbox::default();
            for _ in 0..2 {
                link.forward(&mut datagrams(2000, 1024));
                link.take_inbox(&mut inbox);
                assert_eq!(inbox.forwarded.len(), FORWARDED_BYTES / 1024);
                inbox.forwarded.clear();
            }
        });
    }

    #[test]
    fn after_the_end_nothing_is_taken_in() {
        weald_runtime::run(|| {
            let link = Link::new(Handle::current().unwrap(), 0);
            assert!(link.command(Command::StopAccepting));
            link.sever();
            assert!(!link.command(Command::StopAccepting));
            link.forward(&mut datagrams(1, 10));
            let mut inbox = Inbox::default();
            link.take_inbox(&mut inbox);
            assert!(inbox.is_empty());
        });
    }
}
