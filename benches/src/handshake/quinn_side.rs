//! quinn's part: a server or a client on a tokio runtime of one thread.

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use quinn::{ClientConfig, Endpoint, ServerConfig, VarInt, crypto::rustls as quinn_tls};
use tokio::{runtime::Runtime, task::LocalSet};

use super::{
    protocol::{Batch, IN_FLIGHT, Kind, LINGER, SERVER_NAME, Task, answer, serve},
    rustls_side,
};

pub(super) fn run(task: &Task) -> Result<()> {
    match task.port {
        None => server(task),
        Some(port) => client(task, (Ipv4Addr::LOCALHOST, port).into()),
    }
}

fn server(task: &Task) -> Result<()> {
    let tls = rustls_side::server_config(task)?;
    let config = ServerConfig::with_crypto(Arc::new(quinn_tls::QuicServerConfig::try_from(tls)?));
    let (port, ports) = std::sync::mpsc::channel();
    // The main thread reads standard input, and counts for nothing.
    let listening = std::thread::Builder::new().name("quinn".to_owned()).spawn(move || {
        runtime()?.block_on(async {
            let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
            port.send(endpoint.local_addr()?.port())?;
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connection.closed().await;
                    }
                });
            }
            anyhow::Ok(())
        })
    })?;
    let Ok(port) = ports.recv() else {
        return listening.join().map_err(|_| anyhow::anyhow!("quinn's server panicked"))?;
    };
    serve(port)
}

fn client(task: &Task, server: SocketAddr) -> Result<()> {
    let runtime = runtime()?;
    let endpoint = runtime.block_on(async { Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()) })?;
    let verified: Arc<AtomicU64> = Arc::default();
    let tls = rustls_side::client_config(task, &verified)?;
    let config = ClientConfig::new(Arc::new(quinn_tls::QuicClientConfig::try_from(tls)?));
    let connect = |count| {
        let before = verified.load(Ordering::Relaxed);
        let batch = run_slots(&runtime, &endpoint, &config, server, task.kind, count)?;
        Ok(Batch { resumed: batch.handshakes - (verified.load(Ordering::Relaxed) - before), ..batch })
    };
    if task.kind != Kind::Full {
        connect(IN_FLIGHT as u64).context("the connections that bring the first tickets")?;
    }
    answer(connect)
}

/// Makes `count` connections, each slot one after the other.
fn run_slots(runtime: &Runtime, endpoint: &Endpoint, config: &ClientConfig, server: SocketAddr, kind: Kind, count: u64) -> Result<Batch> {
    let left = Rc::new(Cell::new(count));
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (endpoint, config, left) = (endpoint.clone(), config.clone(), Rc::clone(&left));
            local.spawn_local(async move {
                let mut batch = Batch::default();
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    batch.early += u64::from(connect(&endpoint, config.clone(), server, kind).await?);
                    batch.handshakes += 1;
                }
                anyhow::Ok(batch)
            })
        })
        .collect();
    local.block_on(runtime, async {
        let mut all = Batch::default();
        for task in tasks {
            let batch = task.await??;
            all.handshakes += batch.handshakes;
            all.early += batch.early;
        }
        Ok(all)
    })
}

/// One connection: whether its early data was accepted.
async fn connect(endpoint: &Endpoint, config: ClientConfig, server: SocketAddr, kind: Kind) -> Result<bool> {
    let mut connecting = endpoint.connect_with(config, server, SERVER_NAME)?;
    let mut early = false;
    let connection = if kind == Kind::ZeroRtt {
        match connecting.into_0rtt() {
            Ok((connection, accepted)) => {
                let mut stream = connection.open_uni().await?;
                stream.write_all(&[1]).await?;
                stream.finish()?;
                early = accepted.await;
                connection
            }
            Err(full) => {
                connecting = full;
                connecting.await?
            }
        }
    } else {
        connecting.await?
    };
    tokio::time::sleep(LINGER).await;
    connection.close(VarInt::from_u32(0), b"");
    Ok(early)
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a tokio runtime")
}
