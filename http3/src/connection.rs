//! What one HTTP/3 connection has beside its requests: settings, the control streams of both sides, and the peer's QPACK streams.
//!
//! Owns the connection-wide state and the coroutines that read the peer's unidirectional streams. It owns no request (`server`, `client`).
//!
//! No QPACK streams are opened from here: with a dynamic table of capacity 0 on both sides they would carry nothing, and RFC 9204
//! section 4.2 lets a side leave them out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weald_quic::{Connection, RecvStream, SendStream, Side, VarInt};

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
}

/// State that all requests of a connection share.
pub(crate) struct Shared {
    pub(crate) quic: Connection,
    pub(crate) config: Config,
    peer: Mutex<Peer>,
}

/// What is known of the peer.
struct Peer {
    settings: Settings,
    /// The first request that the peer will not serve.
    going_away: Option<u64>,
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
        control.write_all(&bytes)?;

        let peer = Peer { settings: Settings::PEER_DEFAULT, going_away: None, opened: [false; 3], _control: control };
        let shared = Arc::new(Self { quic, config, peer: Mutex::new(peer) });
        shared.spawn(Self::accept_unidirectional);
        if shared.quic.side() == Side::Client {
            shared.spawn(Self::refuse_bidirectional);
        }
        Ok(shared)
    }

    /// Fails if the peer will not serve another request.
    pub(crate) fn check_going_away(&self) -> Result<(), Error> {
        if self.peer().going_away.is_some() { Err(Error::GoingAway) } else { Ok(()) }
    }

    /// Fails if the peer has said that it does not take a field section of this size.
    pub(crate) fn check_section_size(&self, size: u64) -> Result<(), Error> {
        if size <= self.peer().settings.max_field_section_size {
            Ok(())
        } else {
            Err(Error::Invalid("the header fields are larger than the peer takes (its SETTINGS_MAX_FIELD_SECTION_SIZE)"))
        }
    }

    /// Does to the connection what `failed` calls for and says it as an error of the API. What it calls for on its own stream is the caller's.
    pub(crate) fn on_failed(&self, failed: Failed) -> Error {
        match failed {
            Failed::Violation(violation) => {
                self.on_violation(violation);
                Error::peer(violation)
            }
            Failed::Stream(error) => error.into(),
        }
    }

    fn on_violation(&self, violation: Violation) {
        if violation.scope == Scope::Connection {
            self.quic.close(violation.code.to_varint(), violation.what.as_bytes());
        }
    }

    fn spawn(self: &Arc<Self>, run: fn(&Arc<Self>)) {
        let shared = Arc::clone(self);
        // Ends with the connection; nobody waits for it.
        drop(self.quic.spawn(move || run(&shared)));
    }

    fn accept_unidirectional(self: &Arc<Self>) {
        while let Ok(stream) = self.quic.accept_uni() {
            let shared = Arc::clone(self);
            drop(self.quic.spawn(move || {
                // A reset of the stream or the end of the connection needs no answer here.
                if let Err(Failed::Violation(violation)) = shared.read_unidirectional(stream) {
                    shared.on_violation(violation);
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
        let mut reader = FrameReader::new(stream);
        // RFC 9114 section 6.2: a stream that ends before its type is no error.
        let Some(stream_type) = reader.varint()?.map(StreamType::from_wire) else { return Ok(()) };
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
            StreamType::Unknown => {
                reader.stop(Code::STREAM_CREATION_ERROR);
                return Ok(());
            }
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
            Ok(()) | Err(Failed::Stream(weald_quic::ReadError::Reset(_))) => {
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
                FrameType::GoAway => self.on_goaway(&control_payload(reader, length)?)?,
                _ => reader.skip(length)?,
            }
        }
        Ok(())
    }

    /// RFC 9114 section 5.2: an identifier may only fall; a server's is that of a request.
    fn on_goaway(&self, mut payload: &[u8]) -> Result<(), Violation> {
        let id = frame::take_varint(&mut payload)
            .filter(|_| payload.is_empty())
            .ok_or(Violation::connection(Code::FRAME_ERROR, "a GOAWAY frame that is not one integer"))?;
        if self.quic.side() == Side::Client && id % 4 != 0 {
            return Err(Violation::connection(Code::ID_ERROR, "a GOAWAY whose identifier is no request"));
        }
        let mut peer = self.peer();
        if peer.going_away.is_some_and(|earlier| id > earlier) {
            return Err(Violation::connection(Code::ID_ERROR, "a GOAWAY whose identifier rose"));
        }
        peer.going_away = Some(id);
        Ok(())
    }

    /// A leaf lock: never held while anything blocks.
    fn peer(&self) -> MutexGuard<'_, Peer> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn control_payload(reader: &mut FrameReader, length: u64) -> Result<Vec<u8>, Failed> {
    if length > MAX_CONTROL_PAYLOAD {
        return Err(Violation::connection(Code::EXCESSIVE_LOAD, "a SETTINGS or GOAWAY frame above 4 KiB").into());
    }
    reader.payload(length)
}

fn read_instructions(reader: &mut FrameReader, code: Code, mut on_bytes: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failed> {
    while let Some(bytes) = reader.piece(u64::MAX)? {
        on_bytes(&bytes).map_err(|Failure(what)| Violation::connection(code, what))?;
    }
    Ok(())
}
