//! For the fuzz targets: each function takes what a stranger sent, or a script, and panics if a decoder or a connection breaks a promise.
//!
//! Here are the decoders, what is held against another codec (`differential`), and what the targets of whole connections share: `offender`
//! and `calls`. The world that those run in is that of
//! the unit tests. What must hold whatever the script: nothing panics, sending comes to an end, time goes on, memory keeps within `bounds`,
//! no connection calls itself defective, and each is over when its idle timeout has passed.

mod application;
mod bounds;
mod calls;
mod differential;
mod model;
mod offender;
mod script;

pub use self::calls::calls;
pub use self::differential::{
    FramesRead, PacketRead, read_frames, read_packet, read_varint, rewrite_transport_parameters, same_transport_parameters,
};
pub use self::offender::connection;

use std::net::SocketAddr;
use std::time::Duration;

use crate::chunk::Pool;
use crate::config::{ConnectionLimits, TransportConfig};
use crate::connection::tests::pair::Pair;
use crate::endpoint::token::{Lifetimes, TokenBody, TokenVerdict};
use crate::endpoint::{Incoming, WallTime};
use crate::error::ConnectionError;
use crate::handle::EndpointKeys;
use crate::id::ConnectionId;
use crate::random::Noise;
use crate::side::Side;
use crate::streams::reassembly::{Reassembly, Slack};
use crate::wire::frame::{Crypto, Datagram, EncodeFrame, Frame, FrameIter, Stream};
use crate::wire::header::{MASK_LEN, Packet, Packets};
use crate::wire::{PacketType, TransportParameters, Version, Writer};

/// A datagram; its first bytes choose the length of our ids and the mask.
pub fn packet_header(input: &[u8]) {
    let Some((choice, datagram)) = input.split_first_chunk::<{ 1 + MASK_LEN }>() else {
        return;
    };
    let [local_cid_len, mask @ ..] = *choice;
    let mut header = Vec::new();
    let mut end = 0;
    for packet in Packets::new(datagram, usize::from(local_cid_len % 21)) {
        let Ok(packet) = packet else { break };
        match packet {
            Packet::Protected(packet) => {
                let range = packet.range();
                assert!(range.start == end && range.end > end && range.end <= datagram.len());
                assert_eq!(packet.bytes(), &datagram[range.clone()]);
                end = range.end;
                let unprotected = packet.unprotect(mask, &mut header);
                assert!(unprotected.is_some() || packet.sample().is_none(), "a packet with a sample has a number");
                if let Some(unprotected) = unprotected {
                    assert_eq!(header.len() + packet.ciphertext(&unprotected).len(), packet.bytes().len());
                    let _ = unprotected.check_reserved_bits();
                }
            }
            Packet::Retry(retry) => assert!(!retry.token.is_empty()),
            Packet::VersionNegotiation(packet) => assert!(packet.versions().count() > 0),
            Packet::Unsupported(packet) => assert!(!packet.version.is_supported()),
        }
    }
}

/// A payload; its first byte chooses the packet's type and who sent it.
pub fn frames(input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else {
        return;
    };
    let packet = [PacketType::Initial, PacketType::ZeroRtt, PacketType::Handshake, PacketType::OneRtt];
    let packet = packet[usize::from(choice >> 1 & 0b11)];
    let sender = sender(choice & 1 != 0);
    let mut iter = FrameIter::new(payload, packet, sender);
    while let Some(frame) = iter.next() {
        let Ok(frame) = frame else {
            assert_eq!(iter.next(), None);
            return;
        };
        if let Frame::Crypto(Crypto { data, .. }) | Frame::Stream(Stream { data, .. }) | Frame::Datagram(Datagram { data, .. }) = frame {
            assert_eq!(&payload[iter.data_range(data)], data);
        }
        let mut bytes = vec![0; frame.size()];
        let mut writer = Writer::new(&mut bytes);
        frame.encode(&mut writer);
        assert_eq!(writer.remaining(), 0);
        let mut again = FrameIter::new(&bytes, packet, sender);
        assert_eq!(again.next(), Some(Ok(frame)));
        assert_eq!(again.next(), None);
    }
}

/// Transport parameters; the first byte chooses who sent them.
pub fn transport_parameters(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let sender = sender(choice & 1 != 0);
    let Ok(parameters) = TransportParameters::decode(bytes, sender) else {
        return;
    };
    let again = parameters.encode(&mut Noise::new(0));
    assert_eq!(TransportParameters::decode(&again, sender).as_ref(), Ok(&parameters));
}

/// Pieces of a stream, and reads between them: each four bytes of input are an offset, a length and what to do. Held against a
/// list of what has arrived.
pub fn reassembly(input: &[u8]) {
    let (pool, window) = (Pool::new(), 4096);
    let (mut slack, mut buffer) = (Slack::new(window, 1024), Reassembly::new(window));
    let mut arrived = vec![false; window as usize + 256];
    let mut read = 0;
    for step in input.chunks_exact(4) {
        let [high, low, len, verb] = *step else { break };
        let (offset, len) = (usize::from(u16::from_be_bytes([high, low])) % window as usize, usize::from(len));
        let mut chunk = pool.take(len);
        for (at, byte) in chunk[..len].iter_mut().enumerate() {
            *byte = (offset + at) as u8;
        }
        if buffer.insert(offset as u64, chunk.freeze(0..len), &mut slack).is_err() {
            return;
        }
        arrived[offset..offset + len].fill(true);
        let held = arrived[read..].iter().filter(|arrived| **arrived).count();
        assert_eq!(buffer.buffered(), held);
        assert!(slack.retained() <= 2 * window as usize + 2 * arrived.len());
        if verb % 2 == 0 {
            continue;
        }
        match buffer.read(usize::from(verb), &mut slack) {
            Some(data) => {
                assert!(!data.is_empty() && data.iter().enumerate().all(|(at, byte)| *byte == (read + at) as u8 && arrived[read + at]));
                read += data.len();
            }
            None => assert!(!arrived[read]),
        }
    }
    buffer.discard(&mut slack);
    assert_eq!(slack.retained(), 0);
}

/// A token of address validation: as a stranger makes one up, and one of ours that was changed where the first bytes say.
pub fn address_token(input: &[u8]) {
    let lifetimes = Lifetimes { retry: Duration::from_secs(15), address: Duration::from_secs(3600) };
    let (now, remote) = (WallTime::from_unix(1_800_000_000), SocketAddr::from(([192, 0, 2, 1], 443)));
    let mut tokens = EndpointKeys::new(&[1; 32], 0, 0).tokens();
    let Some(destination) = ConnectionId::new(&[2; 8]) else { return };
    let Some(client) = Incoming::new(remote, Version::V1, destination, ConnectionId::EMPTY, 1200) else { return };
    let mut open = |token: &[u8]| tokens.open(now, lifetimes, &client, token);
    assert_eq!(open(input), TokenVerdict::Nothing);
    let Some(([at, change], rest)) = input.split_first_chunk() else { return };
    let body = TokenBody::Retry { original: ConnectionId::EMPTY, retry_source: destination };
    let mut tokens = EndpointKeys::new(&[1; 32], 0, 0).tokens();
    let mut token = tokens.seal(now, [7; 12], remote, Version::V1, body);
    let verdict = tokens.open(now, lifetimes, &client, &token);
    assert!(matches!(verdict, TokenVerdict::Retry { .. }), "{verdict:?}");
    let genuine = token.clone();
    let at = usize::from(*at) % token.len();
    token[at] ^= change;
    token.extend_from_slice(&rest[..rest.len().min(2)]);
    if token != genuine {
        let verdict = tokens.open(now, lifetimes, &client, &token);
        assert_eq!(verdict, TokenVerdict::Nothing);
    }
}

fn sender(is_server: bool) -> Side {
    if is_server { Side::Server } else { Side::Client }
}

/// Idle timeouts, probes and closes are over by then.
const END: Duration = Duration::from_secs(400);

/// Limits so small that a script of a few bytes comes to each of them.
fn small() -> TransportConfig {
    let limits = ConnectionLimits::default().crypto_buffer(4096).undecryptable_packets(2).path_responses(2).stream_pieces(8);
    TransportConfig::default()
        .max_streams_bi(4)
        .max_streams_uni(4)
        .stream_window(3000)
        .connection_window(6000)
        .send_window(4000)
        .send_buffer(8000)
        .datagrams(true)
        .datagram_receive_buffer(1500)
        .datagram_send_buffer(3000)
        .limits(limits.ack_ranges(6).connection_ids(3))
}

/// No end calls itself defective.
fn check(pair: &Pair) {
    for node in [&pair.client, &pair.server] {
        if let Some(ConnectionError::Transport(error)) = &node.closed {
            assert_ne!(error.reason, "a defect of this implementation");
        }
    }
}

/// Both ends are gone.
fn check_end(pair: &Pair) {
    assert!(pair.client.dropped && (pair.server.dropped || pair.server.connection.is_none()), "a connection without end");
}

/// Runs scripts that were drawn at random.
#[cfg(test)]
fn random_scripts(seeds: std::ops::Range<u64>, run: fn(&[u8])) {
    for seed in seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut script = vec![0; rng.usize(0..300)];
        rng.fill(&mut script);
        run(&script);
    }
}
