//! What a peer may say on its encoder and decoder streams while the dynamic table has capacity 0 (RFC 9204 sections 4.3 and 4.4).
//!
//! Both checkers take the stream's bytes as they arrive, in pieces of any size, and keep at most one unfinished integer.

use super::Failure;

/// Checks the peer's encoder stream.
#[derive(Debug, Default)]
pub(crate) struct EncoderStream {
    integer: PartialInteger,
}

impl EncoderStream {
    /// Takes the next bytes. Every instruction but "Set Dynamic Table Capacity 0" needs a table that is not there.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for &byte in bytes {
            // Set Dynamic Table Capacity: 001, 5 bits (section 4.3.1).
            if self.integer.is_empty() && byte & 0b1110_0000 != 0b0010_0000 {
                return Err(Failure("an insertion into the dynamic table, whose capacity is 0"));
            }
            if self.integer.on_byte(byte, 5)?.is_some_and(|capacity| capacity != 0) {
                return Err(Failure("a dynamic table capacity above the announced 0"));
            }
        }
        Ok(())
    }
}

/// Checks the peer's decoder stream.
#[derive(Debug, Default)]
pub(crate) struct DecoderStream {
    integer: PartialInteger,
}

impl DecoderStream {
    /// Takes the next bytes. Only Stream Cancellation can be right: nothing was inserted, and no section refers to the table.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for &byte in bytes {
            // Stream Cancellation: 01, 6 bits (section 4.4.2).
            if self.integer.is_empty() && byte & 0b1100_0000 != 0b0100_0000 {
                return Err(Failure("an acknowledgment of something that was never inserted"));
            }
            self.integer.on_byte(byte, 6)?;
        }
        Ok(())
    }
}

/// A prefixed integer that may be cut anywhere.
#[derive(Debug, Default)]
struct PartialInteger {
    value: u64,
    bytes: u32,
}

impl PartialInteger {
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The value, once `byte` ends it. The bound on the length bounds an endless run of continuation bytes.
    fn on_byte(&mut self, byte: u8, prefix_bits: u32) -> Result<Option<u64>, Failure> {
        let limit = (1u64 << prefix_bits) - 1;
        let is_last = if self.bytes == 0 {
            self.value = u64::from(byte) & limit;
            self.value < limit
        } else if self.bytes <= 9 {
            self.value += u64::from(byte & 0x7f) << (7 * (self.bytes - 1));
            byte & 0x80 == 0
        } else {
            return Err(Failure("an integer of more bytes than 2^62-1 needs"));
        };
        self.bytes += 1;
        if !is_last {
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoder_stream_may_only_set_capacity_0() {
        assert_eq!(EncoderStream::default().on_bytes(&[0x20, 0x20]), Ok(()));
        for bytes in [&[0x21][..], &[0x3f, 0xbd, 0x01], &[0xc0, 0], &[0x41, b'a', 0], &[0x00]] {
            assert!(EncoderStream::default().on_bytes(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_decoder_stream_may_only_cancel() {
        assert_eq!(DecoderStream::default().on_bytes(&[0x44, 0x7f, 0x80, 0x01]), Ok(()));
        for bytes in [&[0x80][..], &[0x01], &[0x00], &[0xff]] {
            assert!(DecoderStream::default().on_bytes(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn pieces_and_endless_integers() {
        let mut stream = DecoderStream::default();
        for byte in [0x7f, 0x80, 0x80, 0x01, 0x41] {
            assert_eq!(stream.on_bytes(&[byte]), Ok(()));
        }
        let mut stream = DecoderStream::default();
        stream.on_bytes(&[0x7f]).unwrap();
        assert!((0..20).any(|_| stream.on_bytes(&[0x80]).is_err()));
    }
}
