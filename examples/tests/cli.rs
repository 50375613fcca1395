//! The program as its users meet it: what it prints, and what it says when something is wrong.

use std::process::{Command, Output};

fn weald(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weald")).args(arguments).output().unwrap()
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
    assert_eq!(results["hashes_match"], true);
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
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "<p>hello").unwrap();
    let other = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, other.cert.pem()).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_weald"))
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--root", folder.path().to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(server.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let listening: serde_json::Value = serde_json::from_str(&line).unwrap();
    let port = listening["address"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    let url = format!("https://localhost:{port}/");

    let refused = weald(&["get", "--ca", ca.to_str().unwrap(), &url]);
    let trusted = weald(&["get", "--insecure", &url]);
    let absent = weald(&["get", "--insecure", &format!("{url}absent")]);
    server.kill().unwrap();
    server.wait().unwrap();

    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("certificate"), "{said}");
    assert_eq!(String::from_utf8(trusted.stdout).unwrap(), "<p>hello", "{}", String::from_utf8_lossy(&trusted.stderr));
    let said = String::from_utf8(absent.stderr).unwrap();
    assert!(!absent.status.success() && said.contains("404"), "{said}");
}
