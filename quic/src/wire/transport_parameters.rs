//! Transport parameters (RFC 9000 section 18): what an endpoint declares of itself in the TLS handshake. What follows from
//! them, and whether the ids in them match the handshake's (section 7.3), is the connection's.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use crate::error::{TransportError, TransportErrorCode};
use crate::id::{ConnectionId, ResetToken};
use crate::random::Noise;
use crate::side::Side;
use crate::stream_id::StreamId;
use crate::wire::{Reader, Truncated, VarInt, VersionInformation, Writer};

/// What an endpoint declares. The default is what holds for parameters that are not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportParameters {
    /// The destination id of the client's first Initial packet. Only servers send it.
    pub original_destination_connection_id: Option<ConnectionId>,
    /// How long the connection may be silent, in whole milliseconds; `None` for ever.
    pub max_idle_timeout: Option<Duration>,
    /// The token that resets the connection id of the handshake. Only servers send it.
    pub stateless_reset_token: Option<ResetToken>,
    /// The largest UDP payload that the endpoint takes: at least 1200.
    pub max_udp_payload_size: u64,
    /// Bytes that the peer may send on all streams together.
    pub initial_max_data: u64,
    /// Bytes that the peer may send on each bidirectional stream which the sender of the parameter opens.
    pub initial_max_stream_data_bidi_local: u64,
    /// Bytes that the peer may send on each bidirectional stream which the peer opens.
    pub initial_max_stream_data_bidi_remote: u64,
    /// Bytes that the peer may send on each unidirectional stream which the peer opens.
    pub initial_max_stream_data_uni: u64,
    /// Bidirectional streams that the peer may open: at most 2^60.
    pub initial_max_streams_bidi: u64,
    /// Unidirectional streams that the peer may open: at most 2^60.
    pub initial_max_streams_uni: u64,
    /// The delay in ACK frames is in units of 2^this microseconds: at most 20.
    pub ack_delay_exponent: u8,
    /// How long the endpoint holds acknowledgments back at most, in whole milliseconds: below 2^14 of them.
    pub max_ack_delay: Duration,
    /// Whether the peer must stay on its address.
    pub disable_active_migration: bool,
    /// Where the server would rather be reached. Only servers send it.
    pub preferred_address: Option<PreferredAddress>,
    /// Ids of the peer that the endpoint can hold: at least 2.
    pub active_connection_id_limit: u64,
    /// The source id of the endpoint's first Initial packet.
    pub initial_source_connection_id: Option<ConnectionId>,
    /// The source id of the Retry packet. Only servers that sent one send it.
    pub retry_source_connection_id: Option<ConnectionId>,
    /// Which versions the endpoint speaks (RFC 9368 section 3).
    pub version_information: Option<VersionInformation>,
    /// The largest DATAGRAM frame that the endpoint takes, type and length included; 0 for none (RFC 9221 section 3).
    pub max_datagram_frame_size: u64,
    /// Packets may have any value in the fixed bit (RFC 9287).
    pub grease_quic_bit: bool,
}

/// An address that a server asks its clients to move to (RFC 9000 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferredAddress {
    pub v4: Option<SocketAddrV4>,
    pub v6: Option<SocketAddrV6>,
    /// The id with sequence number 1: 1 to 20 bytes.
    pub connection_id: ConnectionId,
    pub reset_token: ResetToken,
}

impl Default for TransportParameters {
    /// RFC 9000 section 18.2.
    fn default() -> TransportParameters {
        TransportParameters {
            original_destination_connection_id: None,
            max_idle_timeout: None,
            stateless_reset_token: None,
            max_udp_payload_size: DEFAULT_MAX_UDP_PAYLOAD_SIZE,
            initial_max_data: 0,
            initial_max_stream_data_bidi_local: 0,
            initial_max_stream_data_bidi_remote: 0,
            initial_max_stream_data_uni: 0,
            initial_max_streams_bidi: 0,
            initial_max_streams_uni: 0,
            ack_delay_exponent: DEFAULT_ACK_DELAY_EXPONENT,
            max_ack_delay: DEFAULT_MAX_ACK_DELAY,
            disable_active_migration: false,
            preferred_address: None,
            active_connection_id_limit: MIN_ACTIVE_CONNECTION_ID_LIMIT,
            initial_source_connection_id: None,
            retry_source_connection_id: None,
            version_information: None,
            max_datagram_frame_size: 0,
            grease_quic_bit: false,
        }
    }
}

const DEFAULT_MAX_UDP_PAYLOAD_SIZE: u64 = 65_527;
const MIN_MAX_UDP_PAYLOAD_SIZE: u64 = 1200;
const DEFAULT_ACK_DELAY_EXPONENT: u8 = 3;
const MAX_ACK_DELAY_EXPONENT: u64 = 20;
const DEFAULT_MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// In milliseconds.
const MAX_MAX_ACK_DELAY: u64 = (1 << 14) - 1;
const MIN_ACTIVE_CONNECTION_ID_LIMIT: u64 = 2;

/// The parameters of RFC 9000 section 18.2 and of its extensions, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    OriginalDestinationConnectionId,
    MaxIdleTimeout,
    StatelessResetToken,
    MaxUdpPayloadSize,
    InitialMaxData,
    InitialMaxStreamDataBidiLocal,
    InitialMaxStreamDataBidiRemote,
    InitialMaxStreamDataUni,
    InitialMaxStreamsBidi,
    InitialMaxStreamsUni,
    AckDelayExponent,
    MaxAckDelay,
    DisableActiveMigration,
    PreferredAddress,
    ActiveConnectionIdLimit,
    InitialSourceConnectionId,
    RetrySourceConnectionId,
    /// RFC 9368 section 3.
    VersionInformation = 0x11,
    MaxDatagramFrameSize = 0x20,
    /// RFC 9287 section 3.
    GreaseQuicBit = 0x2ab2,
}

impl Parameter {
    /// All parameters, in the order of their numbers.
    const ALL: [Parameter; 20] = [
        Parameter::OriginalDestinationConnectionId,
        Parameter::MaxIdleTimeout,
        Parameter::StatelessResetToken,
        Parameter::MaxUdpPayloadSize,
        Parameter::InitialMaxData,
        Parameter::InitialMaxStreamDataBidiLocal,
        Parameter::InitialMaxStreamDataBidiRemote,
        Parameter::InitialMaxStreamDataUni,
        Parameter::InitialMaxStreamsBidi,
        Parameter::InitialMaxStreamsUni,
        Parameter::AckDelayExponent,
        Parameter::MaxAckDelay,
        Parameter::DisableActiveMigration,
        Parameter::PreferredAddress,
        Parameter::ActiveConnectionIdLimit,
        Parameter::InitialSourceConnectionId,
        Parameter::RetrySourceConnectionId,
        Parameter::VersionInformation,
        Parameter::MaxDatagramFrameSize,
        Parameter::GreaseQuicBit,
    ];

    fn from_wire(number: VarInt) -> Option<Parameter> {
        Parameter::ALL.into_iter().find(|parameter| parameter.to_wire() == number)
    }

    fn to_wire(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// RFC 9000 section 18.2: "A client MUST NOT include any server-only transport parameter".
    fn is_server_only(self) -> bool {
        matches!(
            self,
            Parameter::OriginalDestinationConnectionId
                | Parameter::StatelessResetToken
                | Parameter::PreferredAddress
                | Parameter::RetrySourceConnectionId
        )
    }
}

/// Why parameters cannot be decoded: always TRANSPORT_PARAMETER_ERROR (RFC 9000 section 7.4).
#[derive(Clone, Copy, Debug)]
struct Invalid(&'static str);

impl From<Truncated> for Invalid {
    fn from(Truncated: Truncated) -> Invalid {
        Invalid("transport parameters end inside a value")
    }
}

impl TransportParameters {
    /// The parameters that `sender` sent. Unknown ones are skipped.
    pub fn decode(bytes: &[u8], sender: Side) -> Result<TransportParameters, TransportError> {
        TransportParameters::decode_all(bytes, sender)
            .map_err(|Invalid(reason)| TransportErrorCode::TRANSPORT_PARAMETER_ERROR.because(reason))
    }

    fn decode_all(bytes: &[u8], sender: Side) -> Result<TransportParameters, Invalid> {
        let mut parameters = TransportParameters::default();
        let mut reader = Reader::new(bytes);
        // At most one entry for two bytes of the handshake, so that the peer cannot make it large.
        let mut seen = Vec::new();
        while !reader.is_empty() {
            let number = reader.varint()?;
            let value = reader.length_prefixed()?;
            seen.push(number);
            let Some(parameter) = Parameter::from_wire(number) else {
                continue;
            };
            if parameter.is_server_only() && sender.is_client() {
                return Err(Invalid("a client sent a transport parameter that only servers send"));
            }
            parameters.decode_one(parameter, sender, Reader::new(value))?;
        }
        // RFC 9000 section 7.4: no parameter twice, known or not.
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Invalid("a transport parameter twice"));
        }
        Ok(parameters)
    }

    fn decode_one(&mut self, parameter: Parameter, sender: Side, mut value: Reader<'_>) -> Result<(), Invalid> {
        match parameter {
            Parameter::OriginalDestinationConnectionId => {
                self.original_destination_connection_id = Some(connection_id(&mut value)?);
            }
            Parameter::MaxIdleTimeout => {
                let millis = value.varint()?.as_u64();
                self.max_idle_timeout = Some(Duration::from_millis(millis)).filter(|timeout| !timeout.is_zero());
            }
            Parameter::StatelessResetToken => self.stateless_reset_token = Some(reset_token(&mut value)?),
            Parameter::MaxUdpPayloadSize => {
                self.max_udp_payload_size = value.varint()?.as_u64();
                check(self.max_udp_payload_size >= MIN_MAX_UDP_PAYLOAD_SIZE, "max_udp_payload_size below 1200")?;
            }
            Parameter::InitialMaxData => self.initial_max_data = value.varint()?.as_u64(),
            Parameter::InitialMaxStreamDataBidiLocal => self.initial_max_stream_data_bidi_local = value.varint()?.as_u64(),
            Parameter::InitialMaxStreamDataBidiRemote => self.initial_max_stream_data_bidi_remote = value.varint()?.as_u64(),
            Parameter::InitialMaxStreamDataUni => self.initial_max_stream_data_uni = value.varint()?.as_u64(),
            Parameter::InitialMaxStreamsBidi => self.initial_max_streams_bidi = stream_count(&mut value)?,
            Parameter::InitialMaxStreamsUni => self.initial_max_streams_uni = stream_count(&mut value)?,
            Parameter::AckDelayExponent => {
                let exponent = value.varint()?.as_u64();
                check(exponent <= MAX_ACK_DELAY_EXPONENT, "ack_delay_exponent above 20")?;
                self.ack_delay_exponent = exponent as u8;
            }
            Parameter::MaxAckDelay => {
                let millis = value.varint()?.as_u64();
                check(millis <= MAX_MAX_ACK_DELAY, "max_ack_delay of 2^14 or more")?;
                self.max_ack_delay = Duration::from_millis(millis);
            }
            Parameter::DisableActiveMigration => self.disable_active_migration = true,
            Parameter::GreaseQuicBit => self.grease_quic_bit = true,
            Parameter::PreferredAddress => self.preferred_address = Some(PreferredAddress::decode(&mut value)?),
            Parameter::ActiveConnectionIdLimit => {
                self.active_connection_id_limit = value.varint()?.as_u64();
                let enough = self.active_connection_id_limit >= MIN_ACTIVE_CONNECTION_ID_LIMIT;
                check(enough, "active_connection_id_limit below 2")?;
            }
            Parameter::InitialSourceConnectionId => self.initial_source_connection_id = Some(connection_id(&mut value)?),
            Parameter::RetrySourceConnectionId => self.retry_source_connection_id = Some(connection_id(&mut value)?),
            Parameter::VersionInformation => {
                let information = VersionInformation::decode(value.rest(), sender);
                self.version_information = Some(information.map_err(|malformed| Invalid(malformed.reason()))?);
            }
            Parameter::MaxDatagramFrameSize => self.max_datagram_frame_size = value.varint()?.as_u64(),
        }
        check(value.is_empty(), "a transport parameter is longer than its value")
    }

    /// The parameters as TLS carries them, and a reserved one that means nothing, so that peers learn to skip what they do
    /// not know (RFC 9000 section 18.1). What has its default value is left out.
    pub(crate) fn encode(&self, noise: &mut Noise) -> Vec<u8> {
        // Those of a server with three connection ids, a token and the noise take less.
        let mut out = Encoder(Vec::with_capacity(256));
        for parameter in Parameter::ALL {
            self.encode_one(parameter, &mut out);
        }
        // RFC 9000 section 18.1: 31 * N + 27. Numbers of at most two bytes are enough variety.
        let number = VarInt::from_u32(31 * noise.u32(0..500) + 27);
        let mut value = [0; 16];
        let len = noise.u32(0..value.len() as u32 + 1) as usize;
        noise.fill(&mut value[..len]);
        out.put(number, &value[..len]);
        out.0
    }

    fn encode_one(&self, parameter: Parameter, out: &mut Encoder) {
        let default = TransportParameters::default();
        match parameter {
            Parameter::OriginalDestinationConnectionId => out.put_connection_id(parameter, &self.original_destination_connection_id),
            Parameter::MaxIdleTimeout => out.put_integer(parameter, whole_millis(self.max_idle_timeout.unwrap_or_default()), 0),
            Parameter::StatelessResetToken => {
                if let Some(token) = &self.stateless_reset_token {
                    out.put(parameter.to_wire(), token.as_bytes());
                }
            }
            Parameter::MaxUdpPayloadSize => out.put_integer(parameter, self.max_udp_payload_size, default.max_udp_payload_size),
            Parameter::InitialMaxData => out.put_integer(parameter, self.initial_max_data, 0),
            Parameter::InitialMaxStreamDataBidiLocal => out.put_integer(parameter, self.initial_max_stream_data_bidi_local, 0),
            Parameter::InitialMaxStreamDataBidiRemote => out.put_integer(parameter, self.initial_max_stream_data_bidi_remote, 0),
            Parameter::InitialMaxStreamDataUni => out.put_integer(parameter, self.initial_max_stream_data_uni, 0),
            Parameter::InitialMaxStreamsBidi => out.put_integer(parameter, self.initial_max_streams_bidi, 0),
            Parameter::InitialMaxStreamsUni => out.put_integer(parameter, self.initial_max_streams_uni, 0),
            Parameter::AckDelayExponent => {
                out.put_integer(parameter, self.ack_delay_exponent.into(), default.ack_delay_exponent.into());
            }
            Parameter::MaxAckDelay => {
                out.put_integer(parameter, whole_millis(self.max_ack_delay), whole_millis(default.max_ack_delay));
            }
            Parameter::DisableActiveMigration => {
                if self.disable_active_migration {
                    out.put(parameter.to_wire(), &[]);
                }
            }
            Parameter::GreaseQuicBit => {
                if self.grease_quic_bit {
                    out.put(parameter.to_wire(), &[]);
                }
            }
            Parameter::PreferredAddress => {
                if let Some(address) = &self.preferred_address {
                    out.put(parameter.to_wire(), &address.encode());
                }
            }
            Parameter::ActiveConnectionIdLimit => {
                out.put_integer(parameter, self.active_connection_id_limit, default.active_connection_id_limit);
            }
            Parameter::InitialSourceConnectionId => out.put_connection_id(parameter, &self.initial_source_connection_id),
            Parameter::RetrySourceConnectionId => out.put_connection_id(parameter, &self.retry_source_connection_id),
            Parameter::VersionInformation => {
                if let Some(information) = &self.version_information {
                    out.put(parameter.to_wire(), &information.encode());
                }
            }
            Parameter::MaxDatagramFrameSize => out.put_integer(parameter, self.max_datagram_frame_size, 0),
        }
    }
}

impl PreferredAddress {
    /// RFC 9000 section 18.2, figure 22.
    fn decode(value: &mut Reader<'_>) -> Result<PreferredAddress, Invalid> {
        let v4 = SocketAddrV4::new(Ipv4Addr::from(value.array::<4>()?), value.u16()?);
        let v6 = SocketAddrV6::new(Ipv6Addr::from(value.array::<16>()?), value.u16()?, 0, 0);
        let len = value.u8()?.into();
        let connection_id = ConnectionId::new(value.bytes(len)?).filter(|id| !id.is_empty());
        let connection_id = connection_id.ok_or(Invalid("a preferred address with an id of no or more than 20 bytes"))?;
        let reset_token = reset_token(value)?;
        Ok(PreferredAddress {
            // A server without an address of that family sends zeros.
            v4: Some(v4).filter(|v4| !v4.ip().is_unspecified() && v4.port() != 0),
            v6: Some(v6).filter(|v6| !v6.ip().is_unspecified() && v6.port() != 0),
            connection_id,
            reset_token,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let v4 = self.v4.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let v6 = self.v6.unwrap_or(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        let mut out = Vec::with_capacity(4 + 2 + 16 + 2 + 1 + self.connection_id.len() + ResetToken::LEN);
        out.extend_from_slice(&v4.ip().octets());
        out.extend_from_slice(&v4.port().to_be_bytes());
        out.extend_from_slice(&v6.ip().octets());
        out.extend_from_slice(&v6.port().to_be_bytes());
        out.push(self.connection_id.len() as u8);
        out.extend_from_slice(&self.connection_id);
        out.extend_from_slice(self.reset_token.as_bytes());
        out
    }
}

fn check(holds: bool, otherwise: &'static str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid(otherwise)) }
}

fn connection_id(value: &mut Reader<'_>) -> Result<ConnectionId, Invalid> {
    ConnectionId::new(value.rest()).ok_or(Invalid("a connection id of more than 20 bytes"))
}

fn reset_token(value: &mut Reader<'_>) -> Result<ResetToken, Invalid> {
    Ok(ResetToken::from(value.array::<{ ResetToken::LEN }>()?))
}

/// RFC 9000 section 4.6: no more streams than stream ids.
fn stream_count(value: &mut Reader<'_>) -> Result<u64, Invalid> {
    let count = value.varint()?.as_u64();
    check(count <= StreamId::MAX_STREAMS, "a limit of more than 2^60 streams")?;
    Ok(count)
}

/// Rounded up, so that a timeout which is set never becomes none.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn put(&mut self, number: VarInt, value: &[u8]) {
        self.put_varint(number);
        self.put_varint(VarInt::saturating(value.len() as u64));
        self.0.extend_from_slice(value);
    }

    fn put_integer(&mut self, parameter: Parameter, value: u64, default: u64) {
        if value != default {
            let value = VarInt::saturating(value);
            self.put_varint(parameter.to_wire());
            self.put_varint(VarInt::saturating(value.size() as u64));
            self.put_varint(value);
        }
    }

    fn put_connection_id(&mut self, parameter: Parameter, value: &Option<ConnectionId>) {
        if let Some(value) = value {
            self.put(parameter.to_wire(), value);
        }
    }

    fn put_varint(&mut self, value: VarInt) {
        let mut buf = [0; 8];
        let mut writer = Writer::new(&mut buf);
        writer.put_varint(value);
        self.0.extend_from_slice(writer.written());
    }
}
