//! A proxy between the SDK and the engine that does what networks, throttled tables and lagging indexes do, by a seeded
//! script. It can also weaken a condition of a write, or hold a call until another has passed.

mod answers;
mod gate;
pub mod mutant;
mod script;
mod stale;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, Response, StatusCode, header},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub use self::{
    gate::Gate,
    mutant::{Condition, Mutant},
    script::{Fault, Script},
};
use self::{gate::Gates, mutant::Conditions, script::Dice, stale::Memory};

/// The proxy. It stops when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    dice: Mutex<Dice>,
    memory: Memory,
    mutant: Mutex<Option<Arc<Mutant>>>,
    conditions: Conditions,
    gates: Gates,
    injected: Mutex<BTreeMap<Fault, usize>>,
    calls: AtomicUsize,
    in_flight: AtomicUsize,
}

/// A call that is under way.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One call of the SDK.
pub struct Call {
    pub operation: String,
    pub body: Bytes,
}

impl Call {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn is_write(&self) -> bool {
        matches!(
            self.operation.as_str(),
            "UpdateItem" | "PutItem" | "DeleteItem" | "TransactWriteItems"
        )
    }
}

/// The engine's answer.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl FaultProxy {
    /// A proxy to `target` that is calm until a script is given.
    pub async fn to(target: &str, seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            dice: Mutex::new(Dice::new(seed)),
            memory: Memory::default(),
            mutant: Mutex::default(),
            conditions: Conditions::default(),
            gates: Gates::default(),
            injected: Mutex::default(),
            calls: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on faults happen as `script` says.
    pub fn play(&self, script: Script) {
        self.shared.dice.lock().unwrap().play(script);
    }

    /// No more faults.
    pub fn calm(&self) {
        self.play(Script::default());
    }

    /// The next call of this operation meets this fault, whatever the script says.
    pub fn inject_once(&self, operation: &'static str, fault: Fault) {
        self.shared
            .dice
            .lock()
            .unwrap()
            .inject_once(operation, fault);
    }

    /// From now on one conjunct of a condition is always true.
    pub fn weaken(&self, mutant: Option<Mutant>) {
        *self.shared.mutant.lock().unwrap() = mutant.map(Arc::new);
    }

    /// Every conditional write seen so far.
    pub fn conditions(&self) -> Vec<Condition> {
        self.shared.conditions.seen()
    }

    /// Holds back the calls that `which` recognises, until the gate is opened.
    pub fn hold(&self, which: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Gate {
        self.shared.gates.shut(Box::new(which))
    }

    /// Faults that were injected, by kind.
    pub fn injected(&self) -> BTreeMap<Fault, usize> {
        self.shared.injected.lock().unwrap().clone()
    }

    /// Calls that arrived.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Waits until no call is under way.
    pub async fn until_quiet(&self) {
        let mut quiet = 0;
        while quiet < 20 {
            let is_quiet = self.shared.in_flight.load(Ordering::SeqCst) == 0;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // A connection that is dropped here is reset, not closed.
    stream.set_zero_linger().unwrap();
    stream.set_nodelay(true).unwrap();
    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
    // An error is the fault that was asked for, or the other end's.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "injected")
}

/// An error closes the connection without an answer.
async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(Body::new(body), usize::MAX)
        .await
        .map_err(|_| reset())?;
    let target = parts.headers.get("x-amz-target");
    let target = target.map_or("", |target| target.to_str().unwrap());
    let operation = target.rsplit('.').next().unwrap().to_owned();
    let call = Call { operation, body };
    // A real server does not notice that its client has gone, so what arrived takes its course.
    let task = tokio::spawn(async move {
        let _in_flight = InFlight::enter(&shared.in_flight);
        shared.calls.fetch_add(1, Ordering::Relaxed);
        shared.answer(call, parts.headers).await
    });
    task.await.map_err(|_| reset())?
}

impl Shared {
    async fn answer(&self, mut call: Call, mut headers: HeaderMap) -> io::Result<Response<Body>> {
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        self.gates.pass(&call).await;
        if call.is_write() {
            let mutant = self.mutant.lock().unwrap().clone();
            if let Some(body) = self.conditions.note(&call, mutant.as_deref()) {
                call.body = body;
            }
        }
        let is_index = call.operation == "Query" && stale::is_of_index(&call.body);
        let roll = self.dice.lock().unwrap().roll(&call, is_index);
        if let Some(limit) = roll.page_limit.filter(|_| is_index) {
            call.body = stale::with_limit(&call.body, limit);
        }
        let Some(fault) = roll.fault else {
            return self
                .forward(call, headers, is_index)
                .await
                .map(Answer::into_response);
        };
        if let Some(refusal) = answers::refusal(fault, &call, roll.at) {
            self.count(fault);
            return Ok(refusal);
        }
        match fault {
            Fault::DelayBefore => {
                self.count(fault);
                tokio::time::sleep(roll.delay).await;
                self.forward(call, headers, is_index)
                    .await
                    .map(Answer::into_response)
            }
            Fault::DelayAfter => {
                self.count(fault);
                let answer = self.forward(call, headers, is_index).await;
                tokio::time::sleep(roll.delay).await;
                answer.map(Answer::into_response)
            }
            Fault::DropRequest => {
                self.count(fault);
                Err(reset())
            }
            Fault::DropAnswer => {
                let answer = self.forward(call, headers, is_index).await?;
                if answer.status.is_success() {
                    self.count(fault);
                    return Err(reset());
                }
                Ok(answer.into_response())
            }
            Fault::CutAnswer => {
                let answer = self.forward(call, headers, is_index).await?;
                self.count(fault);
                Ok(answers::cut(answer))
            }
            Fault::StaleRead => {
                if let Some(answer) = self.memory.recall(&call.body, roll.staleness, roll.at) {
                    self.count(fault);
                    return Ok(answer.into_response());
                }
                self.forward(call, headers, is_index)
                    .await
                    .map(Answer::into_response)
            }
            // Of another operation than this one.
            _ => self
                .forward(call, headers, is_index)
                .await
                .map(Answer::into_response),
        }
    }

    fn count(&self, fault: Fault) {
        *self.injected.lock().unwrap().entry(fault).or_default() += 1;
    }

    async fn forward(&self, call: Call, headers: HeaderMap, is_index: bool) -> io::Result<Answer> {
        let asked = call.body.clone();
        let sent = self
            .http
            .post(&self.target)
            .headers(headers)
            .body(call.body)
            .send()
            .await
            .map_err(io::Error::other)?;
        let (status, mut headers) = (sent.status(), sent.headers().clone());
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONNECTION);
        headers.remove(header::CONTENT_LENGTH);
        let body = sent.bytes().await.map_err(io::Error::other)?;
        let answer = Answer {
            status,
            headers,
            body,
        };
        if is_index && status.is_success() {
            self.memory.remember(asked, answer.clone());
        }
        Ok(answer)
    }
}
