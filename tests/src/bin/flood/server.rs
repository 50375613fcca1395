//! The server under attack: a `weald serve` process, and its memory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use weald_runtime::net::UdpSocket;

/// What honest clients ask for.
pub const SMALL: &str = "/small";
/// What attackers ask for and do not read.
pub const LARGE: &str = "/large";

/// A `weald serve` process, which ends with this value.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub address: SocketAddr,
    _files: TempDir,
}

impl Server {
    /// Starts `weald`, or the program of that name beside this one.
    pub fn start(weald: Option<&Path>) -> Result<Self> {
        let weald = match weald {
            Some(weald) => weald.to_owned(),
            None => beside_this_program()?,
        };
        ensure!(weald.is_file(), "there is no {}: build it with `cargo build --release --bin weald`", weald.display());
        let files = TempDir::new().context("a directory for the server's files")?;
        fs::write(files.path().join(&SMALL[1..]), [b'.'; 64])?;
        fs::write(files.path().join(&LARGE[1..]), vec![b'.'; 64 << 20])?;
        // Its log is not read, so its port cannot be either.
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new(&weald)
            .args(["serve", "--listen", &address.to_string(), "--root"])
            .arg(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", weald.display()))?;
        Ok(Self { process, address, _files: files })
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        let name = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(&name).with_context(|| format!("cannot read {name}; has the server ended?"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the server has ended")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")?;
        Ok(kibibytes * 1024)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn beside_this_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("where this program is")?;
    Ok(this.with_file_name("weald"))
}
