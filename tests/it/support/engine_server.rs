//! An HTTP server in front of the embedded engine, for tests and benchmarks: several brokers share one engine, and the
//! fault proxy sits between them and it. The broker itself has none.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    thread,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
};
use sandbox_broker::store::embedded::{EngineAnswer, EngineClient};

/// Serves `engine` on a free loopback port, in a thread that ends with the process. Returns the URL.
pub fn serve(engine: EngineClient) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let router = Router::new()
        .fallback(call)
        .layer(DefaultBodyLimit::disable())
        .with_state(engine);
    thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        })
    });
    Ok(endpoint)
}

async fn call(
    State(engine): State<EngineClient>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let target = headers.get("x-amz-target");
    let target = target.and_then(|target| target.to_str().ok());
    let Some((_, operation)) = target.and_then(|target| target.rsplit_once('.')) else {
        return (StatusCode::NOT_FOUND, Vec::new());
    };
    match engine.call(operation.to_owned(), body.into()).await {
        Some(EngineAnswer { status, body }) => (
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body,
        ),
        None => (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
    }
}
