//! Transport parameters: round trips, known bytes, and what must be refused.

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

const REFUSED: Result<TransportParameters, TransportErrorCode> = Err(TransportErrorCode::TRANSPORT_PARAMETER_ERROR);

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
    let encoded = expected.encode(&mut Noise::new(1));
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
            assert_eq!(decode(&one(number, &varint(least - 1))), REFUSED, "{number:#x}");
        }
        if most < VarInt::MAX.as_u64() {
            assert_eq!(decode(&one(number, &varint(most + 1))), REFUSED, "{number:#x}");
            assert_eq!(decode(&one(number, &[0xff; 8])), REFUSED, "{number:#x}");
        }
    }
}

/// A value must fill its length: every parameter empty, one byte short, one byte long.
#[test]
fn lengths_are_exact() {
    let integers = [0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0e, 0x20];
    for number in integers {
        let good = if number == 0x03 { vec![0x45, 0xc0] } else { vec![0x40, 10] };
        for sender in [Side::Client, Side::Server] {
            assert!(TransportParameters::decode(&one(number, &good), sender).is_ok());
            for bad in [&[][..], &good[..1], &[&good[..], &[0]].concat()] {
                let error = TransportParameters::decode(&one(number, bad), sender).unwrap_err();
                assert_eq!(error.code, TransportErrorCode::TRANSPORT_PARAMETER_ERROR, "{number:#x} {bad:?}");
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
    for number in [0x00, 0x01, 0x04, 0x0c, 0x0f, 0x10, 0x20, 0x21, 27] {
        let parameter = one(number, if number == 0x0c { &[] } else { &[7] });
        assert!(decode(&parameter).is_ok(), "{number:#x}");
        let between = one(0x05, &[3]);
        assert_eq!(decode(&[&parameter[..], &between, &parameter].concat()), REFUSED, "{number:#x}");
    }
    // The same number in a longer encoding is the same parameter.
    assert_eq!(decode(&[4, 1, 7, 0x40, 4, 1, 7]), REFUSED);
}

/// RFC 9000 section 18.2.
#[test]
fn clients_may_not_send_what_servers_send() {
    let preferred = preferred_bytes(4);
    for (number, value) in [(0x00, &[1; 8][..]), (0x02, &[1; 16]), (0x0d, &preferred), (0x10, &[1; 8])] {
        let bytes = one(number, value);
        assert!(TransportParameters::decode(&bytes, Side::Server).is_ok(), "{number:#x}");
        let error = TransportParameters::decode(&bytes, Side::Client).unwrap_err();
        assert_eq!(error.code, TransportErrorCode::TRANSPORT_PARAMETER_ERROR, "{number:#x}");
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
    let address = decode(&one(0x0d, &good)).unwrap().preferred_address.unwrap();
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
    let short = TransportParameters { max_idle_timeout: Some(Duration::from_nanos(1)), ..Default::default() };
    let bytes = short.encode(&mut Noise::new(0));
    assert_eq!(decode(&bytes).unwrap().max_idle_timeout, Some(Duration::from_millis(1)));
    // RFC 9000 section 18.2: zero is none.
    assert_eq!(decode(&one(0x01, &[0])).unwrap().max_idle_timeout, None);
}

fn any_id() -> impl Strategy<Value = Option<ConnectionId>> {
    option::of(vec(any::<u8>(), 0..=20).prop_map(|bytes| ConnectionId::new(&bytes).unwrap()))
}

fn any_preferred_address() -> impl Strategy<Value = PreferredAddress> {
    let v4 = option::of((1u32.., 1u16..).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port)));
    let v6 = option::of((1u128.., 1u16..).prop_map(|(ip, port)| SocketAddrV6::new(ip.into(), port, 0, 0)));
    (v4, v6, vec(any::<u8>(), 1..=20), any::<[u8; 16]>()).prop_map(|(v4, v6, id, token)| PreferredAddress {
        v4,
        v6,
        connection_id: ConnectionId::new(&id).unwrap(),
        reset_token: token.into(),
    })
}

fn any_integer() -> impl Strategy<Value = u64> {
    (0u64..1 << 62, 0u32..62).prop_map(|(value, shift)| value >> shift)
}

fn any_version() -> impl Strategy<Value = crate::wire::Version> {
    (1u32..).prop_map(crate::wire::Version::from_u32)
}

fn any_parameters() -> impl Strategy<Value = TransportParameters> {
    let ids = (any_id(), any_id(), any_id());
    let tokens = (option::of(any::<[u8; 16]>()), option::of(any_preferred_address()));
    let data = (any_integer(), any_integer(), any_integer(), any_integer());
    let streams = (0u64..=1 << 60, 0u64..=1 << 60);
    let times = (any_integer(), 0u8..=20, 0u64..1 << 14, any_integer());
    let rest = (1200u64..1 << 62, any::<bool>(), 2u64..1 << 62, any::<bool>());
    let versions = option::of((any_version(), vec(any_version(), 0..4)));
    let versions = versions.prop_map(|versions| versions.map(|(chosen, available)| VersionInformation { chosen, available }));
    (ids, tokens, data, streams, times, rest, versions).prop_map(|(ids, tokens, data, streams, times, rest, versions)| {
        TransportParameters {
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
            max_idle_timeout: Some(Duration::from_millis(times.0)).filter(|timeout| !timeout.is_zero()),
            ack_delay_exponent: times.1,
            max_ack_delay: Duration::from_millis(times.2),
            max_udp_payload_size: rest.0,
            disable_active_migration: rest.1,
            active_connection_id_limit: rest.2,
            max_datagram_frame_size: times.3,
            version_information: versions,
            grease_quic_bit: rest.3,
        }
    })
}

proptest! {
    #[test]
    fn round_trip_and_truncation(parameters in any_parameters(), seed in any::<u64>()) {
        let bytes = parameters.encode(&mut Noise::new(seed));
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
