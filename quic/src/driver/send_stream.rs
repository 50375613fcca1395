//! The application's handle of the sending part of a stream.

use std::fmt;
use std::io;
use std::ops::ControlFlow::{Break, Continue};

use bytes::Bytes;

use super::connection_shared::{ConnectionRef, State};
use super::error::{ClosedStream, StoppedError, WriteError};
use super::waiting::{Attempt, Cancelled};
use super::waits::Key;
use crate::stream_id::StreamId;
use crate::streams;
use crate::wire::VarInt;

/// A stream to write to.
///
/// Dropping it finishes it: what was written still arrives, unless the connection ends before.
pub struct SendStream {
    connection: ConnectionRef,
    id: StreamId,
    /// The application has ended it, one way or the other.
    ended: bool,
    /// The peer's reason to stop, once it was seen.
    stopped: Option<VarInt>,
}

impl SendStream {
    pub(super) fn new(connection: ConnectionRef, id: StreamId) -> Self {
        Self { connection, id, ended: false, stopped: None }
    }

    /// The stream's id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Writes some of `data`, waiting for room for the first byte, and returns how much that was. What was taken is sent
    /// without further calls.
    ///
    /// # Errors
    /// [`WriteError`]
    #[track_caller]
    pub fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        self.try_write(|state, id| state.protocol.write(id, data))
    }

    /// Writes all of `data`, waiting for room as often as needed.
    ///
    /// # Errors
    /// [`WriteError`]; some of it may have been written.
    #[track_caller]
    pub fn write_all(&mut self, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            let written = self.write(data)?;
            data = &data[written..];
        }
        Ok(())
    }

    /// Writes all of `data`, which is not copied unless it is short.
    ///
    /// # Errors
    /// [`WriteError`]; some of it may have been written.
    #[track_caller]
    pub fn write_chunk(&mut self, mut data: Bytes) -> Result<(), WriteError> {
        while !data.is_empty() {
            self.try_write(|state, id| state.protocol.write_chunk(id, &mut data))?;
        }
        Ok(())
    }

    /// Sends what is written here before the data of all streams with a lower priority. Streams begin with 0, and those of one
    /// priority take turns. It is strict: as long as a stream of a higher priority has something to send, those below wait.
    ///
    /// # Errors
    /// The stream has ended, and all of it was acknowledged.
    pub fn set_priority(&self, priority: i32) -> Result<(), ClosedStream> {
        let id = self.id;
        self.connection.verb(|state| {
            state.protocol.priority(id).ok_or(ClosedStream)?;
            state.protocol.set_priority(id, priority);
            Ok(())
        })
    }

    /// The stream's priority, see [`SendStream::set_priority`].
    ///
    /// # Errors
    /// The stream has ended, and all of it was acknowledged.
    pub fn priority(&self) -> Result<i32, ClosedStream> {
        self.connection.lock().protocol.priority(self.id).ok_or(ClosedStream)
    }

    /// Ends the stream behind what was written. Does not wait; [`SendStream::stopped`] does.
    ///
    /// # Errors
    /// The stream was finished or reset before.
    pub fn finish(&mut self) -> Result<(), ClosedStream> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(ClosedStream);
        }
        self.end()
    }

    /// Abandons the stream: what was written and has not arrived is dropped, and the peer is told `code`.
    ///
    /// # Errors
    /// The stream was reset before. It may have been finished.
    pub fn reset(&mut self, code: VarInt) -> Result<(), ClosedStream> {
        let id = self.id;
        self.ended = true;
        self.connection.verb(|state| {
            if !state.protocol.is_sending(id) {
                return Err(ClosedStream);
            }
            state.protocol.reset(id, code.into());
            Ok(())
        })
    }

    /// Waits until the peer has all of a finished stream, or a reset one's end: `None`; or has stopped it: its reason.
    ///
    /// # Errors
    /// The connection is over, or the caller was cancelled.
    #[track_caller]
    pub fn stopped(&mut self) -> Result<Option<VarInt>, StoppedError> {
        let id = self.id;
        if self.stopped.is_some() {
            return Ok(self.stopped);
        }
        let outcome = self.connection.wait(false, |state| {
            if let Some(code) = state.protocol.stopped(id) {
                Break(Ok(Some(code.into())))
            } else if !state.protocol.is_sending(id) {
                Break(Ok(None))
            } else if let Some(error) = state.error() {
                Break(Err(StoppedError::ConnectionLost(error.clone())))
            } else {
                Continue(Key::stopped(id))
            }
        });
        outcome.unwrap_or(Err(StoppedError::Cancelled))
    }

    #[track_caller]
    fn try_write(
        &mut self,
        mut write: impl FnMut(&mut State, StreamId) -> Result<usize, streams::WriteError>,
    ) -> Result<usize, WriteError> {
        let id = self.id;
        let attempt = |state: &mut State| -> Attempt<Result<usize, WriteError>> {
            if let Some(error) = state.error() {
                return Break(Err(WriteError::ConnectionLost(error.clone())));
            }
            match write(state, id) {
                Ok(written) => Break(Ok(written)),
                Err(streams::WriteError::Blocked) => Continue(Key::writable(id)),
                Err(streams::WriteError::Stopped(code)) => Break(Err(WriteError::Stopped(code.into()))),
                Err(streams::WriteError::Closed) => Break(Err(WriteError::ClosedStream)),
            }
        };
        let result = self.connection.wait(true, attempt).unwrap_or_else(|Cancelled| Err(WriteError::Cancelled));
        if let Err(WriteError::Stopped(code)) = result {
            self.stopped = Some(code);
        }
        result
    }

    fn end(&mut self) -> Result<(), ClosedStream> {
        let id = self.id;
        let mut state = self.connection.lock_in_place();
        let finished = state.protocol.finish(id);
        drop(state);
        self.connection.mark_dirty();
        match finished {
            // Of a connection that is over, and of a stream that the peer stopped, the next write or `stopped` tells.
            Ok(()) | Err(streams::WriteError::Stopped(_) | streams::WriteError::Blocked) => Ok(()),
            Err(streams::WriteError::Closed) if self.connection.lock_in_place().error().is_some() => Ok(()),
            Err(streams::WriteError::Closed) => Err(ClosedStream),
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let id = self.id;
        let mut state = self.connection.lock_in_place();
        if !self.ended {
            // It is closed only if nobody is interested any more.
            let _ = state.protocol.finish(id);
        }
        // A stop that comes later has nobody to be told.
        state.protocol.abandon(id);
        drop(state);
        self.connection.mark_dirty();
    }
}

impl io::Write for SendStream {
    #[track_caller]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        Ok(SendStream::write(self, data)?)
    }

    /// Does nothing: what was written is sent in any case.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("id", &self.id).finish_non_exhaustive()
    }
}
