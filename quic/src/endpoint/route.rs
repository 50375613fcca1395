//! Which connection a datagram belongs to, while ids alone do not say it: first packets carry an id that the client made up.
//!
//! Owns the table from (remote address, original destination id) to connection. It is bounded by the limit on pending
//! handshakes, and keyed so that a peer cannot choose colliding entries.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

use crate::handle::ConnectionHandle;
use crate::id::ConnectionId;

/// Builds hashers whose key the peer does not know.
#[derive(Clone)]
pub(crate) struct KeyedHash([u8; 16]);

impl KeyedHash {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(key)
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Connections by the address and the first id of clients whose handshake is not confirmed.
pub(crate) struct Initials {
    table: HashMap<(SocketAddr, ConnectionId), ConnectionHandle, KeyedHash>,
}

impl Initials {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self { table: HashMap::with_hasher(hash) }
    }

    pub(crate) fn insert(&mut self, remote: SocketAddr, original: ConnectionId, handle: ConnectionHandle) {
        self.table.insert((remote, original), handle);
    }

    pub(crate) fn remove(&mut self, remote: SocketAddr, original: ConnectionId) {
        self.table.remove(&(remote, original));
    }

    pub(crate) fn find(&self, remote: SocketAddr, destination: ConnectionId) -> Option<ConnectionHandle> {
        self.table.get(&(remote, destination)).copied()
    }

    /// How many handshakes are pending.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_collide_under_one_key_do_not_under_another() {
        // A peer that finds ids for one bucket of a table whose key it knows must not have found them for ours.
        let remote: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let bucket = |hash: &KeyedHash, number: u32| {
            let id = ConnectionId::new(&[&[0; 4][..], &number.to_be_bytes()].concat()).unwrap();
            hash.hash_one((remote, id)) % 1024
        };
        let (known, secret) = (KeyedHash::new([0; 16]), KeyedHash::new([7; 16]));
        let colliding: Vec<_> = (0..100_000).filter(|number| bucket(&known, *number) == 5).collect();
        assert!((50..200).contains(&colliding.len()), "{}", colliding.len());
        let mut buckets = [0; 1024];
        for number in &colliding {
            buckets[bucket(&secret, *number) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| *count < 6), "{buckets:?}");
    }
}
