//! Writes field sections (RFC 9204 section 4.5).

use super::{
    FIELD_OVERHEAD, integer,
    static_table::{self, Match},
};

/// A field section under construction. It never refers to the dynamic table, so the peer can decode it at once.
pub(crate) struct SectionWriter {
    bytes: Vec<u8>,
    size: u64,
}

impl SectionWriter {
    /// Begins a section: Required Insert Count 0, Base 0 (RFC 9204 section 4.5.1).
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0, 0], size: 0 }
    }

    /// Adds a field line. A `sensitive` one is a literal that intermediaries must not index (RFC 9204 section 7.1.3).
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], sensitive: bool) {
        self.size += (name.len() + value.len()) as u64 + FIELD_OVERHEAD;
        let never_indexed = u8::from(sensitive);
        match static_table::find(name, value) {
            // Indexed field line, static: 1T, 6 bits (section 4.5.2).
            Some(Match::Full(index)) if !sensitive => integer::encode(&mut self.bytes, 0b1100_0000, 6, index as u64),
            // Literal with static name reference: 01NT, 4 bits (section 4.5.4).
            Some(Match::Full(index) | Match::Name(index)) => {
                integer::encode(&mut self.bytes, 0b0101_0000 | never_indexed << 5, 4, index as u64);
                integer::encode_string(&mut self.bytes, 0, 7, value);
            }
            // Literal with literal name: 001N, H, 3 bits (section 4.5.6).
            None => {
                integer::encode_string(&mut self.bytes, 0b0010_0000 | never_indexed << 4, 3, name);
                integer::encode_string(&mut self.bytes, 0, 7, value);
            }
        }
    }

    /// The section's size as RFC 9114 section 4.2.2 counts it.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The finished section.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
