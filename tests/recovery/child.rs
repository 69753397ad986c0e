//! Child processes: where their programs are, how they are started, killed and waited for.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium::testing::faults::Point;
use rustix::process::{Pid, Signal, kill_process};

/// The program of an example. `cargo test` builds the examples together with the tests; where only this test was asked for, they are built now, so
/// that no test runs on an old one.
pub(crate) fn program(name: &str) -> PathBuf {
    let program = programs().join(name);
    assert!(program.exists(), "{} is missing: build the examples", program.display());
    program
}

/// The program of an example in which faults can be armed.
pub(crate) fn armed_program(name: &str) -> PathBuf {
    let program = programs().join("armed").join(name);
    assert!(program.exists(), "{} is missing: build the examples with the feature fault-injection", program.display());
    program
}

/// Where the examples lie. In the directory `armed` of it are those in which faults can be armed.
fn programs() -> &'static Path {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let this = std::env::current_exe().expect("a test knows its own path");
        let profile = this.parent().and_then(Path::parent).expect("tests lie in `<profile>/deps`");
        let name = if profile.ends_with("debug") { "test" } else { "release" };
        let directory = profile.join("examples");
        if let Some(cargo) = std::env::var_os("CARGO") {
            // Both kinds get the same names from cargo: the armed ones are put aside before the others are built.
            let armed = directory.join("armed");
            build(&cargo, name, ARMED, &["--features", "fault-injection"])?;
            std::fs::create_dir_all(&armed).expect("a directory can be made");
            for example in ARMED {
                let aside = armed.join(format!("{example}.new"));
                std::fs::copy(directory.join(example), &aside).expect("a program can be copied");
                std::fs::rename(aside, armed.join(example)).expect("a program can be put in its place");
            }
            build(&cargo, name, &["flights", "custom_connectors"], &[])?;
        }
        Some(directory)
    });
    directory.as_ref().expect("the examples are built: see above why they were not")
}

/// The examples in which faults are armed.
const ARMED: &[&str] = &["flights", "second-job"];

fn build(cargo: &OsStr, profile: &str, examples: &[&str], more: &[&str]) -> Option<()> {
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--profile", profile])
        .args(more)
        .args(examples.iter().flat_map(|example| ["--example", example]))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be run");
    built.success().then_some(())
}

/// A child that has not ended after this time stands still: it is aborted, so that the test fails instead of standing still too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A running child. It is killed if the test ends before it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The lines read so far.
    told: String,
    errors: Option<JoinHandle<String>>,
    /// Its end ends the watch over the child.
    watched: Option<Sender<()>>,
}

/// How a child ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Process {
    /// Starts a program.
    pub(crate) fn start<A: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = A>) -> Process {
        Process::start_with_faults(program, arguments, "")
    }

    /// Starts a program with faults in its environment.
    pub(crate) fn start_with_faults<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        faults: &str,
    ) -> Process {
        let mut child = Command::new(program)
            .args(arguments)
            .env("ALLUVIUM_FAULTS", faults)
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
        let watched = Some(watch(&child));
        Process { child, lines, told: String::new(), errors: Some(errors), watched }
    }

    /// Reads lines until the `count`-th that begins with `beginning`. False if the child ended before.
    pub(crate) fn wait_for(&mut self, beginning: &str, count: u64) -> bool {
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
    pub(crate) fn signal(&self, signal: Signal) {
        // The child is not waited for yet, so the id is still its own.
        let _ = kill_process(id_of(&self.child), signal);
    }

    /// Kills the child and waits for its end.
    pub(crate) fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.wait()
    }

    /// Waits for the end of the child.
    pub(crate) fn wait(mut self) -> Ended {
        let mut rest = Vec::new();
        self.lines.read_to_end(&mut rest).expect("a pipe can be read");
        self.told.push_str(&String::from_utf8_lossy(&rest));
        self.watched = None;
        let status = self.child.wait().expect("a child can be waited for");
        let errors = self.errors.take().expect("a child ends once").join().expect("reading does not panic");
        Ended { status, output: std::mem::take(&mut self.told), errors }
    }
}

fn id_of(child: &Child) -> Pid {
    let id = i32::try_from(child.id()).expect("process ids are positive");
    Pid::from_raw(id).expect("process ids are positive")
}

fn watch(child: &Child) -> Sender<()> {
    let id = id_of(child);
    let (watched, end) = channel();
    std::thread::spawn(move || {
        if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(id, Signal::ABORT);
        }
    });
    watched
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watched = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Whether SIGKILL ended it.
    pub(crate) fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Whether it ended by a fault at this point, and says so.
    pub(crate) fn was_ended_at(&self, point: Point) -> bool {
        let says = self.errors.lines().any(|line| {
            line.starts_with("alluvium ends this process by an injected fault") && line.contains(point.name())
        });
        self.was_killed() && says
    }

    /// That it ended well, or was killed from outside: anything else is a defect.
    pub(crate) fn expect_success_or_kill(&self, context: &str) -> bool {
        let stood_still = self.status.signal() == Some(Signal::ABORT.as_raw());
        let given_up = if stood_still { format!(", given up after {PATIENCE:?}") } else { String::new() };
        assert!(
            self.was_killed() || self.status.success(),
            "{context}: {}{given_up}\n--- output\n{}\n--- errors\n{}",
            self.status,
            self.output,
            self.errors
        );
        self.status.success()
    }

    /// That it ended well.
    pub(crate) fn expect_success(&self, context: &str) {
        assert!(
            self.expect_success_or_kill(context),
            "{context}: killed\n--- output\n{}\n--- errors\n{}",
            self.output,
            self.errors
        );
    }

    /// That it failed by itself with an exit code, and an error that holds all of `parts`.
    pub(crate) fn expect_error(&self, parts: &[&str]) {
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
