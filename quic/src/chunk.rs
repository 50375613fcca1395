//! Owns the buffers that stream data lives in, received and sent: a pool of them, and counted slices of one.
//!
//! Does not own what the bytes mean, nor the accounting of how much a connection may pin (`streams::reassembly`).
//!
//! Invariants:
//! - Bytes that two handles can see never change: writing needs the only handle of a buffer (`Arc::get_mut`).
//! - A buffer goes back to its pool when the last handle is dropped, on whatever thread that happens, and to the
//!   allocator when the pool already keeps enough or is gone.
//! - Taking a buffer and giving it back allocates nothing while the pool is warm: the whole `Arc` is kept.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// Capacities of the pooled buffers. 2 KiB holds the payload of any packet on Ethernet; 16 KiB is a unit of sending
/// (a TLS record's worth, thirteen packets) and holds jumbo frames; 64 KiB holds the largest UDP payload there is.
const CLASSES: [usize; 3] = [2 * 1024, 16 * 1024, 64 * 1024];

/// Capacity of a receive chunk, the smallest class.
pub(crate) const RECEIVE_CHUNK: usize = CLASSES[0];

/// Capacity of a chunk that long writes are cut into.
pub(crate) const SEND_CHUNK: usize = CLASSES[1];

/// How many bytes of free buffers a pool keeps in each class: 2048, 256 and 64 buffers.
const FREE_BYTES: usize = 4 * 1024 * 1024;

/// A pool of buffers in three sizes. Cheap to clone; clones share the buffers.
#[derive(Clone)]
pub struct Pool {
    shelves: Arc<Shelves>,
}

/// The free lists, one a class.
struct Shelves {
    free: [Mutex<Vec<Arc<Buffer>>>; CLASSES.len()],
    free_bytes: usize,
}

/// One buffer and the pool it goes back to.
///
/// `home` is weak: a free list holds its buffers, and a buffer must not hold the free list.
struct Buffer {
    bytes: Box<[u8]>,
    home: Weak<Shelves>,
}

impl Pool {
    /// An empty pool, which keeps up to 4 MiB of free buffers in each size.
    pub fn new() -> Self {
        Self::with_free_bytes(FREE_BYTES)
    }

    fn with_free_bytes(free_bytes: usize) -> Self {
        Self { shelves: Arc::new(Shelves { free: Default::default(), free_bytes }) }
    }

    /// A buffer of at least `min_capacity` bytes, for one writer. Above 64 KiB it is allocated and never pooled.
    ///
    /// The contents are unspecified: zeros, or what an earlier user left.
    pub fn take(&self, min_capacity: usize) -> ChunkMut {
        let Some(class) = CLASSES.iter().position(|&capacity| capacity >= min_capacity) else {
            return ChunkMut::new(Buffer::allocate(min_capacity, Weak::new()));
        };
        let pooled = self.shelves.shelf(class).pop();
        let buffer = pooled.unwrap_or_else(|| Buffer::allocate(CLASSES[class], Arc::downgrade(&self.shelves)));
        ChunkMut::new(buffer)
    }

    #[cfg(test)]
    pub(crate) fn free_buffers(&self) -> usize {
        (0..CLASSES.len()).map(|class| self.shelves.shelf(class).len()).sum()
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Shelves {
    fn shelf(&self, class: usize) -> MutexGuard<'_, Vec<Arc<Buffer>>> {
        self.free[class].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `buffer`, or hands it back to be freed outside the lock.
    fn put(&self, buffer: Arc<Buffer>) -> Option<Arc<Buffer>> {
        let capacity = buffer.bytes.len();
        let Some(class) = CLASSES.iter().position(|&class| class == capacity) else { return Some(buffer) };
        let mut shelf = self.shelf(class);
        if (shelf.len() + 1) * capacity > self.free_bytes {
            return Some(buffer);
        }
        shelf.push(buffer);
        None
    }
}

impl Buffer {
    fn allocate(capacity: usize, home: Weak<Shelves>) -> Arc<Self> {
        Arc::new(Self { bytes: vec![0; capacity].into_boxed_slice(), home })
    }

    /// Drops one handle; the last one brings the buffer home.
    fn release(mut handle: Arc<Self>) {
        // Two last handles dropped at once may both see the other and fail here; `Drop` below then saves the bytes.
        let Some(buffer) = Arc::get_mut(&mut handle) else { return };
        let Some(home) = buffer.home.upgrade() else { return };
        if let Some(mut refused) = home.put(handle)
            && let Some(buffer) = Arc::get_mut(&mut refused)
        {
            buffer.home = Weak::new();
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Reached with a home only after a race between two last handles, see `release`.
        let Some(home) = self.home.upgrade() else { return };
        let bytes = std::mem::take(&mut self.bytes);
        let rescued = Arc::new(Self { bytes, home: std::mem::take(&mut self.home) });
        if let Some(mut refused) = home.put(rescued)
            && let Some(buffer) = Arc::get_mut(&mut refused)
        {
            buffer.home = Weak::new();
        }
    }
}

/// A buffer with one owner, to write into. Dereferences to its whole capacity.
pub struct ChunkMut {
    /// The whole buffer; its only handle.
    chunk: Chunk,
}

impl ChunkMut {
    fn new(buffer: Arc<Buffer>) -> Self {
        let end = u32::try_from(buffer.bytes.len()).expect("buffers are smaller than 4 GiB");
        Self { chunk: Chunk { buffer: Some(buffer), start: 0, end } }
    }

    /// Makes the bytes in `range` shareable and immutable.
    ///
    /// # Panics
    ///
    /// If `range` is not within the capacity.
    pub fn freeze(mut self, range: Range<usize>) -> Chunk {
        self.chunk.narrow(range);
        self.chunk
    }
}

impl Deref for ChunkMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.chunk
    }
}

impl DerefMut for ChunkMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        let buffer = self.chunk.buffer.as_mut().and_then(Arc::get_mut);
        &mut buffer.expect("a ChunkMut is the only handle of its buffer").bytes
    }
}

impl fmt::Debug for ChunkMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkMut").field("capacity", &self.len()).finish()
    }
}

/// Immutable bytes in a shared buffer. Clones and slices share the buffer and copy nothing.
#[derive(Clone, Default)]
pub struct Chunk {
    /// `None` only in the empty chunk that `default()` makes.
    buffer: Option<Arc<Buffer>>,
    start: u32,
    end: u32,
}

impl Chunk {
    /// A copy of `bytes` in a buffer of its own of at least `capacity` bytes, pooled nowhere: what keeps a few bytes
    /// without pinning a whole pooled buffer.
    pub(crate) fn copied(bytes: &[u8], capacity: usize) -> Self {
        let mut copy = ChunkMut::new(Buffer::allocate(capacity.max(bytes.len()), Weak::new()));
        copy[..bytes.len()].copy_from_slice(bytes);
        copy.freeze(0..bytes.len())
    }

    /// The bytes in `range`, which counts from the start of this chunk.
    ///
    /// # Panics
    ///
    /// If `range` is not within this chunk.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut slice = self.clone();
        slice.narrow(range);
        slice
    }

    /// How many bytes of memory this handle keeps alive, alone or together with other handles.
    pub fn retained(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.bytes.len())
    }

    /// Keeps only the bytes in `range`.
    pub(crate) fn narrow(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len(), "range outside the chunk");
        // Both ends are within a buffer of less than 4 GiB.
        self.end = self.start + range.end as u32;
        self.start += range.start as u32;
    }

    /// Appends as much of `bytes` as the buffer has room for behind this chunk, and returns how much that was: nothing
    /// when another handle shares the buffer.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> usize {
        let Some(buffer) = self.buffer.as_mut().and_then(Arc::get_mut) else { return 0 };
        let room = &mut buffer.bytes[self.end as usize..];
        let appended = bytes.len().min(room.len());
        room[..appended].copy_from_slice(&bytes[..appended]);
        self.end += appended as u32;
        appended
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            Buffer::release(buffer);
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => &buffer.bytes[self.start as usize..self.end as usize],
            None => &[],
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("len", &self.len()).field("retained", &self.retained()).finish()
    }
}

/// Bytes to send: in a pooled buffer, copied there by `write`, or the application's own, lent by `write_chunk`.
#[derive(Clone, Debug)]
pub(crate) enum SendSlice {
    /// Copied into a buffer of the pool.
    Pooled(Chunk),
    /// The application's.
    Owned(Bytes),
}

impl SendSlice {
    /// The bytes in `range`, which counts from the start of this slice.
    ///
    /// # Panics
    ///
    /// If `range` is not within this slice.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Pooled(chunk) => Self::Pooled(chunk.slice(range)),
            Self::Owned(bytes) => Self::Owned(bytes.slice(range)),
        }
    }
}

impl SendSlice {
    /// How many bytes of memory the slice keeps alive, as far as is known.
    pub(crate) fn retained(&self) -> usize {
        match self {
            Self::Pooled(chunk) => chunk.retained(),
            Self::Owned(bytes) => bytes.len(),
        }
    }
}

impl From<Bytes> for SendSlice {
    fn from(bytes: Bytes) -> Self {
        Self::Owned(bytes)
    }
}

impl Deref for SendSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pooled(chunk) => chunk,
            Self::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_chooses_the_smallest_class_that_fits() {
        let pool = Pool::new();
        for (wanted, capacity) in [(0, 2048), (2048, 2048), (2049, 16384), (16385, 65536), (65536, 65536), (70000, 70000)] {
            assert_eq!(pool.take(wanted).len(), capacity);
        }
    }

    #[test]
    fn the_last_handle_brings_the_buffer_home() {
        let pool = Pool::new();
        let mut writing = pool.take(100);
        writing[..5].copy_from_slice(b"hello");
        let chunk = writing.freeze(0..5);
        let slice = chunk.slice(1..3);
        let clone = slice.clone();
        assert_eq!((&*chunk, &*clone, clone.retained()), (&b"hello"[..], &b"el"[..], 2048));
        drop(chunk);
        drop(slice);
        assert_eq!(pool.free_buffers(), 0);
        drop(clone);
        assert_eq!(pool.free_buffers(), 1);
        drop(pool.take(1));
        assert_eq!(pool.free_buffers(), 1, "taken from the shelf, and brought back although never frozen");
    }

    #[test]
    fn the_free_list_is_bounded() {
        let pool = Pool::with_free_bytes(3 * 2048);
        let taken: Vec<_> = (0..10).map(|_| pool.take(1)).collect();
        drop(taken);
        assert_eq!(pool.free_buffers(), 3);
    }

    #[test]
    fn chunks_outlive_their_pool() {
        let pool = Pool::new();
        let chunk = pool.take(1).freeze(0..10);
        drop(pool);
        assert_eq!(chunk.len(), 10);
    }

    #[test]
    fn no_buffer_is_lost_when_last_handles_race() {
        let pool = Pool::new();
        for _ in 0..2_000 {
            let chunk = pool.take(1).freeze(0..1);
            let other = chunk.clone();
            std::thread::scope(|scope| {
                scope.spawn(move || drop(other));
                drop(chunk);
            });
            assert_eq!(pool.free_buffers(), 1);
        }
    }

    #[test]
    fn extend_needs_the_only_handle() {
        let mut chunk = Chunk::copied(b"abc", 5);
        let other = chunk.clone();
        assert_eq!(chunk.extend(b"d"), 0);
        drop(other);
        assert_eq!(chunk.extend(b"defg"), 2);
        assert_eq!((&*chunk, chunk.retained()), (&b"abcde"[..], 5));
        assert_eq!(Chunk::default().extend(b"x"), 0);
    }

    #[test]
    #[should_panic(expected = "range outside the chunk")]
    fn slices_stay_inside() {
        Chunk::copied(b"abcd", 4).slice(1..3).slice(0..3);
    }
}
