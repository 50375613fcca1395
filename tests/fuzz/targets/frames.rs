//! The frames of an opened packet.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_quic::fuzzing::frames(input));
