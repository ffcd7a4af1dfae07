//! The HTTP server: listens, serves a router, stops.

mod accept;
mod connection_limits;
mod log_throttle;
mod slow_client;

use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::accept::Acceptor;
pub use self::connection_limits::{ConnectionLimits, raise_file_limit};

/// The length of the queue of connections that wait to be accepted. A class starts within one second, and a full queue
/// drops connections.
const BACKLOG: u32 = 4096;

/// The time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// The wait for complete headers, from the first byte of a request, or from the start of the connection.
    pub headers: Duration,
    /// The wait for the next request on a connection.
    pub idle: Duration,
    /// The wait for a client that does not read its answer.
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

/// The address of the other end of the connection: a request extension.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Listens on `address`.
///
/// # Errors
/// If the address is in use, or not an address of this machine.
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

/// A running server.
#[derive(Debug)]
pub struct ServerHandle {
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
) -> ServerHandle {
    let stop = CancellationToken::new();
    let acceptor = Acceptor::new(router, timeouts, limits, tasks.clone(), stop.clone());
    let task = tasks.spawn(acceptor.run(listener));
    ServerHandle { stop, task }
}

impl ServerHandle {
    /// Answers the clients that have connected and stops accepting further ones. Waits for the end until `deadline` at
    /// most.
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_mins(1);

    fn serve_with(timeouts: ConnectionTimeouts) -> (SocketAddr, ServerHandle) {
        serve_at_most(3, timeouts)
    }

    fn serve_at_most(
        per_address: usize,
        timeouts: ConnectionTimeouts,
    ) -> (SocketAddr, ServerHandle) {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let large = "x".repeat(32 << 20);
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route(
                "/slow",
                get(async || {
                    tokio::time::sleep(SHORT).await;
                    "hello"
                }),
            )
            .route("/large", get(async || large));
        (
            address,
            serve(
                listener,
                router,
                timeouts,
                ConnectionLimits {
                    connections: 100,
                    per_address,
                },
                &TaskTracker::new(),
            ),
        )
    }

    /// Reads until the server closes the connection; panics if it does not.
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
    async fn client_that_trickles_its_headers_is_disconnected() {
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
    async fn idle_connection_outlives_the_time_out_for_headers() {
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
    async fn client_that_does_not_read_its_answer_is_disconnected() {
        let (address, server) = serve_with(timeouts(LONG, LONG, SHORT));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let began = Instant::now();
        // Waits for the connection, which ends because the client is disconnected.
        server.stop(Instant::now() + LONG).await;
        assert!(began.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn stopped_server_finishes_requests_and_closes_idle_connections() {
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
    async fn client_that_closes_its_sending_side_is_answered() {
        let (address, _server) = serve_with(timeouts(LONG, LONG, LONG));
        for (path, requests) in [("/", 1), ("/slow", 1), ("/", 3)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream
                .write_all(request.repeat(requests).as_bytes())
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
            let answers = read_to_end(&mut stream).await;
            assert_eq!(
                answers.matches("hello").count(),
                requests,
                "{path}: {answers}"
            );
        }
    }

    #[tokio::test]
    async fn incomplete_request_of_a_disconnected_client_ends_the_connection() {
        let (address, server) = serve_with(timeouts(LONG, LONG, LONG));
        for head in ["", "GET / HTTP/1.1\r\nHo", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            read_to_end(&mut stream).await;
        }
        let began = Instant::now();
        server.stop(began + LONG).await;
        assert!(began.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn stopped_server_answers_queued_connections_and_requests_in_transit() {
        let (address, server) = serve_with(timeouts(LONG, LONG, LONG));
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(request).await.unwrap();
        let mut first = [0; 1];
        idle.read_exact(&mut first).await.unwrap();
        // Connections that the system has accepted, but not yet the server: the test's only thread is busy here.
        let mut queued: Vec<_> = (0..2)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let stop = TaskTracker::new().spawn(server.stop(Instant::now() + LONG));
        tokio::task::yield_now().await;
        idle.write_all(request).await.unwrap();
        let answers = read_to_end(&mut idle).await;
        assert_eq!(answers.matches("hello").count(), 2, "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
        for stream in &mut queued {
            std::io::Write::write_all(stream, request).unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut stream = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
            let answer = read_to_end(&mut stream).await;
            assert!(answer.contains("hello"), "{answer}");
        }
        stop.await.unwrap();
    }

    #[tokio::test]
    async fn stopped_server_does_not_wait_for_clients_that_keep_sending_requests() {
        let (address, server) = serve_at_most(100, timeouts(LONG, LONG, LONG));
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = [0; 1024];
            assert!(stream.read(&mut answer).await.unwrap() > 0);
            clients.push(stream);
        }
        // Each client sends one request more, and the next one before the server considers the others to be idle.
        let load = TaskTracker::new().spawn(async move {
            for stream in &mut clients {
                tokio::time::sleep(Duration::from_millis(60)).await;
                let _ = stream.write_all(request).await;
            }
        });
        let began = Instant::now();
        server.stop(began + LONG).await;
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        load.abort();
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
        // The server notices the end of the third connection a little later.
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
    async fn endless_headers_are_rejected() {
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
    async fn client_that_reads_its_answer_in_small_pieces_is_disconnected() {
        let (address, server) = serve_with(timeouts(LONG, LONG, Duration::from_secs(1)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let reader = TaskTracker::new().spawn(async move {
            let mut piece = [0; 512];
            while stream.read(&mut piece).await.is_ok_and(|length| length > 0) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let began = Instant::now();
        server.stop(began + LONG).await;
        assert!(began.elapsed() < LONG / 2);
        reader.abort();
    }
}
