//! The socket: bind, serve, stop.

mod connection_limits;
mod slow_client;

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

pub use self::connection_limits::{ConnectionLimits, raise_file_limit};
use self::{
    connection_limits::ConnectionLimiter,
    slow_client::{MonitoredStream, SlowClientDetector},
};

/// Connections that wait to be accepted. A class starts in one second, and a full queue drops its requests.
const BACKLOG: u32 = 4096;
/// The longest headers that are read, in bytes. Room for tokens and for what proxies add.
const MAX_HEADERS: usize = 32 * 1024;
/// How long accepting rests when the machine refuses it, for want of file descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long clients may keep the broker waiting.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// For the headers of a request, from its first byte or the connection on.
    pub headers: Duration,
    /// For the next request on a connection.
    pub idle: Duration,
    /// For a client to take what it is sent.
    pub write: Duration,
}

impl ConnectionTimeouts {
    /// The usual time-outs, with idle connections closed after `idle`.
    #[must_use]
    pub const fn with_idle(idle: Duration) -> Self {
        Self {
            headers: Duration::from_secs(10),
            idle,
            write: Duration::from_secs(30),
        }
    }
}

/// Where a connection comes from: a request extension.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

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
pub fn serve(
    listener: TcpListener,
    router: Router,
    timeouts: ConnectionTimeouts,
    limits: ConnectionLimits,
    tasks: &TaskTracker,
) -> Handle {
    let stop = CancellationToken::new();
    let server = Server {
        router,
        timeouts,
        tasks: tasks.clone(),
        open: GracefulShutdown::new(),
        slots: Arc::new(Semaphore::new(limits.connections)),
        limiter: ConnectionLimiter::new(limits.per_address),
    };
    let task = tasks.spawn(server.run(listener, stop.clone()));
    Handle { stop, task }
}

struct Server {
    router: Router,
    timeouts: ConnectionTimeouts,
    tasks: TaskTracker,
    open: GracefulShutdown,
    slots: Arc<Semaphore>,
    limiter: ConnectionLimiter,
}

/// Says something at most once in a while.
#[derive(Debug, Default)]
struct LogThrottle(Option<Instant>);

impl LogThrottle {
    fn log(&mut self, event: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() >= QUIET) {
            self.0 = Some(Instant::now());
            event();
        }
    }
}

/// Between two warnings about the same thing.
const QUIET: Duration = Duration::from_secs(10);

impl Server {
    async fn run(self, listener: TcpListener, stop: CancellationToken) {
        stop.run_until_cancelled(self.accept_all(&listener)).await;
        drop(listener);
        self.open.shutdown().await;
    }

    async fn accept_all(&self, listener: &TcpListener) {
        let (mut full, mut failing, mut greedy) =
            <(LogThrottle, LogThrottle, LogThrottle)>::default();
        loop {
            if self.slots.available_permits() == 0 {
                full.log(|| tracing::warn!("no room for more connections; new ones wait"));
            }
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                // Never closed.
                pending().await
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(permit) = self.limiter.acquire(peer.ip()) else {
                        greedy.log(|| tracing::warn!(%peer, "an address has its share of connections; refused more"));
                        continue;
                    };
                    let connection = self.connection(stream, peer);
                    self.tasks.spawn(async move {
                        connection.await;
                        drop((slot, permit));
                    });
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    failing.log(|| tracing::warn!(%error, "cannot accept connections"));
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Answers are one small write, which Nagle's algorithm would hold back.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let detector = SlowClientDetector::begin();
        let (router, in_service) = (self.router.clone(), detector.clone());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            in_service.request_came();
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
            // Runs between requests too, so it is the bound of an idle connection; `detector` bounds what has begun.
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
                    tracing::debug!(%peer, %error, "a connection broke off");
                },
                () = detector.lasts_longer_than(timeouts) => {
                    tracing::debug!(%peer, "a client was too slow");
                }
            }
        }
    }
}

/// The client went away before its connection was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_mins(1);

    fn serve_with(timeouts: ConnectionTimeouts) -> (SocketAddr, Handle) {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let large = "x".repeat(32 << 20);
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/large", get(async || large));
        (
            address,
            serve(
                listener,
                router,
                timeouts,
                ConnectionLimits {
                    connections: 100,
                    per_address: 3,
                },
                &TaskTracker::new(),
            ),
        )
    }

    /// What comes until the server closes the connection; an error if it does not.
    async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text))
            .await
            .expect("the connection stays open")
            .ok();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn timeouts(headers: Duration, idle: Duration, write: Duration) -> ConnectionTimeouts {
        ConnectionTimeouts {
            headers,
            idle,
            write,
        }
    }

    #[tokio::test]
    async fn a_client_that_trickles_its_headers_is_cut() {
        let (address, _server) = serve_with(timeouts(SHORT, LONG, LONG));
        let (mut silent, mut slow, mut later) = (
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        );
        slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n")
            .await
            .unwrap();
        later
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 1024];
        assert!(later.read(&mut answer).await.unwrap() > 0);
        later.write_all(b"GET / HT").await.unwrap();
        assert_eq!(read_to_end(&mut silent).await, "");
        assert_eq!(read_to_end(&mut slow).await, "");
        assert_eq!(read_to_end(&mut later).await, "");
    }

    #[tokio::test]
    async fn an_idle_connection_may_stay_longer_than_headers_may_take() {
        let (address, _server) = serve_with(timeouts(SHORT, Duration::from_millis(1500), LONG));
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            let mut answer = [0; 1024];
            let length = stream.read(&mut answer).await.unwrap();
            assert!(String::from_utf8_lossy(&answer[..length]).contains("200 OK"));
            tokio::time::sleep(SHORT * 3).await;
        }
        assert_eq!(read_to_end(&mut stream).await, "");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_answer_is_cut() {
        let (address, server) = serve_with(timeouts(LONG, LONG, SHORT));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let began = Instant::now();
        // Waits for the connection, which ends because it is cut.
        server.stop(Instant::now() + LONG).await;
        assert!(began.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn a_stopped_server_finishes_what_is_under_way_and_closes_what_is_idle() {
        let (address, server) = serve_with(timeouts(LONG, LONG, LONG));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        server.stop(Instant::now() + LONG).await;
        assert!(read_to_end(&mut stream).await.contains("hello"));
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_connection() {
        let (address, _server) = serve_with(timeouts(LONG, LONG, LONG));
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(TcpStream::connect(address).await.unwrap());
        }
        let mut more = TcpStream::connect(address).await.unwrap();
        assert_eq!(read_to_end(&mut more).await, "");
        open.truncate(2);
        // The server notices the end of the third one in its own time.
        loop {
            let mut again = TcpStream::connect(address).await.unwrap();
            let _ = again
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .await;
            if read_to_end(&mut again).await.contains("hello") {
                break;
            }
        }
    }

    #[tokio::test]
    async fn headers_without_end_are_refused() {
        let (address, _server) = serve_with(timeouts(LONG, LONG, LONG));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX-Long: ").await;
        for _ in 0..100 {
            if stream.write_all(&[b'a'; 1024]).await.is_err() {
                break;
            }
        }
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.contains("431"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_takes_its_answer_in_crumbs_is_cut() {
        let (address, server) = serve_with(timeouts(LONG, LONG, Duration::from_secs(1)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let reader = TaskTracker::new().spawn(async move {
            let mut crumb = [0; 512];
            while stream.read(&mut crumb).await.is_ok_and(|length| length > 0) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let began = Instant::now();
        server.stop(began + LONG).await;
        assert!(began.elapsed() < LONG / 2);
        reader.abort();
    }
}
