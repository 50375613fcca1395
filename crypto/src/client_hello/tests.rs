//! Messages of real clients, made-up ones, and every way to spoil them.

use super::*;
use crate::{Certificates, ClientConfig, Session, Version};

const UNEXPECTED_MESSAGE: u8 = 10;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const MISSING_EXTENSION: u8 = 109;

fn extension(number: u16, value: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// A ClientHello with these extensions.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let len = body.len() as u32;
    [&[1][..], &len.to_be_bytes()[1..], &body].concat()
}

fn parameters() -> Vec<u8> {
    extension(0x39, b"parameters")
}

fn alert(message: &[u8]) -> Option<u8> {
    ClientHello::parse(message).err().map(|error| error.alert)
}

/// What rustls says as a client.
fn real(groups: &[NamedGroup]) -> Vec<u8> {
    let certificate = rcgen::generate_simple_self_signed(["server.example".to_owned()]).unwrap().cert;
    let roots = Certificates::from_pem(certificate.pem().as_bytes()).unwrap();
    let config = ClientConfig::builder().alpn(["h3", "hq-interop"]).roots(roots).groups(groups.iter().copied()).build().unwrap();
    let mut session = Session::client(&config, Version::V1, "server.example", b"client parameters".to_vec()).unwrap();
    session.advance(&[]).unwrap().output.remove(0).1
}

#[test]
fn what_a_real_client_offers() {
    for groups in [&NamedGroup::ALL[..], &[NamedGroup::Secp256r1, NamedGroup::X25519]] {
        let message = real(groups);
        assert_eq!(ClientHello::message_len(&message[..4], 65_535).unwrap(), Some(message.len()));
        let hello = ClientHello::parse(&message).unwrap();
        assert_eq!(hello.server_name(), Some("server.example"));
        assert_eq!(hello.alpn().collect::<Vec<_>>(), [&b"h3"[..], b"hq-interop"]);
        assert_eq!(hello.groups().collect::<Vec<_>>(), groups);
        assert!(hello.key_shares().any(|group| group == groups[0]));
        assert!(hello.key_shares().all(|group| groups.contains(&group)));
        assert_eq!(hello.transport_parameters(), b"client parameters");
        assert!(!hello.offers_psk() && !hello.offers_early_data());
    }
}

#[test]
fn what_a_made_up_client_offers() {
    let message = message(&[
        extension(41, b"anything: the binders are TLS's"),
        extension(42, &[]),
        extension(0xaaaa, &[1]),
        extension(10, &[0, 6, 0xaa, 0xaa, 0, 0x17, 0x11, 0xec]),
        extension(51, &[0, 10, 0xaa, 0xaa, 0, 1, 0, 0, 0x17, 0, 1, 9]),
        extension(0, &[0, 8, 9, 0, 1, b'x', 0, 0, 1, b'y']),
        extension(0xaaaa, &[1]),
        extension(0x39, &[]),
    ]);
    let hello = ClientHello::parse(&message).unwrap();
    assert!(hello.offers_psk() && hello.offers_early_data());
    assert_eq!(hello.groups().collect::<Vec<_>>(), [NamedGroup::Secp256r1, NamedGroup::X25519MlKem768]);
    assert_eq!(hello.key_shares().collect::<Vec<_>>(), [NamedGroup::Secp256r1]);
    assert_eq!(hello.server_name(), Some("y"));
    assert_eq!((hello.alpn().count(), hello.transport_parameters()), (0, &[][..]));
}

/// RFC 8446, 4.2, and RFC 9001, 8.2.
#[test]
fn extensions_that_must_be_there_once() {
    assert_eq!(alert(&message(&[parameters()])), None);
    assert_eq!(alert(&message(&[])), Some(MISSING_EXTENSION));
    // RFC 9001, 8.2: those of drafts do not stand for it.
    assert_eq!(alert(&message(&[extension(0xffa5, b"parameters")])), Some(MISSING_EXTENSION));
    for number in [0x39, 41, 42] {
        let twice = [parameters(), extension(number, &[]), extension(number, &[])];
        assert_eq!(alert(&message(&twice)), Some(ILLEGAL_PARAMETER), "{number}");
    }
}

#[test]
fn other_messages_and_long_ones() {
    for message_type in [0, 2, 11, 20, 255] {
        let mut other = message(&[parameters()]);
        other[0] = message_type;
        assert_eq!(alert(&other), Some(UNEXPECTED_MESSAGE));
        assert_eq!(ClientHello::message_len(&[message_type], 65_535).unwrap_err().alert, UNEXPECTED_MESSAGE);
    }
    for len in 0..4 {
        assert_eq!(ClientHello::message_len(&[1, 0, 4, 0][..len], 1000), Ok(None));
    }
    assert_eq!(ClientHello::message_len(&[1, 0, 4, 0], 1028), Ok(Some(1028)));
    assert_eq!(ClientHello::message_len(&[1, 0, 4, 0], 1027).unwrap_err().alert, DECODE_ERROR);
    assert_eq!(ClientHello::message_len(&[1, 0xff, 0xff, 0xff], 65_535).unwrap_err().alert, DECODE_ERROR);
}

#[test]
fn what_ends_early_or_late_is_malformed() {
    let whole = real(&NamedGroup::ALL);
    for len in 0..whole.len() {
        assert_eq!(alert(&whole[..len]), Some(DECODE_ERROR), "{len}");
        // The same with a header that says so: no part of it may be missing.
        let mut cut = whole[..len.max(4)].to_vec();
        let body = cut.len() as u32 - 4;
        cut[1..4].copy_from_slice(&body.to_be_bytes()[1..]);
        assert_eq!(alert(&cut), Some(DECODE_ERROR), "{len}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(alert(&longer), Some(DECODE_ERROR));
    longer[1..4].copy_from_slice(&(whole.len() as u32 - 3).to_be_bytes()[1..]);
    assert_eq!(alert(&longer), Some(DECODE_ERROR));
}

#[test]
fn lists_that_do_not_add_up_are_malformed() {
    for (number, value) in [
        (0, &[0, 4, 0, 0, 2, b'x'][..]),
        (0, &[0, 0, 1]),
        (10, &[0, 3, 0, 0x17, 0]),
        (10, &[0, 2, 0, 0x17, 0]),
        (10, &[0, 4, 0, 0x17]),
        (16, &[0, 3, 3, b'h', b'3']),
        (16, &[0, 3, 2, b'h', b'3', 0]),
        (42, &[0]),
        (51, &[0, 6, 0, 0x17, 0, 3, 1, 2]),
        (51, &[0, 3, 0, 0x17, 0]),
        (51, &[]),
    ] {
        assert_eq!(alert(&message(&[extension(number, value), parameters()])), Some(DECODE_ERROR), "{number} {value:?}");
    }
}

#[test]
fn no_change_of_a_byte_does_harm() {
    let whole = real(&NamedGroup::ALL);
    let mut changed = whole.clone();
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            changed[at] ^= change;
            if let Ok(hello) = ClientHello::parse(&changed) {
                hello.alpn().chain(hello.server_name().map(str::as_bytes)).for_each(drop);
                assert!(hello.groups().count() <= 4 && hello.key_shares().count() <= 3);
            }
            changed[at] = whole[at];
        }
    }
}
