//! Answers to a client's first packet that leave nothing behind: Retry (RFC 9000 8.1.2, 17.2.5), and the close that refuses it
//! (RFC 9000 5.2.2).
//!
//! Owns their bytes. When one is due is `admit`'s to say. Invariant: each is smaller than the datagram that it answers.

use weald_crypto::{TAG_LEN, initial_keys, retry_integrity_tag};

use super::accept::Incoming;
use crate::error::TransportErrorCode;
use crate::id::ConnectionId;
use crate::wire::frame::{Close, EncodeFrame};
use crate::wire::header::{LongHeader, LongType, RetryToSend};
use crate::wire::{PacketNumber, Writer};

/// A Retry that lets the client come again to the id `source`, with `token`.
pub(super) fn retry(incoming: &Incoming, source: ConnectionId, token: &[u8]) -> Vec<u8> {
    let packet = RetryToSend { version: incoming.version, dcid: incoming.source, scid: source, token };
    let mut bytes = vec![0; packet.size() + TAG_LEN];
    let (body, tag) = bytes.split_at_mut(packet.size());
    packet.encode(&mut Writer::new(body));
    tag.copy_from_slice(&retry_integrity_tag(incoming.version.protection(), &incoming.original, body));
    bytes
}

/// An Initial packet that closes the connection that the client asks for. `source` is its source id, which nothing comes to.
pub(super) fn close(incoming: &Incoming, source: ConnectionId, code: TransportErrorCode) -> Vec<u8> {
    let frame = Close { code, frame: None, reason: &[] };
    let keys = initial_keys(incoming.version.protection(), &incoming.original, weald_crypto::Side::Server).local;
    let number = PacketNumber::ZERO;
    let short = number.truncate(None);
    let header = LongHeader { long_type: LongType::Initial { token: &[] }, version: incoming.version, dcid: incoming.source, scid: source };
    let payload = header.size(short);
    // RFC 9001 5.4.2: there are four bytes of number and frame at least, since the frame alone has as many.
    let mut bytes = vec![0; payload + frame.size() + TAG_LEN];
    let encoded = header.encode(short, &mut Writer::new(&mut bytes));
    encoded.set_length(&mut bytes, frame.size() + TAG_LEN);
    let (head, rest) = bytes.split_at_mut(payload);
    let (plain, tag) = rest.split_at_mut(frame.size());
    frame.encode(&mut Writer::new(plain));
    keys.packet.seal(number.as_u64(), head, plain, &[], tag);
    if let Some(sample) = encoded.sample(&bytes) {
        let mask = keys.header.mask(sample);
        encoded.protect(&mut bytes, mask);
    }
    bytes
}
