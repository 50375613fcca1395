//! `weald serve`: the files of a directory over HTTP/3 and hq-interop.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use weald_crypto::{Certificates, CryptoPool, NamedGroup};
use weald_http3::{
    Config, RecvBody,
    server::{Early, Responder},
};
use weald_quic::{Connection, Endpoint, EndpointConfig, RetryPolicy, SendStream, ServerConfig, ServerLimits, TransportConfig, Version};
use weald_runtime::{sleep, spawn, unblock};

use crate::{
    account::Account,
    echo,
    files::{Files, Found},
    groups::group,
    hq,
    statistics::Statistics,
    tls,
    versions::version,
};

/// Serve the files of a directory over HTTP/3, and over HTTP/0.9 to clients that choose hq-interop.
///
/// Without --cert and --key the server makes a certificate for localhost and its own address that
/// no client trusts by itself: use `weald get --insecure`.
///
/// Examples:
///
///   weald serve --root site
///
///   weald serve --listen 0.0.0.0:443 --cert chain.pem --key key.pem
///
///   weald serve --root site --retry always --max-connections 1000 --datagrams
///
///   weald serve --root site --0rtt --ticket-keys ticket-keys
#[derive(clap::Args)]
// Lines of the comment above are lines of --help: they stay below 96 columns.
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Directory whose files are served.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Address and UDP port to listen on; port 0 lets the system choose one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4433")]
    listen: SocketAddr,
    /// Certificate chain in PEM, the server's own first.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key in PEM (PKCS#8, SEC1 or PKCS#1).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Let in only clients that show a certificate whose issuer is in this PEM file.
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// When clients have to show by a Retry that they own their address, which costs them a round trip.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    retry: Retry,
    /// Versions of QUIC to speak, the preferred first: 1, 2, or both with a comma between. A client goes on in another version than it
    /// began in if both ends prefer that one.
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',', default_value = "2,1", value_parser = version)]
    quic_versions: Vec<Version>,
    /// Key exchange groups to accept, the preferred first, with commas between. With X25519MLKEM768 alone, whoever records a connection
    /// cannot read it later with a quantum computer, and clients that do not know the group are refused.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', default_value = "X25519MLKEM768,x25519,secp256r1", value_parser = group)]
    groups: Vec<NamedGroup>,
    /// Refuse clients while there are so many connections; without it memory is the limit.
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<usize>,
    /// Replace the keys of packets after so many on a connection; without it, long before they are used up.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    key_update_interval: Option<u64>,
    /// Threads that run the steps of handshakes, of low priority; with 0 they run between packets, which then wait for them. Without
    /// it there is a thread for each processor.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(..=1024))]
    crypto_threads: Option<u16>,
    /// Take requests that clients which come again send before the handshake (0-RTT). Whoever sees such a request on the network can
    /// send a copy of it; files are the same each time.
    #[arg(long = "0rtt")]
    early_data: bool,
    /// Seal session tickets with the keys in this file, so that a client resumes at each server that has the same one; without it, at
    /// this server until it ends. A key is 64 hexadecimal digits on a line; the first one seals, all open, and # begins a comment:
    ///
    ///   (umask 077; openssl rand -hex 32 > ticket-keys)
    ///
    /// Where there is no openssl: head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
    ///
    /// The file is looked at again every second. To exchange keys, put the new one below the old one on all servers, then above it on
    /// all, and take the old one out after a day, when its tickets are over. Write another file and move it (mv) onto this one.
    /// Requests before the handshake (--0rtt) are taken by the server that gave the ticket alone; at others the client sends them again.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    ticket_keys: Option<PathBuf>,
    /// Send datagrams (RFC 9221) back to clients that choose the protocol datagram-echo: `weald get --datagrams`.
    #[arg(long)]
    datagrams: bool,
    /// Say every so many seconds what has been counted since the start: clients that were let in and refused, by the reason; steps of
    /// handshakes, how long they took and waited; tickets that were given, resumed and turned down.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    stats: Option<u32>,
    /// Print one JSON object a line: the address first, then each request, the end of each connection, and --stats.
    #[arg(long)]
    json: bool,
}

/// Values of `--retry`.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Retry {
    /// Never; clients are refused when too many handshakes are pending.
    Never,
    /// When many handshakes are pending.
    #[default]
    UnderLoad,
    /// Always, but for clients that bring a token of an earlier connection.
    Always,
}

impl From<Retry> for RetryPolicy {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::Never => Self::Never,
            Retry::UnderLoad => Self::UnderLoad,
            Retry::Always => Self::Always,
        }
    }
}

/// Lines of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Listening {
        address: SocketAddr,
        root: &'a str,
        self_signed: bool,
        crypto_threads: usize,
    },
    Request {
        remote: SocketAddr,
        protocol: &'a str,
        path: &'a str,
        status: u16,
        bytes: u64,
        /// It came in 0-RTT packets.
        early: bool,
    },
    Closed {
        remote: SocketAddr,
        protocol: &'a str,
        #[serde(flatten)]
        account: Account,
    },
    Stats(Statistics),
}

/// What one answered request looked like, for the log.
struct Answer {
    path: String,
    status: u16,
    bytes: u64,
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let files = Files::new(&arguments.root)?;
    let identity = tls::Identity::from_options(arguments.cert.as_ref(), arguments.key.as_ref())?;
    let self_signed = identity.is_none();
    let identity = match identity {
        Some(identity) => identity,
        None => tls::Identity::self_signed(&["localhost", &arguments.listen.ip().to_string()])?,
    };
    let client_roots = arguments.client_ca.as_ref().map(Certificates::from_pem_file).transpose()?;
    let mut protocols = vec![weald_http3::ALPN, hq::ALPN];
    if arguments.datagrams {
        protocols.push(echo::ALPN);
    }
    let tickets = arguments.ticket_keys.as_deref().map(tls::tickets).transpose()?;
    let config = ServerConfig::new(tls::server(identity, client_roots, &protocols, &arguments.groups, tickets, arguments.early_data)?)
        .application_settings(Config::default().remembered_settings())
        .transport(TransportConfig::default().datagrams(arguments.datagrams).key_update_interval(arguments.key_update_interval))
        .limits(ServerLimits::default().max_connections(arguments.max_connections))
        .versions(arguments.quic_versions.iter().copied())
        .retry(arguments.retry.into());

    weald_runtime::run(move || {
        let mut shared = EndpointConfig::new();
        if let Some(threads) = arguments.crypto_threads {
            shared = shared.crypto_pool(CryptoPool::new(threads.into()));
        }
        let endpoint = Endpoint::server_with(&shared, config, arguments.listen).with_context(|| {
            format!("cannot listen on {}; choose another address with --listen, or stop the program that holds it", arguments.listen)
        })?;
        let address = endpoint.local_addr()?;
        let log = Log { json: arguments.json, echoes: arguments.datagrams };
        let crypto_threads = endpoint.crypto_pool().map_or(0, CryptoPool::threads);
        log.listening(address, &arguments.root.display().to_string(), self_signed, crypto_threads);
        if let Some(seconds) = arguments.stats {
            let counting = endpoint.clone();
            spawn(move || {
                loop {
                    sleep(Duration::from_secs(seconds.into()));
                    log.stats(Statistics::of(&counting.metrics()));
                }
            });
        }
        while let Some(connection) = endpoint.accept() {
            let files = files.clone();
            let quic = connection.clone();
            drop(quic.spawn(move || serve_connection(connection, files, log)));
        }
        Ok(())
    })
}

fn serve_connection(connection: Connection, files: Files, log: Log) {
    let remote = connection.remote_address();
    let ended = connection.clone();
    let protocol = match connection.alpn().as_deref() {
        Some(hq::ALPN) => {
            hq::serve(&connection, move |path, early, stream| {
                let answer = answer_hq(&files, path, stream)?;
                log.request(remote, "hq-interop", &answer, early);
                Ok(())
            });
            "hq-interop"
        }
        Some(echo::ALPN) => {
            echo::serve(&connection);
            "datagram-echo"
        }
        _ => {
            let error = weald_http3::server::serve_connection(connection, Config::default(), move |request, responder| {
                let early = request.extensions().get::<Early>().is_some();
                let answer = answer_http3(&files, &request, responder)?;
                log.request(remote, "h3", &answer, early);
                Ok(())
            });
            tracing::info!(%remote, %error, "connection ended");
            "h3"
        }
    };
    log.closed(remote, protocol, Account::of(&ended));
}

fn answer_hq(files: &Files, path: &str, stream: &mut SendStream) -> Result<Answer> {
    let found = open(files, path).with_context(|| format!("no file for {path}"))?;
    let bytes = copy(found, |piece| Ok(stream.write_all(piece)?))?;
    Ok(Answer { path: path.to_owned(), status: 200, bytes })
}

fn answer_http3(files: &Files, request: &Request<RecvBody>, responder: Responder) -> Result<Answer, weald_http3::Error> {
    let path = request.uri().path().to_owned();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = Response::new(());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer_text(responder, response, StatusCode::METHOD_NOT_ALLOWED, path);
    }
    let found = match open(files, &path) {
        Ok(found) => found,
        Err(error) => {
            let status = match error.kind() {
                std::io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
                _ => StatusCode::NOT_FOUND,
            };
            return answer_text(responder, Response::new(()), status, path);
        }
    };
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(found.length));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(found.content_type));
    let mut body = responder.send(response)?;
    let mut bytes = 0;
    if request.method() == Method::GET {
        // A file that shrank or cannot be read leaves the body unfinished, which resets the stream: the client sees no whole file.
        bytes = match copy(found, |piece| Ok(body.write_all(piece)?)) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(path, error = format!("{error:#}"), "file not sent");
                return Ok(Answer { path, status: 500, bytes: 0 });
            }
        };
    }
    body.finish()?;
    Ok(Answer { path, status: 200, bytes })
}

fn answer_text(responder: Responder, mut response: Response<()>, status: StatusCode, path: String) -> Result<Answer, weald_http3::Error> {
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let text = format!("{status}\n");
    let bytes = text.len() as u64;
    responder.send_with_body(response, text)?;
    Ok(Answer { path, status: status.as_u16(), bytes })
}

/// As `Files::open`, while the worker does other things: the disk may take its time.
fn open(files: &Files, path: &str) -> io::Result<Found> {
    let (files, path) = (files.clone(), path.to_owned());
    unblock(move || files.open(&path))?
}

/// Copies as much of a file as its length said when it was opened, in pieces that fit the cache and make up for the way to another thread.
fn copy(found: Found, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut file = found.file.take(found.length);
    let mut copied = 0;
    loop {
        let read;
        (file, buffer, read) = unblock(move || {
            let read = file.read(&mut buffer);
            (file, buffer, read)
        })
        .map_err(io::Error::from)?;
        let read = read.context("reading the file")?;
        if read == 0 {
            anyhow::ensure!(copied == found.length, "the file shrank while it was sent");
            return Ok(copied);
        }
        write(&buffer[..read])?;
        copied += read as u64;
    }
}

/// Says on standard output what the server does. Who does not listen any more (a closed pipe) does not end the server.
#[derive(Clone, Copy)]
struct Log {
    json: bool,
    /// Datagrams are sent back.
    echoes: bool,
}

impl Log {
    fn listening(self, address: SocketAddr, root: &str, self_signed: bool, crypto_threads: usize) {
        if self.json {
            return say_json(&Event::Listening { address, root, self_signed, crypto_threads });
        }
        let also = if self.echoes { "; datagrams are sent back over datagram-echo" } else { "" };
        say(&format!("Serving {root} on {address} (HTTP/3 and hq-interop{also})"));
        say(&match crypto_threads {
            0 => "Handshakes run between packets.".to_owned(),
            1 => "Handshakes run on a thread of their own.".to_owned(),
            threads => format!("Handshakes run on up to {threads} threads of their own."),
        });
        if self_signed {
            say(&format!("The certificate is self-signed. Try: weald get --insecure https://localhost:{}/", address.port()));
        }
    }

    fn request(self, remote: SocketAddr, protocol: &str, Answer { path, status, bytes }: &Answer, early: bool) {
        if self.json {
            say_json(&Event::Request { remote, protocol, path, status: *status, bytes: *bytes, early });
        } else {
            let when = if early { ", 0-RTT" } else { "" };
            say(&format!("{remote} {protocol} {path:?} {status} {}{when}", crate::report::size(*bytes)));
        }
    }

    fn stats(self, statistics: Statistics) {
        if self.json {
            say_json(&Event::Stats(statistics));
        } else {
            say(&statistics.to_string());
        }
    }

    fn closed(self, remote: SocketAddr, protocol: &str, account: Account) {
        if self.json {
            say_json(&Event::Closed { remote, protocol, account });
        } else {
            say(&format!("{remote} {protocol} {account}"));
        }
    }
}

fn say_json(event: &Event<'_>) {
    match serde_json::to_string(event) {
        Ok(line) => say(&line),
        Err(error) => tracing::warn!(%error, "event not written"),
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
