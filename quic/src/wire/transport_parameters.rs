//! Transport parameters (RFC 9000 section 18): what an endpoint declares of itself in the TLS handshake. What follows from
//! them, and whether the ids in them match the handshake's (section 7.3), is the connection's.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use crate::error::{TransportError, TransportErrorCode};
use crate::id::{ConnectionId, ResetToken};
use crate::side::Side;
use crate::stream_id::StreamId;
use crate::wire::{Reader, Truncated, VarInt, Writer};

/// What an endpoint declares. The default is what holds for parameters that are not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransportParameters {
    /// The destination id of the client's first Initial packet. Only servers send it.
    pub(crate) original_destination_connection_id: Option<ConnectionId>,
    /// How long the connection may be silent, in whole milliseconds; `None` for ever.
    pub(crate) max_idle_timeout: Option<Duration>,
    /// The token that resets the connection id of the handshake. Only servers send it.
    pub(crate) stateless_reset_token: Option<ResetToken>,
    /// The largest UDP payload that the endpoint takes: at least 1200.
    pub(crate) max_udp_payload_size: u64,
    /// Bytes that the peer may send on all streams together.
    pub(crate) initial_max_data: u64,
    /// Bytes that the peer may send on each bidirectional stream which the sender of the parameter opens.
    pub(crate) initial_max_stream_data_bidi_local: u64,
    /// Bytes that the peer may send on each bidirectional stream which the peer opens.
    pub(crate) initial_max_stream_data_bidi_remote: u64,
    /// Bytes that the peer may send on each unidirectional stream which the peer opens.
    pub(crate) initial_max_stream_data_uni: u64,
    /// Bidirectional streams that the peer may open: at most 2^60.
    pub(crate) initial_max_streams_bidi: u64,
    /// Unidirectional streams that the peer may open: at most 2^60.
    pub(crate) initial_max_streams_uni: u64,
    /// The delay in ACK frames is in units of 2^this microseconds: at most 20.
    pub(crate) ack_delay_exponent: u8,
    /// How long the endpoint holds acknowledgments back at most, in whole milliseconds: below 2^14 of them.
    pub(crate) max_ack_delay: Duration,
    /// Whether the peer must stay on its address.
    pub(crate) disable_active_migration: bool,
    /// Where the server would rather be reached. Only servers send it.
    pub(crate) preferred_address: Option<PreferredAddress>,
    /// Ids of the peer that the endpoint can hold: at least 2.
    pub(crate) active_connection_id_limit: u64,
    /// The source id of the endpoint's first Initial packet.
    pub(crate) initial_source_connection_id: Option<ConnectionId>,
    /// The source id of the Retry packet. Only servers that sent one send it.
    pub(crate) retry_source_connection_id: Option<ConnectionId>,
}

/// An address that a server asks its clients to move to (RFC 9000 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PreferredAddress {
    pub(crate) v4: Option<SocketAddrV4>,
    pub(crate) v6: Option<SocketAddrV6>,
    /// The id with sequence number 1: 1 to 20 bytes.
    pub(crate) connection_id: ConnectionId,
    pub(crate) reset_token: ResetToken,
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

/// The parameters of RFC 9000 section 18.2.
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
}

impl Parameter {
    /// All parameters; each stands at the index that is its number on the wire.
    const ALL: [Parameter; 17] = [
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
    ];

    fn from_wire(number: VarInt) -> Option<Parameter> {
        Parameter::ALL
            .get(usize::try_from(number.as_u64()).ok()?)
            .copied()
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
    pub(crate) fn decode(
        bytes: &[u8],
        sender: Side,
    ) -> Result<TransportParameters, TransportError> {
        TransportParameters::decode_all(bytes, sender).map_err(|Invalid(reason)| {
            TransportErrorCode::TRANSPORT_PARAMETER_ERROR.because(reason)
        })
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
                return Err(Invalid(
                    "a client sent a transport parameter that only servers send",
                ));
            }
            parameters.decode_one(parameter, Reader::new(value))?;
        }
        // RFC 9000 section 7.4: no parameter twice, known or not.
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Invalid("a transport parameter twice"));
        }
        Ok(parameters)
    }

    fn decode_one(&mut self, parameter: Parameter, mut value: Reader<'_>) -> Result<(), Invalid> {
        match parameter {
            Parameter::OriginalDestinationConnectionId => {
                self.original_destination_connection_id = Some(connection_id(&mut value)?);
            }
            Parameter::MaxIdleTimeout => {
                let millis = value.varint()?.as_u64();
                self.max_idle_timeout =
                    Some(Duration::from_millis(millis)).filter(|timeout| !timeout.is_zero());
            }
            Parameter::StatelessResetToken => {
                self.stateless_reset_token = Some(reset_token(&mut value)?)
            }
            Parameter::MaxUdpPayloadSize => {
                self.max_udp_payload_size = value.varint()?.as_u64();
                check(
                    self.max_udp_payload_size >= MIN_MAX_UDP_PAYLOAD_SIZE,
                    "max_udp_payload_size below 1200",
                )?;
            }
            Parameter::InitialMaxData => self.initial_max_data = value.varint()?.as_u64(),
            Parameter::InitialMaxStreamDataBidiLocal => {
                self.initial_max_stream_data_bidi_local = value.varint()?.as_u64()
            }
            Parameter::InitialMaxStreamDataBidiRemote => {
                self.initial_max_stream_data_bidi_remote = value.varint()?.as_u64()
            }
            Parameter::InitialMaxStreamDataUni => {
                self.initial_max_stream_data_uni = value.varint()?.as_u64()
            }
            Parameter::InitialMaxStreamsBidi => {
                self.initial_max_streams_bidi = stream_count(&mut value)?
            }
            Parameter::InitialMaxStreamsUni => {
                self.initial_max_streams_uni = stream_count(&mut value)?
            }
            Parameter::AckDelayExponent => {
                let exponent = value.varint()?.as_u64();
                check(
                    exponent <= MAX_ACK_DELAY_EXPONENT,
                    "ack_delay_exponent above 20",
                )?;
                self.ack_delay_exponent = exponent as u8;
            }
            Parameter::MaxAckDelay => {
                let millis = value.varint()?.as_u64();
                check(millis <= MAX_MAX_ACK_DELAY, "max_ack_delay of 2^14 or more")?;
                self.max_ack_delay = Duration::from_millis(millis);
            }
            Parameter::DisableActiveMigration => self.disable_active_migration = true,
            Parameter::PreferredAddress => {
                self.preferred_address = Some(PreferredAddress::decode(&mut value)?)
            }
            Parameter::ActiveConnectionIdLimit => {
                self.active_connection_id_limit = value.varint()?.as_u64();
                let enough = self.active_connection_id_limit >= MIN_ACTIVE_CONNECTION_ID_LIMIT;
                check(enough, "active_connection_id_limit below 2")?;
            }
            Parameter::InitialSourceConnectionId => {
                self.initial_source_connection_id = Some(connection_id(&mut value)?)
            }
            Parameter::RetrySourceConnectionId => {
                self.retry_source_connection_id = Some(connection_id(&mut value)?)
            }
        }
        check(
            value.is_empty(),
            "a transport parameter is longer than its value",
        )
    }

    /// The parameters as TLS carries them, and a reserved one that means nothing, so that peers learn to skip what they do
    /// not know (RFC 9000 section 18.1). What has its default value is left out.
    pub(crate) fn encode(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut out = Encoder(Vec::new());
        for parameter in Parameter::ALL {
            self.encode_one(parameter, &mut out);
        }
        // RFC 9000 section 18.1: 31 * N + 27. Numbers of at most two bytes are enough variety.
        let number = VarInt::from_u32(31 * rng.u32(0..500) + 27);
        let mut value = [0; 16];
        let len = rng.usize(0..=value.len());
        rng.fill(&mut value[..len]);
        out.put(number, &value[..len]);
        out.0
    }

    fn encode_one(&self, parameter: Parameter, out: &mut Encoder) {
        let default = TransportParameters::default();
        match parameter {
            Parameter::OriginalDestinationConnectionId => {
                out.put_connection_id(parameter, &self.original_destination_connection_id)
            }
            Parameter::MaxIdleTimeout => out.put_integer(
                parameter,
                whole_millis(self.max_idle_timeout.unwrap_or_default()),
                0,
            ),
            Parameter::StatelessResetToken => {
                if let Some(token) = &self.stateless_reset_token {
                    out.put(parameter.to_wire(), token.as_bytes());
                }
            }
            Parameter::MaxUdpPayloadSize => out.put_integer(
                parameter,
                self.max_udp_payload_size,
                default.max_udp_payload_size,
            ),
            Parameter::InitialMaxData => out.put_integer(parameter, self.initial_max_data, 0),
            Parameter::InitialMaxStreamDataBidiLocal => {
                out.put_integer(parameter, self.initial_max_stream_data_bidi_local, 0)
            }
            Parameter::InitialMaxStreamDataBidiRemote => {
                out.put_integer(parameter, self.initial_max_stream_data_bidi_remote, 0)
            }
            Parameter::InitialMaxStreamDataUni => {
                out.put_integer(parameter, self.initial_max_stream_data_uni, 0)
            }
            Parameter::InitialMaxStreamsBidi => {
                out.put_integer(parameter, self.initial_max_streams_bidi, 0)
            }
            Parameter::InitialMaxStreamsUni => {
                out.put_integer(parameter, self.initial_max_streams_uni, 0)
            }
            Parameter::AckDelayExponent => {
                out.put_integer(
                    parameter,
                    self.ack_delay_exponent.into(),
                    default.ack_delay_exponent.into(),
                );
            }
            Parameter::MaxAckDelay => {
                out.put_integer(
                    parameter,
                    whole_millis(self.max_ack_delay),
                    whole_millis(default.max_ack_delay),
                );
            }
            Parameter::DisableActiveMigration => {
                if self.disable_active_migration {
                    out.put(parameter.to_wire(), &[]);
                }
            }
            Parameter::PreferredAddress => {
                if let Some(address) = &self.preferred_address {
                    out.put(parameter.to_wire(), &address.encode());
                }
            }
            Parameter::ActiveConnectionIdLimit => {
                out.put_integer(
                    parameter,
                    self.active_connection_id_limit,
                    default.active_connection_id_limit,
                );
            }
            Parameter::InitialSourceConnectionId => {
                out.put_connection_id(parameter, &self.initial_source_connection_id)
            }
            Parameter::RetrySourceConnectionId => {
                out.put_connection_id(parameter, &self.retry_source_connection_id)
            }
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
        let connection_id = connection_id.ok_or(Invalid(
            "a preferred address with an id of no or more than 20 bytes",
        ))?;
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
        let v4 = self
            .v4
            .unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let v6 = self
            .v6
            .unwrap_or(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        let mut out =
            Vec::with_capacity(4 + 2 + 16 + 2 + 1 + self.connection_id.len() + ResetToken::LEN);
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
    if holds {
        Ok(())
    } else {
        Err(Invalid(otherwise))
    }
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
    check(
        count <= StreamId::MAX_STREAMS,
        "a limit of more than 2^60 streams",
    )?;
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<TransportParameters, TransportErrorCode> {
        TransportParameters::decode(bytes, Side::Server).map_err(|error| error.code)
    }

    fn one(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number, value.len() as u8], value].concat()
    }

    fn varint(value: u64) -> Vec<u8> {
        let mut buf = [0; 8];
        let mut writer = Writer::new(&mut buf);
        writer.put_varint(VarInt::saturating(value));
        writer.written().to_vec()
    }

    const REFUSED: Result<TransportParameters, TransportErrorCode> =
        Err(TransportErrorCode::TRANSPORT_PARAMETER_ERROR);

    /// RFC 9000 section 18.2.
    #[test]
    fn absent_parameters_have_their_defaults() {
        let parameters = decode(&[]).unwrap();
        assert_eq!(parameters, TransportParameters::default());
        assert_eq!(parameters.max_udp_payload_size, 65_527);
        assert_eq!(parameters.ack_delay_exponent, 3);
        assert_eq!(parameters.max_ack_delay, Duration::from_millis(25));
        assert_eq!(parameters.active_connection_id_limit, 2);
    }

    #[test]
    fn known_bytes() {
        let bytes = [
            &one(0x00, &[1, 2, 3])[..],
            &one(0x01, &[0x47, 0xd0]),
            &one(0x03, &[0x45, 0xc0]),
            &one(0x04, &[0x80, 0x10, 0, 0]),
            &one(0x08, &[0x40, 0x64]),
            &one(0x0a, &[20]),
            &one(0x0b, &[0x7f, 0xff]),
            &one(0x0c, &[]),
            &one(0x0e, &[8]),
            &one(0x0f, &[]),
            // Reserved, unknown.
            &one(27, b"anything"),
        ]
        .concat();
        let expected = TransportParameters {
            original_destination_connection_id: ConnectionId::new(&[1, 2, 3]),
            max_idle_timeout: Some(Duration::from_secs(2)),
            max_udp_payload_size: 1472,
            initial_max_data: 1 << 20,
            initial_max_streams_bidi: 100,
            ack_delay_exponent: 20,
            max_ack_delay: Duration::from_millis(16_383),
            disable_active_migration: true,
            active_connection_id_limit: 8,
            initial_source_connection_id: Some(ConnectionId::EMPTY),
            ..TransportParameters::default()
        };
        assert_eq!(decode(&bytes), Ok(expected.clone()));
        let encoded = expected.encode(&mut fastrand::Rng::with_seed(1));
        let without_reserved = bytes.len() - one(27, b"anything").len();
        assert_eq!(encoded[..without_reserved], bytes[..without_reserved]);
        assert!(encoded.len() > without_reserved);
    }

    /// RFC 9000 section 18.2: the borders of every parameter that has some, from both sides.
    #[test]
    fn limits() {
        let limits = [
            (0x03, 1200, VarInt::MAX.as_u64()),
            (0x08, 0, 1 << 60),
            (0x09, 0, 1 << 60),
            (0x0a, 0, 20),
            (0x0b, 0, (1 << 14) - 1),
            (0x0e, 2, VarInt::MAX.as_u64()),
        ];
        for (number, least, most) in limits {
            assert!(decode(&one(number, &varint(least))).is_ok(), "{number:#x}");
            assert!(decode(&one(number, &varint(most))).is_ok(), "{number:#x}");
            if least > 0 {
                assert_eq!(
                    decode(&one(number, &varint(least - 1))),
                    REFUSED,
                    "{number:#x}"
                );
            }
            if most < VarInt::MAX.as_u64() {
                assert_eq!(
                    decode(&one(number, &varint(most + 1))),
                    REFUSED,
                    "{number:#x}"
                );
                assert_eq!(decode(&one(number, &[0xff; 8])), REFUSED, "{number:#x}");
            }
        }
    }

    /// A value must fill its length: every parameter empty, one byte short, one byte long.
    #[test]
    fn lengths_are_exact() {
        let integers = [
            0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0e,
        ];
        for number in integers {
            let good = if number == 0x03 {
                vec![0x45, 0xc0]
            } else {
                vec![0x40, 10]
            };
            for sender in [Side::Client, Side::Server] {
                assert!(TransportParameters::decode(&one(number, &good), sender).is_ok());
                for bad in [&[][..], &good[..1], &[&good[..], &[0]].concat()] {
                    let error = TransportParameters::decode(&one(number, bad), sender).unwrap_err();
                    assert_eq!(
                        error.code,
                        TransportErrorCode::TRANSPORT_PARAMETER_ERROR,
                        "{number:#x} {bad:?}"
                    );
                }
            }
        }
        for number in [0x00, 0x0f, 0x10] {
            assert!(decode(&one(number, &[5; 20])).is_ok());
            assert_eq!(decode(&one(number, &[5; 21])), REFUSED);
        }
        for len in [0, 15, 17] {
            assert_eq!(decode(&one(0x02, &vec![1; len])), REFUSED);
        }
        assert_eq!(decode(&one(0x0c, &[0])), REFUSED);
    }

    /// RFC 9000 section 7.4: known and unknown alike.
    #[test]
    fn duplicates_are_refused() {
        for number in [0x00, 0x01, 0x04, 0x0c, 0x0f, 0x10, 0x21, 27] {
            let parameter = one(number, if number == 0x0c { &[] } else { &[7] });
            assert!(decode(&parameter).is_ok(), "{number:#x}");
            let between = one(0x05, &[3]);
            assert_eq!(
                decode(&[&parameter[..], &between, &parameter].concat()),
                REFUSED,
                "{number:#x}"
            );
        }
        // The same number in a longer encoding is the same parameter.
        assert_eq!(decode(&[4, 1, 7, 0x40, 4, 1, 7]), REFUSED);
    }

    /// RFC 9000 section 18.2.
    #[test]
    fn clients_may_not_send_what_servers_send() {
        let preferred = preferred_bytes(4);
        for (number, value) in [
            (0x00, &[1; 8][..]),
            (0x02, &[1; 16]),
            (0x0d, &preferred),
            (0x10, &[1; 8]),
        ] {
            let bytes = one(number, value);
            assert!(
                TransportParameters::decode(&bytes, Side::Server).is_ok(),
                "{number:#x}"
            );
            let error = TransportParameters::decode(&bytes, Side::Client).unwrap_err();
            assert_eq!(
                error.code,
                TransportErrorCode::TRANSPORT_PARAMETER_ERROR,
                "{number:#x}"
            );
        }
        assert!(TransportParameters::decode(&one(0x0f, &[1; 8]), Side::Client).is_ok());
    }

    fn preferred_bytes(cid_len: u8) -> Vec<u8> {
        let mut bytes = vec![192, 0, 2, 1, 0x11, 0x51];
        bytes.extend([0; 18]);
        bytes.push(cid_len);
        bytes.extend(vec![6; cid_len.into()]);
        bytes.extend([9; 16]);
        bytes
    }

    /// RFC 9000 section 18.2: the id is not empty; zeros are no address.
    #[test]
    fn preferred_address() {
        let good = preferred_bytes(4);
        let address = decode(&one(0x0d, &good))
            .unwrap()
            .preferred_address
            .unwrap();
        assert_eq!(address.v4, Some("192.0.2.1:4433".parse().unwrap()));
        assert_eq!(address.v6, None);
        assert_eq!(*address.connection_id, [6; 4]);
        assert_eq!(address.reset_token, ResetToken::from([9; 16]));
        for len in [0, 21, 255] {
            let bytes = preferred_bytes(len);
            let parameter = [&[0x0d][..], &varint(bytes.len() as u64), &bytes].concat();
            assert_eq!(decode(&parameter), REFUSED, "{len}");
        }
        for cut in 0..good.len() {
            assert_eq!(decode(&one(0x0d, &good[..cut])), REFUSED, "{cut}");
        }
        assert_eq!(decode(&one(0x0d, &[&good[..], &[0]].concat())), REFUSED);
    }

    #[test]
    fn a_timeout_below_a_millisecond_stays_a_timeout() {
        let short = TransportParameters {
            max_idle_timeout: Some(Duration::from_nanos(1)),
            ..Default::default()
        };
        let bytes = short.encode(&mut fastrand::Rng::with_seed(0));
        assert_eq!(
            decode(&bytes).unwrap().max_idle_timeout,
            Some(Duration::from_millis(1))
        );
        // RFC 9000 section 18.2: zero is none.
        assert_eq!(decode(&one(0x01, &[0])).unwrap().max_idle_timeout, None);
    }

    fn any_id() -> impl Strategy<Value = Option<ConnectionId>> {
        option::of(vec(any::<u8>(), 0..=20).prop_map(|bytes| ConnectionId::new(&bytes).unwrap()))
    }

    fn any_preferred_address() -> impl Strategy<Value = PreferredAddress> {
        let v4 =
            option::of((1u32.., 1u16..).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port)));
        let v6 = option::of(
            (1u128.., 1u16..).prop_map(|(ip, port)| SocketAddrV6::new(ip.into(), port, 0, 0)),
        );
        (v4, v6, vec(any::<u8>(), 1..=20), any::<[u8; 16]>()).prop_map(|(v4, v6, id, token)| {
            PreferredAddress {
                v4,
                v6,
                connection_id: ConnectionId::new(&id).unwrap(),
                reset_token: token.into(),
            }
        })
    }

    fn any_integer() -> impl Strategy<Value = u64> {
        (0u64..1 << 62, 0u32..62).prop_map(|(value, shift)| value >> shift)
    }

    fn any_parameters() -> impl Strategy<Value = TransportParameters> {
        let ids = (any_id(), any_id(), any_id());
        let tokens = (
            option::of(any::<[u8; 16]>()),
            option::of(any_preferred_address()),
        );
        let data = (any_integer(), any_integer(), any_integer(), any_integer());
        let streams = (0u64..=1 << 60, 0u64..=1 << 60);
        let times = (any_integer(), 0u8..=20, 0u64..1 << 14);
        let rest = (1200u64..1 << 62, any::<bool>(), 2u64..1 << 62);
        (ids, tokens, data, streams, times, rest).prop_map(
            |(ids, tokens, data, streams, times, rest)| TransportParameters {
                original_destination_connection_id: ids.0,
                initial_source_connection_id: ids.1,
                retry_source_connection_id: ids.2,
                stateless_reset_token: tokens.0.map(ResetToken::from),
                preferred_address: tokens.1,
                initial_max_data: data.0,
                initial_max_stream_data_bidi_local: data.1,
                initial_max_stream_data_bidi_remote: data.2,
                initial_max_stream_data_uni: data.3,
                initial_max_streams_bidi: streams.0,
                initial_max_streams_uni: streams.1,
                max_idle_timeout: Some(Duration::from_millis(times.0))
                    .filter(|timeout| !timeout.is_zero()),
                ack_delay_exponent: times.1,
                max_ack_delay: Duration::from_millis(times.2),
                max_udp_payload_size: rest.0,
                disable_active_migration: rest.1,
                active_connection_id_limit: rest.2,
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip_and_truncation(parameters in any_parameters(), seed in any::<u64>()) {
            let bytes = parameters.encode(&mut fastrand::Rng::with_seed(seed));
            prop_assert_eq!(decode(&bytes), Ok(parameters));
            let mut borders = vec![0];
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                reader.varint().unwrap();
                reader.length_prefixed().unwrap();
                borders.push(reader.position());
            }
            for cut in 0..bytes.len() {
                // Between two parameters there is nothing to notice.
                prop_assert_eq!(decode(&bytes[..cut]).is_ok(), borders.contains(&cut), "cut at {}", cut);
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let refused = decode(&bytes).err();
            prop_assert!(refused.is_none_or(|code| code == TransportErrorCode::TRANSPORT_PARAMETER_ERROR));
        }
    }
}
