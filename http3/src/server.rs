//! The server's side: requests come in, each is served by a plain blocking function on a coroutine of its own.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use weald_quic::{Connection, Endpoint, RecvStream, SendStream};

use crate::{
    body::{Length, RecvBody, SendBody, read_section},
    connection::{Config, Core, Shared},
    error::{Code, Error, Violation},
    exchange::Exchange,
    frame::FrameType,
    headers,
    reader::{Failed, FrameReader},
};

/// An [extension](http::Request::extensions) of requests that came as early data (0-RTT). Of those with a safe method it is not known
/// whether they are copies of others: a handler that is harmed by copies answers `425 Too Early` (RFC 8470 section 5.2), and the client
/// asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early;

/// Serves every HTTP/3 connection that `endpoint` accepts, until the endpoint closes. See [`serve_connection`].
pub fn serve<H>(endpoint: &Endpoint, config: Config, handler: H)
where
    H: Fn(Request<RecvBody>, Responder) -> Result<(), Error> + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    while let Some(connection) = endpoint.accept() {
        let handler = Arc::clone(&handler);
        let quic = connection.clone();
        drop(quic.spawn(move || {
            let _ = serve_connection(connection, config, move |request, responder| handler(request, responder));
        }));
    }
}

/// Serves the requests of one connection until it ends, and returns why it did.
///
/// `handler` runs on a coroutine of its own for each request, on the connection's worker. What it returns as an error only goes to the log: a
/// [`Responder`] or [`SendBody`] that it dropped unfinished has reset the stream by then.
///
/// A request that came as early data (0-RTT) may be a copy of one that was served before. One whose method is safe (RFC 9110
/// section 9.2.1) is served at once; others wait until the handshake is complete, when it is known to be no copy (RFC 8470
/// section 3).
pub fn serve_connection<H>(connection: Connection, config: Config, handler: H) -> Error
where
    H: Fn(Request<RecvBody>, Responder) -> Result<(), Error> + Send + Sync + 'static,
{
    let shared = match Shared::start(connection, config) {
        Ok(shared) => shared,
        Err(error) => return error,
    };
    let handler = Arc::new(handler);
    loop {
        let (send, receive) = match shared.quic.accept_bi() {
            Ok(streams) => streams,
            Err(error) => return shared.lost(error),
        };
        let (connection, handler) = (Arc::clone(&shared), Arc::clone(&handler));
        drop(shared.quic.spawn(move || {
            if let Err(error) = serve_request(&connection, send, receive, &*handler) {
                tracing::debug!(%error, "request failed");
            }
        }));
    }
}

fn serve_request<H>(connection: &Arc<Shared>, mut send: SendStream, receive: RecvStream, handler: &H) -> Result<(), Error>
where
    H: Fn(Request<RecvBody>, Responder) -> Result<(), Error>,
{
    let is_early = receive.is_0rtt();
    // RFC 9114 section 4.1: a server that has answered needs no more of the request.
    let mut reader = FrameReader::new(receive, Code::NO_ERROR);
    let exchange = Exchange::new(Arc::clone(connection));
    let (mut request, promised) = match read_head(&mut reader, connection) {
        Ok(head) => head,
        Err(failed) => {
            // RFC 9114 section 4.1.1: a request that no handler saw is rejected. An end without a reset would look like an answer.
            let code = match &failed {
                Failed::Violation(violation) => violation.code,
                Failed::Stream(_) => Code::REQUEST_REJECTED,
            };
            let error = exchange.on_read_failed(failed);
            reader.stop(code);
            let _ = send.reset(code.to_varint());
            return Err(error);
        }
    };
    if is_early {
        if !request.method().is_safe() {
            connection.quic.wait_handshake().map_err(|error| connection.lost(error))?;
        }
        request.extensions_mut().insert(Early);
    }
    let responder = Responder { stream: Some(send), exchange: Arc::clone(&exchange), is_head: request.method() == Method::HEAD };
    let body = RecvBody::new(reader, exchange, promised);
    handler(request.map(|()| body), responder)
}

fn read_head(reader: &mut FrameReader, connection: &Core) -> Result<(Request<()>, Option<u64>), Failed> {
    while let Some((frame_type, length)) = reader.frame_header()? {
        frame_type.check_on_request_stream(true)?;
        match frame_type {
            FrameType::Headers => {
                let request = headers::decode_request(read_section(reader, length, connection)?)?;
                let promised = headers::content_length(request.headers())?;
                return Ok((request, promised));
            }
            FrameType::Data => return Err(Violation::connection(Code::FRAME_UNEXPECTED, "DATA before HEADERS").into()),
            _ => reader.skip(length)?,
        }
    }
    Err(Violation::stream(Code::REQUEST_INCOMPLETE, "a request stream without a request").into())
}

/// Answers one request. Dropped unused, it resets the stream with H3_INTERNAL_ERROR.
pub struct Responder {
    /// Taken by the answer.
    stream: Option<SendStream>,
    exchange: Arc<Exchange>,
    is_head: bool,
}

impl Responder {
    /// Sends the response's header section and gives the body to write. A Content-Length in it is a promise that [`SendBody`] keeps.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a message that HTTP/3 cannot carry, [`Error::Reset`] if the peer wants no answer any more,
    /// [`Error::Connection`] if the connection ended.
    pub fn send(mut self, response: Response<()>) -> Result<SendBody, Error> {
        let section = headers::encode_response(&response)?;
        self.exchange.connection.check_section_size(section.size())?;
        let promised = headers::content_length(response.headers()).map_err(|violation| Error::Invalid(violation.what))?;
        let length = match promised {
            _ if !headers::has_body(self.is_head, response.status()) => Length::Absent,
            Some(promised) => Length::Promised(promised),
            None => Length::Open,
        };
        let Some(stream) = self.stream.take() else { return Err(Error::Invalid("the request was answered already")) };
        SendBody::start(stream, Arc::clone(&self.exchange), section, length)
    }

    /// Sends a whole response. Content-Length is set from `body`, which itself is left out of the answer to HEAD.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::Invalid`] for a body with status 204 or 304, which have none.
    pub fn send_with_body(self, mut response: Response<()>, body: impl Into<Bytes>) -> Result<(), Error> {
        let body = body.into();
        let is_head = self.is_head;
        // RFC 9110 section 8.6: not with 204, and with 304 it would be the length of another answer.
        if headers::has_body(false, response.status()) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let mut sending = self.send(response)?;
        if !is_head {
            sending.write_chunk(body)?;
        }
        sending.finish()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.reset(self.exchange.unfinished_code().to_varint());
        }
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("is_head", &self.is_head).finish_non_exhaustive()
    }
}
