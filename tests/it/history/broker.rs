//! A broker process whose clock can be set: the test binary itself, started with one test.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use sandbox_broker::{
    app::RunningBroker,
    clock::{Clock, SystemClock, UnixSeconds},
    config::Config,
};

use super::filled_pool;

const TEST: &str = "history::broker_of_a_history";
const VARIABLES: &str = "HISTORY_BROKER_VARIABLES";
const CLOCK: &str = "HISTORY_BROKER_CLOCK";
const LISTENING: &str = "listening on ";

/// The machine's clock plus the seconds in a file, which all processes share.
#[derive(Debug)]
pub(super) struct SetClock(File);

impl SetClock {
    pub(super) fn open(file: &Path) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(file);
        Self(file.unwrap())
    }

    fn offset(&self) -> i64 {
        let mut bytes = [0; 8];
        // The file is empty until the first advance.
        let _ = self.0.read_exact_at(&mut bytes, 0);
        i64::from_le_bytes(bytes)
    }

    /// Sets all clocks on this file forward; returns their times before and after, in Unix seconds.
    pub(super) fn advance(&self, span: Duration) -> (i64, i64) {
        let from = self.now();
        let offset = self.offset() + i64::try_from(span.as_secs()).unwrap();
        self.0.write_all_at(&offset.to_le_bytes(), 0).unwrap();
        (from.0, self.now().0)
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixSeconds {
        let now = SystemClock.now();
        UnixSeconds(now.0 + self.offset())
    }

    fn monotonic(&self) -> Duration {
        let passed = Duration::from_secs(self.offset().unsigned_abs());
        SystemClock.monotonic() + passed
    }
}

/// Runs a broker until the process is killed. Does nothing in a normal test run.
pub(super) async fn serve() {
    let (Ok(variables), Ok(clock)) = (std::env::var(VARIABLES), std::env::var(CLOCK)) else {
        return;
    };
    // The pipe closes when the test that started this process ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let variables: BTreeMap<String, String> = serde_json::from_str(&variables).unwrap();
    let mut config = Config::from_variables(&variables).unwrap();
    // Requests to CSP take less time here than the variable allows for.
    config.jobs.refill.settle = filled_pool::SETTLE;
    let clock: Arc<dyn Clock> = Arc::new(SetClock::open(Path::new(&clock)));
    // A start may meet injected faults; in production, the task would be started again.
    let running = loop {
        match RunningBroker::start(&config, Arc::clone(&clock), rand::random()).await {
            Ok(running) => break running,
            Err(error) => eprintln!("start failed: {error}"),
        }
    };
    println!("{LISTENING}{}", running.address());
    std::future::pending::<()>().await;
}

/// A broker process, seen from the test.
pub(super) struct Broker {
    child: Child,
    pub(super) base: String,
}

impl Broker {
    /// Starts a broker and waits until it listens. Blocks the thread.
    pub(super) fn start(variables: &BTreeMap<String, String>, clock: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", TEST, "--nocapture"])
            .env(VARIABLES, serde_json::to_string(variables).unwrap())
            .env(CLOCK, clock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the broker did not start").unwrap();
            if let Some((_, address)) = line.split_once(LISTENING) {
                break address.to_owned();
            }
        };
        Self {
            child,
            base: format!("http://{address}"),
        }
    }

    /// Sends SIGKILL and waits for the end. Blocks the thread.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
