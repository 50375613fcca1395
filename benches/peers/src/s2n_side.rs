//! s2n-quic's part, on rustls: a server or a client on a tokio runtime of one thread.
//!
//! It only does full handshakes, and a server's configured tickets never go out. s2n-quic drops rustls' session when the handshake is complete
//! (`should_discard_session`, which s2n-quic-rustls 0.91 leaves at its default), and does so before it asks the server's session for more to
//! send, and before a client's session has read what comes after the handshake (`process_post_handshake_message`, which does nothing): there
//! is no ticket to come again with, whatever rustls' configuration says. On s2n-tls instead it resumes, under a feature that is called
//! unstable (aws/s2n-quic issue 2099); that would compare another TLS library, and none of them has 0-RTT.

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
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
    ensure!(task.kind != Kind::Resumed, "s2n-quic does not resume on rustls: it drops the TLS session before a ticket is sent or read");
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
    let tls = s2n_tls::Client::from(rustls_side::client_config(task, &Arc::default())?);
    let client = runtime.block_on(async {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        Client::builder().with_tls(tls)?.with_io(address)?.start().map_err(|error| anyhow!("{error}"))
    })?;
    answer(|count| Ok(Batch { handshakes: run_slots(&runtime, &client, server, count)?, ..Batch::default() }))
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
