//! QPACK instruction streams.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_http3::fuzzing::instructions(input));
