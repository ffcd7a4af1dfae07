//! The burst part: a class of 1,000 concurrent requests on two brokers.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    bare::Load,
    broker::Broker,
    engine::Engine,
    outcome::{Outcome, micros, percentiles},
    report,
    student::{Student, allocate_concurrently},
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
    for broker in &brokers {
        broker.settle().await;
    }
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
            students.push(Student::connect(&brokers[number % brokers.len()]).await?);
        }
        // The first class warms up, as the first calls of the bare SDK do.
        let (students, _) = class(students, &format!("warm-up-{round}")).await?;
        brokered.push(class(students, &format!("class-{round}")).await?.1);
    }
    report::burst(&bare, &brokered);
    Ok(())
}

async fn class(students: Vec<Student>, run: &str) -> Result<(Vec<Student>, Outcome)> {
    let requests = students
        .into_iter()
        .enumerate()
        .map(|(number, student)| (student, format!("{run}-{number}")))
        .collect();
    let answers = allocate_concurrently(requests).await?;
    for answered in &answers {
        let status = answered.status;
        ensure!(status == 201, "a student received the status {status}");
    }
    let mut latencies: Vec<u64> = answers
        .iter()
        .map(|answered| micros(answered.latency()))
        .collect();
    let students = answers
        .into_iter()
        .map(|answered| answered.student)
        .collect();
    Ok((students, percentiles(&mut latencies)))
}
