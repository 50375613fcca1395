//! The server's side: requests come in, each is served by a plain blocking function on a coroutine of its own.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use weald_quic::{Connection, Endpoint, RecvStream, SendStream, Side};

use crate::{
    body::{RecvBody, SendBody, read_section},
    connection::{Config, Shared},
    error::{Code, Error, Scope, Violation},
    frame::FrameType,
    headers,
    reader::{Failed, FrameReader},
};

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
            Err(error) => return error.into(),
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
    let mut reader = FrameReader::new(receive);
    let (request, promised) = match read_head(&mut reader, connection) {
        Ok(head) => head,
        Err(failed) => {
            if let Failed::Violation(Violation { code, scope: Scope::Stream, .. }) = failed {
                reader.stop(code);
                let _ = send.reset(code.to_varint());
            }
            return Err(connection.on_failed(failed));
        }
    };
    let responder = Responder { stream: Some(send), connection: Arc::clone(connection), is_head: request.method() == Method::HEAD };
    let body = RecvBody::new(reader, Arc::clone(connection), promised);
    handler(request.map(|()| body), responder)
}

fn read_head(reader: &mut FrameReader, connection: &Shared) -> Result<(Request<()>, Option<u64>), Failed> {
    while let Some((frame_type, length)) = reader.frame_header()? {
        frame_type.check_on_request_stream()?;
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
    connection: Arc<Shared>,
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
        self.connection.check_section_size(headers::section_size(response.headers()))?;
        let promised = headers::content_length(response.headers()).map_err(|violation| Error::Invalid(violation.what))?;
        // RFC 9110 section 8.6: for HEAD and 304, Content-Length tells of a body that is not there.
        let has_body = !self.is_head && response.status() != StatusCode::NOT_MODIFIED;
        let promised = if has_body { promised } else { Some(0) };
        let Some(stream) = self.stream.take() else { return Err(Error::Invalid("the request was answered already")) };
        SendBody::start(stream, Side::Server, &section, promised)
    }

    /// Sends a whole response. Content-Length is set from `body`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_with_body(self, mut response: Response<()>, body: impl Into<Bytes>) -> Result<(), Error> {
        let body = body.into();
        let is_head = self.is_head;
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
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
            let _ = stream.reset(Code::INTERNAL_ERROR.to_varint());
        }
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("is_head", &self.is_head).finish_non_exhaustive()
    }
}
