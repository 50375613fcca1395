//! One worker's part of an endpoint: a hook that runs in every round of the worker, on the worker's own stack.
//!
//! Owns the socket, the protocol's endpoint, and the table of connections. `inbound` is the first half of a round,
//! `outbound` the second; here is what both need, and how it begins and ends.
//!
//! Invariants:
//! - A connection that was given input is dirty, so that the same round's second half asks it for what follows.
//! - A job of TLS runs with nothing locked.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};

use weald_runtime::net::{RecvBatch, SendBatch, UdpSocket};
use weald_runtime::{Hook, Progress, RoundContext};

use super::connection::Connection;
use super::connection_shared::{ConnectionRef, ConnectionShared, State};
use super::endpoint_shared::EndpointShared;
use super::executor::Executor;
use super::handshakes::Handshakes;
use super::host;
use super::incoming::Waiting;
use super::instant;
use super::link::{Forwarded, Inbox, Link};
use super::table::Table;
use super::waits::Woken;
use crate::connection::{CryptoDone, Scratch};
use crate::endpoint::Endpoint;
use crate::error::{ApplicationCode, ConnectionError};
use crate::handle::ConnectionHandle;
use crate::protocol;
use crate::stats::EndpointStats;
use crate::time::Instant;

/// The hook.
pub(super) struct WorkerEndpoint {
    pub(super) socket: UdpSocket,
    pub(super) received: RecvBatch,
    pub(super) core: Core,
}

/// Everything but the socket and what was received.
pub(super) struct Core {
    pub(super) shared: Arc<EndpointShared>,
    pub(super) link: Arc<Link>,
    pub(super) endpoint: Endpoint,
    pub(super) table: Table,
    pub(super) sending: SendBatch,
    /// Connections with news, the longest waiting first.
    pub(super) dirty: VecDeque<Arc<ConnectionShared>>,
    pub(super) newly_dirty: Vec<Arc<ConnectionShared>>,
    pub(super) executor: Executor,
    pub(super) inbox: Inbox,
    /// Steps of TLS that have come back and wait for their turn.
    pub(super) results: VecDeque<(ConnectionHandle, CryptoDone)>,
    pub(super) handshakes: Handshakes,
    /// Datagrams for other workers, by worker.
    pub(super) forwarding: Vec<Vec<Forwarded>>,
    pub(super) woken: Woken,
    pub(super) waiting: Waiting,
    pub(super) scratch: Scratch,
    told: EndpointStats,
    ended: bool,
}

impl WorkerEndpoint {
    pub(super) fn new(socket: UdpSocket, endpoint: Endpoint, shared: Arc<EndpointShared>, link: Arc<Link>) -> Self {
        let forwarding = shared.links.iter().map(|_| Vec::new()).collect();
        let executor = Executor::new(shared.crypto_pool.clone(), Arc::clone(&link), host::has_processors_to_spare(shared.links.len()));
        let core = Core {
            shared,
            link,
            endpoint,
            table: Table::default(),
            sending: SendBatch::new(),
            dirty: VecDeque::new(),
            newly_dirty: Vec::new(),
            executor,
            inbox: Inbox::default(),
            results: VecDeque::new(),
            handshakes: Handshakes::default(),
            forwarding,
            woken: Woken::default(),
            waiting: Waiting::default(),
            scratch: Scratch::default(),
            told: EndpointStats::default(),
            ended: false,
        };
        Self { socket, received: RecvBatch::new(), core }
    }
}

impl Hook for WorkerEndpoint {
    fn poll(&mut self, context: &mut RoundContext<'_>) -> Progress {
        let now = instant(context.now());
        let mut busy = self.core.take_inbox(now);
        busy |= self.receive(now);
        busy |= self.core.take_handshakes(now);
        self.core.forward();
        busy |= self.core.expire(now);
        busy |= self.core.run_jobs(now);
        busy |= !self.core.handshakes.is_empty() || !self.core.results.is_empty();
        progress(busy)
    }

    fn flush(&mut self, context: &mut RoundContext<'_>) -> Progress {
        let busy = self.transmit(instant(context.now()));
        self.core.tell_stats();
        progress(busy)
    }

    fn next_timeout(&self) -> Option<weald_runtime::time::Instant> {
        let core = &self.core;
        let deadlines = [core.table.next_deadline(), core.waiting.next_deadline(), core.executor.next_deadline()];
        let deadline = deadlines.into_iter().flatten().min()?;
        Some(weald_runtime::time::Instant::from_nanos(deadline.as_nanos()))
    }

    fn may_spin(&self) -> bool {
        self.core.executor.may_spin()
    }

    fn shutdown(&mut self, context: &mut RoundContext<'_>) {
        let now = instant(context.now());
        // No coroutine is left to close what is open. Peers are told once, if the socket takes it.
        self.core.close_all(now, ApplicationCode::from_u32(0), b"");
        self.transmit(now);
        self.core.end();
    }
}

impl Drop for WorkerEndpoint {
    fn drop(&mut self) {
        self.core.end();
    }
}

impl Core {
    /// Enters a new connection into the table.
    pub(super) fn insert(&mut self, now: Instant, handle: ConnectionHandle, protocol: protocol::Connection) -> Arc<ConnectionShared> {
        let connection = Arc::new(ConnectionShared::new(Arc::clone(&self.link), handle, protocol, now, self.shared.governor.lease()));
        self.table.insert(Arc::clone(&connection));
        self.shared.on_inserted();
        connection
    }

    /// Looks at everything that an input or a verb may have caused, except datagrams. Takes the lock so that wakes fire, and
    /// handles go, without it.
    pub(super) fn settle(&mut self, now: Instant, connection: &Arc<ConnectionShared>, mut state: MutexGuard<'_, State>) {
        let handle = connection.handle;
        state.account();
        if state.take_events(now, &mut self.woken) {
            self.executor.on_data(now);
        }
        while let Some(job) = state.protocol.poll_crypto_job() {
            self.executor.push(now, handle, job);
        }
        let mut over = false;
        while let Some(event) = state.protocol.poll_endpoint_event() {
            over |= self.endpoint.on_event(handle, event);
        }
        let announces = state.announce();
        let deadline = state.protocol.next_timeout();
        drop(state);
        self.woken.fire();
        if announces {
            self.shared.announce(Connection::new(ConnectionRef::new(Arc::clone(connection))));
        }
        if over {
            if self.table.remove(handle).is_some() {
                self.shared.on_removed();
            }
        } else {
            self.table.arm(handle, deadline);
        }
    }

    /// Puts a connection on the list for the second half of the round.
    pub(super) fn mark(&mut self, connection: &Arc<ConnectionShared>) {
        if connection.set_dirty() {
            self.dirty.push_back(Arc::clone(connection));
        }
    }

    /// Has steps of TLS run, and takes results that are there at once.
    fn run_jobs(&mut self, now: Instant) -> bool {
        let table = &self.table;
        let busy = self.executor.run(now, |connection| table.get(connection).is_some());
        if busy {
            self.take_inbox(now);
        }
        busy
    }

    pub(super) fn close_all(&mut self, now: Instant, code: ApplicationCode, reason: &[u8]) {
        let connections: Vec<_> = self.table.iter().cloned().collect();
        for connection in connections {
            let mut state = connection.lock_in_place();
            state.work(now, |protocol| protocol.close(now, code, reason));
            self.mark(&connection);
            self.settle(now, &connection, state);
        }
    }

    fn tell_stats(&mut self) {
        let stats = self.endpoint.stats();
        if stats != self.told {
            self.told = stats;
            self.link.set_stats(stats);
        }
    }

    /// Nobody will work for the connections any more: all who wait are told.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.link.sever();
        self.dirty.clear();
        let connections: Vec<_> = self.table.iter().cloned().collect();
        for connection in connections {
            connection.lock_in_place().end(ConnectionError::LocallyClosed, &mut self.woken);
            self.woken.fire();
            if self.table.remove(connection.handle).is_some() {
                self.shared.on_removed();
            }
        }
        // Other workers' parts may live on for a moment, but the endpoint does not.
        self.shared.stop_accepting();
    }
}

fn progress(busy: bool) -> Progress {
    if busy { Progress::Busy } else { Progress::Idle }
}
