//! Reads varints, frame headers and payloads off a QUIC stream, chunk by chunk, without copying bodies.
//!
//! Owns the receiving half of one stream and the chunk that is being consumed.

use weald_quic::{Chunk, ReadError, RecvStream};

use crate::{
    error::{Code, Violation},
    frame::{FrameType, varint_len},
};

/// A stream with a look-ahead of one chunk. Dropped before the stream's end, it asks the peer to send no more.
pub(crate) struct FrameReader {
    stream: RecvStream,
    chunk: Option<Chunk>,
    /// Bytes of `chunk` that were consumed, less than it has: integers are taken out without cutting the chunk for each byte.
    consumed: usize,
    /// Frame headers read so far.
    frames: u32,
    /// What the peer is told if the stream is dropped unread.
    abandon: Code,
}

/// Largest piece taken from the stream at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// Frame headers between two turns of the other coroutines of the worker. A stream of empty frames would keep it busy for as long as the
/// buffered bytes last, since it never waits.
const FRAMES_A_TURN: u32 = 256;

impl FrameReader {
    pub(crate) fn new(stream: RecvStream, abandon: Code) -> Self {
        Self { stream, chunk: None, consumed: 0, frames: 0, abandon }
    }

    /// The stream's number.
    pub(crate) fn id(&self) -> u64 {
        self.stream.id().as_u64()
    }

    /// The next frame's type and payload length; `None` where the stream ends between frames.
    pub(crate) fn frame_header(&mut self) -> Result<Option<(FrameType, u64)>, Failed> {
        let Some(frame_type) = self.varint()? else { return Ok(None) };
        let length = self.varint()?.ok_or(Failed::CUT_FRAME)?;
        self.frames += 1;
        if self.frames == FRAMES_A_TURN {
            self.frames = 0;
            weald_runtime::yield_now();
        }
        Ok(Some((FrameType::from_wire(frame_type), length)))
    }

    /// The next variable-length integer; `None` where the stream ends before it.
    pub(crate) fn varint(&mut self) -> Result<Option<u64>, Failed> {
        let Some(first) = self.byte()? else { return Ok(None) };
        let mut value = u64::from(first & 0x3f);
        for _ in 1..varint_len(first) {
            value = value << 8 | u64::from(self.byte()?.ok_or(Failed::CUT_FRAME)?);
        }
        Ok(Some(value))
    }

    /// A whole payload of `length` bytes. The caller has checked `length` against its own limit.
    pub(crate) fn payload(&mut self, length: u64) -> Result<Vec<u8>, Failed> {
        let mut payload = Vec::new();
        let mut left = length;
        while left > 0 {
            let piece = self.piece(left)?.ok_or(Failed::CUT_FRAME)?;
            left -= piece.len() as u64;
            payload.extend_from_slice(&piece);
        }
        Ok(payload)
    }

    /// Passes over a payload of `length` bytes, however long, keeping none of it.
    pub(crate) fn skip(&mut self, length: u64) -> Result<(), Failed> {
        let mut left = length;
        while left > 0 {
            left -= self.piece(left)?.ok_or(Failed::CUT_FRAME)?.len() as u64;
        }
        Ok(())
    }

    /// The next bytes, at least 1 and at most `max`; `None` at the end of the stream.
    pub(crate) fn piece(&mut self, max: u64) -> Result<Option<Chunk>, Failed> {
        if !self.fill()? {
            return Ok(None);
        }
        let consumed = std::mem::take(&mut self.consumed);
        let Some(chunk) = self.chunk.as_mut() else { return Ok(None) };
        if consumed > 0 {
            drop(chunk.split_to(consumed));
        }
        if chunk.len() as u64 > max { Ok(Some(chunk.split_to(max as usize))) } else { Ok(self.chunk.take()) }
    }

    /// Tells the peer that no more of this stream is wanted.
    pub(crate) fn stop(&mut self, code: Code) {
        self.chunk = None;
        self.consumed = 0;
        // A stream that ended already needs no stopping.
        let _ = self.stream.stop(code.to_varint());
    }

    fn byte(&mut self) -> Result<Option<u8>, Failed> {
        if !self.fill()? {
            return Ok(None);
        }
        let Some(chunk) = &self.chunk else { return Ok(None) };
        let byte = chunk[self.consumed];
        self.consumed += 1;
        if self.consumed == chunk.len() {
            self.chunk = None;
            self.consumed = 0;
        }
        Ok(Some(byte))
    }

    /// Makes `chunk` present, unless the stream has ended.
    fn fill(&mut self) -> Result<bool, Failed> {
        while self.chunk.is_none() {
            match self.stream.read_chunk(PIECE)? {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => self.chunk = Some(chunk),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.stop(self.abandon);
    }
}

/// Why reading stopped.
#[derive(Debug, Clone)]
pub(crate) enum Failed {
    /// The peer's bytes are wrong.
    Violation(Violation),
    /// The stream or the connection below ended.
    Stream(ReadError),
}

impl Failed {
    /// RFC 9114 section 7.1.
    const CUT_FRAME: Self = Self::Violation(Violation::connection(Code::FRAME_ERROR, "a stream that ends in the middle of a frame"));
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self::Stream(error)
    }
}

impl From<Violation> for Failed {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}
