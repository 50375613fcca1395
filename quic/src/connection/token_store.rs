//! Tokens for a client's next connection to the same server (RFC 9000 8.1.3, 19.7): the one that a server gives, and where a
//! client keeps those that it is given.
//!
//! Owns NEW_TOKEN. What a token says is the endpoint's of the server that made it.
//!
//! Invariants: a server gives one token a connection; a client keeps no more than [`KEPT`] of a connection, and
//! [`MemoryTokenStore`] no more than a few of each of a few servers, whatever comes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::token::Token;
use crate::wire::frame::NewToken;
use crate::wire::{FrameWriter, Version};

/// Tokens of one connection that a client keeps: a server that sends more has changed its mind, or means harm.
const KEPT: u8 = 4;

/// A longer token leaves too little room for the rest in the datagrams of 1200 bytes that a handshake begins with.
const MAX_TOKEN: usize = 512;

/// Where a client keeps tokens between connections, for example in a file. A token lets the server know the client's
/// address at once, so that the handshake takes no detour over a Retry.
///
/// A server that sees a token again knows that it is the same client (RFC 9000 8.1.3), so each is used once.
pub trait TokenStore: Send + Sync {
    /// Keeps a token of the server of this name, from a connection of this version; as many as there is room for. Called on the
    /// worker that the connection lives on: it must not block.
    fn put(&self, server_name: &str, version: Version, token: Vec<u8>);

    /// Takes out the best token for the server of this name: the one that came last. It is good for a connection of the version
    /// that it came from, and for no other (RFC 9369 5).
    fn take(&self, server_name: &str, version: Version) -> Option<Vec<u8>>;
}

/// A server's name, a version, and the tokens of both.
type Server = (Box<str>, Version, Vec<Vec<u8>>);

/// Keeps tokens for as long as the process lives: two of each of the 16 servers that gave some last, where a
/// server that speaks two versions counts twice.
#[derive(Default)]
pub struct MemoryTokenStore {
    /// By server, the one that gave a token last at the end; its tokens in the order in which they came.
    servers: Mutex<VecDeque<Server>>,
}

impl MemoryTokenStore {
    const SERVERS: usize = 16;
    const TOKENS: usize = 2;

    /// A store with nothing in it.
    pub fn new() -> MemoryTokenStore {
        MemoryTokenStore::default()
    }

    fn with<T>(&self, f: impl FnOnce(&mut VecDeque<Server>) -> T) -> T {
        // Nothing panics under the lock.
        f(&mut self.servers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TokenStore for MemoryTokenStore {
    fn put(&self, server_name: &str, version: Version, token: Vec<u8>) {
        self.with(|servers| {
            let known = position(servers, server_name, version).and_then(|at| servers.remove(at));
            let (name, version, mut tokens) = known.unwrap_or_else(|| (server_name.into(), version, Vec::new()));
            if tokens.len() == Self::TOKENS {
                tokens.remove(0);
            }
            tokens.push(token);
            if servers.len() == Self::SERVERS {
                servers.pop_front();
            }
            servers.push_back((name, version, tokens));
        });
    }

    fn take(&self, server_name: &str, version: Version) -> Option<Vec<u8>> {
        self.with(|servers| {
            let at = position(servers, server_name, version)?;
            let token = servers[at].2.pop();
            if servers[at].2.is_empty() {
                servers.remove(at);
            }
            token
        })
    }
}

fn position(servers: &VecDeque<Server>, server_name: &str, version: Version) -> Option<usize> {
    servers.iter().position(|(name, of, _)| **name == *server_name && *of == version)
}

impl fmt::Debug for MemoryTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTokenStore").field("servers", &self.with(|servers| servers.len())).finish_non_exhaustive()
    }
}

/// A connection's part in it.
#[derive(Default)]
pub(crate) struct NextToken(Option<Box<Role>>);

enum Role {
    /// At a server: the token, and whether it is to be sent now. Before the version is final, one for each that it may be.
    Gives { tokens: Vec<(Version, Vec<u8>)>, owed: bool },
    /// At a client: where its tokens go, and how many more are kept.
    Keeps { store: Arc<dyn TokenStore>, server_name: Box<str>, left: u8 },
}

impl NextToken {
    /// At a server: of `tokens`, the one for the version that is agreed on is sent once the handshake is confirmed.
    pub(crate) fn give(tokens: Vec<(Version, Vec<u8>)>) -> NextToken {
        NextToken(Some(Box::new(Role::Gives { tokens, owed: false })))
    }

    /// At a client: tokens of the server go into the store.
    pub(crate) fn keep(store: Arc<dyn TokenStore>, server_name: &str) -> NextToken {
        NextToken(Some(Box::new(Role::Keeps { store, server_name: server_name.into(), left: KEPT })))
    }

    /// The handshake is confirmed: the client is at its address.
    pub(crate) fn on_confirmed(&mut self, version: Version) {
        if let Some(Role::Gives { tokens, .. }) = self.0.as_deref_mut() {
            // RFC 9369 5: it is one of the version that was agreed on.
            tokens.retain(|(of, _)| *of == version);
        }
        self.set_owed();
    }

    pub(crate) fn on_frame(&mut self, frame: &NewToken<'_>, version: Version) {
        if let Some(Role::Keeps { store, server_name, left }) = self.0.as_deref_mut()
            && frame.token.len() <= MAX_TOKEN
        {
            store.put(server_name, version, frame.token.to_vec());
            *left -= 1;
            if *left == 0 {
                self.0 = None;
            }
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        matches!(self.0.as_deref(), Some(Role::Gives { owed: true, .. }))
    }

    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) {
        if let Some(Role::Gives { tokens, owed: owed @ true }) = self.0.as_deref_mut()
            && let Some((_, token)) = tokens.first()
            && out.frame(&NewToken { token }, Token::AddressProof)
        {
            *owed = false;
        }
    }

    pub(crate) fn on_acked(&mut self) {
        self.0 = None;
    }

    pub(crate) fn on_lost(&mut self) {
        self.set_owed();
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        let contents = match self.0.as_deref() {
            None => return 0,
            Some(Role::Gives { tokens, .. }) => tokens.iter().map(|(_, token)| size_of::<(Version, Vec<u8>)>() + token.capacity()).sum(),
            Some(Role::Keeps { server_name, .. }) => server_name.len(),
        };
        size_of::<Role>() + contents
    }

    fn set_owed(&mut self) {
        if let Some(Role::Gives { owed, .. }) = self.0.as_deref_mut() {
            *owed = true;
        }
    }
}

/// What a client's first packets carry, if it may.
pub(crate) fn usable(token: Option<Vec<u8>>) -> Vec<u8> {
    token.filter(|token| token.len() <= MAX_TOKEN).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_holds_the_last_tokens_of_the_last_servers() {
        let store = MemoryTokenStore::new();
        for round in 0..10_000u32 {
            store.put(&format!("host-{}", round % 100), Version::V1, round.to_be_bytes().to_vec());
        }
        // Only the last sixteen have any, and of each round one.
        let mut kept = 0;
        for host in 0..100u32 {
            let name = format!("host-{host}");
            let last = store.take(&name, Version::V1);
            assert_eq!(last, (host >= 84).then(|| (9900 + host).to_be_bytes().to_vec()));
            kept += usize::from(last.is_some());
            // A server that was forgotten and comes again begins anew.
            assert_eq!(store.take(&name, Version::V1), None);
        }
        assert_eq!(kept, 16);
        for number in 0..5 {
            store.put("one", Version::V1, vec![number]);
        }
        // RFC 9369 5: of another version it would prove nothing.
        store.put("one", Version::V2, vec![5]);
        let take = || store.take("one", Version::V1);
        assert_eq!([take(), take(), take()], [Some(vec![4]), Some(vec![3]), None]);
        assert_eq!(store.take("one", Version::V2), Some(vec![5]));
        assert_eq!(store.with(|servers| servers.len()), 0);
    }

    #[test]
    fn of_endless_tokens_a_client_keeps_four_of_those_that_fit() {
        // RFC 9000 8.1.3 sets no bound.
        #[derive(Default)]
        struct Counts(Mutex<Vec<usize>>);
        impl TokenStore for Counts {
            fn put(&self, _: &str, _: Version, token: Vec<u8>) {
                self.0.lock().unwrap().push(token.len());
            }
            fn take(&self, _: &str, _: Version) -> Option<Vec<u8>> {
                None
            }
        }
        let store = Arc::new(Counts::default());
        let mut next = NextToken::keep(Arc::clone(&store) as Arc<dyn TokenStore>, "localhost");
        for len in 0..100_000 {
            next.on_frame(&NewToken { token: &vec![1; 510 + len % 5] }, Version::V1);
        }
        assert_eq!(*store.0.lock().unwrap(), [510, 511, 512, 510]);
        assert_eq!(next.memory(), 0);
    }
}
