//! The message NewSessionTicket (RFC 8446, 4.6.1): what a client reads of it, and its ticket, exchanged by a server.

use super::extensions::vector;
use crate::tickets::Issued;

/// The message's type.
pub(super) const NEW_SESSION_TICKET: u8 = 4;

/// Bytes of type and length, of the lifetime behind them, and of the number by which ages are masked.
const HEADER_LEN: usize = 4;
const LIFETIME_LEN: usize = 4;
const AGE_ADD_LEN: usize = 4;

/// How long the ticket of a whole message is good for, in seconds. What is malformed is rustls's to refuse.
pub(super) fn lifetime(message: &[u8]) -> Option<u32> {
    message.get(HEADER_LEN..)?.first_chunk().map(|lifetime| u32::from_be_bytes(*lifetime))
}

/// Whether the ticket of a whole message says that it allows early data, and says it in another way than QUIC's (RFC 9001, 4.6.1). What
/// is malformed is rustls's to refuse.
pub(super) fn misstates_early_data(message: &[u8]) -> bool {
    const EARLY_DATA: [u8; 2] = [0, 42];
    let extensions = || {
        let mut rest = message.get(HEADER_LEN + LIFETIME_LEN + AGE_ADD_LEN..)?;
        vector(&mut rest, 1)?;
        vector(&mut rest, 2)?;
        vector(&mut rest, 2)
    };
    let mut extensions = extensions().unwrap_or_default();
    while let Some((number, rest)) = extensions.split_first_chunk() {
        extensions = rest;
        let Some(content) = vector(&mut extensions, 2) else { return false };
        if *number == EARLY_DATA && content != u32::MAX.to_be_bytes() {
            return true;
        }
    }
    false
}

/// Puts what was issued in the places of the numbers that stand for it in `messages`. `None` if these are not what was expected.
pub(super) fn exchange(messages: &[u8], issued: &mut Vec<([u8; 32], Issued)>) -> Option<Vec<u8>> {
    let mut exchanged = Vec::with_capacity(messages.len() + issued.iter().map(|(_, issued)| issued.ticket.len()).sum::<usize>());
    let mut rest = messages;
    while !rest.is_empty() {
        let (&[NEW_SESSION_TICKET], after) = rest.split_first_chunk()? else { return None };
        rest = after;
        let mut body = vector(&mut rest, 3)?;
        let (_, after) = body.split_at_checked(LIFETIME_LEN)?;
        let (age_add, after) = after.split_at_checked(AGE_ADD_LEN)?;
        body = after;
        let nonce = vector(&mut body, 1)?;
        let number = vector(&mut body, 2)?;
        let (_, Issued { ticket, lifetime }) = issued.remove(issued.iter().position(|(known, _)| known == number)?);

        let ticket_len = u16::try_from(ticket.len()).ok()?;
        let len = LIFETIME_LEN + AGE_ADD_LEN + 1 + nonce.len() + 2 + ticket.len() + body.len();
        let [0, len @ ..] = u32::try_from(len).ok()?.to_be_bytes() else { return None };
        exchanged.push(NEW_SESSION_TICKET);
        exchanged.extend_from_slice(&len);
        exchanged.extend_from_slice(&lifetime.to_be_bytes());
        exchanged.extend_from_slice(age_add);
        exchanged.push(nonce.len() as u8);
        exchanged.extend_from_slice(nonce);
        exchanged.extend_from_slice(&ticket_len.to_be_bytes());
        exchanged.extend_from_slice(&ticket);
        // The extensions.
        exchanged.extend_from_slice(body);
    }
    Some(exchanged)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with this ticket and no extensions.
    fn message(lifetime: u32, ticket: &[u8]) -> Vec<u8> {
        let mut body = [&lifetime.to_be_bytes()[..], &[1, 2, 3, 4], &[2, 7, 7], &(ticket.len() as u16).to_be_bytes(), ticket].concat();
        body.extend_from_slice(&[0, 0]);
        [&[NEW_SESSION_TICKET, 0], &(body.len() as u16).to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn each_number_is_exchanged_for_its_ticket() {
        let issued =
            || vec![([8; 32], Issued { ticket: vec![6; 300], lifetime: 9 }), ([9; 32], Issued { ticket: vec![5; 20], lifetime: 10 })];
        let messages = [message(1, &[9; 32]), message(1, &[8; 32])].concat();
        let mut left = issued();
        let exchanged = exchange(&messages, &mut left).unwrap();
        assert_eq!(exchanged, [message(10, &[5; 20]), message(9, &[6; 300])].concat());
        assert!(left.is_empty());
        assert_eq!(lifetime(&exchanged), Some(10));

        assert!(exchange(&message(1, &[7; 32]), &mut issued()).is_none(), "a number that stands for nothing");
        for len in 1..messages.len() {
            let ends_between = len == messages.len() / 2;
            assert_eq!(exchange(&messages[..len], &mut issued()).is_some(), ends_between, "{len} bytes");
        }
        assert_eq!(exchange(&[], &mut Vec::new()), Some(Vec::new()));
    }
}
