//! Owns which streams exist: opening by both ends, the limits on their number, and the search for a stream by its id.
//!
//! Does not own what happens on a stream.
//!
//! Invariants:
//! - A stream of the peer is untouched (opened by a higher one, no memory spent), in the map, or closed.
//! - `accepted <= opened <= advertised`: the peer's open streams, untouched ones included, are `concurrent` at most.
//! - Streams of this end that the peer does not permit are withheld. There are none but after a restart, which may leave `next`
//!   above `limit`.
//! - The hash is keyed, since the peer chooses which ids of its own appear.

use std::hash::BuildHasher;

use indexmap::IndexMap;
use siphasher::sip::SipHasher13;

use super::receive::Receive;
use super::send::Send;
use super::{Limits, PerStream};
use crate::error::{TransportError, TransportErrorCode};
use crate::random::Secrets;
use crate::ranges::RangeSet;
use crate::side::Side;
use crate::stream_id::{Direction, StreamId};

/// A fraction of the permitted streams that must have closed before the peer is given more, so that not each stream costs
/// a MAX_STREAMS frame.
const UPDATE_FRACTION: u64 = 8;

/// A stream that has been touched and is not closed.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// Higher is served first.
    pub(super) priority: i32,
    pub(super) send: Option<Send>,
    pub(super) receive: Option<Receive>,
    pub(super) owed: Owed,
    pub(super) queued: Queued,
    /// The peer does not permit it: it was opened for early data that was rejected, and nothing is sent on it for now.
    pub(super) withheld: bool,
    /// Some of it came as early data.
    pub(super) early: bool,
}

/// The frames that a stream owes the peer, besides STREAM.
#[derive(Debug, Default)]
pub(super) struct Owed {
    pub(super) reset_stream: bool,
    pub(super) stop_sending: bool,
    pub(super) max_stream_data: bool,
    pub(super) stream_data_blocked: bool,
}

impl Owed {
    pub(super) fn is_any(&self) -> bool {
        self.reset_stream || self.stop_sending || self.max_stream_data || self.stream_data_blocked
    }
}

/// The queues that hold the stream's id: no queue holds it twice.
#[derive(Debug, Default)]
pub(super) struct Queued {
    pub(super) control: bool,
    pub(super) ready: bool,
    pub(super) starved: bool,
    pub(super) crowded: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

impl Stream {
    fn is_terminal(&self) -> bool {
        self.send.as_ref().is_none_or(Send::is_terminal) && self.receive.as_ref().is_none_or(Receive::is_terminal)
    }
}

/// All streams of a connection.
#[derive(Debug)]
pub(super) struct Table {
    side: Side,
    /// What this end permits on streams, to begin with.
    own: PerStream<u32>,
    /// What the peer permits.
    peer: PerStream<u64>,
    streams: IndexMap<StreamId, Box<Stream>, Seed>,
    /// Where in the map the stream is that was looked for last: most often it is the next one, too, and needs no hash.
    last: usize,
    local: [Local; 2],
    remote: [Remote; 2],
}

/// The streams of one direction that this end opens.
#[derive(Debug, Default)]
struct Local {
    /// The index of the next one.
    next: u64,
    /// How many the peer permits in all.
    limit: u64,
    /// An open failed for want of permission.
    wanted: bool,
    /// The peer was told that this limit blocks.
    told: bool,
    /// There is permission again, and nobody was told yet.
    available: bool,
}

/// The streams of one direction that the peer opens.
#[derive(Debug, Default)]
struct Remote {
    /// How many may be open at once.
    concurrent: u32,
    /// How many the peer knows that it may open in all.
    advertised: u64,
    /// One above the highest index seen.
    opened: u64,
    /// How many the application has accepted; they are accepted in order.
    accepted: u64,
    closed: u64,
    /// Indices that were opened only by a higher one. Boxed since most peers open their streams in order.
    untouched: Option<Box<RangeSet>>,
    /// There are new ones, and nobody was told yet.
    news: bool,
}

#[derive(Debug)]
struct Seed(u64, u64);

impl BuildHasher for Seed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

impl Table {
    pub(super) fn new(side: Side, limits: &Limits, secrets: &mut Secrets) -> Self {
        let remote = |concurrent: u64| {
            let concurrent = saturate(concurrent);
            Remote { concurrent, advertised: concurrent.into(), ..Remote::default() }
        };
        let seed = Seed(secrets.u64(), secrets.u64());
        Self {
            side,
            own: limits.stream_data.map(saturate),
            peer: PerStream::default(),
            streams: IndexMap::with_hasher(seed),
            last: 0,
            local: Default::default(),
            remote: [remote(limits.streams_bidi), remote(limits.streams_uni)],
        }
    }

    pub(super) fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        if self.streams.get_index(self.last).is_none_or(|(there, _)| *there != id) {
            self.last = self.streams.get_index_of(&id)?;
        }
        self.streams.get_index_mut(self.last).map(|(_, stream)| stream.as_mut())
    }

    /// The stream, for a frame about the part of it that receives: STREAM, RESET_STREAM, STREAM_DATA_BLOCKED. `None` if it
    /// is closed.
    pub(super) fn receiving(&mut self, id: StreamId) -> Result<Option<&mut Stream>, TransportError> {
        // RFC 9000 sections 19.4, 19.8 and 19.13.
        if id.direction() == Direction::Uni && id.initiator() == self.side {
            return Err(TransportErrorCode::STREAM_STATE_ERROR.because("a frame for receiving on a send-only stream"));
        }
        self.resolve(id)
    }

    /// The stream, for a frame about the part of it that sends: MAX_STREAM_DATA, STOP_SENDING. `None` if it is closed.
    pub(super) fn sending(&mut self, id: StreamId) -> Result<Option<&mut Stream>, TransportError> {
        // RFC 9000 sections 19.5 and 19.10.
        if id.direction() == Direction::Uni && id.initiator() != self.side {
            return Err(TransportErrorCode::STREAM_STATE_ERROR.because("a frame for sending on a receive-only stream"));
        }
        self.resolve(id)
    }

    /// Opens the next stream of this end, if the peer permits one more.
    pub(super) fn open(&mut self, direction: Direction) -> Option<StreamId> {
        let local = &mut self.local[direction.index()];
        if local.next >= local.limit {
            local.wanted = true;
            return None;
        }
        let id = StreamId::new(self.side, direction, local.next)?;
        local.next += 1;
        self.create(id);
        Some(id)
    }

    /// The next stream that the peer has opened, in the order of ids.
    pub(super) fn accept(&mut self, direction: Direction) -> Option<StreamId> {
        let remote = &mut self.remote[direction.index()];
        if remote.accepted == remote.opened {
            return None;
        }
        let index = remote.accepted;
        remote.accepted += 1;
        let untouched = remote.touch(index);
        let id = StreamId::new(!self.side, direction, index)?;
        if untouched {
            self.create(id);
        }
        Some(id)
    }

    /// Forgets the stream if both its parts are terminal, and returns it.
    pub(super) fn reap(&mut self, id: StreamId) -> Option<Box<Stream>> {
        if !self.streams.get(&id)?.is_terminal() {
            return None;
        }
        if id.initiator() != self.side {
            self.remote[id.direction().index()].closed += 1;
        }
        self.streams.swap_remove(&id)
    }

    /// Whether the peer is to be given more streams.
    pub(super) fn is_update_due(&self, direction: Direction) -> bool {
        let remote = &self.remote[direction.index()];
        remote.next_limit() - remote.advertised >= u64::from(remote.concurrent).div_ceil(UPDATE_FRACTION).max(1)
    }

    /// The limit on the peer's streams, to send to it. It counts as advertised from now on.
    pub(super) fn advertise(&mut self, direction: Direction) -> u64 {
        let remote = &mut self.remote[direction.index()];
        remote.advertised = remote.next_limit();
        remote.advertised
    }

    /// The peer permits `limit` streams in all (RFC 9000 section 4.6: a limit that is not larger is ignored). Returns those that
    /// were withheld until now.
    pub(super) fn raise(&mut self, direction: Direction, limit: u64) -> impl Iterator<Item = StreamId> + use<> {
        let (side, local) = (self.side, &mut self.local[direction.index()]);
        let former = local.limit;
        if limit > local.limit {
            local.limit = limit;
            local.told = false;
            local.available |= std::mem::take(&mut local.wanted);
        }
        (former..local.limit.min(local.next)).filter_map(move |index| StreamId::new(side, direction, index))
    }

    /// Whether streams of this end wait for the peer's permission.
    pub(super) fn withholds(&self, direction: Direction) -> bool {
        let local = &self.local[direction.index()];
        local.next > local.limit
    }

    /// What the peer permits is not known any more. Returns all streams of this end, for the caller to withhold.
    pub(super) fn restart(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.peer = PerStream::default();
        for local in &mut self.local {
            (local.limit, local.told) = (0, false);
        }
        let side = self.side;
        self.iter_mut().filter(move |stream| stream.id.initiator() == side)
    }

    /// The peer's limit on this end's streams, if it blocks an open.
    pub(super) fn blocked_at(&self, direction: Direction) -> Option<u64> {
        let local = &self.local[direction.index()];
        ((local.wanted || local.next > local.limit) && local.next >= local.limit).then_some(local.limit)
    }

    /// Whether the peer does not know yet that its limit blocks. True once a limit.
    pub(super) fn tell_blocked(&mut self, direction: Direction) -> bool {
        !std::mem::replace(&mut self.local[direction.index()].told, true)
    }

    /// Whether the peer has opened streams since the last call.
    pub(super) fn take_opened(&mut self, direction: Direction) -> bool {
        std::mem::take(&mut self.remote[direction.index()].news)
    }

    /// Whether streams may be opened again since an open failed and since the last call.
    pub(super) fn take_available(&mut self, direction: Direction) -> bool {
        std::mem::take(&mut self.local[direction.index()].available)
    }

    /// Learns what the peer permits in its transport parameters, and returns the streams there are.
    pub(super) fn set_peer_limits(&mut self, peer: &Limits) -> impl Iterator<Item = &mut Stream> {
        self.peer = peer.stream_data;
        // All streams are looked at below, those that were withheld among them.
        let _ = self.raise(Direction::Bi, peer.streams_bidi);
        let _ = self.raise(Direction::Uni, peer.streams_uni);
        let limits = [Direction::Bi, Direction::Uni].map(|direction| self.local[direction.index()].limit);
        let (side, peer) = (self.side, &self.peer);
        self.streams.values_mut().map(move |stream| {
            stream.withheld &= stream.id.index() >= limits[stream.id.direction().index()];
            if let Some(send) = &mut stream.send {
                send.on_max_stream_data(peer.of_sending(side, stream.id));
            }
            &mut **stream
        })
    }

    /// Bytes held outside of the value itself, the streams' own excepted.
    pub(super) fn memory(&self) -> usize {
        let untouched = |remote: &Remote| remote.untouched.as_ref().map_or(0, |set| size_of::<RangeSet>() + set.memory());
        self.streams.capacity() * size_of::<(StreamId, Box<Stream>)>() + self.remote.iter().map(untouched).sum::<usize>()
    }

    pub(super) fn shrink(&mut self) {
        self.streams.shrink_to_fit();
    }

    /// All streams that were touched and are not closed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values().map(|stream| &**stream)
    }

    /// As [`Table::iter`], to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.streams.values_mut().map(|stream| &mut **stream)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Finds a stream, and opens it if it is the peer's to open.
    fn resolve(&mut self, id: StreamId) -> Result<Option<&mut Stream>, TransportError> {
        let (index, direction) = (id.index(), id.direction().index());
        if id.initiator() == self.side {
            // RFC 9000 sections 19.5, 19.8 and 19.10. Of streams that are withheld the peer has not heard.
            let local = &self.local[direction];
            if index >= local.next.min(local.limit) {
                return Err(TransportErrorCode::STREAM_STATE_ERROR.because("a frame for a stream that was never opened"));
            }
            return Ok(self.get(id));
        }
        let remote = &mut self.remote[direction];
        // RFC 9000 section 4.6.
        if index >= remote.advertised {
            return Err(TransportErrorCode::STREAM_LIMIT_ERROR.because("a stream beyond the advertised limit"));
        }
        if index >= remote.opened {
            // RFC 9000 section 3.2: all lower streams open with it.
            if remote.opened < index {
                remote.untouched.get_or_insert_default().insert(remote.opened..index);
            }
            remote.opened = index + 1;
            remote.news = true;
            self.create(id);
        } else if remote.touch(index) {
            self.create(id);
        }
        Ok(self.get(id))
    }

    fn create(&mut self, id: StreamId) {
        let both = id.direction() == Direction::Bi;
        let ours = id.initiator() == self.side;
        let send = (both || ours).then(|| Send::new(self.peer.of_sending(self.side, id)));
        let receive = (both || !ours).then(|| Receive::new(self.own.of_receiving(self.side, id).into()));
        let (owed, queued) = (Owed::default(), Queued::default());
        let stream = Stream { id, priority: 0, send, receive, owed, queued, withheld: false, early: false };
        self.streams.insert(id, Box::new(stream));
    }
}

impl Remote {
    /// Takes `index` out of the untouched ones; false if it is not one of them.
    fn touch(&mut self, index: u64) -> bool {
        let Some(untouched) = self.untouched.as_mut().filter(|untouched| untouched.contains(index..index + 1)) else { return false };
        untouched.remove(index..index + 1);
        if untouched.is_empty() {
            self.untouched = None;
        }
        true
    }

    fn next_limit(&self) -> u64 {
        (self.closed + u64::from(self.concurrent)).min(StreamId::MAX_STREAMS)
    }
}

/// A limit of this end, which needs no more than the configuration's type.
fn saturate(limit: u64) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids that collide under a key that the attacker knows (kwik and lsquic hashed without one) are spread by another connection's,
    /// which it does not: no place of a table gets more of them than chance puts there.
    #[test]
    fn ids_that_collide_under_one_key_do_not_under_another() {
        const PLACES: u64 = 1024;
        let table = |seed| Table::new(Side::Server, &Limits::default(), &mut Secrets::new([seed; 16]));
        let place = |table: &Table, id: StreamId| table.streams.hasher().hash_one(id) % PLACES;
        let known = table(1);
        let ids = (0..2_000_000).filter_map(|index| StreamId::new(Side::Client, Direction::Bi, index));
        let colliding: Vec<_> = ids.filter(|id| place(&known, *id) == 0).collect();
        assert!(colliding.len() > 1_000);
        for seed in 2..5 {
            let secret = table(seed);
            let mut places = vec![0; PLACES as usize];
            colliding.iter().for_each(|id| places[place(&secret, *id) as usize] += 1);
            assert!(places.iter().all(|count| *count < 20), "{:?} in one place", places.iter().max());
        }
    }
}
