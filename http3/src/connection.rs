//! What one HTTP/3 connection has beside its requests: settings, the control streams of both sides, and the peer's QPACK streams.
//!
//! Owns the connection-wide state and the coroutines that read the peer's unidirectional streams. It owns no request (`server`, `client`).
//!
//! No QPACK streams are opened from here: with a dynamic table of capacity 0 on both sides they would carry nothing, and RFC 9204
//! section 4.2 lets a side leave them out.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use weald_quic::{Connection, ConnectionError, ReadError, RecvStream, SendStream, Side, VarInt, WriteError};

use crate::{
    error::{Code, Error, Scope, Violation},
    frame::{self, FrameType, StreamType},
    qpack::{
        Failure,
        instructions::{DecoderStream, EncoderStream},
    },
    reader::{Failed, FrameReader},
    settings::Settings,
};

/// Largest field section taken from a peer unless set otherwise: 64 KiB, counted as RFC 9114 section 4.2.2 says.
pub const DEFAULT_MAX_FIELD_SECTION_SIZE: u64 = 64 * 1024;
/// Largest payload of a frame on the control stream that is kept in memory: SETTINGS and GOAWAY need far less.
const MAX_CONTROL_PAYLOAD: u64 = 4096;

/// Limits of this side.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub(crate) max_field_section_size: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_field_section_size: DEFAULT_MAX_FIELD_SECTION_SIZE }
    }
}

impl Config {
    /// Largest header or trailer section taken from the peer, in bytes: names, values, and 32 a field (RFC 9114 section 4.2.2).
    /// It is announced to the peer, and a larger one ends its request.
    pub fn max_field_section_size(mut self, bytes: u64) -> Self {
        self.max_field_section_size = bytes;
        self
    }

    /// What clients that send requests early (0-RTT) may remember of a server with these limits, for
    /// [`ServerConfig::application_settings`](weald_quic::ServerConfig::application_settings): under other settings than they
    /// remember, early requests must not be taken (RFC 9114 section 7.2.4.2).
    ///
    /// ```
    /// # fn early(tls: weald_crypto::ServerConfig) -> weald_quic::ServerConfig {
    /// let http3 = weald_http3::Config::default().max_field_section_size(16 * 1024);
    /// weald_quic::ServerConfig::new(tls).application_settings(http3.remembered_settings())
    /// # }
    /// ```
    pub fn remembered_settings(&self) -> Vec<u8> {
        self.max_field_section_size.to_be_bytes().to_vec()
    }
}

/// A connection as its requests hold it. A client's connection closes with the last of them: what reads the peer's streams below would
/// keep it open for nobody.
pub(crate) struct Shared(Arc<Core>);

impl Deref for Shared {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.quic.side() == Side::Client {
            self.quic.close(Code::NO_ERROR.to_varint(), b"");
        }
    }
}

/// State that the requests of a connection share with the readers of the peer's streams.
pub(crate) struct Core {
    pub(crate) quic: Connection,
    pub(crate) config: Config,
    peer: Mutex<Peer>,
}

/// What is known of the peer.
struct Peer {
    settings: Settings,
    /// The first request that the peer will not serve.
    going_away: Option<u64>,
    /// The largest push it allows; this side never pushes.
    max_push_id: u64,
    /// What it did to have this side close the connection.
    violation: Option<Violation>,
    /// Its control, QPACK encoder and QPACK decoder streams: each may be opened once.
    opened: [bool; 3],
    /// Held open for the life of the connection: closing the control stream is an error (RFC 9114 section 6.2.1).
    _control: SendStream,
}

impl Shared {
    /// Opens the control stream, sends SETTINGS, and reads the peer's streams on coroutines of the connection.
    pub(crate) fn start(quic: Connection, config: Config) -> Result<Arc<Self>, Error> {
        let settings = Settings { max_field_section_size: config.max_field_section_size.min(VarInt::MAX.as_u64()) };
        let payload = settings.encode(u64::from(quic.remote_address().port()));
        let mut bytes = vec![0x00];
        frame::put_header(&mut bytes, FrameType::SETTINGS, payload.len());
        bytes.extend_from_slice(&payload);
        let mut control = quic.open_uni()?;
        control.write_all(&bytes).map_err(|error| match error {
            WriteError::ConnectionLost(error) => Error::Connection(error),
            WriteError::Cancelled => Error::Cancelled,
            WriteError::Stopped(code) => Error::Reset(code.into()),
            WriteError::ClosedStream => Error::Invalid("the stream is closed already"),
        })?;

        let peer = Peer {
            settings: Settings::PEER_DEFAULT,
            going_away: None,
            max_push_id: 0,
            violation: None,
            opened: [false; 3],
            _control: control,
        };
        let core = Arc::new(Core { quic, config, peer: Mutex::new(peer) });
        core.spawn(Core::accept_unidirectional);
        if core.quic.side() == Side::Client {
            core.spawn(Core::refuse_bidirectional);
        }
        Ok(Arc::new(Self(core)))
    }
}

impl Core {
    /// Fails if the peer will not serve another request.
    pub(crate) fn check_going_away(&self) -> Result<(), Error> {
        if self.peer().going_away.is_some() { Err(Error::GoingAway) } else { Ok(()) }
    }

    /// Whether the peer said that it would not serve the request on the stream `id` (RFC 9114 section 5.2).
    pub(crate) fn is_left_behind(&self, id: u64) -> bool {
        self.peer().going_away.is_some_and(|first_left| id >= first_left)
    }

    /// Fails if the peer has said that it does not take a field section of this size.
    pub(crate) fn check_section_size(&self, size: u64) -> Result<(), Error> {
        if size <= self.peer().settings.max_field_section_size {
            Ok(())
        } else {
            Err(Error::Invalid("the header fields are larger than the peer takes (its SETTINGS_MAX_FIELD_SECTION_SIZE)"))
        }
    }

    /// The end of the connection as an error of the API: where this side closed it, for what the peer did.
    pub(crate) fn lost(&self, error: ConnectionError) -> Error {
        match self.peer().violation {
            Some(violation) if matches!(error, ConnectionError::LocallyClosed) => Error::peer(violation),
            _ => Error::Connection(error),
        }
    }

    /// Closes the connection, unless the violation ends one stream only.
    pub(crate) fn on_violation(&self, violation: Violation) {
        if violation.scope == Scope::Connection {
            self.peer().violation.get_or_insert(violation);
            self.quic.close(violation.code.to_varint(), violation.what.as_bytes());
        }
    }

    fn spawn(self: &Arc<Self>, run: fn(&Arc<Self>)) {
        let core = Arc::clone(self);
        // Ends with the connection; nobody waits for it.
        drop(self.quic.spawn(move || run(&core)));
    }

    fn accept_unidirectional(self: &Arc<Self>) {
        while let Ok(stream) = self.quic.accept_uni() {
            let core = Arc::clone(self);
            drop(self.quic.spawn(move || {
                // A reset of the stream or the end of the connection needs no answer here.
                if let Err(Failed::Violation(violation)) = core.read_unidirectional(stream) {
                    core.on_violation(violation);
                }
            }));
        }
    }

    /// RFC 9114 section 6.1: servers open no bidirectional streams.
    fn refuse_bidirectional(self: &Arc<Self>) {
        if self.quic.accept_bi().is_ok() {
            self.on_violation(Violation::connection(Code::STREAM_CREATION_ERROR, "a bidirectional stream opened by the server"));
        }
    }

    fn read_unidirectional(&self, stream: RecvStream) -> Result<(), Failed> {
        let mut reader = FrameReader::new(stream, Code::STREAM_CREATION_ERROR);
        let stream_type = match reader.varint() {
            Ok(Some(stream_type)) => StreamType::from_wire(stream_type),
            // RFC 9114 section 6.2: a stream that ends before or within its type is no error.
            Ok(None) | Err(Failed::Violation(_)) => return Ok(()),
            Err(failed) => return Err(failed),
        };
        let critical = match stream_type {
            StreamType::Control => 0,
            StreamType::QpackEncoder => 1,
            StreamType::QpackDecoder => 2,
            StreamType::Push if self.quic.side() == Side::Server => {
                return Err(Violation::connection(Code::STREAM_CREATION_ERROR, "a push stream opened by the client").into());
            }
            StreamType::Push => {
                return Err(Violation::connection(Code::ID_ERROR, "a push stream, though no push ID was ever allowed").into());
            }
            // The dropped reader refuses the stream with the code that RFC 9114 section 6.2 names.
            StreamType::Unknown => return Ok(()),
        };
        if std::mem::replace(&mut self.peer().opened[critical], true) {
            return Err(Violation::connection(Code::STREAM_CREATION_ERROR, "a second control or QPACK stream").into());
        }
        let read = match stream_type {
            StreamType::Control => self.read_control(&mut reader),
            StreamType::QpackEncoder => {
                let mut encoder = EncoderStream::default();
                read_instructions(&mut reader, Code::QPACK_ENCODER_STREAM_ERROR, |bytes| encoder.on_bytes(bytes))
            }
            _ => {
                let mut decoder = DecoderStream::default();
                read_instructions(&mut reader, Code::QPACK_DECODER_STREAM_ERROR, |bytes| decoder.on_bytes(bytes))
            }
        };
        match read {
            // RFC 9114 section 6.2.1, RFC 9204 section 4.2: neither an end nor a reset is allowed.
            Ok(()) | Err(Failed::Stream(ReadError::Reset(_))) => {
                Err(Violation::connection(Code::CLOSED_CRITICAL_STREAM, "the end of its control or QPACK stream").into())
            }
            Err(failed) => Err(failed),
        }
    }

    fn read_control(&self, reader: &mut FrameReader) -> Result<(), Failed> {
        let from_client = self.quic.side() == Side::Server;
        let mut is_first = true;
        while let Some((frame_type, length)) = reader.frame_header()? {
            frame_type.check_on_control_stream(is_first, from_client)?;
            is_first = false;
            match frame_type {
                FrameType::Settings => self.peer().settings = Settings::decode(&control_payload(reader, length)?)?,
                FrameType::GoAway => self.on_goaway(one_integer(reader, length)?)?,
                FrameType::MaxPushId => self.on_max_push_id(one_integer(reader, length)?)?,
                FrameType::CancelPush => {
                    one_integer(reader, length)?;
                    // RFC 9114 section 7.2.3: no push was ever promised, nor is one allowed.
                    return Err(Violation::connection(Code::ID_ERROR, "CANCEL_PUSH of a push that was never promised").into());
                }
                _ => reader.skip(length)?,
            }
        }
        Ok(())
    }

    /// RFC 9114 section 5.2: an identifier may only fall; a server's is that of a request.
    fn on_goaway(&self, id: u64) -> Result<(), Violation> {
        if self.quic.side() == Side::Client && !id.is_multiple_of(4) {
            return Err(Violation::connection(Code::ID_ERROR, "a GOAWAY whose identifier is no request"));
        }
        let mut peer = self.peer();
        if peer.going_away.is_some_and(|earlier| id > earlier) {
            return Err(Violation::connection(Code::ID_ERROR, "a GOAWAY whose identifier rose"));
        }
        peer.going_away = Some(id);
        Ok(())
    }

    /// RFC 9114 section 7.2.7: the limit may only rise.
    fn on_max_push_id(&self, id: u64) -> Result<(), Violation> {
        let mut peer = self.peer();
        if id < peer.max_push_id {
            return Err(Violation::connection(Code::ID_ERROR, "a MAX_PUSH_ID that fell"));
        }
        peer.max_push_id = id;
        Ok(())
    }

    /// A leaf lock: never held while anything blocks.
    fn peer(&self) -> MutexGuard<'_, Peer> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn control_payload(reader: &mut FrameReader, length: u64) -> Result<Vec<u8>, Failed> {
    if length > MAX_CONTROL_PAYLOAD {
        return Err(
            Violation::connection(Code::EXCESSIVE_LOAD, "a frame above 4 KiB on the control stream, of a type that needs less").into()
        );
    }
    reader.payload(length)
}

/// The payload of a frame that is one integer.
fn one_integer(reader: &mut FrameReader, length: u64) -> Result<u64, Failed> {
    let payload = control_payload(reader, length)?;
    let mut rest = &payload[..];
    frame::take_varint(&mut rest)
        .filter(|_| rest.is_empty())
        .ok_or(Failed::Violation(Violation::connection(Code::FRAME_ERROR, "a frame that is not one integer, as its type asks")))
}

fn read_instructions(reader: &mut FrameReader, code: Code, mut on_bytes: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failed> {
    while let Some(bytes) = reader.piece(u64::MAX)? {
        on_bytes(&bytes).map_err(|Failure(what)| Violation::connection(code, what))?;
    }
    Ok(())
}
