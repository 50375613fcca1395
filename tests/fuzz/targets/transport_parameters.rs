//! The transport parameters of either side.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_quic::fuzzing::transport_parameters(input));
