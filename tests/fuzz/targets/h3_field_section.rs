//! QPACK field sections, and the messages that they describe.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_http3::fuzzing::field_section(input));
