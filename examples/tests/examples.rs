//! The small examples run to their end and say what they promise.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use weald_runtime::net::TcpStream;

/// The example that `cargo test` built beside the program.
fn example(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_BIN_EXE_weald")).with_file_name("examples").join(name))
}

/// Runs an example to its end, and gives what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    let output = example(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{error}; first: cargo build -p weald --example {name}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A server, which is killed when the test is over.
struct Server(Child);

impl Server {
    /// Starts an example on a port that the system chooses, and reads its address.
    fn start(name: &str) -> (Self, String) {
        let child = example(name).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn();
        let mut server = Self(child.unwrap_or_else(|error| panic!("{error}; first: cargo build -p weald --example {name}")));
        let mut line = String::new();
        BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        (server, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn hello() {
    assert_eq!(run("hello", &[]), "200 OK You asked for /\n200 OK You asked for /hello\n");
}

#[test]
fn echo() {
    assert!(run("echo", &[]).starts_with("200 streams, 2290000 bytes there and back"));
}

#[test]
fn coroutines() {
    let said = run("coroutines", &[]);
    assert!(said.contains("49995000") && said.contains("333833500") && said.contains("on purpose"), "{said}");
}

#[test]
fn simulate() {
    let said = run("simulate", &[]);
    assert!(said.contains("gives the same trace"), "{said}");
    assert_eq!(said, run("simulate", &[]));
}

#[test]
fn controller() {
    let said = run("controller", &[]);
    let rates: Vec<u64> = said.lines().map(|line| line.strip_suffix(" kB/s").unwrap().parse().unwrap()).collect();
    // CUBIC, then the controller of the example, which keeps the link full.
    assert!(matches!(rates[..], [cubic, leased] if leased > 2 * cubic && (1_800..2_500).contains(&leased)), "{said}");
}

#[test]
fn udp_echo() {
    let (_server, address) = Server::start("udp_echo");
    let said = run("udp_echo", &[&address, "hello", "there"]);
    assert!(said.starts_with("hello there (after "), "{said}");
}

#[test]
fn chat() {
    let (mut server, address) = Server::start("chat");
    let enter = |name: &str| {
        let mut stream = TcpStream::connect(address.as_str()).unwrap();
        writeln!(stream, "{name}").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "Your name?");
        assert!(lines.next().unwrap().starts_with("* here are: "));
        (stream, lines)
    };
    let (mut ann, hears_ann) = enter("ann");
    let (bob, mut hears_bob) = enter("bob");
    writeln!(ann, "hello").unwrap();
    assert_eq!(hears_bob.next().unwrap(), "ann: hello");
    // As Ctrl-C does.
    assert!(Command::new("kill").args(["-INT", &server.0.id().to_string()]).status().unwrap().success());
    assert_eq!(hears_ann.collect::<Vec<_>>(), ["* bob joins", "* the server stops"]);
    assert_eq!(hears_bob.collect::<Vec<_>>(), ["* the server stops"]);
    assert_eq!((&bob).read(&mut [0]).unwrap(), 0);
    assert!(server.0.wait().unwrap().success());
}
