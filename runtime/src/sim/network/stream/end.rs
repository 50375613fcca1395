//! One end of a simulated stream.
//!
//! Owns how far an end has sent, received and read, and what its program is told. Does not own segments, nor who waits.
//!
//! Invariants:
//! - An end has sent at most [`WINDOW`] bytes more than the other end's program has read.
//! - What has arrived is in `received` as far as it is in order, and in `early` beyond that.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::{EndId, ListenerId};
use crate::primitive::Arc;
use crate::reactor::{Direction, Source};
use crate::sim::network::address::HostId;
use crate::sim::network::{Edge, Ready};

/// Bytes that are sent and not read, at most, in each direction.
pub(super) const WINDOW: u64 = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for, by this end.
    Connecting,
    /// Answered by this end, and not confirmed.
    Answered(ListenerId),
    Open,
    /// Nothing is sent or received any more.
    Dead,
}

pub(super) struct End {
    pub(super) host: HostId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Of the local address's translation when the stream was opened.
    pub(super) epoch: u64,
    pub(super) peer: Option<EndId>,
    pub(super) source: Arc<Source>,
    pub(super) phase: Phase,
    /// Whether a program holds the stream.
    pub(super) held: bool,
    pub(super) error: Option<ErrorKind>,
    /// The number of the next byte to send, and of the first that must not be sent yet.
    pub(super) next: u64,
    limit: u64,
    pub(super) write_closed: bool,
    /// The number of the next byte to arrive in order.
    expected: u64,
    early: BTreeMap<u64, Piece>,
    pub(super) received: VecDeque<u8>,
    /// Bytes that the program has read, and as many as the other end was told.
    read: u64,
    told: u64,
    /// The other end's last byte has arrived.
    pub(super) ended: bool,
    read_closed: bool,
}

/// What arrives in order.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    End,
}

impl End {
    pub(super) fn new(host: HostId, local: SocketAddr, remote: SocketAddr, epoch: u64, phase: Phase, peer: Option<EndId>) -> End {
        End {
            host,
            local,
            remote,
            epoch,
            peer,
            source: Arc::new(Source::new(0)),
            phase,
            held: phase == Phase::Connecting,
            error: None,
            next: 0,
            limit: WINDOW,
            write_closed: false,
            expected: 0,
            early: BTreeMap::new(),
            received: VecDeque::new(),
            read: 0,
            told: 0,
            ended: false,
            read_closed: false,
        }
    }

    /// Copies what has arrived, as far as it fits. Zero bytes are the end.
    pub(super) fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.received.len());
        if len > 0 {
            buffer.iter_mut().zip(&self.received).for_each(|(place, &byte)| *place = byte);
            return Ok(len);
        }
        match self.error.take() {
            Some(error) => Err(error.into()),
            None if buffer.is_empty() || self.ended || self.read_closed || self.phase == Phase::Dead => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// As [`peek`](Self::peek), and takes it.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.peek(buffer)?;
        self.received.drain(..len);
        self.read += len as u64;
        Ok(len)
    }

    /// How many of so many bytes may be sent.
    pub(super) fn writable(&mut self, len: usize) -> io::Result<usize> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        if self.phase == Phase::Dead || self.write_closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = usize::try_from(self.limit - self.next).unwrap_or(usize::MAX);
        match room.min(len) {
            0 if len > 0 => Err(ErrorKind::WouldBlock.into()),
            _ if len > 0 && self.phase == Phase::Connecting => Err(ErrorKind::WouldBlock.into()),
            sendable => Ok(sendable),
        }
    }

    /// The other end's program has read so many bytes in all.
    pub(super) fn on_read(&mut self, read: u64) {
        self.limit = self.limit.max(read + WINDOW);
    }

    /// Takes in what has arrived, and puts in order what is complete. Who reads learns what is there.
    pub(super) fn on_piece(&mut self, first: u64, piece: Piece, ready: &mut Ready) {
        self.early.insert(first, piece);
        while let Some(piece) = self.early.remove(&self.expected) {
            match piece {
                Piece::Bytes(bytes) => {
                    self.expected += bytes.len() as u64;
                    self.received.extend(bytes);
                }
                Piece::End => self.ended = true,
            }
        }
        if self.read_closed {
            self.discard();
        }
        let edge = if self.ended { Edge::Ended(Direction::Read) } else { Edge::Ready(Direction::Read) };
        ready.push((Arc::clone(&self.source), edge));
    }

    /// Throws away what arrives, from now on and so far.
    pub(super) fn close_read(&mut self) {
        self.read_closed = true;
        self.discard();
    }

    fn discard(&mut self) {
        self.read += self.received.len() as u64;
        self.received.clear();
    }

    /// What the other end must be told to have been read, once it is worth a segment: at the latest when the other end has none of its
    /// window left.
    pub(super) fn take_untold(&mut self) -> Option<u64> {
        let due = self.read - self.told >= WINDOW / 2 && !self.ended && self.phase == Phase::Open;
        due.then(|| {
            self.told = self.read;
            self.read
        })
    }

    /// The stream is over for this end.
    pub(super) fn fail(&mut self, error: ErrorKind, ready: &mut Ready) {
        if self.phase != Phase::Dead {
            self.phase = Phase::Dead;
            self.error = Some(error);
            self.early.clear();
        }
        ready.push((Arc::clone(&self.source), Edge::Ended(Direction::Read)));
        ready.push((Arc::clone(&self.source), Edge::Ended(Direction::Write)));
    }

    /// Nobody will read or write here any more.
    pub(super) fn is_abandoned(&self) -> bool {
        !self.held && self.write_closed
    }
}
