//! Connection ids that are sealed handles: what an id says, and how it is sealed and steered.
//!
//! An id is 18 bytes:
//!
//! ```text
//! octet 0        random from the sealed block's key stream; carries nothing (room for a load balancer's first octet)
//! octets 1..17   AES-128(server id: 2, worker: 1, form: 1 = 0, slot: 4, generation: 4, sequence: 4), big-endian
//! octet 17       worker XOR H(octets 1..17)
//! ```
//!
//! The block key is derived from the endpoint's secret and a boot epoch, so that an id of an earlier process opens to
//! noise. (slot, generation, sequence) never repeats under one key: the endpoint bumps a slot's generation when it is
//! freed, and retires the slot for good when the generation would wrap.
//!
//! `H` is arithmetic that classic BPF can do (it cannot do AES), so that the kernel picks the worker's socket from the
//! last octet. With `w[0..4]` the block's four big-endian 32-bit words and `k[0..5]` the words of [`SteeringKey`]:
//!
//! ```text
//! h = k[0]
//! for i in 0..4 { h = (h XOR w[i]) * k[i + 1];  h = h XOR (h >> 15) }      all modulo 2^32
//! H = h >> 24
//! ```
//!
//! Owns the seal. Does not own which slots live: `endpoint::slots` does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weald_crypto::{HandleCipher, ResetKey};

use crate::endpoint::route::KeyedHash;
use crate::endpoint::token::{Tokens, UsedTokens};
use crate::id::{ConnectionId, ResetToken};

/// Length of the ids that this endpoint issues.
pub(crate) const ID_LEN: usize = 18;

/// Names one connection of one worker's endpoint for as long as it lives, and never another one after it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionHandle {
    slot: u32,
    generation: u32,
}

impl ConnectionHandle {
    pub(crate) fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// Index into the table of connections of the owner of the endpoint. Small and reused.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// How many connections had this slot before.
    pub fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// The key of the steering octet: five words, of which the last four are odd. The module's head has the formula.
#[derive(Clone, Copy)]
pub struct SteeringKey([u32; 5]);

impl SteeringKey {
    fn new(material: [u8; 32]) -> Self {
        let mut words = [0; 5];
        for (word, bytes) in words.iter_mut().zip(material.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        // An even multiplier would throw bits away.
        for word in &mut words[1..] {
            *word |= 1;
        }
        Self(words)
    }

    /// The words `k[0..5]` of the formula, for a program that steers in the kernel.
    pub fn words(&self) -> [u32; 5] {
        self.0
    }

    fn hash(&self, block: &[u8; 16]) -> u8 {
        let mut hash = self.0[0];
        for (bytes, multiplier) in block.chunks_exact(4).zip(&self.0[1..]) {
            hash ^= u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            hash = hash.wrapping_mul(*multiplier);
            hash ^= hash >> 15;
        }
        (hash >> 24) as u8
    }

    /// The worker that the last octet of an id names; any number if the id is not ours.
    pub(crate) fn worker(&self, id: &[u8; ID_LEN]) -> u8 {
        let (block, octet) = split(id);
        octet ^ self.hash(block)
    }
}

/// What all workers of one endpoint share: the keys of connection ids, steering, stateless resets and tokens, which tokens
/// were used, and how many connections there are.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct EndpointKeys(Arc<Inner>);

struct Inner {
    server_id: u16,
    cipher: HandleCipher,
    steering: SteeringKey,
    reset: ResetKey,
    unpredictable: ResetKey,
    token_secret: [u8; 32],
    used_tokens: UsedTokens,
    /// Connections that were accepted and are not drained.
    accepted: AtomicUsize,
}

impl EndpointKeys {
    /// Keys from a secret of the deployment and the epoch of this start of the process.
    ///
    /// The reset key depends on the secret and the server's id, so that a process that was restarted with both resets the
    /// connections of its predecessor (RFC 9000 10.3.2), but never those of its neighbours, with which it shares the secret
    /// alone (RFC 9000 21.11). The id key depends on the epoch as well, which must not be used twice with one secret. Tokens
    /// of address validation depend on the secret alone.
    pub fn new(secret: &[u8; 32], boot_epoch: u64, server_id: u16) -> Self {
        Self::with_token_secret(secret, boot_epoch, server_id, None)
    }

    /// The same with another secret for tokens of address validation (RFC 9000 8.1.3), if there is one: all servers behind one
    /// address are to share it, even those that share no other.
    pub fn with_token_secret(secret: &[u8; 32], boot_epoch: u64, server_id: u16, token_secret: Option<&[u8; 32]>) -> Self {
        let root = ResetKey::new(secret);
        // Labels tell the derived keys apart.
        let derive = |label: &[u8; 24], number: u64| {
            let mut input = [0; 32];
            input[..24].copy_from_slice(label);
            input[24..].copy_from_slice(&number.to_be_bytes());
            root.token(&input)
        };
        let derive_long = |low: &[u8; 24], high: &[u8; 24], number: u64| {
            let mut material = [0; 32];
            material[..16].copy_from_slice(&derive(low, number));
            material[16..].copy_from_slice(&derive(high, number));
            material
        };
        let steering = derive_long(b"weald steering octet: lo", b"weald steering octet: hi", boot_epoch);
        let reset = derive_long(b"weald stateless reset lo", b"weald stateless reset hi", server_id.into());
        let tokens = derive_long(b"weald address tokens: lo", b"weald address tokens: hi", 0);
        let unpredictable = derive_long(b"weald unpredictable: lo ", b"weald unpredictable: hi ", boot_epoch);
        Self(Arc::new(Inner {
            server_id,
            cipher: HandleCipher::new(&derive(b"weald connection id seal", boot_epoch)),
            steering: SteeringKey::new(steering),
            reset: ResetKey::new(&reset),
            token_secret: *token_secret.unwrap_or(&tokens),
            used_tokens: UsedTokens::new(KeyedHash::new(derive(b"weald used tokens' table", boot_epoch))),
            unpredictable: ResetKey::new(&unpredictable),
            accepted: AtomicUsize::new(0),
        }))
    }

    /// The key that a kernel program needs to steer by the last octet of an id.
    pub fn steering(&self) -> SteeringKey {
        self.0.steering
    }

    pub(crate) fn issuer(&self, worker: u8, handle: ConnectionHandle) -> IdIssuer {
        IdIssuer { keys: self.clone(), worker, handle, next_sequence: 0 }
    }

    /// What an id says, or `None` if this endpoint did not make it.
    pub(crate) fn open(&self, id: &[u8]) -> Option<Opened> {
        let id: &[u8; ID_LEN] = id.try_into().ok()?;
        let (block, _) = split(id);
        let steered = self.0.steering.worker(id);
        let mut block = *block;
        self.0.cipher.open_block(&mut block);
        let [s0, s1, worker, form, rest @ ..] = block;
        if form != 0 || worker != steered || u16::from_be_bytes([s0, s1]) != self.0.server_id {
            return None;
        }
        // The first octet is bound to the block: an id has one spelling, or flipped bits would route.
        if id[0] != first_octet(split(id).0, self.0.steering) {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        Some(Opened { worker, handle: ConnectionHandle::new(word(0), word(4)), sequence: word(8) })
    }

    pub(crate) fn reset_token(&self, id: &[u8]) -> ResetToken {
        ResetToken::from(self.0.reset.token(id))
    }

    /// How many connections of all workers were accepted and are not drained.
    pub(crate) fn accepted(&self) -> usize {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are `limit` already.
    #[must_use]
    pub(crate) fn enter(&self, limit: Option<usize>) -> bool {
        // Relaxed: a count, which orders nothing else.
        let more = |count: usize| limit.is_none_or(|limit| count < limit).then_some(count + 1);
        self.0.accepted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one less.
    pub(crate) fn leave(&self) {
        self.0.accepted.fetch_sub(1, Ordering::Relaxed);
    }

    /// What seals and opens the tokens of one worker.
    pub(crate) fn tokens(&self) -> Tokens {
        Tokens::new(self.0.token_secret, self.0.used_tokens.clone())
    }

    /// Bytes that nobody without the secret can predict, for each value of `counter` once.
    pub(crate) fn unpredictable(&self, worker: u8, counter: u64) -> [u8; 16] {
        let mut input = [0; 9];
        input[0] = worker;
        input[1..].copy_from_slice(&counter.to_be_bytes());
        self.0.unpredictable.token(&input)
    }

    fn seal(&self, worker: u8, handle: ConnectionHandle, sequence: u32) -> ConnectionId {
        let mut block = [0; 16];
        block[..2].copy_from_slice(&self.0.server_id.to_be_bytes());
        block[2] = worker;
        block[4..8].copy_from_slice(&handle.slot.to_be_bytes());
        block[8..12].copy_from_slice(&handle.generation.to_be_bytes());
        block[12..].copy_from_slice(&sequence.to_be_bytes());
        self.0.cipher.seal_block(&mut block);
        let mut id = [0; ID_LEN];
        id[0] = first_octet(&block, self.0.steering);
        id[1..17].copy_from_slice(&block);
        id[17] = worker ^ self.0.steering.hash(&block);
        ConnectionId::new(&id).expect("18 is below the limit of 20")
    }
}

fn split(id: &[u8; ID_LEN]) -> (&[u8; 16], u8) {
    let [_, block @ .., octet] = id;
    (block, *octet)
}

fn first_octet(block: &[u8; 16], steering: SteeringKey) -> u8 {
    // Any keyed function of the block will do: nobody computes it but us.
    let mut turned = *block;
    turned.rotate_left(5);
    steering.hash(&turned)
}

impl fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointKeys").finish_non_exhaustive()
    }
}

/// What one of our ids says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) worker: u8,
    pub(crate) handle: ConnectionHandle,
    pub(crate) sequence: u32,
}

/// Makes the ids of one connection; lent to it when it is made, so that issuing needs no endpoint.
pub(crate) struct IdIssuer {
    keys: EndpointKeys,
    worker: u8,
    handle: ConnectionHandle,
    next_sequence: u32,
}

impl IdIssuer {
    /// The next id with its sequence number and the token that resets it. `None` after 2^32 ids.
    pub(crate) fn issue(&mut self) -> Option<(u32, ConnectionId, ResetToken)> {
        let sequence = self.issue_later()?;
        let (id, token) = self.reissue(sequence);
        Some((sequence, id, token))
    }

    /// The sequence number of the next id, which is made when it is sent. `None` after 2^32 ids.
    pub(crate) fn issue_later(&mut self) -> Option<u32> {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.checked_add(1)?;
        Some(sequence)
    }

    /// The id that was issued with this sequence number, made again.
    pub(crate) fn reissue(&self, sequence: u32) -> (ConnectionId, ResetToken) {
        let id = self.keys.seal(self.worker, self.handle, sequence);
        (id, self.keys.reset_token(id.as_slice()))
    }

    /// The sequence number of an id of this connection.
    pub(crate) fn sequence(&self, id: &[u8]) -> Option<u32> {
        let opened = self.keys.open(id)?;
        (opened.handle == self.handle && opened.sequence < self.next_sequence).then_some(opened.sequence)
    }

    /// As if all sequence numbers below had been issued.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, sequence: u32) {
        self.next_sequence = sequence;
    }

    /// How many were issued so far.
    pub(crate) fn issued(&self) -> u32 {
        self.next_sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(epoch: u64) -> EndpointKeys {
        EndpointKeys::new(&[7; 32], epoch, 3)
    }

    #[test]
    fn an_id_opens_to_what_was_sealed() {
        let keys = keys(1);
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..1000 {
            let handle = ConnectionHandle::new(rng.u32(..), rng.u32(..));
            let worker = rng.u8(..);
            let mut issuer = keys.issuer(worker, handle);
            for sequence in 0..3 {
                let (number, id, token) = issuer.issue().unwrap();
                assert_eq!(number, sequence);
                assert_eq!(keys.open(id.as_slice()), Some(Opened { worker, handle, sequence }));
                assert_eq!(issuer.sequence(id.as_slice()), Some(sequence));
                assert_eq!(issuer.reissue(sequence).0, id);
                assert_eq!(token.as_bytes(), keys.reset_token(id.as_slice()).as_bytes());
            }
        }
    }

    #[test]
    fn no_flipped_bit_opens() {
        let keys = keys(1);
        let (_, id, _) = keys.issuer(2, ConnectionHandle::new(5, 9)).issue().unwrap();
        for bit in 0..ID_LEN * 8 {
            let mut bytes = id.as_slice().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.open(&bytes), None, "bit {bit}");
        }
        assert_eq!(keys.open(&id.as_slice()[..17]), None);
    }

    #[test]
    fn an_id_of_an_earlier_boot_is_noise_but_its_reset_token_is_not() {
        let (before, after) = (keys(1), keys(2));
        let (_, id, token) = before.issuer(0, ConnectionHandle::new(0, 0)).issue().unwrap();
        assert_eq!(after.open(id.as_slice()), None);
        // RFC 9000 10.3.2: the token survives the restart.
        assert_eq!(after.reset_token(id.as_slice()).as_bytes(), token.as_bytes());
    }

    #[test]
    fn no_reset_token_follows_from_ids_and_other_tokens() {
        // RFC 9000 10.3.2, 21.11; CVE-2026-50009: whoever sees ids must not learn a token from them.
        let keys = keys(1);
        let mut seen = std::collections::HashSet::new();
        let mut flipped = 0;
        for slot in 0..25_000 {
            let mut issuer = keys.issuer(0, ConnectionHandle::new(slot, 0));
            let mut former = [0; 16];
            for _ in 0..4 {
                let (_, id, token) = issuer.issue().unwrap();
                let token = *token.as_bytes();
                assert!(seen.insert(token));
                // Nothing of the id stands in its token, and neighbours differ in half of their bits.
                assert!(id.windows(4).all(|part| !token.windows(4).any(|of_token| of_token == part)));
                flipped += token.iter().zip(&former).map(|(one, other)| u64::from((one ^ other).count_ones())).sum::<u64>();
                former = token;
            }
        }
        assert!((63..=65).contains(&(flipped / 100_000)), "{flipped}");
        let after = EndpointKeys::new(&[8; 32], 1, 3);
        let (_, id, token) = keys.issuer(0, ConnectionHandle::new(0, 0)).issue().unwrap();
        assert_ne!(after.reset_token(id.as_slice()).as_bytes(), token.as_bytes(), "another secret, another token");
    }

    #[test]
    fn servers_with_one_secret_do_not_reset_each_others_connections() {
        // RFC 9000 21.11
        let (ours, theirs) = (keys(1), EndpointKeys::new(&[7; 32], 1, 4));
        let (_, id, token) = ours.issuer(0, ConnectionHandle::new(0, 0)).issue().unwrap();
        assert_eq!(theirs.open(id.as_slice()), None);
        assert_ne!(theirs.reset_token(id.as_slice()).as_bytes(), token.as_bytes());
    }

    #[test]
    fn no_unpredictable_bytes_come_twice() {
        let mut seen = std::collections::HashSet::new();
        for keys in [keys(1), keys(2), EndpointKeys::new(&[8; 32], 1, 3)] {
            for worker in [0, 1, 255] {
                assert!((0..1000).all(|counter| seen.insert(keys.unpredictable(worker, counter))));
            }
        }
    }

    #[test]
    fn the_last_octet_steers_to_the_worker() {
        let keys = keys(1);
        for worker in 0..=255 {
            let (_, id, _) = keys.issuer(worker, ConnectionHandle::new(77, 1)).issue().unwrap();
            let id: [u8; ID_LEN] = id.as_slice().try_into().unwrap();
            assert_eq!(keys.steering().worker(&id), worker);
        }
    }

    #[test]
    fn the_steering_hash_is_the_documented_formula() {
        let key = SteeringKey(core::array::from_fn(|at| 0x9e37_79b9u32.wrapping_mul(at as u32 + 1) | 1));
        let block: [u8; 16] = core::array::from_fn(|at| at as u8 * 17);
        let k = key.words();
        let mut h = u64::from(k[0]);
        for i in 0..4 {
            let w = u32::from_be_bytes(block[4 * i..4 * i + 4].try_into().unwrap());
            h = ((h ^ u64::from(w)) * u64::from(k[i + 1])) & 0xffff_ffff;
            h ^= h >> 15;
        }
        assert_eq!(key.hash(&block), (h >> 24) as u8);
    }
}
