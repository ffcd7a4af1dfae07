//! Admission: rate limits, overload, slow clients, and headers for browsers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{Answer, BrokerClient, Pool, Proxy, TRACK, run_alone};

/// The number of concurrent requests in these tests.
const CONCURRENCY: usize = 100;

async fn burst(
    requests: usize,
    make: impl Fn(usize) -> reqwest::RequestBuilder,
    client: &BrokerClient,
) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(requests);
    for begin in (0..requests).step_by(CONCURRENCY) {
        let end = requests.min(begin + CONCURRENCY);
        answers.extend(join_all((begin..end).map(|n| client.send(make(n)))).await);
    }
    answers
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer
        .header(header)
        .unwrap_or_else(|| panic!("no {header}: {answer:?}"))
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_may_send_a_burst_and_then_its_rate() {
    let pool = Pool::of(2).await;
    let broker = pool
        .broker_with(&[("RATE_LIMIT_PER_SEC", "10"), ("RATE_LIMIT_BURST", "50")])
        .await;
    let client = &broker.client;
    let began = Instant::now();
    let answers = burst(100, |_| client.allocation("play-1"), client).await;
    // One request each 100 ms.
    let refill = usize::try_from(began.elapsed().as_millis().div_ceil(100)).unwrap();
    let (allowed, rejected): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|answer| answer.status.is_success());
    assert!(
        (50..=50 + refill).contains(&allowed.len()),
        "{} of 100, with a refill of at most {refill}",
        allowed.len()
    );
    for answer in &rejected {
        assert_eq!(answer.status, 429);
        assert_eq!(answer.code(), "RATE_LIMIT_EXCEEDED");
        assert_eq!(number(answer, "retry-after"), 1);
        assert_eq!(number(answer, "x-ratelimit-remaining"), 0);
    }
    for answer in &answers {
        assert_eq!(number(answer, "x-ratelimit-limit"), 50);
        assert!(number(answer, "x-ratelimit-reset") <= 5);
    }
    let mut remaining: Vec<_> = allowed
        .iter()
        .map(|answer| number(answer, "x-ratelimit-remaining"))
        .collect();
    remaining.sort_unstable();
    assert_eq!(remaining.last(), Some(&49));
    // Other callers, and admins, have quotas of their own.
    assert_eq!(client.allocate("play-2").await.status, 201);
    assert_eq!(
        client.admin(Method::GET, "/v1/admin/stats").await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn class_behind_one_address_is_not_rate_limited() {
    let _alone = run_alone().await;
    // More than there are callers: a repeated request beside its first one must not find the last sandbox reserved.
    let pool = Pool::of(1500).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let answers = burst(
        3000,
        |n| client.allocation(&format!("play-{}", n % 1000)),
        client,
    )
    .await;
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status.as_u16()).or_default() += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, 2000), (201, 1000)]));
}

#[tokio::test]
async fn wrong_tokens_are_limited_and_a_valid_one_is_admitted_meanwhile() {
    let pool = Pool::of(1).await;
    let broker = pool.broker_with(&[("TRUSTED_PROXY_HOPS", "1")]).await;
    let client = &broker.client;
    let guess = |from: &str, token: &str| {
        client.send(
            client
                .request(Method::GET, "/v1/sandboxes")
                .bearer_auth(token)
                .header("X-Instruqt-Sandbox-ID", "play-1")
                // The client itself sends the first address; only the second one is from the proxy.
                .header("X-Forwarded-For", format!("203.0.113.9, {from}")),
        )
    };
    // A script that repeats an old token.
    for _ in 0..60 {
        assert_eq!(guess("198.51.100.1", "old-token").await.status, 401);
    }
    assert_eq!(guess("198.51.100.1", TRACK).await.status, 200);
    // A client that guesses.
    let mut tried = 0;
    let rejected = loop {
        let answer = guess("198.51.100.2", &format!("guess-{tried}")).await;
        if answer.status != 401 {
            break answer;
        }
        assert_eq!(number(&answer, "x-ratelimit-limit"), 4000);
        tried += 1;
    };
    assert_eq!(rejected.code(), "RATE_LIMIT_EXCEEDED");
    assert!((20..60).contains(&tried), "{tried}");
    // The rate stays low: 5 more guesses a second, for any number of requests.
    let (began, mut checked) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(2) {
        for n in 0..10 {
            let token = format!("more-{:?}-{n}", began.elapsed());
            checked += usize::from(guess("198.51.100.2", &token).await.status == 401);
        }
    }
    assert!(checked <= 12, "{checked} guesses in 2 s");
    // A valid token is admitted there, although the address has not used it before.
    assert_eq!(guess("198.51.100.2", TRACK).await.status, 200);
    assert_eq!(guess("198.51.100.2", "one-more").await.status, 429);
    // Other addresses are not affected.
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(guess("198.51.100.3", TRACK).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200]);
    let metrics = client.plain("/metrics").await.text;
    assert!(!metrics.contains("broker_rate_limited_total{limit=\"address\"} 0\n"));
}

/// The number of wrong tokens that the clients of the next test send.
const GUESSES: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn class_is_admitted_directly_after_a_start_while_its_address_guesses() {
    let _alone = run_alone().await;
    let pool = Pool::of(50).await;
    // Behind a proxy that is not trusted: all clients have one address.
    let broker = pool.broker_with(&[("TRUSTED_PROXY_HOPS", "0")]).await;
    let client = &broker.client;
    let guess = |n: usize| {
        client
            .request(Method::POST, "/v1/allocate")
            .bearer_auth(format!("guess-{n}"))
            .header("X-Instruqt-Sandbox-ID", "guesser")
    };
    let guesses = burst(GUESSES, guess, client);
    let class = async {
        let mut answers = Vec::new();
        for n in 0..50 {
            answers.push(client.allocate(&format!("play-{n}")).await.status.as_u16());
        }
        answers
    };
    let (guesses, class) = tokio::join!(guesses, class);
    assert_eq!(class, [201; 50]);
    let checked = guesses.iter().filter(|answer| answer.status == 401).count();
    assert!(
        checked < GUESSES / 10,
        "{checked} of {GUESSES} guesses were checked"
    );
    assert!(
        guesses
            .iter()
            .all(|answer| matches!(answer.status.as_u16(), 401 | 429))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_that_is_not_trusted_is_logged_once() {
    let pool = Pool::of(1).await;
    let directory = tempfile::tempdir().unwrap();
    let mut broker = crate::support::BrokerProcess::serve(directory.path(), &pool.variables(&[]));
    for _ in 0..3 {
        let request = broker.client.request(Method::GET, "/healthz");
        let request = request.header("X-Forwarded-For", "198.51.100.7");
        broker.client.send(request).await;
    }
    broker.signal(crate::support::Signal::TERM);
    let events = broker.events_until(|event| event["message"] == "stopped");
    assert!(broker.wait().success());
    let warnings = events.iter().filter(|event| {
        let text = event["message"].as_str().unwrap();
        event["level"] == "WARN" && text.contains("TRUSTED_PROXY_HOPS is 0")
    });
    assert_eq!(warnings.count(), 1, "{events:?}");
}

#[tokio::test]
async fn client_cannot_choose_its_address_without_trusted_proxies() {
    let pool = Pool::of(1).await;
    let broker = pool
        .broker_with(&[
            ("RATE_LIMIT_ADDRESS_BURST", "3"),
            ("RATE_LIMIT_ADDRESS_PER_SEC", "1"),
        ])
        .await;
    let client = &broker.client;
    let mut statuses = Vec::new();
    for n in 0..5 {
        let request = client
            .request(Method::GET, "/v1/sandboxes")
            .header("X-Forwarded-For", format!("198.51.100.{n}"));
        statuses.push(client.send(request).await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(client.plain(path).await.status, 200, "{path}");
    }
    for path in ["/v1/openapi.json", "/v1/docs/", "/v1/nowhere"] {
        assert_eq!(client.plain(path).await.status, 429, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn excess_concurrent_requests_are_shed_and_health_answers() {
    let pool = Pool::of(10).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool
        .broker_with(&[
            ("DDB_ENDPOINT_URL", &proxy.endpoint()),
            ("MAX_IN_FLIGHT", "4"),
        ])
        .await;
    let client = broker.client.clone();
    let gate = proxy.hold_operation("TransactWriteItems");
    let waiting: Vec<_> = (0..4)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.allocate(&format!("play-{n}")).await })
        })
        .collect();
    while !client
        .plain("/metrics")
        .await
        .text
        .contains("broker_requests_in_flight 5\n")
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = Instant::now();
    let shed = client.allocate("play-5").await;
    assert_eq!(shed.status, 503);
    assert_eq!(shed.code(), "OVERLOADED");
    assert_eq!(shed.header("retry-after"), Some("1"));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(client.plain("/healthz").await.status, 200);
    assert!(
        client
            .plain("/metrics")
            .await
            .text
            .contains("broker_shed_requests_total 1\n")
    );
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 201);
    }
    assert_eq!(client.allocate("play-5").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_occupy_no_slots() {
    let pool = Pool::of(10).await;
    let broker = pool.broker_with(&[("MAX_IN_FLIGHT", "2")]).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(broker.running.address()).await.unwrap();
        let head = format!(
            "POST /v1/allocate HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TRACK}\r\n\
             X-Track-ID: slow\r\nContent-Length: 100\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for n in 0..10 {
        let answer = broker.client.allocate(&format!("play-{n}")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    // The slow clients receive an error after the time-out.
    let mut answer = [0; 4096];
    let length = slow[0].read(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer[..length]);
    assert!(text.contains("REQUEST_TIMEOUT"), "{text}");
}

#[tokio::test]
async fn every_answer_has_security_headers() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let answers = [
        client.allocate("play-1").await,
        client.plain("/v1/sandboxes").await,
        client.plain("/v1/nowhere").await,
        client.plain("/healthz").await,
        client.plain("/metrics").await,
        client.plain("/v1/openapi.json").await,
        client.plain("/v1/docs/").await,
        client.admin(Method::DELETE, "/v1/admin/stats").await,
    ];
    for answer in &answers {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        assert!(answer.header("permissions-policy").is_some(), "{answer:?}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("script-src 'self' 'unsafe-inline'"));
    }
    for answer in answers.iter().filter(|answer| {
        answer
            .header("content-type")
            .is_some_and(|kind| kind == "application/json")
            && answer.status != 200
    }) {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(answers[0].header("cache-control"), Some("no-store"));
}

fn preflight(client: &BrokerClient, origin: &str) -> reqwest::RequestBuilder {
    client
        .request(Method::OPTIONS, "/v1/allocate")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header(
            "Access-Control-Request-Headers",
            "authorization,x-instruqt-sandbox-id",
        )
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_call() {
    let pool = Pool::of(1).await;
    let broker = pool
        .broker_with(&[("CORS_ALLOWED_ORIGINS", "https://ops.example.com")])
        .await;
    let client = &broker.client;
    let allowed = client
        .send(preflight(client, "https://ops.example.com"))
        .await;
    assert_eq!(allowed.status, 200);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://ops.example.com")
    );
    assert_eq!(
        allowed.header("access-control-allow-methods"),
        Some("GET,POST,PUT,DELETE")
    );
    assert_eq!(allowed.header("access-control-max-age"), Some("3600"));
    let headers = allowed.header("access-control-allow-headers").unwrap();
    for name in [
        "authorization",
        "content-type",
        "x-track-id",
        "x-instruqt-sandbox-id",
        "x-instruqt-track-id",
        "x-sandbox-name-prefix",
        "idempotency-key",
        "prefer",
        "if-match",
    ] {
        assert!(headers.split(',').any(|known| known == name), "{name}");
    }
    let other = client
        .send(preflight(client, "https://evil.example.com"))
        .await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    // The page may read answers, including errors, with the headers that it needs.
    let call = client
        .request(Method::GET, "/v1/sandboxes")
        .header("Origin", "https://ops.example.com");
    let answer = client.send(call).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://ops.example.com")
    );
    let exposed = answer.header("access-control-expose-headers").unwrap();
    for name in [
        "x-request-id",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "retry-after",
        "location",
        "etag",
    ] {
        assert!(exposed.split(',').any(|known| known == name), "{name}");
    }
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn any_origin_may_be_allowed_but_none_is_by_default() {
    let pool = Pool::of(1).await;
    let closed = pool.broker().await;
    let answer = closed
        .client
        .send(preflight(&closed.client, "https://ops.example.com"))
        .await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let open = pool.broker_with(&[("CORS_ALLOWED_ORIGINS", "*")]).await;
    let answer = open
        .client
        .send(preflight(&open.client, "https://ops.example.com"))
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

/// Numbers of open connections. Each is an open file of this process and one of the broker.
const STEPS: [usize; 3] = [1_000, 4_000, 10_000];

#[tokio::test(flavor = "multi_thread")]
async fn allocations_succeed_beside_thousands_of_silent_or_incomplete_connections() {
    let pool = Pool::of(100).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[]);
    let broker = crate::support::BrokerProcess::serve(directory.path(), &variables);
    let address = broker
        .client
        .base
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    sandbox_broker::http::server::raise_file_limit();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    let mut idle = Vec::new();
    for (step, connections) in STEPS.into_iter().enumerate() {
        if connections as u64 + 1_000 > files {
            eprintln!(
                "this machine allows {files} open files: stopped at {} connections",
                idle.len()
            );
            break;
        }
        while idle.len() < connections {
            // Two addresses: one may not have all connections.
            let socket = TcpSocket::new_v4().unwrap();
            let host = [127, 0, 0, 1 + u8::from(idle.len() % 4 < 2)];
            socket.bind((host, 0).into()).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            if idle.len() % 2 == 0 {
                stream
                    .write_all(b"POST /v1/allocate HTTP/1.1\r\nHost: a\r\n")
                    .await
                    .unwrap();
            }
            idle.push(stream);
        }
        for n in 0..10 {
            let began = Instant::now();
            let answer = broker.client.allocate(&format!("play-{step}-{n}")).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            assert!(began.elapsed() < Duration::from_secs(5));
        }
    }
    // The broker closes silent connections after a time-out; the first one has been silent the longest.
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(30), idle[0].read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "a silent client keeps its connection");
}
