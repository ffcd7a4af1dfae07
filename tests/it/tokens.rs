//! Named tokens: creation, use, bounds, expiry and revocation, on one broker and on two.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    ADMIN, Answer, BrokerClient, BrokerProcess, Pool, Proxy, START, TRACK, TestBroker, audit, key,
    laptop,
    proxy::{Call, Fault},
    run_alone,
};

const TOKENS: &str = "/v1/admin/tokens";
const ME: &str = "/v1/admin/me";
/// Within this time a revocation is in force on every broker.
const IN_FORCE: Duration = Duration::from_secs(30);

async fn send(client: &BrokerClient, method: Method, path: &str, token: &str) -> Answer {
    client
        .send(client.request(method, path).bearer_auth(token))
        .await
}

async fn create_as(client: &BrokerClient, admin: &str, body: &Value) -> Answer {
    let request = client.request(Method::POST, TOKENS).bearer_auth(admin);
    client.send(request.json(body)).await
}

/// Creates a token that must be created; returns its id and its secret.
async fn create(client: &BrokerClient, body: &Value) -> (String, String) {
    let answer = create_as(client, ADMIN, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let body = answer.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&body["token"]["token_id"]), text(&body["secret"]))
}

async fn revoke(client: &BrokerClient, id: &str) -> Answer {
    client
        .admin(Method::DELETE, &format!("{TOKENS}/{id}"))
        .await
}

async fn list(client: &BrokerClient) -> Vec<Value> {
    let answer = client.admin(Method::GET, TOKENS).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["tokens"].as_array().unwrap().clone()
}

/// Whether a call reads the named tokens.
fn reads_tokens(call: &Call) -> bool {
    call.operation == "Query"
        && call.json()["ExpressionAttributeValues"][":tokens"]["S"] == "TOKENS"
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_created_used_and_listed_without_its_secret() {
    let pool = Pool::of(1).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let body = json!({ "name": " lab team ", "role": "viewer", "expires_at": START.0 + 3600 });
    let answer = create_as(client, ADMIN, &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let created = answer.json();
    let id = created["token"]["token_id"].as_str().unwrap();
    let secret = created["secret"].as_str().unwrap();
    assert!(secret.starts_with(&format!("sbt_{id}_")), "{secret}");
    assert_eq!(secret.len(), 70);
    let expected = json!({
        "token_id": id, "name": "lab team", "role": "viewer", "labs": [], "name_prefixes": [],
        "created_by": "env-admin", "created_at": START.0, "expires_at": START.0 + 3600, "revoked_at": null,
        "revoked_by": null, "last_used_at": null
    });
    assert_eq!(created["token"], expected);
    assert_eq!(list(client).await, [expected]);
    let me = send(client, Method::GET, ME, secret).await.json();
    let expected = json!({
        "name": "lab team", "role": "viewer", "signed_in_by": "token", "token_id": id,
        "expires_at": START.0 + 3600
    });
    assert_eq!(me, expected);
    let me = send(client, Method::GET, ME, ADMIN).await.json();
    let expected = json!({
        "name": "env-admin", "role": "admin", "signed_in_by": "token", "token_id": null, "expires_at": null
    });
    assert_eq!(me, expected);
    assert_eq!(
        send(client, Method::GET, ME, TRACK).await.code(),
        "FORBIDDEN"
    );

    let records = audit::done_actions(&pool, "token.create").await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["actor"], "env-admin");
    assert_eq!(records[0]["target"], format!("token/{id}"));
    let stored = format!("{:?}", pool.items().await);
    let random = secret.rsplit('_').next().unwrap();
    assert!(!stored.contains(random), "the secret is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_token_made_here_creates_and_revokes_tokens() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let (_, admin) = create(client, &json!({ "name": "chief", "role": "admin" })).await;
    let answer = create_as(
        client,
        &admin,
        &json!({ "name": "second", "role": "admin" }),
    )
    .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let token = &answer.json()["token"];
    assert_eq!(token["created_by"], "chief");
    let path = format!("{TOKENS}/{}", token["token_id"].as_str().unwrap());
    let revoked = send(client, Method::DELETE, &path, &admin).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    assert_eq!(revoked.json()["revoked_by"], "chief");
    // Of several admins none sees the secrets of the others.
    let (_, operator) = create(client, &json!({ "name": "ops", "role": "operator" })).await;
    let refused = create_as(client, &operator, &json!({ "name": "x", "role": "track" })).await;
    assert_eq!(refused.code(), "FORBIDDEN");
    assert!(refused.message().contains("role admin"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_request_is_refused_with_its_fault() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let labs: Vec<_> = (0..51).map(|n| format!("lab-{n}")).collect();
    for (body, fault) in [
        (json!({}), "missing field `name`"),
        (json!({ "name": "x" }), "missing field `role`"),
        (
            json!({ "name": "x", "role": "owner" }),
            "role: unknown variant `owner`",
        ),
        (json!({ "name": "", "role": "viewer" }), "name is empty"),
        (
            json!({ "name": "a\nb", "role": "viewer" }),
            "name has a control character",
        ),
        (
            json!({ "name": "x".repeat(65), "role": "viewer" }),
            "name has 65 characters",
        ),
        (
            json!({ "name": "env-track", "role": "track" }),
            "name must not begin with env-",
        ),
        (
            json!({ "name": "jo@example.com", "role": "admin" }),
            "name must not contain @",
        ),
        (
            json!({ "name": "cleanup", "role": "admin" }),
            "name must not be the name of a job",
        ),
        (
            json!({ "name": "x", "role": "viewer", "labs": ["a"] }),
            "only tokens with the role track",
        ),
        (
            json!({ "name": "x", "role": "track", "labs": ["a", " "] }),
            "labs[1] is empty",
        ),
        (
            json!({ "name": "x", "role": "track", "labs": labs }),
            "labs has 51 entries",
        ),
        (
            json!({ "name": "x", "role": "track", "name_prefixes": [7] }),
            "name_prefixes[0]",
        ),
        (
            json!({ "name": "x", "role": "track", "expires_at": START.0 }),
            "not in the future",
        ),
        (
            json!({ "name": "x", "role": "track", "expires_at": START.0 * 1000 }),
            "five years",
        ),
        // A misspelt expiry must not create a token that never expires.
        (
            json!({ "name": "x", "role": "track", "expires": START.0 + 1 }),
            "unknown field `expires`",
        ),
    ] {
        let answer = create_as(&broker.client, ADMIN, &body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.code(), "INVALID_BODY", "{body}");
        assert!(
            answer.message().contains(fault),
            "{body}: {}",
            answer.message()
        );
    }
    assert!(list(&broker.client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn name_belongs_to_one_live_token() {
    let pool = Pool::new().await;
    let (one, other) = (pool.broker().await, pool.broker().await);
    let body = json!({ "name": "team", "role": "viewer", "expires_at": START.0 + 60 });
    let answers = join_all((0..20).map(|n| {
        let client = if n % 2 == 0 {
            &one.client
        } else {
            &other.client
        };
        create_as(client, ADMIN, &body)
    }))
    .await;
    let (created, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(created.len(), 1);
    for answer in refused {
        assert_eq!(answer.status, 409, "{answer:?}");
        assert_eq!(answer.code(), "TOKEN_NAME_TAKEN");
    }
    assert_eq!(audit::done_actions(&pool, "token.create").await.len(), 1);
    assert_eq!(list(&one.client).await.len(), 1);

    // Expired: the name is free for another one, which a revocation of the first one does not touch.
    let first = created[0].json()["token"]["token_id"]
        .as_str()
        .unwrap()
        .to_owned();
    one.clock.advance(Duration::from_mins(1));
    let (second, _) = create(&one.client, &json!({ "name": "team", "role": "viewer" })).await;
    assert_eq!(revoke(&one.client, &first).await.status, 200);
    let body = json!({ "name": "team", "role": "viewer" });
    let third = create_as(&one.client, ADMIN, &body).await;
    assert_eq!(third.code(), "TOKEN_NAME_TAKEN");
    // Revoked: the name is free at once.
    assert_eq!(revoke(&one.client, &second).await.status, 200);
    create(&one.client, &body).await;
    assert_eq!(list(&one.client).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answer_to_a_creation_does_not_refuse_it() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    proxy.inject_once("TransactWriteItems", Fault::DropAnswer);
    let body = json!({ "name": "team", "role": "viewer" });
    let (_, secret) = create(&broker.client, &body).await;
    assert_eq!(
        send(&broker.client, Method::GET, ME, &secret).await.status,
        200
    );
    assert_eq!(audit::done_actions(&pool, "token.create").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_again_changes_nothing_and_is_recorded_once() {
    let pool = Pool::new().await;
    let (one, other) = (pool.broker().await, pool.broker().await);
    let (id, secret) = create(&one.client, &json!({ "name": "team", "role": "admin" })).await;
    let answers = join_all((0..10).map(|n| {
        let client = if n % 2 == 0 {
            &one.client
        } else {
            &other.client
        };
        revoke(client, &id)
    }))
    .await;
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["revoked_by"], "env-admin");
    }
    one.clock.advance(Duration::from_mins(1));
    assert_eq!(revoke(&one.client, &id).await.json()["revoked_at"], START.0);
    assert_eq!(audit::done_actions(&pool, "token.revoke").await.len(), 1);
    let answer = send(&one.client, Method::GET, ME, &secret).await;
    assert_eq!(answer.code(), "UNAUTHORIZED");
    for id in ["0000000000000000", "nonsense", "%ff", &id[1..]] {
        assert_eq!(
            revoke(&one.client, id).await.code(),
            "TOKEN_NOT_FOUND",
            "{id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_that_began_before_a_revocation_does_not_undo_it() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    let client = broker.client.clone();
    let (id, secret) = create(&client, &json!({ "name": "team", "role": "viewer" })).await;
    // A read of the tokens has a second page.
    join_all((0..1000).map(|n| {
        let key = key("TOKENS", &format!("x{n}"));
        pool.rewrite(&pool.companion, key, &[])
    }))
    .await;
    let gate =
        proxy.hold(|call| reads_tokens(call) && call.json()["ExclusiveStartKey"].is_object());
    gate.wait_for_one().await;
    let revoked = tokio::spawn(async move { revoke(&client, &id).await });
    while audit::done_actions(&pool, "token.revoke").await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gate.open();
    assert_eq!(revoked.await.unwrap().status, 200);
    proxy.until_quiet().await;
    let refused = send(&broker.client, Method::GET, ME, &secret).await;
    assert_eq!(refused.status, 401, "{refused:?}");
}

/// Also if the other broker's first read after the revocation fails.
#[tokio::test(flavor = "multi_thread")]
async fn new_token_works_at_once_and_a_revoked_one_ends_in_time_on_another_broker() {
    let pool = Pool::new().await;
    let here = pool.broker().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let there = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    let (id, secret) = create(&here.client, &json!({ "name": "team", "role": "viewer" })).await;
    for broker in [&here, &there] {
        assert_eq!(
            send(&broker.client, Method::GET, ME, &secret).await.status,
            200
        );
    }
    let gate = proxy.hold(reads_tokens);
    gate.wait_for_one().await;
    let revoked = Instant::now();
    assert_eq!(revoke(&here.client, &id).await.status, 200);
    while !metrics(&there)
        .await
        .contains("broker_token_refreshes_total{outcome=\"error\"} 1\n")
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(revoked.elapsed() < IN_FORCE, "the read did not fail");
    }
    gate.open();
    while send(&there.client, Method::GET, ME, &secret).await.status == 200 {
        assert!(revoked.elapsed() < IN_FORCE, "the token is still valid");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("in force on the other broker after {:?}", revoked.elapsed());
    assert!(revoked.elapsed() < IN_FORCE);
    let refused = send(&here.client, Method::GET, ME, &secret).await;
    assert_eq!(refused.status, 401, "{refused:?}");
}

async fn metrics(broker: &TestBroker) -> String {
    broker.client.plain("/metrics").await.text
}

#[tokio::test(flavor = "multi_thread")]
async fn token_expires_by_the_clock_of_the_broker() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let body = json!({ "name": "team", "role": "viewer", "expires_at": START.0 + 60 });
    let (_, secret) = create(&broker.client, &body).await;
    broker.clock.advance(Duration::from_secs(59));
    assert_eq!(
        send(&broker.client, Method::GET, ME, &secret).await.status,
        200
    );
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(
        send(&broker.client, Method::GET, ME, &secret).await.status,
        401
    );
}

/// Returns a token of the right form and checksum that nobody created.
fn invented(number: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let text = format!("sbt_{number:016x}_{number:043}");
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut checksum = Vec::new();
    for _ in 0..6 {
        checksum.push(char::from(DIGITS[(rest % 62) as usize]));
        rest /= 62;
    }
    text + &checksum.iter().rev().collect::<String>()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_token_has_the_same_answer() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let (revoked, of_revoked) = create(client, &json!({ "name": "a", "role": "viewer" })).await;
    revoke(client, &revoked).await;
    let body = json!({ "name": "b", "role": "viewer", "expires_at": START.0 + 1 });
    let (_, expired) = create(client, &body).await;
    let (_, live) = create(client, &json!({ "name": "c", "role": "viewer" })).await;
    broker.clock.advance(Duration::from_secs(1));
    // Whichever its last character is.
    let malformed = format!("{live}x");
    let tokens = [
        of_revoked,
        expired,
        invented(7),
        malformed,
        "sbt_".to_owned(),
        "x".to_owned(),
    ];
    let answers = join_all(
        tokens
            .iter()
            .map(|token| send(client, Method::GET, ME, token)),
    )
    .await;
    for (token, answer) in tokens.iter().zip(answers) {
        assert_eq!(answer.status, 401, "{token}: {answer:?}");
        assert_eq!(
            answer.message(),
            "The token is not valid; ask the operator for a current one. This endpoint requires the role viewer.",
            "{token}"
        );
    }
}

/// A third of them are wrong in their form, a third in their checksum, and a third have both right.
#[tokio::test(flavor = "multi_thread")]
async fn million_wrong_tokens_cost_neither_memory_nor_reads() {
    const WRONG: u64 = 1_000_000;
    const WAITING: u64 = 20_000;
    let _alone = run_alone().await;
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    let auth = broker.running.app().state().auth.clone();
    let (began, before) = (Instant::now(), resident_memory());
    proxy.take_calls();
    let threads = 4;
    join_all((0..threads).map(|thread| {
        let auth = auth.clone();
        tokio::spawn(async move {
            for number in (thread..WRONG).step_by(4) {
                let token = invented(number);
                match number % 3 {
                    // Wrong in their form or checksum, they do not even wait.
                    0 => assert!(auth.principal_after_refresh(&token[..69]).await.is_none()),
                    1 => {
                        let wrong = token.replacen("_0", "_1", 2);
                        assert!(auth.principal_after_refresh(&wrong).await.is_none());
                    }
                    _ => {
                        assert!(auth.principal_of(&token).is_none());
                        auth.request_refresh(&token);
                    }
                }
            }
        })
    }))
    .await
    .into_iter()
    .for_each(Result::unwrap);
    let tokens: Vec<_> = (0..WAITING).map(invented).collect();
    let found = join_all(
        tokens
            .iter()
            .map(|token| auth.principal_after_refresh(token)),
    )
    .await;
    assert!(found.iter().all(Option::is_none));
    let took = began.elapsed();
    let reads = proxy.take_calls().get("Query").copied().unwrap_or(0);
    // At most one read in five seconds, and those of the candidate index and the counts.
    let allowed = 10 + took.as_secs() / 2;
    println!("{WRONG} wrong tokens in {took:?}: {reads} queries");
    assert!(reads as u64 <= allowed, "{reads} queries in {took:?}");
    let grown = resident_memory().saturating_sub(before);
    // Those of the waiting requests themselves, which are gone by now, and other tests.
    println!("memory grew by {} MiB", grown >> 20);
    assert!(grown < 200 << 20, "{grown}");
    assert_eq!(
        send(&broker.client, Method::GET, ME, ADMIN).await.status,
        200
    );
}

fn resident_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<usize> = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_stay_valid_for_15_minutes_while_the_table_cannot_be_read() {
    let pool = Pool::new().await;
    let mut proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    let client = &broker.client;
    let (_, secret) = create(client, &json!({ "name": "team", "role": "viewer" })).await;
    proxy.switch_off().await;
    broker.clock.advance(Duration::from_mins(14));
    assert_eq!(send(client, Method::GET, ME, &secret).await.status, 200);
    broker.clock.advance(Duration::from_mins(1));
    assert_eq!(send(client, Method::GET, ME, &secret).await.status, 401);
    assert_eq!(send(client, Method::GET, ME, ADMIN).await.status, 200);
    proxy.switch_on();
    assert_eq!(send(client, Method::GET, ME, &secret).await.status, 200);
    let text = metrics(&broker).await;
    assert!(
        text.contains(&format!(
            "broker_tokens_read_timestamp_seconds {}\n",
            START.0 + 900
        )),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_starts_with_the_tokens_of_the_environment_if_the_named_ones_cannot_be_read() {
    let pool = Pool::of(1).await;
    let (_, secret) = {
        let broker = pool.broker().await;
        create(&broker.client, &json!({ "name": "team", "role": "viewer" })).await
    };
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let gate = proxy.hold(reads_tokens);
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    gate.open();
    assert_eq!(
        send(&broker.client, Method::GET, ME, &secret).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_item_is_not_valid_and_affects_no_other_token() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let (damaged, of_damaged) = create(client, &json!({ "name": "a", "role": "admin" })).await;
    let (_, whole) = create(client, &json!({ "name": "b", "role": "viewer" })).await;
    pool.rewrite(&pool.companion, key("TOKENS", &damaged), &[("labs", None)])
        .await;
    let foreign = [("name", Some(AttributeValue::N("7".into())))];
    pool.rewrite(&pool.companion, key("TOKENS", "not an id"), &foreign)
        .await;
    let other = pool.broker().await;
    assert_eq!(
        send(&other.client, Method::GET, ME, &whole).await.status,
        200
    );
    assert_eq!(
        send(&other.client, Method::GET, ME, &of_damaged)
            .await
            .status,
        401
    );
    let listed = list(client).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], "b");
    assert_eq!(revoke(client, &damaged).await.code(), "TOKEN_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_live_tokens_is_limited() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let (id, _) = create(&broker.client, &json!({ "name": "team", "role": "viewer" })).await;
    let get = pool.client.get_item().table_name(&pool.companion);
    let get = get.set_key(Some(key("TOKENS", &id))).send().await;
    let item = get.unwrap().item.unwrap();
    let copies = (1..1000_u64).map(|number| {
        let mut item = item.clone();
        item.extend(key("TOKENS", &format!("{number:016x}")));
        let put = pool.client.put_item().table_name(&pool.companion);
        put.set_item(Some(item)).send()
    });
    for answer in join_all(copies).await {
        answer.unwrap();
    }
    let one_more = json!({ "name": "one more", "role": "viewer" });
    let refused = create_as(&broker.client, ADMIN, &one_more).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!(refused.code(), "TOKEN_LIMIT_REACHED");
    assert_eq!(revoke(&broker.client, &id).await.status, 200);
    create(&broker.client, &one_more).await;
}

fn track_request(
    client: &BrokerClient,
    method: Method,
    path: &str,
    token: &str,
    headers: &[(&str, &str)],
) -> reqwest::RequestBuilder {
    let request = client.request(method, path).bearer_auth(token);
    let names = [
        ("C", "X-Instruqt-Sandbox-ID"),
        ("L", "X-Instruqt-Track-ID"),
        ("P", "X-Sandbox-Name-Prefix"),
    ];
    headers.iter().fold(request, |request, (short, value)| {
        let (_, name) = names.iter().find(|(name, _)| name == short).unwrap();
        request.header(*name, *value)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn track_token_allocates_within_its_bounds_only() {
    let pool = Pool::with_names(["lab-a-1", "lab-a-2", "lab-b-1", "other-1"]).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let body = json!({ "name": "labs", "role": "track", "labs": ["one", "two"] });
    let (_, labs) = create(client, &body).await;
    let body = json!({ "name": "prefixes", "role": "track", "name_prefixes": ["lab-a", "x"] });
    let (_, prefixes) = create(client, &body).await;
    let allocate = async |token: &str, headers: &[(&str, &str)]| {
        let request = track_request(client, Method::POST, "/v1/allocate", token, headers);
        client.send(request).await
    };
    for (token, headers, fault) in [
        (
            &labs,
            &[("C", "p"), ("L", "three")][..],
            "X-Instruqt-Track-ID names another one",
        ),
        (&labs, &[("C", "p")], "X-Instruqt-Track-ID is missing"),
        (
            &labs,
            &[("C", "p"), ("L", "")],
            "X-Instruqt-Track-ID is missing",
        ),
        (
            &labs,
            &[("C", "p"), ("L", "ONE")],
            "X-Instruqt-Track-ID names another one",
        ),
        (
            &prefixes,
            &[("C", "p"), ("L", "one")],
            "X-Sandbox-Name-Prefix is missing",
        ),
        (
            &prefixes,
            &[("C", "p"), ("P", "lab-")],
            "X-Sandbox-Name-Prefix names another one",
        ),
        (
            &prefixes,
            &[("C", "p"), ("P", "other")],
            "X-Sandbox-Name-Prefix names another one",
        ),
    ] {
        let answer = allocate(token, headers).await;
        assert_eq!(answer.status, 403, "{headers:?}: {answer:?}");
        assert_eq!(answer.code(), "LAB_NOT_ALLOWED");
        let message = answer.message().to_lowercase();
        assert!(
            message.contains(&fault.to_lowercase()),
            "{headers:?}: {message}"
        );
    }
    assert!(pool.holdings().await.is_empty());
    assert_eq!(
        allocate(&labs, &[("C", "p1"), ("L", "two")]).await.status,
        201
    );
    assert_eq!(
        allocate(&labs, &[("C", "p1"), ("L", "two")]).await.status,
        200
    );
    let answer = allocate(&prefixes, &[("C", "p2"), ("P", "lab-a-")]).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.sandbox_id().starts_with("lab-a-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_token_neither_sees_nor_releases_a_sandbox_of_another_lab() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    let body = json!({ "name": "labs", "role": "track", "labs": ["one"] });
    let (_, bound) = create(client, &body).await;
    let body = json!({ "name": "prefixes", "role": "track", "name_prefixes": ["nope-"] });
    let (_, elsewhere) = create(client, &body).await;
    let send = async |method: Method, path: &str, token: &str, headers: &[(&str, &str)]| {
        client
            .send(track_request(client, method, path, token, headers))
            .await
    };
    let caller = ("C", "play");
    let mine = send(
        Method::POST,
        "/v1/allocate",
        &bound,
        &[caller, ("L", "one")],
    )
    .await;
    let mine = mine.sandbox_id();
    // The same caller holds another one under another key, of another lab.
    let request = track_request(
        client,
        Method::POST,
        "/v1/allocate",
        TRACK,
        &[caller, ("L", "two")],
    );
    let other = client
        .send(request.header("Idempotency-Key", "second"))
        .await
        .sandbox_id();
    assert_ne!(mine, other);
    let listed = send(Method::GET, "/v1/sandboxes", &bound, &[caller])
        .await
        .json();
    assert_eq!(listed["count"], 1);
    assert_eq!(listed["sandboxes"][0]["sandbox_id"], mine.as_str());
    let listed = send(Method::GET, "/v1/sandboxes", TRACK, &[caller])
        .await
        .json();
    assert_eq!(listed["count"], 2);
    for (method, end) in [(Method::GET, ""), (Method::POST, "/mark-for-deletion")] {
        for (id, token) in [(&other, &bound), (&mine, &elsewhere)] {
            let path = format!("/v1/sandboxes/{id}{end}");
            let answer = send(method.clone(), &path, token, &[caller]).await;
            assert_eq!(answer.status, 403, "{path}: {answer:?}");
            assert_eq!(answer.code(), "LAB_NOT_ALLOWED", "{path}");
        }
        let path = format!("/v1/sandboxes/{other}{end}");
        let answer = send(method.clone(), &path, &bound, &[("C", "stranger")]).await;
        assert_eq!(answer.code(), "NOT_SANDBOX_OWNER");
        let path = format!("/v1/sandboxes/unknown{end}");
        let answer = send(method, &path, &bound, &[caller]).await;
        assert_eq!(answer.code(), "SANDBOX_NOT_FOUND");
    }
    // A repeated allocation of another principal, whatever lab the request names.
    let headers = [caller, ("L", "one")];
    let replay = track_request(client, Method::POST, "/v1/allocate", &bound, &headers);
    let replay = client
        .send(replay.header("Idempotency-Key", "second"))
        .await;
    assert_eq!(replay.code(), "LAB_NOT_ALLOWED");
    let holdings = pool.holdings().await;
    assert_eq!(holdings["play"].len(), 2);
    let path = format!("/v1/sandboxes/{mine}/mark-for-deletion");
    for _ in 0..2 {
        assert_eq!(
            send(Method::POST, &path, &bound, &[caller]).await.status,
            200
        );
    }
    assert_eq!(pool.holdings().await["play"], [other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn use_of_a_token_is_recorded_once_and_not_on_the_request() {
    let pool = Pool::new().await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    let client = &broker.client;
    let (id, secret) = create(client, &json!({ "name": "team", "role": "viewer" })).await;
    // A write that fails harms nothing.
    let gate = proxy
        .hold(|call| call.operation == "UpdateItem" && call.json()["Key"]["PK"]["S"] == "TOKENS");
    proxy.take_calls();
    for _ in 0..50 {
        assert_eq!(send(client, Method::GET, ME, &secret).await.status, 200);
    }
    gate.wait_for_one().await;
    assert_eq!(send(client, Method::GET, ME, &secret).await.status, 200);
    gate.open();
    let began = Instant::now();
    while list(client).await[0]["last_used_at"].is_null() {
        assert!(began.elapsed() < Duration::from_mins(1), "not recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(list(client).await[0]["last_used_at"], START.0);
    assert_eq!(send(client, Method::GET, ME, &secret).await.status, 200);
    let item = pool.items_of(&pool.companion).await;
    let item = item
        .iter()
        .find(|item| item["SK"] == AttributeValue::S(id.clone()))
        .unwrap();
    assert!(
        !item.contains_key("ttl"),
        "a live token without expiry would be removed"
    );
    let updates = proxy.take_calls().get("UpdateItem").copied();
    assert_eq!(updates, Some(1));
}

/// The answer to the creation has the secret; nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn secret_is_in_no_log_event() {
    let directory = tempfile::tempdir().unwrap();
    let mut variables = laptop(&directory.path().join("data"));
    variables.insert("LOG_LEVEL".into(), "debug".into());
    let broker = BrokerProcess::serve(directory.path(), &variables);
    let client = &broker.client;
    let (id, secret) = create(client, &json!({ "name": "team", "role": "viewer" })).await;
    assert_eq!(send(client, Method::GET, ME, &secret).await.status, 200);
    let (wrong, _) = secret.split_at(secret.len() - 1);
    assert_eq!(send(client, Method::GET, ME, wrong).await.status, 401);
    assert_eq!(
        send(client, Method::POST, TOKENS, &secret).await.status,
        403
    );
    assert_eq!(revoke(client, &id).await.status, 200);
    let request = client.request(Method::GET, ME).bearer_auth(&secret);
    let request = request.header("X-Request-ID", "last-one");
    assert_eq!(client.send(request).await.status, 401);
    let events = broker.events_until(|event| event["request_id"] == "last-one");
    let principals: BTreeSet<_> = events
        .iter()
        .filter(|event| event["message"] == "request")
        .filter_map(|event| event["principal"].as_str())
        .collect();
    assert_eq!(principals, BTreeSet::from(["env-admin", "team"]));
    let random = secret.rsplit('_').next().unwrap();
    let text = serde_json::to_string(&events).unwrap();
    assert!(!text.contains(&random[..20]), "the secret is logged");
}
