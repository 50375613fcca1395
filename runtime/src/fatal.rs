//! Owns the end of a process that cannot go on.

use std::fmt;
use std::io::{self, Write};
use std::process;

/// Says why, if standard error can be written to, and aborts. Never panics: soundness may rest on it that nothing unwinds.
#[cold]
pub(crate) fn fatal(reason: fmt::Arguments<'_>) -> ! {
    let _ = writeln!(io::stderr(), "fatal: {reason}");
    process::abort();
}

/// Ends the process if it is dropped, by a panic where nothing may unwind.
pub(crate) struct FatalDrop(pub(crate) &'static str);

impl Drop for FatalDrop {
    fn drop(&mut self) {
        fatal(format_args!("{}", self.0));
    }
}

#[cfg(all(test, not(any(loom, miri))))]
pub(crate) mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "WEALD_FATAL_CHILD";

    /// Runs `f` in a process of its own, whose standard error nobody reads and whose test `name` calls this: it must abort.
    pub(crate) fn assert_aborts(name: &str, f: impl FnOnce()) {
        if std::env::var_os(CHILD).is_some() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            process::exit(0);
        }
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writer)
            .status()
            .expect("the child runs");
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    }

    #[test]
    fn what_is_fatal_aborts_also_when_standard_error_is_a_closed_pipe() {
        assert_aborts("fatal::tests::what_is_fatal_aborts_also_when_standard_error_is_a_closed_pipe", || fatal(format_args!("a test")));
    }
}
