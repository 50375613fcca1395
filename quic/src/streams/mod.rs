//! Owns the streams of a connection, and credit for streams and stream data in both directions.
//!
//! Does not own packets: received frames come in with their data as a [`Chunk`], frames to send go into a [`FrameWriter`],
//! and what became of them comes back as [`Token`]s. Tokens and frames of streams that are closed are ignored.
//!
//! Reading order: `table` (which streams exist), `send` and `receive` (the two parts of a stream), `flow` (credit),
//! `budget` (written data), `reassembly` (received data), `transmit` (frames out, tokens back), `turns` (who is next). Here are the verbs of the application and the frames
//! that come in.
//!
//! Invariants:
//! - No call costs more than a constant number of streams, except [`Streams::set_peer_limits`], [`Streams::on_closed`] and
//!   [`Streams::on_zero_rtt_rejected`], each once or twice a connection; and a stream is withheld once at most.
//! - A stream is in a queue once at most, and an event is queued once at most until it was polled.
//!
//! [`FrameWriter`]: crate::wire::FrameWriter
//! [`Token`]: crate::token::Token

mod budget;
mod flow;
pub(crate) mod reassembly;
mod receive;
mod restart;
mod send;
mod table;
#[cfg(test)]
mod tests;
mod transmit;
mod turns;

use std::fmt;

use bytes::Bytes;

use self::budget::{Room, SendBudget};
use self::flow::{ReceiveCredit, SendCredit};
use self::reassembly::Slack;
use self::receive::{Receive, Shared};
use self::send::Send;
use self::table::Table;
use self::transmit::Queues;
use crate::chunk::{Chunk, Pool};
use crate::config::SendWindow;
use crate::error::{ApplicationCode, TransportError};
use crate::random::Secrets;
use crate::side::Side;
use crate::stream_id::{Direction, StreamId};
use crate::wire::frame::{MaxData, MaxStreamData, MaxStreams, ResetStream, StopSending, StreamDataBlocked};

/// What one end permits the other initially (RFC 9000 section 18.2), in bytes and in streams. For the receiver of data,
/// these are also its windows: how far the peer may be ahead of what was consumed, and how many streams may be open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// initial_max_data: on all streams together.
    pub(crate) data: u64,
    /// initial_max_stream_data_*: on one stream.
    pub(crate) stream_data: PerStream<u64>,
    /// initial_max_streams_bidi.
    pub(crate) streams_bidi: u64,
    /// initial_max_streams_uni.
    pub(crate) streams_uni: u64,
}

/// A limit on the data of one stream, by the stream's kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerStream<T> {
    /// Of a bidirectional stream that the end which permits it has opened.
    pub(crate) bidi_local: T,
    /// Of a bidirectional stream that the other end has opened.
    pub(crate) bidi_remote: T,
    /// Of a unidirectional stream.
    pub(crate) uni: T,
}

impl<T: Copy> PerStream<T> {
    /// What this end permits on a stream that it receives on.
    fn of_receiving(&self, side: Side, id: StreamId) -> T {
        match (id.direction(), id.initiator() == side) {
            (Direction::Bi, true) => self.bidi_local,
            (Direction::Bi, false) => self.bidi_remote,
            (Direction::Uni, _) => self.uni,
        }
    }

    /// What the peer, whose limits these are, permits this end on a stream that it sends on.
    fn of_sending(&self, side: Side, id: StreamId) -> T {
        self.of_receiving(!side, id)
    }

    fn map<U>(self, f: impl Fn(T) -> U) -> PerStream<U> {
        PerStream { bidi_local: f(self.bidi_local), bidi_remote: f(self.bidi_remote), uni: f(self.uni) }
    }
}

/// How this end treats streams.
#[derive(Clone, Debug)]
pub(crate) struct StreamOptions {
    /// What the peer is permitted; the same values go into the transport parameters.
    pub(crate) limits: Limits,
    /// In how many pieces received data may be held, besides one for each half a kilobyte of the window.
    pub(crate) pieces: u32,
    /// How many bytes a stream may hold that were written and not acknowledged.
    pub(crate) send_window: SendWindow,
    /// How many bytes all streams together may hold that were written and not acknowledged.
    pub(crate) send_buffer: u32,
}

/// Something that the application may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// The peer has opened streams: `accept` has something to give.
    Opened(Direction),
    /// The peer permits more streams, after `open` had failed.
    Available(Direction),
    /// A read gives data, the end or a reset.
    Readable(StreamId),
    /// A write has room, after one was blocked, or will fail.
    Writable(StreamId),
    /// Everything that was written, and the end, was acknowledged; or the reset was.
    Finished(StreamId),
    /// The peer reads no more; the stream was reset.
    Stopped {
        /// The stream.
        id: StreamId,
        /// The peer's reason.
        code: ApplicationCode,
    },
}

/// Why a read gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The next byte has not arrived yet.
    Blocked,
    /// The peer has abandoned the stream. Said once; the stream is closed by it.
    Reset(ApplicationCode),
    /// The stream was read to its end, stopped, or is not one to read from.
    Closed,
}

/// Why a write took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The send window is full.
    Blocked,
    /// The peer reads no more.
    Stopped(ApplicationCode),
    /// The stream was finished or reset, or is not one to write to.
    Closed,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Blocked => f.write_str("no data has arrived yet"),
            ReadError::Reset(code) => write!(f, "the peer reset the stream with code {code}"),
            ReadError::Closed => f.write_str("the stream is closed for reading"),
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Blocked => f.write_str("the send window is full"),
            WriteError::Stopped(code) => write!(f, "the peer stopped the stream with code {code}"),
            WriteError::Closed => f.write_str("the stream is closed for writing"),
        }
    }
}

impl std::error::Error for ReadError {}
impl std::error::Error for WriteError {}

/// The streams of a connection.
#[derive(Debug)]
pub(crate) struct Streams {
    table: Table,
    /// The peer's limit on the sum of what is sent.
    send_credit: SendCredit,
    /// This end's limit on the sum of what is received.
    receive_credit: ReceiveCredit,
    /// Bounds what received chunks pin, those that were read and not released included.
    slack: Slack,
    /// Bounds what was written and not acknowledged.
    budget: SendBudget,
    queues: Queues,
}

impl Streams {
    /// The streams of a new connection. Nothing can be sent before [`Streams::set_peer_limits`].
    pub(crate) fn new(side: Side, options: StreamOptions, secrets: &mut Secrets) -> Self {
        Self {
            send_credit: SendCredit::default(),
            receive_credit: ReceiveCredit::new(options.limits.data),
            slack: Slack::new(options.limits.data, options.pieces),
            budget: SendBudget::new(options.send_window, options.send_buffer),
            table: Table::new(side, &options.limits, secrets),
            queues: Queues::default(),
        }
    }

    /// Takes in the peer's transport parameters.
    pub(crate) fn set_peer_limits(&mut self, peer: &Limits) {
        self.send_credit.raise(peer.data);
        for stream in self.table.set_peer_limits(peer) {
            self.queues.release(stream, &mut self.send_credit);
        }
        self.tell_withheld();
    }

    // The application's verbs.

    /// Opens a stream. `None` if the peer permits no more for now; [`StreamEvent::Available`] follows.
    pub(crate) fn open(&mut self, direction: Direction) -> Option<StreamId> {
        let id = self.table.open(direction);
        if id.is_none() && self.table.tell_blocked(direction) {
            self.queues.owed.streams_blocked[direction.index()] = true;
        }
        id
    }

    /// The next stream that the peer has opened. `None` if there is no new one; [`StreamEvent::Opened`] follows.
    pub(crate) fn accept(&mut self, direction: Direction) -> Option<StreamId> {
        self.table.accept(direction)
    }

    /// Copies as much of `data` as the send window has room for, and returns how much that was.
    pub(crate) fn write(&mut self, id: StreamId, data: &[u8], pool: &Pool) -> Result<usize, WriteError> {
        self.with_send(id, |send, room| send.write(data, pool, room))
    }

    /// Takes as much off the front of `data` as the send window has room for, without a copy unless it is short.
    pub(crate) fn write_chunk(&mut self, id: StreamId, data: &mut Bytes, pool: &Pool) -> Result<usize, WriteError> {
        self.with_send(id, |send, room| send.write_chunk(data, pool, room))
    }

    /// Ends a stream behind what was written. [`StreamEvent::Finished`] follows when all was acknowledged.
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        self.with_send(id, |send, _| send.finish())
    }

    /// Abandons sending. What was written and not acknowledged is dropped; of a stream that has ended, nothing happens.
    pub(crate) fn reset(&mut self, id: StreamId, code: ApplicationCode) {
        let Some(stream) = self.table.get(id) else { return };
        let Some(send) = &mut stream.send else { return };
        if self.budget.change(send, |send| send.reset(code)) {
            stream.owed.reset_stream = true;
            self.queues.control(stream);
            self.queues.wake_writer(stream, self.budget.room());
        }
        self.reap(id);
        self.wake_crowded();
    }

    /// Sends a stream's data before that of all streams with a lower priority. Streams begin with 0.
    pub(crate) fn set_priority(&mut self, id: StreamId, priority: i32) {
        if let Some(stream) = self.table.get(id) {
            self.queues.set_priority(stream, priority);
        }
    }

    /// A stream's priority, while the stream is there.
    pub(crate) fn priority(&mut self, id: StreamId) -> Option<i32> {
        self.table.get(id).map(|stream| stream.priority)
    }

    /// Nobody is left who could be told how sending went: the stream is not kept for a reason to stop that nobody asks for.
    pub(crate) fn abandon(&mut self, id: StreamId) {
        let Some(stream) = self.table.get(id) else { return };
        let Some(send) = &mut stream.send else { return };
        send.abandon();
        self.reap(id);
    }

    /// The next bytes, `max` at most, in one chunk; `None` at the end of the stream. The chunk is to be given back with
    /// [`Streams::release`].
    pub(crate) fn read(&mut self, id: StreamId, max: usize) -> Result<Option<Chunk>, ReadError> {
        let receive = self.table.get(id).and_then(|stream| stream.receive.as_mut()).ok_or(ReadError::Closed)?;
        let result = receive.read(max, &mut self.slack);
        match result {
            Ok(Some(chunk)) => Ok(Some(self.slack.admit(chunk))),
            Ok(None) | Err(ReadError::Reset(_)) => {
                self.reap(id);
                result
            }
            Err(ReadError::Blocked | ReadError::Closed) => result,
        }
    }

    /// Whether a read would give data, the end or a reset.
    pub(crate) fn is_readable(&mut self, id: StreamId) -> bool {
        self.table.get(id).and_then(|stream| stream.receive.as_ref()).is_some_and(Receive::is_readable)
    }

    /// Some of a stream's data came as early data.
    pub(crate) fn set_early(&mut self, id: StreamId) {
        if let Some(stream) = self.table.get(id) {
            stream.early = true;
        }
    }

    /// Whether some of a stream's data came as early data, while the stream is there.
    pub(crate) fn is_early(&mut self, id: StreamId) -> bool {
        self.table.get(id).is_some_and(|stream| stream.early)
    }

    /// Whether a stream still has a part that sends: until all was acknowledged, or the application knows of its end.
    pub(crate) fn is_sending(&mut self, id: StreamId) -> bool {
        self.table.get(id).and_then(|stream| stream.send.as_ref()).is_some_and(|send| !send.is_terminal())
    }

    /// The peer's reason to stop a stream, while the stream is there.
    pub(crate) fn stopped(&mut self, id: StreamId) -> Option<ApplicationCode> {
        self.table.get(id)?.send.as_ref()?.stopped()
    }

    /// Whether a stream was finished of which something was not acknowledged.
    pub(crate) fn is_finishing(&self) -> bool {
        self.budget.is_finishing()
    }

    /// Bytes of stream data that are held, at no cost: written and not acknowledged, or received and not released.
    pub(crate) fn held(&self) -> usize {
        usize::try_from(self.budget.held()).unwrap_or(usize::MAX).saturating_add(self.slack.retained())
    }

    /// Memory is short: streams take no more than a few KiB each from writers. Or it is short no longer.
    pub(crate) fn squeeze(&mut self, squeezed: bool) {
        self.budget.squeeze(squeezed);
        self.wake_crowded();
    }

    /// Takes back a chunk that was read, and returns its bytes as credit to the peer.
    pub(crate) fn release(&mut self, id: StreamId, chunk: Chunk) {
        let bytes = chunk.len() as u64;
        self.slack.give_back(&chunk);
        self.receive_credit.release(bytes);
        // The stream may be gone; the connection's credit remains.
        if let Some(stream) = self.table.get(id)
            && let Some(receive) = &mut stream.receive
            && receive.release(bytes)
        {
            stream.owed.max_stream_data = true;
            self.queues.control(stream);
        }
        self.update_max_data();
    }

    /// Reads no more. What has arrived is dropped, and the peer is asked to stop.
    pub(crate) fn stop(&mut self, id: StreamId, code: ApplicationCode) {
        let Some(stream) = self.table.get(id) else { return };
        let Some(receive) = &mut stream.receive else { return };
        if receive.stop(code, Shared { credit: &mut self.receive_credit, slack: &mut self.slack }) {
            stream.owed.stop_sending = true;
            self.queues.control(stream);
        }
        // Another reader may be waiting, in vain from now on.
        self.queues.readable(stream);
        self.update_max_data();
        self.reap(id);
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        let parts = |stream: &table::Stream| {
            size_of_val(stream) + stream.send.as_ref().map_or(0, Send::memory) + stream.receive.as_ref().map_or(0, Receive::memory)
        };
        self.table.memory() + self.table.iter().map(parts).sum::<usize>() + self.queues.memory()
    }

    // What the peer sends.

    /// STREAM. `chunk` holds the frame's data.
    pub(crate) fn on_stream(&mut self, id: StreamId, offset: u64, fin: bool, chunk: Chunk) -> Result<(), TransportError> {
        self.with_receive(id, |receive, shared| receive.on_stream(offset, fin, chunk, shared))
    }

    /// RESET_STREAM.
    pub(crate) fn on_reset_stream(&mut self, frame: ResetStream) -> Result<(), TransportError> {
        self.with_receive(frame.id, |receive, shared| receive.on_reset(frame.code, frame.final_size, shared))
    }

    /// STOP_SENDING.
    pub(crate) fn on_stop_sending(&mut self, frame: StopSending) -> Result<(), TransportError> {
        let Some(stream) = self.table.sending(frame.id)? else { return Ok(()) };
        let Some(send) = &mut stream.send else { return Ok(()) };
        if self.budget.change(send, |send| send.on_stop_sending(frame.code)) {
            stream.owed.reset_stream = true;
            self.queues.control(stream);
            self.queues.events.push_back(StreamEvent::Stopped { id: frame.id, code: frame.code });
            self.queues.wake_writer(stream, self.budget.room());
            self.wake_crowded();
        }
        Ok(())
    }

    /// MAX_DATA.
    pub(crate) fn on_max_data(&mut self, frame: MaxData) {
        self.send_credit.raise(frame.limit);
    }

    /// MAX_STREAM_DATA.
    pub(crate) fn on_max_stream_data(&mut self, frame: MaxStreamData) -> Result<(), TransportError> {
        let Some(stream) = self.table.sending(frame.id)? else { return Ok(()) };
        if let Some(send) = &mut stream.send {
            send.on_max_stream_data(frame.limit);
            self.queues.schedule(stream, &mut self.send_credit);
        }
        Ok(())
    }

    /// MAX_STREAMS.
    pub(crate) fn on_max_streams(&mut self, frame: MaxStreams) {
        for id in self.table.raise(frame.direction, frame.limit) {
            if let Some(stream) = self.table.get(id) {
                stream.withheld = false;
                self.queues.release(stream, &mut self.send_credit);
            }
        }
        self.tell_withheld();
    }

    /// STREAM_DATA_BLOCKED: opens the stream if need be; limits do not wait for it. (DATA_BLOCKED and STREAMS_BLOCKED need
    /// no answer at all: RFC 9000 sections 4.1 and 4.6.)
    pub(crate) fn on_stream_data_blocked(&mut self, frame: StreamDataBlocked) -> Result<(), TransportError> {
        self.table.receiving(frame.id).map(drop)
    }

    // What comes out, besides frames (`transmit`).

    /// The next thing that the application may be waiting for.
    pub(crate) fn poll_event(&mut self) -> Option<StreamEvent> {
        for direction in Direction::ALL {
            if self.table.take_opened(direction) {
                return Some(StreamEvent::Opened(direction));
            }
            if self.table.take_available(direction) {
                return Some(StreamEvent::Available(direction));
            }
        }
        let event = self.queues.events.pop_front()?;
        match event {
            StreamEvent::Readable(id) => self.table.get(id).into_iter().for_each(|stream| stream.queued.readable = false),
            StreamEvent::Writable(id) => self.table.get(id).into_iter().for_each(|stream| stream.queued.writable = false),
            _ => {}
        }
        Some(event)
    }

    /// Lets `verb` change the sending part of a stream, and queues the stream for what it has to send afterwards.
    fn with_send<T>(&mut self, id: StreamId, verb: impl FnOnce(&mut Send, Room) -> Result<T, WriteError>) -> Result<T, WriteError> {
        let stream = self.table.get(id).ok_or(WriteError::Closed)?;
        let send = stream.send.as_mut().ok_or(WriteError::Closed)?;
        let room = self.budget.room();
        let result = self.budget.change(send, |send| verb(send, room));
        match result {
            Ok(_) => {
                self.queues.schedule(stream, &mut self.send_credit);
                self.queues.wake_writer(stream, self.budget.room());
            }
            Err(WriteError::Blocked) => {
                if room.is_shared_short(send.held()) {
                    self.queues.crowd(stream);
                }
            }
            // The application knows now, which is all that the stream may have waited for.
            Err(WriteError::Stopped(_)) => self.reap(id),
            Err(WriteError::Closed) => {}
        }
        result
    }

    /// The connection is over: lets go of all that would have been sent. What was received can still be read.
    pub(crate) fn on_closed(&mut self) {
        for send in self.table.iter_mut().filter_map(|stream| stream.send.as_mut()) {
            self.budget.change(send, Send::let_go);
        }
        self.queues.clear_outgoing();
    }

    /// Gives back what is kept for more streams than there are.
    pub(crate) fn shrink(&mut self) {
        self.table.shrink();
        self.queues.shrink();
    }

    /// Lets a frame change the receiving part of a stream; it returns whether a reader has something to see.
    fn with_receive(
        &mut self,
        id: StreamId,
        frame: impl FnOnce(&mut Receive, Shared<'_>) -> Result<bool, TransportError>,
    ) -> Result<(), TransportError> {
        // RFC 9000 section 3.2: frames for closed streams may be late.
        let Some(stream) = self.table.receiving(id)? else { return Ok(()) };
        let Some(receive) = &mut stream.receive else { return Ok(()) };
        let shared = Shared { credit: &mut self.receive_credit, slack: &mut self.slack };
        let news = frame(receive, shared)?;
        let ended = receive.is_terminal();
        if news {
            self.queues.readable(stream);
        }
        self.update_max_data();
        if ended {
            self.reap(id);
        }
        Ok(())
    }

    fn update_max_data(&mut self) {
        if self.receive_credit.is_update_due() {
            self.queues.owed.max_data = true;
        }
    }

    /// Forgets a stream of which nothing is left to know.
    fn reap(&mut self, id: StreamId) {
        let Some(stream) = self.table.reap(id) else { return };
        self.queues.forget(&stream);
        let direction = id.direction();
        if self.table.is_update_due(direction) {
            self.queues.owed.max_streams[direction.index()] = true;
        }
    }
}
