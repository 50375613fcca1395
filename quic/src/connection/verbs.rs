//! What the application does with a connection: streams, close, key update. Each verb is the owning part's, and holds
//! nothing of its own.

use bytes::Bytes;

use super::Connection;
use super::close::Reason;
use crate::chunk::Chunk;
use crate::error::{ApplicationCode, ConnectionError};
use crate::pressure::Pressure;
use crate::stream_id::{Direction, StreamId};
use crate::streams::{ReadError, WriteError};
use crate::time::Instant;

impl Connection {
    /// Opens a stream. `None` if the peer allows no more for now; an event tells when it does.
    pub fn open(&mut self, direction: Direction) -> Option<StreamId> {
        if self.is_closed() {
            return None;
        }
        self.streams.open(direction)
    }

    /// The next stream that the peer opened.
    pub fn accept(&mut self, direction: Direction) -> Option<StreamId> {
        self.streams.accept(direction)
    }

    /// Writes to a stream, and returns how many bytes were taken.
    ///
    /// # Errors
    /// [`WriteError`]; `Blocked` if an event will tell when there is room.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.check_open()?;
        self.streams.write(id, data, &self.pool)
    }

    /// As [`Connection::write`], but takes bytes off the front of `data` without copying long ones.
    ///
    /// # Errors
    /// As [`Connection::write`].
    pub fn write_chunk(&mut self, id: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        self.check_open()?;
        self.streams.write_chunk(id, data, &self.pool)
    }

    /// Ends a stream after what was written. An event tells when all of it has arrived.
    ///
    /// # Errors
    /// [`WriteError`] if the stream was ended before.
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        self.check_open()?;
        self.streams.finish(id)
    }

    /// Abandons what was written to a stream.
    pub fn reset(&mut self, id: StreamId, code: ApplicationCode) {
        if !self.is_closed() {
            self.streams.reset(id, code);
        }
    }

    /// Nobody asks any more how sending on a stream went: it is forgotten as soon as it has ended.
    pub fn abandon(&mut self, id: StreamId) {
        self.streams.abandon(id);
    }

    /// The next bytes of a stream, at most `max`; `None` at its end. Give the chunk back with [`Connection::release`], or
    /// the peer's window does not open again.
    ///
    /// # Errors
    /// [`ReadError`]; `Blocked` if an event will tell when there is more.
    pub fn read(&mut self, id: StreamId, max: usize) -> Result<Option<Chunk>, ReadError> {
        self.streams.read(id, max)
    }

    /// Whether a read would give data, the end or a reset.
    pub fn is_readable(&mut self, id: StreamId) -> bool {
        self.streams.is_readable(id)
    }

    /// Whether a stream is still sending: something was not acknowledged, or its end not set.
    pub fn is_sending(&mut self, id: StreamId) -> bool {
        self.streams.is_sending(id)
    }

    /// The peer's reason, if it asked for the end of a stream that is not forgotten yet.
    pub fn stopped(&mut self, id: StreamId) -> Option<ApplicationCode> {
        self.streams.stopped(id)
    }

    /// Sends what is on the stream before the data of all streams with a lower priority. Streams begin with 0; those of one
    /// priority take turns.
    pub fn set_priority(&mut self, id: StreamId, priority: i32) {
        self.streams.set_priority(id, priority);
    }

    /// The priority of a stream that is not forgotten yet.
    pub fn priority(&mut self, id: StreamId) -> Option<i32> {
        self.streams.priority(id)
    }

    /// Whether a stream was finished of which something was not acknowledged.
    pub fn is_finishing(&self) -> bool {
        self.streams.is_finishing()
    }

    /// Takes back a chunk that was read, so that the peer may send as much again.
    pub fn release(&mut self, id: StreamId, chunk: Chunk) {
        self.streams.release(id, chunk);
    }

    /// Reads no more of a stream, and asks the peer to stop.
    pub fn stop(&mut self, id: StreamId, code: ApplicationCode) {
        if !self.is_closed() {
            self.streams.stop(id, code);
        }
    }

    /// Closes the connection. What is not acknowledged may be lost.
    pub fn close(&mut self, now: Instant, code: ApplicationCode, reason: &[u8]) {
        let reason = Reason::Application { code, reason: reason.into() };
        self.start_closing(now, reason, ConnectionError::LocallyClosed);
    }

    /// Takes note of how short memory is. Writers that were turned away are told when that is over.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        self.streams.squeeze(pressure == Pressure::Full);
    }

    /// Updates the packet keys as soon as the rules of RFC 9001 6.1 allow.
    pub fn update_keys(&mut self) {
        self.update_keys = true;
    }

    /// Sends a PING as soon as there is room.
    pub fn ping(&mut self) {
        self.ping = true;
    }

    fn check_open(&self) -> Result<(), WriteError> {
        if self.is_closed() { Err(WriteError::Closed) } else { Ok(()) }
    }
}
