//! The program as its users meet it: what it prints, and what it says when something is wrong.

use std::{
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

fn weald(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weald")).args(arguments).output().unwrap()
}

/// `weald serve`, which does not outlive the test.
struct Server {
    child: Child,
    port: String,
    /// What it says after the address.
    log: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(root: &Path) -> Self {
        Self::start_with(root, &[])
    }

    fn start_with(root: &Path, options: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_weald")).args(["serve", "--root", root.to_str().unwrap()]).args(options))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.args(["--json", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening: serde_json::Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
        let port = listening["address"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
        Self { child, port, log }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// What it says of the next connection that ends.
    fn closed(&mut self) -> serde_json::Value {
        let mut events = self.log.by_ref().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
        events.find(|event| event["event"] == "closed").unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a command that must fail, and gives what it said.
fn failure(arguments: &[&str]) -> String {
    let output = weald(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_demo_moves_bytes_and_prints_one_json_object() {
    let output = weald(&["demo", "--size", "8388608", "--requests", "50", "--idle", "20", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["bytes_each_way"], 8_388_608);
    // The same content goes both ways.
    assert_eq!(results["download_blake3"].as_str().map(str::len), Some(64), "{results}");
    assert_eq!(results["download_blake3"], results["upload_blake3"]);
    assert_eq!(results["group"], "X25519MLKEM768");
    for figure in
        ["handshake_us", "download_gigabits_per_second", "upload_gigabits_per_second", "request_p50_us", "memory_bytes_per_connection"]
    {
        assert!(results[figure].as_f64().unwrap() > 0.0, "{figure}: {results}");
    }
}

#[test]
fn the_demo_prints_a_table() {
    let output = weald(&["demo", "--size", "1000000", "--requests", "5", "--idle", "5"]);
    let table = String::from_utf8(output.stdout).unwrap();
    for row in ["handshake", "X25519MLKEM768", "download", "upload", "request latency", "memory a connection"] {
        assert!(table.contains(row), "{row} is not in\n{table}");
    }
}

#[test]
fn errors_name_what_was_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let missing = missing.to_str().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();

    let said = failure(&["serve", "--root", "/no/such/folder"]);
    assert!(said.contains("/no/such/folder") && said.contains("--root"), "{said}");
    let said = failure(&["serve", "--cert", missing, "--key", missing]);
    assert!(said.contains(missing), "{said}");
    let said = failure(&["serve", "--cert", empty, "--key", empty]);
    assert!(said.contains(empty), "{said}");
    let said = failure(&["serve", "--cert", missing]);
    assert!(said.contains("--key"), "{said}");
    let said = failure(&["get", "--ca", missing, "https://localhost/"]);
    assert!(said.contains(missing), "{said}");
    let said = failure(&["get", "--insecure", "http://localhost/"]);
    assert!(said.contains("https"), "{said}");
    let said = failure(&["get", "--insecure", "https://no-such-host.invalid/"]);
    assert!(said.contains("no-such-host.invalid"), "{said}");
}

#[test]
fn a_busy_port_is_named() {
    #[expect(clippy::disallowed_types, reason = "something else must hold the port")]
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let said = failure(&["serve", "--listen", &address]);
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "<p>hello").unwrap();
    let other = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, other.cert.pem()).unwrap();
    let server = Server::start(folder.path());
    let url = server.url("/");

    let refused = weald(&["get", "--ca", ca.to_str().unwrap(), &url]);
    let trusted = weald(&["get", "--insecure", &url]);
    let absent = weald(&["get", "--insecure", &format!("{url}absent")]);
    drop(server);

    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("certificate") && said.contains("--ca FILE"), "{said}");
    assert_eq!(String::from_utf8(trusted.stdout).unwrap(), "<p>hello", "{}", String::from_utf8_lossy(&trusted.stderr));
    let said = String::from_utf8(absent.stderr).unwrap();
    assert!(!absent.status.success() && said.contains("404"), "{said}");
}

#[test]
fn several_urls_are_saved_under_names_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    for (name, content) in [("a", "first"), ("b", "second"), ("sub/a", "third")] {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let server = Server::start(root.path());
    let (a, b, other_a, absent) = (server.url("/a"), server.url("/b"), server.url("/sub/a"), server.url("/absent"));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let output = out.to_str().unwrap();

    // Two of one name, and two on one standard output, are refused before anything is fetched.
    let said = failure(&["get", "--insecure", &a, &other_a, "--output", output]);
    assert!(said.contains(&a) && said.contains(&other_a) && !out.exists(), "{said}");
    let said = failure(&["get", "--insecure", &a, &b]);
    assert!(said.contains("--output"), "{said}");

    // One that fails leaves no file, keeps no other from being fetched, and shows in the exit code.
    let partly = weald(&["get", "--insecure", "--json", &a, &absent, &b, "--output", output]);
    assert_eq!(partly.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&partly.stderr).contains("404"));
    let report: serde_json::Value = serde_json::from_slice(&partly.stdout).unwrap();
    assert_eq!(report["transfers"].as_array().unwrap().len(), 3);
    assert_eq!(names(&out), ["a", "b"]);
    assert_eq!(std::fs::read(out.join("a")).unwrap(), b"first");
    assert_eq!(std::fs::read(out.join("b")).unwrap(), b"second");

    // A host that cannot be reached is named, and the other one is served.
    let nobody = "https://127.0.0.1:9/x";
    let partly = weald(&["get", "--insecure", nobody, &server.url("/sub/a"), "--output", output]);
    let said = String::from_utf8(partly.stderr).unwrap();
    assert!(!partly.status.success() && said.contains("127.0.0.1"), "{said}");
    assert_eq!(std::fs::read(out.join("a")).unwrap(), b"third");
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let root = tempfile::tempdir().unwrap();
    // Large enough to be cut while it is sent.
    let large = root.path().join("large");
    let file = std::fs::File::create(&large).unwrap();
    file.set_len(4 << 30).unwrap();
    let server = Server::start(root.path());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("kept");
    std::fs::write(&out, "old").unwrap();

    let getting = Command::new(env!("CARGO_BIN_EXE_weald"))
        .args(["get", "--insecure", &server.url("/large"), "--output", out.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Until some of it is here, under another name.
    let has_begun = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        entries.filter(|entry| entry.file_name() != "kept").any(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0))
    };
    while !has_begun() {
        std::thread::yield_now();
    }
    file.set_len(0).unwrap();
    let output = getting.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("/large"), "{said}");
    assert_eq!(names(folder.path()), ["kept"], "half a file was left");
    assert_eq!(std::fs::read(&out).unwrap(), b"old");

    // What is no file is written as it is.
    std::fs::write(&large, "small").unwrap();
    assert!(weald(&["get", "--insecure", &server.url("/large"), "--output", "/dev/null"]).status.success());
    assert!(!Path::new("/dev/null").is_file());
}

#[test]
fn sslkeylogfile_is_written_by_both_ends() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "content").unwrap();
    let (server_log, client_log) = (root.path().join("server.log"), root.path().join("client.log"));
    let mut serve = Command::new(env!("CARGO_BIN_EXE_weald"));
    let server = Server::spawn(serve.args(["serve", "--root", root.path().to_str().unwrap()]).env("SSLKEYLOGFILE", &server_log));
    let fetched = Command::new(env!("CARGO_BIN_EXE_weald"))
        .args(["get", "--insecure", &server.url("/file")])
        .env("SSLKEYLOGFILE", &client_log)
        .output()
        .unwrap();
    assert_eq!(fetched.stdout, b"content");
    let lines = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (server, client) = (lines(&server_log), lines(&client_log));
    for label in
        ["CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "SERVER_HANDSHAKE_TRAFFIC_SECRET ", "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "]
    {
        let of = |lines: &[String]| lines.iter().find(|line| line.starts_with(label)).cloned();
        assert!(of(&client).is_some(), "{label} in {client:?}");
        assert_eq!(of(&client), of(&server));
    }
    let said = Command::new(env!("CARGO_BIN_EXE_weald"))
        .args(["get", "--insecure", "https://localhost/"])
        .env("SSLKEYLOGFILE", "/no/such/folder/log")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("/no/such/folder/log"));
}

/// `weald get --json` of what must succeed.
fn get(arguments: &[&str]) -> serde_json::Value {
    let output = weald(&[&["get", "--json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn folder_with_a_file(len: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), vec![b'.'; len]).unwrap();
    root
}

#[test]
fn a_retry_is_followed_and_a_token_saves_the_next() {
    let root = folder_with_a_file(1000);
    let mut server = Server::start_with(root.path(), &["--retry", "always"]);
    let report = get(&["--insecure", "--repeat", "3", &server.url("/file")]);
    let happened =
        |connection: &serde_json::Value| (connection["retried"].as_bool().unwrap(), connection["address_token"].as_bool().unwrap());
    let expected = [(true, false), (false, true), (false, true)];
    assert_eq!(report["connections"].as_array().unwrap().iter().map(happened).collect::<Vec<_>>(), expected, "{report}");
    assert_eq!(report["transfers"].as_array().unwrap().len(), 3);
    for expected in expected {
        let closed = server.closed();
        assert_eq!(happened(&closed), expected, "{closed}");
        assert_eq!((&closed["protocol"], &closed["end"]["by"]), (&"h3".into(), &"peer_application".into()), "{closed}");
        assert_eq!((&closed["end"]["code"], &closed["end"]["reason"]), (&0x100.into(), &"done".into()), "{closed}");
    }

    // For people, and for nobody.
    let url = server.url("/file");
    let told = weald(&["get", "--insecure", "--repeat", "2", &url]);
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.success() && said.contains(", Retry\n") && said.contains(", address token, resumed\n"), "{said}");
    assert_eq!(told.stdout, vec![b'.'; 2000]);
    let quiet = Command::new(env!("CARGO_BIN_EXE_weald")).args(["get", "--insecure", "--quiet", &url]).env("WEALD_LOG", "error").output();
    assert!(quiet.unwrap().stderr.is_empty());

    let mut server = Server::start_with(root.path(), &["--retry", "never"]);
    let report = get(&["--insecure", &server.url("/file")]);
    assert_eq!(happened(&report["connections"][0]), (false, false));
    assert_eq!(happened(&server.closed()), (false, false));
}

/// RFC 9368: both prefer the same other version, one has it alone, or none is common.
#[test]
fn versions_are_agreed_on_and_said() {
    let root = folder_with_a_file(1000);
    let mut server = Server::start_with(root.path(), &[]);
    for (versions, agreed) in [("1", "v1"), ("1,2", "v1"), ("2,1", "v2"), ("2", "v2")] {
        let report = get(&["--insecure", "--quic-version", versions, &server.url("/file")]);
        assert_eq!(report["connections"][0]["quic_version"], agreed, "{report}");
        assert_eq!(server.closed()["quic_version"], agreed);
    }
    let told = weald(&["get", "--insecure", "--quic-version", "2", &server.url("/file")]);
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.success() && said.contains(", QUIC v2"), "{said}");

    let server = Server::start_with(root.path(), &["--quic-versions", "2"]);
    assert_eq!(get(&["--insecure", &server.url("/file")])["connections"][0]["quic_version"], "v2");
    let refused = weald(&["get", "--insecure", "--quic-version", "1", &server.url("/file")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("speaks no version of QUIC"), "{refused:?}");
    let unknown = weald(&["get", "--insecure", "--quic-version", "3", &server.url("/file")]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("RFC 9369"), "{unknown:?}");
}

#[test]
fn groups_are_agreed_on_and_said() {
    let root = folder_with_a_file(1000);
    let mut server = Server::start_with(root.path(), &["--groups", "X25519MLKEM768,x25519"]);
    for (groups, agreed) in [("X25519MLKEM768,x25519", "X25519MLKEM768"), ("x25519", "x25519"), ("SECP256R1,X25519", "x25519")] {
        let report = get(&["--insecure", "--groups", groups, &server.url("/file")]);
        assert_eq!(report["connections"][0]["group"], agreed, "{report}");
        assert_eq!(report["connections"][0]["cipher_suite"], server.closed()["cipher_suite"]);
        get(&["--insecure", "--groups", groups, &server.url("/file")]);
        assert_eq!(server.closed()["group"], agreed);
    }
    let told = weald(&["get", "--insecure", &server.url("/file")]);
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.success() && said.contains(", X25519MLKEM768"), "{said}");

    let refused = weald(&["get", "--insecure", "--groups", "secp256r1", &server.url("/file")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("alert 40"), "{refused:?}");
    let unknown = weald(&["get", "--insecure", "--groups", "x448", &server.url("/file")]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("groups are X25519MLKEM768, x25519, secp256r1"), "{unknown:?}");
}

#[test]
fn what_is_asked_again_is_asked_before_the_handshake() {
    let root = folder_with_a_file(1000);
    let happened =
        |connection: &serde_json::Value| (connection["resumed"].as_bool().unwrap(), connection["early_data"].as_str().unwrap().to_owned());
    for (options, asks, alpn, verdict) in [
        (&["--0rtt"][..], &["--0rtt"][..], "h3", "accepted"),
        (&["--0rtt"], &["--0rtt"], "hq-interop", "accepted"),
        (&["--0rtt"], &[], "h3", "not_offered"),
        // Its tickets say so, and nothing is offered.
        (&[], &["--0rtt"], "h3", "not_offered"),
    ] {
        let mut server = Server::start_with(root.path(), options);
        let url = server.url("/file");
        // On a busy machine a handshake may be over before there is time to ask.
        let came_early = (0..5).any(|_| {
            let report = get(&[&["--insecure", "--repeat", "2", "--alpn", alpn], asks, &[&url]].concat());
            let expected = [(false, "not_offered".to_owned()), (true, verdict.to_owned())];
            assert_eq!(report["connections"].as_array().unwrap().iter().map(happened).collect::<Vec<_>>(), expected, "{report}");
            assert_eq!(report["transfers"][0]["blake3"], report["transfers"][1]["blake3"]);
            let early = expected.map(|expected| {
                let mut events = server.log.by_ref().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
                let request = events.find(|event| event["event"] == "request").unwrap();
                assert_eq!(happened(&server.closed()), expected);
                request["early"].as_bool().unwrap()
            });
            assert!(!early[0]);
            early[1]
        });
        assert_eq!(came_early, verdict == "accepted");
    }
    let server = Server::start_with(root.path(), &["--0rtt"]);
    let told = weald(&["get", "--insecure", "--repeat", "2", "--0rtt", &server.url("/file")]);
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.success() && said.contains(", resumed, 0-RTT accepted\n"), "{said}");
}

#[test]
fn sessions_resume_at_all_servers_with_the_same_ticket_keys() {
    let root = folder_with_a_file(3000);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, new) = ("1f".repeat(32), "2E".repeat(32));
    std::fs::write(path("old"), format!("# of the test\n{old}\n")).unwrap();
    std::fs::write(path("new"), &new).unwrap();
    let start = |keys: &str| Server::start_with(root.path(), &["--0rtt", "--ticket-keys", &path(keys)]);
    let (one, two, other) = (start("old"), start("old"), start("new"));
    // First at the one whose port is lower: whether the second connection resumes, and what became of its early data.
    let visit = |servers: [&Server; 2]| {
        let report = get(&["--insecure", "--0rtt", &servers[0].url("/file"), &servers[1].url("/file")]);
        let transfers = report["transfers"].as_array().unwrap();
        assert!(transfers.len() == 2 && transfers[0]["blake3"] == transfers[1]["blake3"], "{report}");
        assert!(transfers.iter().all(|transfer| transfer["bytes"] == 3000), "{report}");
        let second = &report["connections"][1];
        (second["resumed"].as_bool().unwrap(), second["early_data"].as_str().unwrap().to_owned())
    };
    // Early data is the issuer's alone.
    assert_eq!(visit([&one, &two]), (true, "rejected".to_owned()));
    assert_eq!(visit([&one, &other]), (false, "rejected".to_owned()));

    // The new key takes over while the servers run.
    std::fs::write(path("next"), format!("{new}\n{old}\n")).unwrap();
    std::fs::rename(path("next"), path("old")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the file is looked at once a second, of the other process's clock")]
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(visit([&one, &other]), (true, "rejected".to_owned()));
    assert_eq!(visit([&one, &two]), (true, "rejected".to_owned()));
}

#[test]
fn ticket_keys_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let path = path.to_str().unwrap();
    let refused = || failure(&["serve", "--listen", "127.0.0.1:0", "--ticket-keys", path]);
    let said = refused();
    assert!(said.contains(path) && said.contains("No such file") && said.contains("openssl rand -hex 32"), "{said}");
    for (content, reason) in [
        ("", "it holds no key"),
        ("# a comment\n", "it holds no key"),
        (&"1f".repeat(31), "line 1 is not 64 hexadecimal digits"),
        (&format!("{}\n{}\n", "1f".repeat(32), "xy".repeat(32)), "line 2 is not 64 hexadecimal digits"),
        (&"#".repeat(100_000), "longer than 65536 bytes"),
    ] {
        std::fs::write(path, content).unwrap();
        let said = refused();
        assert!(said.contains(path) && said.contains(reason) && said.contains("64 hexadecimal digits on a line"), "{said}");
    }
    let said = failure(&["serve", "--ticket-keys", folder.path().to_str().unwrap()]);
    assert!(said.contains("directory") && said.contains(folder.path().to_str().unwrap()), "{said}");
    let help = String::from_utf8(weald(&["serve", "--help"]).stdout).unwrap();
    assert!(help.contains("openssl rand -hex 32 > ticket-keys") && help.contains("/dev/urandom"), "{help}");
}

/// Of a connection, and of one that resumed with early data.
#[test]
fn a_server_says_what_it_has_counted() {
    let root = folder_with_a_file(1000);
    let options = ["--0rtt", "--stats", "1", "--crypto-threads", "1"];
    let mut server = Server::start_with(root.path(), &options);
    get(&["--insecure", "--0rtt", "--repeat", "2", &server.url("/file")]);
    let mut events = server.log.by_ref().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let stats = events.find(|event| event["event"] == "stats" && event["tickets"]["resumed"] == 1).unwrap();
    assert_eq!((&stats["endpoint"]["accepted"], &stats["endpoint"]["retries"]), (&2.into(), &0.into()), "{stats}");
    assert_eq!(stats["refused"]["processors"], 0, "{stats}");
    // A client that has its answer early may be gone before there is another ticket for it.
    assert!(matches!(stats["tickets"]["issued"].as_u64(), Some(1 | 2)) && stats["tickets"]["early_data_accepted"] == 1, "{stats}");
    let capacity = stats["tickets"]["strike_capacity"].as_u64();
    assert!(stats["tickets"]["strikes"] == 1 && capacity > Some(1_000_000), "{stats}");
    let pool = &stats["crypto_pool"];
    assert!(pool["jobs"].as_u64() >= Some(2) && pool["job"]["mean_us"].as_u64() > Some(0), "{stats}");
    assert_eq!((&pool["jobs_queued"], &pool["panics"], &pool["threads_stuck"]), (&0.into(), &0.into(), &0.into()), "{stats}");
    drop(server);

    // For people.
    let mut command = Command::new(env!("CARGO_BIN_EXE_weald"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--stats", "1", "--root", root.path().to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).find(|line| line.contains("connections open"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.as_deref().is_some_and(|said| said.starts_with("0 connections open, ")), "{said:?}");
}

#[test]
fn keys_are_updated_when_a_body_has_begun() {
    let root = folder_with_a_file(3_000_000);
    let mut server = Server::start_with(root.path(), &[]);
    for (alpn, updates) in [("h3", 1), ("hq-interop", 1), ("h3", 0)] {
        let url = server.url("/file");
        let mut arguments = vec!["--insecure", "--alpn", alpn, &url];
        arguments.extend((updates > 0).then_some("--key-update"));
        let report = get(&arguments);
        assert_eq!(report["connections"][0]["key_updates"], updates, "{report}");
        assert_eq!(report["transfers"][0]["bytes"], 3_000_000);
        let closed = server.closed();
        assert_eq!((&closed["key_updates"], closed["protocol"].as_str()), (&updates.into(), Some(alpn)), "{closed}");
    }
    let mut server = Server::start_with(root.path(), &["--key-update-interval", "100"]);
    let report = get(&["--insecure", &server.url("/file")]);
    // How often depends on the time it takes: three probe timeouts lie between updates (RFC 9001 section 6.5).
    assert!(report["connections"][0]["key_updates"].as_u64().unwrap() >= 1, "{report}");
    assert!(server.closed()["key_updates"].as_u64().unwrap() >= 1);
}

#[test]
fn datagrams_come_back_where_the_server_sends_them_back() {
    let root = folder_with_a_file(1);
    let mut server = Server::start_with(root.path(), &["--datagrams"]);
    let url = server.url("/");
    let report = get(&["--insecure", "--datagrams", "20", &url]);
    let connection = &report["connections"][0];
    assert_eq!((&connection["echoed"]["sent"], &connection["echoed"]["returned"]), (&20.into(), &20.into()), "{report}");
    assert!(connection["echoed"]["longest_ms"].as_f64().unwrap() >= connection["echoed"]["median_ms"].as_f64().unwrap());
    let closed = server.closed();
    assert_eq!((closed["protocol"].as_str(), &closed["datagrams_sent"]), (Some("datagram-echo"), &20.into()), "{closed}");
    assert_eq!(closed["datagrams_received"], 20, "{closed}");
    let told = weald(&["get", "--insecure", "--datagrams", "3", &url]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("3 of 3 datagrams came back"), "{told:?}");
    // The others are served as before.
    assert_eq!(get(&["--insecure", &server.url("/file")])["transfers"][0]["bytes"], 1);

    let server = Server::start_with(root.path(), &[]);
    let said = failure(&["get", "--insecure", "--datagrams", "3", &server.url("/")]);
    assert!(said.contains("no protocol"), "{said}");
    assert_eq!(weald(&["get", "--insecure", "--datagrams", "0", &url]).status.code(), Some(2));
    assert_eq!(weald(&["get", "--insecure", "--datagrams", "1", "--output", "x", &url]).status.code(), Some(2));
}

#[test]
fn clients_need_the_certificate_that_the_server_asks_for() {
    let root = folder_with_a_file(5);
    let write = |name: &str, text: String| {
        let path = root.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
        (write(&format!("{name}.pem"), made.cert.pem()), write(&format!("{name}.key"), made.signing_key.serialize_pem()))
    };
    let ((known, known_key), (stranger, stranger_key)) = (made("known"), made("stranger"));
    let mut server = Server::start_with(root.path(), &["--client-ca", &known]);
    let url = server.url("/file");

    assert_eq!(get(&["--insecure", "--cert", &known, "--key", &known_key, &url])["transfers"][0]["bytes"], 5);
    assert_eq!(server.closed()["end"]["code"], 0x100);
    let said = failure(&["get", "--insecure", &url]);
    assert!(said.contains("--cert FILE") && said.contains("alert 116"), "{said}");
    let said = failure(&["get", "--insecure", "--cert", &stranger, "--key", &stranger_key, &url]);
    assert!(said.contains("issuer it trusts"), "{said}");
    let said = failure(&["get", "--insecure", "--cert", &known, &url]);
    assert!(said.contains("--key"), "{said}");
    let said = failure(&["serve", "--client-ca", "/no/such/file"]);
    assert!(said.contains("/no/such/file"), "{said}");
}

#[test]
fn a_server_takes_no_more_connections_than_it_may() {
    let root = folder_with_a_file(5);
    let server = Server::start_with(root.path(), &["--max-connections", "0"]);
    let said = failure(&["get", "--insecure", &server.url("/file")]);
    assert!(said.contains("CONNECTION_REFUSED"), "{said}");
    let server = Server::start_with(root.path(), &["--max-connections", "1"]);
    assert_eq!(get(&["--insecure", &server.url("/file")])["transfers"][0]["bytes"], 5);
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    assert_eq!(weald(&["get"]).status.code(), Some(2));
    assert_eq!(weald(&["nonsense"]).status.code(), Some(2));
    assert_eq!(weald(&["get", "--insecure", "http://localhost/"]).status.code(), Some(1));
    for command in [&["--help"][..], &["serve", "--help"], &["get", "--help"], &["demo", "--help"], &["bench", "--help"]] {
        let output = weald(command);
        assert!(output.status.success() && output.stderr.is_empty(), "{command:?}");
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Usage:"), "{command:?}");
        // A line of the source that was too long leaves a stump behind it.
        let prose: Vec<_> = help.split("\n\n").take_while(|paragraph| !paragraph.starts_with("Usage:")).collect();
        for paragraph in prose {
            let lines: Vec<_> = paragraph.lines().collect();
            for line in &lines[..lines.len() - 1] {
                assert!(line.len() > 75, "{command:?}: the help breaks off at {line:?}");
            }
        }
    }
}

#[test]
fn the_benchmark_of_the_runtime_prints_one_json_object_and_a_plot() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let output = weald(&[
        "bench",
        "runtime",
        "--peers",
        "--quick",
        "--rounds",
        "1",
        "--json",
        "--only",
        "yield,spawn-join,ping-pong,bounded-mpmc,timed-wait,udp-echo,idle-cpu",
        "--plot",
        plot.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    // Each with one and two workers where there are two processors. Memory is left out: a peer's million tasks may take minutes.
    let processors = std::thread::available_parallelism().unwrap().get().min(2);
    assert_eq!(rows.len(), 7 * processors, "{report}");
    for row in rows {
        let contestants = row["contestants"].as_array().unwrap();
        assert_eq!(contestants.len(), 8);
        for samples in contestants {
            let (name, note) = (samples["contestant"].as_str().unwrap(), samples["note"].as_str());
            // may's timers corrupt its heap now and then.
            assert!(name == "may" || !note.is_some_and(|note| note.starts_with("failed")), "{name}: {row}");
            let taken = samples["samples"].as_array().unwrap().len();
            assert!(taken > 0 || note.is_some(), "{name}: {row}");
            assert!(taken > 0 || name != "weald", "{row}");
        }
        assert!(row["best_peer"].is_string(), "{row}");
    }
    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("ping-pong") && plot.contains("tokio"), "{plot}");
}

#[test]
fn the_benchmark_of_the_runtime_prints_a_table() {
    let output = weald(&["bench", "runtime", "--quick", "--only", "yield", "ping-pong", "memory"]);
    let table = String::from_utf8(output.stdout).unwrap();
    for word in ["yield, alone", "ping-pong", "memory", "floor", "goal", "1.4x"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    assert!(failure(&["bench", "runtime", "--only", "nothing"]).contains("choose of yield"));
}

#[test]
fn the_stress_counts_everything_and_prints_one_json_object() {
    let output = weald(&["stress", "--messages", "2e5", "--switches", "2e4", "--unwound", "500", "--seed", "3", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(summary["messages"].as_u64().unwrap() >= 200_000 && summary["switches"].as_u64().unwrap() >= 20_000, "{summary}");
    assert_eq!((summary["unwound"].as_u64(), summary["seed"].as_u64()), (Some(500), Some(3)));
}
