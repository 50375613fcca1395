//! One sample: what a contestant is asked for and what it answers, and the text in which the two travel between processes.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;

use super::benchmark::Benchmark;

/// What a contestant is asked for, as `NAME COUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) benchmark: Benchmark,
    pub(super) count: u64,
}

/// What it measured, as `ok OPERATIONS NANOSECONDS FIGURE..`, `unsupported`, or `error TEXT`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Operations done: the count, or a little less where it does not divide.
    pub(super) operations: u64,
    pub(super) elapsed: Duration,
    /// Of [`Scale::Reported`](super::benchmark::Scale::Reported).
    pub(super) figures: Vec<f64>,
}

impl Request {
    pub(super) fn encode(&self) -> String {
        format!("{} {}", self.benchmark, self.count)
    }

    pub(super) fn decode(line: &str) -> Result<Self> {
        let (name, count) = line.trim().split_once(' ').with_context(|| format!("\"{line}\" is not NAME COUNT"))?;
        let benchmark = Benchmark::from_name(name).with_context(|| format!("there is no benchmark \"{name}\""))?;
        Ok(Self { benchmark, count: count.parse().with_context(|| format!("\"{count}\" is not a count"))? })
    }
}

impl Answer {
    pub(super) fn timed(operations: u64, elapsed: Duration) -> Self {
        Self { operations, elapsed, figures: Vec::new() }
    }

    /// As if all turns, of `each` operations, had taken as long as the median one.
    pub(super) fn median_turn(each: u64, mut turns: Vec<Duration>) -> Self {
        turns.sort_unstable();
        Self::timed(each * turns.len() as u64, turns[turns.len() / 2] * turns.len() as u32)
    }

    pub(super) fn reported(figures: Vec<f64>) -> Self {
        Self { operations: 1, elapsed: Duration::ZERO, figures }
    }

    /// Median and 99th percentile in microseconds.
    ///
    /// # Errors
    ///
    /// If a time does not fit in a histogram: it is hours long.
    pub(super) fn percentiles(times: impl IntoIterator<Item = Duration>) -> Result<Self> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for time in times {
            histogram.record(time.as_nanos() as u64)?;
        }
        ensure!(!histogram.is_empty(), "nothing was timed");
        Ok(Self::reported([0.5, 0.99].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e3).to_vec()))
    }
}

/// The line that carries a result; `None` is a benchmark that the contestant has no means to do.
pub(super) fn encode_answer(answer: &Result<Option<Answer>>) -> String {
    match answer {
        Ok(Some(answer)) => {
            let figures: String = answer.figures.iter().map(|figure| format!(" {figure}")).collect();
            format!("ok {} {}{figures}", answer.operations, answer.elapsed.as_nanos())
        }
        Ok(None) => "unsupported".to_owned(),
        Err(error) => format!("error {}", format!("{error:#}").replace('\n', " ")),
    }
}

/// Reads what [`encode_answer`] wrote.
///
/// # Errors
///
/// What the contestant told, or that its line is malformed.
pub(super) fn decode_answer(line: &str) -> Result<Option<Answer>> {
    let (kind, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    match kind {
        "ok" => {
            let mut words = rest.split(' ');
            let mut number =
                || words.next().and_then(|word| word.parse::<u64>().ok()).with_context(|| format!("malformed answer \"{line}\""));
            let (operations, nanoseconds) = (number()?, number()?);
            let figures = words.map(str::parse).collect::<Result<_, _>>().with_context(|| format!("malformed answer \"{line}\""))?;
            Ok(Some(Answer { operations, elapsed: Duration::from_nanos(nanoseconds), figures }))
        }
        "unsupported" => Ok(None),
        "error" => bail!("{rest}"),
        _ => bail!("malformed answer \"{line}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_survive_the_way() {
        let request = Request { benchmark: Benchmark::PingPong, count: 12 };
        assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        assert!(Request::decode("ping-pong").is_err() && Request::decode("nothing 1").is_err());
        let answer = Answer { operations: 3, elapsed: Duration::from_nanos(77), figures: vec![1.5, 2.0] };
        assert_eq!(decode_answer(&encode_answer(&Ok(Some(answer.clone())))).unwrap(), Some(answer));
        assert_eq!(decode_answer(&encode_answer(&Ok(None))).unwrap(), None);
        assert_eq!(decode_answer(&encode_answer(&Err(anyhow::anyhow!("no\nstacks")))).unwrap_err().to_string(), "no stacks");
        assert!(decode_answer("ok 1").is_err() && decode_answer("ok 1 2 x").is_err() && decode_answer("").is_err());
    }

    #[test]
    fn a_disturbed_turn_does_not_count() {
        let answer = Answer::median_turn(10, [5, 900, 4].map(Duration::from_micros).to_vec());
        assert_eq!(answer, Answer::timed(30, Duration::from_micros(15)));
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let answer = Answer::percentiles((1..=100).map(Duration::from_micros)).unwrap();
        assert!((answer.figures[0] - 50.0).abs() < 1.0 && (answer.figures[1] - 99.0).abs() < 1.0, "{answer:?}");
        assert!(Answer::percentiles([]).is_err());
    }
}
