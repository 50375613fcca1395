//! The Huffman code of HPACK and QPACK (RFC 7541 appendix B, RFC 9204 section 4.1.2).
//!
//! Owns the code. It is canonical: codes of one length follow each other in the order of their symbols, and every longer length goes on
//! where the shorter one ended. So the lengths are all that has to be written down; codes and decoding tables follow at compile time.

use super::Failure;

/// Code length in bits by symbol (RFC 7541 appendix B). The end-of-string symbol, 30 ones, never appears in valid input.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const MAX_LENGTH: usize = 30;

/// Bytes that `string` takes when coded, padding included.
pub(crate) fn encoded_len(string: &[u8]) -> usize {
    let bits: usize = string.iter().map(|&symbol| usize::from(LENGTHS[usize::from(symbol)])).sum();
    bits.div_ceil(8)
}

/// Appends the coded form of `string`, padded with ones (RFC 7541 section 5.2).
pub(crate) fn encode(out: &mut Vec<u8>, string: &[u8]) {
    let mut pending = 0u64;
    let mut bits = 0u32;
    for &symbol in string {
        let length = u32::from(LENGTHS[usize::from(symbol)]);
        pending = pending << length | u64::from(TABLES.codes[usize::from(symbol)]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((pending >> bits) as u8);
        }
    }
    if bits > 0 {
        let padding = 8 - bits;
        out.push((pending << padding) as u8 | ((1u16 << padding) - 1) as u8);
    }
}

/// Decodes `coded`. The result is at most 8/5 of its length.
pub(crate) fn decode(coded: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut string = Vec::with_capacity(coded.len() * 8 / 5);
    // The window holds `bits` undecoded bits at its top, and zeros below them.
    let mut window = 0u64;
    let mut bits = 0usize;
    let mut input = coded.iter();
    loop {
        while bits <= 56 {
            let Some(&byte) = input.next() else { break };
            window |= u64::from(byte) << (56 - bits);
            bits += 8;
        }
        let Some((symbol, length)) = TABLES.first_symbol(window).filter(|&(_, length)| length <= bits) else { break };
        string.push(symbol);
        window <<= length;
        bits -= length;
    }
    // What is left must be the start of the end-of-string code: fewer than 8 bits, all ones (RFC 7541 section 5.2).
    let is_padding = bits < 8 && (bits == 0 || window >> (64 - bits) == (1 << bits) - 1);
    if is_padding { Ok(string) } else { Err(Failure("Huffman padding that is not up to 7 ones")) }
}

struct Tables {
    codes: [u32; 256],
    /// Symbols in the order of their codes.
    symbols: [u8; 256],
    /// For each length: the first code that is too large for it, moved to the top of 32 bits.
    end: [u64; MAX_LENGTH + 1],
    /// For each length: its first code, and where that code's symbol stands in `symbols`.
    first: [(u32, u16); MAX_LENGTH + 1],
    /// Length of the code that begins with these 8 bits, 0 where it is longer than 8.
    short: [u8; 256],
}

static TABLES: Tables = Tables::build();

impl Tables {
    const fn build() -> Self {
        let mut tables =
            Self { codes: [0; 256], symbols: [0; 256], end: [0; MAX_LENGTH + 1], first: [(0, 0); MAX_LENGTH + 1], short: [0; 256] };
        let mut code = 0u32;
        let mut place = 0;
        let mut length = 1;
        while length <= MAX_LENGTH {
            code <<= 1;
            tables.first[length] = (code, place as u16);
            let mut symbol = 0;
            while symbol < 256 {
                if LENGTHS[symbol] as usize == length {
                    tables.codes[symbol] = code;
                    tables.symbols[place] = symbol as u8;
                    place += 1;
                    if length <= 8 {
                        let mut below = 0;
                        while below < 1 << (8 - length) {
                            tables.short[((code as usize) << (8 - length)) + below] = length as u8;
                            below += 1;
                        }
                    }
                    code += 1;
                }
                symbol += 1;
            }
            tables.end[length] = (code as u64) << (32 - length);
            length += 1;
        }
        tables
    }

    /// The symbol whose code stands at the top of `window`, and the code's length; `None` for the end-of-string code.
    fn first_symbol(&self, window: u64) -> Option<(u8, usize)> {
        let top = window >> 32;
        let length = match self.short[(window >> 56) as usize] {
            0 => (9..=MAX_LENGTH).find(|&length| top < self.end[length])?,
            length => usize::from(length),
        };
        let (first_code, place) = self.first[length];
        let code = (window >> (64 - length)) as u32;
        Some((self.symbols[usize::from(place) + (code - first_code) as usize], length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(string: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, string);
        out
    }

    #[test]
    fn examples_of_rfc7541_appendix_c4() {
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(encoded(b"www.example.com"), coded);
        assert_eq!(decode(&coded).unwrap(), b"www.example.com");
        assert_eq!(encoded(b"no-cache"), [0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]);
    }

    #[test]
    fn the_longest_codes_are_as_the_rfc_prints_them() {
        assert_eq!(TABLES.codes[usize::from(b'0')], 0);
        assert_eq!(TABLES.codes[10], 0x3fff_fffc);
        assert_eq!(TABLES.codes[22], 0x3fff_fffe);
        assert_eq!(TABLES.codes[249], 0xffffffe);
    }

    #[test]
    fn bad_padding_and_end_of_string_are_refused() {
        assert!(decode(&[0xff]).is_err(), "8 bits of padding");
        assert!(decode(&[0xff, 0xff, 0xff, 0xff]).is_err(), "the end-of-string code");
        assert!(decode(&[0b0000_0000]).is_err(), "zeros as padding");
        assert_eq!(decode(&[0b0000_0111]).unwrap(), b"0");
        assert_eq!(decode(&[]).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn strings_round_trip(string: Vec<u8>) {
            let coded = encoded(&string);
            prop_assert_eq!(coded.len(), encoded_len(&string));
            prop_assert_eq!(decode(&coded).unwrap(), string);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_decode_only_from_their_own_code(bytes: Vec<u8>) {
            if let Ok(string) = decode(&bytes) {
                prop_assert_eq!(encoded(&string), bytes);
            }
        }
    }
}
