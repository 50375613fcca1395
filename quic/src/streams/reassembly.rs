//! Owns received bytes until they are read: puts pieces in order, drops what came twice, and bounds what they pin.
//!
//! Used for streams and for CRYPTO data. Does not own flow control, nor when the bytes end.
//!
//! Invariants:
//! - Pieces are not empty and disjoint, and none begins below the read offset.
//! - Memory is accounted as what is pinned, not as payload. A chunk is *wasteful* when its buffer is more
//!   than 1.75 times its payload; a full packet in a 2 KiB buffer is not. The waste beyond that is drawn from a [`Slack`]
//!   of a quarter of the window, and once this is used up wasteful pieces are copied, joined with their neighbours. So a
//!   window of payload pins at most 1.75 + 0.25 = 2 windows.
//! - The number of pieces is bounded too, in a stream and in a connection, since a byte between two gaps costs
//!   hundreds of bytes of bookkeeping.
//! - A frame costs a logarithm of the number of pieces, and a copy of [`JOINED`] bytes at most, wherever it lies.

use crate::chunk::{Chunk, RECEIVE_CHUNK};
use crate::offset_map::OffsetMap;

/// The limit on pieces ([`ConnectionLimits::stream_pieces`](crate::ConnectionLimits)) grows by one for each so many bytes of
/// the window: data without gaps makes pieces of a kilobyte or more. That is more than an honest peer with full packets
/// reaches even if it loses every second one.
const BYTES_PER_PIECE: u64 = 512;

/// Copied pieces that touch are joined up to this length.
const JOINED: usize = RECEIVE_CHUNK;

/// Bytes, in order, from a source that has none.
#[derive(Debug)]
pub(crate) struct Reassembly {
    pieces: OffsetMap<Chunk>,
    /// Everything below was read.
    read: u64,
    /// The sum of the pieces' lengths.
    buffered: usize,
    /// Pieces that the window stands for.
    window_pieces: u32,
}

/// The peer cut the data into more pieces than this end is willing to track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFragmented;

/// What the received data of a whole connection costs, and may cost beyond its payload.
#[derive(Debug)]
pub(crate) struct Slack {
    /// Bytes that chunks pin, those that were handed out included.
    retained: usize,
    /// Bytes of them beyond 1.75 times the payload.
    used: usize,
    limit: usize,
    /// Pieces beyond the first of each source: those that gaps make, or full packets.
    pieces: u32,
    /// Pieces that each source may have, and all together, besides those that its window stands for.
    base_pieces: u32,
    window_pieces: u32,
}

impl Reassembly {
    /// An empty buffer of a source that keeps within `window` bytes.
    pub(crate) fn new(window: u64) -> Self {
        Self { pieces: OffsetMap::new(), read: 0, buffered: 0, window_pieces: window_pieces(window) }
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        let data: usize = self.pieces.iter().map(|(_, chunk)| chunk.retained()).sum();
        data + self.pieces.memory()
    }

    /// Keeps the bytes of `chunk` that are new. The caller has checked the flow control limits, and gives up on an error.
    pub(crate) fn insert(&mut self, offset: u64, chunk: Chunk, slack: &mut Slack) -> Result<(), TooFragmented> {
        let before = self.further_pieces();
        self.merge(offset, chunk, slack);
        slack.pieces = slack.pieces - before + self.further_pieces();
        // RFC 9000 section 21.6: a peer that leaves holes on purpose must not cost more than its window.
        if self.pieces.len() > slack.permits(self.window_pieces) as usize || slack.pieces > slack.permits(slack.window_pieces) {
            return Err(TooFragmented);
        }
        Ok(())
    }

    fn merge(&mut self, mut offset: u64, mut chunk: Chunk, slack: &mut Slack) {
        if offset < self.read {
            offset += skip(&mut chunk, self.read - offset);
        }
        if self.pieces.last().is_none_or(|(start, last)| end(start, last) <= offset) {
            // Nearly always: in order, or behind a gap.
            if !chunk.is_empty() {
                self.place(offset, chunk, slack);
            }
            return;
        }
        if let Some((start, earlier)) = self.pieces.at_or_below(offset)
            && let end = end(start, earlier)
            && end > offset
        {
            offset += skip(&mut chunk, end - offset);
        }
        while !chunk.is_empty()
            && let Some((start, later)) = self.pieces.at_or_above(offset)
            && let reach = end(offset, &chunk)
            && start < reach
        {
            if end(start, later) > reach {
                chunk.narrow(0..(start - offset) as usize);
            } else if let Some(covered) = self.pieces.remove(start) {
                self.buffered -= covered.len();
                slack.give_back(&covered);
            }
        }
        if !chunk.is_empty() {
            self.place(offset, chunk, slack);
        }
    }

    /// The next bytes in order, `max` at most, in one chunk. `None` if the next byte is not there. What comes out is no
    /// longer accounted for.
    pub(crate) fn read(&mut self, max: usize, slack: &mut Slack) -> Option<Chunk> {
        if max == 0 || !self.is_readable() {
            return None;
        }
        let before = self.further_pieces();
        let (offset, mut chunk) = self.pieces.pop_first()?;
        slack.give_back(&chunk);
        if chunk.len() > max {
            let rest = chunk.slice(max..chunk.len());
            chunk.narrow(0..max);
            self.pieces.insert(offset + max as u64, slack.admit(rest));
        }
        self.read += chunk.len() as u64;
        self.buffered -= chunk.len();
        slack.pieces -= before - self.further_pieces();
        Some(chunk)
    }

    /// Whether [`read`](Self::read) has something to give.
    pub(crate) fn is_readable(&self) -> bool {
        self.pieces.first().is_some_and(|(offset, _)| offset == self.read)
    }

    /// How many bytes were read.
    pub(crate) fn read_offset(&self) -> u64 {
        self.read
    }

    /// How many bytes are held, with gaps between them or not.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Drops all that is held.
    pub(crate) fn discard(&mut self, slack: &mut Slack) {
        slack.pieces -= self.further_pieces();
        for (_, chunk) in self.pieces.iter() {
            slack.give_back(chunk);
        }
        self.pieces = OffsetMap::new();
        self.buffered = 0;
    }

    /// Inserts a piece that overlaps no other.
    fn place(&mut self, mut offset: u64, mut chunk: Chunk, slack: &mut Slack) {
        self.buffered += chunk.len();
        if excess(&chunk) > 0 {
            if let Some((start, before)) = self.pieces.at_or_below_mut(offset)
                && end(start, before) == offset
            {
                slack.give_back(before);
                let appended = before.extend(&chunk) as u64;
                slack.take(before);
                offset += skip(&mut chunk, appended);
                if chunk.is_empty() {
                    return;
                }
            }
            if !slack.admits(&chunk) {
                return self.place_copy(offset, &chunk, slack);
            }
        }
        slack.take(&chunk);
        self.pieces.insert(offset, chunk);
    }

    /// Inserts a copy, joined with the pieces on both sides that touch it, up to a length.
    fn place_copy(&mut self, offset: u64, bytes: &[u8], slack: &mut Slack) {
        let (mut from, mut to) = (offset, offset + bytes.len() as u64);
        let fits = |from: u64, to: u64| to - from <= JOINED as u64;
        while let Some(below) = from.checked_sub(1)
            && let Some((start, before)) = self.pieces.at_or_below(below)
            && end(start, before) == from
            && fits(start, to)
        {
            from = start;
        }
        while let Some((start, after)) = self.pieces.at_or_above(to)
            && start == to
            && fits(from, end(start, after))
        {
            to = end(start, after);
        }
        // Room to grow by half keeps the copying linear, and is no waste in the sense of the file's head.
        let len = (to - from) as usize;
        let mut joined = Chunk::copied(&[], len + len / 2);
        let mut next = from;
        while next < to {
            match self.pieces.remove(next) {
                Some(piece) => {
                    joined.extend(&piece);
                    slack.give_back(&piece);
                }
                None => {
                    debug_assert_eq!(next, offset);
                    joined.extend(bytes);
                }
            }
            next = end(from, &joined);
        }
        debug_assert_eq!((joined.len(), excess(&joined)), (len, 0));
        slack.take(&joined);
        self.pieces.insert(from, joined);
    }

    /// The pieces that count against the connection: one a source is free, for it is what small messages need.
    fn further_pieces(&self) -> u32 {
        // At most one above the limit.
        self.pieces.len().saturating_sub(1) as u32
    }

    #[cfg(test)]
    fn retained(&self) -> usize {
        self.pieces.iter().map(|(_, chunk)| chunk.retained()).sum()
    }
}

impl Slack {
    /// The slack of a receiver that keeps within `window` bytes of payload: a quarter of it. It may hold `pieces` and what the
    /// window stands for.
    pub(crate) fn new(window: u64, pieces: u32) -> Self {
        let limit = usize::try_from(window / 4).unwrap_or(usize::MAX);
        Self { retained: 0, used: 0, limit, pieces: 0, base_pieces: pieces, window_pieces: window_pieces(window) }
    }

    /// Bytes that chunks pin which are accounted for.
    pub(crate) fn retained(&self) -> usize {
        self.retained
    }

    /// Accounts for `chunk`, or for a copy that wastes nothing if there is no slack left.
    pub(crate) fn admit(&mut self, chunk: Chunk) -> Chunk {
        let admitted = if self.admits(&chunk) { chunk } else { Chunk::copied(&chunk, chunk.len()) };
        self.take(&admitted);
        admitted
    }

    /// Forgets a chunk that was accounted for.
    pub(crate) fn give_back(&mut self, chunk: &Chunk) {
        self.retained = self.retained.saturating_sub(chunk.retained());
        self.used = self.used.saturating_sub(excess(chunk));
    }

    /// The limit on pieces of a window that stands for `window_pieces`.
    fn permits(&self, window_pieces: u32) -> u32 {
        // One less than the type holds, for the piece that is too many.
        self.base_pieces.saturating_add(window_pieces).min(u32::MAX - 1)
    }

    fn admits(&self, chunk: &Chunk) -> bool {
        self.used.saturating_add(excess(chunk)) <= self.limit
    }

    fn take(&mut self, chunk: &Chunk) {
        self.retained = self.retained.saturating_add(chunk.retained());
        self.used = self.used.saturating_add(excess(chunk));
    }
}

/// The pieces that a window stands for.
fn window_pieces(window: u64) -> u32 {
    u32::try_from(window / BYTES_PER_PIECE).unwrap_or(u32::MAX)
}

fn end(offset: u64, chunk: &Chunk) -> u64 {
    offset + chunk.len() as u64
}

/// How many bytes `chunk` pins beyond 1.75 times its payload.
fn excess(chunk: &Chunk) -> usize {
    chunk.retained().saturating_sub(chunk.len() + chunk.len() * 3 / 4)
}

/// Cuts up to `count` bytes off the front and returns how many that were.
fn skip(chunk: &mut Chunk, count: u64) -> u64 {
    let skipped = count.min(chunk.len() as u64);
    chunk.narrow(skipped as usize..chunk.len());
    skipped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::Pool;

    const PIECES: u32 = 1024;

    /// What the byte at an offset of every test stream is.
    fn byte(offset: u64) -> u8 {
        (offset.wrapping_mul(0x9e37_79b9) >> 13) as u8
    }

    /// A chunk of the test stream in a pooled buffer, as it comes out of a packet.
    fn chunk(pool: &Pool, offset: u64, len: usize) -> Chunk {
        let mut chunk = pool.take(len);
        for (at, to) in chunk[..len].iter_mut().enumerate() {
            *to = byte(offset + at as u64);
        }
        chunk.freeze(0..len)
    }

    #[test]
    fn data_in_order_is_handed_out_as_it_came() {
        let (pool, mut slack) = (Pool::new(), Slack::new(1 << 20, PIECES));
        let mut buffer = Reassembly::new(1 << 20);
        let data = chunk(&pool, 0, 1200);
        let address = data.as_ptr();
        buffer.insert(0, data, &mut slack).unwrap();
        assert_eq!(buffer.read(usize::MAX, &mut slack).unwrap().as_ptr(), address);
        assert_eq!((buffer.read_offset(), buffer.buffered(), slack.used), (1200, 0, 0));
    }

    #[test]
    fn a_read_below_the_chunk_leaves_the_rest() {
        let (pool, mut slack) = (Pool::new(), Slack::new(1 << 20, PIECES));
        let mut buffer = Reassembly::new(1 << 20);
        buffer.insert(0, chunk(&pool, 0, 10), &mut slack).unwrap();
        assert_eq!(&*buffer.read(4, &mut slack).unwrap(), [byte(0), byte(1), byte(2), byte(3)]);
        assert_eq!(buffer.read(100, &mut slack).unwrap().len(), 6);
        assert!(buffer.read(100, &mut slack).is_none() && !buffer.is_readable());
    }

    /// Single bytes at even offsets, each in a 2 KiB buffer, and the byte that would free them withheld.
    #[test]
    fn single_bytes_pin_little_and_end_in_an_error() {
        let (pool, window) = (Pool::new(), 256 * 1024);
        let mut slack = Slack::new(window, PIECES);
        let mut buffer = Reassembly::new(window);
        let mut most = 0;
        let fragmented = (1..10_000).map(|n| 2 * n).find(|&offset| {
            let result = buffer.insert(offset, chunk(&pool, offset, 1), &mut slack);
            most = most.max(buffer.retained());
            result.is_err()
        });
        assert_eq!(fragmented, Some(2 * (1024 + 512 + 1)));
        assert!(most as u64 <= window / 2, "{most} bytes pinned by 1536 bytes");
    }

    /// The same spread over many streams: the connection's limit holds.
    #[test]
    fn pieces_are_limited_in_the_sum_of_streams() {
        let (pool, window) = (Pool::new(), 256 * 1024);
        let mut slack = Slack::new(window, PIECES);
        let mut buffers: Vec<_> = (0..100).map(|_| Reassembly::new(window)).collect();
        let mut pieces = 0;
        'connection: for offset in (1..1000).step_by(2) {
            for buffer in &mut buffers {
                if buffer.insert(offset, chunk(&pool, offset, 1), &mut slack).is_err() {
                    break 'connection;
                }
                pieces += 1;
            }
        }
        assert_eq!(pieces, 100 + 1024 + 512);
    }

    /// The same without gaps, forwards and backwards: never an error, joined into long pieces.
    #[test]
    fn single_bytes_without_gaps_are_joined() {
        let pool = Pool::new();
        let window = 64 * 1024;
        for backwards in [false, true] {
            let mut slack = Slack::new(window, PIECES);
            let mut buffer = Reassembly::new(window);
            for n in 0..window - 1 {
                let offset = if backwards { window - 1 - n } else { n + 1 };
                buffer.insert(offset, chunk(&pool, offset, 1), &mut slack).unwrap();
                let bound = buffer.buffered() * 7 / 4 + slack.limit;
                assert!(buffer.retained() <= bound, "{} bytes pinned by {n}", buffer.retained());
            }
            assert!(buffer.pieces.len() < 100, "{} pieces", buffer.pieces.len());
            buffer.insert(0, chunk(&pool, 0, 1), &mut slack).unwrap();
            let mut read = 0;
            while let Some(data) = buffer.read(usize::MAX, &mut slack) {
                assert!(data.iter().all(|&got| {
                    read += 1;
                    got == byte(read - 1)
                }));
            }
            assert_eq!((read, slack.used), (window, 0));
        }
    }

    /// The most pieces that a window of 16 MiB has, at random offsets: each costs the move of a few neighbours.
    #[test]
    fn random_offsets_move_little() {
        let (pool, window) = (Pool::new(), 16 << 20);
        let mut slack = Slack::new(window, PIECES);
        let mut buffer = Reassembly::new(window);
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..33_000 {
            let offset = 2 * rng.u64(1..window / 2);
            buffer.insert(offset, chunk(&pool, offset, 1), &mut slack).unwrap();
        }
        assert!(buffer.pieces.len() > 32_000);
        assert!(buffer.pieces.moved < 5_000, "{} pieces moved", buffer.pieces.moved);
    }

    /// A connection whose peer loses every second full packet of a window is no attack.
    #[test]
    fn every_second_packet_lost_is_tolerated_without_copies() {
        let (pool, window) = (Pool::new(), 4 << 20);
        let mut slack = Slack::new(window, PIECES);
        let mut buffer = Reassembly::new(window);
        for n in (1..window / 1200).step_by(2) {
            let data = chunk(&pool, n * 1200, 1200);
            let address = data.as_ptr();
            buffer.insert(n * 1200, data, &mut slack).unwrap();
            assert_eq!(buffer.pieces.at_or_below(u64::MAX).unwrap().1.as_ptr(), address);
        }
        assert!(buffer.retained() as u64 <= 2 * window);
    }

    proptest! {
        /// Any pieces, in any order, overlapping or twice: each byte comes out once, in order, and memory stays bounded.
        #[test]
        fn every_byte_once_and_in_order(
            pieces in prop::collection::vec((0u64..6000, 1usize..900), 1..120),
            reads in prop::collection::vec(0usize..2500, 1..60),
            window in prop::sample::select(vec![0u64, 4_000, 1 << 20]),
        ) {
            let pool = Pool::new();
            let mut slack = Slack::new(window, PIECES);
            let mut buffer = Reassembly::new(window);
            let mut have = vec![false; 7000];
            let mut read = 0u64;
            let mut reads = reads.iter().cycle();
            for (offset, len) in pieces {
                buffer.insert(offset, chunk(&pool, offset, len), &mut slack).unwrap();
                have[offset as usize..][..len].fill(true);
                let held = have[read as usize..].iter().filter(|&&have| have).count();
                prop_assert_eq!(buffer.buffered(), held);
                prop_assert!(buffer.retained() <= held * 7 / 4 + 3 + slack.limit + 2 * buffer.pieces.len());
                let sum: usize = buffer.pieces.iter().map(|(_, chunk)| excess(chunk)).sum();
                prop_assert_eq!((slack.used, slack.retained), (sum, buffer.retained()));
                let pieces: Vec<_> = buffer.pieces.iter().map(|(offset, chunk)| (offset, end(offset, chunk))).collect();
                prop_assert!(pieces.windows(2).all(|two| two[0].1 <= two[1].0));
                let max = *reads.next().unwrap();
                if max % 3 == 0 {
                    continue;
                }
                if let Some(data) = buffer.read(max, &mut slack) {
                    prop_assert!(!data.is_empty() && data.len() <= max);
                    for &got in data.iter() {
                        prop_assert!(have[read as usize]);
                        prop_assert_eq!(got, byte(read));
                        read += 1;
                    }
                } else {
                    prop_assert!(!have[read as usize]);
                }
                prop_assert_eq!(buffer.read_offset(), read);
            }
            prop_assert_eq!(slack.pieces, buffer.further_pieces());
            buffer.discard(&mut slack);
            prop_assert_eq!((slack.used, slack.retained, slack.pieces, buffer.buffered()), (0, 0, 0, 0));
        }
    }
}
