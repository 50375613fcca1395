//! The block cipher that seals connection ids: AES-128 on one block. What a block holds is the endpoint's business.

use std::fmt;

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

/// Seals and opens the 16-byte handles inside connection ids.
///
/// A block cipher alone authenticates nothing: every 16 bytes open to something, and the caller must look its answer up.
/// Equal blocks seal to equal blocks, so a block must not repeat under one key.
#[derive(Clone)]
pub struct HandleCipher(Aes128);

impl HandleCipher {
    /// A cipher under `key`.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(Aes128::new(key.into()))
    }

    /// Encrypts one block.
    pub fn seal_block(&self, block: &mut [u8; 16]) {
        self.0.encrypt_block(block.into());
    }

    /// Decrypts one block.
    pub fn open_block(&self, block: &mut [u8; 16]) {
        self.0.decrypt_block(block.into());
    }
}

impl fmt::Debug for HandleCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleCipher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::HandleCipher;

    /// FIPS 197, appendix C.1.
    #[test]
    fn known_block() {
        let key = core::array::from_fn(|i| i as u8);
        let cipher = HandleCipher::new(&key);
        let plain: [u8; 16] = core::array::from_fn(|i| (i as u8) * 0x11);
        let mut block = plain;
        cipher.seal_block(&mut block);
        assert_eq!(block, 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a_u128.to_be_bytes());
        cipher.open_block(&mut block);
        assert_eq!(block, plain);
    }
}
