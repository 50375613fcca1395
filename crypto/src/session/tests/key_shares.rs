//! Key shares of the hybrid group that are none (draft-ietf-tls-ecdhe-mlkem, 4.1).

use super::*;

/// The entry's front: its group, and the length of the share.
const OF_CLIENT: [u8; 4] = [0x11, 0xec, 0x04, 0xc0];
const OF_SERVER: [u8; 4] = [0x11, 0xec, 0x04, 0x60];

/// Runs a handshake in which the key share of `side` is changed on its way.
fn failure_with(side: Side, front: [u8; 4], change: fn(&mut [u8])) -> (Side, TlsError) {
    let hybrid = [NamedGroup::X25519MlKem768];
    let (client, server) = configs(|client| client.groups(hybrid), |server| server.groups(hybrid));
    let (mut client, mut server) = sessions(&client, &server);
    let mut changed = 0;
    let result = run(&mut client, &mut server, |from, mut flight| {
        if from == side && changed == 0 {
            let bytes = &mut flight[0].1;
            let at = bytes.windows(4).position(|window| window == front).unwrap() + 4;
            let len = usize::from(front[2]) << 8 | usize::from(front[3]);
            change(&mut bytes[at..at + len]);
            changed += 1;
        }
        flight
    });
    assert_eq!(changed, 1);
    result.map(drop).unwrap_err()
}

#[test]
fn an_encapsulation_key_past_the_modulus() {
    let (side, error) = failure_with(Side::Client, OF_CLIENT, |share| share[..3].fill(0xff));
    assert_eq!((side, error.alert), (Side::Server, ILLEGAL_PARAMETER), "{error}");
}

#[test]
fn an_x25519_share_of_zeros() {
    for (side, front) in [(Side::Client, OF_CLIENT), (Side::Server, OF_SERVER)] {
        let (at, error) = failure_with(side, front, |share| share.iter_mut().rev().take(32).for_each(|byte| *byte = 0));
        assert_ne!(at, side);
        assert_eq!(error.alert, ILLEGAL_PARAMETER, "{error}");
    }
}
