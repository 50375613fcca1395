//! This codec and quinn-proto's make the same of the same bytes: integers, headers, transport parameters, and frames, of which a server of
//! quinn's in the clear says what it read, with which code it closes and what it answers.
//!
//! Where they differ, the RFC leaves it open, and so it is left out here, each time with its section (RFC 9000 unless said otherwise).

#![no_main]

#[path = "codec_differential/clear.rs"]
mod clear;

use std::io::Cursor;
use std::time::Instant;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use quinn_proto::coding::Codec;
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{FixedLengthConnectionIdParser, PartialDecode, ProtectedHeader, Side, VarInt};
use weald_quic::fuzzing::{self, PacketRead};

use self::clear::{CLIENT, KINDS, Server, kind};

const FRAME_ENCODING_ERROR: u64 = 0x07;
const PROTOCOL_VIOLATION: u64 = 0x0a;

const NEW_TOKEN: u64 = 0x07;
const NEW_CONNECTION_ID: u64 = 0x18;
const HANDSHAKE_DONE: u64 = 0x1e;
const IMMEDIATE_ACK: u64 = 0x1f;
const ACK_FREQUENCY: u64 = 0xaf;

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else { return };
    match choice % 8 {
        0 => varint(input),
        1 | 2 => packet(input),
        3 | 4 => transport_parameters(input, choice & 0x80 != 0),
        _ => frames(input),
    }
});

fn varint(input: &[u8]) {
    let mut rest = input;
    let theirs = VarInt::decode(&mut rest).ok().map(|value| (value.into_inner(), input.len() - rest.len()));
    assert_eq!(fuzzing::read_varint(input), theirs);
}

/// The first packet of a datagram. The first byte chooses the length of our ids.
fn packet(input: &[u8]) {
    let Some((len, datagram)) = input.split_first() else { return };
    let parser = FixedLengthConnectionIdParser::new(usize::from(len % 21));
    let Some(first) = datagram.first() else { return };
    let is_long = first & 0x80 != 0;
    // Quinn speaks version 1 alone, and judges Retry and Version Negotiation later, in the connection (17.2.1, 17.2.5).
    if is_long && (first & 0x30 == 0x30 || datagram.get(1..5) != Some(&[0, 0, 0, 1])) {
        return;
    }
    let theirs = PartialDecode::new(BytesMut::from(datagram), &parser, &[1], true).ok().map(|(packet, _)| {
        let mut header = Cursor::new(BytesMut::from(datagram));
        let header = ProtectedHeader::decode(&mut header, &parser, &[1], true).expect("it was decoded");
        let (source, token) = match &header {
            ProtectedHeader::Initial(initial) => (initial.src_cid.to_vec(), datagram[initial.token_pos.clone()].to_vec()),
            ProtectedHeader::Long { src_cid, .. } => (src_cid.to_vec(), Vec::new()),
            _ => (Vec::new(), Vec::new()),
        };
        PacketRead { destination: packet.dst_cid().to_vec(), source, token, len: packet.len() }
    });
    assert_eq!(fuzzing::read_packet(datagram, usize::from(len % 21)), theirs);
}

fn transport_parameters(input: &[u8], from_server: bool) {
    // The side that reads.
    let side = if from_server { Side::Client } else { Side::Server };
    let numbers = parameter_numbers(input);
    let ours = fuzzing::rewrite_transport_parameters(input, from_server);
    if let Some(ours) = &ours {
        // Written again, since quinn refuses integers that are not encoded the shortest way, which 16 permits.
        match TransportParameters::read(side, &mut &ours[..]) {
            Ok(theirs) => {
                let mut written = Vec::new();
                theirs.write(&mut written);
                assert!(fuzzing::same_transport_parameters(input, &written, from_server), "{ours:02x?} became {written:02x?}");
            }
            // 18.2 says that an address may be left out, and not that both may not; quinn does not take a preferred address without any.
            Err(error) => assert!(numbers.contains(&0x0d), "{ours:02x?}: {error}"),
        }
    }
    if TransportParameters::read(side, &mut &input[..]).is_ok() {
        // 7.4: no parameter twice. Quinn does not mind with those that it does not know, nor with some that have no value.
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        let repeats = sorted.windows(2).any(|pair| pair[0] == pair[1]);
        // RFC 9368 3: version_information, which quinn does not know.
        assert!(ours.is_some() || repeats || numbers.contains(&0x11), "{input:02x?}");
    }
}

fn parameter_numbers(mut rest: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some((number, number_len)) = fuzzing::read_varint(rest) {
        numbers.push(number);
        let Some((len, len_len)) = fuzzing::read_varint(&rest[number_len..]) else { break };
        let Some(next) = usize::try_from(len).ok().and_then(|len| rest.get(number_len + len_len + len..)) else { break };
        rest = next;
    }
    numbers
}

/// The payload of a 1-RTT packet from a client.
fn frames(payload: &[u8]) {
    if payload.len() > 1100 {
        return;
    }
    let now = Instant::now();
    let ours = fuzzing::read_frames(payload, false);
    let theirs = Server::established(now).feed(payload);
    let all = count(&ours.types);
    match (ours.error, theirs.error) {
        (None, None) => assert_eq!(theirs.counts, all, "{ours:x?}"),
        // Not the codec: a limit, a stream that is not there, a packet that was never sent.
        (None, Some(code)) => {
            assert_ne!(code, FRAME_ENCODING_ERROR, "{ours:x?}");
            assert!(is_prefix(&theirs.counts, &ours.types), "{ours:x?} {theirs:x?}");
        }
        // 12.4: a type that is not encoded the shortest way may be an error, which quinn does not make of it.
        (Some((PROTOCOL_VIOLATION, Some(frame))), _) if frame != NEW_TOKEN && frame != HANDSHAKE_DONE => {}
        // draft-ietf-quic-ack-frequency: quinn understands these even if they were not negotiated; to others they are unknown (12.4).
        (Some((FRAME_ENCODING_ERROR, Some(IMMEDIATE_ACK | ACK_FREQUENCY))), _) => {}
        (Some((code, frame)), Some(their_code)) => {
            let mut with_last = ours.types.clone();
            with_last.extend(frame);
            let came_to_last = frame.is_some_and(|frame| kind(frame).is_some()) && theirs.counts == count(&with_last);
            if theirs.counts == all && their_code == FRAME_ENCODING_ERROR {
                // 19.7: only servers send it. Quinn looks at what is in it before.
                assert!(code == FRAME_ENCODING_ERROR || frame == Some(NEW_TOKEN), "{ours:x?} {theirs:x?}");
            } else if !came_to_last {
                // It did not come so far.
                assert!(their_code != FRAME_ENCODING_ERROR && is_prefix(&theirs.counts, &ours.types), "{ours:x?} {theirs:x?}");
            } else if !matches!(frame, Some(0x06 | 0x08..=0x0f)) {
                assert_eq!(code, their_code, "{ours:x?}");
            }
            // Else 19.6, 19.8: data past 2^62 - 1 is FRAME_ENCODING_ERROR or an error of flow control, which quinn makes of it.
        }
        (Some(_), None) => panic!("{ours:x?} {theirs:x?}"),
    }
    if ours.error.is_some() {
        return;
    }
    // What this codec writes is to quinn what it was.
    let again = Server::established(now).feed(&ours.again);
    assert_eq!(again, theirs, "{ours:x?}");
    // What quinn writes is frames to this codec. The ids to which it sends are as long as frames say.
    if !ours.types.contains(&NEW_CONNECTION_ID) {
        for datagram in &theirs.sent {
            let number_len = usize::from(datagram[0] & 3) + 1;
            assert!(datagram[0] & 0x80 == 0 && datagram[1..9] == CLIENT, "{datagram:02x?}");
            let read = fuzzing::read_frames(&datagram[9 + number_len..], true);
            assert!(read.error.is_none(), "{read:x?} in {datagram:02x?}");
        }
    }
}

fn count(types: &[u64]) -> [u64; KINDS] {
    let mut counts = [0; KINDS];
    types.iter().filter_map(|frame_type| kind(*frame_type)).for_each(|kind| counts[kind] += 1);
    counts
}

/// Whether the first few frames are these.
fn is_prefix(counts: &[u64; KINDS], types: &[u64]) -> bool {
    (0..=types.len()).any(|len| count(&types[..len]) == *counts)
}
