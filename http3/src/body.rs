//! Message bodies: [`RecvBody`] and [`SendBody`], as chunks and as `Read` and `Write`.
//!
//! Owns DATA frames, trailers, and the check of Content-Length in both directions.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use http::HeaderMap;
use weald_quic::{Chunk, SendStream, Side, WriteError};

use crate::{
    connection::Core,
    error::{Code, Error, Violation},
    exchange::Exchange,
    frame::{self, FrameType},
    headers,
    qpack::{
        Failure,
        decoder::{self, SectionError},
        encoder::SectionWriter,
    },
    reader::{Failed, FrameReader},
};

/// The body of a message that the peer sends.
///
/// Reading it is what lets the peer send more. Dropped before its end, it tells the peer to stop.
pub struct RecvBody {
    reader: FrameReader,
    exchange: Arc<Exchange>,
    /// Bytes of the current DATA frame that were not read yet.
    frame_left: u64,
    /// Bytes that Content-Length still promises.
    promised: Option<u64>,
    trailers: Option<HeaderMap>,
    state: State,
}

/// How far a body was read.
#[derive(Debug)]
enum State {
    Reading,
    /// To its end.
    Whole,
    /// A second read says the same as the one that failed: half a body never looks like a whole one.
    Failed(Error),
}

impl RecvBody {
    pub(crate) fn new(reader: FrameReader, exchange: Arc<Exchange>, promised: Option<u64>) -> Self {
        Self { reader, exchange, frame_left: 0, promised, trailers: None, state: State::Reading }
    }

    /// Blocks for the next piece of the body, at most `max` bytes; `None` at its end.
    ///
    /// # Errors
    ///
    /// [`Error::Peer`] if the peer broke HTTP/3 (a body of another length than its Content-Length among them), [`Error::Reset`] if it
    /// gave the message up, [`Error::Connection`] if the connection ended. What failed once fails again.
    pub fn read_chunk(&mut self, max: usize) -> Result<Option<Chunk>, Error> {
        match &self.state {
            State::Reading => {}
            State::Whole => return Ok(None),
            State::Failed(error) => return Err(error.clone()),
        }
        match self.next_piece(max.max(1) as u64) {
            Ok(piece) => {
                if piece.is_none() {
                    self.state = State::Whole;
                }
                Ok(piece)
            }
            Err(failed) => {
                if let Failed::Violation(violation) = &failed {
                    self.reader.stop(violation.code);
                }
                let error = self.exchange.on_read_failed(failed);
                self.state = State::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// As [`read_chunk`](Self::read_chunk), and [`Error::BodyTooLong`] if the body is longer than `limit` bytes.
    pub fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = self.read_chunk(usize::MAX)? {
            if chunk.len() > limit - body.len() {
                self.state = State::Failed(Error::BodyTooLong(limit));
                return Err(Error::BodyTooLong(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The trailers, once the body has ended; what is left of the body is read and dropped.
    ///
    /// # Errors
    ///
    /// As [`read_chunk`](Self::read_chunk).
    pub fn trailers(&mut self) -> Result<Option<HeaderMap>, Error> {
        while self.read_chunk(usize::MAX)?.is_some() {}
        Ok(self.trailers.take())
    }

    fn next_piece(&mut self, max: u64) -> Result<Option<Chunk>, Failed> {
        while self.frame_left == 0 {
            if !self.next_frame()? {
                // RFC 9114 section 4.1.2.
                return match self.promised {
                    Some(1..) => Err(Violation::message("a body shorter than its Content-Length").into()),
                    _ => Ok(None),
                };
            }
        }
        let piece = self
            .reader
            .piece(self.frame_left.min(max))?
            .ok_or(Failed::Violation(Violation::connection(Code::FRAME_ERROR, "a stream that ends in the middle of a DATA frame")))?;
        self.frame_left -= piece.len() as u64;
        Ok(Some(piece))
    }

    /// Goes to the next DATA frame; `false` at the end of the message.
    fn next_frame(&mut self) -> Result<bool, Failed> {
        let from_client = self.exchange.connection.quic.side() == Side::Server;
        while let Some((frame_type, length)) = self.reader.frame_header()? {
            frame_type.check_on_request_stream(from_client)?;
            // RFC 9114 section 4.1: nothing but unknown frames may follow the trailers.
            if self.trailers.is_some() && frame_type != FrameType::Unknown {
                return Err(Violation::connection(Code::FRAME_UNEXPECTED, "a frame after the trailers").into());
            }
            match frame_type {
                FrameType::Data => {
                    if let Some(promised) = &mut self.promised {
                        *promised = promised.checked_sub(length).ok_or(Violation::message("a body longer than its Content-Length"))?;
                    }
                    self.frame_left = length;
                    return Ok(true);
                }
                FrameType::Headers => {
                    self.trailers = Some(headers::decode_trailers(read_section(&mut self.reader, length, &self.exchange.connection)?)?);
                }
                _ => self.reader.skip(length)?,
            }
        }
        Ok(false)
    }
}

impl Read for RecvBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(chunk) = self.read_chunk(buffer.len())? else { return Ok(0) };
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

impl std::fmt::Debug for RecvBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBody").field("promised", &self.promised).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Reads the field section of a HEADERS frame of `length` bytes.
pub(crate) fn read_section(reader: &mut FrameReader, length: u64, connection: &Core) -> Result<Vec<crate::qpack::Field>, Failed> {
    const TOO_LARGE: Violation = Violation::stream(Code::EXCESSIVE_LOAD, "a field section above the announced limit");
    let max_size = connection.config.max_field_section_size;
    // Coded, a section is never larger than it counts, but for a few bytes of prefix.
    if length > max_size.saturating_add(16) {
        return Err(TOO_LARGE.into());
    }
    let section = reader.payload(length)?;
    decoder::decode(&section, max_size).map_err(|error| match error {
        SectionError::Malformed(Failure(what)) => Violation::connection(Code::QPACK_DECOMPRESSION_FAILED, what).into(),
        SectionError::TooLarge => TOO_LARGE.into(),
    })
}

/// The body of a message to the peer.
///
/// Dropped before [`finish`](Self::finish), it resets the stream, so that the peer never takes half a message for a whole one.
pub struct SendBody {
    stream: SendStream,
    exchange: Arc<Exchange>,
    length: Length,
    finished: bool,
    /// A write that failed may have left half a frame behind, so nothing may follow it.
    failed: Option<Error>,
}

/// How the body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is no body, whatever Content-Length says of one.
    Absent,
    /// Content-Length promises this many more bytes, all in one DATA frame whose header is written already.
    Promised(u64),
    /// Each write makes a DATA frame.
    Open,
}

impl SendBody {
    /// Sends a header section.
    pub(crate) fn start(stream: SendStream, exchange: Arc<Exchange>, section: SectionWriter, length: Length) -> Result<Self, Error> {
        let mut head = frame_of(section);
        if let Length::Promised(promised @ 1..) = length {
            frame::put_header(&mut head, FrameType::DATA, usize::try_from(promised).unwrap_or(usize::MAX));
        }
        let mut body = Self { stream, exchange, length, finished: false, failed: None };
        body.put(&head)?;
        Ok(body)
    }

    /// Blocks until all of `data` is taken into the connection's send buffer.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if that is more than the message's Content-Length, [`Error::Reset`] if the peer wants no more of the message,
    /// [`Error::Connection`] if the connection ended.
    pub fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        self.begin_data(data.len())?;
        self.put(data)
    }

    /// As [`write_all`](Self::write_all), without a copy.
    ///
    /// # Errors
    ///
    /// As [`write_all`](Self::write_all).
    pub fn write_chunk(&mut self, data: Bytes) -> Result<(), Error> {
        self.begin_data(data.len())?;
        let written = self.stream.write_chunk(data);
        self.check(written)
    }

    /// Ends the message.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if less was written than Content-Length promised; the stream is reset then, and also if an earlier write
    /// failed. Otherwise as [`write_all`](Self::write_all).
    pub fn finish(mut self) -> Result<(), Error> {
        self.check_complete()?;
        self.finished = true;
        self.stream.finish().map_err(|_| Error::Invalid("the stream is closed already"))
    }

    /// Ends the message with trailers.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish), and [`Error::Invalid`] for fields that may not be sent; the stream is reset then.
    pub fn finish_with_trailers(mut self, trailers: &HeaderMap) -> Result<(), Error> {
        self.check_complete()?;
        let section = headers::encode_trailers(trailers)?;
        self.exchange.connection.check_section_size(section.size())?;
        self.put(&frame_of(section))?;
        self.finish()
    }

    /// Gives the message up with `code`.
    pub fn reset(mut self, code: Code) {
        self.finished = true;
        // Nothing is left to reset if the peer stopped the stream or the connection ended.
        let _ = self.stream.reset(code.to_varint());
    }

    /// Accounts for `length` bytes to come, and writes the header of their DATA frame unless one stands for the whole body.
    fn begin_data(&mut self, length: usize) -> Result<(), Error> {
        self.check_unbroken()?;
        match &mut self.length {
            Length::Absent if length > 0 => Err(Error::Invalid("the answer to HEAD, and one with status 204 or 304, has no body")),
            Length::Promised(left) => {
                *left = left.checked_sub(length as u64).ok_or(Error::Invalid("more was written than Content-Length promises"))?;
                Ok(())
            }
            Length::Open if length > 0 => {
                let mut header = Vec::with_capacity(9);
                frame::put_header(&mut header, FrameType::DATA, length);
                self.put(&header)
            }
            Length::Absent | Length::Open => Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.stream.write_all(bytes);
        self.check(written)
    }

    fn check(&mut self, written: Result<(), WriteError>) -> Result<(), Error> {
        written.map_err(|error| {
            let error = self.exchange.on_write_failed(error);
            self.failed = Some(error.clone());
            error
        })
    }

    fn check_complete(&self) -> Result<(), Error> {
        self.check_unbroken()?;
        match self.length {
            Length::Promised(1..) => Err(Error::Invalid("less was written than Content-Length promises")),
            _ => Ok(()),
        }
    }

    fn check_unbroken(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

/// A HEADERS frame.
fn frame_of(section: SectionWriter) -> Vec<u8> {
    let section = section.into_bytes();
    let mut bytes = Vec::with_capacity(section.len() + 24);
    frame::put_header(&mut bytes, FrameType::HEADERS, section.len());
    bytes.extend_from_slice(&section);
    bytes
}

impl Write for SendBody {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_all(data)?;
        Ok(data.len())
    }

    /// Nothing is held back, so there is nothing to flush.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SendBody {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(self.exchange.unfinished_code().to_varint());
        }
    }
}

impl std::fmt::Debug for SendBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendBody").field("length", &self.length).finish_non_exhaustive()
    }
}
