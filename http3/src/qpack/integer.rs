//! Prefixed integers (RFC 9204 section 4.1.1, RFC 7541 section 5.1) and string literals over them (section 4.1.2).
//!
//! Owns the bytes of both. A value above 2^62-1 is refused, and so is an encoding longer than such a value needs: that bounds what an
//! endless run of continuation bytes can cost.

use super::{Failure, huffman};

/// Largest value that a decoder must take (RFC 9204 section 4.1.1).
const MAX: u64 = (1 << 62) - 1;
/// Continuation bytes that a value of 62 bits can need: 9 x 7 bits.
const MAX_CONTINUATION: u32 = 9;

/// Appends `value` with a prefix of `prefix_bits` (1 to 8); `flags` fills the bits above the prefix.
pub(crate) fn encode(out: &mut Vec<u8>, flags: u8, prefix_bits: u32, value: u64) {
    let limit = (1u64 << prefix_bits) - 1;
    if value < limit {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | limit as u8);
    let mut rest = value - limit;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Takes an integer with a prefix of `prefix_bits` (1 to 8) off the front of `input`.
pub(crate) fn decode(input: &mut &[u8], prefix_bits: u32) -> Result<u64, Failure> {
    let limit = (1u64 << prefix_bits) - 1;
    let mut value = u64::from(take_byte(input)?) & limit;
    if value < limit {
        return Ok(value);
    }
    for continuation in 0..MAX_CONTINUATION {
        let byte = take_byte(input)?;
        value += u64::from(byte & 0x7f) << (7 * continuation);
        if byte & 0x80 == 0 {
            return if value <= MAX { Ok(value) } else { Err(Failure("an integer above 2^62-1")) };
        }
    }
    Err(Failure("an integer of more bytes than 2^62-1 needs"))
}

/// Appends a string literal: Huffman-coded where that is shorter. `prefix_bits` counts the length's bits, below the H bit.
pub(crate) fn encode_string(out: &mut Vec<u8>, flags: u8, prefix_bits: u32, string: &[u8]) {
    let coded = huffman::encoded_len(string);
    if coded < string.len() {
        encode(out, flags | 1 << prefix_bits, prefix_bits, coded as u64);
        huffman::encode(out, string);
    } else {
        encode(out, flags, prefix_bits, string.len() as u64);
        out.extend_from_slice(string);
    }
}

/// Takes a string literal off the front of `input`; the length must lie within `input`, so nothing is reserved on the peer's word.
pub(crate) fn decode_string(input: &mut &[u8], prefix_bits: u32) -> Result<Vec<u8>, Failure> {
    let first = *input.first().ok_or(Failure::TRUNCATED)?;
    let length = usize::try_from(decode(input, prefix_bits)?).map_err(|_| Failure::TRUNCATED)?;
    let (string, rest) = input.split_at_checked(length).ok_or(Failure::TRUNCATED)?;
    *input = rest;
    if first & (1 << prefix_bits) != 0 { huffman::decode(string) } else { Ok(string.to_vec()) }
}

fn take_byte(input: &mut &[u8]) -> Result<u8, Failure> {
    let (&byte, rest) = input.split_first().ok_or(Failure::TRUNCATED)?;
    *input = rest;
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(prefix_bits: u32, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, 0, prefix_bits, value);
        out
    }

    #[test]
    fn examples_of_rfc7541_appendix_c1() {
        assert_eq!(encoded(5, 10), [0b01010]);
        assert_eq!(encoded(5, 1337), [0b11111, 0b1001_1010, 0b0000_1010]);
        assert_eq!(encoded(8, 42), [42]);
    }

    #[test]
    fn an_endless_run_of_continuation_bytes_ends_early() {
        let mut input = &[0xff; 64][..];
        assert!(decode(&mut input, 8).is_err());
        let mut zero_extended: Vec<u8> = vec![0xff];
        zero_extended.extend([0x80; 64]);
        assert!(decode(&mut &zero_extended[..], 8).is_err());
    }

    #[test]
    fn values_above_62_bits_are_refused() {
        assert_eq!(decode(&mut &encoded(3, MAX)[..], 3).unwrap(), MAX);
        assert!(decode(&mut &encoded(3, MAX + 1)[..], 3).is_err());
    }

    #[test]
    fn a_string_longer_than_the_input_is_refused() {
        let mut out = Vec::new();
        encode(&mut out, 0, 7, 1 << 31);
        assert!(decode_string(&mut &out[..], 7).is_err());
    }

    proptest! {
        #[test]
        fn integers_round_trip(prefix_bits in 1u32..=8, value in 0..=MAX) {
            let bytes = encoded(prefix_bits, value);
            let mut input = &bytes[..];
            prop_assert_eq!(decode(&mut input, prefix_bits).unwrap(), value);
            prop_assert!(input.is_empty());
            for cut in 0..bytes.len() {
                prop_assert!(decode(&mut &bytes[..cut], prefix_bits).is_err());
            }
        }

        #[test]
        fn strings_round_trip(prefix_bits in 2u32..=7, string: Vec<u8>) {
            let mut bytes = Vec::new();
            encode_string(&mut bytes, 0, prefix_bits, &string);
            prop_assert_eq!(decode_string(&mut &bytes[..], prefix_bits).unwrap(), string);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, prefix_bits in 2u32..=7) {
            let _ = decode_string(&mut &bytes[..], prefix_bits);
        }
    }
}
