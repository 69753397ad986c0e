//! Child processes: where their programs are, how they are started, killed and waited for.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

/// The program of an example. `cargo test` builds the examples together with the tests; where only this test was asked for, they are built now, so
/// that no test runs on an old one.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let this = std::env::current_exe().expect("a test knows its own path");
        let profile = this.parent().and_then(Path::parent).expect("tests lie in `<profile>/deps`");
        let name = if profile.ends_with("debug") { "test" } else { "release" };
        if let Some(cargo) = std::env::var_os("CARGO") {
            let built = Command::new(cargo)
                .args(["build", "--quiet", "--profile", name, "--example", "flights", "--example", "second-job"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .expect("cargo can be run");
            assert!(built.success(), "the examples do not compile");
        }
        profile.join("examples")
    });
    let program = directory.join(name);
    assert!(program.exists(), "{} is missing: build the examples", program.display());
    program
}

/// A running child. It is killed if the test ends before it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The lines read so far.
    told: String,
    errors: Option<JoinHandle<String>>,
}

/// How a child ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

impl Process {
    /// Starts a program.
    pub fn start<A: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = A>) -> Process {
        let mut child = Command::new(program)
            .args(arguments)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut errors = child.stderr.take().expect("its errors are a pipe");
        // A reader of its own, so that a talkative child never waits for the test.
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Process { child, lines, told: String::new(), errors: Some(errors) }
    }

    /// Reads lines until the `count`-th that begins with `beginning`. False if the child ended before.
    pub fn wait_for(&mut self, beginning: &str, count: u64) -> bool {
        let mut seen = 0;
        while seen < count {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("a pipe can be read") == 0 {
                return false;
            }
            seen += u64::from(line.starts_with(beginning));
            self.told.push_str(&line);
        }
        true
    }

    /// Whether the child has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Sends a signal; nothing happens if the child is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are positive");
        // The child is not waited for yet, so the id is still its own.
        let _ = kill_process(Pid::from_raw(pid).expect("process ids are positive"), signal);
    }

    /// Kills the child and waits for its end.
    pub fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.wait()
    }

    /// Waits for the end of the child.
    pub fn wait(mut self) -> Ended {
        let mut rest = Vec::new();
        self.lines.read_to_end(&mut rest).expect("a pipe can be read");
        self.told.push_str(&String::from_utf8_lossy(&rest));
        let status = self.child.wait().expect("a child can be waited for");
        let errors = self.errors.take().expect("a child ends once").join().expect("reading does not panic");
        Ended { status, output: std::mem::take(&mut self.told), errors }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Whether SIGKILL ended it.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// That it ended well, or was killed from outside: anything else is a defect.
    pub fn expect_success_or_kill(&self, context: &str) -> bool {
        assert!(
            self.was_killed() || self.status.success(),
            "{context}: {}\n--- output\n{}\n--- errors\n{}",
            self.status,
            self.output,
            self.errors
        );
        self.status.success()
    }

    /// That it ended well.
    pub fn expect_success(&self, context: &str) {
        assert!(
            self.expect_success_or_kill(context),
            "{context}: killed\n--- output\n{}\n--- errors\n{}",
            self.output,
            self.errors
        );
    }

    /// That it failed by itself with an exit code, and an error that holds all of `parts`.
    pub fn expect_error(&self, parts: &[&str]) {
        let failed = self.status.code().is_some_and(|code| code != 0);
        assert!(
            failed,
            "{} instead of an error\n--- output\n{}\n--- errors\n{}",
            self.status, self.output, self.errors
        );
        for part in parts {
            assert!(self.errors.contains(part), "the error does not say `{part}`:\n{}", self.errors);
        }
        assert!(!self.errors.contains("panicked at"), "an error, not a panic:\n{}", self.errors);
    }
}
