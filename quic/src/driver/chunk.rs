//! Received bytes in the application's hands.
//!
//! Owns the return of window credit: when the last piece of a chunk is dropped, the peer may send as much again.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::connection_shared::ConnectionShared;
use crate::chunk;
use crate::stream_id::StreamId;

/// A piece of a stream, as it lay in a packet: received bytes that were not copied.
///
/// It holds a buffer of 2 KiB or more, and its bytes count against the windows of its stream and connection until it is
/// dropped. Copy what is to be kept for long.
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
    id: StreamId,
    /// As the protocol gave it, which is how it takes it back.
    bytes: chunk::Chunk,
}

impl Chunk {
    pub(super) fn new(connection: &Arc<ConnectionShared>, id: StreamId, bytes: chunk::Chunk, offset: u64) -> Self {
        let range = 0..bytes.len();
        let lease = Lease::Whole(Returning { connection: Arc::clone(connection), id, bytes });
        Self { lease, range, offset }
    }

    /// Where in the stream it begins.
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
    fn bytes(&self) -> &chunk::Chunk {
        match self {
            Self::Whole(returning) => &returning.bytes,
            Self::Part(returning) => &returning.bytes,
        }
    }

    fn share(&mut self) -> Arc<Returning> {
        if let Self::Whole(returning) = self {
            let empty = Returning { connection: Arc::clone(&returning.connection), id: returning.id, bytes: chunk::Chunk::default() };
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
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return;
        }
        let mut state = self.connection.lock_in_place();
        state.protocol.release(self.id, bytes);
        drop(state);
        self.connection.mark_dirty();
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
