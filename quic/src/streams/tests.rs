//! Streams end to end over packets that the test delivers, delays or loses; and frames of a peer that breaks the rules.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::send::Send as SendPart;
use super::*;
use crate::error::TransportErrorCode;
use crate::token::Token;
use crate::wire::frame::{Frame, FrameIter};
use crate::wire::{FrameWriter, PacketType};

const KIB: u64 = 1024;

fn limits() -> Limits {
    Limits {
        data: 256 * KIB,
        stream_data: PerStream { bidi_local: 64 * KIB, bidi_remote: 64 * KIB, uni: 64 * KIB },
        streams_bidi: 100,
        streams_uni: 100,
    }
}

/// One end of a connection, with the packets it has sent.
struct End {
    side: Side,
    streams: Streams,
    pool: Pool,
}

struct Packet {
    payload: Vec<u8>,
    tokens: Vec<Token>,
    /// Where the tail lies in memory, if there is one, and its length.
    tail: Option<(*const u8, usize)>,
}

impl End {
    fn new(side: Side, own: Limits, peer: &Limits) -> Self {
        Self::with_send_buffer(side, own, peer, 128 * 1024, u32::MAX)
    }

    fn with_send_buffer(side: Side, own: Limits, peer: &Limits, send_window: u32, send_buffer: u32) -> Self {
        let options = StreamOptions { limits: own, pieces: 1024, send_window: SendWindow::Fixed(send_window), send_buffer };
        let mut streams = Streams::new(side, options, &mut Secrets::new([7; 16]));
        streams.set_peer_limits(peer);
        Self { side, streams, pool: Pool::new() }
    }

    fn packet(&mut self, size: usize) -> Option<Packet> {
        let (mut buf, mut tokens) = (vec![0; size], Vec::new());
        let mut out = FrameWriter::new(&mut buf, &mut tokens);
        self.streams.write_frames(&mut out);
        let written = out.finish();
        buf.truncate(written.len);
        let tail = written.tail.as_ref().map(|tail| (tail.as_ptr(), tail.len()));
        buf.extend_from_slice(written.tail.as_deref().unwrap_or_default());
        assert!(buf.len() <= size);
        (!buf.is_empty()).then_some(Packet { payload: buf, tokens, tail })
    }

    fn deliver(&mut self, packet: &[u8]) -> Result<(), TransportError> {
        let mut payload = self.pool.take(packet.len());
        payload[..packet.len()].copy_from_slice(packet);
        let payload = payload.freeze(0..packet.len());
        let mut frames = FrameIter::new(packet, PacketType::OneRtt, !self.side);
        while let Some(frame) = frames.next() {
            match frame? {
                Frame::Stream(frame) => {
                    let chunk = payload.slice(frames.data_range(frame.data));
                    self.streams.on_stream(frame.id, frame.offset, frame.fin, chunk)?;
                }
                Frame::ResetStream(frame) => self.streams.on_reset_stream(frame)?,
                Frame::StopSending(frame) => self.streams.on_stop_sending(frame)?,
                Frame::MaxData(frame) => self.streams.on_max_data(frame),
                Frame::MaxStreamData(frame) => self.streams.on_max_stream_data(frame)?,
                Frame::MaxStreams(frame) => self.streams.on_max_streams(frame),
                Frame::StreamDataBlocked(frame) => self.streams.on_stream_data_blocked(frame)?,
                Frame::DataBlocked(_) | Frame::StreamsBlocked(_) => {}
                other => panic!("streams wrote {other:?}"),
            }
        }
        Ok(())
    }

    fn acked(&mut self, packet: &Packet) {
        packet.tokens.iter().for_each(|token| self.streams.on_acked(token));
    }

    fn lost(&mut self, packet: &Packet) {
        packet.tokens.iter().for_each(|token| self.streams.on_lost(token));
    }

    fn events(&mut self) -> Vec<StreamEvent> {
        std::iter::from_fn(|| self.streams.poll_event()).collect()
    }

    fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.streams.write(id, data, &self.pool)
    }

    /// Reads and releases all there is. True at the end of the stream.
    fn drain(&mut self, id: StreamId, into: &mut Vec<u8>) -> bool {
        loop {
            match self.streams.read(id, usize::MAX) {
                Ok(Some(chunk)) => {
                    into.extend_from_slice(&chunk);
                    self.streams.release(id, chunk);
                }
                Ok(None) => return true,
                Err(ReadError::Blocked) => return false,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn stream(&mut self, id: StreamId, offset: u64, data: &[u8], fin: bool) -> Result<(), TransportError> {
        let mut chunk = self.pool.take(data.len());
        chunk[..data.len()].copy_from_slice(data);
        self.streams.on_stream(id, offset, fin, chunk.freeze(0..data.len()))
    }
}

/// Which streams a packet of `end` carries data of, in their order.
fn senders(end: &mut End) -> Vec<StreamId> {
    let tokens = end.packet(1200).map(|packet| packet.tokens).unwrap_or_default();
    tokens.iter().filter_map(|token| if let Token::Stream { id, .. } = token { Some(*id) } else { None }).collect()
}

fn pair() -> (End, End) {
    (End::new(Side::Client, limits(), &limits()), End::new(Side::Server, limits(), &limits()))
}

/// Carries packets both ways, without loss, until neither end has anything to send.
fn settle(a: &mut End, b: &mut End) {
    while carry(a, b) | carry(b, a) {}
    assert!(!a.streams.has_pending() && !b.streams.has_pending());
}

/// Carries all packets one way, and acknowledges them. Whether there were any.
fn carry(from: &mut End, to: &mut End) -> bool {
    let mut any = false;
    while let Some(packet) = from.packet(1200) {
        to.deliver(&packet.payload).unwrap();
        from.acked(&packet);
        any = true;
    }
    any
}

fn id(initiator: Side, direction: Direction, index: u64) -> StreamId {
    StreamId::new(initiator, direction, index).unwrap()
}

fn code(code: u32) -> ApplicationCode {
    ApplicationCode::from_u32(code)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 21) as u8).collect()
}

#[test]
fn a_request_and_its_answer() {
    let (mut client, mut server) = pair();
    let stream = client.streams.open(Direction::Bi).unwrap();
    assert_eq!(client.write(stream, b"request"), Ok(7));
    client.streams.finish(stream).unwrap();
    settle(&mut client, &mut server);
    assert_eq!(client.events(), [StreamEvent::Finished(stream)]);
    assert_eq!(server.events(), [StreamEvent::Opened(Direction::Bi), StreamEvent::Readable(stream)]);
    assert_eq!(server.streams.accept(Direction::Bi), Some(stream));
    assert_eq!(server.streams.accept(Direction::Bi), None);
    let mut request = Vec::new();
    assert!(server.drain(stream, &mut request));
    assert_eq!(request, b"request");
    server.write(stream, b"answer").unwrap();
    server.streams.finish(stream).unwrap();
    assert_eq!(server.streams.finish(stream), Err(WriteError::Closed));
    settle(&mut client, &mut server);
    let mut answer = Vec::new();
    assert!(client.drain(stream, &mut answer));
    assert_eq!(answer, b"answer");
    assert_eq!((client.streams.table.len(), server.streams.table.len()), (0, 0));
    assert_eq!(client.streams.read(stream, 1).unwrap_err(), ReadError::Closed);
    // Late frames and tokens of a stream that is gone are ignored.
    server.stream(stream, 0, b"request", true).unwrap();
    server.streams.on_lost(&Token::Stream { id: stream, offset: 0, len: 6, fin: true });
    server.streams.on_acked(&Token::ResetStream(stream));
    assert!(!server.streams.has_pending());
}

#[test]
fn a_stream_that_fills_the_packet_is_not_copied() {
    let (mut client, mut server) = pair();
    let stream = client.streams.open(Direction::Uni).unwrap();
    let data = Bytes::from(pattern(5_000));
    assert_eq!(client.streams.write_chunk(stream, &mut data.clone(), &client.pool), Ok(5_000));
    client.streams.finish(stream).unwrap();
    let mut at = 0;
    for size in [1200, 700, 1350] {
        let packet = client.packet(size).unwrap();
        assert_eq!(packet.payload.len(), size);
        let (address, len) = packet.tail.unwrap();
        assert_eq!(address, data[at..].as_ptr());
        at += len;
        server.deliver(&packet.payload).unwrap();
        assert_eq!(packet.tokens.len(), 1);
    }
    settle(&mut client, &mut server);
    let mut read = Vec::new();
    assert!(server.drain(stream, &mut read));
    assert_eq!(read, data);
}

#[test]
fn many_small_writes_share_a_chunk_and_a_place_in_the_queue() {
    let (mut client, _) = pair();
    let stream = client.streams.open(Direction::Uni).unwrap();
    for _ in 0..1000 {
        client.write(stream, b"ab").unwrap();
    }
    assert_eq!(client.streams.queues.entries(), 1);
    let packet = client.packet(2100).unwrap();
    assert_eq!(packet.tokens, [Token::Stream { id: stream, offset: 0, len: 2000, fin: false }]);
}

/// Every size of packet, so that every border of the length field is met.
#[test]
fn frames_fit_packets_of_any_size() {
    let (mut client, mut server) = pair();
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    let stream = client.streams.open(Direction::Uni).unwrap();
    for round in 0..400 {
        let data = pattern(1 + round * 7 % 150);
        sent.extend_from_slice(&data);
        client.write(stream, &data).unwrap();
        while let Some(packet) = client.packet(60 + round % 130) {
            server.deliver(&packet.payload).unwrap();
            client.acked(&packet);
        }
        server.drain(stream, &mut got);
        while let Some(packet) = server.packet(100) {
            client.deliver(&packet.payload).unwrap();
        }
    }
    assert_eq!(got, sent);
}

#[test]
fn streams_take_turns() {
    let (mut client, _) = pair();
    let streams: Vec<_> = (0..3).map(|_| client.streams.open(Direction::Uni).unwrap()).collect();
    for &stream in &streams {
        client.write(stream, &pattern(10_000)).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..9 {
        for token in client.packet(1200).unwrap().tokens {
            let Token::Stream { id, .. } = token else { panic!("{token:?}") };
            order.push(id);
        }
    }
    for turn in order.chunks(3) {
        assert_eq!(turn, streams);
    }
}

/// A stream of a higher priority goes first as long as it has anything, lost or new; equals take turns, and a change counts at
/// once, wherever the stream waits.
#[test]
fn a_higher_priority_goes_first() {
    let (mut client, mut server) = pair();
    let streams: Vec<_> = (0..4).map(|_| client.streams.open(Direction::Uni).unwrap()).collect();
    for &stream in &streams {
        client.write(stream, &pattern(3_600)).unwrap();
    }
    client.streams.set_priority(streams[2], 1);
    client.streams.set_priority(streams[3], 1);
    client.streams.set_priority(streams[0], -1);
    let first = client.packet(1200).unwrap();
    assert_eq!(senders(&mut client), [streams[3]]);
    client.lost(&first);
    client.streams.set_priority(streams[1], 7);
    assert_eq!(senders(&mut client), [streams[1]]);
    client.streams.set_priority(streams[1], 0);
    let mut order: Vec<_> = std::iter::from_fn(|| Some(senders(&mut client)).filter(|ids| !ids.is_empty())).flatten().collect();
    order.dedup();
    let (above, below) = order.split_at(order.len() - 2);
    assert!(above.iter().all(|id| streams[2..].contains(id)) && above.len() > 2, "{order:?}");
    assert_eq!(below, [streams[1], streams[0]]);
    assert_eq!(client.streams.priority(streams[0]), Some(-1));
    settle(&mut client, &mut server);
}

/// Writers that never stop: those of the highest priority share the packets evenly, and the one below gets what they leave.
#[test]
fn equals_never_starve_and_lower_ones_wait() {
    let mut wide = limits();
    (wide.data, wide.stream_data.uni) = (u64::from(u32::MAX), 1 << 24);
    let mut client = End::new(Side::Client, limits(), &wide);
    let streams: Vec<_> = (0..6).map(|_| client.streams.open(Direction::Uni).unwrap()).collect();
    client.streams.set_priority(streams[5], -1);
    let mut shares = [0u32; 6];
    let data = pattern(8_000);
    let write = |client: &mut End, stream: StreamId| client.write(stream, &data).is_ok();
    for _ in 0..600 {
        for &stream in &streams {
            write(&mut client, stream);
        }
        let packet = client.packet(1200).unwrap();
        for token in &packet.tokens {
            let Token::Stream { id, len, .. } = token else { panic!("{token:?}") };
            shares[streams.iter().position(|stream| stream == id).unwrap()] += u32::from(*len);
        }
        client.acked(&packet);
    }
    let (least, most) = (shares[..5].iter().min().unwrap(), shares[..5].iter().max().unwrap());
    assert!(most - least <= 2 * 1200, "{shares:?}");
    assert_eq!(shares[5], 0);
    // What the others leave is its own.
    let mut rest = Vec::new();
    while let Some(packet) = client.packet(1200) {
        rest.extend(
            packet.tokens.iter().filter(|token| matches!(token, Token::Stream { id, .. } if *id == streams[5])).count().checked_sub(1),
        );
        client.acked(&packet);
    }
    assert!(rest.len() > 4);
}

/// A stream whose turn never comes leaves nothing behind when it is gone (RFC 9000 section 3.5).
#[test]
fn streams_that_were_stopped_while_they_waited_are_forgotten() {
    let (mut client, _) = pair();
    let bulk = client.streams.open(Direction::Uni).unwrap();
    client.write(bulk, &pattern(64 * 1024)).unwrap();
    for round in 0..90 {
        let low = client.streams.open(Direction::Uni).unwrap();
        client.streams.set_priority(low, -round);
        client.write(low, b"never sent").unwrap();
        client.streams.on_stop_sending(StopSending { id: low, code: code(0) }).unwrap();
        client.streams.abandon(low);
        let reset = client.packet(40).unwrap();
        assert!(reset.tokens.contains(&Token::ResetStream(low)));
        client.acked(&reset);
        assert_eq!((client.streams.table.len(), client.streams.queues.entries()), (1, 1), "round {round}");
    }
}

/// A peer that permits one byte a stream and never reads: what its 200 streams hold is bounded by the connection's buffer, and
/// by a small piece for each stream (unbound CVE-2026-55991 held a window for each).
#[test]
fn all_streams_together_hold_no_more_than_the_send_buffer() {
    const BUFFER: u32 = 256 * 1024;
    let stream_data = PerStream { uni: 1, ..PerStream::default() };
    for data in [1, 1 << 30] {
        let peer = Limits { data, stream_data, streams_uni: 200, ..Limits::default() };
        let mut client = End::with_send_buffer(Side::Client, limits(), &peer, 128 * 1024, BUFFER);
        let streams: Vec<_> = (0..200).map(|_| client.streams.open(Direction::Uni).unwrap()).collect();
        for _ in 0..10 {
            for &stream in &streams {
                match client.write(stream, &pattern(100_000)) {
                    Ok(written) => assert!(written > 0),
                    Err(error) => assert_eq!(error, WriteError::Blocked),
                }
            }
            while let Some(packet) = client.packet(1200) {
                client.acked(&packet);
            }
        }
        let bound = BUFFER as usize + 200 * 2048;
        assert!(client.streams.held() <= bound, "{} bytes", client.streams.held());
        // A piece for each stream is there even so.
        let pieces = streams.iter().filter(|&&stream| client.streams.table.get(stream).unwrap().send.as_ref().unwrap().held() > 0);
        assert_eq!(pieces.count(), 200);
        assert!(client.streams.memory() <= 2 * bound, "{} bytes of memory", client.streams.memory());
        for &stream in &streams {
            client.streams.reset(stream, code(0));
        }
        assert_eq!(client.streams.held(), 0);
    }
}

/// Writers that wait for the connection's room are woken when a part of it is free, and each comes to its turn.
#[test]
fn writers_that_wait_for_the_connection_are_woken() {
    const BUFFER: u32 = 64 * 1024;
    let mut wide = limits();
    (wide.data, wide.stream_data.uni) = (1 << 30, 1 << 30);
    let mut client = End::with_send_buffer(Side::Client, limits(), &wide, BUFFER, BUFFER);
    let streams: Vec<_> = (0..20).map(|_| client.streams.open(Direction::Uni).unwrap()).collect();
    let mut written = [0usize; 20];
    let mut writable: VecDeque<usize> = (0..20).collect();
    for _ in 0..2_000 {
        while let Some(index) = writable.pop_front() {
            while let Ok(len) = client.write(streams[index], &pattern(10_000)) {
                written[index] += len;
            }
        }
        assert!(client.streams.held() <= BUFFER as usize + 20 * 2048);
        let Some(packet) = client.packet(1200) else { panic!("nobody was woken: {written:?}") };
        client.acked(&packet);
        for event in client.events() {
            let StreamEvent::Writable(id) = event else { panic!("{event:?}") };
            writable.push_back(streams.iter().position(|stream| *stream == id).unwrap());
        }
    }
    assert!(written.iter().all(|&bytes| bytes > 20_000), "{written:?}");
}

/// Streams whose data goes nowhere hold the whole buffer: another one still moves.
#[test]
fn a_stream_moves_on_while_others_hold_the_buffer() {
    let (mut client, mut server) =
        (End::with_send_buffer(Side::Client, limits(), &limits(), 128 * 1024, 256 * 1024), End::new(Side::Server, limits(), &limits()));
    let stuck: Vec<_> = (0..3).map(|_| client.streams.open(Direction::Uni).unwrap()).collect();
    // 64 KiB of each go out and are not read.
    for _ in 0..10 {
        for &stream in &stuck {
            let _ = client.write(stream, &pattern(200_000));
        }
        settle(&mut client, &mut server);
    }
    assert!(client.streams.held() >= 256 * 1024);
    let moving = client.streams.open(Direction::Uni).unwrap();
    let data = pattern(20_000);
    let (mut at, mut got) = (0, Vec::new());
    for _ in 0..20 {
        match client.write(moving, &data[at..]) {
            Ok(written) => at += written,
            Err(error) => panic!("{error:?} at {at}"),
        }
        settle(&mut client, &mut server);
        server.drain(moving, &mut got);
        client.events();
    }
    assert_eq!(got, data);
}

/// When memory is short a stream takes a small piece and no more; afterwards writers are told.
#[test]
fn writers_wait_while_memory_is_short() {
    let (mut client, mut server) = pair();
    let stream = client.streams.open(Direction::Uni).unwrap();
    client.streams.squeeze(true);
    assert_eq!(client.write(stream, &pattern(10_000)), Ok(2048));
    assert_eq!(client.write(stream, b"more"), Err(WriteError::Blocked));
    assert!(client.events().is_empty());
    client.streams.squeeze(false);
    assert_eq!(client.events(), [StreamEvent::Writable(stream)]);
    assert_eq!(client.write(stream, &pattern(10_000)), Ok(10_000));
    settle(&mut client, &mut server);
}

/// A window that follows congestion control is twice its window, within bounds.
#[test]
fn the_send_window_follows_congestion_control() {
    let mut wide = limits();
    (wide.data, wide.stream_data.uni) = (1 << 30, 1 << 30);
    let options = StreamOptions { limits: limits(), pieces: 1024, send_window: SendWindow::Auto { max: 500_000 }, send_buffer: u32::MAX };
    for (window, expected) in [(12_000, 64 * 1024), (100_000, 200_000), (1 << 40, 500_000)] {
        let mut streams = Streams::new(Side::Client, options.clone(), &mut Secrets::new([7; 16]));
        streams.set_peer_limits(&wide);
        streams.on_congestion_window(window);
        let stream = streams.open(Direction::Uni).unwrap();
        assert_eq!(streams.write(stream, &vec![0; 1 << 20], &Pool::new()), Ok(expected));
    }
}

/// What every connection pays for its streams, of which an idle one has none.
#[test]
fn streams_are_small() {
    assert!(size_of::<Streams>() <= 520, "{} bytes", size_of::<Streams>());
}

/// The send window bounds what is held, and the writer is woken when a part of it is free.
#[test]
fn a_full_send_window_blocks_until_acknowledged() {
    let mut big = limits();
    big.stream_data.uni = 1024 * KIB;
    let mut client = End::new(Side::Client, limits(), &big);
    let stream = client.streams.open(Direction::Uni).unwrap();
    assert_eq!(client.write(stream, &pattern(200_000)), Ok(128 * 1024));
    assert_eq!(client.write(stream, b"more"), Err(WriteError::Blocked));
    assert_eq!(client.write(stream, b""), Ok(0));
    let packets: Vec<_> = std::iter::from_fn(|| client.packet(1200)).collect();
    assert!(client.events().is_empty());
    for (n, packet) in packets.iter().enumerate() {
        client.acked(packet);
        let events = client.events();
        if (n + 1) * 1200 < 32 * 1024 {
            assert!(events.is_empty());
        } else if !events.is_empty() {
            assert_eq!(events, [StreamEvent::Writable(stream)]);
            assert!((n + 1) * 1100 < 40 * 1024);
            assert!(client.write(stream, &pattern(40_000)).unwrap() >= 32 * 1024);
            return;
        }
    }
    panic!("the writer was never woken");
}

/// RFC 9000 section 4.1: blocked at either level is told once a limit, and credit resumes.
#[test]
fn blocked_frames_are_sent_once_a_limit() {
    let mut tight = limits();
    tight.data = 1_000;
    tight.stream_data.uni = 600;
    let mut client = End::new(Side::Client, limits(), &tight);
    let (a, b) = (client.streams.open(Direction::Uni).unwrap(), client.streams.open(Direction::Uni).unwrap());
    client.write(a, &pattern(5_000)).unwrap();
    client.write(b, &pattern(5_000)).unwrap();
    let packet = client.packet(3_000).unwrap();
    let data: u64 = packet.tokens.iter().map(|token| if let Token::Stream { len, .. } = token { u64::from(*len) } else { 0 }).sum();
    assert_eq!(data, 1_000);
    let blocked = client.packet(3_000).unwrap();
    assert_eq!(blocked.tokens, [Token::DataBlocked, Token::StreamDataBlocked(a)]);
    assert!(client.packet(3_000).is_none() && !client.streams.has_pending());
    client.write(b, b"more").unwrap();
    assert!(!client.streams.has_pending());
    client.lost(&blocked);
    assert_eq!(client.packet(3_000).unwrap().tokens, blocked.tokens);
    // Limits that do not rise change nothing.
    client.streams.on_max_data(MaxData { limit: 999 });
    client.streams.on_max_stream_data(MaxStreamData { id: a, limit: 600 }).unwrap();
    assert!(!client.streams.has_pending());
    client.streams.on_max_data(MaxData { limit: 1_150 });
    assert!(client.streams.has_pending());
    assert_eq!(client.packet(3_000).unwrap().tokens, [Token::Stream { id: b, offset: 400, len: 150, fin: false }]);
    assert_eq!(client.packet(3_000).unwrap().tokens, [Token::DataBlocked]);
}

/// Lost data needs no credit (it was counted when it was sent first).
#[test]
fn a_starved_stream_still_retransmits() {
    let mut tight = limits();
    tight.data = 500;
    let mut client = End::new(Side::Client, limits(), &tight);
    let stream = client.streams.open(Direction::Uni).unwrap();
    client.write(stream, &pattern(5_000)).unwrap();
    let packet = client.packet(600).unwrap();
    client.packet(600).unwrap();
    assert!(!client.streams.has_pending());
    for _ in 0..10 {
        client.lost(&packet);
        client.write(stream, b"more").unwrap();
    }
    // Ready for what was lost, and starved for the rest: once each.
    assert_eq!(client.streams.queues.entries(), 2);
    assert_eq!(client.packet(600).unwrap().tokens, packet.tokens);
    assert!(!client.streams.has_pending());
}

/// A peer that gives a byte of credit at a time.
#[test]
fn credit_of_single_bytes_moves_single_bytes() {
    let stream_data = PerStream { uni: 1, ..PerStream::default() };
    let tight = Limits { data: 1, stream_data, streams_uni: 3, ..Limits::default() };
    let mut client = End::new(Side::Client, limits(), &tight);
    let streams: Vec<_> = (0..3).map(|_| client.streams.open(Direction::Uni).unwrap()).collect();
    for &stream in &streams {
        client.write(stream, &pattern(100)).unwrap();
    }
    for limit in 1..60 {
        client.streams.on_max_data(MaxData { limit });
        for &stream in &streams {
            client.streams.on_max_stream_data(MaxStreamData { id: stream, limit }).unwrap();
        }
        let mut bytes = 0;
        for packet in std::iter::from_fn(|| client.packet(1200)).take(10) {
            bytes += packet.tokens.iter().filter(|token| matches!(token, Token::Stream { len: 1, .. })).count();
        }
        assert_eq!(bytes, 1);
    }
}

/// RFC 9000 section 4.1: every stream within its limit, the sum above MAX_DATA.
#[test]
fn the_sum_of_streams_is_limited() {
    let mut own = limits();
    own.data = 100 * KIB;
    let mut server = End::new(Side::Server, own, &limits());
    let data = pattern(1024);
    for index in 0..2 {
        for at in 0..50 {
            server.stream(id(Side::Client, Direction::Uni, index), at * KIB, &data, false).unwrap();
        }
    }
    let third = id(Side::Client, Direction::Bi, 0);
    // An empty frame and a repeated one cost no credit.
    server.stream(third, 0, b"", false).unwrap();
    server.stream(id(Side::Client, Direction::Uni, 0), 0, &data, false).unwrap();
    let error = server.stream(third, 0, b"x", false).unwrap_err();
    assert_eq!(error.code, TransportErrorCode::FLOW_CONTROL_ERROR);
    // The same by a gap, and by a reset.
    let error = server.streams.on_reset_stream(ResetStream { id: third, code: code(1), final_size: 9 }).unwrap_err();
    assert_eq!(error.code, TransportErrorCode::FLOW_CONTROL_ERROR);
}

/// RFC 9000 sections 4.1 and 19.10: a stream's own limit.
#[test]
fn a_stream_is_limited() {
    let (_, mut server) = pair();
    for (index, offset, len) in [(0, 64 * KIB, 1), (1, 64 * KIB - 1, 2), (2, 1 << 61, 0)] {
        let stream = id(Side::Client, Direction::Bi, index);
        let error = server.stream(stream, offset, &pattern(len), false).unwrap_err();
        assert_eq!(error.code, TransportErrorCode::FLOW_CONTROL_ERROR, "{offset} {len}");
    }
    server.stream(id(Side::Client, Direction::Bi, 3), 64 * KIB - 1, b"x", false).unwrap();
}

/// RFC 9000 section 4.5: the final size neither changes nor lies below what was received.
#[test]
fn the_final_size_is_final() {
    let stream = id(Side::Client, Direction::Uni, 0);
    let reset = |final_size| ResetStream { id: stream, code: code(9), final_size };
    let wrong = |result: Result<(), TransportError>| {
        assert_eq!(result.unwrap_err().code, TransportErrorCode::FINAL_SIZE_ERROR);
    };
    for stopped in [false, true] {
        let fresh = || {
            let (_, mut server) = pair();
            server.stream(stream, 0, &pattern(10), false).unwrap();
            assert_eq!(server.streams.accept(Direction::Uni), Some(stream));
            if stopped {
                server.streams.stop(stream, code(1));
            }
            server
        };
        wrong(fresh().stream(stream, 0, &pattern(9), true));
        wrong(fresh().streams.on_reset_stream(reset(9)));
        if stopped {
            // Nothing is left to know once the size is: the stream is gone.
            continue;
        }
        let mut server = fresh();
        server.stream(stream, 20, b"", true).unwrap();
        server.stream(stream, 19, b"x", true).unwrap();
        server.stream(stream, 5, &pattern(3), false).unwrap();
        wrong(server.stream(stream, 20, b"x", false));
        wrong(server.stream(stream, 21, b"", true));
        wrong(server.stream(stream, 10, b"x", true));
        wrong(server.streams.on_reset_stream(reset(19)));
        wrong(server.streams.on_reset_stream(reset(21)));
        server.streams.on_reset_stream(reset(20)).unwrap();
        wrong(server.stream(stream, 20, b"x", false));
        server.streams.on_reset_stream(reset(20)).unwrap();
        assert_eq!(server.streams.read(stream, 1).unwrap_err(), ReadError::Reset(code(9)));
        server.stream(stream, 20, b"x", false).unwrap();
    }
}

/// RFC 9000 sections 19.4, 19.5, 19.8, 19.10, 19.13: each frame for a stream of the wrong direction, or of this end that was
/// never opened.
#[test]
fn frames_for_impossible_streams() {
    let about = |server: &mut End, frame: usize, id: StreamId| match frame {
        0 => server.stream(id, 0, b"x", false),
        1 => server.streams.on_reset_stream(ResetStream { id, code: code(0), final_size: 0 }),
        2 => server.streams.on_stream_data_blocked(StreamDataBlocked { id, limit: 0 }),
        3 => server.streams.on_stop_sending(StopSending { id, code: code(0) }),
        _ => server.streams.on_max_stream_data(MaxStreamData { id, limit: 9 }),
    };
    let code_of = |result: Result<(), TransportError>| result.err().map(|error| error.code);
    for frame in 0..5 {
        let (_, mut server) = pair();
        let own_uni = server.streams.open(Direction::Uni).unwrap();
        let receives = frame < 3;
        let state = Some(TransportErrorCode::STREAM_STATE_ERROR);
        assert_eq!(code_of(about(&mut server, frame, own_uni)), if receives { state } else { None });
        let peers_uni = id(Side::Client, Direction::Uni, 0);
        assert_eq!(code_of(about(&mut server, frame, peers_uni)), if receives { None } else { state });
        assert_eq!(code_of(about(&mut server, frame, id(Side::Server, Direction::Bi, 0))), state);
        let own_bi = server.streams.open(Direction::Bi).unwrap();
        assert_eq!(code_of(about(&mut server, frame, own_bi)), None);
        // RFC 9000 section 4.6: beyond the limit, by any frame.
        assert_eq!(code_of(about(&mut server, frame, id(Side::Client, Direction::Bi, 99))), None);
        let limit = Some(TransportErrorCode::STREAM_LIMIT_ERROR);
        for index in [100, StreamId::MAX_STREAMS - 1] {
            assert_eq!(code_of(about(&mut server, frame, id(Side::Client, Direction::Bi, index))), limit);
        }
    }
}

/// RFC 9000 section 3.2: a stream opens all lower ones; they cost nothing until they are used.
/// RFC 9001 section 4.6.2: with early data that was rejected all begins anew, and what the peer does not permit waits until it does.
#[test]
fn after_a_rejection_streams_begin_anew_and_those_past_the_limit_wait() {
    const STREAMS: usize = 40;
    let permitted = Limits { streams_bidi: 4, streams_uni: 3, data: 700, ..limits() };
    let (mut client, mut server) = (End::new(Side::Client, limits(), &limits()), End::new(Side::Server, permitted.clone(), &limits()));
    let ids: Vec<_> = Direction::ALL.into_iter().flat_map(|direction| vec![direction; STREAMS / 2]).collect();
    let ids: Vec<_> = ids.into_iter().map(|direction| client.streams.open(direction).unwrap()).collect();
    for (n, &id) in ids.iter().enumerate() {
        client.write(id, &pattern(100 + n)).unwrap();
        if n % 3 == 0 {
            client.streams.finish(id).unwrap();
        }
    }
    // All of it was sent, a reset and a stop among it; some waits for credit, and some was lost.
    client.streams.reset(ids[1], code(1));
    client.streams.stop(ids[2], code(2));
    let sent: Vec<_> = std::iter::from_fn(|| client.packet(1200)).collect();
    client.lost(&sent[0]);
    client.streams.finish(ids[4]).unwrap();
    client.streams.on_zero_rtt_rejected();
    assert!(client.packet(1200).is_none(), "there is no limit yet");
    client.streams.reset(ids[10], code(3));
    client.streams.set_peer_limits(&permitted);
    // Whoever names a stream past the limit is found out by `deliver`.
    for (n, &id) in ids.iter().enumerate().filter(|(n, _)| n % 3 != 0 && ![1, 4, 10].contains(n)) {
        if n % 5 == 0 {
            assert_eq!(client.write(id, b"more"), Ok(4));
        }
        client.streams.finish(id).unwrap();
    }
    assert_eq!(client.streams.open(Direction::Bi), None);
    let mut arrived = vec![Vec::new(); STREAMS];
    let mut accepted = 0;
    for _ in 0..1000 {
        settle(&mut client, &mut server);
        for direction in Direction::ALL {
            while let Some(id) = server.streams.accept(direction) {
                accepted += 1;
                // One of them was stopped.
                let _ = server.streams.finish(id);
            }
        }
        for (&id, bytes) in ids.iter().zip(&mut arrived) {
            for (end, bytes) in [(&mut server, bytes), (&mut client, &mut Vec::new())] {
                while let Ok(Some(chunk)) = end.streams.read(id, usize::MAX) {
                    bytes.extend_from_slice(&chunk);
                    end.streams.release(id, chunk);
                }
            }
        }
    }
    assert_eq!(accepted, STREAMS);
    for (n, bytes) in arrived.iter().enumerate().filter(|(n, _)| ![1, 10].contains(n)) {
        let more = if n % 5 == 0 && n % 3 != 0 { &b"more"[..] } else { b"" };
        assert_eq!(*bytes, [&pattern(100 + n), more].concat(), "stream {n}");
    }
    assert_eq!(client.streams.table.len(), 0);
    assert!(client.streams.open(Direction::Bi).is_some());
}

#[test]
fn lower_streams_open_without_cost() {
    let mut own = limits();
    own.streams_bidi = 1_000_000;
    let mut server = End::new(Side::Server, own, &limits());
    let peers = |index| id(Side::Client, Direction::Bi, index);
    server.stream(peers(999_999), 0, b"last", false).unwrap();
    assert_eq!(server.streams.table.len(), 1);
    server.stream(peers(500), 0, b"mid", false).unwrap();
    server.stream(peers(2), 0, b"low", false).unwrap();
    assert_eq!(server.streams.table.len(), 3);
    for index in 0..600 {
        assert_eq!(server.streams.accept(Direction::Bi), Some(peers(index)));
    }
    assert_eq!(server.streams.table.len(), 601);
    server.stream(peers(3), 0, b"three", false).unwrap();
    for (index, data) in [(2, &b"low"[..]), (3, b"three"), (500, b"mid")] {
        let mut read = Vec::new();
        server.drain(peers(index), &mut read);
        assert_eq!(read, data);
    }
}

/// RFC 9000 section 3.5: STOP_SENDING is answered with a reset of the same code.
#[test]
fn stop_is_answered_by_reset() {
    let (mut client, mut server) = pair();
    let stream = client.streams.open(Direction::Uni).unwrap();
    client.write(stream, &pattern(100_000)).unwrap();
    let packet = client.packet(1200).unwrap();
    server.deliver(&packet.payload).unwrap();
    assert_eq!(server.streams.accept(Direction::Uni), Some(stream));
    server.streams.stop(stream, code(77));
    assert_eq!(server.streams.read(stream, 10).unwrap_err(), ReadError::Closed);
    let late = client.packet(1200).unwrap();
    server.deliver(&late.payload).unwrap();
    settle(&mut client, &mut server);
    assert!(client.events().contains(&StreamEvent::Stopped { id: stream, code: code(77) }));
    assert_eq!(server.streams.table.len(), 0);
    // The sender stays until the application has seen why.
    assert!(client.streams.is_sending(stream) || client.streams.table.len() == 1);
    assert_eq!(client.write(stream, b"x"), Err(WriteError::Stopped(code(77))));
    assert_eq!(client.write(stream, b"x"), Err(WriteError::Closed));
    assert_eq!(client.streams.table.len(), 0);
    // All that arrived and was dropped is credit again.
    assert_eq!(server.streams.receive_credit.advertise() - server.streams.receive_credit.received(), 256 * KIB);
    assert_eq!(server.pool.free_buffers(), 1);
}

/// RFC 9000 section 3.5: a stop may come after the end was written, when nobody holds the stream any more who could be told.
#[test]
fn a_stop_of_a_finished_stream_leaves_nothing_behind() {
    for abandoned_first in [false, true] {
        let (mut client, mut server) = pair();
        let stream = client.streams.open(Direction::Uni).unwrap();
        client.write(stream, &pattern(10_000)).unwrap();
        client.streams.finish(stream).unwrap();
        if abandoned_first {
            client.streams.abandon(stream);
        }
        let packet = client.packet(1200).unwrap();
        server.deliver(&packet.payload).unwrap();
        assert_eq!(server.streams.accept(Direction::Uni), Some(stream));
        server.streams.stop(stream, code(7));
        carry(&mut server, &mut client);
        settle(&mut client, &mut server);
        assert!(client.events().contains(&StreamEvent::Stopped { id: stream, code: code(7) }));
        if !abandoned_first {
            assert_eq!(client.streams.stopped(stream), Some(code(7)), "kept for who may ask");
            client.streams.abandon(stream);
        }
        assert_eq!((client.streams.table.len(), server.streams.table.len()), (0, 0));
    }
}

/// RFC 9000 section 3.1, "Reset Recvd": who waits for the end of a stream that was reset learns of it.
#[test]
fn the_end_of_a_reset_stream_is_told() {
    let (mut client, mut server) = pair();
    let stream = client.streams.open(Direction::Uni).unwrap();
    client.write(stream, b"data").unwrap();
    client.streams.reset(stream, code(5));
    settle(&mut client, &mut server);
    assert_eq!(client.events(), [StreamEvent::Finished(stream)]);
    assert!(!client.streams.is_sending(stream));
}

/// RFC 9000 section 3.1: after a reset no data, and the final size is what was sent.
#[test]
fn a_reset_stops_data_and_is_repeated_until_acknowledged() {
    let (mut client, mut server) = pair();
    let stream = client.streams.open(Direction::Bi).unwrap();
    client.write(stream, &pattern(10_000)).unwrap();
    let data = client.packet(1200).unwrap();
    client.streams.reset(stream, code(5));
    assert_eq!(client.write(stream, b"x"), Err(WriteError::Closed));
    let reset = client.packet(1200).unwrap();
    assert_eq!(reset.tokens, [Token::ResetStream(stream)]);
    client.lost(&data);
    assert!(!client.streams.has_pending());
    client.lost(&reset);
    let again = client.packet(1200).unwrap();
    assert_eq!(again.payload, reset.payload);
    server.deliver(&again.payload).unwrap();
    // The data is late, and within the final size.
    server.deliver(&data.payload).unwrap();
    assert_eq!(server.streams.accept(Direction::Bi), Some(stream));
    assert_eq!(server.streams.read(stream, 1).unwrap_err(), ReadError::Reset(code(5)));
    assert_eq!(server.streams.read(stream, 1).unwrap_err(), ReadError::Closed);
    server.streams.reset(stream, code(6));
    settle(&mut client, &mut server);
    client.acked(&again);
    assert_eq!(client.streams.read(stream, 1).unwrap_err(), ReadError::Reset(code(6)));
    assert_eq!((client.streams.table.len(), server.streams.table.len()), (0, 0));
    assert_eq!(server.streams.receive_credit.advertise() - server.streams.receive_credit.received(), 256 * KIB);
}

/// RFC 9000 section 3.2: "Data Recvd" does not turn into a reset.
#[test]
fn a_reset_after_all_data_is_ignored() {
    let (_, mut server) = pair();
    let stream = id(Side::Client, Direction::Uni, 0);
    server.stream(stream, 0, b"whole", true).unwrap();
    server.streams.on_reset_stream(ResetStream { id: stream, code: code(1), final_size: 5 }).unwrap();
    let mut read = Vec::new();
    assert!(server.drain(stream, &mut read));
    assert_eq!(read, b"whole");
}

/// RFC 9000 section 4.6: permission comes back as streams close, and not before.
#[test]
fn tens_of_thousands_of_streams_come_and_go() {
    let (mut client, mut server) = pair();
    let mut opened = 0;
    let mut refused = 0;
    while opened < 30_000 {
        let mut batch = Vec::new();
        while let Some(stream) = client.streams.open(Direction::Bi) {
            client.write(stream, b"ping").unwrap();
            client.streams.finish(stream).unwrap();
            batch.push(stream);
        }
        refused += 1;
        opened += batch.len();
        assert!(batch.len() <= 100);
        settle(&mut client, &mut server);
        let mut data = Vec::new();
        while let Some(stream) = server.streams.accept(Direction::Bi) {
            assert!(server.drain(stream, &mut data));
            server.write(stream, b"pong").unwrap();
            server.streams.finish(stream).unwrap();
        }
        settle(&mut client, &mut server);
        for &stream in &batch {
            assert!(client.drain(stream, &mut data));
        }
        assert_eq!(data.len(), batch.len() * 8);
        settle(&mut client, &mut server);
        assert!(client.events().contains(&StreamEvent::Available(Direction::Bi)));
        server.events();
        assert_eq!((client.streams.table.len(), server.streams.table.len()), (0, 0));
    }
    assert!(refused >= 300);
}

/// Streams that are reset at once count until the application has seen them.
#[test]
fn a_flood_of_resets_is_limited() {
    let (_, mut server) = pair();
    for index in 0..100 {
        let id = id(Side::Client, Direction::Uni, index);
        server.streams.on_reset_stream(ResetStream { id, code: code(0), final_size: 0 }).unwrap();
    }
    assert!(!server.streams.has_pending());
    let next = ResetStream { id: id(Side::Client, Direction::Uni, 100), code: code(0), final_size: 0 };
    assert_eq!(server.streams.on_reset_stream(next).unwrap_err().code, TransportErrorCode::STREAM_LIMIT_ERROR);
    assert_eq!(server.events().len(), 101);
}

/// Small chunks that the application keeps do not pin more than twice the window.
#[test]
fn chunks_that_the_application_keeps_pin_little() {
    let (_, mut server) = pair();
    let stream = id(Side::Client, Direction::Uni, 0);
    let mut kept = Vec::new();
    for offset in 0..64 * KIB {
        server.stream(stream, offset, b"x", false).unwrap();
        kept.push(server.streams.read(stream, usize::MAX).unwrap().unwrap());
    }
    let pinned: usize = kept.iter().map(Chunk::retained).sum();
    assert!(pinned as u64 <= 2 * 64 * KIB, "{pinned} bytes");
    for chunk in kept {
        server.streams.release(stream, chunk);
    }
    assert_eq!(server.packet(1200).unwrap().tokens, [Token::MaxData, Token::MaxStreamData(stream)]);
}

/// Empty frames cost nothing and wake nobody.
#[test]
fn empty_frames_are_nothing() {
    let (_, mut server) = pair();
    let stream = id(Side::Client, Direction::Uni, 0);
    for _ in 0..10_000 {
        server.stream(stream, 0, b"", false).unwrap();
    }
    assert_eq!(server.events(), [StreamEvent::Opened(Direction::Uni)]);
    assert!(!server.streams.has_pending());
}

/// What the network does with a packet, in the proptest below.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Delivered,
    Lost,
    /// Delivered, declared lost all the same, and acknowledged later.
    Spurious,
    /// Delivered after later ones.
    Late,
    Twice,
}

proptest! {
    /// Whatever the network does, every stream arrives whole and once, and all credit comes back.
    #[test]
    fn nothing_is_lost_or_repeated(
        fates in prop::collection::vec(
            prop::sample::select(vec![Fate::Delivered, Fate::Delivered, Fate::Lost, Fate::Spurious, Fate::Late, Fate::Twice]), 1..40,
        ),
        lens in prop::collection::vec(0usize..30_000, 1..6),
        sizes in prop::collection::vec(50usize..1500, 1..8),
        window in 500u64..40_000,
    ) {
        // A network that only loses would never end.
        prop_assume!(fates.iter().any(|fate| matches!(fate, Fate::Delivered | Fate::Late | Fate::Twice)));
        let stream_data = PerStream { uni: window, ..PerStream::default() };
        let own = Limits { data: window * 2, stream_data, streams_uni: 3, ..Limits::default() };
        let mut client = End::new(Side::Client, Limits::default(), &own);
        let mut server = End::new(Side::Server, own, &Limits::default());
        let mut unopened: VecDeque<_> = lens.iter().map(|&len| pattern(len)).collect();
        let mut sending: Vec<(StreamId, Vec<u8>, usize)> = Vec::new();
        let mut reading: Vec<(StreamId, Vec<u8>)> = Vec::new();
        let mut whole = Vec::new();
        let mut finished = 0;
        let mut late: Vec<(bool, Packet)> = Vec::new();
        let mut spurious: Vec<(bool, Packet)> = Vec::new();
        let (mut fates, mut sizes) = (fates.into_iter().cycle(), sizes.into_iter().cycle());
        for round in 0.. {
            prop_assert!(round < 20_000, "no progress");
            while let Some(data) = unopened.pop_front() {
                let Some(stream) = client.streams.open(Direction::Uni) else { unopened.push_front(data); break };
                sending.push((stream, data, 0));
            }
            for (stream, data, at) in &mut sending {
                if *at > data.len() { continue }
                match client.write(*stream, &data[*at..]) {
                    Ok(written) => *at += written,
                    Err(error) => prop_assert_eq!(error, WriteError::Blocked),
                }
                if *at == data.len() {
                    client.streams.finish(*stream).unwrap();
                    *at += 1;
                }
            }
            for from_client in [true, false] {
                let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
                let Some(packet) = from.packet(sizes.next().unwrap()) else { continue };
                match fates.next().unwrap() {
                    Fate::Lost => from.lost(&packet),
                    Fate::Delivered => { to.deliver(&packet.payload).unwrap(); from.acked(&packet); }
                    Fate::Twice => {
                        to.deliver(&packet.payload).unwrap();
                        to.deliver(&packet.payload).unwrap();
                        from.acked(&packet);
                    }
                    Fate::Spurious => {
                        to.deliver(&packet.payload).unwrap();
                        from.lost(&packet);
                        spurious.push((from_client, packet));
                    }
                    Fate::Late => late.push((from_client, packet)),
                }
            }
            if round % 5 == 4 {
                for (from_client, packet) in late.drain(..).rev() {
                    let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
                    to.deliver(&packet.payload).unwrap();
                    from.acked(&packet);
                }
                for (from_client, packet) in spurious.drain(..) {
                    let from = if from_client { &mut client } else { &mut server };
                    from.acked(&packet);
                }
            }
            while let Some(stream) = server.streams.accept(Direction::Uni) {
                reading.push((stream, Vec::new()));
            }
            let mut still = Vec::new();
            for (stream, mut data) in reading {
                if server.drain(stream, &mut data) { whole.push((stream, data)) } else { still.push((stream, data)) }
            }
            reading = still;
            let sending = || client.streams.table.iter().filter_map(|stream| stream.send.as_ref());
            prop_assert_eq!(client.streams.is_finishing(), sending().any(SendPart::is_finishing));
            prop_assert_eq!(client.streams.held() as u64, sending().map(SendPart::held).sum::<u64>());
            finished += client.events().iter().filter(|event| matches!(event, StreamEvent::Finished(_))).count();
            if finished == lens.len() && whole.len() == lens.len() { break }
        }
        whole.sort();
        for ((_, data), &len) in whole.iter().zip(&lens) {
            prop_assert_eq!(data, &pattern(len));
        }
        prop_assert_eq!((client.streams.table.len(), server.streams.table.len()), (0, 0));
        prop_assert_eq!((client.streams.held(), server.streams.held()), (0, 0));
        let credit = &mut server.streams.receive_credit;
        prop_assert_eq!(credit.advertise() - credit.received(), window * 2);
    }

    /// The sending part against a model of a state a byte: what is lost comes again, what was acknowledged never does.
    #[test]
    fn the_sender_repeats_exactly_what_was_lost(
        writes in prop::collection::vec(1usize..3000, 1..10),
        steps in prop::collection::vec((0u8..8, any::<usize>(), 1usize..1500), 1..200),
    ) {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Byte { Unsent, InFlight, Lost, Acknowledged }
        let pool = Pool::new();
        let data = pattern(writes.iter().sum());
        let mut send = SendPart::new(u64::MAX);
        let mut at = 0;
        for len in &writes {
            send.write(&data[at..at + len], &pool, Room { window: u64::MAX, shared: u64::MAX }).unwrap();
            at += len;
        }
        send.finish().unwrap();
        let mut model = vec![Byte::Unsent; data.len()];
        let mut in_flight: Vec<(u64, usize, bool)> = Vec::new();
        // Declared lost, and on its way all the same.
        let mut presumed_lost: Vec<(u64, usize, bool)> = Vec::new();
        let mut steps = steps.into_iter();
        loop {
            // After the script: send all, acknowledge all.
            let all_sent = send.next_segment(u64::MAX).is_none();
            let (verb, index, max) = steps.next().unwrap_or((if all_sent { 3 } else { 0 }, 0, 1200));
            if verb < 3 || in_flight.is_empty() {
                let Some(segment) = send.next_segment(u64::MAX) else {
                    prop_assert!(!model.contains(&Byte::Unsent) && !model.contains(&Byte::Lost));
                    if in_flight.is_empty() { break }
                    continue;
                };
                let len = segment.len.min(max);
                let fin = segment.fin && len == segment.len;
                let range = segment.offset as usize..segment.offset as usize + len;
                prop_assert_eq!(send.bytes(segment, len), &data[range.clone()]);
                prop_assert_eq!(&*send.slice(segment, len), &data[range.clone()]);
                let first_lost = model.iter().position(|&byte| byte == Byte::Lost);
                let first = first_lost.or_else(|| model.iter().position(|&byte| byte == Byte::Unsent)).unwrap_or(data.len());
                prop_assert_eq!(range.start, first);
                let expected = if first_lost.is_some() { Byte::Lost } else { Byte::Unsent };
                prop_assert!(model[range.clone()].iter().all(|&byte| byte == expected));
                let new = model[range.clone()].iter().filter(|&&byte| byte == Byte::Unsent).count();
                model[range].fill(Byte::InFlight);
                prop_assert_eq!(send.on_sent(segment, len, fin), new as u64);
                in_flight.push((segment.offset, len, fin));
            } else {
                let late = verb == 7 && !presumed_lost.is_empty();
                let packets = if late { &mut presumed_lost } else { &mut in_flight };
                let (offset, len, fin) = packets.swap_remove(index % packets.len());
                let range = offset as usize..offset as usize + len;
                if late || verb == 3 || verb == 4 {
                    let ended = send.on_acked(offset, len as u64, fin);
                    model[range].fill(Byte::Acknowledged);
                    let all = model.iter().all(|&byte| byte == Byte::Acknowledged);
                    prop_assert!(!ended || all);
                    if ended { break }
                } else {
                    send.on_lost(offset, len as u64, fin);
                    if verb == 6 {
                        presumed_lost.push((offset, len, fin));
                    }
                    for byte in &mut model[range] {
                        if *byte != Byte::Acknowledged { *byte = Byte::Lost }
                    }
                }
            }
        }
        prop_assert!(send.is_terminal());
        prop_assert!(model.iter().all(|&byte| byte == Byte::Acknowledged));
    }
}
