//! Honest clients: they ask for a small file over HTTP/3 all along, and say how long that took and what failed.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use http::Uri;
use weald_http3::{Client, Config};
use weald_quic::{ClientConfig, Endpoint};
use weald_runtime::{JoinHandle, sleep, spawn, time::Instant};

use crate::server::SMALL;

/// Connections that live all along.
const CONNECTIONS: usize = 4;
/// What a client does between two requests.
const PAUSE: Duration = Duration::from_millis(2);
/// How often somebody new comes.
const ARRIVALS: Duration = Duration::from_millis(100);
/// How long a server may take to start.
const START: Duration = Duration::from_secs(10);

/// What clients have measured in some time.
pub struct Measured {
    /// Nanoseconds of requests on connections that are there.
    pub requests: Histogram<u64>,
    /// Nanoseconds of handshakes, each with its first request.
    pub arrivals: Histogram<u64>,
    /// What failed, and why at first.
    pub failures: u64,
    pub failure: Option<String>,
}

impl Measured {
    fn new() -> Self {
        // Up to a minute, to three digits.
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds are in order");
        Self { requests: histogram(), arrivals: histogram(), failures: 0, failure: None }
    }

    fn note(&mut self, of: impl FnOnce(&mut Self) -> &mut Histogram<u64>, taken: Result<Duration>) {
        match taken {
            Ok(taken) => of(self).saturating_record(taken.as_nanos() as u64),
            Err(error) => {
                self.failures += 1;
                self.failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}

/// Clients on coroutines of their own.
pub struct Clients {
    measured: Arc<Mutex<Measured>>,
    is_over: Arc<AtomicBool>,
    working: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them once the server answers.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let tls = weald_crypto::ClientConfig::builder().alpn([weald_http3::ALPN]).dangerous_skip_verification().build()?;
        let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
        let config = ClientConfig::new(tls);
        let deadline = Instant::now() + START;
        while let Err(error) = arrive(&endpoint, &config, server) {
            ensure!(Instant::now() < deadline, "the server does not answer: {error:#}");
            sleep(PAUSE);
        }
        let measured = Arc::new(Mutex::new(Measured::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut working = Vec::new();
        for _ in 0..CONNECTIONS {
            let (measured, is_over, endpoint, config) = (measured.clone(), is_over.clone(), endpoint.clone(), config.clone());
            working.push(spawn(move || {
                let mut client = None;
                while !is_over.load(Ordering::Relaxed) {
                    let taken = request_on(&mut client, &endpoint, &config, server);
                    lock(&measured).note(|measured| &mut measured.requests, taken);
                    sleep(PAUSE);
                }
            }));
        }
        let (arriving, ended) = (measured.clone(), is_over.clone());
        working.push(spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let taken = arrive(&endpoint, &config, server);
                lock(&arriving).note(|measured| &mut measured.arrivals, taken);
                sleep(ARRIVALS);
            }
        }));
        Ok(Self { measured, is_over, working })
    }

    /// What was measured since the last time.
    pub fn take(&self) -> Measured {
        std::mem::replace(&mut *lock(&self.measured), Measured::new())
    }

    /// Ends them all.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.working {
            let _ = client.join();
        }
    }
}

/// One request on `client`, or on a new one if that has failed before.
fn request_on(client: &mut Option<Client>, endpoint: &Endpoint, config: &ClientConfig, server: SocketAddr) -> Result<Duration> {
    let connected = match client.take() {
        Some(client) => client,
        None => connect(endpoint, config, server)?,
    };
    let taken = request(&connected)?;
    *client = Some(connected);
    Ok(taken)
}

/// A new connection and its first request.
fn arrive(endpoint: &Endpoint, config: &ClientConfig, server: SocketAddr) -> Result<Duration> {
    let begin = Instant::now();
    let client = connect(endpoint, config, server)?;
    request(&client)?;
    let taken = begin.elapsed();
    client.close();
    Ok(taken)
}

fn connect(endpoint: &Endpoint, config: &ClientConfig, server: SocketAddr) -> Result<Client> {
    let connection = endpoint.connect_with(config.clone(), server, "localhost").context("connecting")?;
    Ok(Client::new(connection, Config::default())?)
}

fn request(client: &Client) -> Result<Duration> {
    let uri: Uri = format!("https://localhost{SMALL}").parse()?;
    let begin = Instant::now();
    let mut response = client.get(uri).context("a request")?;
    let body = response.body_mut().read_to_end(1024).context("a response")?;
    ensure!(body.len() == 64, "a response of {} bytes", body.len());
    Ok(begin.elapsed())
}

fn lock(measured: &Mutex<Measured>) -> std::sync::MutexGuard<'_, Measured> {
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}
