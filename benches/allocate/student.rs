//! Students, each with a connection of its own to one broker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::body::Body;
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, sync::Barrier, task::JoinSet};

use crate::broker::{Broker, CALLER, TRACK_TOKEN};

/// A student, whose connection is open before a measurement begins.
pub struct Student {
    host: String,
    sender: http1::SendRequest<Body>,
}

/// The answer to one request of a student.
pub struct Answered {
    pub student: Student,
    pub caller: String,
    pub status: u16,
    pub sandbox_id: String,
    sent: Instant,
    received: Instant,
}

impl Answered {
    pub fn latency(&self) -> Duration {
        self.received - self.sent
    }
}

/// Sends an allocate request for each student and caller, all concurrently. The answers are in the order of the requests.
pub async fn allocate_concurrently(requests: Vec<(Student, String)>) -> Result<Vec<Answered>> {
    let barrier = Arc::new(Barrier::new(requests.len()));
    let mut tasks = JoinSet::new();
    for (number, (mut student, caller)) in requests.into_iter().enumerate() {
        let barrier = Arc::clone(&barrier);
        tasks.spawn(async move {
            barrier.wait().await;
            let sent = Instant::now();
            let (status, sandbox_id) = student.allocate(&caller).await?;
            let received = Instant::now();
            let answered = Answered {
                student,
                caller,
                status,
                sandbox_id,
                sent,
                received,
            };
            anyhow::Ok((number, answered))
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = tasks.join_next().await {
        answers.push(done??);
    }
    answers.sort_by_key(|(number, _)| *number);
    Ok(answers.into_iter().map(|(_, answered)| answered).collect())
}

/// The time from the first request that was sent to the last answer.
pub fn duration(answers: &[Answered]) -> Duration {
    let first = answers.iter().map(|answered| answered.sent).min();
    let last = answers.iter().map(|answered| answered.received).max();
    first
        .zip(last)
        .map_or(Duration::ZERO, |(first, last)| last - first)
}

impl Student {
    pub async fn connect(broker: &Broker) -> Result<Self> {
        let host = broker
            .url
            .strip_prefix("http://")
            .context("no address")?
            .to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { host, sender })
    }

    /// Returns the status and the sandbox of the answer.
    async fn allocate(&mut self, caller: &str) -> Result<(u16, String)> {
        #[derive(Deserialize)]
        struct Allocation {
            sandbox_id: String,
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/allocate")
            .header("host", &self.host)
            .header("authorization", format!("Bearer {TRACK_TOKEN}"))
            .header(CALLER, caller)
            .body(Body::empty())?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), usize::MAX).await?;
        let allocation: Allocation = serde_json::from_slice(&body)
            .with_context(|| format!("{caller} received the status {status}"))?;
        Ok((status, allocation.sandbox_id))
    }
}
