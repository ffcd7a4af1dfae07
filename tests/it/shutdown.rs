//! The end of a broker: no client is left without an answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{BrokerProcess, Pool, Signal, TRACK, run_alone};

/// The number of clients of a burst.
const CLIENTS: usize = 600;
/// The number of requests that each client sends on its connection.
const REQUESTS: usize = 4;

/// How the connection of a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The broker did not listen any more.
    Refused,
    /// Every request was answered, the last one with `Connection: close` if there were to be more.
    Answered,
    /// The broker closed the connection before it had answered a request.
    Cut,
}

/// Sends requests of `caller` on one connection, one after another, until the broker closes it.
async fn client(address: SocketAddr, caller: String, answers: Arc<AtomicUsize>) -> End {
    let Ok(stream) = TcpStream::connect(address).await else {
        return End::Refused;
    };
    let mut stream = BufReader::new(stream);
    let request = format!(
        "POST /v1/allocate HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {TRACK}\r\n\
         X-Instruqt-Sandbox-ID: {caller}\r\nContent-Length: 0\r\n\r\n"
    );
    for _ in 0..REQUESTS {
        if stream.write_all(request.as_bytes()).await.is_err() {
            return End::Cut;
        }
        match answer(&mut stream).await {
            Some(is_last) => {
                answers.fetch_add(1, Ordering::Relaxed);
                if is_last {
                    break;
                }
            }
            None => return End::Cut,
        }
    }
    End::Answered
}

/// Reads an answer; returns whether it is the last one of its connection. `None` if it is incomplete.
async fn answer(stream: &mut BufReader<TcpStream>) -> Option<bool> {
    let (mut length, mut is_last, mut is_first_line) = (0, false, true);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if is_first_line {
            assert!(line.starts_with("HTTP/1.1 20"), "{line}");
            is_first_line = false;
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if line == "connection: close" {
            is_last = true;
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(is_last)
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_a_burst_leaves_no_accepted_client_without_an_answer() {
    let _alone = run_alone().await;
    let pool = Pool::of(CLIENTS).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[
        ("SHUTDOWN_TIMEOUT_SEC", "120"),
        ("ALLOCATE_TIMEOUT_MS", "25000"),
    ]);
    let mut broker = BrokerProcess::serve(directory.path(), &variables);
    let address = broker.client.base.trim_start_matches("http://");
    let address: SocketAddr = address.parse().unwrap();
    let answers = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| tokio::spawn(client(address, format!("play-{n}"), Arc::clone(&answers))))
        .collect();
    while answers.load(Ordering::Relaxed) < CLIENTS / 6 {
        tokio::task::yield_now().await;
    }
    broker.signal(Signal::TERM);
    let ends = join_all(clients).await;
    let count = |end| {
        let same = ends.iter().filter(|one| *one.as_ref().unwrap() == end);
        same.count()
    };
    assert_eq!(
        count(End::Cut),
        0,
        "of {CLIENTS}: {} answered, {} refused",
        count(End::Answered),
        count(End::Refused)
    );
    assert!(count(End::Answered) >= CLIENTS / 6);
    assert!(broker.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_serves_for_the_shutdown_delay_but_is_not_ready() {
    let pool = Pool::of(1).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[("SHUTDOWN_DELAY_SEC", "3")]);
    let mut broker = BrokerProcess::serve(directory.path(), &variables);
    assert_eq!(broker.client.plain("/readyz").await.status, 200);
    broker.signal(Signal::TERM);
    let began = Instant::now();
    broker.events_until(|event| event["message"] == "stopping");
    let ready = loop {
        let ready = broker.client.plain("/readyz").await;
        if ready.status != 200 {
            break ready;
        }
    };
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["checks"]["dynamodb"], "ok");
    assert_eq!(ready.json()["checks"]["shutdown"], "the broker is stopping");
    assert_eq!(broker.client.plain("/healthz").await.status, 200);
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    assert!(broker.wait().success());
    assert!(began.elapsed() >= Duration::from_secs(3));
}
