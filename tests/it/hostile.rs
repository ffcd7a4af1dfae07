//! Requests with arbitrary bytes, sent to a running broker.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use proptest::{
    collection,
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};

use crate::support::{ADMIN, Pool, TRACK};

const CASES: u32 = 1000;
/// The longest time that any request may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Without `Content-Length`: the broker rightly waits for a missing body.
const HEADERS: [&str; 14] = [
    "Authorization",
    "X-Instruqt-Sandbox-ID",
    "X-Track-ID",
    "X-Instruqt-Track-ID",
    "X-Sandbox-Name-Prefix",
    "Idempotency-Key",
    "X-Forwarded-For",
    "X-Request-ID",
    "traceparent",
    "tracestate",
    "Prefer",
    "Origin",
    "Content-Type",
    "Expect",
];

const TARGETS: [&str; 11] = [
    "POST /v1/allocate",
    "GET /v1/sandboxes",
    "GET /v1/sandboxes/lab-adventure-0001",
    "POST /v1/sandboxes/lab-adventure-0001/mark-for-deletion",
    "POST /v1/sandboxes/lab-adventure-0001/extend",
    "POST /v1/sandboxes/lab-adventure-0001/replace",
    "GET /v1/admin/sandboxes?status=available&cursor=",
    "GET /v1/admin/sandboxes?q=",
    "GET /v1/admin/jobs/",
    "POST /v1/admin/bulk-delete?status=",
    "OPTIONS /v1/allocate",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => collection::vec(any::<u8>(), 0..200),
        8 => "[!-~]{0,200}".prop_map(String::into_bytes),
        4 => "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}".prop_map(String::into_bytes),
        1 => Just(vec![b'a'; 9_000]),
        1 => Just(vec![0xFF; 100_000]),
    ]
}

/// A request line, with valid headers or none, and arbitrary headers.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop_oneof![5 => Just(Vec::new()), 1 => value()];
    let headers = collection::vec((select(HEADERS.to_vec()), value()), 0..4);
    let body = prop_oneof![5 => Just(Vec::new()), 1 => value()];
    (select(TARGETS.to_vec()), tail, any::<bool>(), headers, body).prop_map(
        |(target, tail, has_valid_headers, headers, body)| {
            let mut bytes = [target.as_bytes(), &tail, b" HTTP/1.1\r\nHost: broker\r\n"].concat();
            if has_valid_headers {
                let token = if target.contains("admin") {
                    ADMIN
                } else {
                    TRACK
                };
                bytes.extend(format!("Authorization: Bearer {token}\r\n").bytes());
                bytes.extend(b"X-Instruqt-Sandbox-ID: play-1\r\n");
            }
            // The valid headers are not sent twice.
            let is_sent = |name: &str| has_valid_headers && HEADERS[..2].contains(&name);
            for (name, value) in headers.into_iter().filter(|(name, _)| !is_sent(name)) {
                bytes.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
            }
            bytes.extend(b"Connection: close\r\n\r\n");
            bytes.extend(body);
            bytes
        },
    )
}

/// Returns the first line of the answer; empty if the broker closes the connection.
async fn send(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    // The broker may close the connection before the request is complete.
    let _ = stream.write_all(request).await;
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn arbitrary_bytes_in_requests_do_not_harm_the_broker() {
    let runtime = Runtime::new().unwrap();
    let (pool, broker) = runtime.block_on(async {
        let pool = Pool::of(CASES as usize + 5).await;
        let broker = pool
            .broker_with(&[
                ("RATE_LIMIT_PER_SEC", "100000"),
                ("RATE_LIMIT_BURST", "1000000"),
                ("TRUSTED_PROXY_HOPS", "1"),
            ])
            .await;
        (pool, broker)
    });
    let address = broker.client.base.trim_start_matches("http://").to_owned();
    let classes = RefCell::new(BTreeMap::<String, u32>::new());
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&request(), |request| {
            let answer = runtime.block_on(async {
                // The time-out needs the clock of the runtime.
                timeout(TIME_LIMIT, send(&address, &request)).await
            });
            let line = answer.map_err(|_| TestCaseError::fail("no answer in time"))?;
            let is_fine = line.is_empty()
                || ["2", "4"]
                    .iter()
                    .any(|class| line.starts_with(&format!("HTTP/1.1 {class}")));
            prop_assert!(is_fine, "{line}");
            let class = line.chars().take("HTTP/1.1 4".len()).collect();
            *classes.borrow_mut().entry(class).or_default() += 1;
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        for n in 0..5 {
            let answer = broker.client.allocate(&format!("after-{n}")).await;
            assert_eq!(answer.status, 201, "the broker still serves: {answer:?}");
        }
        // One for each caller; the arbitrary requests may have allocated others.
        let holdings = pool.holdings().await;
        assert!(
            (0..5).all(|n| holdings[&format!("after-{n}")].len() == 1),
            "{holdings:?}"
        );
    });
    let classes = classes.into_inner();
    let (served, rejected) = (classes["HTTP/1.1 2"], classes["HTTP/1.1 4"]);
    assert!(
        served > 10 && rejected > 10,
        "requests of both kinds: {classes:?}"
    );
}
