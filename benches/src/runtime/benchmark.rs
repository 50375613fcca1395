//! The list of what is measured: names, units, sizes and goals. It measures nothing itself.

use std::fmt;

use super::contestant::Contestant;

/// One thing that every contestant does in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// A task that yields with nobody else to run.
    Yield,
    /// A thousand tasks that yield in turn.
    YieldThousand,
    /// One task spawns another and joins it.
    SpawnJoin,
    /// A million tasks spawned, then joined.
    SpawnMillion,
    /// There and back between two tasks over two unbounded channels.
    PingPong,
    /// Messages of eight bytes through one channel.
    Channel(Channel),
    /// A timer of ten seconds armed and cancelled.
    Timer,
    /// A ping-pong whose asker waits ten seconds at most: what a time-out that does not fire adds to a wait.
    TimedWait,
    /// Overshoot of a thousand tasks that sleep 1 ms, again and again.
    SleepersThousand,
    /// Overshoot of ten thousand tasks that sleep 100 ms.
    SleepersTenThousand,
    /// 64 bytes over loopback from one task to another and back.
    UdpEcho,
    /// CPU time with a thousand parked tasks and a timer far ahead.
    IdleCpu,
    /// Memory of parked tasks.
    Memory,
    /// Memory of parked tasks which had used 32 KiB of their stacks, after 3 s.
    MemoryTrimmed,
}

/// Capacity and ends of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Messages it holds; `None` if it is unbounded.
    pub capacity: Option<usize>,
    /// Tasks that send.
    pub senders: usize,
    /// Tasks that receive.
    pub receivers: usize,
}

const BOUNDED: Option<usize> = Some(256);

const fn channel(capacity: Option<usize>, senders: usize, receivers: usize) -> Benchmark {
    Benchmark::Channel(Channel { capacity, senders, receivers })
}

/// How samples become figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Time of one operation in nanoseconds; as many operations as fill a sample.
    Nanoseconds,
    /// Millions of operations a second; as many as fill a sample.
    MillionsPerSecond,
    /// Thousands of operations a second; as many as fill a sample.
    ThousandsPerSecond,
    /// Time of the whole in seconds; the number of operations is given.
    Seconds,
    /// What the contestant itself reports; the number of operations is given.
    Reported,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Times and bytes.
    Lower,
    /// Rates.
    Higher,
}

/// One number of a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    /// Empty where a benchmark has one figure.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
}

/// What Weald is to reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aim {
    /// Its cost at most this many times the cost of the best peer.
    BestPeer(f64),
    /// Its cost at most this many times that of the minimal scheduler.
    Floor(f64),
    /// Its cost at most this many times that of plain threads.
    Threads(f64),
    /// The figure itself at most this.
    AtMost(f64),
}

impl Benchmark {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 19] = [
        Self::Yield,
        Self::YieldThousand,
        Self::SpawnJoin,
        Self::SpawnMillion,
        Self::PingPong,
        channel(BOUNDED, 1, 1),
        channel(BOUNDED, 4, 1),
        channel(BOUNDED, 4, 4),
        channel(None, 1, 1),
        channel(None, 4, 1),
        channel(None, 4, 4),
        Self::Timer,
        Self::TimedWait,
        Self::SleepersThousand,
        Self::SleepersTenThousand,
        Self::UdpEcho,
        Self::IdleCpu,
        Self::Memory,
        Self::MemoryTrimmed,
    ];

    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yield => "yield",
            Self::YieldThousand => "yield-1000",
            Self::SpawnJoin => "spawn-join",
            Self::SpawnMillion => "spawn-million",
            Self::PingPong => "ping-pong",
            Self::Channel(Channel { capacity, senders, receivers }) => match (capacity.is_some(), senders, receivers) {
                (true, 1, 1) => "bounded-spsc",
                (true, _, 1) => "bounded-mpsc",
                (true, ..) => "bounded-mpmc",
                (false, 1, 1) => "unbounded-spsc",
                (false, _, 1) => "unbounded-mpsc",
                (false, ..) => "unbounded-mpmc",
            },
            Self::Timer => "timer",
            Self::TimedWait => "timed-wait",
            Self::SleepersThousand => "sleepers-1000",
            Self::SleepersTenThousand => "sleepers-10000",
            Self::UdpEcho => "udp-echo",
            Self::IdleCpu => "idle-cpu",
            Self::Memory => "memory",
            Self::MemoryTrimmed => "memory-trimmed",
        }
    }

    /// The benchmark of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|benchmark| benchmark.name() == name)
    }

    /// The name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Yield => "yield, alone",
            Self::YieldThousand => "yield, among 1,000",
            Self::SpawnJoin => "spawn + join",
            Self::SpawnMillion => "spawn and join 1,000,000",
            Self::PingPong => "ping-pong, round trip",
            Self::Channel(Channel { capacity, senders, receivers }) => match (capacity.is_some(), senders, receivers) {
                (true, 1, 1) => "bounded(256), 1 to 1",
                (true, _, 1) => "bounded(256), 4 to 1",
                (true, ..) => "bounded(256), 4 to 4",
                (false, 1, 1) => "unbounded, 1 to 1",
                (false, _, 1) => "unbounded, 4 to 1",
                (false, ..) => "unbounded, 4 to 4",
            },
            Self::Timer => "timer, arm + cancel",
            Self::TimedWait => "ping-pong with a time-out",
            Self::SleepersThousand => "1,000 sleep 1 ms, overshoot",
            Self::SleepersTenThousand => "10,000 sleep 100 ms, overshoot",
            Self::UdpEcho => "UDP echo of 64 bytes",
            Self::IdleCpu => "CPU of an idle runtime",
            Self::Memory => "a parked task",
            Self::MemoryTrimmed => "parked, had used 32 KiB",
        }
    }

    /// The heading under which the table shows it.
    pub fn group(self) -> &'static str {
        match self {
            Self::Yield | Self::YieldThousand | Self::SpawnJoin | Self::SpawnMillion | Self::PingPong => "scheduling",
            Self::Channel(_) => "channels between tasks",
            Self::Timer | Self::TimedWait | Self::SleepersThousand | Self::SleepersTenThousand => "time",
            Self::UdpEcho | Self::IdleCpu => "system",
            Self::Memory | Self::MemoryTrimmed => "memory",
        }
    }

    pub(super) fn scale(self) -> Scale {
        match self {
            Self::Yield | Self::YieldThousand | Self::SpawnJoin | Self::PingPong | Self::Timer | Self::TimedWait => Scale::Nanoseconds,
            Self::Channel(_) => Scale::MillionsPerSecond,
            Self::UdpEcho => Scale::ThousandsPerSecond,
            Self::SpawnMillion => Scale::Seconds,
            Self::SleepersThousand | Self::SleepersTenThousand | Self::IdleCpu | Self::Memory | Self::MemoryTrimmed => Scale::Reported,
        }
    }

    pub(super) fn better(self) -> Better {
        match self.scale() {
            Scale::MillionsPerSecond | Scale::ThousandsPerSecond => Better::Higher,
            Scale::Nanoseconds | Scale::Seconds | Scale::Reported => Better::Lower,
        }
    }

    pub(super) fn figures(self) -> &'static [Figure] {
        match self.scale() {
            Scale::Nanoseconds => &[Figure { name: "", unit: "ns" }],
            Scale::MillionsPerSecond => &[Figure { name: "", unit: "M/s" }],
            Scale::ThousandsPerSecond => &[Figure { name: "", unit: "k/s" }],
            Scale::Seconds => &[Figure { name: "", unit: "s" }],
            Scale::Reported => match self {
                Self::IdleCpu => &[Figure { name: "", unit: "% a worker" }],
                Self::Memory => &[Figure { name: "", unit: "bytes" }, Figure { name: "mappings", unit: "" }],
                Self::MemoryTrimmed => &[Figure { name: "", unit: "bytes" }],
                _ => &[Figure { name: "p50", unit: "us" }, Figure { name: "p99", unit: "us" }],
            },
        }
    }

    /// Operations of a sample where they are not fitted to a time: rounds for the sleepers, tasks for the others.
    pub(super) fn fixed_count(self, quick: bool) -> u64 {
        match (self, quick) {
            (Self::SpawnMillion | Self::Memory, false) => 1_000_000,
            (Self::SpawnMillion, true) => 100_000,
            (Self::Memory, true) => 50_000,
            (Self::MemoryTrimmed, false) => 50_000,
            (Self::MemoryTrimmed, true) => 10_000,
            (Self::SleepersThousand, false) => 100,
            (Self::SleepersThousand, true) => 20,
            (Self::SleepersTenThousand, false) => 3,
            (Self::IdleCpu, false) => 1_000,
            (Self::IdleCpu, true) => 200,
            _ => 1,
        }
    }

    /// Which numbers of workers it is measured with.
    pub(super) fn workers(self) -> &'static [usize] {
        match self {
            Self::Memory | Self::MemoryTrimmed => &[1],
            _ => &[1, 2],
        }
    }

    /// Whether a sample leaves its process in a state that the next one must not see: tasks parked for ever.
    pub(super) fn uses_up_its_process(self) -> bool {
        matches!(self, Self::IdleCpu | Self::Memory | Self::MemoryTrimmed)
    }

    /// Whether that contestant is one of the peers among which the best is looked for. Plain threads are no peer for channels *between
    /// tasks*: a channel of theirs serves spinning threads.
    pub(super) fn has_peer(self, contestant: Contestant) -> bool {
        match contestant {
            Contestant::Weald | Contestant::Floor => false,
            Contestant::Threads => !matches!(self, Self::Channel(_)),
            _ => true,
        }
    }

    /// What is aimed at with `workers` workers in the figure of index `figure`.
    pub(super) fn aims(self, workers: usize, figure: usize) -> &'static [Aim] {
        match (self, workers, figure) {
            (Self::Yield | Self::YieldThousand | Self::SpawnJoin | Self::PingPong, 1, _) => &[Aim::Floor(1.4), Aim::BestPeer(0.5)],
            (Self::SpawnMillion, 1, _) | (Self::PingPong, 2, _) | (Self::Channel(_), ..) => &[Aim::BestPeer(1.0)],
            (Self::SpawnJoin, 2, _) => &[Aim::BestPeer(0.5)],
            (Self::Timer, ..) => &[Aim::BestPeer(0.4)],
            (Self::SleepersThousand | Self::SleepersTenThousand, _, 0) => &[Aim::AtMost(60.0)],
            (Self::SleepersThousand | Self::SleepersTenThousand, ..) => &[Aim::BestPeer(1.0)],
            (Self::UdpEcho, ..) => &[Aim::Threads(1.0), Aim::BestPeer(1.0)],
            (Self::IdleCpu, ..) => &[Aim::AtMost(1.0)],
            (Self::Memory, _, 1) => &[Aim::AtMost(99.0)],
            (Self::Memory | Self::MemoryTrimmed, ..) => &[Aim::AtMost(4500.0)],
            _ => &[],
        }
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for benchmark in Benchmark::ALL {
            assert_eq!(Benchmark::from_name(benchmark.name()), Some(benchmark));
        }
        assert_eq!(Benchmark::from_name("nothing"), None);
    }
}
