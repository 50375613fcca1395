//! Handshakes: how many a second, and what each costs either end, beside other stacks and beside TLS alone.
//!
//! Owns the order of the runs and what is made of them. `protocol` is how a side is told what to do; the sides are in files of their own, and
//! those that take a C compiler in `benches/peers`, a package that nobody builds who does not ask for it. `echo` measures what handshakes do to
//! a connection that is established.
//!
//! Every server and every client is a process of its own, servers on one processor and clients on another. A client keeps 64 connections
//! going; each stays open for 10 ms after its handshake and is then closed. Rounds alternate over all stacks.

pub mod echo;
pub mod protocol;
mod quinn_side;
mod rustls_side;
mod weald_side;

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use self::protocol::{Batch, Group, Kind, SERVER_NAME, Task, decode_used};
use crate::{
    process::keep_behind,
    quic::{Ratio, median},
    runtime::Launcher,
};

/// The stack that needs no peer: TLS in memory.
const RUSTLS: &str = "rustls";
/// Weald again, whose server has no threads for handshakes: steps run between packets.
const WITHOUT_POOL: &str = "weald, pool off";
/// Stacks that are built with this package.
const BUILT_IN: [&str; 4] = ["weald", WITHOUT_POOL, RUSTLS, "quinn"];
/// Stacks of `benches/peers`.
const OUTSIDE: [&str; 2] = ["s2n-quic", "quiche"];

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Beside quinn, s2n-quic and quiche.
    pub peers: bool,
    /// Handshakes of a sample.
    pub handshakes: u64,
    /// Samples of each stack.
    pub rounds: u32,
    /// Tickets that servers give after each handshake; those of resumed ones give one at least.
    pub tickets: u8,
    /// Which groups.
    pub groups: Vec<Group>,
    /// Which kinds.
    pub kinds: Vec<Kind>,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Handshakes of a sample.
    pub handshakes: u64,
    /// One entry a stack, group and kind.
    pub rows: Vec<Row>,
}

/// One stack with one group and kind.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub stack: String,
    /// The key exchange group.
    pub group: &'static str,
    /// The kind of handshake.
    pub kind: &'static str,
    /// Tickets that the server gave after each.
    pub tickets: u8,
    /// Why there are no samples.
    pub note: Option<String>,
    /// Handshakes a second, one entry a round; none of TLS alone.
    pub rate: Vec<f64>,
    /// Processor time of the server's process a handshake, in microseconds.
    pub server: Vec<f64>,
    /// Processor time of the client's process.
    pub client: Vec<f64>,
    /// Of all handshakes, the part that resumed a session.
    pub resumed: f64,
    /// Of all handshakes, the part whose 0-RTT data was accepted.
    pub early: f64,
}

impl Row {
    /// A handshake of `self` over one of `other`, round by round, by what `of` takes from both.
    pub fn ratio(&self, other: &Self, of: impl Fn(&Self) -> &Vec<f64>) -> Option<Ratio> {
        let ratios: Vec<f64> = of(self).iter().zip(of(other)).map(|(ours, theirs)| ours / theirs).collect();
        (!ratios.is_empty()).then(|| Ratio {
            median: median(&ratios),
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(0.0, f64::max),
        })
    }
}

impl Report {
    /// The row of a stack beside `row`: same group and kind.
    pub fn beside(&self, row: &Row, stack: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|other| other.stack == stack && other.group == row.group && other.kind == row.kind && !other.server.is_empty())
    }
}

/// Measures. `launcher` starts this program as a side; `progress` hears how many of how many samples are taken.
///
/// # Errors
///
/// If there are no two processors, or if Weald's part or TLS alone fails. A peer that fails has a note.
pub fn measure(options: &Options, launcher: &Launcher, mut progress: impl FnMut(u32, u32, &str)) -> Result<Report> {
    let folder = Folder::with_identity()?;
    let outside = if options.peers { build_peers() } else { Err(anyhow::anyhow!("not asked for")) };
    let mut stacks: Vec<&str> = BUILT_IN.to_vec();
    if options.peers {
        stacks.extend(OUTSIDE);
    }
    let mut rows = Vec::new();
    let all = (options.groups.len() * options.kinds.len() * stacks.len()) as u32 * options.rounds;
    let mut done = 0;
    for &group in &options.groups {
        for &kind in &options.kinds {
            let tickets = if kind == Kind::Full { options.tickets } else { options.tickets.max(1) };
            let mut lanes = Vec::new();
            for &stack in &stacks {
                let task = Task { stack: stack.to_owned(), group, kind, tickets, folder: folder.0.clone(), port: None };
                let program = match (&outside, BUILT_IN.contains(&stack)) {
                    (_, true) => Ok(launcher.clone()),
                    (Ok(program), false) => Ok(Launcher { program: program.clone(), arguments: Vec::new() }),
                    (Err(error), false) => Err(anyhow::anyhow!("{error:#}")),
                };
                lanes.push(Lane::new(&task, program.and_then(|program| Pair::start(&program, &task)))?);
            }
            for _ in 0..options.rounds {
                for lane in &mut lanes {
                    progress(done, all, &lane.row.stack);
                    lane.sample(options.handshakes)?;
                    done += 1;
                }
            }
            rows.extend(lanes.into_iter().map(|lane| lane.row));
        }
    }
    Ok(Report { handshakes: options.handshakes, rows })
}

/// The life of a side, by the arguments that [`measure`] started it with.
///
/// # Errors
///
/// If the arguments are none of a side's. What happens to the side itself is told to the measurement.
pub fn side(arguments: &[String]) -> Result<()> {
    if let [echo::SIDE, role @ ..] = &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        protocol::tell(echo::side(role));
        return Ok(());
    }
    let task = Task::decode(arguments)?;
    protocol::tell(keep_behind(usize::from(task.port.is_some()), 1).and_then(|()| match task.stack.as_str() {
        "weald" => weald_side::run(&task, None),
        WITHOUT_POOL => weald_side::run(&task, Some(0)),
        "quinn" => quinn_side::run(&task),
        RUSTLS => rustls_side::run(&task),
        other => bail!("there is no stack \"{other}\" here"),
    }));
    Ok(())
}

/// One stack's samples of one group and kind.
struct Lane {
    pair: Option<Pair>,
    row: Row,
    totals: Batch,
}

impl Lane {
    fn new(task: &Task, pair: Result<Pair>) -> Result<Self> {
        let mut row = Row {
            stack: task.stack.clone(),
            group: task.group.name(),
            kind: task.kind.name(),
            tickets: task.tickets,
            note: None,
            rate: Vec::new(),
            server: Vec::new(),
            client: Vec::new(),
            resumed: 0.0,
            early: 0.0,
        };
        let pair = match pair {
            Ok(pair) => Some(pair),
            Err(error) => {
                row.failed(&error.context("cannot start"))?;
                None
            }
        };
        Ok(Self { pair, row, totals: Batch::default() })
    }

    fn sample(&mut self, handshakes: u64) -> Result<()> {
        let Some(pair) = &mut self.pair else { return Ok(()) };
        let batch = match pair.run(handshakes) {
            Ok(batch) => batch,
            Err(error) => {
                self.pair = None;
                return self.row.failed(&error);
            }
        };
        let count = batch.handshakes as f64;
        if self.row.stack != RUSTLS {
            self.row.rate.push(count / batch.elapsed.as_secs_f64());
        }
        self.row.server.push(batch.server.as_secs_f64() * 1e6 / count);
        self.row.client.push(batch.client.as_secs_f64() * 1e6 / count);
        self.totals.handshakes += batch.handshakes;
        self.totals.resumed += batch.resumed;
        self.totals.early += batch.early;
        self.row.resumed = self.totals.resumed as f64 / self.totals.handshakes as f64;
        self.row.early = self.totals.early as f64 / self.totals.handshakes as f64;
        Ok(())
    }
}

impl Row {
    /// What a peer cannot do is a note; the others must do all.
    fn failed(&mut self, error: &anyhow::Error) -> Result<()> {
        ensure!(
            !["weald", WITHOUT_POOL, RUSTLS].contains(&self.stack.as_str()),
            "{}, {}, {}: {error:#}",
            self.stack,
            self.group,
            self.kind
        );
        self.note = Some(format!("{error:#}"));
        Ok(())
    }
}

/// A server and a client, or one process that is both.
struct Pair {
    server: Option<Side>,
    client: Side,
}

impl Pair {
    fn start(launcher: &Launcher, task: &Task) -> Result<Self> {
        if task.stack == RUSTLS {
            // On the servers' processor.
            return Ok(Self { server: None, client: Side::start(launcher, &task.encode())? });
        }
        let mut server = Side::start(launcher, &task.encode())?;
        let port = server.port()?;
        let client = Side::start(launcher, &Task { port: Some(port), ..task.clone() }.encode())?;
        Ok(Self { server: Some(server), client })
    }

    fn run(&mut self, handshakes: u64) -> Result<Batch> {
        self.client.await_ready()?;
        let before = self.server.as_mut().map(Side::used).transpose()?;
        let mut batch = Batch::decode(&self.client.ask(&handshakes.to_string())?)?;
        if let (Some(server), Some(before)) = (&mut self.server, before) {
            batch.server = server.used()?.saturating_sub(before);
        }
        Ok(batch)
    }
}

/// A process. It ends with this.
struct Side {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    ready: bool,
}

impl Side {
    fn start(launcher: &Launcher, arguments: &[String]) -> Result<Self> {
        let mut process = Command::new(&launcher.program)
            .args(&launcher.arguments)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", launcher.program.display()))?;
        let lines = BufReader::new(process.stdout.take().context("it has no standard output")?).lines();
        Ok(Self { process, lines, ready: false })
    }

    fn line(&mut self) -> Result<String> {
        match self.lines.next().transpose()? {
            Some(line) => line.strip_prefix("error ").map_or(Ok(()), |error| Err(anyhow::anyhow!("{error}"))).map(|()| line),
            None => bail!("its process ended: {}", self.process.wait()?),
        }
    }

    /// What a server says first.
    fn port(&mut self) -> Result<u16> {
        let line = self.line()?;
        line.parse().with_context(|| format!("the server says \"{line}\" where its port was expected"))
    }

    /// A client says so when it has what it needs.
    fn await_ready(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.ready, true) {
            let line = self.line()?;
            ensure!(line == "ready", "\"{line}\" where \"ready\" was expected");
        }
        Ok(())
    }

    /// The processor time that a server has used so far.
    fn used(&mut self) -> Result<Duration> {
        decode_used(&self.ask("used")?)
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        self.tell(question)?;
        self.line()
    }

    fn tell(&mut self, word: &str) -> Result<()> {
        let input = self.process.stdin.as_mut().context("it has no standard input")?;
        writeln!(input, "{word}").context("it takes no more questions")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It holds nothing that outlives it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder that ends with this.
struct Folder(PathBuf);

impl Folder {
    /// A new certificate for all servers.
    fn with_identity() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("weald-bench-handshake-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let folder = Self(path);
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).context("cannot generate a certificate")?;
        folder.write("certificate.der", made.cert.der())?;
        folder.write("certificate.pem", made.cert.pem().as_bytes())?;
        folder.write("key.der", &made.signing_key.serialize_der())?;
        folder.write("key.pem", made.signing_key.serialize_pem().as_bytes())?;
        Ok(folder)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Builds the stacks that take a C compiler, and says where their program is.
fn build_peers() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/Cargo.toml");
    ensure!(manifest.exists(), "its sources are not where this program was built");
    let target = manifest.with_file_name("target");
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .stdout(Stdio::null())
        .status()
        .context("cannot run cargo, which builds it")?;
    ensure!(status.success(), "it was not built: s2n-quic and quiche need cmake, a C++ compiler and libclang");
    Ok(target.join("release/weald-bench-peers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_survives_the_command_line() {
        for port in [None, Some(4433)] {
            let task = Task {
                stack: "weald".to_owned(),
                group: Group::X25519MlKem768,
                kind: Kind::ZeroRtt,
                tickets: 2,
                folder: "/somewhere".into(),
                port,
            };
            assert_eq!(Task::decode(&task.encode()).unwrap(), task);
        }
        let error = |arguments: &[&str]| Task::decode(&arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap_err();
        assert!(error(&["weald"]).to_string().contains("STACK GROUP"));
        assert!(error(&["weald", "x448", "full", "0", "/"]).to_string().contains("x448"));
        assert!(error(&["weald", "x25519", "full", "many", "/"]).to_string().contains("many"));
    }

    #[test]
    fn answers_and_errors_of_a_side() {
        let batch = Batch::decode("ok 10 9 8 1000000 2000 3000").unwrap();
        assert_eq!((batch.handshakes, batch.resumed, batch.early), (10, 9, 8));
        assert_eq!((batch.elapsed.as_millis(), batch.client.as_micros(), batch.server.as_micros()), (1, 2, 3));
        assert_eq!(Batch::decode("error no route").unwrap_err().to_string(), "no route");
        assert!(Batch::decode("ok 1 2 3").is_err() && Batch::decode("").is_err());
        assert_eq!(decode_used("5000").unwrap().as_micros(), 5);
        assert!(decode_used("").is_err() && decode_used("5 x").is_err());
    }
}
