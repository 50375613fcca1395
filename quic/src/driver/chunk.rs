//! Received bytes in the application's hands.
//!
//! Owns the return of window credit: when the last piece of a chunk is dropped, the peer may send as much again.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::connection_shared::ConnectionShared;
use crate::chunk;
use crate::stream_id::StreamId;

/// A piece of a stream, or a datagram, as it lay in a packet: received bytes that were not copied.
///
/// It holds a buffer of 2 KiB or more, and its bytes count against the windows of its stream and connection, or against the
/// buffer for datagrams, until it is dropped. Copy what is to be kept for long.
pub struct Chunk {
    lease: Lease,
    /// What of the lease is this piece.
    range: Range<usize>,
    offset: u64,
}

/// Bytes that are given back when the lease ends.
enum Lease {
    Whole(Returning),
    /// One of several pieces.
    Part(Arc<Returning>),
}

struct Returning {
    connection: Arc<ConnectionShared>,
    origin: Origin,
    /// As the protocol gave it, which is how it takes it back. `None` once it is elsewhere.
    bytes: Option<chunk::Chunk>,
}

/// Where the bytes came in, and are given back.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Stream(StreamId),
    Datagram,
}

impl Chunk {
    pub(super) fn new(connection: &Arc<ConnectionShared>, origin: Origin, bytes: chunk::Chunk, offset: u64) -> Self {
        let range = 0..bytes.len();
        let lease = Lease::Whole(Returning { connection: Arc::clone(connection), origin, bytes: Some(bytes) });
        Self { lease, range, offset }
    }

    /// Where in the stream, or the datagram, it begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Cuts off the first `len` bytes; the rest stays. Nothing is copied. The credit returns when both are gone.
    ///
    /// # Panics
    /// If `len` is more than there is.
    #[must_use]
    pub fn split_to(&mut self, len: usize) -> Chunk {
        assert!(len <= self.range.len(), "split at {len} of a chunk of {} bytes", self.range.len());
        let shared = self.lease.share();
        let range = self.range.start..self.range.start + len;
        let front = Chunk { lease: Lease::Part(shared), range, offset: self.offset };
        self.range.start += len;
        self.offset += len as u64;
        front
    }
}

impl Lease {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(returning) => returning.bytes.as_deref().unwrap_or_default(),
            Self::Part(returning) => returning.bytes.as_deref().unwrap_or_default(),
        }
    }

    fn share(&mut self) -> Arc<Returning> {
        if let Self::Whole(returning) = self {
            let empty = Returning { connection: Arc::clone(&returning.connection), origin: returning.origin, bytes: None };
            *self = Self::Part(Arc::new(std::mem::replace(returning, empty)));
        }
        match self {
            Self::Part(returning) => Arc::clone(returning),
            Self::Whole(_) => unreachable!("it was shared above"),
        }
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        let Some(bytes) = self.bytes.take() else { return };
        let mut state = self.connection.lock_in_place();
        match self.origin {
            Origin::Stream(id) => {
                state.protocol.release(id, bytes);
                drop(state);
                self.connection.mark_dirty();
            }
            Origin::Datagram => state.protocol.release_datagram(bytes),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.lease.bytes()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("offset", &self.offset).field("len", &self.len()).finish()
    }
}
