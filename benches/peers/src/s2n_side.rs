//! s2n-quic's part, on rustls: a server or a client on a tokio runtime of one thread.

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, anyhow, ensure};
use s2n_quic::{Client, Server, client::Connect, provider::tls::rustls as s2n_tls};
use tokio::{runtime::Runtime, task::LocalSet};

use crate::{
    protocol::{Batch, IN_FLIGHT, Kind, LINGER, SERVER_NAME, Task, answer, serve},
    rustls_side,
};

pub fn run(task: &Task) -> Result<()> {
    ensure!(task.kind != Kind::ZeroRtt, "s2n-quic has no 0-RTT");
    match task.port {
        None => server(task),
        Some(port) => client(task, (Ipv4Addr::LOCALHOST, port).into()),
    }
}

fn server(task: &Task) -> Result<()> {
    let tls = s2n_tls::Server::from(rustls_side::server_config(task)?);
    let (port, ports) = std::sync::mpsc::channel();
    // The main thread reads standard input, and counts for nothing.
    let listening = std::thread::Builder::new().name("s2n-quic".to_owned()).spawn(move || {
        runtime()?.block_on(async {
            let address: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
            let mut server = Server::builder().with_tls(tls)?.with_io(address)?.start().map_err(|error| anyhow!("{error}"))?;
            port.send(server.local_addr()?.port())?;
            while let Some(mut connection) = server.accept().await {
                tokio::spawn(async move { while let Ok(Some(_)) = connection.accept().await {} });
            }
            anyhow::Ok(())
        })
    })?;
    let Ok(port) = ports.recv() else {
        return listening.join().map_err(|_| anyhow!("s2n-quic's server panicked"))?;
    };
    serve(port)
}

fn client(task: &Task, server: SocketAddr) -> Result<()> {
    let runtime = runtime()?;
    let verified: Arc<AtomicU64> = Arc::default();
    let tls = s2n_tls::Client::from(rustls_side::client_config(task, &verified)?);
    let client = runtime.block_on(async {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        Client::builder().with_tls(tls)?.with_io(address)?.start().map_err(|error| anyhow!("{error}"))
    })?;
    let connect = |count| {
        let before = verified.load(Ordering::Relaxed);
        let handshakes = run_slots(&runtime, &client, server, count)?;
        Ok(Batch { handshakes, resumed: handshakes - (verified.load(Ordering::Relaxed) - before), ..Batch::default() })
    };
    if task.kind != Kind::Full {
        connect(IN_FLIGHT as u64).context("the connections that bring the first tickets")?;
    }
    answer(connect)
}

/// Makes `count` connections, each slot one after the other, and says how many it made.
fn run_slots(runtime: &Runtime, client: &Client, server: SocketAddr, count: u64) -> Result<u64> {
    let left = Rc::new(Cell::new(count));
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (client, left) = (client.clone(), Rc::clone(&left));
            local.spawn_local(async move {
                let mut made = 0;
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let connection = client.connect(Connect::new(server).with_server_name(SERVER_NAME)).await?;
                    made += 1;
                    tokio::time::sleep(LINGER).await;
                    connection.close(0u32.into());
                }
                anyhow::Ok(made)
            })
        })
        .collect();
    local.block_on(runtime, async {
        let mut all = 0;
        for task in tasks {
            all += task.await??;
        }
        Ok(all)
    })
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a tokio runtime")
}
