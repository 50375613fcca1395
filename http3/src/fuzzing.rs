//! The decoders, for the fuzz targets: each function takes what a stranger sent, and panics if a decoder breaks a promise.

use crate::{
    frame, headers,
    qpack::{
        decoder,
        encoder::SectionWriter,
        instructions::{DecoderStream, EncoderStream},
    },
    settings::Settings,
};

/// A field section, and what a request, a response and trailers make of it.
pub fn field_section(input: &[u8]) {
    let Ok(fields) = decoder::decode(input, 65_536) else { return };
    let mut section = SectionWriter::new();
    for field in &fields {
        section.field(&field.name, &field.value, false);
    }
    assert_eq!(decoder::decode(&section.into_bytes(), 65_536).as_ref(), Ok(&fields));
    if let Ok(request) = headers::decode_request(fields.clone()) {
        let _ = headers::content_length(request.headers());
    }
    let _ = headers::decode_response(fields.clone());
    let _ = headers::decode_trailers(fields);
}

/// QPACK's instruction streams: what one piece says, the same in single bytes must say.
pub fn instructions(input: &[u8]) {
    let (mut whole, mut single) = (EncoderStream::default(), EncoderStream::default());
    assert_eq!(whole.on_bytes(input), input.iter().try_for_each(|&byte| single.on_bytes(&[byte])));
    let (mut whole, mut single) = (DecoderStream::default(), DecoderStream::default());
    assert_eq!(whole.on_bytes(input), input.iter().try_for_each(|&byte| single.on_bytes(&[byte])));
}

/// A SETTINGS payload, and the integers in it.
pub fn settings(input: &[u8]) {
    let _ = Settings::decode(input);
    let mut rest = input;
    while let Some(value) = frame::take_varint(&mut rest) {
        assert!(value < 1 << 62);
    }
}
