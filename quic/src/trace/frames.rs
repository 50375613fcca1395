//! The frames of a packet, as a trace shows them: their names and fields, not their data.
//!
//! Owns the words. Reading frames is `wire::frame`'s. Frames are read when they are asked for.

use std::fmt;

use crate::error::TransportError;
use crate::side::Side;
use crate::stream_id::Direction;
use crate::wire::PacketType;
use crate::wire::frame::{Frame, FrameIter};

/// The frames of a packet. As text: each with its fields, with commas between them.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    payload: &'a [u8],
    /// Bytes of data that belong to the last frame and lie elsewhere.
    tail: usize,
    packet_type: PacketType,
    sender: Side,
}

/// One frame, or what was found where one should be.
///
/// As text its name and its fields, such as `STREAM 4 0..1152 fin`; data is shown by where it belongs.
#[derive(Clone, PartialEq, Eq)]
pub struct TracedFrame<'a> {
    frame: Result<Frame<'a>, TransportError>,
    tail: usize,
}

impl<'a> Frames<'a> {
    /// The frames that `sender` put into `payload`; of the last frame's data, `tail` bytes are not in it.
    pub(crate) fn new(payload: &'a [u8], tail: usize, packet_type: PacketType, sender: Side) -> Frames<'a> {
        Frames { payload, tail, packet_type, sender }
    }

    /// One after the other, in the order of the packet. Ends after the first that is not valid.
    pub fn iter(&self) -> impl Iterator<Item = TracedFrame<'a>> + use<'a> {
        let Frames { payload, tail, packet_type, sender } = *self;
        let mut frames = FrameIter::new(payload, packet_type, sender).peekable();
        std::iter::from_fn(move || {
            let frame = frames.next()?;
            let is_last = frames.peek().is_none();
            Some(TracedFrame { frame, tail: if is_last { tail } else { 0 } })
        })
    }
}

impl TracedFrame<'_> {
    /// The frame's name in RFC 9000 section 19 or RFC 9221 section 4; "INVALID" for what is no frame that may be there.
    pub fn name(&self) -> &'static str {
        let Ok(frame) = &self.frame else { return "INVALID" };
        match frame {
            Frame::Padding { .. } => "PADDING",
            Frame::Ping => "PING",
            Frame::Ack(_) => "ACK",
            Frame::ResetStream(_) => "RESET_STREAM",
            Frame::StopSending(_) => "STOP_SENDING",
            Frame::Crypto(_) => "CRYPTO",
            Frame::NewToken(_) => "NEW_TOKEN",
            Frame::Stream(_) => "STREAM",
            Frame::MaxData(_) => "MAX_DATA",
            Frame::MaxStreamData(_) => "MAX_STREAM_DATA",
            Frame::MaxStreams(_) => "MAX_STREAMS",
            Frame::DataBlocked(_) => "DATA_BLOCKED",
            Frame::StreamDataBlocked(_) => "STREAM_DATA_BLOCKED",
            Frame::StreamsBlocked(_) => "STREAMS_BLOCKED",
            Frame::NewConnectionId(_) => "NEW_CONNECTION_ID",
            Frame::RetireConnectionId(_) => "RETIRE_CONNECTION_ID",
            Frame::PathChallenge(_) => "PATH_CHALLENGE",
            Frame::PathResponse(_) => "PATH_RESPONSE",
            Frame::Close(_) | Frame::ApplicationClose(_) => "CONNECTION_CLOSE",
            Frame::HandshakeDone => "HANDSHAKE_DONE",
            Frame::Datagram(_) => "DATAGRAM",
        }
    }
}

impl fmt::Display for TracedFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let frame = match &self.frame {
            Ok(frame) => frame,
            Err(error) => return write!(f, " {error}"),
        };
        match frame {
            Frame::Padding { len } => write!(f, " {len}"),
            Frame::Ping | Frame::HandshakeDone => Ok(()),
            Frame::Ack(ack) => {
                for range in ack.ranges.clone() {
                    let (start, end) = range.into_inner();
                    if start == end { write!(f, " {start}")? } else { write!(f, " {start}-{end}")? }
                }
                write!(f, " delay {}", ack.delay)?;
                ack.ecn.map_or(Ok(()), |ecn| write!(f, " ect0 {} ect1 {} ce {}", ecn.ect0, ecn.ect1, ecn.ce))
            }
            Frame::ResetStream(reset) => write!(f, " {} code {} size {}", reset.id.as_u64(), reset.code, reset.final_size),
            Frame::StopSending(stop) => write!(f, " {} code {}", stop.id.as_u64(), stop.code),
            Frame::Crypto(crypto) => write!(f, " {}", Range(crypto.offset, crypto.data.len())),
            Frame::NewToken(token) => write!(f, " of {} bytes", token.token.len()),
            Frame::Stream(stream) => {
                write!(f, " {} {}", stream.id.as_u64(), Range(stream.offset, stream.data.len() + self.tail))?;
                f.write_str(if stream.fin { " fin" } else { "" })
            }
            Frame::MaxData(max) => write!(f, " {}", max.limit),
            Frame::MaxStreamData(max) => write!(f, " {} {}", max.id.as_u64(), max.limit),
            Frame::MaxStreams(max) => write!(f, " {} {}", short(max.direction), max.limit),
            Frame::DataBlocked(blocked) => write!(f, " {}", blocked.limit),
            Frame::StreamDataBlocked(blocked) => write!(f, " {} {}", blocked.id.as_u64(), blocked.limit),
            Frame::StreamsBlocked(blocked) => write!(f, " {} {}", short(blocked.direction), blocked.limit),
            Frame::NewConnectionId(new) => {
                write!(f, " {} {} retire prior to {}", new.sequence.as_u64(), new.id, new.retire_prior_to.as_u64())
            }
            Frame::RetireConnectionId(retire) => write!(f, " {}", retire.sequence.as_u64()),
            Frame::PathChallenge(challenge) => write!(f, " {:016x}", u64::from_be_bytes(challenge.0)),
            Frame::PathResponse(response) => write!(f, " {:016x}", u64::from_be_bytes(response.0)),
            Frame::Close(close) => {
                write!(f, " {}", close.code)?;
                close.frame.map_or(Ok(()), |frame| write!(f, " in frame {frame:#x}"))?;
                reason(f, close.reason)
            }
            Frame::ApplicationClose(close) => {
                write!(f, " of the application, code {}", close.code)?;
                reason(f, close.reason)
            }
            Frame::Datagram(datagram) => write!(f, " of {} bytes", datagram.data.len()),
        }
    }
}

/// Data by its place.
struct Range(u64, usize);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0, self.0.saturating_add(self.1 as u64))
    }
}

fn short(direction: Direction) -> &'static str {
    match direction {
        Direction::Bi => "bidi",
        Direction::Uni => "uni",
    }
}

/// What a peer says is escaped, so that it stays on its line.
fn reason(f: &mut fmt::Formatter<'_>, reason: &[u8]) -> fmt::Result {
    if reason.is_empty() { Ok(()) } else { write!(f, " \"{}\"", reason.escape_ascii()) }
}

impl fmt::Debug for TracedFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(at, frame)| write!(f, "{}{frame}", if at == 0 { "" } else { ", " }))
    }
}

impl fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server's packet with this payload and `tail` more bytes of its last frame looks like.
    fn shown(payload: &[u8], tail: usize) -> String {
        Frames::new(payload, tail, PacketType::OneRtt, Side::Server).to_string()
    }

    #[test]
    fn every_frame_has_a_name_and_its_fields() {
        let rows: [(&[u8], &str); 25] = [
            (&[0, 0, 0], "PADDING 3"),
            (&[1], "PING"),
            (&[2, 9, 5, 1, 2, 1, 0], "ACK 7-9 4 delay 5"),
            (&[3, 9, 5, 0, 0, 7, 8, 6], "ACK 9 delay 5 ect0 7 ect1 8 ce 6"),
            (&[4, 4, 17, 33], "RESET_STREAM 4 code 0x11 size 33"),
            (&[5, 4, 17], "STOP_SENDING 4 code 0x11"),
            (&[6, 10, 2, 0xff, 0xff], "CRYPTO 10..12"),
            (&[7, 2, 0xff, 0xff], "NEW_TOKEN of 2 bytes"),
            (&[8, 4, 0xff, 0xff], "STREAM 4 0..2"),
            (&[15, 4, 7, 2, 0xff, 0xff], "STREAM 4 7..9 fin"),
            (&[16, 60], "MAX_DATA 60"),
            (&[17, 4, 60], "MAX_STREAM_DATA 4 60"),
            (&[18, 60], "MAX_STREAMS bidi 60"),
            (&[19, 60], "MAX_STREAMS uni 60"),
            (&[20, 60], "DATA_BLOCKED 60"),
            (&[21, 4, 60], "STREAM_DATA_BLOCKED 4 60"),
            (&[22, 60], "STREAMS_BLOCKED bidi 60"),
            (&[24, 2, 1, 1, 0xab, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "NEW_CONNECTION_ID 2 ab retire prior to 1"),
            (&[25, 2], "RETIRE_CONNECTION_ID 2"),
            (&[26, 0, 0, 0, 0, 0, 0, 1, 2], "PATH_CHALLENGE 0000000000000102"),
            (&[27, 0, 0, 0, 0, 0, 0, 1, 2], "PATH_RESPONSE 0000000000000102"),
            (&[28, 10, 6, 2, b'n', b'\n'], "CONNECTION_CLOSE PROTOCOL_VIOLATION in frame 0x6 \"n\\n\""),
            (&[29, 17, 0], "CONNECTION_CLOSE of the application, code 0x11"),
            (&[30], "HANDSHAKE_DONE"),
            (&[0x31, 2, 0xff, 0xff], "DATAGRAM of 2 bytes"),
        ];
        for (payload, text) in rows {
            assert_eq!(shown(payload, 0), text);
        }
        let all: Vec<u8> = [&rows[1], &rows[10], &rows[8]].into_iter().flat_map(|row| row.0).copied().collect();
        assert_eq!(shown(&all, 0), "PING, MAX_DATA 60, STREAM 4 0..2");
    }

    /// The data of a last STREAM frame is not in the packet yet when it is shown.
    #[test]
    fn a_tail_belongs_to_the_last_frame() {
        assert_eq!(shown(&[10, 4, 1, 0xff, 12, 8, 3], 1000), "STREAM 4 0..1, STREAM 8 3..1003");
    }

    #[test]
    fn what_is_no_frame_is_shown_as_such() {
        let text = shown(&[1, 0x40, 0x01, 1], 0);
        assert!(text.starts_with("PING, INVALID PROTOCOL_VIOLATION"), "{text}");
        assert!(shown(&[], 0).starts_with("INVALID PROTOCOL_VIOLATION"));
    }
}
