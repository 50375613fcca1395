//! Clients that handshake all at once, and again when all are done.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use weald_quic::{ClientConfig, Endpoint};
use weald_runtime::{spawn, time::Instant};

use crate::Noised;

/// Goes on until standard input ends.
pub fn run(server: SocketAddr, clients: usize) -> Result<()> {
    let config = ClientConfig::new(crate::tls()?);
    let is_over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&is_over);
    let rounds = spawn(move || -> Result<Noised> {
        let mut noised = Noised::default();
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        while !ended.load(Ordering::Relaxed) {
            let round: Vec<_> = (0..clients)
                .map(|_| {
                    let (endpoint, config) = (endpoint.clone(), config.clone());
                    spawn(move || {
                        let begin = Instant::now();
                        let connected = endpoint.connect_with(config, server, "localhost").is_ok();
                        (connected, begin.elapsed())
                    })
                })
                .collect();
            for client in round {
                let (connected, taken) = client.join().unwrap_or((false, Duration::ZERO));
                noised.done += u64::from(connected);
                noised.failed += u64::from(!connected);
                noised.slowest = noised.slowest.max(taken.as_secs_f64() * 1000.0);
            }
        }
        Ok(noised)
    });
    println!("ready");
    crate::wait_for_the_end();
    is_over.store(true, Ordering::Relaxed);
    let noised = rounds.join().map_err(|error| anyhow::anyhow!("{error}"))??;
    println!("{}", serde_json::to_string(&noised)?);
    std::process::exit(0);
}
