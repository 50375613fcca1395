//! `gdb/weald.py` lists the coroutines of a stopped process and of a core, and prints a parked one's backtrace.
//!
//! The test runs itself again under gdb; without gdb it says so and proves nothing.

#![cfg(not(any(miri, weald_baton)))]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use weald_runtime::{Builder, Runtime, channel, sleep};

const TEST: &str = "coroutines_are_listed_and_unwound_in_a_process_and_in_a_core";
const CHILD: &str = "WEALD_GDB_SCRIPT_CHILD";
/// In that variable: the child ends itself where the debugger would stop it.
const DUMPS_CORE: &str = "dumps core";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gdb/weald.py");

#[inline(never)]
#[unsafe(no_mangle)]
extern "C-unwind" fn weald_gdb_waits(depth: u64) -> u64 {
    if depth == 0 {
        weald_runtime::park();
        return 1;
    }
    std::hint::black_box(weald_gdb_waits(std::hint::black_box(depth - 1))) + 1
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C-unwind" fn weald_gdb_stops_here(value: u64) -> u64 {
    if std::env::var(CHILD).is_ok_and(|value| value == DUMPS_CORE) {
        std::process::abort();
    }
    std::hint::black_box(value + 1)
}

fn child() {
    let runtime = Runtime::builder().workers(1).watchdog(None).build().expect("a runtime");
    runtime.run(|| {
        let sleeper = Builder::new().name("the sleeper").spawn(|| weald_gdb_waits(3));
        let (sender, receiver) = channel::bounded::<u64>(1);
        let receiver = Builder::new().name("receiver").stack_size(512 * 1024).spawn(move || receiver.recv());
        sleep(Duration::from_millis(50));
        Builder::new().name("stopper").spawn(|| weald_gdb_stops_here(1)).join().expect("no panic");
        sender.send(1).expect("it waits");
        receiver.join().expect("no panic").expect("a message");
        sleeper.coroutine().unpark();
        assert_eq!(sleeper.join().expect("no panic"), 4);
    });
}

fn gdb(arguments: &[&str]) -> Output {
    Command::new("timeout")
        .args(["120", "gdb", "--batch", "--nx", "-ex", "set debuginfod enabled off", "-ex", "set backtrace limit 200"])
        .args(["-ex", &format!("source {SCRIPT}")])
        .args(arguments)
        .env(CHILD, "1")
        .output()
        .expect("timeout(1) runs")
}

/// The commands that both the process and the core answer.
const COMMANDS: [&str; 10] = [
    "-ex",
    "weald coroutines",
    "-ex",
    "weald coroutine receiver bt",
    "-ex",
    "echo --- the next\\n",
    "-ex",
    "weald coroutine stopper bt",
    "-ex",
    "backtrace 3",
];

fn check(text: &str) {
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    let here = |name: &str| line(name).contains(&format!("{}:", file!()));
    assert!(line("'the sleeper' [parked, worker 0] at").len() > 10 && here("'the sleeper'"), "{text}");
    assert!(line("'receiver' [parked, worker 0] at").len() > 10 && here("'receiver'"), "{text}");
    assert!(line("'stopper' [running, worker 0] spawned at").len() > 10 && here("'stopper'"), "{text}");
    assert!(line("'main' [").contains("parked"), "{text}");
    let (receiver, stopper) = text.split_once("--- the next").expect("it was echoed");
    let frames: Vec<_> = receiver.lines().filter(|line| line.starts_with('#')).collect();
    assert!(frames.iter().any(|frame| frame.contains("recv")), "{text}");
    assert!(frames.last().is_some_and(|frame| frame.contains("stack_init_trampoline")), "it ends where the coroutine began: {text}");
    assert!(stopper.contains("weald_gdb_stops_here"), "{text}");
    for trouble in
        ["corrupt stack", "previous frame inner", "previous frame identical", "Cannot access memory", "Backtrace limit", "Python"]
    {
        assert!(!text.contains(trouble), "{text}");
    }
}

#[test]
#[cfg_attr(weald_asan, ignore = "AddressSanitizer gives a symbol of its own the name by which the script finds the runtime")]
fn coroutines_are_listed_and_unwound_in_a_process_and_in_a_core() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let me = std::env::current_exe().expect("this test");
    let me = me.to_str().expect("a path of characters");
    let mut arguments = vec!["-ex", "break weald_gdb_stops_here", "-ex", "run"];
    arguments.extend(COMMANDS);
    arguments.extend(["-ex", "weald coroutine 'the sleeper' bt", "-ex", "kill", "--args", me, "--exact", TEST, "--nocapture"]);
    let output = gdb(&arguments);
    let (text, errors) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    if output.status.code() == Some(127) {
        eprintln!("NOT TESTED: gdb is not installed");
        return;
    }
    if errors.contains("ptrace: Operation not permitted") || errors.contains("Couldn't get registers") {
        eprintln!("NOT TESTED: the system does not let gdb trace a process: {errors}");
        return;
    }
    if errors.contains("Python scripting is not supported") {
        eprintln!("NOT TESTED: this gdb was built without Python");
        return;
    }
    check(&format!("{text}{errors}"));
    let sleeper = text.rsplit_once("the sleeper").expect("its line").1;
    assert_eq!(sleeper.matches(" weald_gdb_waits ").count(), 4, "{text}{errors}");
    let Some(core) = Core::of(me) else {
        eprintln!("HALF TESTED: the system wrote no core into the folder of a process that aborted");
        return;
    };
    let mut arguments = COMMANDS.to_vec();
    arguments.extend([me, core.file.to_str().expect("a path of characters")]);
    let output = gdb(&arguments);
    check(&format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)));
}

/// The kernel's, for gdb's own lack stacks: it gives up a range with a guard in it.
struct Core {
    folder: PathBuf,
    file: PathBuf,
}

impl Core {
    fn of(program: &str) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("weald-core-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut core = Self { file: PathBuf::new(), folder };
        let child = Command::new("sh")
            .args(["-c", "ulimit -c unlimited && exec timeout 60 \"$0\" --exact \"$1\"", program, TEST])
            .current_dir(&core.folder)
            .env(CHILD, DUMPS_CORE)
            .output()
            .expect("sh(1) runs");
        assert!(!child.status.success(), "it aborts");
        core.file = std::fs::read_dir(&core.folder).expect("a folder").find_map(Result::ok)?.path();
        Some(core)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
