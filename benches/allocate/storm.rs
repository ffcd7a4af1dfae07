//! The retry storm: callers that send the same request to two brokers at the same time, as a client does whose first
//! request has timed out, beside as many callers that send one request each.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    broker::Broker,
    engine::Engine,
    report,
    student::{Answered, Student, allocate_concurrently, duration},
    table::Table,
};

const CALLERS: usize = 200;

pub async fn measure(engine: &Engine, program: &Path, rounds: usize) -> Result<()> {
    let mut table = Table::create(engine).await?;
    // Each round has a warm-up, both measurements, and spare sandboxes.
    table.grow_to(CALLERS * (3 * rounds + 2)).await?;
    let brokers = [
        Broker::start(program, engine, &table.name)?,
        Broker::start(program, engine, &table.name)?,
    ];
    for broker in &brokers {
        broker.settle().await;
    }
    let mut measured = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let mut students = Vec::with_capacity(2 * CALLERS);
        for number in 0..2 * CALLERS {
            students.push(Student::connect(&brokers[number % brokers.len()]).await?);
        }
        let (students, _) = send_twice(students, &format!("warm-up-{round}")).await?;
        let (once, twice) = (format!("once-{round}"), format!("twice-{round}"));
        // In turn, so that neither is always the one on the smaller pool.
        measured.push(if round % 2 == 0 {
            let (students, once) = send_once(students, &once).await?;
            (once, send_twice(students, &twice).await?.1)
        } else {
            let (students, twice) = send_twice(students, &twice).await?;
            (send_once(students, &once).await?.1, twice)
        });
    }
    report::storm(CALLERS, &measured);
    Ok(())
}

/// Sends a request of each caller, half of them to each broker. Returns the duration in seconds.
async fn send_once(mut students: Vec<Student>, run: &str) -> Result<(Vec<Student>, f64)> {
    let spare = students.split_off(CALLERS);
    let requests = students.into_iter().enumerate();
    let requests = requests.map(|(number, student)| (student, format!("{run}-{number}")));
    let answers = allocate_concurrently(requests.collect()).await?;
    for answered in &answers {
        let status = answered.status;
        ensure!(status == 201, "a caller received the status {status}");
    }
    let seconds = duration(&answers).as_secs_f64();
    Ok((students_of(answers).chain(spare).collect(), seconds))
}

/// Sends the request of each caller to both brokers. Returns the duration in seconds.
async fn send_twice(students: Vec<Student>, run: &str) -> Result<(Vec<Student>, f64)> {
    let requests = students.into_iter().enumerate();
    let requests = requests.map(|(number, student)| (student, format!("{run}-{}", number / 2)));
    let answers = allocate_concurrently(requests.collect()).await?;
    for pair in answers.chunks(2) {
        let caller = &pair[0].caller;
        ensure!(
            pair.iter().all(|a| a.sandbox_id == pair[0].sandbox_id),
            "{caller} received two sandboxes"
        );
        let statuses = [pair[0].status, pair[1].status];
        ensure!(
            matches!(statuses, [200, 201] | [201, 200]),
            "{caller} received the statuses {statuses:?}"
        );
    }
    let seconds = duration(&answers).as_secs_f64();
    Ok((students_of(answers).collect(), seconds))
}

fn students_of(answers: Vec<Answered>) -> impl Iterator<Item = Student> {
    answers.into_iter().map(|answered| answered.student)
}
