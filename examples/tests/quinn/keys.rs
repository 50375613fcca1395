//! Key updates in the middle of transfers, begun by either end or by both (RFC 9001 section 6).
//!
//! Quinn sends pieces and weald sends them back, until weald has counted enough updates. A third update at an end means that the
//! other one has answered the first two: none begins before the last is acknowledged under its own keys.

use std::time::Duration;

use weald_quic::ReadExactError;

use crate::sides::{Identity, weald_accepts, weald_connects};

const PIECE: usize = 200_000;
const UPDATES: u64 = 3;

/// Which ends begin updates.
#[derive(Clone, Copy)]
struct Begins {
    weald: bool,
    quinn: bool,
}

/// Sends back each piece, with the updates so far in its first bytes, and gives the number at the end.
fn weald_part(connection: &weald_quic::Connection, begins: Begins) -> u64 {
    let (mut send, mut receive) = connection.accept_bi().unwrap();
    let mut piece = vec![0; PIECE];
    loop {
        match receive.read_exact(&mut piece) {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) => break,
            Err(error) => panic!("{error}"),
        }
        piece[..8].copy_from_slice(&connection.stats().key_updates.to_be_bytes());
        let (first, second) = piece.split_at(PIECE / 2);
        send.write_all(first).unwrap();
        if begins.weald {
            connection.update_keys();
        }
        send.write_all(second).unwrap();
    }
    send.finish().unwrap();
    connection.closed();
    connection.stats().key_updates
}

/// Sends pieces until the answers tell of enough updates, and says how many pieces it took.
async fn quinn_part(connection: quinn::Connection, begins: Begins) -> u64 {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let mut answer = vec![0; PIECE];
    for round in 1.. {
        let mut piece = vec![0; PIECE];
        blake3::Hasher::new().update(&u64::to_be_bytes(round)).finalize_xof().fill(&mut piece);
        let (first, second) = piece.split_at(PIECE / 2);
        send.write_all(first).await.unwrap();
        if begins.quinn {
            // It does nothing while quinn still holds the keys before the last update's, which it does for three probe timeouts.
            connection.force_key_update();
        }
        send.write_all(second).await.unwrap();
        receive.read_exact(&mut answer).await.unwrap();
        assert!(answer[8..] == piece[8..], "round {round} came back altered");
        if u64::from_be_bytes(answer[..8].try_into().unwrap()) >= UPDATES {
            send.finish().unwrap();
            assert_eq!(receive.read(&mut answer).await.unwrap(), None);
            connection.close(0_u32.into(), b"");
            return round;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("the loop has no end but its return")
}

fn update(begins: Begins) {
    let identity = Identity::new();
    let (server, client) = (identity.weald_server(), identity.quinn_client());
    let (updates, rounds) = weald_accepts(server, client, move |weald| weald_part(&weald, begins), move |quinn| quinn_part(quinn, begins));
    // An update at most for each time that one was asked for.
    let asked = rounds * (u64::from(begins.weald) + u64::from(begins.quinn));
    assert!((UPDATES..=asked).contains(&updates), "a weald server counts {updates} updates in {rounds} rounds");

    let (client, server) = (identity.weald_client(), identity.quinn_server());
    let (updates, rounds) = weald_connects(client, server, move |weald| weald_part(&weald, begins), move |quinn| quinn_part(quinn, begins));
    let asked = rounds * (u64::from(begins.weald) + u64::from(begins.quinn));
    assert!((UPDATES..=asked).contains(&updates), "a weald client counts {updates} updates in {rounds} rounds");
}

#[test]
fn weald_updates_keys() {
    update(Begins { weald: true, quinn: false });
}

#[test]
fn quinn_updates_keys() {
    update(Begins { weald: false, quinn: true });
}

#[test]
fn both_update_keys() {
    update(Begins { weald: true, quinn: true });
}
