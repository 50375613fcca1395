//! The packets of a datagram, and their headers behind protection.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| weald_quic::fuzzing::packet_header(input));
