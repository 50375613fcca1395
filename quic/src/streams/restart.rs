//! Owns the restart of streams: what was sent as early data was rejected, and is sent again as if it never was (RFC 9001 4.6.2).
//!
//! Does not own the packets that carried it, nor who learns of the rejection.
//!
//! Invariants: nothing was acknowledged before, so that all that was written is still held. No frame names a stream that the
//! peer does not permit: those beyond its limit are withheld until it rises.

use super::Streams;
use super::flow::SendCredit;
use super::table::{Owed, Stream};
use super::transmit::Queues;
use crate::stream_id::Direction;

impl Streams {
    /// All that was written is to be sent again, within limits that [`Streams::set_peer_limits`] tells.
    pub(crate) fn on_zero_rtt_rejected(&mut self) {
        self.send_credit = SendCredit::default();
        self.queues.restart();
        for stream in self.table.restart() {
            let reset_stream = stream.send.as_mut().is_some_and(|send| {
                send.restart();
                send.reset_to_send().is_some()
            });
            let stop_sending = stream.receive.as_ref().is_some_and(|receive| receive.stop_to_send().is_some());
            stream.withheld = true;
            stream.owed = Owed { reset_stream, stop_sending, ..Owed::default() };
            (stream.queued.control, stream.queued.ready, stream.queued.starved) = (false, false, false);
        }
    }

    /// Tells the peer that there are streams which its limit keeps back (RFC 9000 section 4.6).
    pub(super) fn tell_withheld(&mut self) {
        for direction in Direction::ALL {
            if self.table.withholds(direction) && self.table.tell_blocked(direction) {
                self.queues.owed.streams_blocked[direction.index()] = true;
            }
        }
    }
}

impl Queues {
    /// A stream is permitted, or may send more: it says what it has to.
    pub(super) fn release(&mut self, stream: &mut Stream, credit: &mut SendCredit) {
        if stream.owed.is_any() {
            self.control(stream);
        }
        self.schedule(stream, credit);
    }
}
