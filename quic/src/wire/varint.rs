//! Variable-length integers (RFC 9000 section 16).

use std::fmt;

/// An integer below 2^62: the range of QUIC's variable-length encoding, and of nearly every number in the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VarInt(u64);

impl VarInt {
    /// 2^62 - 1.
    pub const MAX: VarInt = VarInt((1 << 62) - 1);

    /// Zero.
    pub const ZERO: VarInt = VarInt(0);

    /// The integer with this value.
    pub const fn from_u32(value: u32) -> VarInt {
        VarInt(value as u64)
    }

    /// The integer with this value.
    ///
    /// # Errors
    /// The value is 2^62 or more.
    pub const fn from_u64(value: u64) -> Result<VarInt, VarIntOverflow> {
        if value > VarInt::MAX.0 { Err(VarIntOverflow) } else { Ok(VarInt(value)) }
    }

    /// The integer with this value, or [`VarInt::MAX`] if that is smaller.
    pub const fn saturating(value: u64) -> VarInt {
        if value > VarInt::MAX.0 { VarInt::MAX } else { VarInt(value) }
    }

    /// The value.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The value, as [`VarInt::as_u64`]: the name that it has in quinn.
    pub const fn into_inner(self) -> u64 {
        self.0
    }

    /// Bytes of the shortest encoding: 1, 2, 4 or 8.
    pub const fn size(self) -> usize {
        match self.0 {
            0..0x40 => 1,
            0x40..0x4000 => 2,
            0x4000..0x4000_0000 => 4,
            _ => 8,
        }
    }
}

macro_rules! from_smaller {
    ($($int:ty),*) => {$(
        impl From<$int> for VarInt {
            fn from(value: $int) -> VarInt {
                VarInt(value.into())
            }
        }
    )*};
}

from_smaller!(u8, u16, u32);

impl From<VarInt> for u64 {
    fn from(value: VarInt) -> u64 {
        value.0
    }
}

impl TryFrom<u64> for VarInt {
    type Error = VarIntOverflow;

    fn try_from(value: u64) -> Result<VarInt, VarIntOverflow> {
        if value > VarInt::MAX.0 { Err(VarIntOverflow) } else { Ok(VarInt(value)) }
    }
}

impl TryFrom<usize> for VarInt {
    type Error = VarIntOverflow;

    fn try_from(value: usize) -> Result<VarInt, VarIntOverflow> {
        u64::try_from(value).map_err(|_| VarIntOverflow)?.try_into()
    }
}

impl fmt::Display for VarInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VarInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number was 2^62 or more, and QUIC cannot carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VarIntOverflow;

impl fmt::Display for VarIntOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number is larger than 2^62 - 1")
    }
}

impl std::error::Error for VarIntOverflow {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Reader, Truncated, Writer};

    fn encode(value: VarInt) -> Vec<u8> {
        let mut buf = [0; 8];
        let mut writer = Writer::new(&mut buf);
        writer.put_varint(value);
        writer.written().to_vec()
    }

    /// RFC 9000 appendix A.1.
    #[test]
    fn examples_of_the_rfc() {
        let examples: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(Reader::new(bytes).varint(), Ok(VarInt::try_from(value).unwrap()));
        }
        for (bytes, value) in &examples[..4] {
            assert_eq!(encode(VarInt::saturating(*value)), *bytes);
        }
    }

    #[test]
    fn sizes_change_at_the_borders() {
        let borders = [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8)];
        for (value, size) in borders {
            let value = VarInt::saturating(value);
            assert_eq!(value.size(), size);
            assert_eq!(encode(value).len(), size);
        }
        assert_eq!(encode(VarInt::MAX), [0xff; 8]);
        assert_eq!(VarInt::try_from(1u64 << 62), Err(VarIntOverflow));
        assert_eq!(VarInt::saturating(u64::MAX), VarInt::MAX);
    }

    proptest! {
        #[test]
        fn round_trip_and_truncation(value in 0u64..1 << 62, shift in 0u32..62) {
            let value = VarInt::saturating(value >> shift);
            let bytes = encode(value);
            prop_assert_eq!(bytes.len(), value.size());
            prop_assert_eq!(Reader::new(&bytes).varint(), Ok(value));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Reader::new(&bytes[..cut]).varint(), Err(Truncated));
            }
        }
    }
}
