//! HTTP/0.9 over QUIC (`hq-interop`), as the public interop tests use it: a request is the line `GET /path` on a bidirectional stream,
//! the response is the stream's bytes, and its end is the response's end.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail, ensure};
use weald_quic::{Connection, RecvStream, SendStream, VarInt};

/// The ALPN token.
pub(crate) const ALPN: &[u8] = b"hq-interop";
/// Longest request line that a server takes, in bytes.
const MAX_LINE: u64 = 4096;
/// Code on streams whose request cannot be served; HTTP/0.9 has no status.
const FAILED: VarInt = VarInt::from_u32(1);

/// Serves `connection` until it ends: `respond` writes the file for a path, and is told whether it was asked for early (0-RTT).
pub(crate) fn serve<F>(connection: &Connection, respond: F)
where
    F: Fn(&str, bool, &mut SendStream) -> Result<()> + Clone + Send + 'static,
{
    while let Ok((mut send, receive)) = connection.accept_bi() {
        let respond = respond.clone();
        drop(connection.spawn(move || {
            let early = receive.is_0rtt();
            let answered = read_path(receive).and_then(|path| respond(&path, early, &mut send));
            match answered {
                // The peer may have stopped the stream by now.
                Ok(()) => {
                    let _ = send.finish();
                }
                Err(error) => {
                    tracing::info!(error = format!("{error:#}"), "request failed");
                    let _ = send.reset(FAILED);
                }
            }
        }));
    }
}

fn read_path(receive: RecvStream) -> Result<String> {
    let mut line = String::new();
    BufReader::new(receive.take(MAX_LINE)).read_line(&mut line).context("reading the request line")?;
    match line.trim_end().strip_prefix("GET ") {
        Some(path) => Ok(path.trim().to_owned()),
        None => bail!("the request line is not \"GET /path\": {line:?}"),
    }
}

/// Asks for `path` and gives the stream of the response.
pub(crate) fn get(connection: &Connection, path: &str) -> Result<RecvStream> {
    ensure!(!path.contains(['\r', '\n', ' ']), "the path {path:?} has a space or a line break in it");
    let (mut send, receive) = connection.open_bi()?;
    send.write_all(format!("GET {path}\r\n").as_bytes())?;
    send.finish()?;
    Ok(receive)
}
