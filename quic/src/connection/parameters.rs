//! Transport parameters: what we declare, and what of the peer's is kept (RFC 9000 7.3, 7.4, 18).
//!
//! Owns the check that the ids of the handshake are those that the peer saw. Does not own the encoding.

use std::time::Duration;

use super::datagrams;
use crate::config::TransportConfig;
use crate::error::{TransportError, TransportErrorCode};
use crate::id::{ConnectionId, ResetToken};
use crate::random::{Noise, Secrets};
use crate::side::Side;
use crate::streams::{Limits, PerStream, StreamOptions, Streams};
use crate::wire::{TransportParameters, Version, VersionInformation};

/// We report acknowledgement delays in units of 8 us, as is the default.
pub(crate) const ACK_DELAY_EXPONENT: u8 = 3;

/// What is remembered of the peer's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) max_idle_timeout: Option<Duration>,
    pub(crate) max_udp_payload: u64,
    pub(crate) ack_delay_exponent: u8,
    pub(crate) max_ack_delay: Duration,
    /// The largest DATAGRAM frame that the peer takes; 0 for none.
    pub(crate) max_datagram_frame: u16,
    /// The fixed bit may have any value in packets to the peer (RFC 9287).
    pub(crate) takes_any_fixed_bit: bool,
}

impl Default for Peer {
    fn default() -> Self {
        Self::new(&TransportParameters::default())
    }
}

impl Peer {
    pub(crate) fn new(parameters: &TransportParameters) -> Self {
        Self {
            max_idle_timeout: parameters.max_idle_timeout,
            max_udp_payload: parameters.max_udp_payload_size,
            ack_delay_exponent: parameters.ack_delay_exponent,
            max_ack_delay: parameters.max_ack_delay,
            // No packet holds more than this.
            max_datagram_frame: u16::try_from(parameters.max_datagram_frame_size).unwrap_or(u16::MAX),
            takes_any_fixed_bit: parameters.grease_quic_bit,
        }
    }

    /// What a client that sends early data goes by, from an earlier connection: all but what RFC 9000 7.4.1 and RFC 9287 3.1 leave
    /// to each connection.
    pub(crate) fn remembered(parameters: &TransportParameters) -> Self {
        let Self { ack_delay_exponent, max_ack_delay, takes_any_fixed_bit, .. } = Self::default();
        Self { ack_delay_exponent, max_ack_delay, takes_any_fixed_bit, ..Self::new(parameters) }
    }
}

/// The ids that the handshake went by, as this end saw them.
pub(crate) struct SeenIds {
    /// The destination id of the client's first packet.
    pub(crate) original: ConnectionId,
    /// The source id of the Retry, if one was followed.
    pub(crate) retry_source: Option<ConnectionId>,
    /// The source id of the peer's first packet.
    pub(crate) peer_source: Option<ConnectionId>,
}

/// What a client declares.
pub(crate) fn client(config: &TransportConfig, source: ConnectionId, versions: VersionInformation, noise: &mut Noise) -> Vec<u8> {
    ours(config, source, versions).encode(noise)
}

/// The ids of the handshake as a server declares them (RFC 9000 7.3).
#[derive(Clone, Copy)]
pub(crate) struct ServerIds {
    /// The source id of its packets.
    pub(crate) source: ConnectionId,
    /// The destination id of the client's first packet.
    pub(crate) original: ConnectionId,
    /// The source id of its Retry, if it sent one.
    pub(crate) retry_source: Option<ConnectionId>,
}

/// What a server declares.
pub(crate) fn server(
    config: &TransportConfig,
    ids: ServerIds,
    token: ResetToken,
    versions: VersionInformation,
    noise: &mut Noise,
) -> Vec<u8> {
    let parameters = TransportParameters {
        original_destination_connection_id: Some(ids.original),
        retry_source_connection_id: ids.retry_source,
        stateless_reset_token: Some(token),
        ..ours(config, ids.source, versions)
    };
    parameters.encode(noise)
}

/// Reads what the peer declared, and checks that nobody changed the ids of the handshake on the way (RFC 9000 7.3).
pub(crate) fn decode(bytes: &[u8], side: Side, seen: &SeenIds) -> Result<TransportParameters, TransportError> {
    let parameters = TransportParameters::decode(bytes, !side)?;
    let mut matches = parameters.initial_source_connection_id == seen.peer_source && seen.peer_source.is_some();
    if side.is_client() {
        matches &= parameters.original_destination_connection_id == Some(seen.original);
        matches &= parameters.retry_source_connection_id == seen.retry_source;
    }
    if !matches {
        return Err(TransportErrorCode::TRANSPORT_PARAMETER_ERROR
            .because("connection ids in the transport parameters are not those of the handshake"));
    }
    Ok(parameters)
}

/// The streams of a new connection.
pub(crate) fn streams(side: Side, config: &TransportConfig, secrets: &mut Secrets) -> Streams {
    let options = StreamOptions {
        limits: limits(config),
        pieces: config.limits.stream_pieces,
        send_window: config.send_window,
        send_buffer: config.send_buffer,
    };
    Streams::new(side, options, secrets)
}

/// What the peer allows us.
pub(crate) fn peer_limits(parameters: &TransportParameters) -> Limits {
    Limits {
        data: parameters.initial_max_data,
        stream_data: PerStream {
            bidi_local: parameters.initial_max_stream_data_bidi_local,
            bidi_remote: parameters.initial_max_stream_data_bidi_remote,
            uni: parameters.initial_max_stream_data_uni,
        },
        streams_bidi: parameters.initial_max_streams_bidi,
        streams_uni: parameters.initial_max_streams_uni,
    }
}

/// What an end with this configuration declares on all its connections alike; ids and versions are of none.
pub(crate) fn declared(config: &TransportConfig) -> TransportParameters {
    ours(config, ConnectionId::EMPTY, VersionInformation::only(Version::V1))
}

fn limits(config: &TransportConfig) -> Limits {
    let stream_window = config.stream_window.into();
    Limits {
        data: config.connection_window.into(),
        stream_data: PerStream { bidi_local: stream_window, bidi_remote: stream_window, uni: stream_window },
        streams_bidi: config.max_streams_bi.into(),
        streams_uni: config.max_streams_uni.into(),
    }
}

fn ours(config: &TransportConfig, source: ConnectionId, versions: VersionInformation) -> TransportParameters {
    let limits = limits(config);
    TransportParameters {
        max_idle_timeout: config.max_idle_timeout,
        initial_max_data: limits.data,
        initial_max_stream_data_bidi_local: limits.stream_data.bidi_local,
        initial_max_stream_data_bidi_remote: limits.stream_data.bidi_remote,
        initial_max_stream_data_uni: limits.stream_data.uni,
        initial_max_streams_bidi: limits.streams_bidi,
        initial_max_streams_uni: limits.streams_uni,
        ack_delay_exponent: ACK_DELAY_EXPONENT,
        max_ack_delay: config.max_ack_delay,
        disable_active_migration: true,
        active_connection_id_limit: config.limits.connection_ids.into(),
        grease_quic_bit: true,
        initial_source_connection_id: Some(source),
        version_information: Some(versions),
        max_datagram_frame_size: datagrams::receive_limit(config).into(),
        ..TransportParameters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Version;

    fn id(fill: u8) -> ConnectionId {
        ConnectionId::new(&[fill; 8]).unwrap()
    }

    #[test]
    fn ids_that_differ_from_the_handshakes_are_refused() {
        // RFC 9000 7.3
        let mut noise = Noise::new(1);
        let config = TransportConfig::default();
        let ids = ServerIds { source: id(1), original: id(2), retry_source: None };
        let versions = || VersionInformation::only(Version::V1);
        let from_server = server(&config, ids, ResetToken::from([0; 16]), versions(), &mut noise);
        let seen = |original, retry_source, peer_source| SeenIds { original, retry_source, peer_source };
        let read = |seen: SeenIds| decode(&from_server, Side::Client, &seen).map_err(|error| error.code);
        assert!(read(seen(id(2), None, Some(id(1)))).is_ok());
        for wrong in
            [seen(id(3), None, Some(id(1))), seen(id(2), None, Some(id(3))), seen(id(2), None, None), seen(id(2), Some(id(1)), Some(id(1)))]
        {
            assert_eq!(read(wrong), Err(TransportErrorCode::TRANSPORT_PARAMETER_ERROR));
        }
        let from_client = client(&config, id(1), versions(), &mut noise);
        let read = |source| decode(&from_client, Side::Server, &seen(id(2), None, Some(source)));
        assert!(read(id(1)).is_ok());
        assert!(read(id(2)).is_err());
    }
}
