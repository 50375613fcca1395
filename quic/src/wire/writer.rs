//! A cursor over a buffer to send.

use crate::wire::VarInt;

/// Puts values behind each other into a buffer of fixed size.
///
/// Callers compare a value's size with [`Writer::remaining`] before they put it: a buffer that is too small is a defect of
/// the caller, and panics as an index out of range would.
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    position: usize,
}

impl<'b> Writer<'b> {
    pub fn new(buf: &'b mut [u8]) -> Writer<'b> {
        Writer { buf, position: 0 }
    }

    /// Bytes put so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes of room left.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.position
    }

    /// What was put so far.
    pub fn written(&self) -> &[u8] {
        &self.buf[..self.position]
    }

    pub fn put_u8(&mut self, value: u8) {
        self.put_slice(&[value]);
    }

    pub fn put_u16(&mut self, value: u16) {
        self.put_slice(&value.to_be_bytes());
    }

    pub fn put_u32(&mut self, value: u32) {
        self.put_slice(&value.to_be_bytes());
    }

    /// The shortest encoding of the integer (RFC 9000 section 16).
    pub fn put_varint(&mut self, value: impl Into<VarInt>) {
        let value = value.into();
        let number = value.as_u64();
        match value.size() {
            1 => self.put_u8(number as u8),
            2 => self.put_u16(0x4000 | number as u16),
            4 => self.put_u32(0x8000_0000 | number as u32),
            _ => self.put_slice(&(0xc000_0000_0000_0000 | number).to_be_bytes()),
        }
    }

    /// The bytes behind their length.
    pub fn put_length_prefixed(&mut self, bytes: &[u8]) {
        self.put_varint(VarInt::saturating(bytes.len() as u64));
        self.put_slice(bytes);
    }

    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buf[self.position..][..bytes.len()].copy_from_slice(bytes);
        self.position += bytes.len();
    }

    /// Leaves `len` bytes as they are.
    pub fn skip(&mut self, len: usize) {
        self.position = (self.position + len).min(self.buf.len());
    }

    /// `len` bytes of zero.
    pub fn put_zeros(&mut self, len: usize) {
        self.buf[self.position..][..len].fill(0);
        self.position += len;
    }
}
