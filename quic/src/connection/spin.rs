//! The latency spin bit of 1-RTT packets (RFC 9000 17.4): by it the network can see how long a round trip takes.
//!
//! Owns the bit to send. Does not own which packets count as new.

use crate::random::Noise;
use crate::side::Side;

/// One in so many connections does not take part, so that those which never do are not conspicuous (RFC 9000 17.4).
const ABSTAINS: u32 = 16;

/// What the next packet carries.
pub(crate) enum Spin {
    /// The server sends back what it got, the client the opposite.
    Takes { bit: bool },
    /// Anything.
    Abstains,
}

impl Spin {
    /// For a new connection, if its configuration permits.
    pub(crate) fn new(permitted: bool, noise: &mut Noise) -> Self {
        if permitted && noise.u32(0..ABSTAINS) != 0 { Self::Takes { bit: false } } else { Self::Abstains }
    }

    /// A packet came whose number is the highest so far.
    pub(crate) fn on_newest(&mut self, side: Side, received: bool) {
        if let Self::Takes { bit } = self {
            *bit = received != side.is_client();
        }
    }

    /// The connection id to which packets go has changed.
    pub(crate) fn on_new_id(&mut self) {
        if let Self::Takes { bit } = self {
            *bit = false;
        }
    }

    /// The bit of the next packet.
    pub(crate) fn bit(&self, noise: &mut Noise) -> bool {
        match self {
            Self::Takes { bit } => *bit,
            Self::Abstains => noise.u32(0..2) == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_sixteen_abstains_and_all_do_that_are_told_to() {
        // RFC 9000 17.4
        let mut noise = Noise::new(1);
        let mut abstaining = |permitted| (0..1600).filter(|_| matches!(Spin::new(permitted, &mut noise), Spin::Abstains)).count();
        assert_eq!(abstaining(false), 1600);
        assert!((60..140).contains(&abstaining(true)));
    }

    #[test]
    fn the_server_returns_what_the_client_inverts() {
        let mut noise = Noise::new(1);
        let (mut client, mut server) = (Spin::Takes { bit: false }, Spin::Takes { bit: false });
        for round in 0..6 {
            let sent = client.bit(&mut noise);
            assert_eq!(sent, round % 2 == 1);
            server.on_newest(Side::Server, sent);
            client.on_newest(Side::Client, server.bit(&mut noise));
        }
        client.on_newest(Side::Client, false);
        client.on_new_id();
        assert!(!client.bit(&mut noise));
        let abstains = Spin::Abstains;
        let drawn = (0..100).filter(|_| abstains.bit(&mut noise)).count();
        assert!((20..80).contains(&drawn), "no pattern to be seen");
    }
}
