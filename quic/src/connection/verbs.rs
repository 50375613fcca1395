//! What the application does with a connection: streams, datagrams, close, key update. Each verb is the owning part's, and holds
//! nothing of its own.

use bytes::Bytes;
use weald_crypto::TAG_LEN;

use super::Connection;
use super::close::Reason;
use super::datagrams::{self, Datagrams, SendDatagramError, WhenFull};
use crate::chunk::Chunk;
use crate::config::MIN_UDP_PAYLOAD;
use crate::error::{ApplicationCode, ConnectionError, TransportError, TransportErrorCode};
use crate::pressure::Pressure;
use crate::recovery::SpaceId;
use crate::stream_id::{Direction, StreamId};
use crate::streams::{ReadError, WriteError};
use crate::time::Instant;
use crate::wire::PacketType;
use crate::wire::header::{LongHeader, ShortHeader};

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

    /// Whether some of a stream's data came in 0-RTT packets, as far as the stream is not forgotten yet.
    pub fn is_early(&mut self, id: StreamId) -> bool {
        self.streams.is_early(id)
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

    /// Queues a datagram, which arrives whole or not at all.
    ///
    /// # Errors
    /// [`SendDatagramError`]; `Blocked`, with [`WhenFull::Block`] alone, if an event will tell when there is room.
    pub fn send_datagram(&mut self, data: Bytes, when_full: WhenFull) -> Result<(), SendDatagramError> {
        if self.is_closed() {
            return Err(SendDatagramError::Closed);
        }
        let max = self.max_datagram_size().ok_or(SendDatagramError::Unsupported)?;
        if data.len() > max {
            return Err(SendDatagramError::TooLarge { max });
        }
        self.datagrams().send(data, when_full)
    }

    /// The longest datagram that the peer takes and a packet on this path holds. `None` if the peer takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        datagrams::max_size(self.peer.max_datagram_frame, self.datagram_room())
    }

    /// How many bytes a datagram may have that is taken now with [`WhenFull::Block`].
    pub fn datagram_send_room(&self) -> usize {
        datagrams::send_room(&self.config, self.datagrams.as_deref())
    }

    /// Whether datagrams wait to be sent.
    pub fn has_datagrams(&self) -> bool {
        self.datagrams.as_ref().is_some_and(|datagrams| datagrams.has_pending())
    }

    /// The oldest datagram that has arrived. Give it back with [`Connection::release_datagram`], or it counts against the
    /// buffer for others.
    pub fn read_datagram(&mut self) -> Option<Chunk> {
        self.datagrams.as_mut()?.receive()
    }

    /// Takes back a datagram that was read.
    pub fn release_datagram(&mut self, chunk: Chunk) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.release(&chunk);
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
        if let (Pressure::Full, Some(datagrams)) = (pressure, &mut self.datagrams) {
            datagrams.drop_unread();
        }
    }

    /// Updates the packet keys as soon as the rules of RFC 9001 6.1 allow.
    pub fn update_keys(&mut self) {
        self.update_keys = true;
    }

    /// Changes the connection ids of both ends, so that who watched the old ones knows nothing of what comes (RFC 9000 5.1.2,
    /// 9.5): the peer gets new ids and is asked to retire all others, and is sent to under another of its own. Nothing happens
    /// before the handshake is confirmed, with a peer without connection ids, nor after the end.
    pub fn rotate_ids(&mut self) {
        if self.is_confirmed() && !self.is_closed() {
            self.local_ids.rotate();
            self.remote_ids.rotate();
            self.register_reset_token();
        }
    }

    /// Sends a PING as soon as there is room.
    pub fn ping(&mut self) {
        self.ping = true;
    }

    /// DATAGRAM, in a frame of `size` bytes.
    pub(super) fn on_datagram(&mut self, size: usize, data: Chunk) -> Result<(), TransportError> {
        // RFC 9221 section 3: a frame that was not asked for, or a larger one.
        if size > datagrams::receive_limit(&self.config).into() {
            return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("a DATAGRAM frame larger than was permitted"));
        }
        self.datagrams().on_received(data);
        Ok(())
    }

    /// Bytes of room for frames that a packet with nothing else in it has, whatever its number.
    pub(super) fn datagram_room(&self) -> usize {
        let (mtu, header) = match self.keys.sends(SpaceId::Data) {
            Some(PacketType::ZeroRtt) => {
                (MIN_UDP_PAYLOAD, LongHeader::max_size(&self.remote_ids.current(), &self.local_ids.handshake_id()))
            }
            _ => (self.path.mtu(), ShortHeader::max_size(&self.remote_ids.current())),
        };
        usize::from(mtu).saturating_sub(header + TAG_LEN)
    }

    fn datagrams(&mut self) -> &mut Datagrams {
        self.datagrams.get_or_insert_with(|| Box::new(Datagrams::new(&self.config)))
    }

    fn check_open(&self) -> Result<(), WriteError> {
        if self.is_closed() { Err(WriteError::Closed) } else { Ok(()) }
    }
}
