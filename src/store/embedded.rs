//! The embedded engine: dynoxide over SQLite in this process, which the SDK calls like any other DynamoDB server.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use dynoxide::Database;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Threads of the engine. It has its own, because its SQLite calls block. SQLite serializes writes, so more threads do not
/// help.
const THREADS: usize = 2;
const TTL_SWEEP_INTERVAL: Duration = Duration::from_mins(10);
/// The first sweep waits until the broker has started: a sweep locks the database, for seconds with a million items.
const FIRST_TTL_SWEEP_AFTER: Duration = Duration::from_secs(30);

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
    /// The engine cannot create its threads or listen on a port.
    #[error("the embedded engine cannot start")]
    Start(#[source] io::Error),
}

/// A running engine, which stops when it is dropped.
#[derive(Debug)]
pub struct EmbeddedEngine {
    endpoint: String,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    /// Locked while the engine runs. The system releases the lock even if the process crashes.
    _lock: Option<File>,
}

impl EmbeddedEngine {
    /// Starts the engine on the database in `data_dir`, which is created if it does not exist.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| EmbeddedError::DataDir { path, source }
        };
        fs::create_dir_all(data_dir).map_err(unusable(data_dir))?;
        let lock_path = data_dir.join("lock");
        let lock = File::create(&lock_path).map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::InUse {
                    path: data_dir.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(&lock_path)(source)),
        }
        let path = data_dir.join("pool.sqlite");
        let text = path.to_str().ok_or_else(|| EmbeddedError::DataDir {
            path: path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"),
        })?;
        let database = Database::new(text).map_err(|fault| EmbeddedError::Database {
            path: path.clone(),
            reason: fault.to_string(),
        })?;
        Self::serve(database, Some(lock))
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
        Self::serve(database, None)
    }

    fn serve(database: Database, lock: Option<File>) -> Result<Self, EmbeddedError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(EmbeddedError::Start)?;
        listener
            .set_nonblocking(true)
            .map_err(EmbeddedError::Start)?;
        let endpoint = format!(
            "http://{}",
            listener.local_addr().map_err(EmbeddedError::Start)?
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("embedded-engine")
            .enable_all()
            .build()
            .map_err(EmbeddedError::Start)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("embedded-engine".to_owned())
            .spawn(move || runtime.block_on(run(listener, database, stopped)))
            .map_err(EmbeddedError::Start)?;
        Ok(Self {
            endpoint,
            stop,
            thread: Some(thread),
            _lock: lock,
        })
    }

    /// Returns the URL at which the engine serves the DynamoDB API.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Completes the requests in progress, stops the engine and closes the database.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("embedded engine panicked");
        }
    }
}

async fn run(listener: TcpListener, database: Database, stop: CancellationToken) {
    let sweeping = database.clone();
    let sweep = async {
        let first = Instant::now() + FIRST_TTL_SWEEP_AFTER;
        let mut interval = tokio::time::interval_at(first, TTL_SWEEP_INTERVAL);
        loop {
            interval.tick().await;
            if let Err(fault) = sweeping.sweep_ttl() {
                tracing::warn!(%fault, "embedded engine failed to remove expired items");
            }
        }
    };
    let serve = async {
        let listener =
            tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
        dynoxide::server::serve_with_shutdown(listener, database, stop.cancelled_owned()).await
    };
    tokio::select! {
        result = serve => {
            if let Err(reason) = result {
                tracing::error!(reason, "embedded engine failed");
            }
        }
        () = sweep => {}
    }
}
