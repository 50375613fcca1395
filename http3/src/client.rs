//! The client's side: requests go out on a shared connection, from any coroutine or thread.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use weald_quic::{Connection, RecvStream};

use crate::{
    body::{RecvBody, SendBody, read_section},
    connection::{Config, Shared},
    error::{Code, Error, Violation},
    frame::FrameType,
    headers,
    reader::{Failed, FrameReader},
};

/// An HTTP/3 connection to a server. Clones share it.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Shared>,
}

impl Client {
    /// Starts HTTP/3 on a connection that negotiated [`ALPN`](crate::ALPN).
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
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        let (mut sending, response) = self.send(Request::from_parts(head, ()))?;
        sending.write_chunk(body)?;
        sending.finish()?;
        response.wait()
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
        let section = headers::encode_request(&request)?;
        self.connection.check_section_size(headers::section_size(request.headers()))?;
        let promised = headers::content_length(request.headers()).map_err(|violation| Error::Invalid(violation.what))?;
        let (send, receive) = self.connection.quic.open_bi()?;
        let body = SendBody::start(send, weald_quic::Side::Client, &section, promised)?;
        let is_head = request.method() == Method::HEAD;
        Ok((body, PendingResponse { stream: receive, connection: Arc::clone(&self.connection), is_head }))
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

/// A response that has not begun yet. Dropped, it cancels nothing by itself: the stream is stopped.
pub struct PendingResponse {
    stream: RecvStream,
    connection: Arc<Shared>,
    is_head: bool,
}

impl PendingResponse {
    /// Blocks until the response's header section is here. Informational responses (1xx) are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Peer`] if the server broke HTTP/3, [`Error::Reset`] if it gave the request up, [`Error::Connection`] if the connection
    /// ended.
    pub fn wait(self) -> Result<Response<RecvBody>, Error> {
        let mut reader = FrameReader::new(self.stream);
        match read_head(&mut reader, &self.connection, self.is_head) {
            Ok((response, promised)) => {
                let body = RecvBody::new(reader, self.connection, promised);
                Ok(response.map(|()| body))
            }
            Err(failed) => {
                if let Failed::Violation(violation) = &failed {
                    reader.stop(violation.code);
                }
                Err(self.connection.on_failed(failed))
            }
        }
    }
}

impl std::fmt::Debug for PendingResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingResponse").field("is_head", &self.is_head).finish_non_exhaustive()
    }
}

fn read_head(reader: &mut FrameReader, connection: &Shared, is_head: bool) -> Result<(Response<()>, Option<u64>), Failed> {
    while let Some((frame_type, length)) = reader.frame_header()? {
        frame_type.check_on_request_stream()?;
        match frame_type {
            FrameType::Headers => {
                let response = headers::decode_response(read_section(reader, length, connection)?)?;
                if response.status().is_informational() {
                    continue;
                }
                let promised = headers::content_length(response.headers())?;
                // RFC 9110 section 8.6: for HEAD and 304, Content-Length tells of a body that is not there.
                let has_body = !is_head && response.status() != StatusCode::NOT_MODIFIED;
                return Ok((response, if has_body { promised } else { Some(0) }));
            }
            FrameType::Data => return Err(Violation::connection(Code::FRAME_UNEXPECTED, "DATA before HEADERS").into()),
            _ => reader.skip(length)?,
        }
    }
    Err(Violation::message("a response stream without a response").into())
}
