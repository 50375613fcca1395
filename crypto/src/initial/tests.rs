//! Known answers of RFC 9001, A.1 to A.4; those of RFC 9369 are in `tests/version_2.rs`.

use super::{initial_keys, retry_integrity_tag, secrets};
use crate::keys::tests::{derived, hex, protect};
use crate::{CipherSuite, Side, Version, constant_time_eq};

mod version_2;

/// The client's destination connection id throughout the appendix.
const DCID: [u8; 8] = 0x8394_c8f0_3e51_5708_u64.to_be_bytes();

/// RFC 9001, A.1.
#[test]
fn secrets_and_keys() {
    let [client, server] = secrets(Version::V1, &DCID);
    assert_eq!(client.as_bytes(), hex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"));
    assert_eq!(server.as_bytes(), hex("3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b"));

    let [key, iv, hp] = derived(Version::V1, CipherSuite::Aes128GcmSha256, &client);
    assert_eq!(key, hex("1f369613dd76d5467730efcbe3b1a22d"));
    assert_eq!(iv, hex("fa044b2f42a3fd3b46fb255c"));
    assert_eq!(hp, hex("9f50449e04a0e810283a1e9933adedd2"));

    let [key, iv, hp] = derived(Version::V1, CipherSuite::Aes128GcmSha256, &server);
    assert_eq!(key, hex("cf3a5331653c364c88f0f379b6067e37"));
    assert_eq!(iv, hex("0ac1493ca1905853b0bba03e"));
    assert_eq!(hp, hex("c206b8d9b9f0f37644430b490eeaa314"));
}

/// RFC 9001, A.2.
#[test]
fn client_initial() {
    let mut payload = hex(CLIENT_CRYPTO_FRAME);
    payload.resize(1162, 0);
    let header = hex("c300000001088394c8f03e5157080000449e00000002");
    let client = initial_keys(Version::V1, &DCID, Side::Client);
    let sample = hex("d1b1c98dd7689fb8ec11d242b123dc9b").try_into().unwrap();
    assert_eq!(client.local.header.mask(&sample), *hex("437b9aec36"));
    let packet = protect(&client.local.packet, &client.local.header, 2, &header, 4, &payload);
    assert_eq!(packet, hex(CLIENT_INITIAL));

    let server = initial_keys(Version::V1, &DCID, Side::Server);
    assert_eq!(server.remote.header.mask(&sample), *hex("437b9aec36"));
    let mut out = [0; 1162];
    assert_eq!(server.remote.packet.open(2, &header, &packet[header.len()..], &mut out), Ok(1162));
    assert_eq!(out, *payload);
}

/// RFC 9001, A.3.
#[test]
fn server_initial() {
    let payload = hex(SERVER_PAYLOAD);
    let header = hex("c1000000010008f067a5502a4262b50040750001");
    let server = initial_keys(Version::V1, &DCID, Side::Server);
    let sample = hex("2cd0991cd25b0aac406a5816b6394100").try_into().unwrap();
    assert_eq!(server.local.header.mask(&sample), *hex("2ec0d8356a"));
    let packet = protect(&server.local.packet, &server.local.header, 1, &header, 2, &payload);
    assert_eq!(packet, hex(SERVER_INITIAL));

    let client = initial_keys(Version::V1, &DCID, Side::Client);
    let mut out = [0; 128];
    let len = client.remote.packet.open(1, &header, &packet[header.len()..], &mut out).unwrap();
    assert_eq!(out[..len], payload);
}

/// RFC 9001, A.4.
#[test]
fn retry() {
    let packet = hex(RETRY);
    let (body, tag) = packet.split_at(packet.len() - 16);
    assert!(constant_time_eq(&retry_integrity_tag(Version::V1, &DCID, body), tag));
    // RFC 9001, 5.8: the tag proves that the Retry answers the client's own packet.
    assert!(!constant_time_eq(&retry_integrity_tag(Version::V1, &DCID[..7], body), tag));
    assert!(!constant_time_eq(&retry_integrity_tag(Version::V1, &DCID, &body[1..]), tag));
}

#[test]
fn ids_of_any_length_have_keys_of_their_own() {
    let mask = |id: &[u8]| initial_keys(Version::V1, id, Side::Client).local.header.mask(&[0; 16]);
    assert_ne!(mask(&[]), mask(&[0]));
    assert_ne!(mask(&[0; 19]), mask(&[0; 20]));
}

const CLIENT_CRYPTO_FRAME: &str = "\
    060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c0000000\
    10000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e0005000501000000000033\
    00260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e040305\
    0306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff08011001048000\
    75300901100f088394c8f03e51570806048000ffff";
const CLIENT_INITIAL: &str = "\
    c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c0bab7df5976d27cd\
    449f63300099f3991c260ec4c60d17b31f8429157bb35a1282a643a8d2262cad67500cadb8e7378c8eb7539ec4d4905fed1bee1fc8aafba1\
    7c750e2c7ace01e6005f80fcb7df621230c83711b39343fa028cea7f7fb5ff89eac2308249a02252155e2347b63d58c5457afd84d05dfffd\
    b20392844ae812154682e9cf012f9021a6f0be17ddd0c2084dce25ff9b06cde535d0f920a2db1bf362c23e596d11a4f5a6cf3948838a3aec\
    4e15daf8500a6ef69ec4e3feb6b1d98e610ac8b7ec3faf6ad760b7bad1db4ba3485e8a94dc250ae3fdb41ed15fb6a8e5eba0fc3dd60bc8e3\
    0c5c4287e53805db059ae0648db2f64264ed5e39be2e20d82df566da8dd5998ccabdae053060ae6c7b4378e846d29f37ed7b4ea9ec5d82e7\
    961b7f25a9323851f681d582363aa5f89937f5a67258bf63ad6f1a0b1d96dbd4faddfcefc5266ba6611722395c906556be52afe3f565636a\
    d1b17d508b73d8743eeb524be22b3dcbc2c7468d54119c7468449a13d8e3b95811a198f3491de3e7fe942b330407abf82a4ed7c1b311663a\
    c69890f4157015853d91e923037c227a33cdd5ec281ca3f79c44546b9d90ca00f064c99e3dd97911d39fe9c5d0b23a229a234cb36186c481\
    9e8b9c5927726632291d6a418211cc2962e20fe47feb3edf330f2c603a9d48c0fcb5699dbfe5896425c5bac4aee82e57a85aaf4e2513e4f0\
    5796b07ba2ee47d80506f8d2c25e50fd14de71e6c418559302f939b0e1abd576f279c4b2e0feb85c1f28ff18f58891ffef132eef2fa09346\
    aee33c28eb130ff28f5b766953334113211996d20011a198e3fc433f9f2541010ae17c1bf202580f6047472fb36857fe843b19f5984009dd\
    c324044e847a4f4a0ab34f719595de37252d6235365e9b84392b061085349d73203a4a13e96f5432ec0fd4a1ee65accdd5e3904df54c1da5\
    10b0ff20dcc0c77fcb2c0e0eb605cb0504db87632cf3d8b4dae6e705769d1de354270123cb11450efc60ac47683d7b8d0f811365565fd98c\
    4c8eb936bcab8d069fc33bd801b03adea2e1fbc5aa463d08ca19896d2bf59a071b851e6c239052172f296bfb5e72404790a2181014f3b94a\
    4e97d117b438130368cc39dbb2d198065ae3986547926cd2162f40a29f0c3c8745c0f50fba3852e566d44575c29d39a03f0cda721984b6f4\
    40591f355e12d439ff150aab7613499dbd49adabc8676eef023b15b65bfc5ca06948109f23f350db82123535eb8a7433bdabcb909271a6ec\
    bcb58b936a88cd4e8f2e6ff5800175f113253d8fa9ca8885c2f552e657dc603f252e1a8e308f76f0be79e2fb8f5d5fbbe2e30ecadd220723\
    c8c0aea8078cdfcb3868263ff8f0940054da48781893a7e49ad5aff4af300cd804a6b6279ab3ff3afb64491c85194aab760d58a606654f9f\
    4400e8b38591356fbf6425aca26dc85244259ff2b19c41b9f96f3ca9ec1dde434da7d2d392b905ddf3d1f9af93d1af5950bd493f5aa731b4\
    056df31bd267b6b90a079831aaf579be0a39013137aac6d404f518cfd46840647e78bfe706ca4cf5e9c5453e9f7cfd2b8b4c8d169a44e55c\
    88d4a9a7f9474241e221af44860018ab0856972e194cd934";
const SERVER_PAYLOAD: &str = "\
    02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a1200130100002e003300\
    24001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00020304";
const SERVER_INITIAL: &str = "\
    cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf7\
    3c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f\
    58891850abbdca3d20398c276456cbc42158407dd074ee";
const RETRY: &str = "\
    ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba";
