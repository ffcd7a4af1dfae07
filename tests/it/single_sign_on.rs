//! Sign-in at the load balancer: roles, attacks on the header, requests that other sites cause, and the keys.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE};
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{
    ADMIN, Answer, KeyAnswer, LoadBalancer, Pool, START, TRACK, TestBroker, person,
    signer::{SIGNER_ARN, TokenSigner},
};

/// How long the tokens of the tests are valid, as those of a load balancer: some minutes.
const VALID_SEC: i64 = 120;
/// So that no test reaches the limit of guesses, except for the one about it.
const MANY_GUESSES: [(&str, &str); 2] = [
    ("RATE_LIMIT_ADDRESS_PER_SEC", "100000"),
    ("RATE_LIMIT_ADDRESS_BURST", "1000000"),
];
const READ: &str = "/v1/admin/stats";
const CHANGE: &str = "/v1/admin/auto-expire";

/// A broker behind a load balancer that signs people in.
struct SignOn {
    broker: TestBroker,
    load_balancer: LoadBalancer,
    _pool: Pool,
}

impl SignOn {
    async fn start(more: &[(&str, &str)]) -> Self {
        let (load_balancer, pool) = (LoadBalancer::start().await, Pool::of(1).await);
        let settings = [&load_balancer.settings()[..], more].concat();
        Self {
            broker: pool.broker_with(&settings).await,
            load_balancer,
            _pool: pool,
        }
    }

    fn fields(&self) -> Value {
        self.load_balancer.signer.fields(START.0 + VALID_SEC)
    }

    /// The header of a person who has signed in.
    fn token(&self, claims: &Value) -> String {
        self.load_balancer.signer.token(&self.fields(), claims)
    }

    fn viewer(&self) -> String {
        self.token(&person("vic@example.com", &[]))
    }

    fn operator(&self) -> String {
        self.token(&person("olga@example.com", &["staff", "platform-team"]))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.broker.client.request(method, path)
    }

    async fn send(&self, request: RequestBuilder) -> Answer {
        self.broker.client.send(request).await
    }

    async fn call(&self, method: Method, path: &str, token: &str) -> Answer {
        let request = self.broker.client.signed_in(method, path, token);
        self.send(request).await
    }

    async fn read(&self, token: &str) -> Answer {
        self.call(Method::GET, READ, token).await
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, text: &str) {
    assert_eq!(
        (answer.status.as_u16(), &*answer.code()),
        (status, code),
        "{text}: {answer:?}"
    );
    assert!(
        answer.message().contains(text),
        "{text}: {}",
        answer.message()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn person_has_the_role_of_their_address_or_group() {
    let on = SignOn::start(&[]).await;
    let admin = on.token(&person("Ada@example.com", &[]));
    let (viewer, operator) = (on.viewer(), on.operator());
    for (token, method, path, status) in [
        (&viewer, Method::GET, READ, 200),
        (&viewer, Method::GET, "/v1/admin/sandboxes", 200),
        (&viewer, Method::POST, CHANGE, 403),
        (&operator, Method::GET, READ, 200),
        (&operator, Method::POST, CHANGE, 200),
        (
            &operator,
            Method::POST,
            "/v1/admin/bulk-delete?status=stale",
            403,
        ),
        (&admin, Method::POST, CHANGE, 200),
        (
            &admin,
            Method::POST,
            "/v1/admin/bulk-delete?status=stale",
            200,
        ),
    ] {
        let answer = on.call(method, path, token).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let answer = on.call(Method::POST, CHANGE, &viewer).await;
    assert_refused(
        &answer,
        403,
        "FORBIDDEN",
        "requires the role operator; your sign-in has another one",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn me_shows_the_name_the_role_and_the_sign_in_of_a_person() {
    let on = SignOn::start(&[]).await;
    let me = on.call(Method::GET, "/v1/admin/me", &on.operator()).await;
    let expected = json!({
        "name": "olga@example.com", "role": "operator", "signed_in_by": "load_balancer",
        "token_id": null, "expires_at": null,
    });
    assert_eq!(me.json(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_of_the_load_balancer_is_ignored_outside_of_the_admin_api() {
    let on = SignOn::start(&[("ALB_OIDC_ADMINS", "email:*,group:*")]).await;
    let token = on.token(&person("ada@example.com", &["track"]));
    for (method, path) in [
        (Method::POST, "/v1/allocate"),
        (Method::GET, "/v1/sandboxes"),
        (Method::POST, "/v1/sandboxes/2009521/mark-for-deletion"),
    ] {
        let request = on.broker.client.signed_in(method, path, &token);
        let request = request.header("X-Instruqt-Sandbox-ID", "play-1");
        let answer = on.send(request).await;
        assert_refused(&answer, 401, "UNAUTHORIZED", "requires the role track");
    }
    // A client that makes up keys there would use up the fetches that a new key needs.
    assert_eq!(on.load_balancer.fetches(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_a_person_without_a_role_names_the_settings() {
    let on = SignOn::start(&[]).await;
    let mut unverified = person("ada@example.com", &[]);
    unverified["email_verified"] = json!("false");
    for (claims, name) in [
        (
            person("eve@example.com", &["marketing"]),
            "eve@example.com is signed in",
        ),
        (unverified, "@sub-of-ada@example.com is signed in"),
        (json!({"sub": "00u1"}), "@00u1 is signed in"),
    ] {
        let answer = on.read(&on.token(&claims)).await;
        assert_refused(&answer, 403, "FORBIDDEN", name);
        assert!(answer.message().contains("ALB_OIDC_VIEWERS"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_in_the_claim_that_the_settings_name() {
    let on = SignOn::start(&[("ALB_OIDC_GROUPS_CLAIM", "cognito:groups")]).await;
    let claims = |groups: &str| json!({"sub": "1", groups: "platform-team"});
    assert_eq!(
        on.read(&on.token(&claims("cognito:groups"))).await.status,
        200
    );
    assert_eq!(on.read(&on.token(&claims("groups"))).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_altered_headers_are_refused() {
    let on = SignOn::start(&MANY_GUESSES).await;
    let signer = &on.load_balancer.signer;
    let claims = person("ada@example.com", &[]);
    let valid = on.token(&claims);
    // As load balancers send it, and as they would if they followed the standard.
    for token in [&valid, &signer.token_without_padding(&on.fields(), &claims)] {
        assert_eq!(on.read(token).await.status, 200);
    }

    let with = |field: &str, value: Value| {
        let mut fields = on.fields();
        fields[field] = value;
        signer.token(&fields, &claims)
    };
    let unsigned = |alg: &str| {
        let mut fields = on.fields();
        fields["alg"] = json!(alg);
        let encode = |value: &Value| URL_SAFE.encode(value.to_string());
        format!("{}.{}", encode(&fields), encode(&claims))
    };
    // HMAC with the public key as the secret, which a verifier would accept that trusts `alg`.
    let hmac = {
        let message = unsigned("HS256");
        let secret = EncodingKey::from_secret(signer.pem().as_bytes());
        let signature = crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    // The key of another account's load balancer in the same region: AWS publishes it in the same place.
    let other = TokenSigner::new();
    on.load_balancer.publish(&other);
    let mut of_other_account = other.fields(START.0 + VALID_SEC);
    of_other_account["signer"] = json!(SIGNER_ARN.replace("123456789012", "210987654321"));
    let viewer = on.viewer();
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (parts(&valid), parts(&viewer));
    let forger = TokenSigner::new();
    let unpublished = forger.token(&forger.fields(START.0 + VALID_SEC), &claims);
    for (header, reason) in [
        (String::new(), "not a token"),
        ("Bearer".to_owned(), "not a token"),
        (ours[..2].join("."), "not a token"),
        (format!("{valid}.{}", ours[2]), "signature is wrong"),
        (with("kid", json!("../../elsewhere")), "not a token"),
        (
            with("kid", json!(format!("{}/x", signer.key_id))),
            "not a token",
        ),
        (format!("{}.", unsigned("none")), "not signed with ES256"),
        (hmac, "not signed with ES256"),
        (format!("{}.", unsigned("ES256")), "signature is wrong"),
        (
            format!("{}.{}.{}", ours[0], theirs[1], ours[2]),
            "signature is wrong",
        ),
        (
            format!("{}.{}.{}", ours[0], ours[1], theirs[2]),
            "signature is wrong",
        ),
        (forger.token(&on.fields(), &claims), "signature is wrong"),
        (unpublished, "names a key"),
        (
            other.token(&of_other_account, &claims),
            "another load balancer",
        ),
        (
            with("iss", json!("https://login.example.org")),
            "another provider",
        ),
        (with("client", json!("another-client")), "another client"),
        (with("exp", json!(START.0 - 60)), "expired"),
        (
            with("exp", json!(START.0 + 365 * 24 * 3600)),
            "longer than any session",
        ),
        (
            on.token(&json!({"email": "ada@example.com"})),
            "does not state who",
        ),
        (
            on.token(&json!({"sub": "ada\nadmin"})),
            "does not state who",
        ),
        (on.token(&json!(["ada@example.com"])), "not a token"),
        (
            "x".repeat(16 * 1024 + 1),
            "longer than that of any load balancer",
        ),
    ] {
        let answer = on.read(&header).await;
        assert_refused(&answer, 401, "UNAUTHORIZED", reason);
        assert!(!answer.text.contains("ada@"), "{answer:?}");
    }
    // The one for `unpublished`, and the one for `valid`.
    assert_eq!(on.load_balancer.fetches(), 2);
    assert_eq!(on.read(&valid).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_that_is_present_more_than_once_is_refused() {
    let on = SignOn::start(&[]).await;
    let viewer = on.viewer();
    for second in [viewer.clone(), on.operator(), String::new()] {
        let request = on.broker.client.signed_in(Method::GET, READ, &viewer);
        let answer = on.send(request.header("x-amzn-oidc-data", second)).await;
        assert_refused(&answer, 401, "UNAUTHORIZED", "more than once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_header_is_refused_once_it_has_expired() {
    let on = SignOn::start(&[]).await;
    let viewer = on.viewer();
    assert_eq!(on.read(&viewer).await.status, 200);
    // With the minute by which the clocks may differ.
    on.broker.clock.advance(Duration::from_secs(179));
    assert_eq!(on.read(&viewer).await.status, 200);
    on.broker.clock.advance(Duration::from_secs(1));
    assert_refused(&on.read(&viewer).await, 401, "UNAUTHORIZED", "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorization_header_decides_alone() {
    let on = SignOn::start(&[]).await;
    let admin = on.token(&person("ada@example.com", &[]));
    for (authorization, header, status) in [
        (format!("Bearer {ADMIN}"), "forged", 200),
        (format!("Bearer {TRACK}"), &*admin, 403),
        ("Bearer wrong".to_owned(), &*admin, 401),
        ("Basic YWRhOg==".to_owned(), &*admin, 401),
        (String::new(), &*admin, 401),
    ] {
        let request = on.broker.client.signed_in(Method::GET, READ, header);
        let answer = on
            .send(request.header("Authorization", &authorization))
            .await;
        assert_eq!(answer.status, status, "{authorization}");
    }
    // No page of another site can add the token, so where the request comes from does not matter.
    let request = on.request(Method::POST, CHANGE).bearer_auth(ADMIN);
    let request = request.header("Sec-Fetch-Site", "cross-site");
    assert_eq!(on.send(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_is_ignored_while_single_sign_on_is_off() {
    let (load_balancer, pool) = (LoadBalancer::start().await, Pool::of(1).await);
    let broker = pool.broker().await;
    let fields = load_balancer.signer.fields(START.0 + VALID_SEC);
    let token = load_balancer
        .signer
        .token(&fields, &person("ada@example.com", &[]));
    let request = broker.client.signed_in(Method::GET, READ, &token);
    let answer = broker.client.send(request).await;
    assert_refused(
        &answer,
        401,
        "UNAUTHORIZED",
        "The Authorization header is missing",
    );
    assert_eq!(load_balancer.fetches(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_other_sites_cause_are_refused() {
    let origins = [("CORS_ALLOWED_ORIGINS", "https://ops.example.com")];
    let on = SignOn::start(&origins).await;
    let operator = on.operator();
    let call = async |method: &Method, path: &str, headers: &[(&str, &str)]| {
        let mut request = on
            .request(method.clone(), path)
            .header("x-amzn-oidc-data", &operator);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        on.send(request).await
    };
    let changes = [(Method::POST, CHANGE), (Method::POST, "/v1/admin/sync")];
    for headers in [
        // A form of another site, in a browser that states where it is, and in one that does not.
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Origin", "https://evil.example.org"),
        ][..],
        &[("Origin", "https://evil.example.org")],
        &[("Origin", "null")],
        &[
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", "https://other.example.com"),
        ],
        // A page that may call the API with a token.
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Origin", "https://ops.example.com"),
        ],
        // A client without these headers, such as curl with somebody's cookie.
        &[],
    ] {
        for (method, path) in &changes {
            let answer = call(method, path, headers).await;
            assert_refused(
                &answer,
                403,
                "FORBIDDEN",
                "not come from a page of this broker",
            );
        }
        let read = call(&Method::GET, READ, headers).await;
        assert_eq!(
            read.status.as_u16(),
            if headers.is_empty() { 200 } else { 403 },
            "{headers:?}"
        );
        // Without this header no browser shows an answer to a page that sent the session along.
        assert_eq!(read.header("access-control-allow-credentials"), None);
    }
    assert!(
        on.broker.client.overview().await["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|job| { job["last_run"].is_null() })
    );

    let host = on.broker.client.base.replace("http://", "https://");
    for headers in [
        &[("Sec-Fetch-Site", "same-origin")][..],
        &[("Origin", &*host)],
    ] {
        assert_eq!(
            call(&Method::POST, CHANGE, headers).await.status,
            200,
            "{headers:?}"
        );
    }
    let typed = call(&Method::GET, READ, &[("Sec-Fetch-Site", "none")]).await;
    assert_eq!(typed.status, 200);
    let preflight = on
        .request(Method::OPTIONS, CHANGE)
        .header("Origin", "https://ops.example.com")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization");
    let preflight = on.send(preflight).await;
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://ops.example.com")
    );
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn person_is_the_actor_of_audit_records() {
    let on = SignOn::start(&[]).await;
    let operator = on.operator();
    let reason = json!({ "reason": "maintenance of CSP" });
    for (site, status) in [("same-origin", 200), ("cross-site", 403)] {
        let request = on
            .request(Method::PUT, "/v1/admin/pauses/sync")
            .header("x-amzn-oidc-data", &operator)
            .header("Sec-Fetch-Site", site)
            .json(&reason);
        assert_eq!(on.send(request).await.status, status, "{site}");
    }
    // Refused attempts are recorded after their answer.
    let path = "/v1/admin/audit?actor=olga%40example.com";
    let records = loop {
        let page = on.broker.client.admin(Method::GET, path).await.json();
        if page["count"] == 2 {
            break page["records"].clone();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    };
    let mut outcomes: Vec<_> = records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            assert_eq!(
                (&record["action"], &record["role"]),
                (&json!("pause.set"), &json!("operator"))
            );
            record["outcome"].as_str().unwrap()
        })
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["FORBIDDEN", "done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_fetched_once() {
    let on = SignOn::start(&MANY_GUESSES).await;
    let (viewer, operator) = (on.viewer(), on.operator());
    let answers =
        join_all((0..20).map(|n| on.read(if n % 2 == 0 { &viewer } else { &operator }))).await;
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(on.load_balancer.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_key_is_accepted_at_once() {
    let on = SignOn::start(&[]).await;
    assert_eq!(on.read(&on.viewer()).await.status, 200);
    let next = TokenSigner::new();
    on.load_balancer.publish(&next);
    let token = next.token(
        &next.fields(START.0 + VALID_SEC),
        &person("vic@example.com", &[]),
    );
    assert_eq!(on.read(&token).await.status, 200);
    assert_eq!(on.read(&on.viewer()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_is_unavailable_only_while_its_key_cannot_be_fetched() {
    let on = SignOn::start(&MANY_GUESSES).await;
    let known = on.viewer();
    assert_eq!(on.read(&known).await.status, 200);
    let next = TokenSigner::new();
    let token = next.token(
        &next.fields(START.0 + VALID_SEC),
        &person("vic@example.com", &[]),
    );
    on.load_balancer
        .answer_with(&next.key_id, KeyAnswer::Status(503));
    for _ in 0..5 {
        assert_refused(
            &on.read(&token).await,
            503,
            "SIGN_IN_UNAVAILABLE",
            "repeat the request",
        );
    }
    assert_eq!(on.load_balancer.fetches(), 2);
    let metrics = on.broker.client.plain("/metrics").await.text;
    for count in ["success\"} 1", "not_found\"} 0", "error\"} 1"] {
        let line = format!("broker_sign_in_key_fetches_total{{outcome=\"{count}\n");
        assert!(metrics.contains(&line), "{line}");
    }
    assert_eq!(on.read(&known).await.status, 200);

    on.load_balancer.publish(&next);
    on.broker.clock.advance(Duration::from_secs(10));
    assert_eq!(on.read(&token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_answers_with_anything_but_a_key_proves_nothing() {
    let on = SignOn::start(&MANY_GUESSES).await;
    let elsewhere = format!(
        "{}/{}",
        on.load_balancer.keys_url, on.load_balancer.signer.key_id
    );
    for (answer, status, code) in [
        (KeyAnswer::Status(404), 401, "UNAUTHORIZED"),
        (KeyAnswer::Status(500), 503, "SIGN_IN_UNAVAILABLE"),
        (KeyAnswer::RedirectTo(elsewhere), 503, "SIGN_IN_UNAVAILABLE"),
        (KeyAnswer::Pem(String::new()), 503, "SIGN_IN_UNAVAILABLE"),
        (
            KeyAnswer::Pem("x".repeat(1 << 20)),
            503,
            "SIGN_IN_UNAVAILABLE",
        ),
        (
            KeyAnswer::Pem(
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned(),
            ),
            503,
            "SIGN_IN_UNAVAILABLE",
        ),
        // The key of somebody else.
        (
            KeyAnswer::Pem(TokenSigner::new().pem().to_owned()),
            401,
            "UNAUTHORIZED",
        ),
    ] {
        let signer = TokenSigner::new();
        on.load_balancer.answer_with(&signer.key_id, answer);
        let token = signer.token(
            &signer.fields(START.0 + VALID_SEC),
            &person("vic@example.com", &[]),
        );
        let answer = on.read(&token).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_key_ids_cause_few_fetches_and_do_not_affect_others() {
    let on = SignOn::start(&MANY_GUESSES).await;
    let viewer = on.viewer();
    assert_eq!(on.read(&viewer).await.status, 200);
    let forger = TokenSigner::new();
    let mut refused = Vec::new();
    for _ in 0..60 {
        let mut fields = on.fields();
        fields["kid"] = json!(uuid::Uuid::new_v4().to_string());
        let token = forger.token(&fields, &person("ada@example.com", &[]));
        refused.push(on.read(&token).await.status.as_u16());
    }
    assert_eq!(refused.iter().filter(|status| **status == 401).count(), 9);
    assert!(
        refused[9..].iter().all(|status| *status == 503),
        "{refused:?}"
    );
    assert_eq!(on.load_balancer.fetches(), 10);
    assert_eq!(on.read(&viewer).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_are_guesses_and_valid_ones_are_not() {
    let limits = [
        ("RATE_LIMIT_ADDRESS_PER_SEC", "200"),
        ("RATE_LIMIT_ADDRESS_BURST", "4000"),
    ];
    let on = SignOn::start(&limits).await;
    let viewer = on.viewer();
    for _ in 0..60 {
        assert_eq!(on.read(&viewer).await.status, 200);
    }
    let forger = TokenSigner::new();
    let header = forger.token(&on.fields(), &person("ada@example.com", &[]));
    let mut limited = None;
    for n in 0..200 {
        let answer = on.read(&header).await;
        match answer.status.as_u16() {
            401 => {}
            429 => {
                limited = Some(n);
                break;
            }
            _ => panic!("{answer:?}"),
        }
    }
    // Twenty at once, and one a second.
    assert!(limited.is_some_and(|n| n >= 19), "{limited:?}");
    // The person behind the same address goes on.
    assert_eq!(on.read(&viewer).await.status, 200);
    assert_eq!(on.load_balancer.fetches(), 1);
}
