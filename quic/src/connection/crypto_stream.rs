//! One encryption level's stream of CRYPTO bytes, in both directions.
//!
//! Owns the bytes: those sent until they are acknowledged, and those received until TLS reads them. It knows neither TLS
//! nor packets. Received bytes are copied into one window that starts at the first unread byte, so that what is retained
//! is bounded by the window however the peer cuts its frames.

use crate::error::{TransportError, TransportErrorCode};
use crate::ranges::RangeSet;
use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::Crypto;

/// Gaps kept between received pieces. A peer that permutes its ClientHello makes a few; this is an attack's bound.
const MAX_PIECES: usize = 256;

/// Bytes of one level on their way to the peer.
#[derive(Default)]
pub(crate) struct CryptoSend {
    /// Bytes from `base` on; those before are acknowledged.
    data: Vec<u8>,
    base: u64,
    /// First byte never sent.
    next: u64,
    /// All below `next`.
    lost: RangeSet,
    /// All above `base`.
    acked: RangeSet,
}

impl CryptoSend {
    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.data.capacity() + self.lost.memory() + self.acked.memory()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.lost.is_empty() || self.has_unsent()
    }

    /// Whether some of it was never sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.next < self.end()
    }

    /// Whether all that was ever pushed has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Writes lost bytes first, then new ones, while they fit.
    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) {
        loop {
            let range = match self.lost.first() {
                Some(lost) => lost,
                None if self.next < self.end() => self.next..self.end(),
                None => return,
            };
            let capacity = Crypto::capacity(range.start, out.remaining());
            let Some(room) = capacity.filter(|room| *room > 0) else { return };
            let length = (range.end - range.start).min(room.min(usize::from(u16::MAX)) as u64);
            let sent = range.start..range.start + length;
            let at = (sent.start - self.base) as usize;
            let frame = Crypto { offset: sent.start, data: &self.data[at..at + length as usize] };
            if !out.frame(&frame, Token::Crypto { offset: sent.start, len: length as u16 }) {
                return;
            }
            self.next = self.next.max(sent.end);
            self.lost.remove(sent);
        }
    }

    pub(crate) fn on_acked(&mut self, offset: u64, length: u64) {
        let range = offset.max(self.base)..(offset + length).min(self.next);
        if range.is_empty() {
            return;
        }
        self.lost.remove(range.clone());
        self.acked.insert(range);
        if let Some(end) = self.acked.pop_at(self.base) {
            self.data.drain(..(end - self.base) as usize);
            self.base = end;
            if self.data.is_empty() {
                self.data = Vec::new();
            }
        }
    }

    pub(crate) fn on_lost(&mut self, offset: u64, length: u64) {
        let range = offset.max(self.base)..(offset + length).min(self.next);
        if range.is_empty() {
            return;
        }
        self.lost.insert(range.clone());
        self.lost.remove_all(&self.acked, range);
    }

    fn end(&self) -> u64 {
        self.base + self.data.len() as u64
    }
}

/// Bytes of one level on their way to TLS.
#[derive(Default)]
pub(crate) struct CryptoReceive {
    /// Bytes from `read` on, with holes where nothing came yet, behind `spent` ones that were read: moving the rest to the
    /// front for every piece read would cost a peer's small frames a window each.
    window: Vec<u8>,
    spent: usize,
    read: u64,
    /// What of the window is filled.
    filled: RangeSet,
}

impl CryptoReceive {
    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        self.window.capacity() + self.filled.memory()
    }

    /// Takes in one frame's data, which may reach `window` bytes beyond those read. Duplicates are ignored.
    pub(crate) fn on_data(&mut self, offset: u64, data: &[u8], window: u32) -> Result<(), TransportError> {
        let end = offset + data.len() as u64;
        if end <= self.read || data.is_empty() {
            return Ok(());
        }
        // RFC 9000 7.5: what does not fit the buffer closes the connection.
        if end > self.read + u64::from(window) {
            return Err(exceeded());
        }
        let skip = self.read.saturating_sub(offset) as usize;
        let data = &data[skip..];
        let at = self.spent + (offset.max(self.read) - self.read) as usize;
        if self.window.len() < at + data.len() {
            self.window.resize(at + data.len(), 0);
        }
        self.window[at..at + data.len()].copy_from_slice(data);
        self.filled.insert(offset.max(self.read)..end);
        if self.filled.len() > MAX_PIECES {
            return Err(exceeded());
        }
        Ok(())
    }

    /// The bytes that follow those already read, if there are any.
    pub(crate) fn read(&mut self) -> Option<Vec<u8>> {
        let end = self.filled.pop_at(self.read)?;
        let length = (end - self.read) as usize;
        self.read = end;
        let bytes = self.window[self.spent..self.spent + length].to_vec();
        self.spent += length;
        if self.filled.is_empty() {
            *self = Self { read: self.read, ..Self::default() };
        } else if self.spent * 2 >= self.window.len() {
            self.window.drain(..self.spent);
            self.spent = 0;
        }
        Some(bytes)
    }

    /// What [`CryptoReceive::read`] would give.
    pub(crate) fn peek(&self) -> &[u8] {
        let ready = self.filled.first().filter(|first| first.start == self.read);
        ready.map_or(&[], |ready| &self.window[self.spent..][..(ready.end - ready.start) as usize])
    }

    /// Whether [`CryptoReceive::read`] has something to give.
    pub(crate) fn is_readable(&self) -> bool {
        self.filled.first().is_some_and(|first| first.start == self.read)
    }

    /// Whether bytes wait to be read, or behind a hole.
    pub(crate) fn has_buffered(&self) -> bool {
        !self.filled.is_empty()
    }
}

fn exceeded() -> TransportError {
    TransportErrorCode::CRYPTO_BUFFER_EXCEEDED.because("more CRYPTO bytes out of order than are buffered")
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const WINDOW: u32 = 64 * 1024;
    const WIDE: u64 = WINDOW as u64;

    fn bytes(range: Range<u64>) -> Vec<u8> {
        range.map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn any_order_and_overlap_reads_back_whole() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let total = rng.u64(1..8000);
            let mut frames = Vec::new();
            let mut at = 0;
            while at < total {
                let end = (at + rng.u64(1..200)).min(total);
                let start = at.saturating_sub(rng.u64(0..50));
                frames.push(start..end);
                at = end;
            }
            rng.shuffle(&mut frames);
            let mut receive = CryptoReceive::default();
            let mut out = Vec::new();
            for frame in frames {
                receive.on_data(frame.start, &bytes(frame.clone()), WINDOW).unwrap();
                while let Some(piece) = receive.read() {
                    out.extend(piece);
                }
            }
            assert_eq!(out, bytes(0..total), "seed {seed}");
            assert!(!receive.has_buffered());
        }
    }

    #[test]
    fn bytes_past_the_window_are_refused() {
        // RFC 9000 7.5
        let mut receive = CryptoReceive::default();
        receive.on_data(WIDE - 1, &[0], WINDOW).unwrap();
        let error = receive.on_data(WIDE, &[0], WINDOW).unwrap_err();
        assert_eq!(error.code, TransportErrorCode::CRYPTO_BUFFER_EXCEEDED);
        receive.on_data(0, &[0], WINDOW).unwrap();
        receive.read().unwrap();
        receive.on_data(WIDE, &[0], WINDOW).unwrap();
    }

    #[test]
    fn what_is_held_is_bounded_however_little_is_read_at_once() {
        // A byte at the window's end, and the others one by one.
        let mut receive = CryptoReceive::default();
        for at in 0..WIDE - 2 {
            receive.on_data(at + WIDE - 1, &[1], WINDOW).unwrap();
            receive.on_data(at, &[2], WINDOW).unwrap();
            assert!(receive.read().unwrap() == [2] && receive.has_buffered());
            assert!(receive.window.len() as u64 <= 2 * WIDE);
        }
    }

    #[test]
    fn sparse_bytes_are_bounded_in_pieces() {
        let mut receive = CryptoReceive::default();
        let refused = (1..2000u64).find(|at| receive.on_data(at * 2, &[1], WINDOW).is_err());
        assert_eq!(refused, Some(MAX_PIECES as u64 + 1));
    }
}
