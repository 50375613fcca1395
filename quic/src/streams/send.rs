//! Owns the sending part of a stream: written bytes until they are acknowledged, what to send next, and how it ends.
//!
//! Does not own the connection's credit, which is lent, nor the frames (`transmit`).
//!
//! Invariants:
//! - `acknowledged <= sent <= written`, and `sent <= limit`.
//! - Blocks touch, and hold all from the first byte not acknowledged to `written`.
//! - `lost` is below `sent` and disjoint from what was acknowledged.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::budget::Room;
use crate::chunk::{Chunk, Pool, SEND_CHUNK, SendSlice};
use crate::error::ApplicationCode;
use crate::ranges::RangeSet;
use crate::streams::WriteError;

/// Owned chunks shorter than this are copied all the same: an entry of the queue, and the memory that the application's
/// handle may pin, cost more than the copy.
const COPIED_BELOW: usize = 1024;

/// A writer is woken when this part of the send window is free, so that not every acknowledgement wakes it.
const WAKE_FRACTION: u64 = 4;

/// RFC 9000 section 3.1. "Ready" and "Send" are one here, since nothing depends on whether a frame was sent already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The application may write.
    Open,
    /// The application has finished ("Data Sent" once the FIN is out).
    Finishing(Fin),
    /// "Data Recvd": terminal.
    DataAcknowledged,
    /// "Reset Sent".
    ResetSent(ApplicationCode),
    /// "Reset Recvd": terminal.
    ResetAcknowledged,
}

/// Where the FIN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    ToSend,
    InFlight,
    Acknowledged,
}

/// The sending part of a stream.
#[derive(Debug)]
pub(super) struct Send {
    state: State,
    /// The peer asked to stop, with this code.
    stopped: Option<Stopped>,
    blocks: VecDeque<Block>,
    /// The end of what the application wrote.
    written: u64,
    /// The end of what was sent at least once.
    sent: u64,
    /// Everything below was acknowledged.
    acknowledged: u64,
    /// Acknowledged above that.
    acknowledged_above: RangeSet,
    /// To be sent again, before anything new.
    lost: RangeSet,
    /// The peer's limit (MAX_STREAM_DATA).
    limit: u64,
    /// The limit at which the peer was last told that it blocks.
    told: Option<u64>,
    /// A write found no room since the last wake.
    writer_waits: bool,
    /// Nobody asks any more how it ended.
    abandoned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stopped {
    code: ApplicationCode,
    /// The application has seen it as an error, or has abandoned the stream.
    seen: bool,
}

#[derive(Debug)]
struct Block {
    offset: u64,
    data: SendSlice,
}

impl Block {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

/// What could be sent next: a run of bytes in one block, or nothing but the FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Which block it is in.
    block: usize,
    pub(super) offset: u64,
    pub(super) len: usize,
    /// The stream ends behind the whole segment.
    pub(super) fin: bool,
}

/// Whether a stream has something to send, and if not now, what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// The peer's limit of the connection.
    WaitsForConnection,
    /// The peer's limit of this stream.
    WaitsForStream,
    Idle,
}

impl Send {
    /// A stream that may send up to `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            state: State::Open,
            stopped: None,
            blocks: VecDeque::new(),
            written: 0,
            sent: 0,
            acknowledged: 0,
            acknowledged_above: RangeSet::default(),
            lost: RangeSet::default(),
            limit,
            told: None,
            writer_waits: false,
            abandoned: false,
        }
    }

    /// Copies as much of `data` as there is room for.
    pub(super) fn write(&mut self, data: &[u8], pool: &Pool, room: Room) -> Result<usize, WriteError> {
        let accepted = self.admit(data.len(), room)?;
        let mut rest = &data[..accepted];
        if let Some(Block { data: SendSlice::Pooled(last), .. }) = self.blocks.back_mut() {
            let appended = last.extend(rest);
            rest = &rest[appended..];
            self.written += appended as u64;
        }
        while !rest.is_empty() {
            let len = rest.len().min(SEND_CHUNK);
            let mut chunk = pool.take(len);
            chunk[..len].copy_from_slice(&rest[..len]);
            self.push(SendSlice::Pooled(chunk.freeze(0..len)));
            rest = &rest[len..];
        }
        Ok(accepted)
    }

    /// Takes as much off the front of `data` as there is room for, without a copy unless it is short.
    pub(super) fn write_chunk(&mut self, data: &mut Bytes, pool: &Pool, room: Room) -> Result<usize, WriteError> {
        if data.len() < COPIED_BELOW {
            let accepted = self.write(data, pool, room)?;
            data.advance(accepted);
            return Ok(accepted);
        }
        let accepted = self.admit(data.len(), room)?;
        self.push(SendSlice::Owned(data.split_to(accepted)));
        Ok(accepted)
    }

    /// Ends the stream behind what was written.
    pub(super) fn finish(&mut self) -> Result<(), WriteError> {
        self.check_open()?;
        self.state = State::Finishing(Fin::ToSend);
        Ok(())
    }

    /// Abandons the stream. Returns whether the peer is to be told.
    pub(super) fn reset(&mut self, code: ApplicationCode) -> bool {
        if let Some(stopped) = &mut self.stopped {
            stopped.seen = true;
        }
        let abandons = matches!(self.state, State::Open | State::Finishing(_));
        if abandons {
            self.state = State::ResetSent(code);
            self.blocks = VecDeque::new();
            self.acknowledged_above.clear();
            self.lost.clear();
        }
        abandons
    }

    /// The peer asks to stop (RFC 9000 section 3.5: answered by a reset with the same code). Returns whether that is news.
    pub(super) fn on_stop_sending(&mut self, code: ApplicationCode) -> bool {
        let news = self.reset(code);
        if news {
            self.stopped = Some(Stopped { code, seen: false });
        }
        news
    }

    /// The connection is over: nothing is sent any more. How the stream stands can still be asked.
    pub(super) fn let_go(&mut self) {
        self.blocks = VecDeque::new();
        (self.sent, self.acknowledged) = (self.written, self.written);
        self.acknowledged_above.clear();
        self.lost.clear();
    }

    /// Nothing of what was sent was taken in, nor will be: all is to be sent again, under a limit that is not known yet.
    pub(super) fn restart(&mut self) {
        debug_assert_eq!(self.acknowledged, 0, "what is to be sent again is still held");
        (self.sent, self.limit, self.told) = (self.acknowledged, 0, None);
        self.acknowledged_above.clear();
        self.lost.clear();
        if let State::Finishing(fin) = &mut self.state {
            *fin = Fin::ToSend;
        }
    }

    /// Nobody asks any more how the stream ended.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Raises the peer's limit.
    pub(super) fn on_max_stream_data(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    pub(super) fn readiness(&self, credit: u64) -> Readiness {
        if !matches!(self.state, State::Open | State::Finishing(_)) {
            return Readiness::Idle;
        }
        if !self.lost.is_empty() {
            return Readiness::Ready;
        }
        if self.sent == self.written {
            return if self.state == State::Finishing(Fin::ToSend) { Readiness::Ready } else { Readiness::Idle };
        }
        match (self.sent < self.limit, credit > 0) {
            (false, _) => Readiness::WaitsForStream,
            (true, false) => Readiness::WaitsForConnection,
            (true, true) => Readiness::Ready,
        }
    }

    /// What to send next, if new data is limited to `credit` bytes: first what was lost.
    pub(super) fn next_segment(&self, credit: u64) -> Option<Segment> {
        if self.readiness(credit) != Readiness::Ready {
            return None;
        }
        let (offset, end) = match self.lost.first() {
            Some(lost) => (lost.start, lost.end),
            None => (self.sent, self.written.min(self.limit).min(self.sent.saturating_add(credit))),
        };
        let block = self.blocks.partition_point(|block| block.end() <= offset);
        let end = self.blocks.get(block).map_or(offset, |block| block.end().min(end));
        let fin = end == self.written && self.state == State::Finishing(Fin::ToSend);
        Some(Segment { block, offset, len: (end - offset) as usize, fin })
    }

    /// The first `len` bytes of a segment, to copy.
    pub(super) fn bytes(&self, segment: Segment, len: usize) -> &[u8] {
        match self.blocks.get(segment.block) {
            Some(block) => &block.data[(segment.offset - block.offset) as usize..][..len],
            None => &[],
        }
    }

    /// The first `len` bytes of a segment, shared.
    pub(super) fn slice(&self, segment: Segment, len: usize) -> SendSlice {
        match self.blocks.get(segment.block) {
            Some(block) => {
                let start = (segment.offset - block.offset) as usize;
                block.data.slice(start..start + len)
            }
            None => SendSlice::Pooled(Chunk::default()),
        }
    }

    /// The first `len` bytes of a segment were sent. Returns how many of them never were before.
    pub(super) fn on_sent(&mut self, segment: Segment, len: usize, fin: bool) -> u64 {
        let end = segment.offset + len as u64;
        self.lost.remove(segment.offset..end);
        if fin {
            self.state = State::Finishing(Fin::InFlight);
        }
        let new = end.saturating_sub(self.sent);
        self.sent += new;
        new
    }

    /// A STREAM frame was acknowledged. Returns whether the stream has ended by it ("Data Recvd").
    pub(super) fn on_acked(&mut self, offset: u64, len: u64, fin: bool) -> bool {
        if !matches!(self.state, State::Open | State::Finishing(_)) {
            return false;
        }
        let range = offset.max(self.acknowledged)..offset + len;
        if !range.is_empty() {
            self.lost.remove(range.clone());
            if range.start == self.acknowledged {
                self.acknowledged = range.end;
            } else {
                self.acknowledged_above.insert(range);
            }
        }
        while let Some(end) = self.acknowledged_above.pop_at(self.acknowledged) {
            self.acknowledged = self.acknowledged.max(end);
        }
        while self.blocks.front().is_some_and(|block| block.end() <= self.acknowledged) {
            self.blocks.pop_front();
        }
        if fin {
            self.state = State::Finishing(Fin::Acknowledged);
        }
        let ended = self.state == State::Finishing(Fin::Acknowledged) && self.acknowledged == self.written;
        if ended {
            self.state = State::DataAcknowledged;
        }
        ended
    }

    /// A STREAM frame was lost, or is presumed to be. Late acknowledgements are still welcome.
    pub(super) fn on_lost(&mut self, offset: u64, len: u64, fin: bool) {
        if !matches!(self.state, State::Open | State::Finishing(_)) {
            return;
        }
        let range = offset.max(self.acknowledged)..offset + len;
        if !range.is_empty() {
            self.lost.insert(range.clone());
            self.lost.remove_all(&self.acknowledged_above, range);
        }
        if fin && self.state == State::Finishing(Fin::InFlight) {
            self.state = State::Finishing(Fin::ToSend);
        }
    }

    /// The RESET_STREAM was acknowledged. Returns whether the stream has ended by it ("Reset Recvd").
    pub(super) fn on_reset_acked(&mut self) -> bool {
        let ended = matches!(self.state, State::ResetSent(_));
        if ended {
            self.state = State::ResetAcknowledged;
        }
        ended
    }

    /// The code and final size of the RESET_STREAM that is owed, if one is.
    pub(super) fn reset_to_send(&self) -> Option<(ApplicationCode, u64)> {
        match self.state {
            // RFC 9000 section 4.5: the final size is the end of what was sent.
            State::ResetSent(code) => Some((code, self.sent)),
            _ => None,
        }
    }

    /// Whether the peer does not know yet that its limit blocks. True once a limit.
    pub(super) fn tell_blocked(&mut self) -> bool {
        self.told.replace(self.limit) != Some(self.limit)
    }

    /// The limit that blocks this stream, if one does.
    pub(super) fn blocked_at(&self) -> Option<u64> {
        (self.readiness(u64::MAX) == Readiness::WaitsForStream).then_some(self.limit)
    }

    /// Whether a writer waits and now has room enough to go on, or never will. True once a wait. One that waits for the
    /// connection's room (`crowded`) goes on when its own data is gone: some room is reserved for it.
    pub(super) fn wake_writer(&mut self, room: Room, crowded: bool) -> bool {
        let ended = !matches!(self.state, State::Open);
        let held = self.held();
        let goes_on = if crowded { held == 0 } else { room.window.saturating_sub(held) >= (room.window / WAKE_FRACTION).max(1) };
        let wake = self.writer_waits && (ended || goes_on);
        self.writer_waits &= !wake;
        wake
    }

    /// Whether nothing more happens on this part, and the application knows how it ended.
    pub(super) fn is_terminal(&self) -> bool {
        let ended = matches!(self.state, State::DataAcknowledged | State::ResetAcknowledged);
        ended && (self.abandoned || self.stopped.is_none_or(|stopped| stopped.seen))
    }

    /// Bytes held outside of the value itself.
    pub(super) fn memory(&self) -> usize {
        let data: usize = self.blocks.iter().map(|block| block.data.retained()).sum();
        data + self.blocks.capacity() * size_of::<Block>() + self.acknowledged_above.memory() + self.lost.memory()
    }

    /// The peer's reason to stop.
    pub(super) fn stopped(&self) -> Option<ApplicationCode> {
        self.stopped.map(|stopped| stopped.code)
    }

    /// How many bytes are kept that were written and not acknowledged, those behind the first of them included.
    pub(super) fn held(&self) -> u64 {
        if matches!(self.state, State::Open | State::Finishing(_)) { self.written - self.acknowledged } else { 0 }
    }

    /// Finished, and not all of it acknowledged.
    pub(super) fn is_finishing(&self) -> bool {
        matches!(self.state, State::Finishing(_))
    }

    fn check_open(&mut self) -> Result<(), WriteError> {
        if let Some(stopped) = &mut self.stopped {
            stopped.seen = true;
            return Err(WriteError::Stopped(stopped.code));
        }
        if self.state == State::Open { Ok(()) } else { Err(WriteError::Closed) }
    }

    /// How many of `wanted` bytes may be written now.
    fn admit(&mut self, wanted: usize, room: Room) -> Result<usize, WriteError> {
        self.check_open()?;
        let room = usize::try_from(room.beyond(self.held())).unwrap_or(usize::MAX);
        if room == 0 && wanted > 0 {
            self.writer_waits = true;
            return Err(WriteError::Blocked);
        }
        Ok(wanted.min(room))
    }

    fn push(&mut self, data: SendSlice) {
        let offset = self.written;
        self.written += data.len() as u64;
        self.blocks.push_back(Block { offset, data });
    }
}
