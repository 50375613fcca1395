//! `weald get`: fetches URLs over HTTP/3 or hq-interop.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use url::Url;
use weald_crypto::Certificates;
use weald_http3::Client;
use weald_quic::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, VarInt};
use weald_runtime::time::Instant;

use crate::{hq, report, tls};

/// Fetch URLs over HTTP/3, or over HTTP/0.9 where the server chooses hq-interop.
///
/// URLs of one host and port share a connection and are fetched at once. The body goes to
/// standard output unless --output or --json is given. A file appears under its name once it is
/// complete; what fails leaves none. Exits with an error if any URL failed or was answered with a
/// status of 400 or more.
///
/// Examples:
///
///   weald get https://localhost:4433/file --insecure --output file
///
///   weald get https://host/a https://host/b --output downloads --json
#[derive(clap::Args)]
// Lines of the comment above are lines of --help: they stay below 96 columns.
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// What to fetch: `https://host:port/path`; without a port, 443.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Url>,
    /// A file for one URL, or a directory for several (made if it is missing). Several URLs need this or --json, with which bodies are
    /// only hashed.
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Trust the certificates in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Do not check the server's certificate: whoever answers is believed.
    #[arg(long)]
    insecure: bool,
    /// Protocol to offer; both are offered unless one is given.
    #[arg(long, value_parser = ["h3", "hq-interop"])]
    alpn: Option<String>,
    /// Print the result as one JSON object: sizes, times and the BLAKE3 hash of each body.
    #[arg(long)]
    json: bool,
    /// No progress bars.
    #[arg(long, short)]
    quiet: bool,
}

/// What `--json` prints.
#[derive(Default, Serialize)]
struct Report {
    connections: Vec<ConnectionReport>,
    transfers: Vec<Transfer>,
}

#[derive(Serialize)]
struct ConnectionReport {
    remote: SocketAddr,
    alpn: String,
    group: String,
    cipher_suite: String,
    handshake_ms: f64,
}

#[derive(Serialize)]
struct Transfer {
    url: String,
    /// `null` over hq-interop, which has none.
    status: Option<u16>,
    bytes: u64,
    blake3: String,
    seconds: f64,
    gigabits_per_second: f64,
}

/// URLs of one host and port.
struct Origin {
    host: String,
    /// In the resolver's order of preference; at least one.
    addresses: Vec<SocketAddr>,
    urls: Vec<Url>,
}

/// How long one address may keep silent before the next is tried beside it (RFC 8305 section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let origins = origins(&arguments.urls)?;
    if arguments.urls.len() > 1 {
        match &arguments.output {
            Some(directory) => prepare(directory, &arguments.urls)?,
            None => ensure!(arguments.json, "several bodies cannot share standard output; give a directory with --output"),
        }
    }
    let trust = match (&arguments.ca, arguments.insecure) {
        (Some(file), _) => tls::Trust::Roots(Certificates::from_pem_file(file)?),
        (None, true) => tls::Trust::Anybody,
        (None, false) => tls::Trust::System,
    };
    let alpn: Vec<&[u8]> = match &arguments.alpn {
        Some(one) => vec![one.as_bytes()],
        None => vec![weald_http3::ALPN, hq::ALPN],
    };
    let config = ClientConfig::new(tls::client(trust, &alpn)?);
    let (report, failures) = weald_runtime::run(|| fetch_all(&arguments, &config, origins));
    if arguments.json {
        writeln!(io::stdout(), "{}", serde_json::to_string(&report)?).context("cannot write to standard output")?;
    }
    let failures: Vec<String> = failures.iter().map(|failure| format!("{failure:#}")).collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Makes the directory for several bodies, unless two of them would have the same name in it.
fn prepare(directory: &Path, urls: &[Url]) -> Result<()> {
    let mut names = HashMap::new();
    for url in urls {
        let name = file_name(url);
        if let Some(other) = names.insert(name.clone(), url) {
            bail!("{other} and {url} would both be saved as {name}; fetch one of them by itself, into a file of another name");
        }
    }
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make the directory {}", directory.display()))
}

fn origins(urls: &[Url]) -> Result<Vec<Origin>> {
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

/// Fetches from one origin after the other; what fails keeps nothing else from being fetched.
fn fetch_all(arguments: &Arguments, config: &ClientConfig, origins: Vec<Origin>) -> (Report, Vec<anyhow::Error>) {
    let progress = MultiProgress::with_draw_target(if arguments.quiet || arguments.json || !io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    });
    let (mut report, mut failures) = (Report::default(), Vec::new());
    for origin in origins {
        if let Err(error) = fetch_origin(arguments, config, origin, &progress, &mut report, &mut failures) {
            failures.push(error);
        }
    }
    (report, failures)
}

fn fetch_origin(
    arguments: &Arguments,
    config: &ClientConfig,
    origin: Origin,
    progress: &MultiProgress,
    report: &mut Report,
    failures: &mut Vec<anyhow::Error>,
) -> Result<()> {
    let started = Instant::now();
    let (endpoint, connection) = connect(config, &origin)?;
    report.connections.push(describe(&connection, started.elapsed()));

    let fetch = Fetch::new(connection.clone())?;
    let jobs: Vec<_> = origin
        .urls
        .into_iter()
        .map(|url| {
            let (fetch, bar) = (fetch.clone(), progress.add(bar(&url)));
            let sink = Sink::open(arguments, &url);
            weald_runtime::spawn(move || transfer(&fetch, url, sink?, &bar))
        })
        .collect();
    for job in jobs {
        match job.join() {
            Ok(Ok(transfer)) => {
                if let Some(status @ 400..) = transfer.status {
                    failures.push(anyhow!("{} answered {status}", transfer.url));
                }
                report.transfers.push(transfer);
            }
            Ok(Err(error)) => failures.push(error),
            Err(error) => failures.push(anyhow!("a transfer failed inside: {error}")),
        }
    }
    connection.close(VarInt::from_u32(if fetch.is_http3() { 0x100 } else { 0 }), b"done");
    endpoint.wait_idle();
    Ok(())
}

/// Connects to the first of the host's addresses that answers.
fn connect(config: &ClientConfig, origin: &Origin) -> Result<(Endpoint, Connection)> {
    let (attempts, results) = weald_runtime::channel::unbounded();
    for (turn, &address) in (0..).zip(&origin.addresses) {
        let (attempts, config, host) = (attempts.clone(), config.clone(), origin.host.clone());
        drop(weald_runtime::spawn(move || {
            weald_runtime::sleep(NEXT_ADDRESS_AFTER * turn);
            // Nobody listens any more once another address has answered; the connection then closes with its last handle.
            let _ = attempts.send(connect_to(config, address, &host));
        }));
    }
    drop(attempts);
    let mut failures = Vec::new();
    while let Ok(attempt) = results.recv() {
        match attempt {
            Ok(connected) => return Ok(connected),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("cannot connect to {}: {}", origin.host, failures.join("; "))
}

fn connect_to(config: ClientConfig, address: SocketAddr, host: &str) -> Result<(Endpoint, Connection)> {
    let local: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let endpoint = Endpoint::client(SocketAddr::new(local, 0)).context("cannot open a UDP socket")?;
    let connection = endpoint.connect_with(config, address, host).map_err(|error| anyhow!("at {address}: {error}{}", next_step(&error)))?;
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
            "; the server speaks neither protocol that was offered"
        }
        _ => "",
    }
}

fn describe(connection: &Connection, handshake: Duration) -> ConnectionReport {
    let info = connection.handshake();
    ConnectionReport {
        remote: connection.remote_address(),
        alpn: String::from_utf8_lossy(info.alpn.as_deref().unwrap_or_default()).into_owned(),
        group: info.group.to_string(),
        cipher_suite: info.cipher_suite.to_string(),
        handshake_ms: handshake.as_secs_f64() * 1e3,
    }
}

fn bar(url: &Url) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:30!} {bytes:>11} {wide_bar} {bytes_per_sec:>13} {eta:>4}");
    let bar = ProgressBar::no_length().with_message(url.path().to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A connection with the protocol that it negotiated.
#[derive(Clone)]
enum Fetch {
    Http3(Client),
    Hq(Connection),
}

impl Fetch {
    fn new(connection: Connection) -> Result<Self> {
        if connection.handshake().alpn.as_deref() == Some(hq::ALPN) {
            Ok(Self::Hq(connection))
        } else {
            Ok(Self::Http3(Client::new(connection, weald_http3::Config::default())?))
        }
    }

    fn is_http3(&self) -> bool {
        matches!(self, Self::Http3(_))
    }
}

fn transfer(fetch: &Fetch, url: Url, mut sink: Sink, bar: &ProgressBar) -> Result<Transfer> {
    let started = Instant::now();
    let failed = || format!("fetching {url}");
    let status = match fetch {
        Fetch::Http3(client) => {
            let uri = url.as_str().parse().with_context(|| format!("{url} cannot be asked for"))?;
            let mut response = client.get(uri).with_context(failed)?;
            let length = response.headers().get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            length.inspect(|&length| bar.set_length(length));
            while let Some(chunk) = response.body_mut().read_chunk(usize::MAX).with_context(failed)? {
                sink.write(&chunk, bar)?;
            }
            Some(response.status().as_u16())
        }
        Fetch::Hq(connection) => {
            let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
            let mut stream = hq::get(connection, path).with_context(failed)?;
            while let Some(chunk) = stream.read_chunk(usize::MAX).with_context(failed)? {
                sink.write(&chunk, bar)?;
            }
            None
        }
    };
    bar.finish();
    // A page that says what is wrong is not what was asked for.
    let (bytes, blake3) = sink.finish(status.is_none_or(|status| status < 400))?;
    let time = started.elapsed();
    Ok(Transfer {
        url: url.into(),
        status,
        bytes,
        blake3,
        seconds: time.as_secs_f64(),
        gigabits_per_second: report::gigabits_per_second(bytes, time),
    })
}

/// Where a body goes; it is counted and hashed on the way.
struct Sink {
    target: Target,
    hasher: blake3::Hasher,
    bytes: u64,
}

enum Target {
    File(Saving),
    Stdout,
    Nothing,
}

impl Sink {
    fn open(arguments: &Arguments, url: &Url) -> Result<Self> {
        let target = match &arguments.output {
            Some(path) if arguments.urls.len() > 1 => Target::File(Saving::create(&path.join(file_name(url)))?),
            Some(path) if path.is_dir() => Target::File(Saving::create(&path.join(file_name(url)))?),
            Some(path) => Target::File(Saving::create(path)?),
            None if arguments.json => Target::Nothing,
            None => Target::Stdout,
        };
        Ok(Self { target, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    fn write(&mut self, piece: &[u8], bar: &ProgressBar) -> Result<()> {
        match &mut self.target {
            Target::File(saving) => saving.write(piece)?,
            Target::Stdout => io::stdout().write_all(piece).context("cannot write to standard output")?,
            Target::Nothing => {}
        }
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        bar.inc(piece.len() as u64);
        Ok(())
    }

    /// Ends the body; only a `wanted` one stays as a file.
    fn finish(self, wanted: bool) -> Result<(u64, String)> {
        match self.target {
            Target::File(saving) if wanted => saving.keep()?,
            Target::Stdout => io::stdout().flush().context("cannot write to standard output")?,
            Target::File(_) | Target::Nothing => {}
        }
        Ok((self.bytes, self.hasher.finalize().to_hex().to_string()))
    }
}

/// A file that takes its name when it is complete; dropped before, it is removed.
struct Saving {
    file: File,
    path: PathBuf,
    /// Where the bytes are until then; `None` for what is there and no file, such as `/dev/null` or a pipe, which is written at once.
    partial: Option<PathBuf>,
}

impl Saving {
    fn create(path: &Path) -> Result<Self> {
        // Through a symbolic link, to the file that it names.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_special = path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        let partial = (!is_special).then(|| {
            let mut name = path.as_os_str().to_owned();
            // Two programs that fetch the same file do not write into each other's.
            name.push(format!(".{}.part", std::process::id()));
            PathBuf::from(name)
        });
        let create = || {
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            File::create(partial.as_deref().unwrap_or(path))
        };
        let file = create().with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { file, path: path.to_owned(), partial })
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).with_context(|| format!("cannot write to {}", self.path.display()))
    }

    fn keep(mut self) -> Result<()> {
        if let Some(partial) = &self.partial {
            std::fs::rename(partial, &self.path).with_context(|| format!("cannot name {} {}", partial.display(), self.path.display()))?;
            self.partial = None;
        }
        Ok(())
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nothing more can be done about one that stays.
            let _ = std::fs::remove_file(partial);
        }
    }
}

/// The last part of the URL's path; a URL's own escapes keep it from being a path.
fn file_name(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    match last {
        "" | "." | ".." => "index.html".to_owned(),
        name => name.to_owned(),
    }
}
