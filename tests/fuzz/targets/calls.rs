//! What applications and drivers call, at both ends and in any order.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_quic::fuzzing::calls(input));
