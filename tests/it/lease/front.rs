//! The network in front of a broker: it records the requests of the command line, and loses or changes answers.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Response, StatusCode, header},
};
use futures_util::stream;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

use crate::support::START;

/// How long to wait for a request.
const LIMIT: Duration = Duration::from_mins(1);

/// The fate of a request.
#[derive(Clone)]
pub enum Action {
    /// The broker answers.
    Pass,
    /// The connection is reset, and the broker receives nothing.
    Reset,
    /// The broker answers, and the connection is reset before the answer arrives.
    Lose,
    /// The broker answers, and the connection is reset in the middle of the answer.
    Cut,
    /// The broker answers, and half of the answer arrives as if it were the whole.
    Shorten,
    /// The broker receives the request after a notification.
    Hold(Arc<Notify>),
    /// Another server answers with a status, headers and a body, and the broker receives nothing.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
}

type Rule = Box<dyn FnMut(&str) -> Action + Send>;

/// A port that forwards requests to a broker, as the current rule decides.
pub struct Front {
    pub url: String,
    state: Arc<State>,
}

struct State {
    broker: String,
    http: reqwest::Client,
    rule: Mutex<Rule>,
    requests: watch::Sender<Vec<String>>,
    began: Instant,
    /// The seconds that a lease seems to last from each request on, if they are changed.
    span: Mutex<Option<u64>>,
}

impl Front {
    /// Starts a port that forwards requests to the broker at `base`.
    pub async fn of(base: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let state = Arc::new(State {
            broker: base.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            rule: Mutex::new(Box::new(|_| Action::Pass)),
            requests: watch::Sender::default(),
            began: Instant::now(),
            span: Mutex::default(),
        });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { url, state }
    }

    /// Sets the rule, which decides on each request by its method and path, such as `POST /v1/allocate`.
    pub fn rule(&self, rule: impl FnMut(&str) -> Action + Send + 'static) {
        *self.state.rule.lock().unwrap() = Box::new(rule);
    }

    /// Sets a rule with one of these actions for each of the next requests, and then [`Action::Pass`].
    pub fn script(&self, actions: impl IntoIterator<Item = Action>) {
        let mut actions: Vec<_> = actions.into_iter().collect();
        actions.reverse();
        self.rule(move |_| actions.pop().unwrap_or(Action::Pass));
    }

    /// Changes answers so that a lease seems to end so many seconds after the request that allocated or extended it.
    pub fn shorten_leases(&self, seconds: u64) {
        *self.state.span.lock().unwrap() = Some(seconds);
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.borrow().clone()
    }

    /// Waits until so many requests whose method and path end with `end` have arrived.
    pub async fn wait_for(&self, count: usize, end: &str) {
        let mut seen = self.state.requests.subscribe();
        let arrived = seen
            .wait_for(|seen| seen.iter().filter(|request| request.ends_with(end)).count() >= count);
        let arrived = tokio::time::timeout(LIMIT, arrived).await;
        assert!(arrived.is_ok(), "{end}: {:?}", self.requests());
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // A connection that is dropped is reset instead of closed.
    stream.set_zero_linger().unwrap();
    let service = service_fn(move |request| answer(Arc::clone(&state), request));
    // An error is one of the actions, or the client has gone.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Answers a request. An error resets the connection.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let name = format!("{} {}", request.method(), request.uri().path());
    state
        .requests
        .send_modify(|requests| requests.push(name.clone()));
    let action = {
        let mut rule = state.rule.lock().unwrap();
        (*rule)(&name)
    };
    match action {
        Action::Reset => Err(io::ErrorKind::ConnectionReset.into()),
        Action::Answer(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Body::from(body)).unwrap())
        }
        Action::Hold(gate) => {
            gate.notified().await;
            Ok(complete(state.forward(request).await))
        }
        Action::Pass => Ok(complete(state.forward(request).await)),
        Action::Lose => {
            state.forward(request).await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Action::Cut => Ok(cut(state.forward(request).await)),
        Action::Shorten => Ok(shortened(state.forward(request).await)),
    }
}

type Forwarded = (StatusCode, HeaderMap, Vec<u8>);

impl State {
    async fn forward(&self, request: Request<Incoming>) -> Forwarded {
        let (parts, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
        let mut headers = parts.headers;
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let path = parts.uri.path_and_query().unwrap().as_str();
        let url = format!("{}{path}", self.broker);
        let sent = self
            .http
            .request(parts.method, url)
            .headers(headers)
            .body(body);
        let answer = sent.send().await.unwrap();
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove(header::CONTENT_LENGTH);
        let body = answer.bytes().await.unwrap().to_vec();
        (status, headers, self.with_short_lease(body))
    }

    /// Moves the end of the lease in an answer. The clocks of the tests' brokers stand still.
    fn with_short_lease(&self, body: Vec<u8>) -> Vec<u8> {
        let Some(span) = *self.span.lock().unwrap() else {
            return body;
        };
        let Ok(mut document) = serde_json::from_slice::<Value>(&body) else {
            return body;
        };
        if document["expires_at"].is_number() {
            let passed = self.began.elapsed().as_secs() + span;
            let end: Value = (START.0 + i64::try_from(passed).unwrap()).into();
            if document["max_expires_at"] == document["expires_at"] {
                document["max_expires_at"] = end.clone();
            }
            document["expires_at"] = end;
        }
        document.to_string().into_bytes()
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn complete((status, headers, body): Forwarded) -> Response<Body> {
    response(status, headers, Body::from(body))
}

fn cut((status, mut headers, mut body): Forwarded) -> Response<Body> {
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    body.truncate(body.len() / 2);
    let parts = [
        Ok(body),
        Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    ];
    response(status, headers, Body::from_stream(stream::iter(parts)))
}

fn shortened((status, headers, mut body): Forwarded) -> Response<Body> {
    body.truncate(body.len() / 2);
    response(status, headers, Body::from(body))
}
