//! The packet number spaces of a connection, and which of them are left (RFC 9000 12.3, RFC 9001 4.9).
//!
//! Owns their lifetimes: Initial and Handshake space live as long as their keys, and their memory goes with them. What a
//! space does is `space`'s.
//!
//! Invariant: a space that was discarded does not come back.

use std::time::Duration;

use super::space::Space;
use crate::recovery::SpaceId;
use crate::recovery::loss::SpaceTimes;
use crate::recovery::sent::{SentPacket, Tokens};

/// The spaces that were not discarded.
pub(crate) struct Spaces {
    initial: Option<Box<Space>>,
    handshake: Option<Box<Space>>,
    data: Space,
}

impl Spaces {
    /// All three, unused. `max_ack_delay` is our own promise to the peer; `ack_ranges` of packets are kept at most in each.
    pub(crate) fn new(max_ack_delay: Duration, ack_ranges: u8) -> Self {
        let space = |id| {
            let mut space = Space::new(id, max_ack_delay);
            space.received.limit_ranges(ack_ranges);
            space
        };
        let boxed = |id| Some(Box::new(space(id)));
        Self { initial: boxed(SpaceId::Initial), handshake: boxed(SpaceId::Handshake), data: space(SpaceId::Data) }
    }

    /// A space, if it was not discarded.
    pub(crate) fn get(&self, id: SpaceId) -> Option<&Space> {
        match id {
            SpaceId::Initial => self.initial.as_deref(),
            SpaceId::Handshake => self.handshake.as_deref(),
            SpaceId::Data => Some(&self.data),
        }
    }

    /// As [`Spaces::get`], to change it.
    pub(crate) fn get_mut(&mut self, id: SpaceId) -> Option<&mut Space> {
        match id {
            SpaceId::Initial => self.initial.as_deref_mut(),
            SpaceId::Handshake => self.handshake.as_deref_mut(),
            SpaceId::Data => Some(&mut self.data),
        }
    }

    /// What the loss timer needs, in the order of [`SpaceId::ALL`].
    pub(crate) fn times(&self) -> [SpaceTimes; 3] {
        SpaceId::ALL.map(|id| self.get(id).map_or_else(SpaceTimes::default, Space::times))
    }

    /// The keys of a space are gone, and so is the space. Gives outstanding packets to `forgotten`, whose bytes are in flight
    /// no more (RFC 9002 6.4). The space of application data stays.
    pub(crate) fn discard(&mut self, id: SpaceId, forgotten: impl FnMut(&SentPacket, Tokens<'_>)) {
        let space = match id {
            SpaceId::Initial => self.initial.take(),
            SpaceId::Handshake => self.handshake.take(),
            SpaceId::Data => None,
        };
        if let Some(mut space) = space {
            space.on_restart(forgotten);
        }
    }

    /// The connection is over: nobody asks what became of packets. Numbers go on, for those that say so.
    pub(crate) fn on_closed(&mut self) {
        for id in SpaceId::ALL {
            if let Some(space) = self.get_mut(id) {
                space.on_restart(|_, _| {});
            }
        }
    }

    /// Gives back what is kept for more packets than a few.
    pub(crate) fn shrink(&mut self) {
        self.data.shrink();
    }

    /// Whether packets are outstanding that the peer must acknowledge, in any space.
    pub(crate) fn has_ack_eliciting(&self) -> bool {
        SpaceId::ALL.into_iter().any(|id| self.get(id).is_some_and(Space::has_ack_eliciting))
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        let boxed = [&self.initial, &self.handshake].into_iter().flatten();
        boxed.map(|space| size_of::<Space>() + space.memory()).sum::<usize>() + self.data.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path_id::PathId;
    use crate::random::Secrets;
    use crate::recovery::sent::PacketKind;
    use crate::time::Instant;
    use crate::wire::PacketNumber;

    #[test]
    fn a_discarded_space_gives_up_what_was_outstanding_and_its_memory() {
        // RFC 9002 6.4
        let mut spaces = Spaces::new(Duration::ZERO, 64);
        let before = spaces.memory();
        for id in SpaceId::ALL {
            let packet = SentPacket::new(PacketNumber::ZERO, Instant::from_nanos(1), PathId::FIRST, 100, PacketKind::AckEliciting);
            spaces.get_mut(id).unwrap().on_sent(packet, &mut Vec::new(), &mut Secrets::new([0; 16]));
        }
        for id in [SpaceId::Initial, SpaceId::Handshake] {
            let mut forgotten = 0;
            spaces.discard(id, |_, _| forgotten += 1);
            spaces.discard(id, |_, _| forgotten += 1);
            assert!(forgotten == 1 && spaces.get(id).is_none());
        }
        assert!(spaces.times()[..2].iter().all(|times| times.last_ack_eliciting.is_none()));
        spaces.discard(SpaceId::Data, |_, _| panic!("this space stays"));
        assert!(spaces.times()[2].last_ack_eliciting.is_some() && spaces.memory() < before);
    }
}
