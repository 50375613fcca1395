//! What was tried around the runtime's edges and is not a part of it: SO_BUSY_POLL, io_uring, pinning, padding, and how long to poll before a
//! sleep. `cargo run --release -p weald-benches --bin ablation [ROUNDS]` prints the table that stands in ARCHITECTURE.md.
//!
//! Owns the list of experiments and the order of their samples: rounds over all variants of a group in turn, each beginning with another
//! one; told are medians, and ratios to the group's first round by round. What a variant does is in `echo`,
//! `bulk`, `shared` and `insight`.

mod bulk;
mod echo;
mod insight;
mod shared;
mod system;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::{
    bulk::Way,
    echo::{Place, Wait},
};

const ROUNDS: usize = 7;

/// Nanoseconds of an operation.
type Sample = Box<dyn Fn() -> Result<f64>>;

struct Group {
    title: &'static str,
    /// What the others are compared with comes first.
    variants: Vec<(String, Sample)>,
}

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse()).context("the argument is a number of rounds")?;
    ensure!(rounds > 0, "there is nothing to tell of no rounds");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{} processors, Linux {}; medians of {rounds} rounds", std::thread::available_parallelism()?, kernel.trim());
    for group in groups() {
        println!("\n| {} | ns | against the first (least-most) |\n|-|-|-|", group.title);
        let mut samples = vec![Vec::new(); group.variants.len()];
        for round in 0..rounds {
            for index in 0..group.variants.len() {
                let turn = (index + round) % group.variants.len();
                let (name, sample) = &group.variants[turn];
                match sample() {
                    Ok(sample) => samples[turn].push(sample),
                    // The kernel may lack or forbid it.
                    Err(error) if round == 0 => eprintln!("{name}: {error:#}"),
                    Err(_) => {}
                }
            }
        }
        for ((name, _), own) in group.variants.iter().zip(&samples) {
            if own.len() < rounds {
                println!("| {name} | failed | |");
                continue;
            }
            let ratios: Vec<_> = own.iter().zip(&samples[0]).map(|(own, first)| own / first).collect();
            let (least, most) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
            println!("| {name} | {:.0} | {:.2} ({least:.2}-{most:.2}) |", median(own), median(&ratios));
        }
    }
    Ok(())
}

fn groups() -> Vec<Group> {
    let micros = Duration::from_micros;
    let echo = |name: &str, wait: Wait, busy_poll: Option<u32>, place: Place| -> (String, Sample) {
        (name.to_owned(), Box::new(move || echo::round_trip(wait, busy_poll, place)))
    };
    let bulk = |name: &str, way: Way| -> (String, Sample) { (name.to_owned(), Box::new(move || bulk::datagram(way))) };
    let polled = Wait::Poll(micros(50));
    vec![
        Group {
            title: "UDP echo, 64 B, two threads, each on a processor of its own: a round trip",
            variants: vec![
                echo("blocking calls", Wait::Blocks, None, Place::Apart),
                echo("blocking calls, SO_BUSY_POLL 50 us", Wait::Blocks, Some(50), Place::Apart),
                echo("epoll, asleep at once", Wait::Poll(Duration::ZERO), None, Place::Apart),
                echo("epoll, asleep at once, SO_BUSY_POLL 50 us", Wait::Poll(Duration::ZERO), Some(50), Place::Apart),
                echo("epoll after polling for 5 us", Wait::Poll(micros(5)), None, Place::Apart),
                echo("epoll after polling for 20 us", Wait::Poll(micros(20)), None, Place::Apart),
                echo("epoll after polling for 50 us", polled, None, Place::Apart),
                echo("epoll after polling for 200 us", Wait::Poll(micros(200)), None, Place::Apart),
                echo("io_uring, send and receive in one call, asleep at once", Wait::Ring(Duration::ZERO), None, Place::Apart),
                echo("io_uring after polling for 50 us", Wait::Ring(micros(50)), None, Place::Apart),
            ],
        },
        Group {
            title: "the same, epoll after polling for 50 us: where the threads are",
            variants: vec![
                echo("each on a processor of its own", polled, None, Place::Apart),
                echo("where the kernel likes", polled, None, Place::Free),
                echo("both on one processor", polled, None, Place::Together),
                echo("both on one processor, asleep at once", Wait::Poll(Duration::ZERO), None, Place::Together),
            ],
        },
        Group {
            title: "datagrams of 1,200 B, 54 at a time, sent and received by one thread: CPU time of a datagram",
            variants: vec![
                bulk("send and recv", Way::Single),
                bulk("sendmmsg and recvmmsg", Way::Messages),
                bulk("io_uring, 54 sends, then 54 receives, a call each", Way::Ring),
                bulk("io_uring, 54 sends, a multishot receive", Way::RingMultishot),
                bulk("segmentation and receive offload", Way::Offload),
                bulk("io_uring with both offloads", Way::RingOffload),
            ],
        },
        Group {
            title: "two threads that hand a word to and fro: CPU time of a round trip",
            variants: shared::DISTANCES
                .iter()
                .map(|bytes| -> (String, Sample) { (format!("words {bytes} B apart"), Box::new(|| shared::to_and_fro(*bytes))) })
                .collect(),
        },
        Group {
            title: "two threads, each counting in a word of its own: CPU time of an increment",
            variants: shared::DISTANCES
                .iter()
                .map(|bytes| -> (String, Sample) { (format!("words {bytes} B apart"), Box::new(|| shared::counting(*bytes))) })
                .collect(),
        },
        Group {
            title: "ping-pong of coroutines on two workers: a round trip",
            variants: vec![
                ("workers where the kernel likes".to_owned(), Box::new(|| shared::ping_pong(false))),
                ("pinned workers".to_owned(), Box::new(|| shared::ping_pong(true))),
            ],
        },
        Group {
            title: "a yield alone, in CPU time: what watching costs",
            variants: vec![
                ("as it is".to_owned(), Box::new(|| insight::yielding(|builder| builder))),
                (
                    "with a watchdog of 10 ms".to_owned(),
                    Box::new(|| insight::yielding(|builder| builder.watchdog(Some(Duration::from_millis(10))))),
                ),
                (
                    "with spans, to which nobody listens".to_owned(),
                    Box::new(|| insight::yielding(|builder| builder.trace_coroutines(true))),
                ),
            ],
        },
        Group {
            title: "a dump of 100,000 parked coroutines, in CPU time: a coroutine",
            variants: vec![("a dump".to_owned(), Box::new(insight::dump))],
        },
    ]
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] }
}
