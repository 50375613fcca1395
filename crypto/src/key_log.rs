//! Telling secrets to debuggers: the interface, and the file format that Wireshark and others read (NSS key log).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::ConfigError;

/// Receives the secrets of every handshake of a configuration. Whoever holds them can read the connections.
pub trait KeyLog: fmt::Debug + Send + Sync {
    /// Takes one secret. `label` is as in the NSS key log format (`CLIENT_TRAFFIC_SECRET_0` and so on); `client_random`
    /// says which connection it belongs to.
    ///
    /// Called in the middle of [`crate::Session::advance`], on its thread.
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]);
}

/// A key log file in the NSS format, appended to.
#[derive(Debug)]
pub struct KeyLogFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl KeyLogFile {
    /// Opens a key log, or creates it; on Unix, for this user's eyes only.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if that cannot be done.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref().to_owned();
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => Ok(Self { path, file: Mutex::new(file) }),
            Err(source) => Err(ConfigError::File { path, source }),
        }
    }

    /// Opens the key log that the environment variable `SSLKEYLOGFILE` names; `None` if it is not set, or empty.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if it cannot be opened.
    pub fn from_environment() -> Result<Option<Self>, ConfigError> {
        match std::env::var_os("SSLKEYLOGFILE") {
            Some(path) if !path.is_empty() => Self::open(Path::new(&path)).map(Some),
            _ => Ok(None),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl KeyLog for KeyLogFile {
    /// A line that cannot be written is lost: a full disk is no reason to fail a handshake.
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = Zeroizing::new(String::with_capacity(label.len() + 3 + 2 * (client_random.len() + secret.len())));
        line.push_str(label);
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                for nibble in [byte >> 4, byte & 15] {
                    line.push(char::from_digit(nibble.into(), 16).expect("a nibble is below 16"));
                }
            }
        }
        line.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = file.write_all(line.as_bytes());
    }
}
