//! A receiver as the RFC has it, in as little code as possible: says of the frames of a 1-RTT packet whether a connection may go on after
//! them. An oracle for whole connections.
//!
//! Owns what was sent on each stream, which is all that the rules of flow control and of final sizes depend on. It allows at least
//! what the connection has advertised, since it does not see the frames that advertise: the initial limits, and one byte more for each
//! that was consumed. What it does not know of it lets pass.

use std::collections::BTreeMap;

use super::application::Application;
use crate::config::TransportConfig;
use crate::connection::Connection;
use crate::side::Side;
use crate::stream_id::{Direction, StreamId};
use crate::wire::PacketType;
use crate::wire::frame::{Frame, FrameIter};

/// What the peer of a connection has sent on its streams.
pub(super) struct Model {
    sender: Side,
    stream_window: u64,
    connection_window: u64,
    max_streams: [u64; 2],
    max_datagram: usize,
    crypto_buffer: u64,
    streams: BTreeMap<StreamId, Sent>,
    /// Bytes of CRYPTO frames, of which no more can have been read.
    crypto: u64,
}

/// What an honest server says in CRYPTO frames after the handshake, at most.
const TICKETS: u64 = 2048;

#[derive(Debug, Default)]
struct Sent {
    /// One above the highest offset.
    end: u64,
    final_size: Option<u64>,
    reset: bool,
    /// The connection has forgotten the stream: what comes is late, and means nothing.
    gone: bool,
}

impl Model {
    /// For what `sender` sends to a connection with this configuration.
    pub(super) fn new(sender: Side, config: &TransportConfig) -> Self {
        Self {
            sender,
            stream_window: config.stream_window.into(),
            connection_window: config.connection_window.into(),
            max_streams: [config.max_streams_bi.into(), config.max_streams_uni.into()],
            max_datagram: config.datagram_receive_buffer as usize,
            crypto_buffer: config.limits.crypto_buffer.into(),
            streams: BTreeMap::new(),
            crypto: TICKETS,
        }
    }

    /// Learns which streams the receiver has forgotten. To be called before each packet.
    pub(super) fn look(&mut self, receiver: &mut Connection) {
        for (id, sent) in &mut self.streams {
            sent.gone |= receiver.priority(*id).is_none();
        }
    }

    /// Takes in the frames of a packet that the receiver is about to open. Says why it may not go on after them, if it may not.
    pub(super) fn on_packet(&mut self, frames: &[u8], receiver: &Application) -> Option<String> {
        for frame in FrameIter::new(frames, PacketType::OneRtt, self.sender) {
            let verdict = match frame {
                Err(error) => Some(error.to_string()),
                Ok(Frame::Stream(stream)) => self.on_data(stream.id, stream.offset + stream.data.len() as u64, stream.fin, false, receiver),
                Ok(Frame::ResetStream(reset)) => self.on_data(reset.id, reset.final_size, true, true, receiver),
                Ok(Frame::StreamDataBlocked(blocked)) => self.find(blocked.id, receiver).err(),
                Ok(Frame::MaxStreamData(max)) => self.check_sending(max.id, receiver),
                Ok(Frame::StopSending(stop)) => self.check_sending(stop.id, receiver),
                Ok(Frame::Crypto(_)) if self.sender == Side::Client => Some("CRYPTO of a client in 1-RTT".to_owned()),
                Ok(Frame::Crypto(crypto)) => {
                    self.crypto += crypto.data.len() as u64;
                    let end = crypto.offset + crypto.data.len() as u64;
                    // RFC 9000 7.5
                    (!crypto.data.is_empty() && end > self.crypto + self.crypto_buffer).then(|| format!("CRYPTO up to {end}"))
                }
                Ok(Frame::Datagram(datagram)) if datagram.data.len() > self.max_datagram => Some("a long datagram".to_owned()),
                // The peer ends the connection: nothing is asked of its receiver any more.
                Ok(Frame::Close(_) | Frame::ApplicationClose(_)) => return None,
                Ok(_) => None,
            };
            if verdict.is_some() {
                return verdict;
            }
        }
        None
    }

    fn on_data(&mut self, id: StreamId, end: u64, fin: bool, reset: bool, receiver: &Application) -> Option<String> {
        if let Err(error) = self.find(id, receiver) {
            return Some(error);
        }
        let stream_window = self.stream_window;
        let sent = self.streams.entry(id).or_default();
        if sent.gone {
            return None;
        }
        // RFC 9000 4.5
        if sent.final_size.is_some_and(|size| end > size || fin && end != size) {
            return Some(format!("stream {id}: another final size, {end} after {sent:?}"));
        }
        if fin && end < sent.end {
            return Some(format!("stream {id}: a final size below what was sent, {end} after {sent:?}"));
        }
        sent.end = sent.end.max(end);
        if fin {
            sent.final_size = Some(end);
        }
        sent.reset |= reset;
        // RFC 9000 4.1
        if sent.end > stream_window + sent.consumed(id, receiver) {
            return Some(format!("stream {id}: {} bytes", sent.end));
        }
        let progress = receiver.streams.get(&id);
        if fin && progress.is_some_and(|progress| progress.stopped) {
            // Nobody reads it: it may be forgotten within this packet.
            sent.gone = true;
        }
        let all: u64 = self.streams.values().map(|sent| sent.end).sum();
        let consumed: u64 = self.streams.iter().map(|(id, sent)| sent.consumed(*id, receiver)).sum();
        (all > self.connection_window + consumed).then(|| format!("{all} bytes in all"))
    }

    /// RFC 9000 19.8: the sender may name this stream in a frame for its receiver.
    fn find(&self, id: StreamId, receiver: &Application) -> Result<(), String> {
        if id.direction() == Direction::Uni && id.initiator() != self.sender {
            return Err(format!("stream {id} is not one to receive on"));
        }
        self.check_opened(id, receiver)
    }

    /// RFC 9000 19.5, 19.10: or in one for the end that sends on it.
    fn check_sending(&self, id: StreamId, receiver: &Application) -> Option<String> {
        if id.direction() == Direction::Uni && id.initiator() == self.sender {
            return Some(format!("stream {id} is not one to send on"));
        }
        self.check_opened(id, receiver).err()
    }

    fn check_opened(&self, id: StreamId, receiver: &Application) -> Result<(), String> {
        let direction = id.direction();
        if id.initiator() != self.sender {
            let is_open = id.index() < receiver.opened[direction.index()];
            return if is_open { Ok(()) } else { Err(format!("stream {id} was never opened")) };
        }
        // RFC 9000 4.6
        let is_over = |(other, sent): &(&StreamId, &Sent)| other.initiator() == self.sender && other.direction() == direction && sent.gone;
        let limit = self.max_streams[direction.index()] + self.streams.iter().filter(is_over).count() as u64;
        if id.index() < limit { Ok(()) } else { Err(format!("stream {id} of {limit}")) }
    }
}

impl Sent {
    /// Bytes at most that the receiver has done with.
    fn consumed(&self, id: StreamId, receiver: &Application) -> u64 {
        let progress = receiver.streams.get(&id);
        if self.reset || progress.is_some_and(|progress| progress.stopped) {
            // What nobody will read is done with when it comes.
            return self.end - receiver.holds(id).min(self.end);
        }
        progress.map_or(0, |progress| progress.released)
    }
}
