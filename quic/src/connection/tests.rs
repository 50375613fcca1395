//! Whole connections, client against server, on virtual time. `pair` is the world that they live in, which fuzz targets use, too.

#![cfg_attr(not(test), expect(dead_code, reason = "the tests use all of it"))]

pub(crate) mod pair;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod closing;
#[cfg(test)]
mod datagrams;
#[cfg(test)]
mod early_data;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod first_flight;
#[cfg(test)]
mod ids;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod misbehaviour;
#[cfg(test)]
mod protection;
#[cfg(test)]
mod random_frames;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod tickets;
#[cfg(test)]
mod tracing;
#[cfg(test)]
mod transfer;
#[cfg(test)]
mod versions;

use std::time::Duration;

use bytes::Bytes;

use self::pair::Pair;
use super::packet_writer::{DatagramWriter, Header};
use super::{Connection, level, packet_type, space_of};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::path_id::PathId;
use crate::recovery::SpaceId;
use crate::recovery::sent::{PacketKind, SentPacket};
use crate::wire::{PacketType, WrittenFrames};

const SECOND: Duration = Duration::from_secs(1);

/// Whether packets of a space can be forged now.
pub(crate) fn has_keys(connection: &Connection, space: SpaceId) -> bool {
    connection.keys.has(level(space))
}

/// Whether the peer's address is validated.
pub(crate) fn is_address_validated(connection: &Connection) -> bool {
    connection.path.amplification().budget() == u64::MAX
}

/// A packet of `connection` with these frames, genuine in everything but its contents, padded to `len`.
pub(crate) fn forge(connection: &mut Connection, pair_now: crate::time::Instant, space: SpaceId, frames: &[u8], len: usize) -> Vec<u8> {
    forge_as(connection, pair_now, packet_type(space), frames, len)
}

/// The same for any type of packet that there are keys for.
fn forge_as(connection: &mut Connection, pair_now: crate::time::Instant, packet_type: PacketType, frames: &[u8], len: usize) -> Vec<u8> {
    let space = space_of(packet_type);
    let mut buf = vec![0; 1500];
    let own = connection.spaces.get_mut(space).unwrap();
    let number = own.next_number().unwrap();
    let header = Header {
        version: connection.version,
        destination: connection.remote_ids.current(),
        source: connection.local_ids.handshake_id(),
        token: &[],
        phase: connection.keys.local(level(SpaceId::Data)).is_some_and(|keys| keys.phase),
        spin: false,
        fixed: true,
    };
    let short = number.truncate(own.largest_acked());
    let mut datagram = DatagramWriter::new(&mut buf);
    let slot = datagram.begin(packet_type, &header, number, short).unwrap();
    datagram.payload(slot)[..frames.len()].copy_from_slice(frames);
    datagram.push(slot, WrittenFrames { len: frames.len(), tail: None, ack_eliciting: true, in_flight: false });
    if len > 0 {
        datagram.pad_to(len);
    }
    let (len, _) = datagram.seal(&connection.keys);
    let record = SentPacket::new(number, pair_now, PathId::FIRST, 0, PacketKind::AckOnly);
    own.on_sent(record, &mut Vec::new(), &mut connection.secrets);
    buf.truncate(len);
    buf
}

/// Delivers a forged 1-RTT packet to one end of a connected pair, and gives what that end closes with.
fn answer_to(to_server: bool, frames: &[u8]) -> (Option<ConnectionError>, Option<ConnectionError>) {
    let mut pair = Pair::connected(7);
    let now = pair.now;
    let from = if to_server { &mut pair.client } else { &mut pair.server };
    let datagram = forge(from.connection(), now, SpaceId::Data, frames, 0);
    pair.deliver(to_server, &datagram);
    pair.run(SECOND, |pair| pair.client.closed.is_some() && pair.server.closed.is_some());
    match to_server {
        true => (pair.server.closed.take(), pair.client.closed.take()),
        false => (pair.client.closed.take(), pair.server.closed.take()),
    }
}

/// The code with which `victim` closed, and that the other end was told.
fn code((victim, offender): (Option<ConnectionError>, Option<ConnectionError>)) -> Option<TransportErrorCode> {
    match (victim, offender) {
        (Some(ConnectionError::Transport(error)), Some(ConnectionError::ConnectionClosed(told))) => {
            assert_eq!(error.code, told.code);
            assert_eq!(error.frame, told.frame);
            Some(error.code)
        }
        (None, None) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_and_jobs_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Connection>();
    is_send::<super::CryptoJob>();
    is_send::<super::CryptoDone>();
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
