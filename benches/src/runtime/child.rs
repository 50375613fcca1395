//! A contestant in a process of its own, on processors of its own, asked line by line.
//!
//! Some have one scheduler a process, some leave threads behind, and some fail by ending their process: none of it touches another one.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::process::keep_to;

use super::{
    contestant::{Contestant, Side},
    sample::{Answer, Request, decode_answer, encode_answer},
};

/// How a child is started: the program that ends in [`serve`] when called with `arguments` and then `CONTESTANT WORKERS`, and a path where
/// the contestant is a program of its own.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

/// A started contestant. Its process ends with this.
pub(super) struct Child {
    process: process::Child,
    answers: Receiver<String>,
}

impl Child {
    pub(super) fn start(launcher: &Launcher, contestant: Contestant, workers: usize, program: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(&launcher.program);
        command.args(&launcher.arguments).args([contestant.name(), &workers.to_string()]).args(program);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {} for {contestant}", launcher.program.display()))?;
        let lines = BufReader::new(process.stdout.take().context("it has no standard output")?).lines();
        let (sender, answers) = unbounded();
        // It ends with the child's output.
        thread::Builder::new().name(format!("answers-{contestant}")).spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { process, answers })
    }

    /// Asks and waits for the answer; `None` if the contestant has no means to do that.
    ///
    /// # Errors
    ///
    /// What the contestant reports, that its process has ended, or that it took longer than `limit`. After either of the last two it is of
    /// no more use.
    pub(super) fn ask(&mut self, request: Request, limit: Duration) -> Result<Option<Answer>> {
        let input = self.process.stdin.as_mut().context("it has no standard input")?;
        if writeln!(input, "{}", request.encode()).is_ok() {
            match self.answers.recv_timeout(limit) {
                Ok(line) => return decode_answer(&line),
                Err(RecvTimeoutError::Timeout) => bail!("no answer in {} s", limit.as_secs()),
                Err(RecvTimeoutError::Disconnected) => {}
            }
        }
        bail!("its process ended: {}", self.process.wait()?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have parked tasks that nothing wakes: no farewell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's side: answers the requests of standard input on standard output until it ends, and then ends the process, whatever is still
/// parked in it.
///
/// # Errors
///
/// If the contestant cannot be started.
pub fn serve(contestant: Contestant, workers: usize, program: Option<&Path>) -> Result<()> {
    keep_to(workers)?;
    if let Some(program) = program {
        let status = Command::new(program).arg(workers.to_string()).status().context("cannot start the contestant's program")?;
        anyhow::ensure!(status.success(), "the contestant's program ended: {status}");
        return Ok(());
    }
    let side = Side::start(contestant, workers)?;
    for line in std::io::stdin().lock().lines() {
        let answer = Request::decode(&line?).and_then(|request| match &side {
            Some(side) => side.perform(request),
            None => Ok(None),
        });
        println!("{}", encode_answer(&answer));
    }
    process::exit(0)
}
