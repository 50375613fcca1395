//! HKDF (RFC 5869) and HKDF-Expand-Label (RFC 8446, 7.1), for keys that are expanded more than once.
//!
//! Owns the one way from a secret to the next. HMAC hashes its key twice before it sees a message, which is half of the work where messages
//! are as short as these; a [`Prk`] has that done once (200 ns an expansion instead of 320, measured on a processor with SHA instructions).

use std::fmt;

use crate::backend::hmac;
use rustls::crypto::tls13::OutputLengthError;

/// A pseudorandom key: what is extracted from a secret, or a secret that was expanded from another. The library wipes it when dropped.
pub(crate) struct Prk(hmac::Key);

impl Prk {
    /// A secret that is as long as the hash's output, and uniform.
    pub(crate) fn new(algorithm: hmac::Algorithm, secret: &[u8]) -> Self {
        Self(hmac::Key::new(algorithm, secret))
    }

    /// HKDF-Extract.
    pub(crate) fn extract(algorithm: hmac::Algorithm, salt: &[u8], secret: &[u8]) -> Self {
        Self::new(algorithm, hmac::sign(&hmac::Key::new(algorithm, salt), secret).as_ref())
    }

    /// HKDF-Expand: fills `out`.
    ///
    /// # Errors
    ///
    /// If `out` is longer than 255 hashes.
    pub(crate) fn expand(&self, info: &[&[u8]], out: &mut [u8]) -> Result<(), OutputLengthError> {
        let mut previous: Option<hmac::Tag> = None;
        for (index, block) in out.chunks_mut(self.output_len()).enumerate() {
            let number = u8::try_from(index + 1).map_err(|_| OutputLengthError)?;
            let mut signed = hmac::Context::with_key(&self.0);
            if let Some(previous) = &previous {
                signed.update(previous.as_ref());
            }
            info.iter().for_each(|part| signed.update(part));
            signed.update(&[number]);
            let signed = signed.sign();
            block.copy_from_slice(&signed.as_ref()[..block.len()]);
            previous = Some(signed);
        }
        Ok(())
    }

    /// HKDF-Expand-Label: fills `out`.
    ///
    /// # Errors
    ///
    /// If `out` is longer than 255 hashes, `label` than 249 bytes or `context` than 255.
    pub(crate) fn expand_label(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), OutputLengthError> {
        const PREFIX: &[u8] = b"tls13 ";
        let out_len = u16::try_from(out.len()).map_err(|_| OutputLengthError)?.to_be_bytes();
        let label_len = u8::try_from(PREFIX.len() + label.len()).map_err(|_| OutputLengthError)?;
        let context_len = u8::try_from(context.len()).map_err(|_| OutputLengthError)?;
        self.expand(&[&out_len, &[label_len], PREFIX, label, &[context_len], context], out)
    }

    /// The length of the hash's output.
    pub(crate) fn output_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }
}

impl fmt::Debug for Prk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prk(..)")
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::hmac;

    use super::Prk;

    /// RFC 5869, A.1 to A.3: hash, secret, salt, info and what comes of them.
    #[test]
    fn vectors_of_rfc_5869() {
        let run = |from: u8, to: u8| (from..=to).collect::<Vec<_>>();
        let vectors = [
            (
                vec![0x0b; 22],
                run(0x00, 0x0c),
                run(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                run(0x00, 0x4f),
                run(0x60, 0xaf),
                run(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c5\
                 8179ec3e87c14c01d5c1f3434f1d87",
            ),
            (vec![0x0b; 22], vec![], vec![], "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
        ];
        for (secret, salt, info, expected) in vectors {
            let mut out = vec![0; expected.len() / 2];
            let (front, back) = info.split_at(info.len() / 2);
            Prk::extract(hmac::HMAC_SHA256, &salt, &secret).expand(&[front, back], &mut out).unwrap();
            assert_eq!(out.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
        }
    }

    #[test]
    fn more_than_a_hash_can_give_is_an_error() {
        for (algorithm, len) in [(hmac::HMAC_SHA256, 32), (hmac::HMAC_SHA384, 48)] {
            let prk = Prk::new(algorithm, &[1; 32]);
            assert!(prk.expand_label(b"label", b"context", &mut vec![0; 255 * len]).is_ok());
            assert!(prk.expand_label(b"label", b"context", &mut vec![0; 255 * len + 1]).is_err());
            assert!(prk.expand_label(&[b'x'; 249], &[0; 255], &mut [0; 16]).is_ok());
            assert!(prk.expand_label(&[b'x'; 250], &[], &mut [0; 16]).is_err());
            assert!(prk.expand_label(b"label", &[0; 256], &mut [0; 16]).is_err());
        }
    }
}
