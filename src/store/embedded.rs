//! The embedded engine: dynoxide over SQLite in this process.
//!
//! The SDK reaches it through a connector in this process instead of a socket. There is no port, so no other user of the
//! machine and no web page can reach it.

mod calls;
mod connector;
mod operations;

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use dynoxide::Database;
use thiserror::Error;

use self::calls::Calls;
use super::page_reads::PageLimits;
use crate::private_files;

/// Threads of the engine. It has its own, because its SQLite calls block. SQLite executes one call at a time, so more
/// threads do not help; the second one decodes and encodes JSON meanwhile.
const THREADS: usize = 2;
/// A call that arrives while a page is read waits until it is complete, about 1 ms. One page at a time: a laptop may have
/// two cores, one of which the engine and the decoding of pages then leave to other requests.
pub(super) const PAGES: PageLimits = PageLimits {
    concurrent: 1,
    items: 64,
};
const TTL_SWEEP_INTERVAL: Duration = Duration::from_mins(10);
/// The first sweep waits until the broker has started: a sweep locks the database, for seconds with a million items.
const FIRST_TTL_SWEEP_AFTER: Duration = Duration::from_secs(30);

/// The database in `DATA_DIR`.
const DATABASE_FILE: &str = "pool.sqlite";
/// The suffixes of the files that SQLite creates beside its database, with the permissions of the database.
const SQLITE_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];
const LOCK_FILE: &str = "lock";

/// The reason why the engine cannot start.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// `DATA_DIR` cannot be used.
    #[error("DATA_DIR {path} cannot be used")]
    DataDir {
        /// The directory, or a file in it.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses the same `DATA_DIR`.
    #[error(
        "DATA_DIR {path} is in use by another broker; stop that broker, or set another DATA_DIR for this one"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// SQLite cannot open the database.
    #[error("the database {path} cannot be opened: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// The engine's error.
        reason: String,
    },
    /// The engine cannot create its threads.
    #[error("the embedded engine cannot start")]
    Start(#[source] io::Error),
}

/// The answer to a call: status and JSON body of the DynamoDB API.
#[derive(Debug)]
pub struct EngineAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: Vec<u8>,
}

/// Calls a running engine. Clones are cheap.
#[derive(Clone, Debug)]
pub struct EngineClient(Arc<Calls>);

impl EngineClient {
    /// Executes a call of the DynamoDB API. `None` if the engine has stopped. A call whose future is dropped before the
    /// engine begins it is not executed.
    pub async fn call(&self, operation: String, body: Vec<u8>) -> Option<EngineAnswer> {
        self.0.push(operation, body).await.ok()
    }
}

/// A running engine, which stops when it is dropped.
#[derive(Debug)]
pub struct EmbeddedEngine {
    calls: Arc<Calls>,
    threads: Vec<JoinHandle<()>>,
    /// Ends the sweeps when it is dropped.
    sweeping: Option<mpsc::Sender<()>>,
    /// Locked while the engine runs. The system releases the lock even if the process crashes.
    _lock: Option<File>,
}

impl EmbeddedEngine {
    /// Starts the engine on the database in `data_dir`, which is created if it does not exist. Directory and files are
    /// made private to this user.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| EmbeddedError::DataDir { path, source }
        };
        private_files::create_directory(data_dir, &[DATABASE_FILE]).map_err(unusable(data_dir))?;
        let lock_path = data_dir.join(LOCK_FILE);
        let lock = private_files::open_or_create(&lock_path).map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::InUse {
                    path: data_dir.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(&lock_path)(source)),
        }
        let path = data_dir.join(DATABASE_FILE);
        let text = path.to_str().ok_or_else(|| EmbeddedError::DataDir {
            path: path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"),
        })?;
        // SQLite follows symbolic links, and would create the file with the permissions of the umask.
        private_files::open_or_create(&path).map_err(unusable(&path))?;
        for suffix in SQLITE_SUFFIXES {
            let path = PathBuf::from(format!("{text}{suffix}"));
            private_files::make_private_if_exists(&path).map_err(unusable(&path))?;
        }
        let database = Database::new(text).map_err(|fault| EmbeddedError::Database {
            path: path.clone(),
            reason: fault.to_string(),
        })?;
        Self::run(&database, Some(lock))
    }

    /// Starts the engine on a database in memory.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn in_memory() -> Result<Self, EmbeddedError> {
        let database = Database::memory().map_err(|fault| EmbeddedError::Database {
            path: ":memory:".into(),
            reason: fault.to_string(),
        })?;
        Self::run(&database, None)
    }

    fn run(database: &Database, lock: Option<File>) -> Result<Self, EmbeddedError> {
        let (sweeping, until_stopped) = mpsc::channel();
        // The engine exists before its threads: if one cannot be created, the drop ends the others.
        let mut engine = Self {
            calls: Arc::default(),
            threads: Vec::new(),
            sweeping: Some(sweeping),
            _lock: lock,
        };
        for _ in 0..THREADS {
            let (calls, database) = (Arc::clone(&engine.calls), database.clone());
            engine.spawn("embedded-engine", move || {
                calls.serve(|operation, body| operations::execute(&database, operation, body));
            })?;
        }
        let database = database.clone();
        engine.spawn("embedded-sweep", move || sweep(&database, &until_stopped))?;
        Ok(engine)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), EmbeddedError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.map_err(EmbeddedError::Start)?);
        Ok(())
    }

    /// Returns a client of the engine. It does not keep the engine running.
    #[must_use]
    pub fn client(&self) -> EngineClient {
        EngineClient(Arc::clone(&self.calls))
    }

    /// Returns the HTTP client through which an SDK calls the engine.
    pub(super) fn http_client(&self) -> SharedHttpClient {
        connector::http_client(self.client())
    }

    /// Completes the calls in progress, stops the engine and closes the database.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.calls.close();
        self.sweeping.take();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("embedded engine panicked");
            }
        }
    }
}

/// Removes expired items at intervals, until the sender of `until_stopped` is dropped.
fn sweep(database: &Database, until_stopped: &mpsc::Receiver<()>) {
    let mut pause = FIRST_TTL_SWEEP_AFTER;
    while let Err(mpsc::RecvTimeoutError::Timeout) = until_stopped.recv_timeout(pause) {
        if let Err(fault) = database.sweep_ttl() {
            tracing::warn!(%fault, "embedded engine failed to remove expired items");
        }
        pause = TTL_SWEEP_INTERVAL;
    }
}
