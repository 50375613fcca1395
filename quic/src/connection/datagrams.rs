//! Datagrams of the application (RFC 9221): data that arrives whole or not at all, at most once, in no order.
//!
//! Owns the queue of those to send and that of those received, and what both may hold. Does not own when a packet is sent:
//! datagrams obey congestion control as streams do (RFC 9221 section 5.4), and no flow control.
//!
//! Invariants:
//! - What received datagrams pin, unread or handed out, is at most twice the receive buffer, bookkeeping included. When it is
//!   full, new ones are copied into buffers of their own length, and the oldest unread ones are dropped.
//! - What waits to be sent is at most the send buffer, or one datagram.
//! - A datagram that is too long for any packet never waits.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::config::TransportConfig;
use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{Datagram, EncodeFrame};

/// What a datagram costs besides its bytes: its place in a queue, and the head of its buffer.
const OVERHEAD: usize = 64;

/// A sender that waits is told when this part of the buffer is free.
const WAKE_FRACTION: usize = 4;

/// Something that the application may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramEvent {
    /// A datagram has arrived.
    Readable,
    /// There is room for datagrams, after one was turned away.
    Writable,
    /// All that were taken have been sent.
    Sent,
}

/// What happens to a datagram for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is turned away; an event tells when there is room.
    Block,
    /// It takes the place of the oldest ones, which are dropped: for data that is worth less the older it is.
    DropOldest,
}

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendDatagramError {
    /// The send buffer is full.
    Blocked,
    /// It is longer than what the peer takes, or what a packet on this path can hold.
    TooLarge {
        /// The longest that would be taken now.
        max: usize,
    },
    /// The peer takes none.
    Unsupported,
    /// The connection is over.
    Closed,
}

impl fmt::Display for SendDatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked => f.write_str("the send buffer of datagrams is full"),
            Self::TooLarge { max } => write!(f, "the datagram is longer than {max} bytes"),
            Self::Unsupported => f.write_str("the peer takes no datagrams"),
            Self::Closed => f.write_str("the connection is over"),
        }
    }
}

impl std::error::Error for SendDatagramError {}

/// Datagrams of one connection. Boxed there, on first use.
pub(crate) struct Datagrams {
    to_send: VecDeque<Bytes>,
    /// What `to_send` costs.
    queued: usize,
    send_buffer: usize,
    unread: VecDeque<Chunk>,
    /// What unread datagrams pin, and those that were handed out and not given back.
    retained: usize,
    receive_buffer: usize,
    /// A packet began with datagrams since others had their turn.
    had_turn: bool,
    /// A datagram was turned away since the last event.
    writer_waits: bool,
    readable: bool,
    writable: bool,
    sent: bool,
    counts: DatagramCounts,
}

/// How many datagrams there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DatagramCounts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// In packets that were declared lost.
    pub(crate) lost: u64,
    /// For want of room, at either end.
    pub(crate) dropped: u64,
}

/// The largest frame that a connection with this configuration takes; 0 for none. 65,535 permits any that a packet holds
/// (RFC 9221 section 3).
pub(crate) fn receive_limit(config: &TransportConfig) -> u16 {
    if config.datagrams { u16::try_from(config.datagram_receive_buffer).unwrap_or(u16::MAX) } else { 0 }
}

/// The longest datagram that fits into a frame of at most `limit` bytes, and a packet that has `room` for frames. `None` if
/// there is none.
pub(crate) fn max_size(limit: u16, room: usize) -> Option<usize> {
    Datagram::capacity(room.min(limit.into()))
}

/// How many bytes one datagram may have for which there is room.
pub(crate) fn send_room(config: &TransportConfig, datagrams: Option<&Datagrams>) -> usize {
    let queued = datagrams.map_or(0, |datagrams| datagrams.queued);
    (config.datagram_send_buffer as usize).saturating_sub(queued + OVERHEAD)
}

impl Datagrams {
    pub(crate) fn new(config: &TransportConfig) -> Self {
        Self {
            to_send: VecDeque::new(),
            queued: 0,
            send_buffer: config.datagram_send_buffer as usize,
            unread: VecDeque::new(),
            retained: 0,
            receive_buffer: config.datagram_receive_buffer as usize,
            had_turn: false,
            writer_waits: false,
            readable: false,
            writable: false,
            sent: false,
            counts: DatagramCounts::default(),
        }
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        let unread: usize = self.unread.iter().map(Chunk::retained).sum();
        let to_send: usize = self.to_send.iter().map(Bytes::len).sum();
        let queues = self.unread.capacity() * size_of::<Chunk>() + self.to_send.capacity() * size_of::<Bytes>();
        unread + to_send + queues
    }

    /// What is held, those that were handed out included, at no cost.
    pub(crate) fn held(&self) -> usize {
        self.retained + self.queued
    }

    pub(crate) fn counts(&self) -> DatagramCounts {
        self.counts
    }

    /// Queues a datagram, which is no longer than [`max_size`].
    pub(crate) fn send(&mut self, data: Bytes, when_full: WhenFull) -> Result<(), SendDatagramError> {
        let cost = data.len() + OVERHEAD;
        while self.queued + cost > self.send_buffer && !self.to_send.is_empty() {
            if when_full == WhenFull::Block {
                self.writer_waits = true;
                return Err(SendDatagramError::Blocked);
            }
            self.take_next();
            self.counts.dropped += 1;
        }
        self.queued += cost;
        self.to_send.push_back(data);
        Ok(())
    }

    /// The oldest datagram that has arrived. It is to be given back with [`Datagrams::release`].
    pub(crate) fn receive(&mut self) -> Option<Chunk> {
        self.unread.pop_front()
    }

    /// Takes back what was received.
    pub(crate) fn release(&mut self, chunk: &Chunk) {
        self.retained = self.retained.saturating_sub(cost(chunk));
    }

    /// Drops what nobody has read.
    pub(crate) fn drop_unread(&mut self) {
        while self.drop_oldest() {}
        self.unread = VecDeque::new();
    }

    /// A datagram has arrived.
    pub(crate) fn on_received(&mut self, chunk: Chunk) {
        self.counts.received += 1;
        let bound = 2 * self.receive_buffer;
        let chunk = if self.retained + cost(&chunk) > bound { Chunk::copied(&chunk, chunk.len()) } else { chunk };
        while self.retained + cost(&chunk) > bound {
            if !self.drop_oldest() {
                // The application holds all there may be.
                self.counts.dropped += 1;
                return;
            }
        }
        self.retained += cost(&chunk);
        self.unread.push_back(chunk);
        self.readable = true;
    }

    /// A packet with a datagram was lost: for the statistics, since it is never repeated (RFC 9221 section 5).
    pub(crate) fn on_lost(&mut self) {
        self.counts.lost += 1;
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// Whether others who have something to send go first in the next packet: datagrams begin every second one at most.
    pub(crate) fn yields(&mut self) -> bool {
        std::mem::take(&mut self.had_turn)
    }

    /// Writes datagrams that fit, the oldest first, into a packet that has `room` for frames when it is empty. `first` says
    /// whether others come after them.
    pub(crate) fn write_frames(&mut self, room: usize, first: bool, out: &mut FrameWriter<'_>) {
        while let Some(data) = self.to_send.front() {
            let frame = Datagram { data, has_length: true };
            if frame.size() > room {
                // The path has become narrower.
                self.counts.dropped += 1;
            } else if out.frame(&frame, Token::Datagram) {
                self.had_turn |= first;
                self.counts.sent += 1;
            } else {
                break;
            }
            self.take_next();
        }
        let is_roomy = self.queued <= self.send_buffer - self.send_buffer / WAKE_FRACTION;
        if is_roomy && std::mem::take(&mut self.writer_waits) {
            self.writable = true;
        }
        self.sent |= self.to_send.is_empty();
    }

    /// What the application may be waiting for.
    pub(crate) fn poll_event(&mut self) -> Option<DatagramEvent> {
        if std::mem::take(&mut self.readable) {
            return Some(DatagramEvent::Readable);
        }
        if std::mem::take(&mut self.writable) {
            return Some(DatagramEvent::Writable);
        }
        std::mem::take(&mut self.sent).then_some(DatagramEvent::Sent)
    }

    fn take_next(&mut self) {
        if let Some(data) = self.to_send.pop_front() {
            self.queued -= data.len() + OVERHEAD;
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.unread.pop_front();
        if let Some(chunk) = &oldest {
            self.retained = self.retained.saturating_sub(cost(chunk));
            self.counts.dropped += 1;
        }
        oldest.is_some()
    }
}

/// What a received datagram costs.
fn cost(chunk: &Chunk) -> usize {
    chunk.retained() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Pool;

    const BUFFER: u32 = 16 * 1024;

    fn datagrams() -> Datagrams {
        Datagrams::new(&TransportConfig::default().datagram_receive_buffer(BUFFER).datagram_send_buffer(BUFFER))
    }

    fn chunk(pool: &Pool, len: usize, fill: u8) -> Chunk {
        let mut chunk = pool.take(len);
        chunk[..len].fill(fill);
        chunk.freeze(0..len)
    }

    /// Writes one packet and returns its tokens.
    fn packet(datagrams: &mut Datagrams, size: usize, first: bool) -> Vec<Token> {
        let (mut buf, mut tokens) = (vec![0; size], Vec::new());
        datagrams.write_frames(size, first, &mut FrameWriter::new(&mut buf, &mut tokens));
        tokens
    }

    /// A flood that nobody reads: what is held is bounded, however short the datagrams are, and the newest are kept.
    #[test]
    fn a_flood_drops_the_oldest() {
        for len in [0, 1, 10, 1200] {
            let (pool, mut datagrams) = (Pool::new(), datagrams());
            for n in 0..10_000u32 {
                datagrams.on_received(chunk(&pool, len, n as u8));
                assert!(datagrams.held() <= 2 * BUFFER as usize);
                assert!(datagrams.memory() <= 3 * BUFFER as usize, "{} bytes", datagrams.memory());
            }
            assert_eq!(datagrams.poll_event(), Some(DatagramEvent::Readable));
            assert_eq!(datagrams.poll_event(), None);
            let mut count = 0;
            let mut last = Vec::new();
            while let Some(chunk) = datagrams.receive() {
                last = chunk.to_vec();
                datagrams.release(&chunk);
                count += 1;
            }
            assert_eq!(last, vec![(9_999u32) as u8; len]);
            assert_eq!(datagrams.counts.dropped, 10_000 - count);
            assert!(count as usize * (len + OVERHEAD) > BUFFER as usize / 2, "{count} kept");
            assert_eq!(datagrams.held(), 0);
        }
    }

    /// What the application has taken and keeps counts as well: there is no way around the bound.
    #[test]
    fn datagrams_in_the_applications_hands_count() {
        let (pool, mut datagrams) = (Pool::new(), datagrams());
        let mut kept = Vec::new();
        for n in 0..10_000u32 {
            datagrams.on_received(chunk(&pool, 1, n as u8));
            kept.extend(datagrams.receive());
        }
        let pinned: usize = kept.iter().map(Chunk::retained).sum();
        assert!(pinned <= 2 * BUFFER as usize && kept.len() < 10_000, "{pinned} bytes in {}", kept.len());
        kept.drain(..).for_each(|chunk| datagrams.release(&chunk));
        datagrams.on_received(chunk(&pool, 1, 7));
        assert_eq!(datagrams.receive().as_deref(), Some(&[7][..]));
    }

    #[test]
    fn a_full_send_buffer_turns_away_or_drops_the_oldest() {
        let mut datagrams = datagrams();
        let data = |n: u8| Bytes::from(vec![n; 1000]);
        let taken = (0..100).take_while(|&n| datagrams.send(data(n), WhenFull::Block).is_ok()).count();
        assert_eq!(taken, BUFFER as usize / (1000 + OVERHEAD));
        assert_eq!(datagrams.poll_event(), None);
        for n in 100..200 {
            datagrams.send(data(n), WhenFull::DropOldest).unwrap();
            assert!(datagrams.held() <= BUFFER as usize);
        }
        assert_eq!((datagrams.to_send.len(), datagrams.to_send.back().unwrap()[0]), (taken, 199));
        // The first wait was in vain until a quarter is free.
        let mut packets = 0;
        while datagrams.poll_event().is_none() {
            assert_eq!(packet(&mut datagrams, 1200, true), [Token::Datagram]);
            packets += 1;
        }
        assert!((taken / 4..=taken / 4 + 1).contains(&packets), "{packets} packets");
        while datagrams.has_pending() {
            packet(&mut datagrams, 1200, true);
        }
        assert_eq!(datagrams.poll_event(), Some(DatagramEvent::Sent));
        // One goes in even if it is longer than the buffer.
        let mut tiny = Datagrams::new(&TransportConfig::default().datagram_send_buffer(0));
        assert_eq!(tiny.send(data(1), WhenFull::Block), Ok(()));
        assert_eq!(tiny.send(data(2), WhenFull::Block), Err(SendDatagramError::Blocked));
    }

    /// A path that has become narrower: what no packet can hold must not stop what follows.
    #[test]
    fn what_no_longer_fits_is_dropped() {
        let mut datagrams = datagrams();
        datagrams.send(vec![1; 1300].into(), WhenFull::Block).unwrap();
        datagrams.send(vec![2; 1000].into(), WhenFull::Block).unwrap();
        assert_eq!(packet(&mut datagrams, 1200, true), [Token::Datagram]);
        assert_eq!((datagrams.counts.sent, datagrams.counts.dropped, datagrams.held()), (1, 1, 0));
    }

    /// Beside streams, every second packet begins with datagrams.
    #[test]
    fn others_have_their_turn() {
        let mut datagrams = datagrams();
        (0..4).for_each(|_| datagrams.send(vec![1; 1000].into(), WhenFull::Block).unwrap());
        let turns: Vec<_> = (0..6)
            .map(|_| {
                let first = !datagrams.yields();
                if first {
                    packet(&mut datagrams, 1200, true);
                }
                first
            })
            .collect();
        assert_eq!(turns, [true, false, true, false, true, false]);
    }

    #[test]
    fn sizes_are_bounded_by_the_peer_and_the_packet() {
        for (limit, room, max) in
            [(0, 1200, None), (1, 1200, None), (2, 1200, Some(0)), (100, 1200, Some(97)), (u16::MAX, 1200, Some(1197))]
        {
            assert_eq!(max_size(limit, room), max);
        }
    }
}
