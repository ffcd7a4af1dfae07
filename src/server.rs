//! The socket: bind, serve, stop.

use std::{io, net::SocketAddr};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that wait to be accepted. A class starts in one second, and a full queue drops its requests.
const BACKLOG: u32 = 4096;

/// Listens on `address`.
///
/// # Errors
/// If the address is in use, or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A server that runs.
#[derive(Debug)]
pub struct Handle {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Serves `router` on `listener` until the handle stops it.
pub fn serve(listener: TcpListener, router: Router, tasks: &TaskTracker) -> Handle {
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let listener = listener.tap_io(|stream| {
        // Answers are one small write, which Nagle's algorithm would hold back.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let task = tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(stopped)
            .await
        {
            tracing::error!(%error, "the server failed");
        }
    });
    Handle { stop, task }
}

impl Handle {
    /// Stops accepting and waits for the requests under way, at most until `deadline`.
    pub async fn stop(mut self, deadline: Instant) {
        self.stop.cancel();
        if tokio::time::timeout_at(deadline, &mut self.task)
            .await
            .is_err()
        {
            tracing::warn!("stopped before every request was answered");
            self.task.abort();
        }
    }
}
