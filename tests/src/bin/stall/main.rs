//! `stall`: how long an established connection's echo takes while handshakes flood the server, with the steps of handshakes on threads
//! of their own and between packets.
//!
//! Four processes, all of them this program: the server on the first processor; on the second the client whose echoes are timed, and the
//! crowd or the flooder. Quiet and noise alternate on one server, so that what else the machine does falls on both.

mod crowd;
mod echo;
mod flooder;

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use weald_runtime::{Runtime, sleep};

use crate::echo::Measured;

/// Time an established connection's echo of 64 bytes while handshakes flood the server.
///
/// Examples:
///
///   stall --noise crowd
///
///   stall --noise flood --rate 30000 --rounds 10 --json
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// What the server suffers; both if it is not given.
    #[arg(long, value_enum)]
    noise: Option<Noise>,
    /// Threads for the server's handshakes; several may be given. 0 has them run between packets.
    #[arg(long = "crypto-threads", value_name = "COUNT", default_values_t = [0, 1])]
    crypto_threads: Vec<u16>,
    /// Spoofed Initial packets a second.
    #[arg(long, value_name = "PACKETS", default_value_t = 30_000)]
    rate: u32,
    /// Clients of the crowd.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    clients: usize,
    /// Rounds of quiet and noise.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: usize,
    /// Seconds of each.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    seconds: u64,
    /// Print one JSON object a setting.
    #[arg(long)]
    json: bool,
    /// What this process is.
    #[arg(long, value_enum, hide = true)]
    role: Option<Role>,
    /// Where the server is.
    #[arg(long, hide = true)]
    server: Option<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Noise {
    /// Clients that handshake at once, and again when all are done.
    Crowd,
    /// Initial packets of nobody.
    Flood,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Server,
    Echo,
    Crowd,
    Flood,
}

impl Role {
    /// The processor that it runs on.
    fn processor(self) -> &'static str {
        if self == Self::Server { "0" } else { "1" }
    }
}

/// What the crowd or the flooder says at its end.
#[derive(Default, Serialize, Deserialize)]
struct Noised {
    /// Handshakes that were complete, or packets sent.
    done: u64,
    failed: u64,
    /// Milliseconds of the slowest handshake.
    slowest: f64,
}

/// One setting's figures: microseconds of echoes.
#[derive(Serialize)]
struct Figures {
    noise: Noise,
    crypto_threads: u16,
    /// By window.
    quiet: Vec<Measured>,
    noisy: Vec<Measured>,
    noised: Vec<Noised>,
    server: echo::Served,
    /// Seconds of processor time that the server took in all quiet times, and in all noisy ones.
    quiet_time: f64,
    noisy_time: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let server = || arguments.server.context("no server is named");
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(|| match arguments.role {
        Some(Role::Server) => echo::serve(arguments.crypto_threads.first().copied().unwrap_or(1).into()),
        Some(Role::Echo) => echo::measure(server()?),
        Some(Role::Crowd) => crowd::run(server()?, arguments.clients),
        Some(Role::Flood) => flooder::run(server()?, arguments.rate),
        None => measure_all(&arguments),
    })
}

fn measure_all(arguments: &Arguments) -> Result<()> {
    for noise in [Noise::Crowd, Noise::Flood].into_iter().filter(|noise| arguments.noise.is_none_or(|wanted| wanted == *noise)) {
        for threads in &arguments.crypto_threads {
            let figures = measure(arguments, noise, *threads)?;
            if arguments.json {
                println!("{}", serde_json::to_string(&figures)?);
            } else {
                print(&figures);
            }
        }
    }
    Ok(())
}

fn measure(arguments: &Arguments, noise: Noise, threads: u16) -> Result<Figures> {
    let mut server = Process::start(Role::Server, &["--crypto-threads", &threads.to_string()])?;
    let address: SocketAddr = server.line()?.parse()?;
    let address = address.to_string();
    let mut echo = Process::start(Role::Echo, &["--server", &address])?;
    ensure!(echo.line()? == "ready", "the client is not connected");
    let mut figures = Figures {
        noise,
        crypto_threads: threads,
        quiet: vec![],
        noisy: vec![],
        noised: vec![],
        server: echo::Served::default(),
        quiet_time: 0.0,
        noisy_time: 0.0,
    };
    let span = Duration::from_secs(arguments.seconds);
    for _ in 0..arguments.rounds {
        let begin = server.processor_time()?;
        figures.quiet.extend(echo.measure(span)?);
        let then = server.processor_time()?;
        let options = ["--server", &address, "--rate", &arguments.rate.to_string(), "--clients", &arguments.clients.to_string()];
        let mut noisy = Process::start(if noise == Noise::Crowd { Role::Crowd } else { Role::Flood }, &options)?;
        ensure!(noisy.line()? == "ready", "no noise");
        figures.noisy.extend(echo.measure(span)?);
        figures.noised.push(serde_json::from_str(&noisy.end()?)?);
        figures.quiet_time += then - begin;
        figures.noisy_time += server.processor_time()? - then;
        // What is left of it goes: spoofed handshakes live for ten seconds, and a load for one.
        sleep(Duration::from_secs(if noise == Noise::Flood { 11 } else { 1 }));
    }
    echo.end()?;
    figures.server = serde_json::from_str(&server.end()?)?;
    Ok(figures)
}

fn print(figures: &Figures) {
    let Figures { quiet, noisy, noised, server, .. } = figures;
    let kind = if figures.noise == Noise::Crowd { "crowd" } else { "flood" };
    println!("{kind}, {} threads: echoes in microseconds, {} and {} windows", figures.crypto_threads, quiet.len(), noisy.len());
    for (name, which) in
        [("p50", (|measured| measured.p50) as fn(&Measured) -> f64), ("p90", |measured| measured.p90), ("p99", |measured| measured.p99)]
    {
        let sorted = |of: &[Measured]| {
            let mut values: Vec<f64> = of.iter().map(which).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (before, then) = (sorted(quiet), sorted(noisy));
        print!("  {name}:");
        for (name, share) in [("a tenth of windows", 10), ("half of them", 2)] {
            let (before, then) = (before[before.len() / share], then[then.len() / share]);
            print!(" in {name} at most {before:.0} in quiet, {then:.0} in noise ({:.2} times);", then / before);
        }
        println!();
    }
    let done: u64 = noised.iter().map(|noised| noised.done).sum();
    let failed: u64 = noised.iter().map(|noised| noised.failed).sum();
    let slowest = noised.iter().map(|noised| noised.slowest).fold(0.0, f64::max);
    let cost = (figures.noisy_time - figures.quiet_time) * 1e6 / (done.max(1) as f64);
    println!("  noise: {done} done, {failed} failed, slowest {slowest:.0} ms; {cost:.1} us of the server each; {server}");
}

/// A process of this program.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: Role, options: &[&str]) -> Result<Self> {
        let name = role.to_possible_value().context("a role has a name")?;
        let mut child = Command::new("taskset")
            .args(["-c", role.processor()])
            .arg(std::env::current_exe()?)
            .args(["--role", name.get_name()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start taskset")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("a process has ended early");
        }
        Ok(line.trim().to_owned())
    }

    /// What the echoing client measures in some time.
    fn measure(&mut self, span: Duration) -> Result<Vec<Measured>> {
        use std::io::Write;
        let input = self.child.stdin.as_mut().context("its input")?;
        writeln!(input, "{}", span.as_millis())?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Seconds that all its threads have had a processor.
    fn processor_time(&self) -> Result<f64> {
        let mut sum = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end meanwhile.
            let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let nanos: f64 = text.split(' ').next().context("three numbers")?.parse()?;
            sum += nanos / 1e9;
        }
        Ok(sum)
    }

    /// Ends it, and gives what it says at last.
    fn end(&mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until standard input ends, while coroutines go on.
fn wait_for_the_end() {
    let _ = weald_runtime::unblock(|| std::io::stdin().read_to_end(&mut Vec::new()));
}

fn tls() -> Result<weald_crypto::ClientConfig> {
    Ok(weald_crypto::ClientConfig::builder().alpn([ALPN]).dangerous_skip_verification().build()?)
}

const ALPN: &[u8] = b"stall";
