//! Who waits for what on a connection or an endpoint.
//!
//! Owns the registrations. Does not own the lock that guards them, nor the conditions: who is woken looks again.
//!
//! Invariant: waking takes everyone off the list, so a ticket is on it only while its owner waits.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use weald_runtime::Coroutine;

use crate::stream_id::{Direction, StreamId};

/// What one can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

impl Key {
    /// The handshake is complete.
    pub(super) const CONNECTED: Key = Key(0);
    /// The connection is over.
    pub(super) const CLOSED: Key = Key(1);
    /// A stream has ended for good, or all datagrams are sent.
    pub(super) const FLUSHED: Key = Key(2);
    /// A connection to accept.
    pub(super) const ACCEPT: Key = Key(3);
    /// An endpoint's last connection is gone.
    pub(super) const IDLE: Key = Key(4);
    /// A client waits for the application's word.
    pub(super) const INCOMING: Key = Key(7);
    /// A datagram has arrived.
    pub(super) const DATAGRAM_READABLE: Key = Key(5);
    /// There is room for datagrams.
    pub(super) const DATAGRAM_WRITABLE: Key = Key(6);

    /// The peer has opened a stream.
    pub(super) fn opened(direction: Direction) -> Key {
        Key(8 + direction.index() as u64)
    }

    /// The peer allows another stream.
    pub(super) fn available(direction: Direction) -> Key {
        Key(16 + direction.index() as u64)
    }

    // Stream ids are below 2^62, and the constants below 2^62.

    /// A stream has something to read.
    pub(super) fn readable(id: StreamId) -> Key {
        Key(1 << 62 | id.as_u64())
    }

    /// A stream has room.
    pub(super) fn writable(id: StreamId) -> Key {
        Key(2 << 62 | id.as_u64())
    }

    /// A stream's sending part is over, by either end.
    pub(super) fn stopped(id: StreamId) -> Key {
        Key(3 << 62 | id.as_u64())
    }
}

/// The registrations of one connection or endpoint.
#[derive(Default)]
pub(super) struct Waits {
    // Waiting is the application's doing, so no peer chooses the keys.
    lists: HashMap<Key, List, BuildHasherDefault<KeyHasher>>,
    tickets: u64,
}

/// Nearly always there is one.
struct List {
    first: Option<(u64, Coroutine)>,
    others: Vec<(u64, Coroutine)>,
}

impl Waits {
    /// Registers the caller, and returns what [`Waits::leave`] needs.
    pub(super) fn enlist(&mut self, key: Key, waiter: Coroutine) -> u64 {
        let ticket = self.tickets;
        self.tickets += 1;
        let list = self.lists.entry(key).or_insert(List { first: None, others: Vec::new() });
        if list.first.is_none() {
            list.first = Some((ticket, waiter));
        } else {
            list.others.push((ticket, waiter));
        }
        ticket
    }

    /// Takes a registration back, if it was not used.
    pub(super) fn leave(&mut self, key: Key, ticket: u64) {
        let Some(list) = self.lists.get_mut(&key) else { return };
        list.first.take_if(|(other, _)| *other == ticket);
        list.others.retain(|(other, _)| *other != ticket);
        if list.first.is_none() && list.others.is_empty() {
            self.lists.remove(&key);
        }
    }

    /// Takes off the list all who wait for `key`.
    pub(super) fn wake(&mut self, key: Key, woken: &mut Woken) {
        if let Some(list) = self.lists.remove(&key) {
            woken.add(list);
        }
    }

    /// Takes everyone off.
    pub(super) fn wake_all(&mut self, woken: &mut Woken) {
        // In the order of their coming, so that a simulation does not depend on the table's.
        let mut lists: Vec<List> = self.lists.drain().map(|(_, list)| list).collect();
        lists.sort_by_key(|list| list.first.as_ref().or(list.others.first()).map(|(ticket, _)| *ticket));
        lists.into_iter().for_each(|list| woken.add(list));
    }
}

/// Who is to be woken, once nothing is locked.
#[derive(Default)]
#[must_use]
pub(super) struct Woken(Vec<Coroutine>);

impl Woken {
    fn add(&mut self, list: List) {
        self.0.extend(list.first.into_iter().chain(list.others).map(|(_, waiter)| waiter));
    }

    /// Wakes them. Keeps the memory for the next time.
    pub(super) fn fire(&mut self) {
        self.0.drain(..).for_each(|waiter| waiter.unpark());
    }
}

/// Spreads keys; they are not the peer's to choose.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, key: u64) {
        // The fraction of the golden ratio: neighbours land far from each other, in the high bits above all.
        self.0 = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_wait_for_a_key_are_woken_and_nobody_else() {
        let mut waits = Waits::default();
        let me = weald_runtime::current();
        let id = StreamId::new(crate::Side::Client, Direction::Bi, 7).unwrap();
        for key in [Key::readable(id), Key::writable(id), Key::readable(id), Key::CLOSED] {
            waits.enlist(key, me.clone());
        }
        let mut woken = Woken::default();
        waits.wake(Key::readable(id), &mut woken);
        assert_eq!(woken.0.len(), 2);
        waits.wake(Key::readable(id), &mut woken);
        assert_eq!(woken.0.len(), 2);
        waits.wake_all(&mut woken);
        assert_eq!(woken.0.len(), 4);
        assert!(waits.lists.is_empty());
    }

    #[test]
    fn who_left_is_not_woken() {
        let mut waits = Waits::default();
        let tickets: Vec<_> = (0..3).map(|_| waits.enlist(Key::CLOSED, weald_runtime::current())).collect();
        waits.leave(Key::CLOSED, tickets[0]);
        waits.leave(Key::CLOSED, tickets[2]);
        let mut woken = Woken::default();
        waits.wake_all(&mut woken);
        assert_eq!(woken.0.len(), 1);
        waits.leave(Key::CLOSED, tickets[1]);
        assert!(waits.lists.is_empty());
    }
}
