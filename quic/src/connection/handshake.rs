//! The handshake: the TLS session, the CRYPTO bytes of every level, and how far it has come.
//!
//! Owns CRYPTO and HANDSHAKE_DONE. A step of TLS is a job: the session moves out with its input, and comes back with its
//! output, so that a flood of handshakes never stalls established streams. Does not own keys or transport parameters:
//! what a step yields goes to `lifecycle`, and what a server's session is made with comes from `negotiation`.
//!
//! Invariants: at most one job of a connection is out, and a result that nobody waits for any more is dropped. What comes
//! in meanwhile stays in the window of its level, so that a slow job bounds what a peer can make us hold. A
//! server's TLS begins with a whole ClientHello, so that an unfinished one costs no job. What the exchange needs goes with it: a
//! confirmed connection holds the outcome alone, but for a client that waits for tickets, for a while.

use weald_crypto::{ClientHello, Level, Outcome, Session, Step, TlsError, Version};

use crate::connection::crypto_stream::{CryptoReceive, CryptoSend};
use crate::containment::{Panicked, contain};
use crate::error::{TransportError, TransportErrorCode};
use crate::side::Side;
use crate::token::Token;
use crate::wire::FrameWriter;
use crate::wire::frame::HandshakeDone;

/// TLS alert unexpected_message (RFC 8446 6.2).
const UNEXPECTED_MESSAGE: u8 = 10;

/// TLS alert internal_error (RFC 8446 6.2).
const INTERNAL_ERROR: u8 = 80;

/// One step of TLS, to be run anywhere: it takes from tens of microseconds to milliseconds.
pub struct CryptoJob {
    session: Box<Session>,
    input: Vec<(Level, Vec<u8>)>,
    short: bool,
}

impl CryptoJob {
    /// Whether the step is a short one (a client's Finished, or a ticket): cheaper to run in place than to hand to another thread.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Runs the step.
    pub fn run(mut self) -> CryptoDone {
        let advanced = contain("a step of TLS", || self.session.advance(&self.input));
        let result = advanced.unwrap_or_else(|Panicked| {
            Err(TlsError { alert: INTERNAL_ERROR, protocol_violation: false, message: "a defect of this implementation".to_owned() })
        });
        CryptoDone { session: Some(self.session), result }
    }
}

/// A finished [`CryptoJob`], to be given back to its connection.
pub struct CryptoDone {
    session: Option<Box<Session>>,
    result: Result<Step, TlsError>,
}

impl CryptoDone {
    /// What is given back for a job that nobody will run: its handshake fails.
    pub fn lost() -> Self {
        let error = TlsError { alert: INTERNAL_ERROR, protocol_violation: false, message: "a step of the handshake was lost".to_owned() };
        Self { session: None, result: Err(error) }
    }
}

/// A connection's handshake.
pub(crate) struct Handshake {
    side: Side,
    complete: bool,
    confirmed: bool,
    done: Done,
    /// Until the handshake is confirmed and all that was said has arrived.
    exchange: Option<Box<Exchange>>,
    outcome: Option<Box<Outcome>>,
    /// At a client whose server has sent any.
    tickets: Option<Box<Tickets>>,
    /// Tickets are awaited no longer: those that come are read over.
    tickets_overdue: bool,
}

/// What TLS says and hears.
struct Exchange {
    tls: Tls,
    send: [CryptoSend; 3],
    /// Of the Initial and the Handshake level.
    receive: [CryptoReceive; 2],
}

enum Tls {
    /// Not begun: a server reads the ClientHello first.
    Awaited,
    /// Here; `fresh` if a client has yet to produce its first flight.
    In { session: Box<Session>, fresh: bool },
    /// With a job.
    Out,
    /// No longer needed.
    Gone,
}

/// Whether the peer knows that the handshake is confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    NotYet,
    Owed,
    Sent,
}

impl Handshake {
    /// A client's, which has yet to produce its first flight.
    pub(crate) fn client(session: Session) -> Self {
        Self::new(Side::Client, Tls::In { session: Box::new(session), fresh: true })
    }

    /// A server's, which waits for [`Handshake::client_hello`].
    pub(crate) fn server() -> Self {
        Self::new(Side::Server, Tls::Awaited)
    }

    fn new(side: Side, tls: Tls) -> Self {
        let exchange = Exchange { tls, send: Default::default(), receive: Default::default() };
        Self {
            side,
            complete: false,
            confirmed: false,
            done: Done::NotYet,
            exchange: Some(Box::new(exchange)),
            outcome: None,
            tickets: None,
            tickets_overdue: false,
        }
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// At a server: the client's first message, once it is there as a whole and until TLS begins. `limit` is the longest that is let in.
    pub(crate) fn client_hello(&self, limit: usize) -> Result<Option<&[u8]>, TransportError> {
        let Some(exchange) = self.exchange.as_ref().filter(|exchange| matches!(exchange.tls, Tls::Awaited)) else { return Ok(None) };
        let bytes = exchange.receive[0].peek();
        let length = ClientHello::message_len(bytes, limit).map_err(crypto_error)?;
        Ok(length.and_then(|length| bytes.get(..length)))
    }

    /// At a server: TLS begins.
    pub(crate) fn begin(&mut self, session: Session) {
        if let Some(exchange) = &mut self.exchange {
            exchange.tls = Tls::In { session: Box::new(session), fresh: false };
        }
    }

    /// At a client: the handshake goes on in another version than it began in.
    pub(crate) fn switch_version(&mut self, version: Version) {
        if let Some(Exchange { tls: Tls::In { session, .. }, .. }) = self.exchange.as_deref_mut() {
            session.switch_version(version);
        }
    }

    /// TLS is done: both Finished were exchanged (RFC 9001 4.1.1).
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The peer is known to be complete as well (RFC 9001 4.1.2).
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether a job is out, or waits to be taken.
    pub(crate) fn is_working(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| matches!(exchange.tls, Tls::Out) || exchange.has_input())
    }

    /// At a client whose handshake is complete: the session is kept for tickets that may come.
    pub(crate) fn awaits_tickets(&self) -> bool {
        self.complete && self.exchange.as_ref().is_some_and(|exchange| !matches!(exchange.tls, Tls::Gone))
    }

    /// Whether anything of TLS is left, or of what it says.
    #[cfg(test)]
    pub(crate) fn is_exchanging(&self) -> bool {
        self.exchange.is_some()
    }

    /// Waits for tickets no longer.
    pub(crate) fn on_tickets_overdue(&mut self) {
        self.tickets_overdue = true;
        if let Some(exchange) = &mut self.exchange
            && matches!(exchange.tls, Tls::In { .. })
        {
            exchange.tls = Tls::Gone;
        }
        self.forget();
    }

    /// What TLS agreed on, once complete.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_deref()
    }

    /// Bytes held outside of the value itself, the TLS session's own excepted.
    pub(crate) fn memory(&self) -> usize {
        self.exchange.as_ref().map_or(0, |exchange| size_of::<Exchange>() + exchange.memory())
            + self.outcome.as_ref().map_or(0, |outcome| size_of::<Outcome>() + outcome_memory(outcome))
            + self.tickets.as_ref().map_or(0, |tickets| size_of::<Tickets>() + tickets.memory())
    }

    /// Takes in the data of a CRYPTO frame, of which up to `window` bytes are held.
    pub(crate) fn on_crypto(&mut self, level: Level, offset: u64, data: &[u8], window: u32) -> Result<(), TransportError> {
        if level == Level::OneRtt {
            if self.side.is_server() {
                // RFC 9001 6: TLS KeyUpdate is forbidden, and a client has nothing else to say after the handshake.
                return Err(unexpected("CRYPTO in a 1-RTT packet from a client"));
            }
            let awaits = self.awaits_tickets();
            let tickets = self.tickets.get_or_insert_default();
            let fits = tickets.on_data(offset, data, window, awaits)?;
            if awaits && !fits {
                tickets.pending = Vec::new();
                self.on_tickets_overdue();
            }
            return Ok(());
        }
        // Without it the level's keys are gone, too.
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        exchange.receive[index(level)].on_data(offset, data, window)?;
        exchange.check_silence()
    }

    /// The next step of TLS, if there is input for it and the session is here.
    pub(crate) fn poll_job(&mut self) -> Option<CryptoJob> {
        let exchange = self.exchange.as_mut()?;
        let has_tickets = self.tickets.as_ref().is_some_and(|tickets| !tickets.pending.is_empty());
        match &exchange.tls {
            Tls::In { fresh, .. } if *fresh || exchange.has_input() || (has_tickets && self.complete) => {}
            _ => return None,
        }
        let Tls::In { session, .. } = std::mem::replace(&mut exchange.tls, Tls::Out) else { return None };
        let streams = [Level::Initial, Level::Handshake].into_iter().zip(&mut exchange.receive);
        let mut input: Vec<_> = streams.filter_map(|(level, stream)| Some((level, stream.read()?))).collect();
        if let Some(tickets) = self.tickets.as_mut().filter(|_| self.complete && has_tickets) {
            input.push((Level::OneRtt, std::mem::take(&mut tickets.pending)));
        }
        // A client that shows a certificate says more, and checking that is not short.
        let is_short = |(level, data): &(Level, Vec<u8>)| match level {
            Level::Handshake => self.side.is_server() && data.len() <= FINISHED_LEN,
            Level::OneRtt => true,
            Level::Initial | Level::ZeroRtt => false,
        };
        let short = !input.is_empty() && input.iter().all(is_short);
        Some(CryptoJob { session, input, short })
    }

    /// Takes a job's session back. Its CRYPTO bytes are queued; the rest of the step is the caller's, and complete only if it made
    /// the handshake so. `None` if the result is stale.
    pub(crate) fn on_done(&mut self, done: CryptoDone) -> Result<Option<Step>, TransportError> {
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| matches!(exchange.tls, Tls::Out)) else {
            return Ok(None);
        };
        exchange.tls = done.session.map_or(Tls::Gone, |session| Tls::In { session, fresh: false });
        let mut step = done.result.map_err(crypto_error)?;
        for (level, bytes) in step.output.drain(..) {
            exchange.send[index(level)].push(&bytes);
        }
        for (level, _) in &step.keys {
            // RFC 9001 4.1.3: nothing may be left over at a level that TLS has gone past.
            if *level == Level::Handshake && exchange.receive[0].has_buffered() {
                return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("CRYPTO left over at the Initial level"));
            }
        }
        step.complete &= !self.complete;
        if step.complete {
            if exchange.receive[1].has_buffered() {
                return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("CRYPTO left over at the Handshake level"));
            }
            self.complete = true;
            self.outcome = step.outcome.take().map(Box::new);
            // Tickets that a server sends are in this step's output.
            if self.side.is_server() {
                // RFC 9001 4.1.2: at a server, complete is confirmed.
                self.confirmed = true;
                self.done = Done::Owed;
            }
        }
        if self.complete && (self.tickets_overdue || !exchange.wants_tickets()) {
            exchange.tls = Tls::Gone;
            exchange.check_silence()?;
            if let Some(tickets) = &mut self.tickets {
                tickets.pending = Vec::new();
            }
            self.forget();
        }
        Ok(Some(step))
    }

    /// The server says that it is confirmed.
    pub(crate) fn on_handshake_done(&mut self) -> Result<(), TransportError> {
        if self.side.is_server() {
            // RFC 9000 19.20
            return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("HANDSHAKE_DONE from a client"));
        }
        // RFC 9001 4.1.2: a server says so when it has our Finished. One that came early was kept until now, when we have its.
        let has_unsent = self.exchange.as_ref().is_some_and(|exchange| exchange.send[index(Level::Handshake)].has_unsent());
        if !self.complete || has_unsent {
            return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("HANDSHAKE_DONE before the handshake is complete"));
        }
        self.confirmed = true;
        Ok(())
    }

    pub(crate) fn has_pending(&self, level: Level) -> bool {
        let has_crypto = self.exchange.as_ref().is_some_and(|exchange| exchange.send[index(level)].has_pending());
        has_crypto || (level == Level::OneRtt && self.done == Done::Owed)
    }

    pub(crate) fn write_frames(&mut self, level: Level, out: &mut FrameWriter<'_>) {
        if level == Level::OneRtt && self.done == Done::Owed && out.frame(&HandshakeDone, Token::HandshakeDone) {
            self.done = Done::Sent;
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.send[index(level)].write_frames(out);
        }
    }

    pub(crate) fn on_acked(&mut self, level: Level, offset: u64, len: u16) {
        if let Some(exchange) = &mut self.exchange {
            exchange.send[index(level)].on_acked(offset, len.into());
            self.forget();
        }
    }

    pub(crate) fn on_lost(&mut self, level: Level, offset: u64, len: u16) {
        if let Some(exchange) = &mut self.exchange {
            exchange.send[index(level)].on_lost(offset, len.into());
        }
    }

    pub(crate) fn on_handshake_done_lost(&mut self) {
        self.done = Done::Owed;
    }

    /// The level's packets are over (RFC 9001 4.9).
    pub(crate) fn on_space_discarded(&mut self, level: Level) {
        if let Some(exchange) = &mut self.exchange {
            exchange.send[index(level)] = CryptoSend::default();
            if let Some(receive) = exchange.receive.get_mut(index(level)) {
                *receive = CryptoReceive::default();
            }
            self.forget();
        }
    }

    /// The connection is closing: the session goes, and what a job brings back is dropped.
    pub(crate) fn abandon(&mut self) {
        self.exchange = None;
        self.tickets = None;
    }

    /// Drops the exchange if it is over.
    fn forget(&mut self) {
        if self.confirmed && self.exchange.as_ref().is_some_and(|exchange| exchange.is_over()) {
            self.exchange = None;
        }
    }
}

impl Exchange {
    fn has_input(&self) -> bool {
        !matches!(self.tls, Tls::Awaited) && self.receive.iter().any(CryptoReceive::is_readable)
    }

    fn wants_tickets(&self) -> bool {
        matches!(&self.tls, Tls::In { session, .. } if session.wants_tickets())
    }

    /// When TLS is gone, nobody reads what its peer still says.
    fn check_silence(&self) -> Result<(), TransportError> {
        let is_heard = !matches!(self.tls, Tls::Gone) || !self.has_input();
        if is_heard { Ok(()) } else { Err(unexpected("CRYPTO after the handshake")) }
    }

    fn is_over(&self) -> bool {
        matches!(self.tls, Tls::Gone) && self.send.iter().all(CryptoSend::is_empty)
    }

    fn memory(&self) -> usize {
        self.send.iter().map(CryptoSend::memory).sum::<usize>() + self.receive.iter().map(CryptoReceive::memory).sum::<usize>()
    }
}

fn outcome_memory(outcome: &Outcome) -> usize {
    let certificates = &outcome.peer_certificates;
    outcome.alpn.as_ref().map_or(0, Vec::capacity)
        + outcome.server_name.as_ref().map_or(0, String::capacity)
        + certificates.capacity() * size_of::<Vec<u8>>()
        + certificates.iter().map(Vec::capacity).sum::<usize>()
}

const FRAME_TYPE_CRYPTO: u64 = 0x06;

/// The longest Finished: a header and a SHA-384 (RFC 8446 4.4.4).
const FINISHED_LEN: usize = 4 + 48;

fn index(level: Level) -> usize {
    match level {
        Level::Initial => 0,
        Level::Handshake => 1,
        // 0-RTT packets carry no CRYPTO frames (RFC 9000 12.5).
        Level::ZeroRtt | Level::OneRtt => 2,
    }
}

/// What TLS refuses.
pub(super) fn crypto_error(error: TlsError) -> TransportError {
    // RFC 9001 4.8, 4.6.1
    let code = if error.protocol_violation { TransportErrorCode::PROTOCOL_VIOLATION } else { TransportErrorCode::crypto(error.alert) };
    let mut failure = code.because(error.message);
    failure.frame = Some(FRAME_TYPE_CRYPTO);
    failure
}

fn unexpected(reason: &'static str) -> TransportError {
    TransportErrorCode::crypto(UNEXPECTED_MESSAGE).because(reason)
}

/// What a server says after the handshake: tickets, which TLS gets while it is there, and which are read over then.
#[derive(Default)]
struct Tickets {
    stream: CryptoReceive,
    skipper: TicketSkipper,
    /// For TLS.
    pending: Vec<u8>,
}

impl Tickets {
    /// Says whether there is room for it, if it `is_awaited` by TLS.
    fn on_data(&mut self, offset: u64, data: &[u8], window: u32, is_awaited: bool) -> Result<bool, TransportError> {
        self.stream.on_data(offset, data, window)?;
        let Some(bytes) = self.stream.read() else { return Ok(true) };
        self.skipper.skip(&bytes)?;
        // Who sends more than TLS has time for sends more than are of use, and half a ticket is none.
        let fits = self.pending.len() + bytes.len() <= window as usize;
        if is_awaited && fits {
            self.pending.extend(bytes);
        }
        Ok(fits)
    }

    fn memory(&self) -> usize {
        self.stream.memory() + self.pending.capacity()
    }
}

/// Reads over the tickets that a server sends after the handshake, and holds none of them.
#[derive(Default)]
struct TicketSkipper {
    header: [u8; 4],
    have: usize,
    left: usize,
}

impl TicketSkipper {
    fn skip(&mut self, mut bytes: &[u8]) -> Result<(), TransportError> {
        /// TLS HandshakeType new_session_ticket (RFC 8446 4).
        const NEW_SESSION_TICKET: u8 = 4;
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            // RFC 9001 6: KeyUpdate in particular is refused.
            if self.header[0] != NEW_SESSION_TICKET {
                return Err(unexpected("a TLS message other than a ticket after the handshake"));
            }
            if self.have == self.header.len() {
                let [_, a, b, c] = self.header;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                self.have = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_code_that_quic_gives_them() {
        // RFC 9001 4.8, 4.6.1
        let error = |protocol_violation| TlsError { alert: 47, protocol_violation, message: String::new() };
        assert_eq!(crypto_error(error(false)).code, TransportErrorCode::crypto(47));
        assert_eq!(crypto_error(error(true)).code, TransportErrorCode::PROTOCOL_VIOLATION);
    }

    #[test]
    fn tickets_are_skipped_in_pieces_and_key_update_refused() {
        // RFC 9001 6
        let mut messages = vec![4, 0, 0, 3, 1, 2, 3, 4, 0, 1, 0];
        messages.extend([9; 256]);
        for size in 1..messages.len() {
            let mut skipper = TicketSkipper::default();
            for piece in messages.chunks(size) {
                skipper.skip(piece).unwrap();
            }
            let error = skipper.skip(&[24, 0, 0, 1, 0]).unwrap_err();
            assert_eq!(error.code.as_u64(), 0x10a);
        }
    }
}
