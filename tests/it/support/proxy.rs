//! An HTTP proxy between the broker and the engine, that counts calls and can be switched off.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Shared {
    target: String,
    http: reqwest::Client,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Shared,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Proxy {
    pub async fn to(target: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let shared = Shared {
            target: target.to_owned(),
            http,
            calls: Arc::default(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut proxy = Self {
            address,
            shared,
            running: None,
        };
        proxy.serve(listener);
        proxy
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(&mut self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let router = Router::new()
            .fallback(forward)
            .with_state(self.shared.clone());
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
                .unwrap();
        });
        self.running = Some((stop, task));
    }

    /// From now on connections are refused.
    pub async fn switch_off(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.cancel();
        task.await.unwrap();
    }

    pub async fn switch_on(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// The calls since the last time, by operation.
    pub fn take_calls(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.shared.calls.lock().unwrap())
    }
}

async fn forward(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, usize::MAX).await.unwrap();
    if let Some(target) = parts.headers.get("x-amz-target") {
        let operation = target
            .to_str()
            .unwrap()
            .rsplit('.')
            .next()
            .unwrap()
            .to_owned();
        *shared.calls.lock().unwrap().entry(operation).or_default() += 1;
    }
    let mut headers = parts.headers;
    headers.remove("host");
    let sent = shared
        .http
        .request(parts.method, &shared.target)
        .headers(headers)
        .body(body)
        .send()
        .await;
    let Ok(answer) = sent else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove("transfer-encoding");
    headers.remove("connection");
    match answer.bytes().await {
        Ok(body) => (status, headers, body).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
