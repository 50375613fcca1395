//! A ClientHello, as far as a server must know it before TLS does: which QUIC versions, names, protocols and groups a client
//! offers decides how its handshake is configured, and TLS takes that configuration when it is begun.
//!
//! Owns the reading of one whole message (RFC 8446, 4.1.2) and of the extensions that are asked for. Does not own the message's
//! assembly, nor what follows from it. What it accepts TLS reads once more, and may refuse: here only what is needed is read.
//!
//! Invariants: nothing is copied and nothing kept, so that a message costs its length once, whatever is in it.

use rustls::AlertDescription;

use crate::{NamedGroup, TlsError};

#[cfg(test)]
mod tests;

/// A handshake message starts with one byte of type and three of length (RFC 8446, 4).
const HEADER_LEN: usize = 4;
const CLIENT_HELLO: u8 = 1;

/// What a client offers in its ClientHello. Borrows the message.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientHello<'a> {
    server_name: Option<&'a str>,
    /// ProtocolNameList, without its length.
    alpn: &'a [u8],
    /// NamedGroupList, without its length.
    groups: &'a [u8],
    /// The list of KeyShareEntry, without its length.
    key_shares: &'a [u8],
    transport_parameters: Option<&'a [u8]>,
    offers_early_data: bool,
    offers_psk: bool,
}

impl<'a> ClientHello<'a> {
    /// How long the message is that starts here, with its header, of which at most `limit` bytes are let in. `None` while too
    /// little of it is there to say.
    ///
    /// ```
    /// use weald_crypto::ClientHello;
    ///
    /// assert_eq!(ClientHello::message_len(&[1, 0, 1], 4096), Ok(None));
    /// assert_eq!(ClientHello::message_len(&[1, 0, 1, 0, 3, 3], 4096), Ok(Some(260)));
    /// assert!(ClientHello::message_len(&[1, 1, 0, 0], 4096).is_err(), "65,540 bytes");
    /// assert!(ClientHello::message_len(&[2], 4096).is_err(), "a ServerHello");
    /// ```
    ///
    /// # Errors
    ///
    /// unexpected_message if it is no ClientHello; decode_error if it is longer than `limit`.
    pub fn message_len(bytes: &[u8], limit: usize) -> Result<Option<usize>, TlsError> {
        if bytes.first().is_some_and(|message_type| *message_type != CLIENT_HELLO) {
            return Err(TlsError::new(AlertDescription::UnexpectedMessage, "a client that begins with another message than ClientHello"));
        }
        let Some(&[_, high, middle, low]) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let len = HEADER_LEN + u32::from_be_bytes([0, high, middle, low]) as usize;
        if len > limit {
            let message = format!("a ClientHello of {len} bytes, where {limit} are the limit");
            return Err(TlsError::new(AlertDescription::DecodeError, message));
        }
        Ok(Some(len))
    }

    /// Reads one whole message, header included.
    ///
    /// # Errors
    ///
    /// decode_error where it ends early or has bytes left over; illegal_parameter if an extension that is read comes twice;
    /// unexpected_message if it is no ClientHello; missing_extension if it has no transport parameters (RFC 9001, 8.2).
    pub fn parse(message: &'a [u8]) -> Result<Self, TlsError> {
        if Self::message_len(message, usize::MAX)? != Some(message.len()) {
            return Err(malformed());
        }
        Self::read(&message[HEADER_LEN..]).ok_or_else(malformed)?
    }

    /// The name that the client asks for, if it names one (RFC 6066, 3). What is no text is left to TLS to refuse.
    pub fn server_name(&self) -> Option<&'a str> {
        self.server_name
    }

    /// The application protocols that it speaks, the preferred first (RFC 7301).
    pub fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut names = self.alpn;
        std::iter::from_fn(move || vector(&mut names, 1))
    }

    /// Of the groups that are known here, those that it supports, the preferred first.
    pub fn groups(&self) -> impl Iterator<Item = NamedGroup> + use<'a> {
        self.groups.as_chunks().0.iter().filter_map(|number| NamedGroup::from_number(u16::from_be_bytes(*number)))
    }

    /// Of the groups that are known here, those that it has sent its half of a key exchange for.
    pub fn key_shares(&self) -> impl Iterator<Item = NamedGroup> + use<'a> {
        let mut shares = self.key_shares;
        let numbers = std::iter::from_fn(move || {
            let number = take(&mut shares)?;
            vector(&mut shares, 2)?;
            Some(u16::from_be_bytes(number))
        });
        numbers.filter_map(NamedGroup::from_number)
    }

    /// Its transport parameters, encoded. They are authentic only once the handshake is complete (RFC 9001, 8.2).
    pub fn transport_parameters(&self) -> &'a [u8] {
        self.transport_parameters.unwrap_or_default()
    }

    /// Whether it wants to send data before the handshake is complete (RFC 8446, 4.2.10).
    pub fn offers_early_data(&self) -> bool {
        self.offers_early_data
    }

    /// Whether it offers to resume a session (RFC 8446, 4.2.11).
    pub fn offers_psk(&self) -> bool {
        self.offers_psk
    }

    /// `None` if the body does not parse; an error if it does and may not be.
    fn read(mut body: &'a [u8]) -> Option<Result<Self, TlsError>> {
        // RFC 8446, 4.1.2: legacy_version and random, then session id, cipher suites and compression methods.
        let _: [u8; 2 + 32] = take(&mut body)?;
        for length_bytes in [1, 2, 1] {
            vector(&mut body, length_bytes)?;
        }
        let mut extensions = vector(&mut body, 2)?;
        if !body.is_empty() {
            return None;
        }
        let mut hello = Self::default();
        let mut seen = 0_u32;
        while !extensions.is_empty() {
            let number = take(&mut extensions)?;
            let value = vector(&mut extensions, 2)?;
            let Some(extension) = Extension::from_number(u16::from_be_bytes(number)) else { continue };
            // RFC 8446, 4.2: none twice.
            if seen & 1 << extension as u32 != 0 {
                return Some(Err(TlsError::new(AlertDescription::IllegalParameter, "an extension twice in a ClientHello")));
            }
            seen |= 1 << extension as u32;
            hello.read_extension(extension, value)?;
        }
        if hello.transport_parameters.is_none() {
            return Some(Err(TlsError::new(AlertDescription::MissingExtension, "a ClientHello without transport parameters")));
        }
        Some(Ok(hello))
    }

    fn read_extension(&mut self, extension: Extension, mut value: &'a [u8]) -> Option<()> {
        match extension {
            Extension::ServerName => {
                let mut names = vector(&mut value, 2)?;
                while !names.is_empty() {
                    let [name_type] = take(&mut names)?;
                    let name = vector(&mut names, 2)?;
                    if name_type == HOST_NAME {
                        self.server_name = self.server_name.or(std::str::from_utf8(name).ok());
                    }
                }
            }
            Extension::SupportedGroups => {
                self.groups = vector(&mut value, 2)?;
                if !self.groups.len().is_multiple_of(2) {
                    return None;
                }
            }
            Extension::Alpn => {
                self.alpn = vector(&mut value, 2)?;
                let mut names = self.alpn;
                while !names.is_empty() {
                    vector(&mut names, 1)?;
                }
            }
            Extension::KeyShare => {
                self.key_shares = vector(&mut value, 2)?;
                let mut shares = self.key_shares;
                while !shares.is_empty() {
                    let _: [u8; 2] = take(&mut shares)?;
                    vector(&mut shares, 2)?;
                }
            }
            Extension::PreSharedKey => {
                self.offers_psk = true;
                return Some(());
            }
            Extension::EarlyData => self.offers_early_data = true,
            Extension::TransportParameters => {
                self.transport_parameters = Some(value);
                return Some(());
            }
        }
        value.is_empty().then_some(())
    }
}

/// The only type of a server's name there is (RFC 6066, 3).
const HOST_NAME: u8 = 0;

/// The extensions that are read.
#[derive(Clone, Copy)]
enum Extension {
    ServerName,
    SupportedGroups,
    Alpn,
    PreSharedKey,
    EarlyData,
    KeyShare,
    TransportParameters,
}

impl Extension {
    /// RFC 8446, 4.2; RFC 7301, 3.1; RFC 9001, 8.2.
    fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::ServerName,
            10 => Self::SupportedGroups,
            16 => Self::Alpn,
            41 => Self::PreSharedKey,
            42 => Self::EarlyData,
            51 => Self::KeyShare,
            0x39 => Self::TransportParameters,
            _ => return None,
        })
    }
}

fn malformed() -> TlsError {
    TlsError::new(AlertDescription::DecodeError, "a malformed ClientHello")
}

/// Takes so many bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// Takes bytes off the front, of which one or two before them tell how many they are.
fn vector<'a>(bytes: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (vector, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(vector)
}
