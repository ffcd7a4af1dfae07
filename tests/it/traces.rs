//! Traces as a collector receives them. Only built with the feature `otlp`.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, body::Bytes, http::HeaderMap, routing::get, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use serde_json::json;

use crate::support::{ADMIN, BrokerProcess, Pool, Signal};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

async fn listen(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn request_with_its_store_and_csp_calls_is_one_trace() {
    let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
    let received = Arc::clone(&spans);
    let collector = Router::new().route(
        "/v1/traces",
        post(async move |body: Bytes| {
            let export = ExportTraceServiceRequest::decode(body).unwrap();
            let new = export
                .resource_spans
                .into_iter()
                .flat_map(|resource| resource.scope_spans)
                .flat_map(|scope| scope.spans);
            received.lock().unwrap().extend(new);
        }),
    );
    let traceparents: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&traceparents);
    let csp = Router::new().route(
        "/v2/current_user/accounts",
        get(async move |headers: HeaderMap| {
            let traceparent = headers["traceparent"].to_str().unwrap().to_owned();
            noted.lock().unwrap().push(traceparent);
            Json(json!({ "results": [] }))
        }),
    );
    let pool = Pool::of(1).await;
    let directory = tempfile::tempdir().unwrap();
    let variables: BTreeMap<_, _> = pool.variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &listen(collector).await),
        ("CSP_BASE_URL", &format!("{}/v2", listen(csp).await)),
    ]);
    let mut broker = BrokerProcess::serve(directory.path(), &variables);
    let client = &broker.client;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let allocation = client
        .allocation("play-1")
        .header("traceparent", &traceparent);
    assert_eq!(client.send(allocation).await.status, 201);
    let sync = client
        .request(reqwest::Method::POST, "/v1/admin/sync")
        .bearer_auth(ADMIN)
        .header("traceparent", &traceparent);
    assert_eq!(client.send(sync).await.status, 200);
    // The process sends all remaining spans before it exits.
    broker.signal(Signal::TERM);
    let ended = tokio::task::spawn_blocking(move || broker.wait());
    tokio::time::timeout(Duration::from_secs(30), ended)
        .await
        .unwrap()
        .unwrap();

    let spans = spans.lock().unwrap();
    let of_trace: Vec<_> = spans
        .iter()
        .filter(|span| hex(&span.trace_id) == TRACE)
        .collect();
    let named = |name: &str| {
        *of_trace
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("no span {name} in {of_trace:#?}"))
    };
    let request = named("POST /v1/allocate");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(request.kind, SpanKind::Server as i32);
    let store = named("TransactWriteItems");
    assert_eq!(store.kind, SpanKind::Client as i32);
    let sync = named("POST /v1/admin/sync");
    let list = named("list");
    assert_eq!(store.parent_span_id, request.span_id);
    // The run is a task of its own, but belongs to the same trace.
    assert!(list.start_time_unix_nano >= sync.start_time_unix_nano);
    let passed_on = format!("00-{TRACE}-{}-01", hex(&list.span_id));
    assert_eq!(*traceparents.lock().unwrap(), [passed_on]);
}
