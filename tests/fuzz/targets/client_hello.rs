//! A client's first TLS message, before TLS has it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weald_crypto::ClientHello;

const LIMIT: usize = 1 << 16;

fuzz_target!(|input: &[u8]| {
    let len = ClientHello::message_len(input, LIMIT);
    let Ok(hello) = ClientHello::parse(input) else { return };
    assert!(len.is_ok_and(|len| len == Some(input.len())), "what parses is one whole message");
    let shares = hello.key_shares().count();
    let groups = hello.groups().count();
    let names: usize = hello.alpn().map(<[u8]>::len).sum();
    let name = hello.server_name().map_or(0, str::len);
    assert!(4 * shares + 2 * groups + names + name + hello.transport_parameters().len() <= input.len());
    // No part of it may be missing.
    assert!(ClientHello::parse(&input[..input.len() - 1]).is_err());
});
