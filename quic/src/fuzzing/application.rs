//! An application that does with its connection whatever a script says: it opens streams, writes, reads, holds on to what it has read,
//! gives it back in any order, and asks for things at the wrong time.
//!
//! Owns what it knows of its streams, and the comparison of what came out at one end with what went in at the other. The bytes that it
//! writes tell their own place.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::connection::tests::pair::Node;
use crate::connection::{Connection, CryptoJob, WhenFull};
use crate::error::ApplicationCode;
use crate::pressure::Pressure;
use crate::side::Side;
use crate::stream_id::{Direction, StreamId};
use crate::streams::ReadError;
use crate::time::Instant;

use super::bounds::Extent;
use super::script::Script;

/// One end's application.
pub(super) struct Application {
    side: Side,
    /// The peer's streams hold what an [`Application`] wrote.
    peer_is_honest: bool,
    pub(super) streams: BTreeMap<StreamId, Progress>,
    /// How many streams it has opened, by direction.
    pub(super) opened: [u64; 2],
    /// Bytes of the datagrams that were taken, each with its place in a queue.
    datagrams_sent: usize,
    /// Read, and not given back.
    chunks: Vec<(StreamId, Chunk)>,
    datagrams: VecDeque<Chunk>,
    /// A step of the handshake that is away.
    job: Option<CryptoJob>,
    /// Reads all that comes, and gives it back at once.
    pub(super) eager: bool,
    /// It has closed the connection.
    pub(super) closes: bool,
}

/// How far it got with a stream.
#[derive(Debug, Default)]
pub(super) struct Progress {
    written: u64,
    finished: bool,
    reset: bool,
    read: u64,
    /// Of what was read, what was given back.
    pub(super) released: u64,
    /// The end was read.
    ended: bool,
    pub(super) stopped: bool,
}

/// The byte of a stream at an offset.
pub(super) fn byte(id: StreamId, offset: u64) -> u8 {
    (offset.wrapping_mul(31) ^ offset >> 8 ^ id.as_u64()) as u8
}

/// A piece of a stream.
pub(super) fn pattern(id: StreamId, offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64).map(|at| byte(id, at)).collect()
}

impl Application {
    pub(super) fn new(side: Side, peer_is_honest: bool) -> Self {
        Self {
            side,
            peer_is_honest,
            streams: BTreeMap::new(),
            opened: [0; 2],
            datagrams_sent: 0,
            chunks: Vec::new(),
            datagrams: VecDeque::new(),
            job: None,
            eager: false,
            closes: false,
        }
    }

    /// One call, of three bytes: which, on which stream, and how much.
    pub(super) fn call(&mut self, node: &mut Node, now: Instant, script: &mut Script<'_>) {
        let (verb, choice, amount) = (script.u8(), script.u8(), script.u8());
        let Some((_, connection)) = &mut node.connection else { return };
        // Streams that the peer has opened.
        for id in node.received.keys() {
            self.streams.entry(*id).or_default();
        }
        let code = ApplicationCode::from_u32(amount.into());
        let direction = if choice & 1 == 0 { Direction::Bi } else { Direction::Uni };
        let id = self.choose(choice);
        let progress = self.streams.entry(id).or_default();
        let is_there = connection.priority(id).is_some() && !connection.is_closed();
        match verb % 24 {
            0 | 1 => {
                if let Some(id) = connection.open(direction) {
                    self.opened[direction.index()] += 1;
                    self.streams.entry(id).or_default();
                }
            }
            2..=4 => {
                if let Ok(written) = connection.write(id, &pattern(id, progress.written, usize::from(amount) * 15)) {
                    progress.written += written as u64;
                }
            }
            5 => {
                let mut data = Bytes::from(pattern(id, progress.written, usize::from(amount) * 15));
                if let Ok(written) = connection.write_chunk(id, &mut data) {
                    progress.written += written as u64;
                }
            }
            6 => progress.finished |= connection.finish(id).is_ok(),
            7 => {
                progress.reset |= is_there;
                connection.reset(id, code);
            }
            8 => {
                progress.stopped |= is_there;
                connection.stop(id, code);
            }
            9 | 10 => self.read(connection, id, usize::from(amount) * 8),
            11 => self.give_back(connection, amount.into()),
            12 => connection.abandon(id),
            13 => connection.set_priority(id, i32::from(amount) - 128),
            14 => {
                let when_full = if choice & 1 == 0 { WhenFull::Block } else { WhenFull::DropOldest };
                let len = usize::from(amount) * 6;
                if connection.send_datagram(Bytes::from(vec![amount; len]), when_full).is_ok() {
                    self.datagrams_sent += 64 + len;
                }
            }
            15 => self.datagrams.extend(connection.read_datagram()),
            16 => {
                if let Some(datagram) = self.datagrams.pop_front() {
                    connection.release_datagram(datagram);
                }
            }
            17 => self.eager = amount & 1 == 1,
            18 if amount & 1 == 1 => connection.update_keys(),
            18 => connection.rotate_ids(),
            19 => connection.set_pressure([Pressure::None, Pressure::High, Pressure::Full][usize::from(amount % 3)]),
            20 if amount & 1 == 1 => connection.ping(),
            20 => connection.on_timeout(now),
            21 => node.stuck = amount & 1 == 1,
            22 if self.job.is_none() => self.job = connection.poll_crypto_job(),
            22 => self.return_job(node, now),
            _ if amount > 250 => {
                self.closes = true;
                connection.close(now, code, b"enough");
            }
            _ => _ = connection.is_readable(id) | connection.is_sending(id) | connection.is_finishing(),
        }
    }

    /// Reads all there is, and gives all back, if it does so at once.
    pub(super) fn work(&mut self, node: &mut Node) {
        let Some((_, connection)) = &mut node.connection else { return };
        if !self.eager {
            return;
        }
        for id in node.received.keys() {
            self.streams.entry(*id).or_default();
        }
        let ids: Vec<_> = self.streams.keys().copied().collect();
        for id in ids {
            while connection.is_readable(id) {
                self.read(connection, id, usize::MAX);
            }
        }
        while !self.chunks.is_empty() {
            self.give_back(connection, 0);
        }
        self.datagrams.extend(connection.read_datagram());
        while let Some(datagram) = self.datagrams.pop_front() {
            connection.release_datagram(datagram);
            self.datagrams.extend(connection.read_datagram());
        }
    }

    /// From now on it does what an application should.
    pub(super) fn behave(&mut self, node: &mut Node, now: Instant) {
        node.stuck = false;
        self.return_job(node, now);
        if let Some((_, connection)) = &mut node.connection {
            connection.set_pressure(Pressure::None);
        }
        self.eager = true;
        self.work(node);
    }

    /// Panics if what came out here is not what went in at the other end. Says whether all of it is there that should come.
    pub(super) fn compare(&self, writer: &Self) -> bool {
        let mut all = true;
        for (id, there) in &writer.streams {
            let none = Progress::default();
            let here = self.streams.get(id).unwrap_or(&none);
            assert!(here.read <= there.written, "stream {id}: {here:?} of {there:?}");
            assert!(!here.ended || there.finished && here.read == there.written, "stream {id} ends early: {here:?} of {there:?}");
            let is_whole = here.read == there.written && here.ended == there.finished;
            all &= is_whole || there.reset || here.stopped;
        }
        all
    }

    /// What it has asked of its connection, and the largest congestion `window` so far.
    pub(super) fn extent(&self, window: u64) -> Extent {
        Extent {
            own_streams: self.opened.iter().sum::<u64>() as usize,
            written: self.streams.values().map(|progress| progress.written).sum::<u64>() as usize,
            datagrams: self.datagrams_sent,
            window,
        }
    }

    /// Bytes that were read and not given back.
    pub(super) fn holds(&self, id: StreamId) -> u64 {
        self.streams.get(&id).map_or(0, |progress| progress.read - progress.released)
    }

    fn choose(&self, choice: u8) -> StreamId {
        let at = usize::from(choice >> 1);
        if choice < 0xc0
            && let Some(id) = self.streams.keys().nth(at % self.streams.len().max(1))
        {
            return *id;
        }
        // One that is over, or never was.
        StreamId::from(crate::wire::VarInt::from_u32(u32::from(choice & 0x1f)))
    }

    fn read(&mut self, connection: &mut Connection, id: StreamId, max: usize) {
        let progress = self.streams.entry(id).or_default();
        match connection.read(id, max) {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty() && chunk.len() <= max && !progress.ended && !progress.stopped);
                if self.peer_is_honest {
                    assert_eq!(&chunk[..], pattern(id, progress.read, chunk.len()), "stream {id} from {}", progress.read);
                }
                progress.read += chunk.len() as u64;
                self.chunks.push((id, chunk));
            }
            Ok(None) => {
                assert!(!progress.ended, "an end is read once");
                progress.ended = true;
            }
            Err(ReadError::Blocked | ReadError::Reset(_) | ReadError::Closed) => {}
        }
    }

    fn give_back(&mut self, connection: &mut Connection, at: usize) {
        if self.chunks.is_empty() {
            return;
        }
        let (id, chunk) = self.chunks.swap_remove(at % self.chunks.len());
        self.streams.entry(id).or_default().released += chunk.len() as u64;
        connection.release(id, chunk);
    }

    fn return_job(&mut self, node: &mut Node, now: Instant) {
        if let (Some(job), Some((_, connection))) = (self.job.take(), &mut node.connection) {
            connection.on_crypto_done(now, job.run(), &mut node.scratch);
        }
    }

    /// Which end it is at.
    pub(super) fn side(&self) -> Side {
        self.side
    }
}
