//! The broker's binary as a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Once, mpsc},
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::{ADMIN, TRACK, client::BrokerClient};

pub const BINARY: &str = env!("CARGO_BIN_EXE_sandbox-broker");
/// The state `LISTEN` in `/proc/net/tcp`.
const LISTENING: &str = "0A";
/// How long to wait for an event of the log.
const EVENT_LIMIT: Duration = Duration::from_mins(1);

/// A running process of the broker. It is killed when it is dropped.
pub struct BrokerProcess {
    child: Child,
    events: mpsc::Receiver<Value>,
    pub client: BrokerClient,
}

/// Prepares to run the binary with these variables and no others, in a directory without a `.env`.
pub fn command(directory: &Path, variables: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(BINARY);
    command
        .env_clear()
        .envs(variables)
        .env("LOG_FORMAT", "json")
        .current_dir(directory);
    command
}

/// Returns the variables of a broker on the embedded engine with its database in `data`.
pub fn laptop(data: &Path) -> BTreeMap<String, String> {
    let data = data.to_str().unwrap();
    [
        ("DATA_DIR", data),
        ("BROKER_API_TOKEN", TRACK),
        ("BROKER_ADMIN_TOKEN", ADMIN),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

impl BrokerProcess {
    /// Starts `serve` and waits until it listens.
    pub fn serve(directory: &Path, variables: &BTreeMap<String, String>) -> Self {
        Self::start(directory, variables, "serve", "listening")
    }

    /// Starts a subcommand and waits until it logs `ready`.
    pub fn start(
        directory: &Path,
        variables: &BTreeMap<String, String>,
        name: &str,
        ready: &str,
    ) -> Self {
        let level = if variables
            .get("LOG_LEVEL")
            .is_some_and(|level| level == "debug")
        {
            "debug"
        } else {
            "info"
        };
        let mut command = command(directory, variables);
        command.arg(name).env("LOG_LEVEL", level);
        Self::spawn(&mut command, ready)
    }

    /// Runs a command that starts the binary, and waits until it logs `ready`.
    pub fn spawn(command: &mut Command, ready: &str) -> Self {
        let mut child = command
            .env("PORT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if send.send(event).is_err() {
                    break;
                }
            }
        });
        let address = loop {
            let event = events
                .recv_timeout(EVENT_LIMIT)
                .expect("the broker did not start");
            assert!(event.is_object(), "not a log event: {event}");
            if event["message"] == ready {
                break event["address"].as_str().unwrap_or_default().to_owned();
            }
        };
        Self {
            child,
            events,
            client: BrokerClient::new(format!("http://{address}")),
        }
    }

    /// Returns the ports on which the process listens.
    pub fn listening_ports(&self) -> BTreeSet<u16> {
        let process = Path::new("/proc").join(self.child.id().to_string());
        let sockets: BTreeSet<String> = fs::read_dir(process.join("fd"))
            .unwrap()
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .filter_map(|target| {
                let inode = target
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?;
                Some(inode.to_owned())
            })
            .collect();
        let mut ports = BTreeSet::new();
        for table in ["net/tcp", "net/tcp6"] {
            // The fields: number, local address, remote address, state, ..., and the inode as the tenth one.
            for line in fs::read_to_string(process.join(table))
                .unwrap_or_default()
                .lines()
            {
                let fields: Vec<_> = line.split_whitespace().collect();
                if fields.get(3) == Some(&LISTENING) && sockets.contains(fields[9]) {
                    let (_, port) = fields[1].rsplit_once(':').unwrap();
                    ports.insert(u16::from_str_radix(port, 16).unwrap());
                }
            }
        }
        ports
    }

    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Returns the events logged since the last invocation, up to the one for which `is_last` holds.
    pub fn events_until(&self, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            events.push(
                self.events
                    .recv_timeout(EVENT_LIMIT)
                    .expect("the event was not logged in time"),
            );
            if events.last().is_some_and(&is_last) {
                return events;
            }
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets programs that this process starts from now on receive the signals that it ignores, such as SIGINT in the background
/// of a script. A signal with a handler has its default action in a new program; here it still has no effect.
pub fn unignore_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
            if mask >> (number - 1) & 1 == 1 {
                signal_hook::flag::register(number, Arc::default()).unwrap();
            }
        }
    });
}
