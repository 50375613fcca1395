//! Batches of datagrams: what crosses the border to the kernel in one call.
//!
//! Owns the buffers that datagrams are received into and sent from, and how a batch is cut into messages. Does not own
//! sockets, and takes no decision on errors.
//!
//! Invariants:
//! - After its construction a batch allocates nothing.
//! - Datagrams leave in the order in which they were committed, and what a full socket did not take stays in the batch.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::Ecn;
use crate::sys::control::Ancillary;
use crate::sys::message::{Messages, Outgoing};

/// Messages received by one call: with receive offload each may hold 64 KiB, so 32 are 1,500 datagrams of an Ethernet's size.
const RECEIVE_SLOTS: usize = 32;
/// No UDP payload is longer, and the kernel coalesces no more.
const SLOT_LEN: usize = 1 << 16;
/// What a batch holds before it must be sent: four of the longest segmentation sends. More only falls out of the cache.
const SEND_BUFFER: usize = 1 << 18;
/// Transmits a batch holds; 256 KiB of full datagrams are fewer.
const TRANSMITS: usize = 256;
/// Messages handed to the kernel by one call.
const SEND_MESSAGES: usize = 64;
/// The longest payload of one segmentation send: 65,535 less the headers of IPv6 and UDP.
const LONGEST_TRAIN: usize = 65_535 - 40 - 8;

/// A reusable buffer for received datagrams.
///
/// ```no_run
/// # use weald_runtime::net::{RecvBatch, UdpSocket};
/// # fn serve(socket: &UdpSocket) -> std::io::Result<()> {
/// let mut batch = RecvBatch::new();
/// loop {
///     socket.recv_batch(&mut batch)?;
///     for train in batch.iter() {
///         for datagram in train.segments() {
///             println!("{} bytes from {}", datagram.len(), train.remote);
///         }
///     }
/// }
/// # }
/// ```
pub struct RecvBatch {
    buffer: Box<[u8]>,
    slot_len: usize,
    received: Vec<Received>,
    messages: Messages,
}

struct Received {
    start: usize,
    len: usize,
    segment_size: usize,
    remote: SocketAddr,
    local: Option<IpAddr>,
    ecn: Option<Ecn>,
}

/// Datagrams of one sender that were received together: one, or with receive offload a train of equal sizes.
#[derive(Clone, Copy, Debug)]
pub struct Datagrams<'a> {
    /// The payloads, one after another.
    pub bytes: &'a [u8],
    /// The length of each payload but the last, which may be shorter; the length of `bytes` if there is one only.
    pub segment_size: usize,
    /// Who sent them.
    pub remote: SocketAddr,
    /// The address of this host to which they were sent, if the system tells.
    pub local: Option<IpAddr>,
    /// The congestion mark that all of them carry; `None` is Not-ECT.
    pub ecn: Option<Ecn>,
}

impl<'a> Datagrams<'a> {
    /// The single datagrams. An empty datagram gives none.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment_size.max(1))
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Default for RecvBatch {
    fn default() -> RecvBatch {
        RecvBatch::new()
    }
}

impl RecvBatch {
    /// A batch of 32 messages of 64 KiB. The memory is touched only as far as datagrams arrive.
    #[must_use]
    pub fn new() -> RecvBatch {
        RecvBatch::with_slots(RECEIVE_SLOTS, SLOT_LEN)
    }

    /// A batch of `slots` messages of at most `slot_len` bytes; longer datagrams are dropped. A socket with receive offload
    /// needs slots of 64 KiB.
    ///
    /// # Panics
    /// If either is zero, or their product is more than memory can be.
    #[must_use]
    pub fn with_slots(slots: usize, slot_len: usize) -> RecvBatch {
        assert!(slots > 0 && slot_len > 0, "a batch needs room for a datagram");
        let len = slots.checked_mul(slot_len).filter(|len| isize::try_from(*len).is_ok()).expect("a batch fits into memory");
        RecvBatch { buffer: vec![0; len].into_boxed_slice(), slot_len, received: Vec::with_capacity(slots), messages: Messages::new(slots) }
    }

    /// What the last receive brought, in order of arrival.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagrams<'_>> {
        self.received.iter().map(|received| Datagrams {
            bytes: &self.buffer[received.start..received.start + received.len],
            segment_size: received.segment_size,
            remote: received.remote,
            local: received.local,
            ecn: received.ecn,
        })
    }

    /// How many messages the last receive brought.
    #[must_use]
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last receive brought nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.received.clear();
    }

    pub(super) fn capacity(&self) -> usize {
        self.messages.capacity()
    }

    pub(super) fn is_full(&self) -> bool {
        self.received.len() == self.capacity()
    }

    /// Receives from the system into the empty batch; returns the number of messages taken, those dropped here included.
    pub(super) fn receive(&mut self, socket: impl std::os::fd::AsFd) -> io::Result<usize> {
        let count = self.messages.receive(socket, &mut self.buffer, self.slot_len)?;
        for slot in 0..count {
            let Some(message) = self.messages.incoming(slot) else { continue };
            let Ancillary { local, ecn, segment_size } = message.ancillary;
            let segment_size = segment_size.map_or(message.len, |size| usize::from(size).min(message.len));
            self.received.push(Received {
                start: slot * self.slot_len,
                len: message.len,
                segment_size,
                remote: message.remote,
                local,
                ecn: Ecn::from_bits(ecn),
            });
        }
        Ok(count)
    }

    /// Adds a datagram of the simulated network. One too long for a slot is dropped, as by the system.
    pub(super) fn push(&mut self, bytes: &[u8], remote: SocketAddr, local: IpAddr, ecn: Option<Ecn>) {
        if bytes.len() > self.slot_len || self.is_full() {
            return;
        }
        let start = self.received.len() * self.slot_len;
        self.buffer[start..start + bytes.len()].copy_from_slice(bytes);
        let (len, local) = (bytes.len(), Some(local));
        self.received.push(Received { start, len, segment_size: len, remote, local, ecn });
    }
}

/// One datagram, or a train of datagrams of one size to one peer, whose bytes lie in a [`SendBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub remote: SocketAddr,
    /// From which address of this host; `None` leaves the choice to the system.
    pub local: Option<IpAddr>,
    /// The congestion mark; `None` is Not-ECT.
    pub ecn: Option<Ecn>,
    /// How many bytes of the space reserved hold it.
    pub len: usize,
    /// The length of each datagram but the last, which may be shorter. A transmit with a segment size may leave in one
    /// segmentation send with its neighbours; one without is a single datagram and goes alone (a probe of the path's MTU).
    pub segment_size: Option<usize>,
}

/// A transmit, or a datagram of one, that the system refused; the rest of the batch went on.
#[derive(Debug)]
pub struct Refused {
    /// To whom it was addressed.
    pub remote: SocketAddr,
    /// From which address it should have left.
    pub local: Option<IpAddr>,
    /// The length of the datagram.
    pub len: usize,
    /// Why. A datagram longer than the interface's MTU is [`is_too_long`](Self::is_too_long).
    pub error: io::Error,
}

impl Refused {
    /// Whether the datagram was longer than the local interface's MTU.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        crate::sys::socket::is_too_long(&self.error)
    }
}

/// A reusable buffer that datagrams are written into, to be sent together.
///
/// ```no_run
/// # use weald_runtime::net::{SendBatch, Transmit, UdpSocket};
/// # fn greet(socket: &UdpSocket, remote: std::net::SocketAddr) -> std::io::Result<()> {
/// let mut batch = SendBatch::new();
/// batch.reserve()[..5].copy_from_slice(b"hello");
/// batch.commit(Transmit { remote, local: None, ecn: None, len: 5, segment_size: None });
/// socket.send_batch(&mut batch)?;
/// # Ok(())
/// # }
/// ```
pub struct SendBatch {
    pub(super) queue: Queue,
    pub(super) messages: Messages,
    refused: Vec<Refused>,
}

impl fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBatch").field("transmits", &self.queue.entries.len()).field("bytes", &self.queue.filled).finish_non_exhaustive()
    }
}

impl Default for SendBatch {
    fn default() -> SendBatch {
        SendBatch::new()
    }
}

impl SendBatch {
    /// A batch of up to 256 KiB and 256 transmits.
    #[must_use]
    pub fn new() -> SendBatch {
        let buffer = vec![0; SEND_BUFFER].into_boxed_slice();
        let queue = Queue { buffer, filled: 0, entries: Vec::with_capacity(TRANSMITS), cursor: Cursor::default() };
        SendBatch { queue, messages: Messages::new(SEND_MESSAGES), refused: Vec::with_capacity(TRANSMITS) }
    }

    /// The free space, to write the next datagram or train into. When it is shorter than a datagram, send first.
    pub fn reserve(&mut self) -> &mut [u8] {
        let queue = &mut self.queue;
        let end = if queue.entries.len() < TRANSMITS { queue.buffer.len() } else { queue.filled };
        &mut queue.buffer[queue.filled..end]
    }

    /// Adds what was written at the front of the reserved space. It joins the transmit before it where one segmentation send
    /// can carry both: same peer, local address, mark and segment size, the former without a short tail.
    ///
    /// # Panics
    /// If it is longer than the reserved space, or its segment size is zero.
    pub fn commit(&mut self, transmit: Transmit) {
        assert!(transmit.len <= self.reserve().len(), "a transmit longer than the space reserved for it");
        assert!(transmit.segment_size != Some(0), "a segment has at least one byte");
        self.queue.push(transmit);
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets what waits to be sent.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Takes what the system refused in sends since the last call, at most the latest 256.
    pub fn drain_refused(&mut self) -> impl Iterator<Item = Refused> + '_ {
        self.refused.drain(..)
    }

    /// Gives up the first message in the queue, because of `error`; returns whether that completed its transmit.
    pub(super) fn refuse(&mut self, max_segments: usize, error: io::Error) -> usize {
        if let Some((message, _)) = self.queue.message_at(self.queue.cursor, max_segments) {
            if self.refused.len() == TRANSMITS {
                self.refused.remove(0);
            }
            let (remote, local, len) = (message.remote, message.ancillary.local, message.bytes.len());
            self.refused.push(Refused { remote, local, len, error });
        }
        self.queue.trust();
        self.queue.advance(1, max_segments)
    }
}

/// What waits to be sent, and how far sending has come.
pub(super) struct Queue {
    buffer: Box<[u8]>,
    filled: usize,
    entries: Vec<Entry>,
    cursor: Cursor,
}

struct Entry {
    start: usize,
    transmit: Transmit,
}

/// The place of the first byte that has not been sent.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    entry: usize,
    offset: usize,
    /// Datagrams of this entry that start before here go one by one: the system refused them as a train.
    plain_until: usize,
    /// None of them has been refused alone so far, so it may be trains that the system refuses.
    suspect: bool,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.cursor.entry == self.entries.len()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.filled = 0;
        self.cursor = Cursor::default();
    }

    fn push(&mut self, transmit: Transmit) {
        let start = self.filled;
        self.filled += transmit.len;
        // What is being sent already stays as it is: the cursor's fields refer to its bounds.
        let open = self.entries.len() > self.cursor.entry + usize::from(self.cursor.offset > 0);
        if let Some(last) = self.entries.last_mut().filter(|last| open && last.transmit.takes(&transmit)) {
            last.transmit.len += transmit.len;
            return;
        }
        self.entries.push(Entry { start, transmit });
    }

    /// The messages that wait, cut so that each is a datagram or a train of at most `max_segments`.
    pub(super) fn messages(&self, max_segments: usize) -> impl Iterator<Item = Outgoing<'_>> {
        let mut cursor = self.cursor;
        std::iter::from_fn(move || {
            let (message, next) = self.message_at(cursor, max_segments)?;
            cursor = next;
            Some(message)
        })
    }

    fn message_at(&self, cursor: Cursor, max_segments: usize) -> Option<(Outgoing<'_>, Cursor)> {
        let Entry { start, transmit } = self.entries.get(cursor.entry)?;
        let left = transmit.len - cursor.offset;
        let segment = transmit.segment_size.unwrap_or(left).max(1);
        let segments = if cursor.offset < cursor.plain_until { 1 } else { max_segments.min(LONGEST_TRAIN / segment) };
        let len = left.min(segment * segments.max(1));
        let segment_size = (len > segment).then(|| u16::try_from(segment).ok()).flatten();
        let from = start + cursor.offset;
        let ancillary = Ancillary { local: transmit.local, ecn: transmit.ecn.map_or(0, Ecn::bits), segment_size };
        let message = Outgoing { bytes: &self.buffer[from..from + len], remote: transmit.remote, ancillary };
        let next = if len == left {
            Cursor { entry: cursor.entry + 1, ..Cursor::default() }
        } else {
            let offset = cursor.offset + len;
            Cursor { offset, suspect: cursor.suspect && offset < cursor.plain_until, ..cursor }
        };
        Some((message, next))
    }

    /// The first `count` messages are done with; returns how many transmits that completed.
    pub(super) fn advance(&mut self, count: usize, max_segments: usize) -> usize {
        let first = self.cursor.entry;
        for _ in 0..count {
            let Some((_, next)) = self.message_at(self.cursor, max_segments) else { break };
            self.cursor = next;
        }
        self.cursor.entry - first
    }

    /// Cuts the first message into single datagrams, if it is a train; returns whether it was.
    pub(super) fn split(&mut self, max_segments: usize) -> bool {
        let Some((message, _)) = self.message_at(self.cursor, max_segments) else { return false };
        if message.ancillary.segment_size.is_none() {
            return false;
        }
        self.cursor.plain_until = self.cursor.offset + message.bytes.len();
        self.cursor.suspect = true;
        true
    }

    /// The train that was cut had a fault of its own.
    pub(super) fn trust(&mut self) {
        self.cursor.suspect = false;
    }

    /// Whether sending stands within a train that was cut by [`split`](Self::split), no datagram of which was refused.
    pub(super) fn is_suspect(&self) -> bool {
        self.cursor.suspect
    }
}

impl Transmit {
    /// Whether `next` can leave in one segmentation send with this one.
    fn takes(&self, next: &Transmit) -> bool {
        let (Some(size), Some(next_size)) = (self.segment_size, next.segment_size) else { return false };
        let same_way = (self.remote, self.local, self.ecn) == (next.remote, next.local, next.ecn);
        let fits = next_size == size || (next_size < size && next.len <= next_size);
        same_way && fits && self.len > 0 && self.len.is_multiple_of(size) && next.len > 0
    }
}

#[cfg(test)]
mod tests;
