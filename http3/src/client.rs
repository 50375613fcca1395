//! The client's side: requests go out on a shared connection, from any coroutine or thread.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use weald_quic::Connection;

use crate::{
    body::{Length, RecvBody, SendBody, read_section},
    connection::{Config, Core, Shared},
    error::{Code, Error, Violation},
    exchange::Exchange,
    frame::FrameType,
    headers,
    reader::{Failed, FrameReader},
};

/// An HTTP/3 connection to a server. Clones share it.
///
/// The connection closes when the last clone is dropped and no request of it is left: no [`SendBody`], [`PendingResponse`] or
/// [`RecvBody`].
#[derive(Clone)]
pub struct Client {
    connection: Arc<Shared>,
}

impl Client {
    /// Starts HTTP/3 on a connection that negotiated [`ALPN`](crate::ALPN). On one that has
    /// [early data](weald_quic::Connection::early_data), requests whose method is safe (RFC 9110 section 9.2.1) leave at once, and
    /// others wait for the handshake (RFC 8470 section 4).
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] if the connection ended.
    pub fn new(connection: Connection, config: Config) -> Result<Self, Error> {
        Ok(Self { connection: Shared::start(connection, config)? })
    }

    /// Asks for `uri` (with scheme and host) and blocks until the response's header section is here.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send) and [`PendingResponse::wait`].
    pub fn get(&self, uri: Uri) -> Result<Response<RecvBody>, Error> {
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        let (body, response) = self.send(request)?;
        body.finish()?;
        response.wait()
    }

    /// Sends a whole request and blocks until the response's header section is here. Content-Length is set from the body.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send) and [`PendingResponse::wait`].
    pub fn request(&self, request: Request<Bytes>) -> Result<Response<RecvBody>, Error> {
        let (mut head, body) = request.into_parts();
        // RFC 9110 section 8.6: not for a method that has no use for a body, unless there is one.
        if !body.is_empty() || !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE) {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let (mut sending, response) = self.send(Request::from_parts(head, ()))?;
        match sending.write_chunk(body).and_then(|()| sending.finish()) {
            // RFC 9114 section 4.1: a server may answer before it has the whole request and then stop it; the answer counts all the same.
            Ok(()) | Err(Error::Reset(_)) => response.wait(),
            Err(error) => Err(error),
        }
    }

    /// Sends a request's header section; gives the body to write, and the response to wait for. Blocks while the server allows no more
    /// requests at once.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a message that HTTP/3 cannot carry, [`Error::GoingAway`] if the server takes no more requests,
    /// [`Error::Connection`] if the connection ended.
    pub fn send(&self, request: Request<()>) -> Result<(SendBody, PendingResponse), Error> {
        self.connection.check_going_away()?;
        if !request.method().is_safe() {
            self.connection.quic.wait_handshake().map_err(|error| self.connection.lost(error))?;
        }
        let section = headers::encode_request(&request)?;
        self.connection.check_section_size(section.size())?;
        let promised = headers::content_length(request.headers()).map_err(|violation| Error::Invalid(violation.what))?;
        let (mut send, receive) = self.connection.quic.open_bi().map_err(|error| self.connection.lost(error))?;
        let reader = FrameReader::new(receive, Code::REQUEST_CANCELLED);
        // The peer may have said so while this side waited for a stream.
        if let Err(going_away) = self.connection.check_going_away() {
            let _ = send.reset(Code::REQUEST_CANCELLED.to_varint());
            return Err(going_away);
        }
        let exchange = Exchange::new(Arc::clone(&self.connection));
        let length = promised.map_or(Length::Open, Length::Promised);
        let body = SendBody::start(send, Arc::clone(&exchange), section, length)?;
        let is_head = request.method() == Method::HEAD;
        Ok((body, PendingResponse { reader, exchange, is_head }))
    }

    /// The QUIC connection below.
    pub fn connection(&self) -> &Connection {
        &self.connection.quic
    }

    /// Ends the connection; requests in flight fail.
    pub fn close(&self) {
        self.connection.quic.close(Code::NO_ERROR.to_varint(), b"");
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("remote", &self.connection.quic.remote_address()).finish()
    }
}

/// A response that has not begun yet. Dropped, it tells the server that no answer is wanted; the request's body is not touched.
pub struct PendingResponse {
    reader: FrameReader,
    exchange: Arc<Exchange>,
    is_head: bool,
}

impl PendingResponse {
    /// Blocks until the response's header section is here. Informational responses (1xx) are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Peer`] if the server broke HTTP/3, [`Error::Reset`] if it gave the request up, [`Error::GoingAway`] if it did because it
    /// goes away, [`Error::Connection`] if the connection ended.
    pub fn wait(mut self) -> Result<Response<RecvBody>, Error> {
        match read_head(&mut self.reader, &self.exchange.connection, self.is_head) {
            Ok((response, promised)) => {
                let body = RecvBody::new(self.reader, self.exchange, promised);
                Ok(response.map(|()| body))
            }
            Err(failed) => {
                if let Failed::Violation(violation) = &failed {
                    self.reader.stop(violation.code);
                }
                let error = self.exchange.on_read_failed(failed);
                match error {
                    Error::Reset(_) | Error::Connection(_) if self.exchange.connection.is_left_behind(self.reader.id()) => {
                        Err(Error::GoingAway)
                    }
                    error => Err(error),
                }
            }
        }
    }
}

impl std::fmt::Debug for PendingResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingResponse").field("is_head", &self.is_head).finish_non_exhaustive()
    }
}

fn read_head(reader: &mut FrameReader, connection: &Core, is_head: bool) -> Result<(Response<()>, Option<u64>), Failed> {
    while let Some((frame_type, length)) = reader.frame_header()? {
        frame_type.check_on_request_stream(false)?;
        match frame_type {
            FrameType::Headers => {
                let response = headers::decode_response(read_section(reader, length, connection)?)?;
                if response.status().is_informational() {
                    continue;
                }
                let promised = headers::content_length(response.headers())?;
                // RFC 9110 section 8.6: for HEAD and 304, Content-Length tells of a body that is not there.
                let has_body = headers::has_body(is_head, response.status());
                return Ok((response, if has_body { promised } else { Some(0) }));
            }
            FrameType::Data => return Err(Violation::connection(Code::FRAME_UNEXPECTED, "DATA before HEADERS").into()),
            _ => reader.skip(length)?,
        }
    }
    Err(Violation::message("a response stream without a response").into())
}
