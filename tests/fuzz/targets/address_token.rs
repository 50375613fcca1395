//! Tokens of address validation, made up and changed.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_quic::fuzzing::address_token(input));
