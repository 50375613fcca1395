//! The pieces of a stream, in any order.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_quic::fuzzing::reassembly(input));
