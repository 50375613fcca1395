//! Packet numbers, and their short form on the wire (RFC 9000 sections 12.3 and 17.1).

use std::fmt;
use std::num::NonZeroU64;

use crate::wire::{Reader, Truncated, VarInt, Writer};

/// The number of a packet within its number space: 0 to 2^62 - 1.
// Held as one more than it is, so that an `Option` of it takes no more room: connections are full of those.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketNumber(NonZeroU64);

const _: () = assert!(size_of::<Option<PacketNumber>>() == 8);

impl PacketNumber {
    /// The first packet of a space.
    pub const ZERO: PacketNumber = PacketNumber::of(0);

    /// 2^62 - 1; a connection that has sent it is at its end (RFC 9000 section 12.3).
    pub const MAX: PacketNumber = PacketNumber::of(VarInt::MAX.as_u64());

    /// The packet number with this value, `None` if it is larger than [`PacketNumber::MAX`].
    pub const fn new(number: u64) -> Option<PacketNumber> {
        if number > VarInt::MAX.as_u64() { None } else { Some(PacketNumber::of(number)) }
    }

    /// `number` is at most 2^62 - 1.
    const fn of(number: u64) -> PacketNumber {
        PacketNumber(NonZeroU64::MIN.saturating_add(number))
    }

    /// The value.
    pub const fn as_u64(self) -> u64 {
        self.0.get() - 1
    }

    /// The number after this one, `None` after the last.
    pub const fn next(self) -> Option<PacketNumber> {
        PacketNumber::new(self.0.get())
    }

    /// The number before this one, `None` before the first.
    pub const fn previous(self) -> Option<PacketNumber> {
        self.minus(1)
    }

    /// The number `count` after this one, `None` past the last.
    pub const fn plus(self, count: u64) -> Option<PacketNumber> {
        match self.as_u64().checked_add(count) {
            Some(number) => PacketNumber::new(number),
            None => None,
        }
    }

    /// The number `count` before this one, `None` before the first.
    pub const fn minus(self, count: u64) -> Option<PacketNumber> {
        match self.as_u64().checked_sub(count) {
            Some(number) => Some(PacketNumber::of(number)),
            None => None,
        }
    }

    /// How many numbers this one is after `earlier`; zero if it is not after it.
    pub const fn distance_from(self, earlier: PacketNumber) -> u64 {
        self.as_u64().saturating_sub(earlier.as_u64())
    }

    /// The short form for a peer whose largest acknowledgment so far is `largest_acked` (RFC 9000 appendix A.2).
    ///
    /// Four bytes are the most there is. They cover 2^31 packets in flight, far above what the ring of sent packets holds.
    pub fn truncate(self, largest_acked: Option<PacketNumber>) -> TruncatedPacketNumber {
        let unacked = match largest_acked {
            Some(largest) => self.distance_from(largest),
            None => self.as_u64() + 1,
        };
        // The form must cover more than twice the numbers in doubt, in both directions.
        let len = match unacked.saturating_mul(2) {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xff_ffff => 3,
            _ => 4,
        };
        TruncatedPacketNumber::new(self.as_u64() as u32, len)
    }
}

impl From<u32> for PacketNumber {
    fn from(number: u32) -> PacketNumber {
        PacketNumber::of(number.into())
    }
}

impl From<VarInt> for PacketNumber {
    fn from(number: VarInt) -> PacketNumber {
        PacketNumber::of(number.as_u64())
    }
}

impl From<PacketNumber> for VarInt {
    fn from(number: PacketNumber) -> VarInt {
        // Every way in is bounded by 2^62 - 1, so nothing is cut off here.
        VarInt::saturating(number.as_u64())
    }
}

impl fmt::Display for PacketNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_u64().fmt(f)
    }
}

impl fmt::Debug for PacketNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_u64().fmt(f)
    }
}

/// The low 1 to 4 bytes of a packet number, as a header carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruncatedPacketNumber {
    value: u32,
    len: u8,
}

impl TruncatedPacketNumber {
    /// The longest short form.
    pub const MAX_LEN: usize = 4;

    /// The low `len` bytes of `value`; `len` is 1 to 4.
    fn new(value: u32, len: u8) -> TruncatedPacketNumber {
        debug_assert!((1..=4).contains(&len));
        let unused = 32 - 8 * u32::from(len);
        TruncatedPacketNumber { value: value << unused >> unused, len }
    }

    /// The short form behind the two low bits of a first byte (RFC 9000 section 17.2).
    pub fn decode(first: u8, reader: &mut Reader<'_>) -> Result<TruncatedPacketNumber, Truncated> {
        let len = (first & 0b11) + 1;
        let bytes = reader.bytes(len.into())?;
        let value = bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        Ok(TruncatedPacketNumber { value, len })
    }

    /// Puts the bytes.
    pub fn encode(self, writer: &mut Writer<'_>) {
        writer.put_slice(&self.value.to_be_bytes()[TruncatedPacketNumber::MAX_LEN - self.len()..]);
    }

    /// Bytes on the wire: 1 to 4.
    pub(crate) fn len(self) -> usize {
        self.len.into()
    }

    /// The two low bits of the first byte, which tell the length.
    pub fn length_bits(self) -> u8 {
        self.len - 1
    }

    /// The packet number nearest to the one after `largest`, the largest that was opened so far (RFC 9000 appendix A.3).
    /// `None` if that lies outside the range of packet numbers.
    pub fn expand(self, largest: Option<PacketNumber>) -> Option<PacketNumber> {
        let expected = largest.map_or(0, |largest| largest.as_u64() + 1);
        let window = 1u64 << (8 * self.len);
        let candidate = expected & !(window - 1) | u64::from(self.value);
        let number = if candidate + window / 2 <= expected && candidate + window <= PacketNumber::MAX.as_u64() {
            candidate + window
        } else if candidate > expected + window / 2 && candidate >= window {
            candidate - window
        } else {
            candidate
        };
        PacketNumber::new(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(number: u64) -> PacketNumber {
        PacketNumber::new(number).unwrap()
    }

    /// RFC 9000 appendix A.2.
    #[test]
    fn truncation_examples_of_the_rfc() {
        let short = number(0xac5c02).truncate(Some(number(0xabe8b3)));
        assert_eq!(short, TruncatedPacketNumber { value: 0x5c02, len: 2 });
        let short = number(0xace8fe).truncate(Some(number(0xabe8b3)));
        assert_eq!(short, TruncatedPacketNumber { value: 0xace8fe, len: 3 });
    }

    /// RFC 9000 appendix A.3.
    #[test]
    fn expansion_example_of_the_rfc() {
        let short = TruncatedPacketNumber::new(0x9b32, 2);
        assert_eq!(short.expand(Some(number(0xa82f30ea))), Some(number(0xa82f9b32)));
    }

    #[test]
    fn expansion_at_the_ends_of_the_range() {
        assert_eq!(TruncatedPacketNumber::new(0, 1).expand(None), Some(PacketNumber::ZERO));
        // Nothing lies below zero, so a large short form in an empty space is taken as it is.
        assert_eq!(TruncatedPacketNumber::new(0xff, 1).expand(None), Some(number(0xff)));
        assert_eq!(TruncatedPacketNumber::new(u32::MAX, 4).expand(None), Some(number(u32::MAX.into())));
        assert_eq!(TruncatedPacketNumber::new(0xff, 1).expand(Some(PacketNumber::MAX)), Some(PacketNumber::MAX));
        // One step before the end, the number after the window's border cannot exist, and so an old packet is meant.
        let before_last = PacketNumber::MAX.previous();
        assert_eq!(TruncatedPacketNumber::new(0, 1).expand(before_last), PacketNumber::MAX.minus(0xff));
        for len in 1..=4 {
            // The number after the last one does not exist.
            assert_eq!(TruncatedPacketNumber::new(0, len).expand(Some(PacketNumber::MAX)), None);
        }
    }

    #[test]
    fn arithmetic_stays_in_range() {
        assert_eq!(PacketNumber::new(1 << 62), None);
        assert_eq!(PacketNumber::MAX.next(), None);
        assert_eq!(PacketNumber::MAX.plus(u64::MAX), None);
        assert_eq!(PacketNumber::ZERO.previous(), None);
        assert_eq!(number(7).minus(7), Some(PacketNumber::ZERO));
        assert_eq!(number(7).distance_from(number(9)), 0);
    }

    proptest! {
        /// The receiver recovers the number whatever it has seen between the acknowledged and the sent packet.
        #[test]
        fn expansion_inverts_truncation(acked in 0u64..1 << 61, unacked in 1u64..1 << 31, shift in 0u32..31, seen in any::<u64>()) {
            let unacked = (unacked >> shift).max(1);
            let full = number(acked + unacked);
            let short = full.truncate(Some(number(acked)));
            let largest_seen = number(acked + seen % unacked);
            prop_assert_eq!(short.expand(Some(largest_seen)), Some(full));
            let mut buf = [0; 4];
            let mut writer = Writer::new(&mut buf);
            short.encode(&mut writer);
            let bytes = writer.written().to_vec();
            prop_assert_eq!(bytes.len(), short.len());
            prop_assert_eq!(TruncatedPacketNumber::decode(0x40 | short.length_bits(), &mut Reader::new(&bytes)), Ok(short));
            for cut in 0..bytes.len() {
                prop_assert_eq!(TruncatedPacketNumber::decode(short.length_bits(), &mut Reader::new(&bytes[..cut])), Err(Truncated));
            }
        }

        #[test]
        fn expansion_never_panics(value in any::<u32>(), len in 1u8..=4, largest in 0u64..1 << 62) {
            let short = TruncatedPacketNumber::new(value, len);
            if let Some(full) = short.expand(Some(number(largest))) {
                prop_assert_eq!(full.as_u64() as u32 & short.value, short.value);
                prop_assert_eq!(TruncatedPacketNumber::new(full.as_u64() as u32, len), short);
            }
        }
    }
}
