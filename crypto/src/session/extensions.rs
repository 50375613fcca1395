//! Which extensions a handshake message has, as far as rustls does not ask.
//!
//! Drafts of QUIC had another number for the extension of the transport parameters, and rustls takes parameters under either, whatever the
//! version. Version 1 has one (RFC 9001, 8.2).

/// The extension quic_transport_parameters, and the number that it had in drafts.
const TRANSPORT_PARAMETERS: u16 = 0x39;
const TRANSPORT_PARAMETERS_OF_DRAFTS: u16 = 0xffa5;

/// Whether a message that carries transport parameters has those of a draft alone. What is malformed is rustls's to refuse.
pub(super) fn has_draft_parameters_alone(message: &[u8]) -> bool {
    let (mut has_draft, mut has_final) = (false, false);
    for number in numbers(message) {
        has_draft |= number == TRANSPORT_PARAMETERS_OF_DRAFTS;
        has_final |= number == TRANSPORT_PARAMETERS;
    }
    has_draft && !has_final
}

/// The numbers of a message's extensions, up to where it is malformed.
fn numbers(message: &[u8]) -> impl Iterator<Item = u16> {
    let mut extensions = extensions(message).unwrap_or_default();
    std::iter::from_fn(move || {
        let (number, rest) = extensions.split_first_chunk()?;
        extensions = rest;
        // Its content may be cut off; the number is there.
        if vector(&mut extensions, 2).is_none() {
            extensions = &[];
        }
        Some(u16::from_be_bytes(*number))
    })
}

/// The extensions of a whole ClientHello or EncryptedExtensions; `None` for other messages.
fn extensions(message: &[u8]) -> Option<&[u8]> {
    const CLIENT_HELLO: u8 = 1;
    const ENCRYPTED_EXTENSIONS: u8 = 8;
    let (&[message_type, ..], mut body) = message.split_first_chunk::<4>()?;
    match message_type {
        CLIENT_HELLO => {
            // RFC 8446, 4.1.2: version and random, then session id, cipher suites and compression methods.
            body = body.get(2 + 32..)?;
            for length_bytes in [1, 2, 1] {
                vector(&mut body, length_bytes)?;
            }
        }
        ENCRYPTED_EXTENSIONS => {}
        _ => return None,
    }
    vector(&mut body, 2)
}

/// Takes bytes off the front, of which one to three before them tell how many they are.
pub(super) fn vector<'a>(bytes: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (vector, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EncryptedExtensions with these extensions, each of three bytes.
    fn message(numbers: &[u16]) -> Vec<u8> {
        let extensions: Vec<u8> = numbers.iter().flat_map(|number| [&number.to_be_bytes()[..], &[0, 3, 7, 7, 7]].concat()).collect();
        let length = extensions.len() as u8;
        [&[8, 0, 0, length + 2, 0, length][..], &extensions].concat()
    }

    #[test]
    fn only_a_draft_without_the_real_one() {
        assert!(has_draft_parameters_alone(&message(&[0xffa5])));
        assert!(has_draft_parameters_alone(&message(&[16, 0xffa5, 17])));
        assert!(!has_draft_parameters_alone(&message(&[0xffa5, 0x39])));
        assert!(!has_draft_parameters_alone(&message(&[0x39])));
        assert!(!has_draft_parameters_alone(&message(&[])));
        let mut finished = message(&[0xffa5]);
        finished[0] = 20;
        assert!(!has_draft_parameters_alone(&finished));
    }

    #[test]
    fn what_ends_early_is_left_to_tls() {
        let whole = message(&[16, 0xffa5]);
        for len in 0..whole.len() {
            assert!(!has_draft_parameters_alone(&whole[..len]));
        }
        for length in [0, 1, 13, 15, 255] {
            let mut changed = whole.clone();
            changed[5] = length;
            has_draft_parameters_alone(&changed);
            changed[0] = 1;
            has_draft_parameters_alone(&changed);
        }
    }
}
