//! Owns the order in which streams put frames into packets, and routes what became of the frames.
//!
//! Order: what the connection owes (limits first, they keep the peer going), what streams owe besides data, then data,
//! one segment a stream in turn, what was lost before what is new within each. A stream of a higher priority goes before
//! all of the lower ones, what is new on it before what was lost on them.
//!
//! Invariants:
//! - Each queue holds a stream's id once at most, as flags on the stream say. Ids of closed streams may linger in the queue
//!   of control frames until they are popped, and in no other.
//! - A stream that only waits for the connection's credit is in `starved` and costs nothing until there is credit.

use std::collections::VecDeque;

use super::budget::Room;
use super::flow::SendCredit;
use super::send::Readiness;
use super::table::Stream;
use super::turns::Turns;
use super::{StreamEvent, Streams};
use crate::stream_id::{Direction, StreamId};
use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::{
    DataBlocked, MaxData, MaxStreamData, MaxStreams, ResetStream, StopSending, Stream as StreamFrame, StreamDataBlocked, StreamHeader,
    StreamsBlocked,
};

/// A packet that has frames already does not get a piece of stream data shorter than this that ends for want of room.
const SHORTEST_PIECE: usize = 32;

/// Which streams have something to say, and what the connection owes the peer.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) owed: ConnectionOwed,
    pub(super) events: VecDeque<StreamEvent>,
    /// Streams that owe frames other than STREAM.
    control: VecDeque<StreamId>,
    /// Streams with data to send.
    ready: Turns,
    /// Streams with new data that wait for the connection's credit.
    starved: Turns,
    /// Streams whose writers wait for the connection's room. Boxed since it is seldom needed.
    crowded: Option<Box<Turns>>,
}

/// The frames that the connection owes the peer.
#[derive(Debug, Default)]
pub(super) struct ConnectionOwed {
    pub(super) max_data: bool,
    pub(super) max_streams: [bool; 2],
    pub(super) data_blocked: bool,
    pub(super) streams_blocked: [bool; 2],
}

impl Queues {
    /// Bytes held outside of the value itself.
    pub(super) fn memory(&self) -> usize {
        let crowded = self.crowded.as_ref().map_or(0, |crowded| size_of::<Turns>() + crowded.memory());
        let queues = self.control.capacity() * size_of::<StreamId>() + self.events.capacity() * size_of::<StreamEvent>();
        queues + self.ready.memory() + self.starved.memory() + crowded
    }

    /// Nothing is sent any more.
    pub(super) fn clear_outgoing(&mut self) {
        self.control = VecDeque::new();
        (self.ready, self.starved, self.crowded) = (Turns::default(), Turns::default(), None);
    }

    /// Nothing that was to be sent is for now.
    pub(super) fn restart(&mut self) {
        self.owed = ConnectionOwed::default();
        self.control.clear();
        (self.ready, self.starved) = (Turns::default(), Turns::default());
    }

    pub(super) fn shrink(&mut self) {
        self.control.shrink_to_fit();
        self.events.shrink_to_fit();
        [&mut self.ready, &mut self.starved].into_iter().for_each(Turns::shrink);
        self.crowded.take_if(|crowded| crowded.is_empty());
    }

    /// The stream owes a frame other than STREAM.
    pub(super) fn control(&mut self, stream: &mut Stream) {
        if !stream.withheld && !std::mem::replace(&mut stream.queued.control, true) {
            self.control.push_back(stream.id);
        }
    }

    /// The stream may have data to send: puts it at the back of the queue that fits.
    pub(super) fn schedule(&mut self, stream: &mut Stream, credit: &mut SendCredit) {
        let Some(send) = stream.send.as_mut().filter(|_| !stream.withheld) else { return };
        match send.readiness(credit.available()) {
            Readiness::Ready => {
                if !std::mem::replace(&mut stream.queued.ready, true) {
                    self.ready.push_back(stream.priority, stream.id);
                }
            }
            Readiness::WaitsForConnection => {
                if !std::mem::replace(&mut stream.queued.starved, true) {
                    self.starved.push_back(stream.priority, stream.id);
                }
                self.owed.data_blocked |= credit.tell_blocked();
            }
            Readiness::WaitsForStream => {
                if send.tell_blocked() {
                    stream.owed.stream_data_blocked = true;
                    self.control(stream);
                }
            }
            Readiness::Idle => {}
        }
    }

    /// A reader has something to see.
    pub(super) fn readable(&mut self, stream: &mut Stream) {
        if !std::mem::replace(&mut stream.queued.readable, true) {
            self.events.push_back(StreamEvent::Readable(stream.id));
        }
    }

    /// Tells a writer that waits on the stream, if it can go on or never will.
    pub(super) fn wake_writer(&mut self, stream: &mut Stream, room: Room) {
        let crowded = stream.queued.crowded;
        let wakes = stream.send.as_mut().is_some_and(|send| send.wake_writer(room, crowded));
        if !wakes {
            return;
        }
        if std::mem::take(&mut stream.queued.crowded)
            && let Some(crowded) = &mut self.crowded
        {
            crowded.remove(stream.priority, stream.id);
        }
        if !std::mem::replace(&mut stream.queued.writable, true) {
            self.events.push_back(StreamEvent::Writable(stream.id));
        }
    }

    /// A writer waits for the connection's room.
    pub(super) fn crowd(&mut self, stream: &mut Stream) {
        if !std::mem::replace(&mut stream.queued.crowded, true) {
            self.crowded.get_or_insert_default().push_back(stream.priority, stream.id);
        }
    }

    /// Gives a stream another priority, in whatever queue it is.
    pub(super) fn set_priority(&mut self, stream: &mut Stream, priority: i32) {
        let former = std::mem::replace(&mut stream.priority, priority);
        for turns in self.queues_of(stream) {
            turns.remove(former, stream.id);
            turns.push_back(priority, stream.id);
        }
    }

    /// The stream is closed: nothing that waits for its turn holds it any longer.
    pub(super) fn forget(&mut self, stream: &Stream) {
        for turns in self.queues_of(stream) {
            turns.remove(stream.priority, stream.id);
        }
    }

    /// The queues that the stream waits in.
    fn queues_of(&mut self, stream: &Stream) -> impl Iterator<Item = &mut Turns> {
        let queued = &stream.queued;
        let queues = [
            (queued.ready, Some(&mut self.ready)),
            (queued.starved, Some(&mut self.starved)),
            (queued.crowded, self.crowded.as_deref_mut()),
        ];
        queues.into_iter().filter_map(|(is_in, turns)| turns.filter(|_| is_in))
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.control.len() + self.ready.len() + self.starved.len()
    }

    /// The stream could not be served for want of room: it stays the next one.
    fn put_back(&mut self, stream: &mut Stream) {
        if !std::mem::replace(&mut stream.queued.ready, true) {
            self.ready.push_front(stream.priority, stream.id);
        }
    }
}

impl Streams {
    /// Whether [`Streams::write_frames`] has something to write. May be true in vain once, when what was lost has been
    /// acknowledged late or a stream has closed.
    pub(crate) fn has_pending(&self) -> bool {
        let Queues { owed, control, ready, starved, .. } = &self.queues;
        owed.max_data
            || owed.data_blocked
            || owed.max_streams.contains(&true)
            || owed.streams_blocked.contains(&true)
            || !control.is_empty()
            || !ready.is_empty()
            || !starved.is_empty() && self.send_credit.available() > 0
    }

    /// Fills the packet with frames, as far as there are any.
    pub(crate) fn write_frames(&mut self, out: &mut FrameWriter<'_>) {
        if self.write_connection_frames(out) && self.write_control_frames(out) {
            self.write_data(out);
        }
    }

    /// A frame that was sent has been acknowledged. Tokens of other parts are none of its business.
    pub(crate) fn on_acked(&mut self, token: &Token) {
        let (Token::Stream { id, .. } | Token::ResetStream(id)) = *token else { return };
        let Some(stream) = self.table.get(id) else { return };
        let Some(send) = &mut stream.send else { return };
        let ended = self.budget.change(send, |send| match *token {
            Token::Stream { offset, len, fin, .. } => send.on_acked(offset, len.into(), fin),
            _ => send.on_reset_acked(),
        });
        if ended {
            self.queues.events.push_back(StreamEvent::Finished(id));
        }
        self.queues.wake_writer(stream, self.budget.room());
        if ended {
            self.reap(id);
        }
        self.wake_crowded();
    }

    /// Congestion control permits `window` bytes in flight.
    pub(crate) fn on_congestion_window(&mut self, window: u64) {
        self.budget.on_congestion_window(window);
    }

    /// Wakes the writers that wait for the connection's room, if there is some.
    pub(super) fn wake_crowded(&mut self) {
        if self.queues.crowded.is_none() || !self.budget.is_roomy() {
            return;
        }
        while let Some(id) = self.queues.crowded.as_mut().and_then(|crowded| crowded.pop()) {
            if let Some(stream) = self.table.get(id) {
                stream.queued.crowded = false;
                self.queues.wake_writer(stream, self.budget.room());
            }
        }
    }

    /// A frame that was sent was lost (RFC 9000 section 13.3): its content is sent again if it still matters, and as it is
    /// by then.
    pub(crate) fn on_lost(&mut self, token: &Token) {
        let owed = &mut self.queues.owed;
        match *token {
            Token::MaxData => owed.max_data = true,
            Token::MaxStreams(direction) => owed.max_streams[direction.index()] = true,
            Token::DataBlocked => owed.data_blocked = true,
            Token::StreamsBlocked(direction) => owed.streams_blocked[direction.index()] = true,
            Token::Stream { id, .. }
            | Token::ResetStream(id)
            | Token::StopSending(id)
            | Token::MaxStreamData(id)
            | Token::StreamDataBlocked(id) => self.on_stream_frame_lost(id, token),
            _ => {}
        }
    }

    fn on_stream_frame_lost(&mut self, id: StreamId, token: &Token) {
        let Some(stream) = self.table.get(id) else { return };
        match *token {
            Token::Stream { offset, len, fin, .. } => {
                if let Some(send) = &mut stream.send {
                    send.on_lost(offset, len.into(), fin);
                }
                self.queues.schedule(stream, &mut self.send_credit);
                return;
            }
            Token::ResetStream(_) => stream.owed.reset_stream = true,
            Token::StopSending(_) => stream.owed.stop_sending = true,
            Token::MaxStreamData(_) => stream.owed.max_stream_data = true,
            _ => stream.owed.stream_data_blocked = true,
        }
        self.queues.control(stream);
    }

    /// Returns whether all that the connection owed went in.
    fn write_connection_frames(&mut self, out: &mut FrameWriter<'_>) -> bool {
        let owed = &mut self.queues.owed;
        if owed.max_data {
            let limit = self.receive_credit.advertise();
            owed.max_data = !out.frame(&MaxData { limit }, Token::MaxData);
        }
        for direction in Direction::ALL {
            let index = direction.index();
            if owed.max_streams[index] {
                let limit = self.table.advertise(direction);
                owed.max_streams[index] = !out.frame(&MaxStreams { direction, limit }, Token::MaxStreams(direction));
            }
            if owed.streams_blocked[index] {
                owed.streams_blocked[index] = self
                    .table
                    .blocked_at(direction)
                    .is_some_and(|limit| !out.frame(&StreamsBlocked { direction, limit }, Token::StreamsBlocked(direction)));
            }
        }
        if owed.data_blocked {
            let limit = self.send_credit.limit();
            let blocked = self.send_credit.available() == 0 && !self.queues.starved.is_empty();
            owed.data_blocked = blocked && !out.frame(&DataBlocked { limit }, Token::DataBlocked);
        }
        !(owed.max_data || owed.data_blocked || owed.max_streams.contains(&true) || owed.streams_blocked.contains(&true))
    }

    /// Returns whether all that streams owed went in.
    fn write_control_frames(&mut self, out: &mut FrameWriter<'_>) -> bool {
        while let Some(&id) = self.queues.control.front() {
            if let Some(stream) = self.table.get(id) {
                if !write_owed(stream, out) {
                    return false;
                }
                stream.queued.control = false;
            }
            self.queues.control.pop_front();
        }
        true
    }

    fn write_data(&mut self, out: &mut FrameWriter<'_>) {
        while out.remaining() > 0
            && let Some(id) = self.next_sender()
        {
            let Some(stream) = self.table.get(id) else { continue };
            if !write_segment(stream, &mut self.send_credit, out) {
                self.queues.put_back(stream);
                return;
            }
            self.queues.schedule(stream, &mut self.send_credit);
        }
    }

    /// Takes the next stream that can send now out of its queue.
    fn next_sender(&mut self) -> Option<StreamId> {
        loop {
            let Queues { ready, starved, .. } = &mut self.queues;
            // With credit again, those who waited for it come first: the others have had their turn meanwhile.
            let is_starved = self.send_credit.available() > 0 && !starved.is_empty() && starved.highest() >= ready.highest();
            let id = if is_starved { starved.pop() } else { ready.pop() }?;
            let Some(stream) = self.table.get(id) else { continue };
            if is_starved {
                stream.queued.starved = false;
            } else {
                stream.queued.ready = false;
            }
            let credit = self.send_credit.available();
            if stream.send.as_ref().is_some_and(|send| send.readiness(credit) == Readiness::Ready) {
                return Some(id);
            }
            self.queues.schedule(stream, &mut self.send_credit);
        }
    }
}

/// Writes what the stream owes besides data. Returns whether all of it went in.
fn write_owed(stream: &mut Stream, out: &mut FrameWriter<'_>) -> bool {
    let Stream { id, owed, send, receive, .. } = stream;
    let id = *id;
    if owed.reset_stream {
        owed.reset_stream = send
            .as_ref()
            .and_then(|send| send.reset_to_send())
            .is_some_and(|(code, final_size)| !out.frame(&ResetStream { id, code, final_size }, Token::ResetStream(id)));
    }
    if owed.stop_sending {
        owed.stop_sending = receive
            .as_ref()
            .and_then(|receive| receive.stop_to_send())
            .is_some_and(|code| !out.frame(&StopSending { id, code }, Token::StopSending(id)));
    }
    if owed.max_stream_data {
        owed.max_stream_data = receive
            .as_mut()
            .and_then(|receive| receive.limit_to_send())
            .is_some_and(|limit| !out.frame(&MaxStreamData { id, limit }, Token::MaxStreamData(id)));
    }
    if owed.stream_data_blocked {
        owed.stream_data_blocked = send
            .as_ref()
            .and_then(|send| send.blocked_at())
            .is_some_and(|limit| !out.frame(&StreamDataBlocked { id, limit }, Token::StreamDataBlocked(id)));
    }
    !(owed.reset_stream || owed.stop_sending || owed.max_stream_data || owed.stream_data_blocked)
}

/// Writes one STREAM frame. False, and nothing written, if there is no room worth it.
fn write_segment(stream: &mut Stream, credit: &mut SendCredit, out: &mut FrameWriter<'_>) -> bool {
    let id = stream.id;
    let Some(send) = &mut stream.send else { return true };
    let Some(segment) = send.next_segment(credit.available()) else { return true };
    let header = StreamHeader { id, offset: segment.offset, fin: segment.fin };
    let in_place = header.capacity(out.remaining()).is_some_and(|capacity| segment.len <= capacity);
    let (len, fin) = if in_place {
        (segment.len, segment.fin)
    } else {
        // The frame reaches to the end of the packet, and its data stays where it is until it is sealed.
        let Some(room) = out.remaining().checked_sub(header.size_to_end()) else { return false };
        let len = segment.len.min(room).min(u16::MAX.into());
        if len == 0 || len < segment.len.min(SHORTEST_PIECE) && !out.is_empty() {
            return false;
        }
        (len, segment.fin && len == segment.len)
    };
    let token = Token::Stream { id, offset: segment.offset, len: len as u16, fin };
    let written = if in_place {
        out.frame(&StreamFrame { id, offset: segment.offset, fin, data: send.bytes(segment, len) }, token)
    } else {
        out.stream_tail(&StreamHeader { fin, ..header }, send.slice(segment, len), token)
    };
    if written {
        credit.spend(send.on_sent(segment, len, fin));
    }
    written
}
