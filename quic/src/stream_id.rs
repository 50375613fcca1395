//! Stream ids: who opened a stream, whether it goes one way or both, and the how-manieth it is (RFC 9000 section 2.1).

use std::fmt;

use crate::side::Side;
use crate::wire::VarInt;

/// Whether a stream carries data one way or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ends send.
    Bi,
    /// Only the end that opened the stream sends.
    Uni,
}

impl Direction {
    /// Both directions, in the order of their index.
    pub const ALL: [Direction; 2] = [Direction::Bi, Direction::Uni];

    /// 0 for `Bi`, 1 for `Uni`: for tables with an entry a direction.
    pub const fn index(self) -> usize {
        match self {
            Direction::Bi => 0,
            Direction::Uni => 1,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Bi => "bidirectional",
            Direction::Uni => "unidirectional",
        })
    }
}

/// The identity of a stream within its connection. At most 2^62 - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The number of streams of one kind that a connection can ever have: the index is below it (RFC 9000 section 4.6).
    pub const MAX_STREAMS: u64 = 1 << 60;

    /// The stream of that kind with the given index, `None` if the index is not below [`StreamId::MAX_STREAMS`].
    pub const fn new(initiator: Side, direction: Direction, index: u64) -> Option<StreamId> {
        if index >= StreamId::MAX_STREAMS {
            return None;
        }
        // RFC 9000 section 2.1: bit 0 is the initiator, bit 1 the direction.
        let initiator = match initiator {
            Side::Client => 0,
            Side::Server => 1,
        };
        let direction = match direction {
            Direction::Bi => 0,
            Direction::Uni => 2,
        };
        Some(StreamId(index << 2 | direction | initiator))
    }

    /// The end that opened the stream.
    pub const fn initiator(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }

    /// Whether the stream goes one way or both.
    pub const fn direction(self) -> Direction {
        if self.0 & 2 == 0 { Direction::Bi } else { Direction::Uni }
    }

    /// How many streams of the same kind come before this one.
    pub const fn index(self) -> u64 {
        self.0 >> 2
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<VarInt> for StreamId {
    fn from(value: VarInt) -> StreamId {
        StreamId(value.as_u64())
    }
}

impl From<StreamId> for VarInt {
    fn from(id: StreamId) -> VarInt {
        // Both ways in are bounded by 2^62 - 1, so nothing is cut off here.
        VarInt::saturating(id.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} stream {}", self.initiator(), self.direction(), self.index())
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 section 2.1, table 1.
    #[test]
    fn low_bits_are_initiator_and_direction() {
        let kinds =
            [(Side::Client, Direction::Bi), (Side::Server, Direction::Bi), (Side::Client, Direction::Uni), (Side::Server, Direction::Uni)];
        for (bits, (initiator, direction)) in kinds.into_iter().enumerate() {
            let id = StreamId::new(initiator, direction, 5).unwrap();
            assert_eq!(id.as_u64(), 20 + bits as u64);
            assert_eq!((id.initiator(), id.direction(), id.index()), (initiator, direction, 5));
        }
    }

    #[test]
    fn index_is_bounded() {
        assert!(StreamId::new(Side::Client, Direction::Bi, StreamId::MAX_STREAMS).is_none());
        let last = StreamId::new(Side::Server, Direction::Uni, StreamId::MAX_STREAMS - 1).unwrap();
        assert_eq!(VarInt::from(last), VarInt::MAX);
    }
}
