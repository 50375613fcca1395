//! A cursor over received bytes.

use crate::wire::VarInt;

/// The bytes ended inside a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Takes values off the front of a slice. A failed read leaves the cursor where it was or at the value's start.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0 }
    }

    /// Bytes taken so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The next byte, not taken.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable-length integer of any width, shortest or not (RFC 9000 section 16).
    pub fn varint(&mut self) -> Result<VarInt, Truncated> {
        let first = self.peek().ok_or(Truncated)?;
        let value = match first >> 6 {
            0 => self.u8()?.into(),
            1 => (self.u16()? & 0x3fff).into(),
            2 => (self.u32()? & 0x3fff_ffff).into(),
            _ => u64::from_be_bytes(self.array()?) & VarInt::MAX.as_u64(),
        };
        Ok(VarInt::saturating(value))
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let end = self.position.checked_add(len).ok_or(Truncated)?;
        let bytes = self.bytes.get(self.position..end).ok_or(Truncated)?;
        self.position = end;
        Ok(bytes)
    }

    /// As many bytes as a variable-length integer before them says.
    pub fn length_prefixed(&mut self) -> Result<&'a [u8], Truncated> {
        let mut ahead = self.clone();
        let len = ahead.varint()?.as_u64();
        let bytes = ahead.bytes(usize::try_from(len).map_err(|_| Truncated)?)?;
        *self = ahead;
        Ok(bytes)
    }

    /// The next `N` bytes, as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let bytes = self.bytes.get(self.position..).and_then(|rest| rest.first_chunk()).ok_or(Truncated)?;
        self.position += N;
        Ok(*bytes)
    }

    /// Takes all zero bytes up to the next other one, and says how many they were.
    pub fn skip_zeros(&mut self) -> usize {
        let rest = &self.bytes[self.position..];
        // A packet may be padded by a thousand bytes: words at a time, then the bytes of the first word that is not zero.
        let words = rest.as_chunks::<16>().0.iter().take_while(|word| u128::from_ne_bytes(**word) == 0).count();
        let whole = words * size_of::<u128>();
        let zeros = whole + rest[whole..].iter().position(|byte| *byte != 0).unwrap_or(rest.len() - whole);
        self.position += zeros;
        zeros
    }

    /// All bytes left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        self.position = self.bytes.len();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_reads_take_nothing() {
        let mut reader = Reader::new(&[0xc0, 1, 2]);
        assert_eq!(reader.varint(), Err(Truncated));
        assert_eq!(reader.u32(), Err(Truncated));
        assert_eq!(reader.bytes(4), Err(Truncated));
        assert_eq!(reader.bytes(usize::MAX), Err(Truncated));
        assert_eq!(reader.length_prefixed(), Err(Truncated));
        assert_eq!(reader.position(), 0);
        assert_eq!(reader.u16(), Ok(0xc001));
        assert_eq!(reader.rest(), [2]);
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), Err(Truncated));
    }

    #[test]
    fn a_length_past_the_end_takes_nothing() {
        let mut reader = Reader::new(&[3, 1, 2]);
        assert_eq!(reader.length_prefixed(), Err(Truncated));
        assert_eq!(reader.position(), 0);
        let mut huge = Reader::new(&[0xff; 8]);
        assert_eq!(huge.length_prefixed(), Err(Truncated));
    }

    #[test]
    fn zeros_end_at_the_first_other_byte_wherever_it_is() {
        for len in 0..70 {
            for other in 0..=len {
                let mut bytes = vec![0; len];
                bytes[other..].fill(7);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.skip_zeros(), other, "of {len}");
                assert_eq!(reader.rest().len(), len - other);
            }
        }
    }
}
