//! Bulk throughput of one QUIC connection over loopback, Weald's and quinn's in turn.
//!
//! Owns the protocol of the measurement, which both sides speak: the client opens a bidirectional stream and sends the direction (1 byte)
//! and the size (8 bytes, big-endian); the sender then sends that much and ends the stream; for an upload the server confirms with one byte
//! when all has come. The clock stops when the client knows that everything arrived.

mod quinn_side;
mod weald_side;

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

/// UDP payload of both stacks, in bytes: what Ethernet carries over IPv6.
const UDP_PAYLOAD: u16 = 1452;
/// Bytes handed to a stack in one write.
const WRITE_SIZE: usize = 64 * 1024;
const ALPN: &[u8] = b"weald-bench";
const SERVER_NAME: &str = "localhost";

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Server to client.
    Download,
    /// Client to server.
    Upload,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Download => "download",
            Self::Upload => "upload",
        })
    }
}

/// What [`bulk`] measured.
#[derive(Debug, Serialize)]
pub struct Bulk {
    /// Bytes a transfer.
    pub bytes: u64,
    /// One entry a direction.
    pub directions: Vec<Row>,
}

/// Gigabits a second of both stacks in one direction, in the order of the runs.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Which way the bytes went.
    pub direction: Direction,
    /// Weald's rates.
    pub weald: Vec<f64>,
    /// quinn's rates, each measured right after the Weald run of the same index.
    pub quinn: Vec<f64>,
}

/// Weald's rate over quinn's, pair by pair.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratio {
    /// Median of the pairs.
    pub median: f64,
    /// Worst pair.
    pub min: f64,
    /// Best pair.
    pub max: f64,
}

impl Row {
    /// The ratio pair by pair.
    pub fn ratio(&self) -> Ratio {
        let ratios: Vec<f64> = self.weald.iter().zip(&self.quinn).map(|(weald, quinn)| weald / quinn).collect();
        Ratio {
            median: median(&ratios),
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(0.0, f64::max),
        }
    }
}

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

/// A certificate for both stacks.
struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Measures `rounds` pairs of transfers of `bytes` in each direction, Weald and quinn in turn, after one pair that does not count.
/// `progress` hears how many of how many transfers are done.
///
/// # Errors
///
/// If a stack cannot be set up, or a transfer fails or delivers another number of bytes.
pub fn bulk(bytes: u64, rounds: u32, mut progress: impl FnMut(u32, u32)) -> Result<Bulk> {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).context("cannot generate a certificate")?;
    let identity = Identity { certificate: made.cert.der().to_vec(), key: made.signing_key.serialize_der() };
    let weald = weald_side::Pair::start(&identity).context("cannot start Weald's server and client")?;
    let quinn = quinn_side::Pair::start(&identity).context("cannot start quinn's server and client")?;

    let all = (rounds + 1) * 4;
    let mut done = 0;
    let mut directions = Vec::new();
    for direction in [Direction::Download, Direction::Upload] {
        let mut row = Row { direction, weald: Vec::new(), quinn: Vec::new() };
        for round in 0..=rounds {
            let weald_rate = rate(bytes, weald.transfer(direction, bytes).context("Weald's transfer failed")?);
            progress(done + 1, all);
            let quinn_rate = rate(bytes, quinn.transfer(direction, bytes).context("quinn's transfer failed")?);
            done += 2;
            progress(done, all);
            if round > 0 {
                row.weald.push(weald_rate);
                row.quinn.push(quinn_rate);
            }
        }
        directions.push(row);
    }
    Ok(Bulk { bytes, directions })
}

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64() / 1e9
}

/// The request that opens a transfer.
fn encode_request(direction: Direction, bytes: u64) -> [u8; 9] {
    let mut request = [0; 9];
    request[0] = direction as u8;
    request[1..].copy_from_slice(&bytes.to_be_bytes());
    request
}

fn decode_request(request: &[u8; 9]) -> (Direction, u64) {
    let [direction, bytes @ ..] = *request;
    (if direction == 0 { Direction::Download } else { Direction::Upload }, u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        let row = Row { direction: Direction::Upload, weald: vec![2.0, 3.0, 8.0], quinn: vec![1.0, 2.0, 2.0] };
        let Ratio { median, min, max } = row.ratio();
        assert_eq!((median, min, max), (2.0, 1.5, 4.0));
    }

    #[test]
    fn both_stacks_move_what_was_asked_for() {
        let results = bulk(1 << 20, 1, |_, _| {}).unwrap();
        assert!(results.directions.iter().all(|row| row.weald.len() == 1 && row.quinn.len() == 1 && row.ratio().min > 0.0));
    }
}
