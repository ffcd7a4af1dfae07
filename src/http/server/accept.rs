//! The accept loop: takes connections within their limits, and serves each in a task of its own.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    ConnectionLimits, ConnectionTimeouts, PeerAddress,
    connection_limits::ConnectionLimiter,
    log_throttle::LogThrottle,
    slow_client::{MonitoredStream, SlowClientDetector},
};

/// The size of the read buffer and therefore of the longest headers, in bytes. It suffices for tokens and for the
/// headers that proxies add.
const MAX_HEADERS: usize = 32 * 1024;
/// The pause after a failure to accept for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts the connections of one listener.
pub(super) struct Acceptor {
    router: Router,
    timeouts: ConnectionTimeouts,
    tasks: TaskTracker,
    open: GracefulShutdown,
    slots: Arc<Semaphore>,
    limiter: ConnectionLimiter,
}

impl Acceptor {
    /// Creates an acceptor whose connections run on `tasks`.
    pub(super) fn new(
        router: Router,
        timeouts: ConnectionTimeouts,
        limits: ConnectionLimits,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            router,
            timeouts,
            tasks,
            open: GracefulShutdown::new(),
            slots: Arc::new(Semaphore::new(limits.connections)),
            limiter: ConnectionLimiter::new(limits.per_address),
        }
    }

    /// Accepts until `stop`, then closes the listener and waits for the open connections.
    pub(super) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        stop.run_until_cancelled(self.accept_all(&listener)).await;
        drop(listener);
        self.open.shutdown().await;
    }

    async fn accept_all(&self, listener: &TcpListener) {
        let (mut full, mut failing, mut over_limit) =
            <(LogThrottle, LogThrottle, LogThrottle)>::default();
        loop {
            if self.slots.available_permits() == 0 {
                full.log(|| tracing::warn!("connection limit reached"));
            }
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                // The semaphore is never closed.
                pending().await
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(permit) = self.limiter.acquire(peer.ip()) else {
                        over_limit
                            .log(|| tracing::warn!(%peer, "connection limit per address reached"));
                        continue;
                    };
                    let connection = self.connection(stream, peer);
                    self.tasks.spawn(async move {
                        connection.await;
                        drop((slot, permit));
                    });
                }
                Err(error) if is_client_disconnect(&error) => {}
                Err(error) => {
                    failing.log(|| tracing::warn!(%error, "cannot accept connections"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Answers are one small write, which Nagle's algorithm would delay.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let detector = SlowClientDetector::new();
        let (router, in_service) = (self.router.clone(), detector.clone());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            in_service.request_started();
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(PeerAddress(peer));
            let (router, in_service) = (router.clone(), in_service.clone());
            async move {
                let answer = router.oneshot(request).await;
                in_service.request_done();
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(MAX_HEADERS)
            // Also runs between requests, so it bounds idle connections; `detector` bounds headers that have begun.
            .header_read_timeout(self.timeouts.idle)
            .serve_connection(
                TokioIo::new(MonitoredStream::new(stream, detector.clone())),
                service,
            );
        let connection = self.open.watch(connection);
        let timeouts = self.timeouts;
        async move {
            tokio::select! {
                served = connection => if let Err(error) = served {
                    tracing::debug!(%peer, %error, "connection broken");
                },
                () = detector.exceeded(timeouts) => {
                    tracing::debug!(%peer, "client too slow; connection closed");
                }
            }
        }
    }
}

/// Whether the client disconnected before its connection was accepted.
fn is_client_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
