//! The desk of a user, the setup of these tests: a home folder with a command line, a network and a broker.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sandbox_broker::domain::Status;

use super::front::Front;
use crate::support::{Outcome, Pool, TRACK, TestBroker, command, unignore_signals};

/// How long to wait for a line of a command.
const LIMIT: Duration = Duration::from_mins(1);
/// The caller of all commands.
pub const ME: &str = "ada@laptop";

pub struct Desk {
    pub pool: Pool,
    pub broker: TestBroker,
    pub front: Front,
    home: tempfile::TempDir,
}

impl Desk {
    /// Starts a broker whose pool has so many sandboxes, and the network in front of it.
    pub async fn new(sandboxes: usize) -> Self {
        let pool = Pool::of(sandboxes).await;
        let broker = pool.broker().await;
        let front = Front::of(&broker.client.base).await;
        Self {
            pool,
            broker,
            front,
            home: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let file = self.path(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Ends the commands that run [`UNTIL_GO`].
    pub fn go(&self) {
        self.write("go", "");
    }

    /// Prepares `lease` with these arguments, in the home folder.
    pub fn lease(&self, arguments: &[&str]) -> Command {
        let home = self.home.path();
        let variables: BTreeMap<_, _> = [
            ("BROKER_API_URL", self.front.url.as_str()),
            ("BROKER_API_TOKEN", TRACK),
            ("BROKER_CALLER", ME),
            ("HOME", home.to_str().unwrap()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let mut command = command(home, &variables);
        command.arg("lease").args(arguments);
        command
    }

    /// Prepares `lease run` of a shell script.
    pub fn lease_run(&self, options: &[&str], script: &str) -> Command {
        let arguments = [&["run"][..], options, &["--", "sh", "-c", script]].concat();
        self.lease(&arguments)
    }

    /// Runs `lease` with these arguments.
    pub async fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.lease(arguments)).await
    }

    /// Runs `lease run` of a shell script.
    pub async fn run_script(&self, options: &[&str], script: &str) -> Outcome {
        outcome(self.lease_run(options, script)).await
    }

    /// Returns the status of each sandbox that is not available.
    pub async fn used(&self) -> Vec<(String, Status)> {
        let sandboxes = self.pool.sandboxes().await;
        let used = sandboxes
            .iter()
            .filter(|sandbox| sandbox.status != Status::Available);
        used.map(|sandbox| (sandbox.id().to_string(), sandbox.status))
            .collect()
    }
}

/// A loop of a shell that ends at [`Desk::go`], or after some minutes.
pub const UNTIL_GO: &str =
    "i=0; while [ ! -e go ] && [ $((i += 1)) -lt 9999 ]; do sleep 0.02; done";

/// Runs a command to its end. The broker answers from this runtime, so its threads must stay free.
pub async fn outcome(mut command: Command) -> Outcome {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap().into()
}

/// A command in progress. It is killed when it is dropped.
pub struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// The lines of a stream as they arrive.
struct Lines {
    lines: mpsc::Receiver<String>,
    seen: String,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            lines,
            seen: String::new(),
        }
    }

    /// Waits for the next line. The broker answers from other threads of the runtime meanwhile.
    fn next(&mut self) -> Option<String> {
        let line = tokio::task::block_in_place(|| self.lines.recv_timeout(LIMIT)).ok()?;
        self.seen.push_str(&line);
        self.seen.push('\n');
        Some(line)
    }

    /// Waits for the end of the stream, and returns all its lines.
    fn all(mut self) -> String {
        while self.next().is_some() {}
        self.seen
    }
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        unignore_signals();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            stdout: Lines::of(child.stdout.take().unwrap()),
            stderr: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns the next line of stdout.
    pub fn line(&mut self) -> String {
        let line = self.stdout.next();
        line.unwrap_or_else(|| panic!("no line: {}", self.stderr.seen))
    }

    /// Waits until a line of stderr contains `text`.
    pub fn remark(&mut self, text: &str) {
        while let Some(line) = self.stderr.next() {
            if line.contains(text) {
                return;
            }
        }
        panic!("no {text:?} in {}", self.stderr.seen);
    }

    /// Waits for the end of the command and of its streams.
    pub fn end(mut self) -> Outcome {
        let take = |lines: &mut Lines| std::mem::replace(lines, Lines::of(std::io::empty())).all();
        let (stdout, stderr) = (take(&mut self.stdout), take(&mut self.stderr));
        let status = tokio::task::block_in_place(|| self.child.wait().unwrap());
        Outcome {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a file that may be executed.
pub fn write_executable(file: &Path, contents: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = fs::OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o755)
        .open(file)
        .unwrap();
    file.write_all(contents).unwrap();
}
