//! Headers: the packets of RFC 9001 appendix A, round trips, and what must be dropped.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::TransportErrorCode;
use crate::id::ConnectionId;
use crate::wire::{PacketNumber, PacketType, Reader, TruncatedPacketNumber, Version, Writer};

const LOCAL_CID_LEN: usize = 8;

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn cid(hex: &str) -> ConnectionId {
    ConnectionId::new(&unhex(hex)).unwrap()
}

fn short_number(bytes: &[u8]) -> TruncatedPacketNumber {
    TruncatedPacketNumber::decode(bytes.len() as u8 - 1, &mut Reader::new(bytes)).unwrap()
}

fn only(datagram: &[u8]) -> Packet<'_> {
    let mut packets = Packets::new(datagram, LOCAL_CID_LEN);
    let packet = packets.next().unwrap().unwrap();
    assert_eq!(packets.next(), None);
    packet
}

fn only_protected(datagram: &[u8]) -> ProtectedPacket<'_> {
    match only(datagram) {
        Packet::Protected(packet) => packet,
        other => panic!("{other:?}"),
    }
}

/// RFC 9001 appendix A.2: the client's Initial, before and after header protection.
#[test]
fn client_initial_of_the_rfc() {
    let header = LongHeader {
        long_type: LongType::Initial { token: &[] },
        version: Version::V1,
        dcid: cid("8394c8f03e515708"),
        scid: ConnectionId::EMPTY,
    };
    let number = short_number(&[0, 0, 0, 2]);
    let mut buf = vec![0; 1200];
    let mut writer = Writer::new(&mut buf);
    let encoded = header.encode(number, &mut writer);
    assert_eq!(writer.position(), header.size(number));
    assert_eq!(encoded.range(), 0..22);
    encoded.set_length(&mut buf, 1162 + 16);
    assert_eq!(buf[..22], unhex("c300000001088394c8f03e5157080000449e00000002"));
    let plain = buf[..22].to_vec();

    let sealed = unhex("d1b1c98dd7689fb8ec11d242b123dc9b");
    buf[22..38].copy_from_slice(&sealed);
    assert_eq!(encoded.sample(&buf).unwrap(), sealed.as_slice());
    let mask = [0x43, 0x7b, 0x9a, 0xec, 0x36];
    encoded.protect(&mut buf, mask);
    assert_eq!(buf[..22], unhex("c000000001088394c8f03e5157080000449e7b9aec34"));

    let packet = only_protected(&buf);
    assert_eq!(packet.packet_type, PacketType::Initial);
    assert_eq!((packet.dcid, packet.scid, packet.token), (header.dcid, header.scid, &[][..]));
    assert_eq!(packet.range(), 0..1200);
    assert_eq!(packet.sample().unwrap(), sealed.as_slice());
    let mut aad = vec![0xee; 3];
    let unprotected = packet.unprotect(mask, &mut aad).unwrap();
    assert_eq!(aad, plain);
    assert_eq!(unprotected.packet_number, number);
    assert_eq!(unprotected.check_reserved_bits(), Ok(()));
    assert_eq!(packet.ciphertext(&unprotected).len(), 1178);
}

/// RFC 9001 appendix A.3: the server's Initial.
#[test]
fn server_initial_of_the_rfc() {
    let header = LongHeader {
        long_type: LongType::Initial { token: &[] },
        version: Version::V1,
        dcid: ConnectionId::EMPTY,
        scid: cid("f067a5502a4262b5"),
    };
    let mut buf = vec![0; 135];
    let encoded = header.encode(short_number(&[0, 1]), &mut Writer::new(&mut buf));
    encoded.set_length(&mut buf, 135 - encoded.range().end);
    assert_eq!(buf[..20], unhex("c1000000010008f067a5502a4262b50040750001"));
    encoded.protect(&mut buf, [0x2e, 0xc0, 0xd8, 0x35, 0x6a]);
    assert_eq!(buf[..20], unhex("cf000000010008f067a5502a4262b5004075c0d9"));
}

/// RFC 9001 appendix A.4: Retry.
#[test]
fn retry_of_the_rfc() {
    let bytes = unhex("ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba");
    let Packet::Retry(retry) = only(&bytes) else { panic!("not a Retry packet") };
    assert_eq!(retry.token, b"token");
    assert_eq!((retry.version, retry.dcid, retry.scid), (Version::V1, ConnectionId::EMPTY, cid("f067a5502a4262b5")));
    assert_eq!(retry.integrity_tag[..], unhex("04a265ba2eff4d829058fb3f0f2496ba"));
    assert_eq!(retry.without_tag, &bytes[..bytes.len() - 16]);

    let to_send = RetryToSend { version: retry.version, dcid: retry.dcid, scid: retry.scid, token: retry.token };
    let mut buf = vec![0; to_send.size()];
    to_send.encode(&mut Writer::new(&mut buf));
    assert_eq!(buf, retry.without_tag);
}

/// RFC 9369 appendix A: the same packets in version 2.
#[test]
fn packets_of_version_2() {
    let header = LongHeader {
        long_type: LongType::Initial { token: &[] },
        version: Version::V2,
        dcid: cid("8394c8f03e515708"),
        scid: ConnectionId::EMPTY,
    };
    let mut buf = vec![0; 1200];
    let encoded = header.encode(short_number(&[0, 0, 0, 2]), &mut Writer::new(&mut buf));
    encoded.set_length(&mut buf, 1162 + 16);
    assert_eq!(buf[..22], unhex("d36b3343cf088394c8f03e5157080000449e00000002"));
    encoded.protect(&mut buf, [0x94, 0xa0, 0xc9, 0x5e, 0x80]);
    assert_eq!(buf[..22], unhex("d76b3343cf088394c8f03e5157080000449ea0c95e82"));
    let packet = only_protected(&buf);
    assert_eq!((packet.packet_type, packet.version), (PacketType::Initial, Some(Version::V2)));

    let bytes = unhex("cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6");
    let Packet::Retry(retry) = only(&bytes) else { panic!("not a Retry packet") };
    assert_eq!((retry.version, retry.token), (Version::V2, &b"token"[..]));
    let to_send = RetryToSend { version: retry.version, dcid: retry.dcid, scid: retry.scid, token: retry.token };
    let mut buf = vec![0; to_send.size()];
    to_send.encode(&mut Writer::new(&mut buf));
    assert_eq!(buf, retry.without_tag);
}

/// RFC 9000 section 17.2 and RFC 9369 section 3.2: the same bits are another type in the other version.
#[test]
fn types_by_version() {
    let types = |version: Version| {
        [0xc0, 0xd0, 0xe0, 0xf0].map(|first: u8| {
            let mut bytes = [&[first][..], &version.as_u32().to_be_bytes(), &[0, 0, 0, 40]].concat();
            bytes.extend([0; 60]);
            match Packets::new(&bytes, LOCAL_CID_LEN).next() {
                Some(Ok(Packet::Protected(packet))) => Some(packet.packet_type),
                Some(Ok(Packet::Retry(_))) => None,
                other => panic!("{other:?}"),
            }
        })
    };
    use PacketType::{Handshake, Initial, ZeroRtt};
    assert_eq!(types(Version::V1), [Some(Initial), Some(ZeroRtt), Some(Handshake), None]);
    assert_eq!(types(Version::V2), [None, Some(Initial), Some(ZeroRtt), Some(Handshake)]);
}

/// RFC 9001 appendix A.5: a short header without a connection id.
#[test]
fn short_header_of_the_rfc() {
    let header = ShortHeader { dcid: ConnectionId::EMPTY, spin: false, key_phase: false };
    let number = PacketNumber::from(654_360_564).truncate(Some(PacketNumber::from(654_360_564 - 0x4000)));
    assert_eq!(number.len(), 2);
    let number = short_number(&[0x00, 0xbf, 0xf4]);
    let mut buf = unhex("0000000065 5e5cd55c41f69080575d7999c25a5bfb".replace(' ', "").as_str());
    let encoded = header.encode(number, &mut Writer::new(&mut buf));
    assert_eq!(buf[..4], unhex("4200bff4"));
    encoded.set_length(&mut buf, 17);
    assert_eq!(encoded.sample(&buf).unwrap(), unhex("5e5cd55c41f69080575d7999c25a5bfb").as_slice());
    encoded.protect(&mut buf, [0xae, 0xfe, 0xfe, 0x7d, 0x03]);
    assert_eq!(buf, unhex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb"));
    assert_eq!(number.expand(Some(PacketNumber::from(654_360_563))), Some(PacketNumber::from(654_360_564)));
}

/// RFC 9000 section 17.2.5.2: a Retry packet without a token or a whole tag is dropped.
#[test]
fn short_retry_is_dropped() {
    let prefix = unhex("ff000000010008f067a5502a4262b5");
    for extra in 0..=16 {
        let bytes = [&prefix[..], &vec![7; extra]].concat();
        let mut packets = Packets::new(&bytes, LOCAL_CID_LEN);
        assert_eq!(packets.next(), Some(Err(HeaderError::Retry)), "{extra}");
        assert_eq!(packets.next(), None);
    }
    let bytes = [&prefix[..], &[7; 17]].concat();
    assert!(matches!(only(&bytes), Packet::Retry(retry) if retry.token == [7]));
}

/// RFC 9000 section 17.2: reserved bits are an error, in both forms, and of the opened packet only.
#[test]
fn reserved_bits_are_a_violation() {
    for (first, reserved) in [(0x40, 0x08), (0x40, 0x10), (0xc0, 0x04), (0xc0, 0x08), (0xe0, 0x0c)] {
        let body = if first & 0x80 != 0 { unhex("0000000100000040200000") } else { vec![0; 8] };
        let mut bytes = [&[first | reserved][..], &body, &[0; 40]].concat();
        if first == 0xe0 {
            // A Handshake packet has no token: its length comes a byte earlier.
            bytes.remove(7);
        }
        let mut packets = Packets::new(&bytes, LOCAL_CID_LEN);
        let Some(Ok(Packet::Protected(packet))) = packets.next() else { panic!("{first:#x}") };
        let header = packet.unprotect([0; 5], &mut Vec::new()).unwrap();
        let error = header.check_reserved_bits().unwrap_err();
        assert_eq!(error.code, TransportErrorCode::PROTOCOL_VIOLATION);
        // Bits outside the reserved ones are none of its business.
        let header = packet.unprotect([reserved; 5], &mut Vec::new()).unwrap();
        assert_eq!(header.check_reserved_bits(), Ok(()));
    }
}

/// RFC 9287 section 3: who declares that it takes any value takes packets whose fixed bit is zero.
#[test]
fn the_fixed_bit_has_any_value() {
    let mut long = vec![0x80, 0, 0, 0, 1, 8];
    long.extend([7; 8]);
    long.extend([0, 0, 20]);
    long.extend([0; 20]);
    let short = [0x3f; 40];
    for (bytes, packet_type) in [(&long[..], PacketType::Initial), (&short[..], PacketType::OneRtt)] {
        match Packets::new(bytes, LOCAL_CID_LEN).next() {
            Some(Ok(Packet::Protected(packet))) => assert_eq!(packet.packet_type, packet_type),
            other => panic!("{other:?}"),
        }
    }
}

/// RFC 9000 section 17.2: ids of more than 20 bytes are dropped in the versions we speak, but version negotiation answers any length.
#[test]
fn long_ids_are_for_other_versions() {
    for len in [0, 1, 7, 8, 20, 21, 255] {
        for long_one_is_source in [false, true] {
            for version in [1u32, 0x6b33_43cf, 0xff00_001d, 0x1a2a_3a4a] {
                let long = vec![0x55; len];
                let (dcid, scid) = if long_one_is_source { (&[][..], &long[..]) } else { (&long[..], &[][..]) };
                // An Initial packet, by the type bits of each.
                let mut bytes = vec![if version == Version::V2.as_u32() { 0xd0 } else { 0xc0 }];
                bytes.extend(version.to_be_bytes());
                bytes.push(dcid.len() as u8);
                bytes.extend(dcid);
                bytes.push(scid.len() as u8);
                bytes.extend(scid);
                bytes.extend([0, 20]);
                bytes.extend([0; 20]);
                let first = Packets::new(&bytes, LOCAL_CID_LEN).next().unwrap();
                match (version, len) {
                    (1 | 0x6b33_43cf, 21..) => assert_eq!(first, Err(HeaderError::ConnectionIdTooLong)),
                    (1 | 0x6b33_43cf, _) => assert!(matches!(first, Ok(Packet::Protected(packet)) if *packet.dcid == *dcid)),
                    _ => {
                        let version = Version::from_u32(version);
                        assert_eq!(first, Ok(Packet::Unsupported(UnsupportedVersion { version, dcid, scid })));
                        check_answer(dcid, scid);
                    }
                }
            }
        }
    }
}

/// RFC 8999 section 6: the answer mirrors the ids and lists versions.
fn check_answer(dcid: &[u8], scid: &[u8]) {
    let grease = Version::from_u32(0xaaba_0a1a);
    let versions = &[Version::V2, Version::V1];
    let answer = VersionNegotiationToSend { dcid: scid, scid: dcid, versions, grease, unused: 0x15 };
    let mut buf = vec![0; answer.size()];
    let mut writer = Writer::new(&mut buf);
    answer.encode(&mut writer);
    assert_eq!(writer.remaining(), 0);
    assert_eq!(buf[..5], [0xd5, 0, 0, 0, 0]);
    let Packet::VersionNegotiation(received) = only(&buf) else { panic!("not an answer") };
    assert_eq!((received.dcid, received.scid), (scid, dcid));
    assert_eq!(received.versions().collect::<Vec<_>>(), [Version::V2, Version::V1, grease]);
}

#[test]
fn version_list_must_be_whole_and_not_empty() {
    let prefix = unhex("80000000000000");
    for extra in 0..=9 {
        let bytes = [&prefix[..], &vec![1; extra]].concat();
        let first = Packets::new(&bytes, LOCAL_CID_LEN).next().unwrap();
        assert_eq!(first.is_ok(), matches!(extra, 4 | 8), "{extra}");
    }
}

/// RFC 9000 section 12.2: packets behind each other; the length of each says where the next starts.
#[test]
fn coalesced_packets() {
    let token = [9; 70];
    let ids = (cid("0102030405060708"), cid("a0a1"));
    let long = |long_type| LongHeader { long_type, version: Version::V1, dcid: ids.0, scid: ids.1 };
    let headers = [long(LongType::Initial { token: &token }), long(LongType::ZeroRtt), long(LongType::Handshake)];
    let mut buf = vec![0x77; 1500];
    let mut end = 0;
    let mut ends = vec![];
    for (size, header) in headers.iter().enumerate() {
        let mut writer = Writer::new(&mut buf[end..]);
        let encoded = header.encode(short_number(&[1, 2, 3]), &mut writer);
        encoded.set_length(&mut buf[end..], 40 + size);
        end += encoded.range().end + 40 + size;
        ends.push(end);
    }
    let short = ShortHeader { dcid: ids.0, spin: true, key_phase: true };
    short.encode(short_number(&[5]), &mut Writer::new(&mut buf[end..]));
    ends.push(1500);

    let mut start = 0;
    let types = [PacketType::Initial, PacketType::ZeroRtt, PacketType::Handshake, PacketType::OneRtt];
    let packets: Vec<_> = Packets::new(&buf, LOCAL_CID_LEN).collect::<Result<_, _>>().unwrap();
    assert_eq!(packets.len(), 4);
    for ((packet, packet_type), end) in packets.iter().zip(types).zip(ends) {
        let Packet::Protected(packet) = packet else { panic!("{packet:?}") };
        assert_eq!((packet.packet_type, packet.dcid), (packet_type, ids.0));
        assert_eq!(packet.scid, if packet_type.is_long() { ids.1 } else { ConnectionId::EMPTY });
        assert_eq!(packet.token, if packet_type == PacketType::Initial { &token[..] } else { &[] });
        assert_eq!(packet.range(), start..end);
        assert_eq!(packet.bytes(), &buf[start..end]);
        start = end;
    }
    let Packet::Protected(last) = &packets[3] else { panic!("{packets:?}") };
    let header = last.unprotect([0; 5], &mut Vec::new()).unwrap();
    assert!(header.spin() && header.key_phase());
    assert_eq!(header.packet_number, short_number(&[5]));
}

#[test]
fn a_length_past_the_end_is_dropped() {
    for length in ["4021", "8000ffff", "ffffffffffffffff", "c000000000000021"] {
        let bytes = [unhex("e1000000010000"), unhex(length), vec![0; 32]].concat();
        assert_eq!(Packets::new(&bytes, LOCAL_CID_LEN).next(), Some(Err(HeaderError::Length)), "{length}");
    }
}

/// RFC 9001 section 5.4.2: a packet without room for a sample is dropped, and so never unprotected.
#[test]
fn short_packets_have_no_sample() {
    for len in 0..40 {
        let bytes = [unhex("e1000000010000"), vec![len], vec![0; len.into()]].concat();
        let packet = only_protected(&bytes);
        assert_eq!(packet.sample().is_some(), len >= 20);
        assert_eq!(packet.unprotect([0; 5], &mut Vec::new()).is_some(), len >= 2);
        let bytes = [vec![0x40; LOCAL_CID_LEN + 1], vec![0; len.into()]].concat();
        assert_eq!(only_protected(&bytes).sample().is_some(), len >= 20);
    }
}

proptest! {
    #[test]
    fn long_header_round_trip(
        kind in 0..3,
        version in prop::sample::select(Version::SUPPORTED),
        dcid in vec(any::<u8>(), 0..=20),
        scid in vec(any::<u8>(), 0..=20),
        token in vec(any::<u8>(), 0..200),
        number in vec(any::<u8>(), 1..=4),
        mask in any::<[u8; 5]>(),
        sealed_len in 20usize..1000,
    ) {
        let long_type = match kind {
            0 => LongType::Initial { token: &token },
            1 => LongType::ZeroRtt,
            _ => LongType::Handshake,
        };
        let header = LongHeader {
            long_type,
            version,
            dcid: ConnectionId::new(&dcid).unwrap(),
            scid: ConnectionId::new(&scid).unwrap(),
        };
        let number = short_number(&number);
        let mut buf = vec![0; header.size(number) + sealed_len];
        let mut writer = Writer::new(&mut buf);
        let encoded = header.encode(number, &mut writer);
        prop_assert_eq!(writer.remaining(), sealed_len);
        encoded.set_length(&mut buf, sealed_len);
        let plain = buf[encoded.range()].to_vec();
        encoded.protect(&mut buf, mask);

        let packet = only_protected(&buf);
        prop_assert_eq!(packet.packet_type, long_type.packet_type());
        prop_assert_eq!((packet.version, packet.dcid, packet.scid), (Some(version), header.dcid, header.scid));
        prop_assert_eq!(packet.token, if kind == 0 { &token[..] } else { &[] });
        let mut aad = Vec::new();
        let unprotected = packet.unprotect(mask, &mut aad).unwrap();
        prop_assert_eq!(aad, plain);
        prop_assert_eq!(unprotected.packet_number, number);
        // A datagram cut anywhere holds no packet.
        for cut in 1..buf.len() {
            prop_assert!(Packets::new(&buf[..cut], LOCAL_CID_LEN).next().unwrap().is_err());
        }
    }

    #[test]
    fn short_header_round_trip(
        dcid in any::<[u8; LOCAL_CID_LEN]>(),
        spin in any::<bool>(),
        key_phase in any::<bool>(),
        number in vec(any::<u8>(), 1..=4),
        mask in any::<[u8; 5]>(),
    ) {
        let header = ShortHeader { dcid: ConnectionId::new(&dcid).unwrap(), spin, key_phase };
        let number = short_number(&number);
        let mut buf = vec![0; header.size(number)];
        let encoded = header.encode(number, &mut Writer::new(&mut buf));
        encoded.protect(&mut buf, mask);
        let packet = only_protected(&buf);
        prop_assert_eq!((packet.packet_type, packet.dcid), (PacketType::OneRtt, header.dcid));
        let unprotected = packet.unprotect(mask, &mut Vec::new()).unwrap();
        prop_assert_eq!((unprotected.spin(), unprotected.key_phase()), (spin, key_phase));
        prop_assert_eq!(unprotected.packet_number, number);
        for cut in 1..=LOCAL_CID_LEN {
            prop_assert_eq!(Packets::new(&buf[..cut], LOCAL_CID_LEN).next(), Some(Err(HeaderError::Truncated)));
        }
    }

    #[test]
    fn any_datagram_is_walked_to_its_end(
        mut datagram in vec(any::<u8>(), 0..300),
        first in 0xc0u8..,
        version_one in any::<bool>(),
        mask in any::<[u8; 5]>(),
    ) {
        if version_one && datagram.len() > 8 {
            datagram[..8].copy_from_slice(&[first, 0, 0, 0, 1, 1, 1, 1]);
        }
        let mut end = 0;
        for packet in Packets::new(&datagram, LOCAL_CID_LEN) {
            if let Ok(Packet::Protected(packet)) = packet {
                prop_assert_eq!(packet.range().start, end);
                prop_assert!(packet.range().end > end);
                end = packet.range().end;
                let _ = packet.unprotect(mask, &mut Vec::new());
            }
        }
        prop_assert!(end <= datagram.len());
    }
}
