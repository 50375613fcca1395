//! A worker's connections, by their slot, and when each must be looked at.
//!
//! Owns the references that keep connections alive while the worker works for them, and the order of their deadlines. Does
//! not own the deadlines' meaning.
//!
//! Invariant: a connection has at most one armed deadline, which is never later than the one that was asked for. It may be
//! earlier: a deadline that moves away costs nothing until it passes, and most do move with every packet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::connection_shared::ConnectionShared;
use crate::handle::ConnectionHandle;
use crate::time::Instant;

/// Chunks never move, so that growth copies pointers to chunks only.
const CHUNK: usize = 1024;

#[derive(Default)]
pub(super) struct Table {
    chunks: Vec<Box<[Option<Entry>]>>,
    deadlines: BTreeSet<(Instant, ConnectionHandle)>,
}

struct Entry {
    connection: Arc<ConnectionShared>,
    armed: Option<Instant>,
}

impl Table {
    pub(super) fn insert(&mut self, connection: Arc<ConnectionShared>) {
        let slot = connection.handle.slot();
        while self.chunks.len() * CHUNK <= slot {
            self.chunks.push((0..CHUNK).map(|_| None).collect());
        }
        self.chunks[slot / CHUNK][slot % CHUNK] = Some(Entry { connection, armed: None });
    }

    pub(super) fn get(&self, handle: ConnectionHandle) -> Option<&Arc<ConnectionShared>> {
        let entry = self.chunks.get(handle.slot() / CHUNK)?[handle.slot() % CHUNK].as_ref()?;
        (entry.connection.handle == handle).then_some(&entry.connection)
    }

    pub(super) fn remove(&mut self, handle: ConnectionHandle) -> Option<Arc<ConnectionShared>> {
        let entry = self.entry(handle)?.take()?;
        if let Some(armed) = entry.armed {
            self.deadlines.remove(&(armed, handle));
        }
        Some(entry.connection)
    }

    /// All connections, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<ConnectionShared>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).flatten().map(|entry| &entry.connection)
    }

    /// The connection is to be looked at by `deadline`, if any.
    pub(super) fn arm(&mut self, handle: ConnectionHandle, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        let Some(Some(entry)) = self.entry(handle) else { return };
        let former = entry.armed;
        if former.is_some_and(|armed| armed <= deadline) {
            return;
        }
        entry.armed = Some(deadline);
        if let Some(former) = former {
            self.deadlines.remove(&(former, handle));
        }
        self.deadlines.insert((deadline, handle));
    }

    /// A connection whose armed deadline has passed; it is armed no more.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<ConnectionHandle> {
        let (_, handle) = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.deadlines.pop_first();
        if let Some(Some(entry)) = self.entry(handle) {
            entry.armed = None;
        }
        Some(handle)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn entry(&mut self, handle: ConnectionHandle) -> Option<&mut Option<Entry>> {
        let entry = self.chunks.get_mut(handle.slot() / CHUNK)?.get_mut(handle.slot() % CHUNK)?;
        entry.as_ref().is_some_and(|entry| entry.connection.handle == handle).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use weald_crypto::simulation::{SERVER_NAME, roots};
    use weald_runtime::Handle;

    use super::super::link::Link;
    use super::*;
    use crate::config::ClientConfig;
    use crate::endpoint::Endpoint;
    use crate::governor::Governor;
    use crate::handle::EndpointKeys;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// A table with so many connections, on a runtime.
    fn with_table(connections: usize, f: impl FnOnce(Table, Vec<ConnectionHandle>) + Send) {
        weald_runtime::run(|| {
            let tls = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(roots()).simulation(1).build().unwrap();
            let config = ClientConfig::new(tls);
            let mut endpoint = Endpoint::new(EndpointKeys::new(&[1; 32], 0, 0), 0, 1, None, 1);
            let link = Arc::new(Link::new(Handle::current().unwrap(), 0));
            let mut table = Table::default();
            let handles = (0..connections).map(|_| {
                let remote = "192.0.2.1:443".parse().unwrap();
                let (handle, protocol) = endpoint.connect(at(0), &config, remote, SERVER_NAME).unwrap();
                table.insert(Arc::new(ConnectionShared::new(Arc::clone(&link), handle, protocol, at(0), Governor::new(1 << 30).lease())));
                handle
            });
            let handles = handles.collect();
            f(table, handles);
        });
    }

    #[test]
    fn deadlines_come_in_order_and_those_that_moved_away_come_early() {
        with_table(3, |mut table, handles| {
            table.arm(handles[0], Some(at(30)));
            table.arm(handles[1], Some(at(20)));
            table.arm(handles[2], None);
            table.arm(handles[0], Some(at(10)));
            table.arm(handles[1], Some(at(90)));
            assert_eq!(table.next_deadline(), Some(at(10)));
            assert_eq!(table.take_due(at(9)), None);
            assert_eq!(table.take_due(at(25)), Some(handles[0]));
            assert_eq!(table.take_due(at(25)), Some(handles[1]));
            assert_eq!(table.take_due(at(100)), None, "one deadline a connection");
            table.arm(handles[1], Some(at(90)));
            assert_eq!(table.next_deadline(), Some(at(90)));
        });
    }

    #[test]
    fn removed_connections_are_not_found_and_not_due() {
        with_table(CHUNK + 1, |mut table, handles| {
            let last = handles[CHUNK];
            table.arm(last, Some(at(1)));
            assert!(table.get(last).is_some());
            assert!(table.remove(last).is_some());
            assert!(table.remove(last).is_none());
            assert!(table.get(last).is_none());
            assert_eq!(table.take_due(at(2)), None);
            table.arm(last, Some(at(1)));
            assert_eq!(table.next_deadline(), None);
            assert_eq!(table.iter().count(), CHUNK);
        });
    }
}
