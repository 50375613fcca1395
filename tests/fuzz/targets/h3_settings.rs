//! The payload of SETTINGS.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_http3::fuzzing::settings(input));
