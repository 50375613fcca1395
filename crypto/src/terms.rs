//! What early data rests on: limits and settings that a client remembers, and that the server must still keep.

use crate::backend::digest;

/// The bytes of a digest in a ticket.
const DIGEST_LEN: usize = 32;

/// What a server's tickets promise to those who send early data with them (RFC 9000, 7.4.1; RFC 9114, 7.2.4.2).
///
/// The terms of a connection are sealed into its tickets. Early data that comes with a ticket is accepted only if the terms of
/// the connection that it comes on are no worse: that many `limits`, none of them smaller, and the same `application` bytes.
/// The session resumes either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Numbers that must not become smaller, such as initial flow control limits, in an order that stays. At most 255.
    pub limits: Vec<u64>,
    /// What must stay as it is, such as an application protocol's settings. A ticket holds a digest of it, so its length matters
    /// little.
    pub application: Vec<u8>,
}

impl Terms {
    /// Appends the terms to a ticket.
    pub(crate) fn encode(&self, ticket: &mut Vec<u8>) {
        let count = u8::try_from(self.limits.len()).expect("checked where a session is made");
        ticket.extend_from_slice(digest::digest(&digest::SHA256, &self.application).as_ref());
        ticket.push(count);
        for limit in &self.limits {
            ticket.extend_from_slice(&limit.to_be_bytes());
        }
    }

    /// Takes the terms off the front of what a ticket says, and tells whether these here keep them. `None` if it ends early.
    pub(crate) fn keep(&self, ticket: &mut &[u8]) -> Option<bool> {
        let (application, rest) = ticket.split_first_chunk::<DIGEST_LEN>()?;
        let (&count, rest) = rest.split_first()?;
        let (limits, rest) = rest.split_at_checked(8 * usize::from(count))?;
        *ticket = rest;
        let (limits, _) = limits.as_chunks::<8>();
        let same_application = digest::digest(&digest::SHA256, &self.application).as_ref() == application;
        let large_enough = limits.iter().zip(&self.limits).all(|(then, now)| *now >= u64::from_be_bytes(*then));
        Some(same_application && limits.len() == self.limits.len() && large_enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(limits: &[u64], application: &[u8]) -> Terms {
        Terms { limits: limits.to_vec(), application: application.to_vec() }
    }

    #[test]
    fn limits_may_grow_and_nothing_else_may_change() {
        let mut ticket = Vec::new();
        terms(&[10, 0, u64::MAX], b"settings").encode(&mut ticket);
        let len = ticket.len();
        ticket.extend_from_slice(b"rest");
        let kept = |now: Terms| {
            let mut ticket = &ticket[..];
            let kept = now.keep(&mut ticket);
            assert_eq!(ticket, b"rest");
            kept.unwrap()
        };
        assert!(kept(terms(&[10, 0, u64::MAX], b"settings")));
        assert!(kept(terms(&[11, 5, u64::MAX], b"settings")));
        for (limits, application) in [
            (&[9, 0, u64::MAX][..], &b"settings"[..]),
            (&[10, 0, u64::MAX - 1], b"settings"),
            (&[10, 0], b"settings"),
            (&[10, 0, u64::MAX, 0], b"settings"),
            (&[10, 0, u64::MAX], b"setting"),
            (&[10, 0, u64::MAX], b""),
        ] {
            assert!(!kept(terms(limits, application)), "{limits:?} {application:?}");
        }
        for len in 0..len {
            assert_eq!(terms(&[], b"").keep(&mut &ticket[..len]), None, "{len} bytes");
        }
    }
}
