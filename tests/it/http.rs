//! Requests and answers of the API: headers, tokens, routes, bodies, request ids and the base path.

use std::{process::Command, time::Duration};

use reqwest::{Method, header::HeaderValue};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;

use crate::support::{ADMIN, Answer, BINARY, BrokerClient, BrokerProcess, Pool, TRACK};

/// Headers, the code of the error, and a part of its message.
type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a str, &'a str);

async fn broker() -> (Pool, crate::support::TestBroker) {
    let pool = Pool::of(5).await;
    let broker = pool.broker().await;
    (pool, broker)
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_invalid_header_has_a_message_of_its_own() {
    let (_pool, broker) = broker().await;
    let long = "x".repeat(257);
    let cases: [Case; 14] = [
        (&[], "MISSING_HEADER", "is missing"),
        (
            &[("X-Instruqt-Sandbox-ID", b"")],
            "MISSING_HEADER",
            "X-Instruqt-Sandbox-ID is empty",
        ),
        (
            &[("X-Track-ID", b"  ")],
            "MISSING_HEADER",
            "X-Track-ID is empty",
        ),
        (
            &[("X-Instruqt-Sandbox-ID", long.as_bytes())],
            "INVALID_HEADER",
            "257 characters; at most 256",
        ),
        (
            &[("X-Instruqt-Sandbox-ID", "caf\u{85}é".as_bytes())],
            "INVALID_HEADER",
            "position 4",
        ),
        (
            &[("X-Instruqt-Sandbox-ID", b"undefined")],
            "INVALID_HEADER",
            "would share one sandbox",
        ),
        (
            &[("X-Track-ID", b"${INSTRUQT_PARTICIPANT_ID}")],
            "INVALID_HEADER",
            "would share one sandbox",
        ),
        (
            &[
                ("X-Instruqt-Sandbox-ID", b"a"),
                ("X-Instruqt-Sandbox-ID", b"b"),
            ],
            "INVALID_HEADER",
            "more than once",
        ),
        (
            &[("X-Track-ID", b"p"), ("Idempotency-Key", long.as_bytes())],
            "INVALID_HEADER",
            "Idempotency-Key",
        ),
        (
            &[("X-Track-ID", b"p"), ("Idempotency-Key", b"a\tb")],
            "INVALID_HEADER",
            "Idempotency-Key",
        ),
        (
            &[
                ("X-Track-ID", b"p"),
                ("X-Instruqt-Track-ID", long.as_bytes()),
            ],
            "INVALID_HEADER",
            "X-Instruqt-Track-ID",
        ),
        (
            &[("X-Track-ID", b"p"), ("X-Instruqt-Track-ID", b"\xe2\x82")],
            "INVALID_HEADER",
            "X-Instruqt-Track-ID",
        ),
        (
            &[
                ("X-Track-ID", b"p"),
                ("X-Sandbox-Name-Prefix", long.as_bytes()),
            ],
            "INVALID_HEADER",
            "X-Sandbox-Name-Prefix",
        ),
        (
            &[("X-Track-ID", b"p"), ("X-Sandbox-Name-Prefix", b"a\tb")],
            "INVALID_HEADER",
            "X-Sandbox-Name-Prefix",
        ),
    ];
    for (headers, code, text) in cases {
        let mut request = broker
            .client
            .request(Method::POST, "/v1/allocate")
            .bearer_auth(TRACK);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let answer = broker.client.send(request).await;
        assert_eq!(error(&answer), (400, code.to_owned()), "{headers:?}");
        assert!(
            answer.message().contains(text),
            "{headers:?}: {}",
            answer.message()
        );
    }
    assert_eq!(
        broker.client.stats().await["available"],
        5,
        "no sandbox was allocated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_may_hold_any_printable_text() {
    let pool = Pool::with_names(["Lab Adventure é 1", "lab-2"]).await;
    let broker = pool.broker().await;
    let headers: [(&str, &[u8]); 4] = [
        (
            "X-Instruqt-Sandbox-ID",
            "Zoë <b>\"Doe\"</b>, =1+1".as_bytes(),
        ),
        ("X-Instruqt-Track-ID", b"Cloud Security 101"),
        // Latin-1.
        ("X-Sandbox-Name-Prefix", b"Lab Adventure \xE9"),
        ("Idempotency-Key", "null 学生".as_bytes()),
    ];
    for status in [201, 200] {
        let request = broker.client.request(Method::POST, "/v1/allocate");
        let request = headers
            .iter()
            .fold(request.bearer_auth(TRACK), |request, (name, value)| {
                request.header(*name, HeaderValue::from_bytes(value).unwrap())
            });
        let answer = broker.client.send(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["name"], "Lab Adventure é 1");
    }
    let path = "/v1/admin/sandboxes?q=cloud%20security";
    let listed = broker.client.admin(Method::GET, path).await.json();
    let sandbox = &listed["sandboxes"][0];
    assert_eq!(sandbox["allocated_to_track"], "Zoë <b>\"Doe\"</b>, =1+1");
    assert_eq!(sandbox["idempotency_key"], "null 学生");
    assert_eq!(sandbox["track_name"], "Cloud Security 101");
    let id = "Lab%20Adventure%20%C3%A9%201";
    let held = |method, path: &str| {
        let request = broker
            .client
            .request(method, &format!("/v1/sandboxes/{id}{path}"));
        let request = request.bearer_auth(TRACK);
        broker
            .client
            .send(request.header(headers[0].0, HeaderValue::from_bytes(headers[0].1).unwrap()))
    };
    assert_eq!(held(Method::GET, "").await.json()["status"], "allocated");
    assert_eq!(held(Method::POST, "/mark-for-deletion").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_caller_header_has_precedence_unless_it_is_empty() {
    let (_pool, broker) = broker().await;
    let send = async |pairs: &[(&str, &str)]| {
        let mut request = broker
            .client
            .request(Method::POST, "/v1/allocate")
            .bearer_auth(TRACK);
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        broker.client.send(request).await.sandbox_id()
    };
    let new = send(&[("X-Instruqt-Sandbox-ID", "new"), ("X-Track-ID", "old")]).await;
    assert_eq!(send(&[("X-Track-ID", "new")]).await, new);
    assert_ne!(send(&[("X-Track-ID", "old")]).await, new);
    assert_eq!(
        send(&[("X-Instruqt-Sandbox-ID", ""), ("X-Track-ID", " new ")]).await,
        new
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_the_token_has_a_message_of_its_own() {
    let (_pool, broker) = broker().await;
    let send = async |authorization: Option<&str>, method: Method, path: &str| {
        let mut request = broker
            .client
            .request(method, path)
            .header("X-Track-ID", "play-1");
        if let Some(value) = authorization {
            request = request.header("Authorization", value);
        }
        broker.client.send(request).await
    };
    let bearer = |token: &str| format!("Bearer {token}");
    for (authorization, text) in [
        (None, "is missing"),
        (Some("Basic dXNlcjpwYXNz".to_owned()), "another scheme"),
        (Some(TRACK.to_owned()), "another scheme"),
        (Some(bearer("")), "not valid"),
        (Some(bearer("wrong")), "not valid"),
        (Some(bearer(&TRACK[..TRACK.len() - 1])), "not valid"),
    ] {
        let answer = send(authorization.as_deref(), Method::POST, "/v1/allocate").await;
        assert_eq!(
            error(&answer),
            (401, "UNAUTHORIZED".into()),
            "{authorization:?}"
        );
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(
            answer.message().contains(text),
            "{authorization:?}: {}",
            answer.message()
        );
        assert!(!answer.text.contains(TRACK));
    }
    let wrong_role = [
        (ADMIN, Method::POST, "/v1/allocate"),
        (ADMIN, Method::GET, "/v1/sandboxes"),
        (ADMIN, Method::GET, "/v1/sandboxes/1"),
        (ADMIN, Method::POST, "/v1/sandboxes/1/mark-for-deletion"),
        (ADMIN, Method::POST, "/v1/sandboxes/1/extend"),
        (ADMIN, Method::POST, "/v1/sandboxes/1/replace"),
        (TRACK, Method::GET, "/v1/admin/stats"),
        (TRACK, Method::POST, "/v1/admin/sync"),
    ];
    for (token, method, path) in wrong_role {
        assert_eq!(
            error(&send(Some(&bearer(token)), method, path).await),
            (403, "FORBIDDEN".into()),
            "{path}"
        );
    }
    let lower_case = format!("bearer {TRACK}");
    assert_eq!(
        send(Some(&lower_case), Method::POST, "/v1/allocate")
            .await
            .status,
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tokens_may_be_valid_at_the_same_time() {
    let pool = Pool::of(2).await;
    let broker = pool
        .broker_with(&[("BROKER_API_TOKEN", "old-token, new-token")])
        .await;
    for (token, status) in [
        ("old-token", 201),
        ("new-token", 200),
        ("old-token, new-token", 401),
    ] {
        let request = broker
            .client
            .request(Method::POST, "/v1/allocate")
            .bearer_auth(token)
            .header("X-Track-ID", "p");
        assert_eq!(broker.client.send(request).await.status, status, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_have_the_usual_error_shape() {
    let (_pool, broker) = broker().await;
    for path in [
        "/nope",
        "/v1/nope",
        "/v1",
        "/v1/sandboxes/1/2/3",
        "//",
        "/v2/allocate",
    ] {
        assert_eq!(
            error(&broker.client.plain(path).await),
            (404, "NOT_FOUND".into()),
            "{path}"
        );
    }
    let request = broker
        .client
        .request(Method::DELETE, "/v1/allocate")
        .bearer_auth(TRACK);
    let answer = broker.client.send(request).await;
    assert_eq!(error(&answer), (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn body_is_limited_with_and_without_a_declared_length() {
    let (_pool, broker) = broker().await;
    let largest = broker
        .client
        .allocation("play-1")
        .body(vec![b'x'; 16 * 1024]);
    assert_eq!(broker.client.send(largest).await.status, 201);
    let declared = broker
        .client
        .allocation("play-2")
        .body(vec![b'x'; 16 * 1024 + 1]);
    assert_eq!(
        error(&broker.client.send(declared).await),
        (413, "PAYLOAD_TOO_LARGE".into())
    );
    let head = format!(
        "POST /v1/allocate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TRACK}\r\nX-Track-ID: p\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let chunks = format!(
        "4000\r\n{}\r\n4000\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0x4000),
        "x".repeat(0x4000)
    );
    let answer = raw(&broker.client, &format!("{head}{chunks}")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailing_slash_finds_its_route_without_a_redirect() {
    let (_pool, broker) = broker().await;
    let client = &broker.client;
    let request = client
        .request(Method::POST, "/v1/allocate/")
        .bearer_auth(TRACK)
        .header("X-Track-ID", "play-1");
    let allocated = client.send(request).await;
    assert_eq!(allocated.status, 201);
    let release = format!(
        "/v1/sandboxes/{}/mark-for-deletion/",
        allocated.sandbox_id()
    );
    let request = client
        .request(Method::POST, &release)
        .bearer_auth(TRACK)
        .header("X-Track-ID", "play-1");
    assert_eq!(client.send(request).await.status, 200);
    let stats = client.admin(Method::GET, "/v1/admin/stats/").await;
    assert_eq!(stats.json()["pending_deletion"], 1);
    let list = client
        .admin(Method::GET, "/v1/admin/sandboxes/?status=available&limit=2")
        .await;
    assert_eq!(list.json()["sandboxes"].as_array().unwrap().len(), 2);
    for path in [
        "/healthz/",
        "/readyz/",
        "/metrics/",
        "/v1/openapi.json/",
        "/dashboard/",
    ] {
        assert_eq!(client.plain(path).await.status, 200, "{path}");
    }
    let wrong_method = client.admin(Method::DELETE, "/v1/admin/stats/").await;
    assert_eq!(error(&wrong_method), (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(client.plain("/nope/").await.status, 404);
    let metrics = client.plain("/metrics").await.text;
    assert!(
        metrics.contains(r#"endpoint="/v1/allocate""#),
        "its own route"
    );
    assert!(
        !metrics.contains(r#"endpoint="/v1/allocate/""#),
        "{metrics}"
    );
}

async fn raw(client: &BrokerClient, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = client.base.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn safe_request_id_is_returned_and_any_other_is_replaced() {
    let (_pool, broker) = broker().await;
    let send = async |id: &str| {
        let request = broker
            .client
            .request(Method::GET, "/healthz")
            .header("X-Request-ID", id);
        broker
            .client
            .send(request)
            .await
            .header("x-request-id")
            .unwrap()
            .to_owned()
    };
    assert_eq!(send("trace-1.2:3").await, "trace-1.2:3");
    for id in ["a b", "{\"x\":1}", &"x".repeat(129)] {
        let answered = send(id).await;
        assert_ne!(answered, id);
        assert_eq!(answered.len(), 36, "a UUID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_root_require_no_token() {
    let (_pool, broker) = broker().await;
    let health = broker.client.plain("/healthz").await.json();
    assert_eq!(health["status"], "healthy");
    assert!(health["timestamp"].is_u64());
    let ready = broker.client.plain("/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["checks"]["dynamodb"]),
        (200, &"ok".into())
    );
    let root = broker.client.plain("/").await.json();
    assert_eq!(
        (&root["service"], &root["docs"]),
        (&"sandbox-broker".into(), &"/v1/docs".into())
    );
}

/// Waits until `/readyz` answers with a status, and returns its checks.
async fn checks_when_ready_is(client: &BrokerClient, status: u16) -> Value {
    loop {
        let answer = client.plain("/readyz").await;
        if answer.status == status {
            break answer.json()["checks"].take();
        }
        // The broker writes once in 10 s at most, independent of the number of requests.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_cannot_write_its_embedded_database_is_not_ready() {
    let data = tempfile::tempdir().unwrap();
    let mut shell = Command::new("/bin/sh");
    // The signal of a write beyond the limit below would end the broker.
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" serve", BINARY]);
    shell.env_clear().env("DATA_DIR", data.path());
    shell.envs([("PORT", "0"), ("LOG_FORMAT", "json")]);
    let broker = BrokerProcess::spawn(&mut shell, "listening");
    let client = &broker.client;
    assert_eq!(checks_when_ready_is(client, 200).await["disk"], "ok");
    // As on a full disk, every write to a file fails.
    let unlimited = getrlimit(Resource::Fsize);
    let full = Rlimit {
        current: Some(0),
        ..unlimited
    };
    prlimit(Some(broker.id()), Resource::Fsize, full).unwrap();
    let checks = checks_when_ready_is(client, 503).await;
    assert_eq!(checks["dynamodb"], "ok", "the database can still be read");
    let text = checks["disk"].as_str().unwrap();
    assert!(text.contains("DATA_DIR cannot be written"), "{text}");
    prlimit(Some(broker.id()), Resource::Fsize, unlimited).unwrap();
    assert_eq!(checks_when_ready_is(client, 200).await["disk"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn api_and_its_texts_move_with_the_base_path() {
    let pool = Pool::of(1).await;
    for base in ["/api/broker", "/"] {
        let broker = pool.broker_with(&[("API_BASE_PATH", base)]).await;
        let path = base.trim_end_matches('/');
        let request = broker
            .client
            .request(Method::POST, &format!("{path}/allocate"));
        let answer = broker
            .client
            .send(request.bearer_auth(TRACK).header("X-Track-ID", "p"))
            .await;
        assert!(answer.status.is_success(), "{answer:?}");
        let document = broker
            .client
            .plain(&format!("{path}/openapi.json"))
            .await
            .json();
        assert!(document["paths"][format!("{path}/allocate")].is_object());
        let run_not_found = &document["paths"][format!("{path}/admin/jobs/{{run_id}}")]["get"]["responses"]
            ["404"]["content"]["application/json"]["examples"]["RUN_NOT_FOUND"]["value"]["error"];
        assert_eq!(
            run_not_found["message"],
            format!("There is no such run; {path}/admin/jobs lists the recent ones.")
        );
        assert_eq!(
            document["components"]["schemas"]["ServiceBody"]["example"]["docs"],
            format!("{path}/docs")
        );
        assert!(!document.to_string().contains("base_path"));
        let to_root = "../".repeat(path.matches('/').count());
        assert_eq!(document["servers"][0]["url"], format!("./{to_root}"));
        let run = format!("{path}/admin/jobs/sync-1-2");
        for (answer, link) in [
            (broker.client.plain("/nowhere").await, "docs"),
            (
                broker
                    .client
                    .send(
                        broker
                            .client
                            .request(Method::DELETE, &format!("{path}/allocate")),
                    )
                    .await,
                "docs",
            ),
            (broker.client.admin(Method::GET, &run).await, "admin/jobs"),
        ] {
            assert!(
                answer.message().contains(&format!("; {path}/{link} lists")),
                "{answer:?}"
            );
        }
        assert_eq!(
            broker.client.plain(&format!("{path}/docs/")).await.status,
            200
        );
    }
}
