//! The example `chat` on a simulated network that loses segments and falls apart.

use std::io::{self, BufRead, BufReader, ErrorKind, Lines, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use weald_runtime::net::{TcpListener, TcpStream};
use weald_runtime::sim::{self, LinkConfig, Node, Verdict};
use weald_runtime::{CancellationToken, JoinHandle, scope, sleep, time::Instant};
use weald_tests::hosts::{host, partition, simulate};

#[expect(dead_code, reason = "its main is for people")]
#[path = "../../examples/examples/chat.rs"]
mod chat;

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 4000);
const SECOND: Duration = Duration::from_secs(1);
/// How long the server bears one who says nothing.
const SILENCE: Duration = Duration::from_secs(600);

/// A network on which nothing is lost but time.
fn good() -> LinkConfig {
    LinkConfig { delay: SECOND / 50, jitter: SECOND / 50, ..LinkConfig::default() }
}

fn bad() -> LinkConfig {
    LinkConfig { loss: 0.05, reorder: 0.1, duplicate: 0.05, corrupt: 0.01, ..good() }
}

/// Starts the server on its host.
fn serve(stop: &CancellationToken) -> (Node, JoinHandle<io::Result<()>>) {
    let (server, stop) = (host("server", "10.0.0.1"), stop.clone());
    let serving = server.spawn(move || {
        let listener = TcpListener::bind(SocketAddr::from(SERVER))?;
        stop.run(|| chat::serve(&listener));
        Ok(())
    });
    (server, serving)
}

/// One who chats.
struct Guest {
    stream: TcpStream,
    lines: Lines<BufReader<TcpStream>>,
}

impl Guest {
    /// Enters from a host.
    fn admit(host: &Node, name: &'static str) -> Self {
        host.spawn(move || Self::enter(name).expect("welcome")).join().expect("no panic")
    }

    /// Connects, and is in the room when this returns.
    fn enter(name: &str) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(SERVER), 10 * SECOND)?;
        stream.set_read_timeout(Some(60 * SECOND))?;
        let mut guest = Self { lines: BufReader::new(stream.try_clone()?).lines(), stream };
        guest.say(name)?;
        loop {
            match guest.hear()? {
                Some(line) if line == "Your name?" => {}
                Some(line) if line.starts_with("* here are: ") => return Ok(guest),
                Some(_) => return Err(ErrorKind::AlreadyExists.into()),
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line; `None` at the end.
    fn hear(&mut self) -> io::Result<Option<String>> {
        self.lines.next().transpose()
    }

    /// Says numbers up to `count`, with a pause after each, hears until `enough`, and leaves. Returns what was heard.
    fn converse(mut self, count: u32, pause: Duration, mut enough: impl FnMut(&str) -> bool + Send) -> Vec<String> {
        let mut speaker = self.stream.try_clone().expect("another handle");
        let heard = scope(|s| {
            s.spawn(move || {
                for number in 0..count {
                    speaker.write_all(format!("{number}\n").as_bytes()).expect("said");
                    sleep(pause);
                }
            });
            let mut heard = Vec::new();
            while let Some(line) = self.hear().expect("heard") {
                let enough = enough(&line);
                heard.push(line);
                if enough {
                    return heard;
                }
            }
            heard
        });
        self.leave();
        heard
    }

    /// Leaves when all that was said is in the room: a stream that is closed with lines unread is reset, and loses what is under way.
    fn leave(&mut self) {
        // A server that has stopped has left first.
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            while self.hear().is_ok_and(|line| line.is_some()) {}
        }
    }
}

/// The numbers that were heard of somebody.
fn numbers(heard: &[String], name: &str) -> Vec<u32> {
    let said = heard.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    said.map(|number| number.parse().expect("a number")).collect()
}

/// Whether two have said this number.
fn both(number: u32) -> impl FnMut(&str) -> bool + Send {
    let mut said = 0;
    move |line| {
        said += u32::from(line.ends_with(&format!(": {number}")));
        said == 2
    }
}

#[test]
fn nothing_is_lost_in_a_partition_that_ends_in_time() {
    const SAID: u32 = 30;
    const NAMES: [&str; 3] = ["ann", "bob", "cyd"];
    sim::explore(0..100, |seed| {
        simulate(seed, bad(), || {
            let stop = CancellationToken::new();
            let (server, serving) = serve(&stop);
            sleep(SECOND);
            let hosts = ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|address| host(address, address));
            // Nobody speaks before all are there.
            let guests: Vec<_> = NAMES.into_iter().zip(&hosts).map(|(name, host)| (name, host, Guest::admit(host, name))).collect();
            partition(&hosts[2], &[&server, &hosts[0], &hosts[1]], 3 * SECOND, 20 * SECOND);
            let conversations: Vec<_> = guests
                .into_iter()
                .map(|(name, host, guest)| {
                    // A lost repetition is repeated after twice as long, and so on.
                    guest.stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
                    (name, host.spawn(move || guest.converse(SAID, SECOND / 4, both(SAID - 1))))
                })
                .collect();
            for (name, conversation) in conversations {
                let heard = conversation.join().expect("no panic");
                for other in NAMES.into_iter().filter(|other| *other != name) {
                    assert_eq!(numbers(&heard, other), Vec::from_iter(0..SAID), "{name} heard of {other}");
                }
            }
            assert!(sim::trace().iter().any(|entry| entry.verdict == Verdict::Partitioned));
            stop.cancel();
            serving.join().expect("no panic").expect("it ends well");
        });
    });
}

#[test]
fn who_is_cut_off_is_missed_and_may_come_back() {
    const SAID: u32 = 120;
    sim::explore(0..30, |seed| {
        simulate(seed, bad(), || {
            let stop = CancellationToken::new();
            let (server, serving) = serve(&stop);
            let [ann, bob, cyd] = ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|address| host(address, address));
            sleep(SECOND);
            let began = Instant::now();
            let (apart, whole) = (60 * SECOND, 900 * SECOND);
            partition(&cyd, &[&server, &ann, &bob], apart, whole);
            let guests = (Guest::admit(&ann, "ann"), Guest::admit(&bob, "bob"), Guest::admit(&cyd, "cyd"));
            let stays = |host: &Node, guest: Guest, other: &'static str| {
                host.spawn(move || {
                    let mut missed = None;
                    let heard = guest.converse(SAID, 10 * SECOND, |line| {
                        if line == "* cyd leaves" {
                            missed.get_or_insert(began.elapsed());
                        }
                        line == format!("{other}: {}", SAID - 1)
                    });
                    (heard, missed)
                })
            };
            let stayed = [(stays(&ann, guests.0, "bob"), "bob"), (stays(&bob, guests.1, "ann"), "ann")];
            let cyd = cyd.spawn(move || {
                let mut guest = guests.2;
                guest.say("1").expect("said");
                let error = loop {
                    match guest.hear() {
                        Ok(line) => assert!(line.is_some(), "the server did not put him out"),
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                // The others speak every ten seconds.
                assert!((apart + 50 * SECOND..apart + 75 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
                drop(guest);
                let mut guest = loop {
                    match Guest::enter("cyd") {
                        Ok(guest) => break guest,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                    }
                };
                assert!((whole..whole + 20 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
                guest.say("2").expect("said");
                guest.converse(0, SECOND, both(SAID - 1))
            });
            for (stayed, other) in stayed {
                let (heard, missed) = stayed.join().expect("no panic");
                assert_eq!(numbers(&heard, other), Vec::from_iter(0..SAID));
                assert_eq!(numbers(&heard, "cyd"), [1, 2]);
                let missed = missed.expect("missed");
                assert!((SILENCE..SILENCE + 20 * SECOND).contains(&missed), "{missed:?}");
                let moves: Vec<_> = heard.iter().filter(|line| line.starts_with("* cyd")).collect();
                assert_eq!(moves, ["* cyd joins", "* cyd leaves", "* cyd joins"]);
            }
            let heard = cyd.join().expect("no panic");
            for name in ["ann", "bob"] {
                let numbers = numbers(&heard, name);
                assert!(numbers.len() > 10 && numbers.is_sorted_by(|one, next| one + 1 == *next), "{name}: {numbers:?}");
            }
            stop.cancel();
            serving.join().expect("no panic").expect("it ends well");
        });
    });
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    const SAID: u32 = 300;
    sim::explore(0..20, |seed| {
        simulate(seed, good(), || {
            let stop = CancellationToken::new();
            let (_server, serving) = serve(&stop);
            let [ann, bob, cyd] = ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|address| host(address, address));
            sleep(SECOND);
            let mut slow = Guest::admit(&cyd, "cyd");
            let guest = Guest::admit(&bob, "bob");
            let bob = bob.spawn(|| {
                let mut before = None;
                guest.converse(0, SECOND, |line| {
                    if line.starts_with("ann: ") {
                        let now = Instant::now();
                        assert!(now - before.replace(now).unwrap_or(now) < SECOND, "the room waited");
                    }
                    line == "ann: the end"
                })
            });
            ann.spawn(|| {
                let mut ann = Guest::enter("ann").expect("welcome");
                // Zeros before it make a number long.
                (0..SAID).for_each(|number| {
                    ann.say(&format!("{number:0>1000}")).expect("said");
                    sleep(SECOND / 20);
                });
                ann.say("the end").expect("said");
            });
            let mut heard = bob.join().expect("no panic");
            assert_eq!(heard.pop().as_deref(), Some("ann: the end"));
            assert!(heard.contains(&"* cyd leaves".to_owned()));
            assert_eq!(numbers(&heard, "ann"), Vec::from_iter(0..SAID));
            let slowly: Vec<_> = std::iter::from_fn(|| slow.hear().ok().flatten()).collect();
            // The last line may have been cut off.
            let whole = numbers(&slowly[..slowly.len() - 1], "ann");
            assert!(whole.len() < SAID as usize, "it was put out");
            assert_eq!(whole, Vec::from_iter(0..whole.len() as u32));
            stop.cancel();
            serving.join().expect("no panic").expect("it ends well");
        });
    });
}

#[test]
fn a_server_that_stops_delivers_what_was_said() {
    const SAID: u32 = 50;
    sim::explore(0..50, |seed| {
        simulate(seed, good(), || {
            let stop = CancellationToken::new();
            let (_server, serving) = serve(&stop);
            let [ann, bob] = ["10.0.0.2", "10.0.0.3"].map(|address| host(address, address));
            sleep(SECOND);
            let guest = Guest::admit(&bob, "bob");
            let bob = bob.spawn(|| guest.converse(0, SECOND, |_| false));
            let ann = ann.spawn(|| {
                let mut ann = Guest::enter("ann").expect("welcome");
                let mut said = Vec::new();
                for number in 0..SAID {
                    if ann.say(&number.to_string()).is_err() {
                        break;
                    }
                    said.push(Instant::now());
                    sleep(SECOND / 100);
                }
                (said, std::iter::from_fn(|| ann.hear().ok().flatten()).last())
            });
            sleep(SECOND / 5 + Duration::from_millis(seed * 7));
            let stopped = Instant::now();
            stop.cancel();
            serving.join().expect("no panic").expect("it ends well");
            let mut heard = bob.join().expect("no panic");
            assert_eq!(heard.pop().as_deref(), Some("* the server stops"));
            let (said, last) = ann.join().expect("no panic");
            assert_eq!(last.as_deref(), Some("* the server stops"));
            let numbers = numbers(&heard, "ann");
            let early = said.iter().filter(|time| **time + SECOND / 10 < stopped).count();
            assert!(numbers.len() >= early, "{numbers:?}, of {early} that were said in time");
            assert_eq!(numbers, Vec::from_iter(0..numbers.len() as u32));
            let refused = TcpStream::connect(SocketAddr::from(SERVER)).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        });
    });
}

#[test]
fn a_server_that_stops_waits_for_who_reads_slowly() {
    const SAID: u32 = 100;
    sim::explore(0..20, |seed| {
        simulate(seed, good(), || {
            let stop = CancellationToken::new();
            let (_server, serving) = serve(&stop);
            let [ann, bob] = ["10.0.0.2", "10.0.0.3"].map(|address| host(address, address));
            sleep(SECOND);
            let (mut ann, bob) = (Guest::admit(&ann, "ann"), Guest::admit(&bob, "bob"));
            // More than the windows hold, less than would put him out.
            (0..SAID).for_each(|number| ann.say(&format!("{number:0>1000}")).expect("said"));
            sleep(2 * SECOND);
            stop.cancel();
            sleep(5 * SECOND);
            assert!(!serving.is_finished());
            let mut heard = bob.converse(0, SECOND, |_| false);
            assert_eq!(heard.pop().as_deref(), Some("* the server stops"));
            assert_eq!(numbers(&heard, "ann"), Vec::from_iter(0..SAID));
            serving.join().expect("no panic").expect("it ends well");
        });
    });
}

#[test]
fn a_name_is_given_once() {
    simulate(1, good(), || {
        let stop = CancellationToken::new();
        let (_server, _serving) = serve(&stop);
        sleep(SECOND);
        let mut first = Guest::enter("ann").expect("welcome");
        assert_eq!(Guest::enter("ann").err().map(|error| error.kind()), Some(ErrorKind::AlreadyExists));
        assert_eq!(Guest::enter("").err().map(|error| error.kind()), Some(ErrorKind::AlreadyExists));
        let second = Guest::enter("bob").expect("welcome");
        assert_eq!(first.hear().expect("heard").as_deref(), Some("* bob joins"));
        drop(second);
        assert_eq!(first.hear().expect("heard").as_deref(), Some("* bob leaves"));
        drop(first);
        Guest::enter("ann").expect("the name is free again");
    });
}
