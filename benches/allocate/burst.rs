//! The burst part: a class of 1,000 concurrent requests on two brokers.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use axum::body::Body;
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Barrier, task::JoinSet};

use crate::{
    bare::Load,
    broker::{Broker, CALLER, TRACK_TOKEN},
    engine::Engine,
    outcome::{Outcome, micros, percentiles},
    report,
    table::Table,
};

const STUDENTS: usize = 1_000;

pub async fn measure(engine: &Engine, program: &Path, rounds: usize) -> Result<()> {
    let mut bare_table = Table::create(engine).await?;
    let mut broker_table = Table::create(engine).await?;
    broker_table
        .grow_to(2 * STUDENTS * rounds + STUDENTS)
        .await?;
    let brokers = [
        Broker::start(program, engine, &broker_table.name)?,
        Broker::start(program, engine, &broker_table.name)?,
    ];
    let (mut bare, mut brokered) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let first = bare_table.count();
        bare_table.grow_to(first + 2 * STUDENTS).await?;
        let load = Load {
            endpoint: engine.endpoint().to_owned(),
            table: bare_table.name.clone(),
            connections: STUDENTS,
            seconds: 0,
            first,
            end: first + 2 * STUDENTS,
            pairs: 0,
        };
        bare.push(load.measure()?);
        let mut students = Vec::with_capacity(STUDENTS);
        for number in 0..STUDENTS {
            students.push(Student::connect(&brokers[number % brokers.len()], number).await?);
        }
        // The first class warms up, as the first calls of the bare SDK do.
        let (students, _) = class(students, &format!("warm-up-{round}")).await?;
        brokered.push(class(students, &format!("class-{round}")).await?.1);
    }
    report::burst(&bare, &brokered);
    Ok(())
}

async fn class(students: Vec<Student>, run: &str) -> Result<(Vec<Student>, Outcome)> {
    let barrier = Arc::new(Barrier::new(students.len()));
    let mut tasks = JoinSet::new();
    for mut student in students {
        let barrier = Arc::clone(&barrier);
        let caller = format!("{run}-{}", student.number);
        tasks.spawn(async move {
            barrier.wait().await;
            let sent = Instant::now();
            let status = student.allocate(&caller).await?;
            let latency = sent.elapsed();
            ensure!(status == 201, "a student received the status {status}");
            Ok((student, latency))
        });
    }
    let mut latencies = Vec::new();
    let mut students = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (student, latency) = done??;
        latencies.push(micros(latency));
        students.push(student);
    }
    Ok((students, percentiles(&mut latencies)))
}

/// A student, whose connection is open before the class begins.
struct Student {
    number: usize,
    host: String,
    sender: http1::SendRequest<Body>,
}

impl Student {
    async fn connect(broker: &Broker, number: usize) -> Result<Self> {
        let host = broker
            .url
            .strip_prefix("http://")
            .context("no address")?
            .to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            number,
            host,
            sender,
        })
    }

    async fn allocate(&mut self, caller: &str) -> Result<u16> {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/allocate")
            .header("host", &self.host)
            .header("authorization", format!("Bearer {TRACK_TOKEN}"))
            .header(CALLER, caller)
            .body(Body::empty())?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status().as_u16();
        axum::body::to_bytes(Body::new(answer.into_body()), usize::MAX).await?;
        Ok(status)
    }
}
