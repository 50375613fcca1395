//! Initial packets of nobody, at a fixed rate: each begins a handshake that never goes on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use weald_quic::codec::Crypto;
use weald_runtime::{net::UdpSocket, sleep, spawn, time::Instant};
use weald_tests::attacker::{Attacker, Kind, Stage};

use crate::Noised;

/// Packets that are made before, and sent again and again: from so many sockets in turn, that none comes twice before its handshake is
/// given up.
const PACKETS: usize = 4001;
const SOCKETS: usize = 256;
/// How often it looks what is due: bursts are as short as a sleep is.
const TICK: Duration = Duration::from_micros(200);

/// Goes on until standard input ends.
pub fn run(server: SocketAddr, rate: u32) -> Result<()> {
    let packets = packets(server)?;
    let sockets: Vec<_> = (0..SOCKETS).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let is_over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&is_over);
    let flood = spawn(move || {
        let (mut sent, mut due) = (0_usize, 0.0_f64);
        let (begin, rate) = (Instant::now(), f64::from(rate));
        while !ended.load(Ordering::Relaxed) {
            let now = begin.elapsed().as_secs_f64() * rate;
            // What was missed by more than five milliseconds is left out: a burst is another attack.
            due = due.max(now - rate / 200.0);
            while due < now {
                // A full buffer drops it.
                let _ = sockets[sent % SOCKETS].send_to(&packets[sent % PACKETS], server);
                due += 1.0;
                sent += 1;
            }
            sleep(TICK);
        }
        sent as u64
    });
    println!("ready");
    crate::wait_for_the_end();
    is_over.store(true, Ordering::Relaxed);
    let done = flood.join().map_err(|error| anyhow::anyhow!("{error}"))?;
    println!("{}", serde_json::to_string(&Noised { done, ..Noised::default() })?);
    std::process::exit(0);
}

/// Of one ClientHello, each under an id of its own.
fn packets(server: SocketAddr) -> Result<Vec<Vec<u8>>> {
    let (told, hello) = std::sync::mpsc::channel();
    let tls = weald_crypto::ClientConfig::builder().alpn([crate::ALPN]).dangerous_skip_verification();
    let tls = tls.groups([weald_crypto::NamedGroup::X25519]).build()?;
    let mut client = Attacker::client(1, "127.0.0.1:0".parse()?, server).client_tls(tls).crypto(move |_, message| {
        let _ = told.send(message.clone());
    });
    client.handshake(Stage::HelloSent);
    let hello = hello.recv()?;
    let mut rng = fastrand::Rng::with_seed(u64::from(std::process::id()));
    let mut packets = Vec::with_capacity(PACKETS);
    for _ in 0..PACKETS {
        // The ClientHello names the source id: another would end the handshake before TLS begins.
        client = client.destination(&rng.u64(..).to_be_bytes());
        packets.push(client.packet(Kind::Initial).number(0).frame(&Crypto { offset: 0, data: &hello }).build());
    }
    Ok(packets)
}
