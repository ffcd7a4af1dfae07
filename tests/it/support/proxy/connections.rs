//! The proxy's port and its connections.

use std::{io, net::SocketAddr, pin::pin, sync::Arc};

use axum::{body::Body, http::Response};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{call::Call, rules::Rules};

/// A port on loopback that can be closed and opened again.
pub(super) struct Listener {
    address: SocketAddr,
    state: State,
}

enum State {
    Open {
        stop: CancellationToken,
        accepting: JoinHandle<()>,
        connections: TaskTracker,
    },
    /// The socket is bound but does not listen: connections are refused, and no other process can take the port.
    Closed(Option<TcpSocket>),
}

impl Listener {
    pub(super) async fn open(rules: Arc<Rules>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            state: State::accept(listener, rules),
        }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the port once the calls in flight are answered.
    pub(super) async fn close(&mut self) {
        let State::Open {
            stop,
            accepting,
            connections,
        } = &mut self.state
        else {
            return;
        };
        stop.cancel();
        accepting.await.unwrap();
        connections.close();
        connections.wait().await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.state = State::Closed(Some(socket));
    }

    pub(super) fn reopen(&mut self, rules: Arc<Rules>) {
        if let State::Closed(socket) = &mut self.state {
            let listener = socket.take().unwrap().listen(1024).unwrap();
            self.state = State::accept(listener, rules);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let State::Open { accepting, .. } = &self.state {
            accepting.abort();
        }
    }
}

impl State {
    fn accept(listener: TcpListener, rules: Arc<Rules>) -> Self {
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        let accepting = tokio::spawn(accept(listener, rules, stop.clone(), connections.clone()));
        Self::Open {
            stop,
            accepting,
            connections,
        }
    }
}

async fn accept(
    listener: TcpListener,
    rules: Arc<Rules>,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
        connections.spawn(serve(stream, Arc::clone(&rules), stop.clone()));
    }
}

async fn serve(stream: TcpStream, rules: Arc<Rules>, stop: CancellationToken) {
    // A connection that is dropped is reset instead of closed.
    stream.set_zero_linger().unwrap();
    stream.set_nodelay(true).unwrap();
    let service = service_fn(move |request| answer(Arc::clone(&rules), request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // An error is an injected fault, or the client has gone.
    if stop
        .run_until_cancelled(connection.as_mut())
        .await
        .is_none()
    {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Answers a call. An error resets the connection.
async fn answer(rules: Arc<Rules>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let call = Call::read(request).await.map_err(io::Error::other)?;
    // A real server does not notice that its client has gone, so a call that has arrived takes effect.
    let in_flight = rules.in_flight.clone();
    let task = in_flight.spawn(async move { rules.answer(call).await });
    task.await.map_err(io::Error::other)?
}
