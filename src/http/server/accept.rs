//! The accept loop: takes connections within their limits, and serves each in a task of its own.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header::CONNECTION},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::timeout,
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
/// A server that stops considers a client that has sent nothing for this long to be idle. It covers the transit of a
/// request that the client sent before it could know of the shutdown.
const QUIET: Duration = Duration::from_millis(100);
/// How long a server that stops accepts further connections while they keep arriving.
const MAX_DRAIN: Duration = Duration::from_millis(500);
/// How long it waits for clients to be idle while requests keep arriving: long enough for those of a burst, and a small
/// part of the time that the answers have.
const MAX_WAIT_FOR_IDLE: Duration = Duration::from_secs(2);

/// Accepts the connections of one listener.
pub(super) struct Acceptor {
    router: Router,
    timeouts: ConnectionTimeouts,
    tasks: TaskTracker,
    open: GracefulShutdown,
    slots: Arc<Semaphore>,
    limiter: ConnectionLimiter,
    stop: CancellationToken,
    /// Notified of every request.
    requests: Arc<Notify>,
}

/// The throttled logs of the accept loop.
#[derive(Debug, Default)]
struct AcceptLogs {
    full: LogThrottle,
    failing: LogThrottle,
    over_limit: LogThrottle,
}

impl Acceptor {
    /// Creates an acceptor whose connections run on `tasks`, until `stop`.
    pub(super) fn new(
        router: Router,
        timeouts: ConnectionTimeouts,
        limits: ConnectionLimits,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            router,
            timeouts,
            tasks,
            open: GracefulShutdown::new(),
            slots: Arc::new(Semaphore::new(limits.connections)),
            limiter: ConnectionLimiter::new(limits.per_address),
            stop,
            requests: Arc::default(),
        }
    }

    /// Accepts until `stop`, then answers the requests of all connections that clients have opened, and closes them.
    ///
    /// From `stop` on every answer is the last one of its connection. The listener closes when no connection has
    /// arrived for [`QUIET`]: closing it resets those in its queue. Connections without a request close when no request
    /// has arrived for [`QUIET`]: closing them resets a request in transit. Neither waits for clients that never pause.
    pub(super) async fn run(self, listener: TcpListener) {
        let mut logs = AcceptLogs::default();
        let accept_all = async {
            loop {
                self.accept(&listener, &mut logs).await;
            }
        };
        self.stop.run_until_cancelled(accept_all).await;
        let drain = async {
            while timeout(QUIET, self.accept(&listener, &mut logs))
                .await
                .is_ok()
            {}
        };
        // Later connections are refused, so their clients know that no request was executed.
        let _ = timeout(MAX_DRAIN, drain).await;
        drop(listener);
        let until_idle = async { while timeout(QUIET, self.requests.notified()).await.is_ok() {} };
        let _ = timeout(MAX_WAIT_FOR_IDLE, until_idle).await;
        self.open.shutdown().await;
    }

    /// Accepts one connection, within the limits.
    async fn accept(&self, listener: &TcpListener, logs: &mut AcceptLogs) {
        if self.slots.available_permits() == 0 {
            logs.full.log(|| tracing::warn!("connection limit reached"));
        }
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            // The semaphore is never closed.
            pending().await
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(permit) = self.limiter.acquire(peer.ip()) else {
                    logs.over_limit
                        .log(|| tracing::warn!(%peer, "connection limit per address reached"));
                    return;
                };
                let connection = self.connection(stream, peer);
                self.tasks.spawn(async move {
                    connection.await;
                    drop((slot, permit));
                });
            }
            Err(error) if is_client_disconnect(&error) => {}
            Err(error) => {
                logs.failing
                    .log(|| tracing::warn!(%error, "cannot accept connections"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
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
        let (stop, requests) = (self.stop.clone(), Arc::clone(&self.requests));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            in_service.request_started();
            requests.notify_one();
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(PeerAddress(peer));
            let (router, in_service, stop) = (router.clone(), in_service.clone(), stop.clone());
            async move {
                let answer = router.oneshot(request).await.map(|mut answer| {
                    if stop.is_cancelled() {
                        let close = HeaderValue::from_static("close");
                        answer.headers_mut().insert(CONNECTION, close);
                    }
                    answer
                });
                in_service.request_done();
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(MAX_HEADERS)
            // A client may close its sending side after its request. A client that has disconnected looks the same; its
            // request ends with its own time limit.
            .half_close(true)
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
