//! Hosts to fetch from, and how one of their addresses is connected to.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use url::Url;
use weald_quic::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint};

/// URLs of one host and port.
pub(super) struct Origin {
    pub(super) host: String,
    /// The one that answered last, then in the resolver's order of preference; at least one.
    addresses: Vec<SocketAddr>,
    pub(super) urls: Vec<Url>,
}

/// How long one address may keep silent before the next is tried beside it (RFC 8305 section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// The origins of URLs, with their hosts' addresses.
///
/// # Errors
/// A URL that cannot be fetched over QUIC, or a host that cannot be found.
pub(super) fn origins(urls: &[Url]) -> Result<Vec<Origin>> {
    let mut origins = BTreeMap::new();
    for url in urls {
        ensure!(url.scheme() == "https", "{url}: only https:// URLs can be fetched over QUIC");
        let host = url.host_str().with_context(|| format!("{url} names no host"))?;
        let port = url.port_or_known_default().unwrap_or(443);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        origins.entry((host, port)).or_insert_with(Vec::new).push(url.clone());
    }
    let resolve = |((host, port), urls): ((String, u16), Vec<Url>)| {
        let addresses = (host.as_str(), port).to_socket_addrs().with_context(|| format!("cannot find the host {host}; check its name"))?;
        let addresses: Vec<SocketAddr> = addresses.collect();
        ensure!(!addresses.is_empty(), "the host {host} has no address");
        Ok(Origin { host, addresses, urls })
    };
    origins.into_iter().map(resolve).collect()
}

impl Origin {
    /// Connects to the first of the host's addresses that answers, and remembers it: another attempt would take the token that the
    /// server gave for the next connection.
    ///
    /// # Errors
    /// No address answers as it should.
    ///
    /// With `early_data`, a server that was connected to before is not waited for.
    pub(super) fn connect(&mut self, config: &ClientConfig, early_data: bool) -> Result<(Endpoint, Connection)> {
        let (attempts, results) = weald_runtime::channel::unbounded();
        for (turn, &address) in (0..).zip(&self.addresses) {
            let (attempts, config, host) = (attempts.clone(), config.clone(), self.host.clone());
            drop(weald_runtime::spawn(move || {
                weald_runtime::sleep(NEXT_ADDRESS_AFTER * turn);
                // Nobody listens any more once another address has answered; the connection then closes with its last handle.
                let _ = attempts.send((address, connect_to(config, address, &host, early_data)));
            }));
        }
        drop(attempts);
        let mut failures = Vec::new();
        while let Ok((address, attempt)) = results.recv() {
            match attempt {
                Ok(connected) => {
                    self.addresses.sort_by_key(|&other| other != address);
                    return Ok(connected);
                }
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        bail!("cannot connect to {}: {}", self.host, failures.join("; "))
    }
}

fn connect_to(config: ClientConfig, address: SocketAddr, host: &str, early_data: bool) -> Result<(Endpoint, Connection)> {
    let local: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let endpoint = Endpoint::client(SocketAddr::new(local, 0)).context("cannot open a UDP socket")?;
    let connected =
        if early_data { endpoint.connect_0rtt_with(config, address, host) } else { endpoint.connect_with(config, address, host) };
    let connection = connected.map_err(|error| anyhow!("at {address}: {error}{}", next_step(&error)))?;
    Ok((endpoint, connection))
}

/// What a person can do about a failed handshake.
fn next_step(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Connection(ConnectionError::TimedOut) => {
            "; nothing answered: check the host and the port, that a QUIC server runs there, and that UDP may pass"
        }
        // bad_certificate to certificate_unknown, unknown_ca, and decrypt_error for a wrong signature (RFC 8446 section 6).
        ConnectError::Connection(ConnectionError::Transport(error)) if matches!(error.code.alert(), Some(42..=46 | 48 | 51)) => {
            "; trust the server's root with --ca FILE, or believe whoever answers with --insecure"
        }
        ConnectError::Connection(ConnectionError::ConnectionClosed(close)) if close.code.alert() == Some(120) => {
            "; the server speaks no protocol that was offered"
        }
        _ => "",
    }
}
