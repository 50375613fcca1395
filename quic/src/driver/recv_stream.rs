//! The application's handle of the receiving part of a stream.

use std::fmt;
use std::io;
use std::ops::ControlFlow::{Break, Continue};

use super::chunk::{Chunk, Origin};
use super::connection_shared::{ConnectionRef, State};
use super::error::{ClosedStream, ReadError, ReadExactError, ReadToEndError};
use super::waiting::Cancelled;
use super::waits::Key;
use crate::chunk;
use crate::stream_id::StreamId;
use crate::streams;
use crate::wire::VarInt;

/// A stream to read from.
///
/// Dropping it before its end stops it with code 0: the peer is asked to send no more.
pub struct RecvStream {
    connection: ConnectionRef,
    id: StreamId,
    /// Bytes that were read.
    offset: u64,
    end: Option<End>,
    /// Some of it had come in 0-RTT packets when it was accepted.
    early: bool,
}

/// Why nothing more comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    /// By either end.
    Abandoned,
}

impl RecvStream {
    pub(super) fn new(connection: ConnectionRef, id: StreamId, early: bool) -> Self {
        Self { connection, id, offset: 0, end: None, early }
    }

    /// The stream's id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Whether some of what it had when it was accepted came in 0-RTT packets, and the client's handshake may not have been complete:
    /// until [`Connection::wait_handshake`](crate::Connection::wait_handshake) has returned, it may be somebody else who repeats
    /// what the client once said (RFC 9001 9.2). Act on it only if it does no harm to do so twice.
    pub fn is_0rtt(&self) -> bool {
        self.early
    }

    /// Reads what is there into `buffer`, waiting for the first byte, and returns how much that was; `None` at the end of the
    /// stream.
    ///
    /// # Errors
    /// [`ReadError`]
    #[track_caller]
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, ReadError> {
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        let id = self.id;
        self.receive(true, |state| {
            let mut filled = 0;
            while filled < buffer.len() {
                match state.protocol.read(id, buffer.len() - filled) {
                    Ok(Some(chunk)) => {
                        buffer[filled..filled + chunk.len()].copy_from_slice(&chunk);
                        filled += chunk.len();
                        state.protocol.release(id, chunk);
                    }
                    // What was read first is returned first; the end and a block are there to be met again.
                    Err(streams::ReadError::Blocked) if filled > 0 => break,
                    Ok(None) if filled > 0 => return Ok(Read::Last(filled)),
                    Ok(None) => return Ok(Read::End),
                    // A reset drops what was not read, so that nothing can have been read before it.
                    Err(error) => return Err(error),
                }
            }
            Ok(Read::Some(filled))
        })
        .map(|read| read.map(|len| (len, len as u64)))
        .map(|read| self.advance(read))
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// [`ReadExactError`], `FinishedEarly` if the stream ends before.
    #[track_caller]
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ReadExactError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                Some(len) => filled += len,
                None => return Err(ReadExactError::FinishedEarly(filled)),
            }
        }
        Ok(())
    }

    /// Reads to the end of the stream, at most `limit` bytes.
    ///
    /// # Errors
    /// [`ReadToEndError`], `TooLong` if there is more; it is left unread then.
    #[track_caller]
    pub fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, ReadToEndError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.read_chunk(usize::MAX)? {
            if chunk.len() > limit - bytes.len() {
                return Err(ReadToEndError::TooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The next bytes, `max` at most, as they lie in a packet's buffer, waiting for them; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`ReadError`]
    #[track_caller]
    pub fn read_chunk(&mut self, max: usize) -> Result<Option<Chunk>, ReadError> {
        let id = self.id;
        let read = self.receive(false, |state| match state.protocol.read(id, max)? {
            Some(chunk) => Ok(Read::Some(chunk)),
            None => Ok(Read::End),
        })?;
        let offset = self.offset;
        let chunk = self.advance(read.map(|chunk: chunk::Chunk| {
            let len = chunk.len() as u64;
            (chunk, len)
        }));
        Ok(chunk.map(|chunk| Chunk::new(self.connection.uncounted(), Origin::Stream(id), chunk, offset)))
    }

    /// Reads no more, and asks the peer to stop, for the reason `code`.
    ///
    /// # Errors
    /// The stream was read to its end, stopped or reset before.
    pub fn stop(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        if self.end.is_some() {
            return Err(ClosedStream);
        }
        self.end = Some(End::Abandoned);
        let mut state = self.connection.lock_in_place();
        state.protocol.stop(self.id, code.into());
        drop(state);
        self.connection.mark_dirty();
        Ok(())
    }

    /// Repeats `read` until there is something. `releases` says whether it gives credit back.
    #[track_caller]
    fn receive<T>(
        &mut self,
        releases: bool,
        mut read: impl FnMut(&mut State) -> Result<Read<T>, streams::ReadError>,
    ) -> Result<Read<T>, ReadError> {
        match self.end {
            Some(End::Finished) => return Ok(Read::End),
            Some(End::Abandoned) => return Err(ReadError::ClosedStream),
            None => {}
        }
        let id = self.id;
        let result = self.connection.wait(releases, |state| match read(state) {
            Ok(read) => Break(Ok(read)),
            Err(streams::ReadError::Blocked) => match state.error() {
                Some(error) => Break(Err(ReadError::ConnectionLost(error.clone()))),
                None => Continue(Key::readable(id)),
            },
            Err(streams::ReadError::Reset(code)) => Break(Err(ReadError::Reset(code.into()))),
            Err(streams::ReadError::Closed) => Break(Err(ReadError::ClosedStream)),
        });
        let result = result.unwrap_or_else(|Cancelled| Err(ReadError::Cancelled));
        if let Err(ReadError::Reset(_) | ReadError::ClosedStream) = result {
            self.end = Some(End::Abandoned);
        }
        if !releases && self.ends_with(&result) {
            // A stream that is gone may let the peer open another.
            self.connection.mark_dirty();
        }
        result
    }

    fn ends_with<T>(&self, result: &Result<Read<T>, ReadError>) -> bool {
        matches!(result, Ok(Read::End | Read::Last(_)) | Err(ReadError::Reset(_)))
    }

    fn advance<T>(&mut self, read: Read<(T, u64)>) -> Option<T> {
        let (value, len) = match read {
            Read::Some(some) => some,
            Read::Last(last) => {
                self.end = Some(End::Finished);
                last
            }
            Read::End => {
                self.end = Some(End::Finished);
                return None;
            }
        };
        self.offset += len;
        Some(value)
    }
}

/// What a read gave.
enum Read<T> {
    Some(T),
    /// Something, and behind it the stream's end, which the protocol tells once.
    Last(T),
    End,
}

impl<T> Read<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Read<U> {
        match self {
            Read::Some(value) => Read::Some(f(value)),
            Read::Last(value) => Read::Last(f(value)),
            Read::End => Read::End,
        }
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        // Closed already, if nothing more can come.
        let _ = self.stop(VarInt::ZERO);
    }
}

impl io::Read for RecvStream {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(RecvStream::read(self, buffer)?.unwrap_or(0))
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("id", &self.id).field("offset", &self.offset).finish_non_exhaustive()
    }
}
