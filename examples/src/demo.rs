//! `weald demo`: a server and a client over real UDP on loopback, and what that measured.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use weald_crypto::NamedGroup;
use weald_http3::{Client, Config, RecvBody, server::Responder};
use weald_quic::{ClientConfig, Connection, Endpoint, ServerConfig, TransportConfig};
use weald_runtime::{Runtime, time::Instant};

use crate::{memory, report, tls};

/// Show what the stack does on this machine: a server with a fresh certificate on loopback, and a client against it, over real UDP.
///
/// Moves --size bytes each way over HTTP/3 with a BLAKE3 hash checked at both ends, times requests one after the other, and holds idle
/// connections to see what they cost. Exits with an error if anything was wrong.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Bytes to move each way.
    #[arg(long, default_value_t = 1 << 30, value_name = "BYTES")]
    size: u64,
    /// Small requests to time, one after the other.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Idle connections to hold while memory is measured.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Results {
    handshake_us: f64,
    group: String,
    cipher_suite: String,
    bytes_each_way: u64,
    /// Hashes that both ends came to, each on its own; the demo fails where they differ.
    download_blake3: String,
    upload_blake3: String,
    download_gigabits_per_second: f64,
    upload_gigabits_per_second: f64,
    requests: u32,
    request_p50_us: f64,
    request_p99_us: f64,
    request_max_us: f64,
    idle_connections: u32,
    /// Resident memory that one idle connection added: the client's and the server's side together, TLS and sockets included.
    memory_bytes_per_connection: u64,
}

/// Name in the certificate.
const SERVER_NAME: &str = "localhost";
/// ALPN of connections that the server only holds.
const IDLE_ALPN: &[u8] = b"weald-idle";
/// The field that carries a body's hash: a trailer of downloads.
const HASH: &str = "blake3";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let identity = tls::Identity::self_signed(&[SERVER_NAME])?;
    let roots = identity.chain.clone();
    let server_config = ServerConfig::new(tls::server(identity, None, &[weald_http3::ALPN, IDLE_ALPN], &NamedGroup::ALL, None, false)?)
        .transport(transport());
    let client_config = |alpn: &[u8]| -> Result<ClientConfig> {
        Ok(ClientConfig::new(tls::client(tls::Trust::Roots(roots.clone()), None, &[alpn], &NamedGroup::ALL)?).transport(transport()))
    };
    let (http3, idle) = (client_config(weald_http3::ALPN)?, client_config(IDLE_ALPN)?);

    // Each side has cores of its own, as on two machines.
    let workers = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
    let server_runtime = Runtime::builder().name("server").workers(workers).build().context("cannot start the server's runtime")?;
    let client_runtime = Runtime::builder().name("client").workers(workers).build().context("cannot start the client's runtime")?;

    let server = server_runtime
        .run(|| Endpoint::server(server_config, (Ipv4Addr::LOCALHOST, 0).into()))
        .context("cannot open a UDP socket on loopback")?;
    let address = server.local_addr()?;
    let accepting = server.clone();
    let serving = server_runtime.handle().spawn(move || serve(&accepting));

    let results = client_runtime.run(|| -> Result<Results> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).context("cannot open a UDP socket on loopback")?;
        let connect = |config: &ClientConfig| endpoint.connect_with(config.clone(), address, SERVER_NAME).context("the handshake failed");
        // The first handshake pays for what is made once; the second is the one to look at.
        connect(&http3)?.close(0u32.into(), b"warm");
        let started = Instant::now();
        let connection = connect(&http3)?;
        let handshake = started.elapsed();
        let info = connection.handshake();

        let client = Client::new(connection, Config::default())?;
        let download = download(&client, arguments)?;
        let upload = upload(&client, arguments)?;
        let latency = request_latency(&client, arguments)?;
        client.close();
        let memory = memory_per_connection(arguments, || connect(&idle))?;

        let quantile = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Results {
            handshake_us: handshake.as_secs_f64() * 1e6,
            group: info.group.to_string(),
            cipher_suite: info.cipher_suite.to_string(),
            bytes_each_way: arguments.size,
            download_blake3: download.hash,
            upload_blake3: upload.hash,
            download_gigabits_per_second: report::gigabits_per_second(arguments.size, download.time),
            upload_gigabits_per_second: report::gigabits_per_second(arguments.size, upload.time),
            requests: arguments.requests,
            request_p50_us: quantile(0.5),
            request_p99_us: quantile(0.99),
            request_max_us: latency.max() as f64 / 1e3,
            idle_connections: arguments.idle,
            memory_bytes_per_connection: memory,
        })
    })?;
    server.close(0u32.into(), b"demo over");
    if serving.join().is_err() {
        bail!("the server ended in a panic");
    }
    print(&results, arguments.json)
}

fn transport() -> TransportConfig {
    // Loopback carries more, but this is what an Ethernet path would.
    TransportConfig::default().udp_payload(1452)
}

fn print(results: &Results, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(results)?);
        return Ok(());
    }
    let us = |us: f64| report::time(Duration::from_secs_f64(us / 1e6));
    let row = |name: &str, value: String| (name.to_owned(), value);
    let rows = [
        row("handshake", us(results.handshake_us)),
        row("key exchange", results.group.clone()),
        row("cipher suite", results.cipher_suite.clone()),
        row("moved each way, hashes equal at both ends", report::size(results.bytes_each_way)),
        row("download", format!("{:.2} Gbit/s", results.download_gigabits_per_second)),
        row("upload", format!("{:.2} Gbit/s", results.upload_gigabits_per_second)),
        row(&format!("request latency, median of {}", results.requests), us(results.request_p50_us)),
        row("request latency, 99th percentile", us(results.request_p99_us)),
        row("request latency, worst", us(results.request_max_us)),
        row(
            &format!("memory a connection, both ends, over {} idle", results.idle_connections),
            report::size(results.memory_bytes_per_connection),
        ),
    ];
    println!("{}", report::table(&rows));
    Ok(())
}

/// Accepts until the endpoint closes.
fn serve(endpoint: &Endpoint) {
    let mut idle = Vec::new();
    while let Some(connection) = endpoint.accept() {
        if connection.handshake().alpn.as_deref() == Some(IDLE_ALPN) {
            idle.push(connection);
            continue;
        }
        let quic = connection.clone();
        drop(quic.spawn(move || {
            weald_http3::server::serve_connection(connection, Config::default(), answer);
        }));
    }
}

/// `GET /N` sends N bytes and their hash as a trailer; `POST` answers with the hash of what came; anything else is a small answer.
fn answer(mut request: Request<RecvBody>, responder: Responder) -> Result<(), weald_http3::Error> {
    if request.method() == Method::POST {
        let mut hasher = blake3::Hasher::new();
        while let Some(chunk) = request.body_mut().read_chunk(usize::MAX)? {
            hasher.update(&chunk);
        }
        return responder.send_with_body(Response::new(()), hasher.finalize().to_hex().to_string());
    }
    let Some(length) = request.uri().path().trim_start_matches('/').parse().ok() else {
        return responder.send_with_body(Response::new(()), Bytes::from_static(b"hello"));
    };
    let mut body = responder.send(Response::new(()))?;
    let mut content = Content::new();
    let hash = content.pieces(length, |piece| body.write_all(piece))?;
    let mut trailers = HeaderMap::new();
    // Hexadecimal digits are a valid value.
    trailers.insert(HASH, HeaderValue::from_str(&hash).map_err(|_| weald_http3::Error::Invalid("hash"))?);
    body.finish_with_trailers(&trailers)
}

/// Bytes that differ at every offset, so that a piece lost, doubled or swapped changes the hash.
struct Content {
    block: Vec<u8>,
}

impl Content {
    fn new() -> Self {
        let mut block = vec![0; 128 * 1024];
        blake3::Hasher::new().finalize_xof().fill(&mut block);
        Self { block }
    }

    /// Gives `length` bytes piece by piece to `write`, and returns their hash.
    fn pieces<E>(&mut self, length: u64, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<String, E> {
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < length {
            self.block[..8].copy_from_slice(&offset.to_le_bytes());
            let take = usize::try_from(length - offset).unwrap_or(usize::MAX).min(self.block.len());
            hasher.update(&self.block[..take]);
            write(&self.block[..take])?;
            offset += take as u64;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// A transfer that both ends agree on.
struct Moved {
    time: Duration,
    hash: String,
}

fn download(client: &Client, arguments: &Arguments) -> Result<Moved> {
    let bar = progress(arguments, "download");
    let started = Instant::now();
    let mut response = client.get(format!("https://{SERVER_NAME}/{}", arguments.size).parse()?)?;
    let mut hasher = blake3::Hasher::new();
    let mut received = 0;
    while let Some(chunk) = response.body_mut().read_chunk(usize::MAX)? {
        hasher.update(&chunk);
        received += chunk.len() as u64;
        bar.set_position(received);
    }
    let time = started.elapsed();
    bar.finish_and_clear();
    let hash = hasher.finalize().to_hex();
    let trailers = response.body_mut().trailers()?.context("the response has no trailers")?;
    ensure!(received == arguments.size, "the download has {received} bytes instead of {}", arguments.size);
    ensure!(trailers.get(HASH).is_some_and(|sent| sent.as_bytes() == hash.as_bytes()), "the download's hash differs from the server's");
    Ok(Moved { time, hash: hash.to_string() })
}

fn upload(client: &Client, arguments: &Arguments) -> Result<Moved> {
    let bar = progress(arguments, "upload");
    let started = Instant::now();
    let request = Request::post(format!("https://{SERVER_NAME}/")).body(())?;
    let (mut body, response) = client.send(request)?;
    let hash = Content::new().pieces(arguments.size, |piece| {
        bar.inc(piece.len() as u64);
        body.write_all(piece)
    })?;
    body.finish()?;
    let mut response = response.wait()?;
    let answer = response.body_mut().read_to_end(1024)?;
    let time = started.elapsed();
    bar.finish_and_clear();
    ensure!(response.status() == StatusCode::OK, "the upload was answered with {}", response.status());
    ensure!(answer == hash.as_bytes(), "the upload's hash at the server differs from the client's");
    Ok(Moved { time, hash })
}

/// Nanoseconds from request to the end of the response, one request at a time.
fn request_latency(client: &Client, arguments: &Arguments) -> Result<Histogram<u64>> {
    let mut latency = Histogram::new(3)?;
    let uri: http::Uri = format!("https://{SERVER_NAME}/hello").parse()?;
    for _ in 0..arguments.requests {
        let started = Instant::now();
        let mut response = client.get(uri.clone())?;
        let body = response.body_mut().read_to_end(1024)?;
        latency.record(started.elapsed().as_nanos() as u64)?;
        ensure!(body == b"hello", "a small request got a wrong answer");
    }
    Ok(latency)
}

/// Opens idle connections and sees what they add to the memory of this process, which holds both ends.
fn memory_per_connection(arguments: &Arguments, connect: impl Fn() -> Result<Connection>) -> Result<u64> {
    let _warm: Vec<Connection> = (0..16).map(|_| connect()).collect::<Result<_>>()?;
    let before = memory::resident()?;
    let held: Vec<Connection> = (0..arguments.idle).map(|_| connect()).collect::<Result<_>>()?;
    let after = memory::resident()?;
    Ok(after.saturating_sub(before) / held.len() as u64)
}

fn progress(arguments: &Arguments, name: &'static str) -> ProgressBar {
    if arguments.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(arguments.size).with_message(name);
    match ProgressStyle::with_template("{msg:9} {bytes:>11} {wide_bar} {bytes_per_sec:>13} {eta:>4}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
