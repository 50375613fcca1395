//! Weald's part: a server or a client on a runtime of one worker.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use weald_crypto::{Certificates, CipherSuite, CryptoPool, NamedGroup, PrivateKey, Tickets};
use weald_quic::{ClientConfig, EarlyData, Endpoint, EndpointConfig, ServerConfig, VarInt};
use weald_runtime::Runtime;

use super::protocol::{ALPN, Batch, Group, IN_FLIGHT, Kind, LINGER, SERVER_NAME, Task, answer, serve};

pub(super) fn run(task: &Task, threads: Option<usize>) -> Result<()> {
    match task.port {
        None => server(task, threads),
        Some(port) => client(task, (Ipv4Addr::LOCALHOST, port).into()),
    }
}

/// What a server of `task` is to be, with `groups`.
pub(super) fn server_config(task: &Task, groups: &[Group]) -> Result<ServerConfig> {
    let chain = Certificates::from_der([task.read("certificate.der")?]);
    let tls = weald_crypto::ServerConfig::builder()
        .alpn([ALPN])
        .groups(groups.iter().copied().map(named))
        .cipher_suites([CipherSuite::Aes128GcmSha256])
        .certificate(chain, PrivateKey::from_der(task.read("key.der")?)?)
        .early_data(task.kind == Kind::ZeroRtt);
    let tls = match task.tickets {
        0 => tls.without_tickets(),
        count => tls.tickets(Tickets::new().count(count.into())),
    };
    Ok(ServerConfig::new(tls.build()?))
}

/// `threads`: for handshakes, if it is not to be as it is for everyone.
fn server(task: &Task, threads: Option<usize>) -> Result<()> {
    let config = server_config(task, &[task.group])?;
    let shared = threads.map_or_else(EndpointConfig::new, |threads| EndpointConfig::new().crypto_pool(CryptoPool::new(threads)));
    let runtime = Runtime::builder().name("server").workers(1).build()?;
    let endpoint = runtime.run(|| Endpoint::server_with(&shared, config, (Ipv4Addr::LOCALHOST, 0).into()))?;
    let port = endpoint.local_addr()?.port();
    drop(runtime.handle().spawn(move || {
        while let Some(connection) = endpoint.accept() {
            drop(weald_runtime::spawn(move || connection.closed()));
        }
    }));
    serve(port)
}

fn client(task: &Task, server: SocketAddr) -> Result<()> {
    let runtime = Runtime::builder().name("client").workers(1).build()?;
    let endpoint = runtime.run(|| Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()))?;
    // A store keeps a few tickets of a server, so that each slot has one of its own.
    let slots = (0..IN_FLIGHT).map(|_| client_config(task)).collect::<Result<Vec<_>>>()?;
    let connect = |count| runtime.run(|| run_slots(&endpoint, &slots, server, task.kind, count));
    if task.kind != Kind::Full {
        connect(IN_FLIGHT as u64).context("the connections that bring the first tickets")?;
    }
    answer(connect)
}

/// Makes `count` connections, each slot one after the other.
fn run_slots(endpoint: &Endpoint, slots: &[ClientConfig], server: SocketAddr, kind: Kind, count: u64) -> Result<Batch> {
    let left = AtomicU64::new(count);
    weald_runtime::scope(|scope| {
        let running: Vec<_> = slots
            .iter()
            .map(|config| {
                scope.spawn(|| {
                    let mut batch = Batch::default();
                    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                        connect(endpoint, config, server, kind, &mut batch)?;
                    }
                    anyhow::Ok(batch)
                })
            })
            .collect();
        let mut all = Batch::default();
        for slot in running {
            let batch = slot.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            all.handshakes += batch.handshakes;
            all.resumed += batch.resumed;
            all.early += batch.early;
        }
        Ok(all)
    })
}

fn connect(endpoint: &Endpoint, config: &ClientConfig, server: SocketAddr, kind: Kind, batch: &mut Batch) -> Result<()> {
    let connection = if kind == Kind::ZeroRtt {
        let connection = endpoint.connect_0rtt_with(config.clone(), server, SERVER_NAME)?;
        if connection.early_data() == EarlyData::Offered {
            let mut stream = connection.open_uni()?;
            stream.write_all(&[1])?;
            stream.finish()?;
        }
        let early = connection.wait_handshake()?;
        batch.early += u64::from(early == EarlyData::Accepted);
        connection
    } else {
        endpoint.connect_with(config.clone(), server, SERVER_NAME)?
    };
    batch.handshakes += 1;
    batch.resumed += u64::from(connection.handshake().resumed);
    weald_runtime::sleep(LINGER);
    connection.close(VarInt::from_u32(0), b"");
    Ok(())
}

/// What a client of `task` is to be.
pub(super) fn client_config(task: &Task) -> Result<ClientConfig> {
    let tls = weald_crypto::ClientConfig::builder()
        .alpn([ALPN])
        .groups([named(task.group)])
        .cipher_suites([CipherSuite::Aes128GcmSha256])
        .roots(Certificates::from_der([task.read("certificate.der")?]));
    let tls = if task.kind == Kind::Full { tls.without_sessions() } else { tls };
    Ok(ClientConfig::new(tls.build()?))
}

fn named(group: Group) -> NamedGroup {
    match group {
        Group::X25519 => NamedGroup::X25519,
        Group::X25519MlKem768 => NamedGroup::X25519MlKem768,
    }
}
