//! What was seen, second by second, and whether that is good enough.

use std::{fmt, time::Duration};

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use serde::Serialize;

use crate::{attacks::Attack, clients::Measured};

/// Memory is flat if the last third of an attack has, at its median, no more than the second third by this factor, or these bytes.
const FLAT_RATIO: f64 = 1.05;
const FLAT_BYTES: u64 = 4 << 20;
/// What p99 may be of that in quiet.
const SLOWER: f64 = 2.0;

/// One second of an attack, or before it.
#[derive(Serialize)]
pub struct Second {
    resident_bytes: u64,
    requests: u64,
    p50_us: f64,
    p99_us: f64,
    arrivals: u64,
    arrival_p50_us: f64,
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl Second {
    pub fn new(resident_bytes: u64, measured: &Measured) -> Self {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        Self {
            resident_bytes,
            requests: measured.requests.len(),
            p50_us: us(measured.requests.value_at_quantile(0.5)),
            p99_us: us(measured.requests.value_at_quantile(0.99)),
            arrivals: measured.arrivals.len(),
            arrival_p50_us: us(measured.arrivals.value_at_quantile(0.5)),
            failures: measured.failures,
            failure: measured.failure.clone(),
        }
    }
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, p99_us, failures, .. } = self;
        write!(f, "{}, {requests} requests, p99 {p99_us:.0} us, {failures} failed", size(self.resident_bytes))
    }
}

/// Seconds of one kind.
#[derive(Default, Serialize)]
pub struct Phase {
    pub seconds: Vec<Second>,
}

impl Phase {
    fn median(&self, of: impl Fn(&Second) -> f64) -> f64 {
        median(self.seconds.iter().filter(|second| second.requests > 0).map(of).collect())
    }

    fn failures(&self) -> u64 {
        self.seconds.iter().map(|second| second.failures).sum()
    }

    /// The median of resident memory in one third of the time: 0, 1 or 2.
    fn resident(&self, third: usize) -> u64 {
        let len = self.seconds.len();
        let seconds = &self.seconds[third * len / 3..(third + 1) * len / 3];
        median(seconds.iter().map(|second| second.resident_bytes as f64).collect()) as u64
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What became of an attack.
#[derive(Serialize)]
pub struct Verdict {
    attack: &'static str,
    packets_per_second: u32,
    packets_sent: u64,
    quiet_bytes: u64,
    second_third_bytes: u64,
    last_third_bytes: u64,
    memory_is_flat: bool,
    quiet_p50_us: f64,
    quiet_p99_us: f64,
    p50_us: f64,
    p99_us: f64,
    /// p99 under attack as a multiple of that in quiet.
    slower: f64,
    failures: u64,
    pub withstood: bool,
    quiet: Phase,
    attacked: Phase,
}

impl Verdict {
    pub fn new(attack: &Attack, packets_per_second: u32, packets_sent: u64, quiet: Phase, attacked: Phase) -> Self {
        let (second, last) = (attacked.resident(1), attacked.resident(2));
        let memory_is_flat = last <= ((second as f64 * FLAT_RATIO) as u64).max(second + FLAT_BYTES);
        let p99 = |phase: &Phase| phase.median(|second| second.p99_us);
        let slower = p99(&attacked) / p99(&quiet);
        let failures = attacked.failures();
        Self {
            attack: attack.name,
            packets_per_second,
            packets_sent,
            quiet_bytes: quiet.resident(2),
            second_third_bytes: second,
            last_third_bytes: last,
            memory_is_flat,
            quiet_p50_us: quiet.median(|second| second.p50_us),
            quiet_p99_us: p99(&quiet),
            p50_us: attacked.median(|second| second.p50_us),
            p99_us: p99(&attacked),
            slower,
            failures,
            withstood: memory_is_flat && slower <= SLOWER && failures == 0 && packets_sent > 0,
            quiet,
            attacked,
        }
    }
}

/// A table of all attacks.
pub fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["attack", "packets", "memory quiet", "2nd third", "last third", "p99 quiet", "attacked", "ratio", "failed", ""]);
    for verdict in verdicts {
        table.add_row([
            verdict.attack.to_owned(),
            verdict.packets_sent.to_string(),
            size(verdict.quiet_bytes),
            size(verdict.second_third_bytes),
            size(verdict.last_third_bytes),
            time(verdict.quiet_p99_us),
            time(verdict.p99_us),
            format!("{:.2}x", verdict.slower),
            verdict.failures.to_string(),
            if verdict.withstood { "withstood".to_owned() } else { "NOT WITHSTOOD".to_owned() },
        ]);
    }
    for column in 1..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn time(microseconds: f64) -> String {
    let time = Duration::from_secs_f64((microseconds / 1e6).max(0.0));
    format!("{time:.1?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::ATTACKS;

    fn phase(seconds: u64, of: impl Fn(u64) -> Second) -> Phase {
        Phase { seconds: (0..seconds).map(of).collect() }
    }

    fn second(resident_bytes: u64, p99_us: f64) -> Second {
        let (requests, arrivals) = (1000, 10);
        Second { resident_bytes, requests, p50_us: 50.0, p99_us, arrivals, arrival_p50_us: 900.0, failures: 0, failure: None }
    }

    fn verdict(attacked: Phase) -> Verdict {
        Verdict::new(&ATTACKS[0], 1000, 60_000, phase(15, |_| second(10 << 20, 100.0)), attacked)
    }

    #[test]
    fn a_server_that_fills_its_limits_and_stays_there_withstands() {
        let filled = verdict(phase(60, |at| second((10 << 20) + at.min(15) * (10 << 20), 190.0)));
        assert!(filled.memory_is_flat);
        assert!(filled.withstood);
    }

    #[test]
    fn memory_that_goes_on_growing_is_not_flat() {
        let growing = verdict(phase(60, |at| second((10 << 20) + at * (1 << 20), 100.0)));
        assert!(!growing.memory_is_flat);
        assert!(!growing.withstood);
    }

    #[test]
    fn clients_that_wait_more_than_twice_as_long_or_fail_are_harmed() {
        assert!(!verdict(phase(60, |_| second(10 << 20, 201.0))).withstood);
        let failed = verdict(phase(60, |at| Second { failures: u64::from(at == 7), ..second(10 << 20, 100.0) }));
        assert_eq!(failed.failures, 1);
        assert!(!failed.withstood);
    }
}
