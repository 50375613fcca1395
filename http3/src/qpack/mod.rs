//! QPACK field compression (RFC 9204) with a dynamic table of capacity 0: the static table, literals and the Huffman code.
//!
//! Owns the bytes of field sections and of both instruction streams. It knows nothing of what a field means (`headers`) nor of streams
//! (`connection`). A capacity of 0 is a valid choice of a decoder (RFC 9204 section 3.2.3): the peer must then never refer to the
//! dynamic table, and whoever does has broken the protocol.

pub(crate) mod decoder;
pub(crate) mod encoder;
mod huffman;
pub(crate) mod instructions;
mod integer;
#[cfg(test)]
mod interop_tests;
mod static_table;

/// What each field line costs beyond its name and value in the size of a section (RFC 9114 section 4.2.2).
const FIELD_OVERHEAD: u64 = 32;

/// Why bytes are not QPACK: a phrase that completes "the peer sent ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) &'static str);

impl Failure {
    const TRUNCATED: Self = Self("QPACK data that ends in the middle of an item");
}

/// One field line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}
