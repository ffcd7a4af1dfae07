//! Child processes, their CPU time and their memory.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// `USER_HZ`: the unit of CPU times in `/proc`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child process that prints its URL as the first line, and exits when its stdin is closed.
pub struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    pub endpoint: String,
}

impl Server {
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?} does not start"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no stdout")?;
        let mut endpoint = String::new();
        BufReader::new(stdout).read_line(&mut endpoint)?;
        let endpoint = endpoint.trim().to_owned();
        ensure!(endpoint.starts_with("http"), "{command:?} did not start");
        Ok(Self {
            child,
            stdin,
            endpoint,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stdin.take();
        // Wrapper scripts stop their own children when stdin is closed, which takes a moment.
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns when the parent process closes stdin.
pub fn wait_for_parent() -> Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A command that runs this binary in another role.
pub fn role(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(name);
    Ok(command)
}

/// The resources that a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// The peak of resident memory.
    pub resident_mib: f64,
}

impl Usage {
    pub fn of(pid: u32) -> Self {
        // A process that has exited uses nothing.
        Self::read(pid).unwrap_or_default()
    }

    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The process name may contain spaces, so the fields are counted from its closing bracket.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?
            .trim()
            .trim_end_matches(" kB")
            .parse::<f64>()
            .ok()?;
        Some(Self {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            resident_mib: resident / 1024.0,
        })
    }
}
