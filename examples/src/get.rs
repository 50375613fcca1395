//! `weald get`: fetches URLs over HTTP/3 or hq-interop, or has a server send back datagrams.

mod origin;
mod sink;

use std::{
    collections::HashMap,
    fmt,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use url::Url;
use weald_crypto::{Certificates, NamedGroup};
use weald_http3::Client;
use weald_quic::{ClientConfig, Connection, ConnectionError, TransportConfig, VarInt, Version};
use weald_runtime::time::Instant;

use self::{
    origin::{Origin, origins},
    sink::{Sink, file_name},
};
use crate::{account::Account, echo, groups::group, hq, report, tls, versions::version};

/// Fetch URLs over HTTP/3, or over HTTP/0.9 where the server chooses hq-interop.
///
/// URLs of one host and port share a connection and are fetched at once. The body goes to
/// standard output unless --output or --json is given. A file appears under its name once it is
/// complete; what fails leaves none. Exits with an error if any URL failed or was answered with a
/// status of 400 or more. What happened on each connection is said on standard error: a Retry,
/// a token of an earlier connection that was used, a session that was resumed, what became of
/// early data, key updates, datagrams, and the peer's close.
///
/// Examples:
///
///   weald get https://localhost:4433/file --insecure --output file
///
///   weald get https://host/a https://host/b --output downloads --json
///
///   weald get https://localhost:4433/file --insecure --json --repeat 2 --key-update
///
///   weald get https://localhost:4433/ --insecure --datagrams 100
///
///   weald get https://localhost:4433/file --insecure --json --repeat 2 --0rtt
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
    /// Certificate chain in PEM to show to servers that ask for one, the client's own first.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key of --cert in PEM (PKCS#8, SEC1 or PKCS#1).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Versions of QUIC to speak, the preferred first: 1, 2, or both with a comma between. Connections begin in version 1 if it is among
    /// them, and go on in version 2 if both ends prefer it, or if the server speaks nothing else.
    #[arg(long, value_name = "VERSION", value_delimiter = ',', default_value = "1,2", value_parser = version)]
    quic_version: Vec<Version>,
    /// Key exchange groups to offer, the preferred first, with commas between. With X25519MLKEM768 alone, whoever records the connection
    /// cannot read it later with a quantum computer, and servers that do not know the group are not talked to.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', default_value = "X25519MLKEM768,x25519,secp256r1", value_parser = group)]
    groups: Vec<NamedGroup>,
    /// Fetch everything so many times over, each time over a new connection. Tokens and tickets that a server gives are kept for the next
    /// time, so that it need not ask again for the client's address with a Retry, nor show its certificate again.
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// From the second time on (--repeat), ask before the handshake (0-RTT) where the server allows it: the answer is there a round trip
    /// sooner. Whoever sees the request on the network can send a copy of it.
    #[arg(long = "0rtt")]
    early_data: bool,
    /// Replace the keys of packets when the first bytes of a body are here.
    #[arg(long)]
    key_update: bool,
    /// Instead of fetching, send so many datagrams, which the server sends back (`weald serve --datagrams`), and time them. Only the host
    /// and the port of the URL count.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["output", "alpn", "key_update"])]
    datagrams: Option<u32>,
    /// Print the result as one JSON object: sizes, times and the BLAKE3 hash of each body, and what happened on each connection.
    #[arg(long)]
    json: bool,
    /// No progress bars, and nothing about connections.
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
    handshake_ms: f64,
    /// What became of `--datagrams`.
    echoed: Option<echo::Echoed>,
    /// As it was when everything was fetched.
    #[serde(flatten)]
    account: Account,
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

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let origins = origins(&arguments.urls)?;
    if arguments.urls.len() > 1 && arguments.datagrams.is_none() {
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
    let identity = tls::Identity::from_options(arguments.cert.as_ref(), arguments.key.as_ref())?;
    let alpn: Vec<&[u8]> = match &arguments.alpn {
        _ if arguments.datagrams.is_some() => vec![echo::ALPN],
        Some(one) => vec![one.as_bytes()],
        None => vec![weald_http3::ALPN, hq::ALPN],
    };
    let transport = TransportConfig::default().datagrams(arguments.datagrams.is_some());
    let versions = arguments.quic_version.iter().copied();
    let config = ClientConfig::new(tls::client(trust, identity, &alpn, &arguments.groups)?).transport(transport).versions(versions);
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

/// Fetches from one origin after the other; what fails keeps nothing else from being fetched.
fn fetch_all(arguments: &Arguments, config: &ClientConfig, mut origins: Vec<Origin>) -> (Report, Vec<anyhow::Error>) {
    let progress = MultiProgress::with_draw_target(if arguments.quiet || arguments.json || !io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    });
    let (mut report, mut failures) = (Report::default(), Vec::new());
    for _ in 0..arguments.repeat {
        for origin in &mut origins {
            if let Err(error) = fetch_origin(arguments, config, origin, &progress, &mut report, &mut failures) {
                failures.push(error);
            }
        }
    }
    (report, failures)
}

fn fetch_origin(
    arguments: &Arguments,
    config: &ClientConfig,
    origin: &mut Origin,
    progress: &MultiProgress,
    report: &mut Report,
    failures: &mut Vec<anyhow::Error>,
) -> Result<()> {
    let (endpoint, connection) = origin.connect(config, arguments.early_data)?;
    let (mut echoed, mut fetch) = (None, None);
    if let Some(count) = arguments.datagrams {
        match echo::ping(&connection, count) {
            Ok(times) => echoed = Some(times),
            Err(error) => failures.push(error),
        }
    } else {
        let fetch = fetch.insert(Fetch::new(connection.clone(), arguments.key_update)?);
        fetch_urls(arguments, fetch, &origin.urls, progress, report, failures);
    }
    if let Some(hint) = connection.close_reason().and_then(|error| missing_certificate(&error)) {
        failures.push(anyhow!("{hint}"));
    }
    // With early data the handshake may have failed only now, as what was to be fetched has.
    if connection.wait_handshake().is_err() && !connection.is_handshake_complete() {
        endpoint.wait_idle();
        return Ok(());
    }
    let described = describe(&connection, echoed);
    if !arguments.quiet && !arguments.json {
        progress.suspend(|| eprintln!("{described}"));
    }
    report.connections.push(described);
    // Before HTTP/3's client is dropped, which would close without a word.
    connection.close(fetch.as_ref().map_or(VarInt::ZERO, Fetch::done), b"done");
    endpoint.wait_idle();
    Ok(())
}

/// Fetches from one origin, all URLs at once.
fn fetch_urls(
    arguments: &Arguments,
    fetch: &Fetch,
    urls: &[Url],
    progress: &MultiProgress,
    report: &mut Report,
    failures: &mut Vec<anyhow::Error>,
) {
    let begin = |url: &Url| {
        let (fetch, url, bar) = (fetch.clone(), url.clone(), progress.add(bar(url)));
        let sink = Sink::open(arguments, &url);
        weald_runtime::spawn(move || transfer(&fetch, url, sink?, &bar))
    };
    let jobs: Vec<_> = urls.iter().map(begin).collect();
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
}

/// What a person can do if the server did not like the client's certificate, which shows after the handshake.
fn missing_certificate(error: &ConnectionError) -> Option<&'static str> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    match close.code.alert()? {
        // certificate_required (RFC 8446 section 6.2)
        116 => Some("the server asks for a client's certificate; give one with --cert FILE and --key FILE"),
        42..=46 | 48 | 51 => Some("the server does not take the certificate of --cert; give one whose issuer it trusts"),
        _ => None,
    }
}

fn describe(connection: &Connection, echoed: Option<echo::Echoed>) -> ConnectionReport {
    let info = connection.handshake();
    ConnectionReport {
        remote: connection.remote_address(),
        alpn: String::from_utf8_lossy(info.alpn.as_deref().unwrap_or_default()).into_owned(),
        handshake_ms: info.duration.as_secs_f64() * 1e3,
        echoed,
        account: Account::of(connection),
    }
}

impl fmt::Display for ConnectionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, handshake {:.2} ms", self.remote, self.alpn, self.handshake_ms)?;
        let parts = [self.account.to_string(), self.echoed.as_ref().map(ToString::to_string).unwrap_or_default()];
        parts.iter().filter(|part| !part.is_empty()).try_for_each(|part| write!(f, ", {part}"))
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
struct Fetch {
    connection: Connection,
    /// `None` for hq-interop, which needs no more than the connection.
    http3: Option<Client>,
    /// Keys are replaced when a body has begun.
    updates_keys: bool,
}

impl Fetch {
    fn new(connection: Connection, updates_keys: bool) -> Result<Self> {
        let http3 = match connection.alpn().as_deref() {
            Some(hq::ALPN) => None,
            _ => Some(Client::new(connection.clone(), weald_http3::Config::default())?),
        };
        Ok(Self { connection, http3, updates_keys })
    }

    /// The protocol's code for a connection that has done its work (RFC 9114 section 8.1).
    fn done(&self) -> VarInt {
        VarInt::from_u32(if self.http3.is_some() { 0x100 } else { 0 })
    }

    fn on_piece(&self, sink: &mut Sink, piece: &[u8], bar: &ProgressBar) -> Result<()> {
        if self.updates_keys && sink.is_empty() {
            self.connection.update_keys();
        }
        sink.write(piece, bar)
    }
}

fn transfer(fetch: &Fetch, url: Url, mut sink: Sink, bar: &ProgressBar) -> Result<Transfer> {
    let started = Instant::now();
    let failed = || format!("fetching {url}");
    let status = match &fetch.http3 {
        Some(client) => {
            let uri = url.as_str().parse().with_context(|| format!("{url} cannot be asked for"))?;
            let mut response = client.get(uri).with_context(failed)?;
            let length = response.headers().get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            length.inspect(|&length| bar.set_length(length));
            while let Some(chunk) = response.body_mut().read_chunk(usize::MAX).with_context(failed)? {
                fetch.on_piece(&mut sink, &chunk, bar)?;
            }
            Some(response.status().as_u16())
        }
        None => {
            let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
            let mut stream = hq::get(&fetch.connection, path).with_context(failed)?;
            while let Some(chunk) = stream.read_chunk(usize::MAX).with_context(failed)? {
                fetch.on_piece(&mut sink, &chunk, bar)?;
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
