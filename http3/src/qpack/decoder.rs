//! Reads field sections (RFC 9204 section 4.5).

use super::{FIELD_OVERHEAD, Failure, Field, integer, static_table};

/// Why a section was not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SectionError {
    /// QPACK_DECOMPRESSION_FAILED (RFC 9204 section 6).
    Malformed(Failure),
    /// The section is larger than this side announced in SETTINGS_MAX_FIELD_SECTION_SIZE.
    TooLarge,
}

impl From<Failure> for SectionError {
    fn from(failure: Failure) -> Self {
        Self::Malformed(failure)
    }
}

/// Decodes a whole section of at most `max_size` bytes, counted as RFC 9114 section 4.2.2 says: names, values, and 32 a line.
pub(crate) fn decode(section: &[u8], max_size: u64) -> Result<Vec<Field>, SectionError> {
    let mut input = section;
    if integer::decode(&mut input, 8)? != 0 {
        // RFC 9204 section 3.2.3: no entry can have been inserted into a table of capacity 0.
        return Err(Failure("a field section that needs the dynamic table, whose capacity is 0").into());
    }
    // The Base matters only to dynamic references, but it must not be negative (section 4.5.1.2).
    let negative = input.first().is_some_and(|first| first & 0x80 != 0);
    integer::decode(&mut input, 7)?;
    if negative {
        return Err(Failure("a field section with a negative Base").into());
    }
    let mut fields = Vec::new();
    let mut size = 0;
    while let Some(&first) = input.first() {
        let field = decode_line(first, &mut input)?;
        size += field.name.len() as u64 + field.value.len() as u64 + FIELD_OVERHEAD;
        if size > max_size {
            return Err(SectionError::TooLarge);
        }
        fields.push(field);
    }
    Ok(fields)
}

fn decode_line(first: u8, input: &mut &[u8]) -> Result<Field, Failure> {
    const DYNAMIC: Failure = Failure("a reference into the dynamic table, whose capacity is 0");
    const OUTSIDE: Failure = Failure("a reference past the end of the static table");
    match first.leading_zeros() {
        // Indexed field line: 1T (section 4.5.2).
        0 => {
            if first & 0b0100_0000 == 0 {
                return Err(DYNAMIC);
            }
            let (name, value) = static_table::get(integer::decode(input, 6)?).ok_or(OUTSIDE)?;
            Ok(Field { name: name.into(), value: value.into() })
        }
        // Literal with name reference: 01NT (section 4.5.4).
        1 => {
            if first & 0b0001_0000 == 0 {
                return Err(DYNAMIC);
            }
            let (name, _) = static_table::get(integer::decode(input, 4)?).ok_or(OUTSIDE)?;
            Ok(Field { name: name.into(), value: integer::decode_string(input, 7)? })
        }
        // Literal with literal name: 001N (section 4.5.6).
        2 => Ok(Field { name: integer::decode_string(input, 3)?, value: integer::decode_string(input, 7)? }),
        // Both post-Base forms refer to the dynamic table (sections 4.5.3 and 4.5.5).
        _ => Err(DYNAMIC),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::encoder::SectionWriter, *};
    use proptest::prelude::*;

    fn field(name: &str, value: &str) -> Field {
        Field { name: name.into(), value: value.into() }
    }

    fn encoded(fields: &[Field]) -> Vec<u8> {
        let mut writer = SectionWriter::new();
        for field in fields {
            writer.field(&field.name, &field.value, false);
        }
        writer.into_bytes()
    }

    #[test]
    fn example_of_rfc9204_appendix_b1() {
        let section = [0x00, 0x00, 0x51, 0x0b, 0x2f, 0x69, 0x6e, 0x64, 0x65, 0x78, 0x2e, 0x68, 0x74, 0x6d, 0x6c];
        assert_eq!(decode(&section, 1000).unwrap(), [field(":path", "/index.html")]);
    }

    #[test]
    fn a_field_of_each_form_round_trips() {
        let fields = [field(":method", "GET"), field(":path", "/a/b"), field("x-own", "value"), field("cookie", "")];
        assert_eq!(decode(&encoded(&fields), 1000).unwrap(), fields);
    }

    #[test]
    fn sensitive_fields_are_never_indexed_literals() {
        let mut writer = SectionWriter::new();
        writer.field(b":method", b"GET", true);
        writer.field(b"x-key", b"secret", true);
        let section = writer.into_bytes();
        assert_eq!(section[2] & 0b1111_0000, 0b0111_0000);
        assert_eq!(decode(&section, 1000).unwrap(), [field(":method", "GET"), field("x-key", "secret")]);
    }

    #[test]
    fn references_to_the_dynamic_table_are_refused() {
        for section in [&[0x01, 0x00, 0x80][..], &[0, 0, 0x80], &[0, 0, 0x40, 0], &[0, 0, 0x10], &[0, 0, 0x00, 0], &[0, 0x80, 0xc1]] {
            assert!(matches!(decode(section, 1000), Err(SectionError::Malformed(_))), "{section:?}");
        }
    }

    #[test]
    fn the_static_table_ends_at_98() {
        assert!(decode(&[0, 0, 0xff, 98 - 63], 1000).is_ok());
        assert!(decode(&[0, 0, 0xff, 99 - 63], 1000).is_err());
    }

    #[test]
    fn the_size_limit_counts_32_bytes_a_line() {
        let section = encoded(&[field("a", "b")]);
        assert!(decode(&section, 34).is_ok());
        assert_eq!(decode(&section, 33), Err(SectionError::TooLarge));
    }

    proptest! {
        #[test]
        fn sections_round_trip(lines in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), proptest::collection::vec(any::<u8>(), 0..40)), 0..20)) {
            let fields: Vec<Field> = lines.into_iter().map(|(name, value)| Field { name, value }).collect();
            let section = encoded(&fields);
            prop_assert_eq!(decode(&section, u64::MAX).unwrap(), fields);
        }

        #[test]
        fn arbitrary_sections_never_panic(section: Vec<u8>) {
            let _ = decode(&section, 4096);
        }
    }
}
