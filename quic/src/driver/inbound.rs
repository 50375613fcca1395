//! The first half of a worker's round: what came in from the network, from handles, from other workers, from the clock.
//!
//! Owns the feeding of connections: datagrams in a row for one connection go in under one lock, at most 16, so that a handle
//! waits some tens of microseconds at most. A datagram's bytes are read where the kernel put them.

use std::sync::Arc;

use weald_runtime::net::{Ecn, Transmit};

use super::connection::Connection;
use super::connection_shared::ConnectionRef;
use super::error::ConnectError;
use super::handshakes::Allowance;
use super::link::{Command, Connect, Forwarded, Inbox};
use super::worker::{Core, WorkerEndpoint};
use crate::connection::DatagramMeta;
use crate::ecn::EcnMark;
use crate::endpoint::{Admission, Incoming, Routed};
use crate::handle::ConnectionHandle;
use crate::pressure::{Pressure, Shortage};
use crate::refusal::Refusal;
use crate::time::Instant;

/// Datagrams that a connection is fed under one lock.
const RUN: usize = 16;

/// Steps of TLS whose results are taken in a round: each makes its connection seal some packets and open others.
const RESULTS_A_ROUND: usize = 16;
/// The same while applications have data.
const RESULTS_A_ROUND_WITH_DATA: usize = 2;

/// Datagrams in a row for one connection.
struct Run<'a> {
    connection: Option<ConnectionHandle>,
    datagrams: [&'a [u8]; RUN],
    metas: [Option<DatagramMeta>; RUN],
    len: usize,
}

impl WorkerEndpoint {
    /// Takes one batch from the socket. Says whether there was one.
    pub(super) fn receive(&mut self, now: Instant) -> bool {
        if !self.socket.is_readable() {
            return false;
        }
        match self.socket.try_recv_batch(&mut self.received) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                tracing::warn!(%error, "cannot receive");
                return false;
            }
        }
        let mut run = Run::new();
        for train in self.received.iter() {
            let meta = DatagramMeta { remote: train.remote, local: train.local, ecn: train.ecn.and_then(mark) };
            for datagram in train.segments() {
                if !self.core.handshakes.must_wait(datagram, meta.remote) {
                    self.core.route(now, datagram, meta, &mut run);
                } else if !self.core.handshakes.push(datagram, meta) {
                    self.core.endpoint.count_shed();
                }
            }
        }
        self.core.feed(now, &mut run);
        true
    }
}

impl Core {
    /// Handles some of the datagrams that waited for those of established connections. Says whether there were any.
    pub(super) fn take_handshakes(&mut self, now: Instant) -> bool {
        let mut allowance = Allowance::new(self.executor.has_data(now));
        let mut busy = false;
        while !allowance.is_spent()
            && let Some((datagram, meta)) = self.handshakes.pop()
        {
            let mut run = Run::new();
            allowance.spend(self.route(now, &datagram, meta, &mut run));
            self.feed(now, &mut run);
            busy = true;
        }
        busy
    }

    /// Sends datagrams that belong elsewhere there.
    pub(super) fn forward(&mut self) {
        for (worker, batch) in self.forwarding.iter_mut().enumerate() {
            if !batch.is_empty() {
                self.shared.links[worker].forward(batch);
            }
        }
    }

    /// Adds a datagram to the run, or does with it whatever else is to be done. Says whether a connection has, or had, work with it.
    fn route<'a>(&mut self, now: Instant, datagram: &'a [u8], meta: DatagramMeta, run: &mut Run<'a>) -> bool {
        match self.endpoint.receive(now, datagram, meta) {
            Routed::Existing(connection) => {
                if run.connection != Some(connection) || run.len == RUN {
                    self.feed(now, run);
                    run.connection = Some(connection);
                }
                run.push(datagram, meta);
                return true;
            }
            Routed::Incoming(incoming) => {
                // A connection that is made now may be the one of the run's next datagrams, not of those before.
                self.feed(now, run);
                return self.accept(now, incoming, datagram, meta);
            }
            Routed::Forward { worker } => {
                if let Some(batch) = self.forwarding.get_mut(usize::from(worker)) {
                    batch.push(Forwarded { datagram: datagram.into(), meta });
                }
            }
            Routed::Answer(answer) => self.answer(&answer, meta),
            Routed::Dropped => {}
        }
        false
    }

    /// Gives the run to its connection.
    fn feed(&mut self, now: Instant, run: &mut Run<'_>) {
        let Some(handle) = run.connection.take() else { return };
        if let Some(connection) = self.table.get(handle).cloned() {
            let mut state = connection.lock_in_place();
            for (datagram, meta) in run.datagrams.iter().zip(&run.metas).take(run.len) {
                let Some(meta) = meta else { continue };
                if state.must_lose(datagram) {
                    self.endpoint.count_shed();
                } else {
                    state.work(now, |protocol| protocol.receive(now, datagram, *meta, &mut self.scratch));
                }
            }
            self.mark(&connection);
            self.settle(now, &connection, state);
        }
        run.len = 0;
    }

    /// Says whether its keys were derived.
    fn accept(&mut self, now: Instant, incoming: Incoming, datagram: &[u8], meta: DatagramMeta) -> bool {
        let shortage = Shortage { memory: self.shared.governor.pressure(), processors: self.executor.pressure(now) };
        let admission = if self.shared.has_room() { self.endpoint.admit(&incoming, shortage) } else { Admission::Refuse(Refusal::Backlog) };
        if shortage.processors > Pressure::None && admission != Admission::Accept {
            self.endpoint.count_overload();
        }
        let answer = match admission {
            Admission::Accept if self.shared.screens => {
                if self.ask(now, incoming, datagram, meta) {
                    return false;
                }
                self.endpoint.refuse(now, incoming, Refusal::Backlog)
            }
            Admission::Accept => match self.endpoint.accept(now, incoming, datagram, meta) {
                Ok((handle, protocol)) => {
                    let connection = self.insert(now, handle, protocol);
                    self.mark(&connection);
                    self.settle(now, &connection, connection.lock_in_place());
                    return true;
                }
                Err(error) => {
                    tracing::debug!(remote = %meta.remote, %error, "a client was not accepted");
                    return true;
                }
            },
            Admission::Retry => self.endpoint.retry(now, incoming),
            Admission::Refuse(reason) => self.endpoint.refuse(now, incoming, reason),
        };
        if let Some(answer) = answer {
            self.answer(&answer, meta);
        }
        false
    }

    /// Answers a datagram that is for no connection, if there is room: who is not answered asks again.
    pub(super) fn answer(&mut self, answer: &[u8], meta: DatagramMeta) {
        let Some(room) = self.sending.reserve().get_mut(..answer.len()) else { return };
        room.copy_from_slice(answer);
        let (remote, local) = (meta.remote, meta.local);
        self.sending.commit(Transmit { remote, local, ecn: None, len: answer.len(), segment_size: None });
    }

    /// Does what handles ask, and takes in finished steps of TLS and datagrams that landed elsewhere. Says whether there was
    /// anything.
    pub(super) fn take_inbox(&mut self, now: Instant) -> bool {
        let mut inbox = std::mem::take(&mut self.inbox);
        self.link.take_inbox(&mut inbox);
        let Inbox { commands, done, forwarded, .. } = &mut inbox;
        done.iter().for_each(|_| self.executor.on_done(now));
        self.results.extend(done.drain(..));
        let busy = !(commands.is_empty() && self.results.is_empty() && forwarded.is_empty());
        let results = if self.executor.has_data(now) { RESULTS_A_ROUND_WITH_DATA } else { RESULTS_A_ROUND };
        for _ in 0..results {
            let Some((handle, done)) = self.results.pop_front() else { break };
            if let Some(connection) = self.table.get(handle).cloned() {
                let mut state = connection.lock_in_place();
                state.work(now, |protocol| protocol.on_crypto_done(now, done, &mut self.scratch));
                self.mark(&connection);
                self.settle(now, &connection, state);
            }
        }
        let mut run = Run::new();
        for Forwarded { datagram, meta } in forwarded.iter() {
            // What does not belong here either is dropped: it was forwarded once.
            self.route(now, datagram, *meta, &mut run);
        }
        self.feed(now, &mut run);
        self.forwarding.iter_mut().for_each(Vec::clear);
        forwarded.clear();
        for command in commands.drain(..) {
            match command {
                Command::Connect(connect) => self.connect(now, *connect),
                Command::Decide(decision) => self.decide(now, *decision),
                Command::Close { code, reason } => self.close_all(now, code, &reason),
                Command::StopAccepting => self.endpoint.set_server(None),
            }
        }
        self.inbox = inbox;
        busy
    }

    fn connect(&mut self, now: Instant, connect: Connect) {
        let Connect { config, remote, server_name, early_data, reply } = connect;
        let connected = if early_data {
            self.endpoint.connect_0rtt(now, &config, remote, &server_name)
        } else {
            self.endpoint.connect(now, &config, remote, &server_name)
        };
        let answer = match connected {
            Ok((handle, protocol)) => {
                let connection = self.insert(now, handle, protocol);
                let answer = Connection::new(ConnectionRef::new(Arc::clone(&connection)));
                self.mark(&connection);
                self.settle(now, &connection, connection.lock_in_place());
                Ok(answer)
            }
            Err(error) => Err(ConnectError::from(error)),
        };
        // Who asked may have been cancelled; the handle in the answer then closes the connection.
        drop(reply.send(answer));
    }

    /// Tells connections whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        for _ in 0..self.waiting.expire(now) {
            self.endpoint.count_refusal(Refusal::Backlog);
        }
        let mut due = Vec::new();
        while let Some(handle) = self.table.take_due(now) {
            due.push(handle);
        }
        for handle in &due {
            let Some(connection) = self.table.get(*handle).cloned() else { continue };
            let mut state = connection.lock_in_place();
            // Most deadlines have moved away by the time at which they were armed.
            if state.protocol.next_timeout().is_some_and(|deadline| deadline <= now) {
                state.work(now, |protocol| protocol.on_timeout(now));
                self.mark(&connection);
            }
            self.settle(now, &connection, state);
        }
        !due.is_empty()
    }
}

impl<'a> Run<'a> {
    fn new() -> Self {
        Self { connection: None, datagrams: [&[]; RUN], metas: [None; RUN], len: 0 }
    }

    fn push(&mut self, datagram: &'a [u8], meta: DatagramMeta) {
        self.datagrams[self.len] = datagram;
        self.metas[self.len] = Some(meta);
        self.len += 1;
    }
}

fn mark(ecn: Ecn) -> Option<EcnMark> {
    EcnMark::from_bits(ecn.bits())
}
