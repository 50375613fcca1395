//! Known answers of RFC 9369, appendix A.

use super::DCID;
use crate::initial::{initial_keys, retry_integrity_tag, secrets};
use crate::keys::tests::{derived, hex, protect};
use crate::{CipherSuite, Side, Version, constant_time_eq};

/// RFC 9369, A.1.
#[test]
fn secrets_and_keys() {
    let [client, server] = secrets(Version::V2, &DCID);
    assert_eq!(client.as_bytes(), hex("14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b"));
    assert_eq!(server.as_bytes(), hex("0263db1782731bf4588e7e4d93b7463907cb8cd8200b5da55a8bd488eafc37c1"));

    let [key, iv, hp] = derived(Version::V2, CipherSuite::Aes128GcmSha256, &client);
    assert_eq!(key, hex("8b1a0bc121284290a29e0971b5cd045d"));
    assert_eq!(iv, hex("91f73e2351d8fa91660e909f"));
    assert_eq!(hp, hex("45b95e15235d6f45a6b19cbcb0294ba9"));

    let [key, iv, hp] = derived(Version::V2, CipherSuite::Aes128GcmSha256, &server);
    assert_eq!(key, hex("82db637861d55e1d011f19ea71d5d2a7"));
    assert_eq!(iv, hex("dd13c276499c0249d3310652"));
    assert_eq!(hp, hex("edf6d05c83121201b436e16877593c3a"));
}

/// RFC 9369, A.2.
#[test]
fn client_initial() {
    let mut payload = hex(CLIENT_CRYPTO_FRAME);
    payload.resize(1162, 0);
    let header = hex("d36b3343cf088394c8f03e5157080000449e00000002");
    let client = initial_keys(Version::V2, &DCID, Side::Client);
    let sample = hex("ffe67b6abcdb4298b485dd04de806071").try_into().unwrap();
    assert_eq!(client.local.header.mask(&sample), *hex("94a0c95e80"));
    let packet = protect(&client.local.packet, &client.local.header, 2, &header, 4, &payload);
    assert_eq!(packet, hex(CLIENT_INITIAL));

    let server = initial_keys(Version::V2, &DCID, Side::Server);
    let mut out = [0; 1162];
    assert_eq!(server.remote.packet.open(2, &header, &packet[header.len()..], &mut out), Ok(1162));
    assert_eq!(out, *payload);
}

/// RFC 9369, A.3.
#[test]
fn server_initial() {
    let payload = hex(SERVER_PAYLOAD);
    let header = hex("d16b3343cf0008f067a5502a4262b50040750001");
    let server = initial_keys(Version::V2, &DCID, Side::Server);
    let sample = hex("6f05d8a4398c47089698baeea26b91eb").try_into().unwrap();
    assert_eq!(server.local.header.mask(&sample), *hex("4dd92e91ea"));
    let packet = protect(&server.local.packet, &server.local.header, 1, &header, 2, &payload);
    assert_eq!(packet, hex(SERVER_INITIAL));

    let client = initial_keys(Version::V2, &DCID, Side::Client);
    let mut out = [0; 128];
    let len = client.remote.packet.open(1, &header, &packet[header.len()..], &mut out).unwrap();
    assert_eq!(out[..len], payload);
}

/// RFC 9369, A.4.
#[test]
fn retry() {
    let packet = hex(RETRY);
    let (body, tag) = packet.split_at(packet.len() - 16);
    assert!(constant_time_eq(&retry_integrity_tag(Version::V2, &DCID, body), tag));
    assert!(!constant_time_eq(&retry_integrity_tag(Version::V1, &DCID, body), tag));
    assert!(!constant_time_eq(&retry_integrity_tag(Version::V2, &DCID[..7], body), tag));
}

/// RFC 9369, 3.3.1: the packet that one version seals is no packet of the other.
#[test]
fn no_version_opens_the_others_packets() {
    for (sealed_in, opened_in) in [(Version::V1, Version::V2), (Version::V2, Version::V1)] {
        let key = |version, side| initial_keys(version, &DCID, side);
        let mut sealed = [0; 16 + 3];
        key(sealed_in, Side::Client).local.packet.seal(0, b"header", &mut [], b"abc", &mut sealed);
        let mut out = [0; 3];
        assert_eq!(key(sealed_in, Side::Server).remote.packet.open(0, b"header", &sealed, &mut out), Ok(3));
        assert!(key(opened_in, Side::Server).remote.packet.open(0, b"header", &sealed, &mut out).is_err());
    }
}

const CLIENT_CRYPTO_FRAME: &str = "\
    060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c0000000\
    10000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e0005000501000000000033\
    00260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e040305\
    0306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff08011001048000\
    75300901100f088394c8f03e51570806048000ffff";
const CLIENT_INITIAL: &str = "\
    d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071bf03dceebfa162e75d6c96058bdbfb127cdf\
    cbf903388e99ad049f9a3dd4425ae4d0992cfff18ecf0fdb5a842d09747052f17ac2053d21f57c5d250f2c4f0e0202b70785b7946e992e58\
    a59ac52dea6774d4f03b55545243cf1a12834e3f249a78d395e0d18f4d766004f1a2674802a747eaa901c3f10cda5500cb9122faa9f1df66\
    c392079a1b40f0de1c6054196a11cbea40afb6ef5253cd6818f6625efce3b6def6ba7e4b37a40f7732e093daa7d52190935b8da58976ff33\
    12ae50b187c1433c0f028edcc4c2838b6a9bfc226ca4b4530e7a4ccee1bfa2a3d396ae5a3fb512384b2fdd851f784a65e03f2c4fbe11a53c\
    7777c023462239dd6f7521a3f6c7d5dd3ec9b3f233773d4b46d23cc375eb198c63301c21801f6520bcfb7966fc49b393f0061d974a2706df\
    8c4a9449f11d7f3d2dcbb90c6b877045636e7c0c0fe4eb0f697545460c806910d2c355f1d253bc9d2452aaa549e27a1fac7cf4ed77f322e8\
    fa894b6a83810a34b361901751a6f5eb65a0326e07de7c1216ccce2d0193f958bb3850a833f7ae432b65bc5a53975c155aa4bcb4f7b2c4e5\
    4df16efaf6ddea94e2c50b4cd1dfe06017e0e9d02900cffe1935e0491d77ffb4fdf85290fdd893d577b1131a610ef6a5c32b2ee0293617a3\
    7cbb08b847741c3b8017c25ca9052ca1079d8b78aebd47876d330a30f6a8c6d61dd1ab5589329de714d19d61370f8149748c72f132f0fc99\
    f34d766c6938597040d8f9e2bb522ff99c63a344d6a2ae8aa8e51b7b90a4a806105fcbca31506c446151adfeceb51b91abfe43960977c874\
    71cf9ad4074d30e10d6a7f03c63bd5d4317f68ff325ba3bd80bf4dc8b52a0ba031758022eb025cdd770b44d6d6cf0670f4e990b22347a7db\
    848265e3e5eb72dfe8299ad7481a408322cac55786e52f633b2fb6b614eaed18d703dd84045a274ae8bfa73379661388d6991fe39b0d93de\
    bb41700b41f90a15c4d526250235ddcd6776fc77bc97e7a417ebcb31600d01e57f32162a8560cacc7e27a096d37a1a86952ec71bd89a3e9a\
    30a2a26162984d7740f81193e8238e61f6b5b984d4d3dfa033c1bb7e4f0037febf406d91c0dccf32acf423cfa1e7071010d3f270121b493c\
    e85054ef58bada42310138fe081adb04e2bd901f2f13458b3d6758158197107c14ebb193230cd1157380aa79cae1374a7c1e5bbcb80ee23e\
    06ebfde206bfb0fcbc0edc4ebec309661bdd908d532eb0c6adc38b7ca7331dce8dfce39ab71e7c32d318d136b6100671a1ae6a6600e3899f\
    31f0eed19e3417d134b90c9058f8632c798d4490da4987307cba922d61c39805d072b589bd52fdf1e86215c2d54e6670e07383a27bbffb5a\
    ddf47d66aa85a0c6f9f32e59d85a44dd5d3b22dc2be80919b490437ae4f36a0ae55edf1d0b5cb4e9a3ecabee93dfc6e38d209d0fa6536d27\
    a5d6fbb17641cde27525d61093f1b28072d111b2b4ae5f89d5974ee12e5cf7d5da4d6a31123041f33e61407e76cffcdcfd7e19ba58cf4b53\
    6f4c4938ae79324dc402894b44faf8afbab35282ab659d13c93f70412e85cb199a37ddec600545473cfb5a05e08d0b209973b2172b4d21fb\
    69745a262ccde96ba18b2faa745b6fe189cf772a9f84cbfc";
const SERVER_PAYLOAD: &str = "\
    02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a1200130100002e003300\
    24001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00020304";
const SERVER_INITIAL: &str = "\
    dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf87263017915358230035f7\
    fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2c984c707f0a0812d8cd5a6881eaf21ce\
    da98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140";
const RETRY: &str = "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6";
