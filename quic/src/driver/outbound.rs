//! The second half of a worker's round: every dirty connection is asked for its datagrams, which leave in batches.
//!
//! Owns fairness between connections, and what happens when the socket is full: datagrams that are sealed wait, and no more
//! are built. Trains are formed by the batch, of what has one size and one way.

use std::io;
use std::sync::Arc;

use weald_runtime::net::{Ecn, Transmit};

use super::connection_shared::ConnectionShared;
use super::worker::{Core, WorkerEndpoint};
use crate::ecn::EcnMark;
use crate::time::Instant;

/// Bytes that a connection may send before others get their turn: the longest train.
const QUANTUM: usize = 1 << 16;

/// Room that a datagram needs, whatever its connection's MTU.
const LARGEST_DATAGRAM: usize = 1 << 16;

impl WorkerEndpoint {
    /// Says whether there is more to send at once.
    pub(super) fn transmit(&mut self, now: Instant) -> bool {
        if !self.send() {
            return false;
        }
        let core = &mut self.core;
        core.link.take_dirty(&mut core.newly_dirty);
        core.dirty.extend(core.newly_dirty.drain(..));
        // Those that come back to the end of the list have had their turn.
        for _ in 0..self.core.dirty.len() {
            if self.core.sending.reserve().len() < QUANTUM + LARGEST_DATAGRAM && !self.send() {
                return false;
            }
            let Some(connection) = self.core.dirty.pop_front() else { break };
            self.core.transmit(now, &connection);
        }
        self.send() && !self.core.dirty.is_empty()
    }

    /// Sends what waits. False if the socket is full: the worker then sleeps until it is not.
    fn send(&mut self) -> bool {
        let sending = &mut self.core.sending;
        while !sending.is_empty() {
            match self.socket.try_send_batch(sending) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    tracing::warn!(%error, "cannot send");
                    sending.clear();
                }
            }
        }
        for refused in sending.drain_refused() {
            // To the protocol it is lost, and either sent again or given up.
            tracing::debug!(remote = %refused.remote, len = refused.len, error = %refused.error, "a datagram was refused");
        }
        true
    }
}

impl Core {
    fn transmit(&mut self, now: Instant, connection: &Arc<ConnectionShared>) {
        connection.take_dirty();
        if self.table.get(connection.handle).is_none() {
            return;
        }
        let mut state = connection.lock_in_place();
        let mut bytes = 0;
        let mut has_more = false;
        loop {
            let (sending, scratch) = (&mut self.sending, &mut self.scratch);
            // What a panic interrupted is asked once more, for its close.
            let mut ask = || state.work(now, |protocol| protocol.transmit(now, sending.reserve(), scratch));
            let Some(datagram) = ask().or_else(ask).flatten() else { break };
            let ecn = datagram.ecn.and_then(|mark| Ecn::from_bits(EcnMark::bits(mark)));
            let (remote, local, len) = (datagram.remote, datagram.local, datagram.len);
            self.sending.commit(Transmit { remote, local, ecn, len, segment_size: Some(len) });
            bytes += len;
            if bytes >= QUANTUM || self.sending.reserve().len() < LARGEST_DATAGRAM {
                has_more = true;
                break;
            }
        }
        self.settle(now, connection, state);
        if has_more {
            self.mark(connection);
        }
    }
}
