//! Who disturbs: clients that handshake all at once, and first packets of clients that never go on.

use std::{
    collections::HashSet,
    io::BufRead,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use weald_quic::{ClientConfig, ConnectError, ConnectionError, Endpoint, VarInt};
use weald_runtime::{
    Runtime,
    net::{RecvBatch, SendBatch, Transmit, UdpSocketOptions},
    sleep, spawn,
    time::Instant,
};

use super::{
    super::{
        protocol::{Group, SERVER_NAME},
        weald_side::client_config,
    },
    Noised,
    sides::{Place, say, task},
};

/// First packets that are made before, each under an id of its own, and sent again and again: from so many sockets in turn, that none comes
/// twice before its handshake is given up.
const PACKETS: usize = 4001;
const SOCKETS: usize = 256;
/// Clients that make first packets at once.
const MAKERS: usize = 250;
/// How often the flood looks what is due: bursts are as short as a sleep is.
const TICK: Duration = Duration::from_micros(200);
/// What is due for longer is left out: a burst is another attack.
const LATEST: Duration = Duration::from_millis(5);
/// Nobody reads what comes back.
const UNREAD: usize = 4096;

/// Clients at once, with the group that clients prefer, whose first flight takes two packets.
pub(super) fn crowd(folder: &str, port: u16, clients: usize, place: Place) -> Result<()> {
    place.take()?;
    let config = client_config(&task(folder, Group::X25519MlKem768))?;
    let server: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let runtime = Runtime::builder().name("crowd").workers(1).build()?;
    let endpoint = runtime.run(|| Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()))?;
    until_the_end(&runtime, move |is_over| {
        let mut noised = Noised::default();
        let mut taken = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let round: Vec<_> = (0..clients)
                .map(|_| {
                    let (endpoint, config) = (endpoint.clone(), config.clone());
                    spawn(move || {
                        let begin = Instant::now();
                        let connected = endpoint.connect_with(config, server, SERVER_NAME);
                        (connected.map(|connection| connection.close(VarInt::from_u32(0), b"")), begin.elapsed())
                    })
                })
                .collect();
            for client in round {
                match client.join().map_err(|_| anyhow::anyhow!("a client panicked"))? {
                    (Ok(()), time) => taken.push(time.as_secs_f64() * 1000.0),
                    (Err(ConnectError::Connection(ConnectionError::ConnectionClosed(_))), _) => noised.refused += 1,
                    (Err(_), _) => noised.failed += 1,
                }
            }
        }
        taken.sort_by(f64::total_cmp);
        noised.done = taken.len() as u64;
        noised.median = taken.get(taken.len() / 2).copied().unwrap_or_default();
        noised.slowest = taken.last().copied().unwrap_or_default();
        Ok(noised)
    })
}

/// First packets at `rate` a second; to a socket that nobody reads if `port` is zero.
pub(super) fn flood(folder: &str, port: u16, rate: f64, place: Place) -> Result<()> {
    place.take()?;
    let config = client_config(&task(folder, Group::X25519))?;
    let runtime = Runtime::builder().name("flood").workers(1).build()?;
    let (packets, sockets, deaf) = runtime.run(|| {
        let sockets: Vec<_> =
            (0..SOCKETS).map(|_| UdpSocketOptions::default().receive_buffer(UNREAD).bind(ANY)).collect::<Result<_, _>>()?;
        anyhow::Ok((first_packets(&config)?, sockets, UdpSocketOptions::default().receive_buffer(UNREAD).bind(ANY)?))
    })?;
    let server = if port == 0 { deaf.local_addr()? } else { (Ipv4Addr::LOCALHOST, port).into() };
    until_the_end(&runtime, move |is_over| {
        let mut batch = SendBatch::new();
        let (mut sent, mut bursts) = (0, 0);
        let mut due = 0.0_f64;
        let begin = Instant::now();
        while !is_over.load(Ordering::Relaxed) {
            let now = begin.elapsed().as_secs_f64() * rate;
            due = due.max(now - LATEST.as_secs_f64() * rate);
            while due < now {
                let packet: &Vec<u8> = &packets[sent % PACKETS];
                let Some(room) = batch.reserve().get_mut(..packet.len()) else { break };
                room.copy_from_slice(packet);
                batch.commit(Transmit { remote: server, local: None, ecn: None, len: packet.len(), segment_size: None });
                due += 1.0;
                sent += 1;
            }
            // A full buffer drops it.
            let _ = sockets[bursts % SOCKETS].send_batch(&mut batch);
            bursts += 1;
            sleep(TICK);
        }
        // The deaf one is there until now.
        drop(deaf);
        Ok(Noised { done: sent as u64, ..Noised::default() })
    })
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// First packets of clients whose server does not answer.
fn first_packets(config: &ClientConfig) -> Result<Vec<Vec<u8>>> {
    let silent = UdpSocketOptions::default().receive_buffer(4 << 20).bind(ANY)?;
    let server = silent.local_addr()?;
    let mut received = RecvBatch::new();
    let (mut ids, mut packets) = (HashSet::new(), Vec::with_capacity(PACKETS));
    while packets.len() < PACKETS {
        let endpoint = Endpoint::client(ANY)?;
        for _ in 0..MAKERS {
            let (endpoint, config) = (endpoint.clone(), config.clone());
            // It fails when the endpoint is closed.
            drop(spawn(move || drop(endpoint.connect_with(config, server, SERVER_NAME))));
        }
        let before = packets.len();
        while packets.len() < before + MAKERS && packets.len() < PACKETS {
            silent.recv_batch(&mut received)?;
            for packet in received.iter().flat_map(|train| train.segments()) {
                // RFC 8999 5.1: the destination id and its length follow the version.
                let id = packet.get(5).and_then(|len| packet.get(6..6 + usize::from(*len))).context("a packet without an id")?;
                // What a client sends again has the same one.
                if packets.len() < PACKETS && ids.insert(id.to_vec()) {
                    packets.push(packet.to_vec());
                }
            }
        }
        endpoint.close(VarInt::from_u32(0), b"");
    }
    Ok(packets)
}

/// Says that it is ready; makes the noise from the first line on until the second, and tells what it did.
fn until_the_end(runtime: &Runtime, noise: impl FnOnce(&AtomicBool) -> Result<Noised> + Send + 'static) -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    println!("ready");
    lines.next().context("nobody listens")??;
    let is_over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&is_over);
    let making = runtime.handle().spawn(move || {
        let begin = Instant::now();
        let mut noised = noise(&ended)?;
        noised.elapsed = begin.elapsed().as_secs_f64();
        anyhow::Ok(noised)
    });
    lines.next().context("nobody listens any more")??;
    is_over.store(true, Ordering::Relaxed);
    say(&making.join().map_err(|_| anyhow::anyhow!("the noise panicked"))??)
}
