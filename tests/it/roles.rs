//! The role that each endpoint requires: the OpenAPI document, the table of it in `docs/api.md`, and the answers.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN, BrokerClient, Pool};

/// The endpoints that require no token.
const OPEN: [&str; 5] = [
    "GET /",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/openapi.json",
];
const ROLES: [&str; 4] = ["track", "viewer", "operator", "admin"];
const BEGIN: &str = "<!-- The table of roles: UPDATE_SNAPSHOTS=1 cargo test --test it roles -->\n";
const END: &str = "<!-- End of the table of roles. -->\n";

/// An endpoint with the lowest role that suffices; `None` if it requires no token.
struct Endpoint {
    method: Method,
    path: String,
    role: Option<String>,
}

impl Endpoint {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn permits(&self, role: &str) -> bool {
        self.role.as_deref().is_none_or(|required| {
            let rank = |role: &str| ROLES.iter().position(|known| *known == role);
            required == role
                || (required != "track" && role != "track" && rank(role) >= rank(required))
        })
    }
}

async fn endpoints(client: &BrokerClient) -> Vec<Endpoint> {
    let document = client.plain("/v1/openapi.json").await.json();
    let mut endpoints = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let role = operation["security"].as_array().map(|schemes| {
                let roles = schemes.iter().map(|alternative| {
                    let scheme = alternative.as_object().unwrap().keys().next().unwrap();
                    let declared = &document["components"]["securitySchemes"][scheme];
                    assert_eq!(declared["scheme"], "bearer", "{method} {path}");
                    scheme.strip_suffix("_token").unwrap()
                });
                let roles: Vec<_> = roles.collect();
                // The token of each role that suffices is an alternative.
                let sufficient = match ROLES.iter().position(|known| *known == roles[0]).unwrap() {
                    0 => &ROLES[..1],
                    lowest => &ROLES[lowest..],
                };
                assert_eq!(roles, sufficient, "{method} {path}");
                roles[0].to_owned()
            });
            endpoints.push(Endpoint {
                method,
                path: path.clone(),
                role,
            });
        }
    }
    endpoints.sort_by_key(|endpoint| {
        let role = endpoint.role.as_ref();
        let rank = role.and_then(|role| ROLES.iter().position(|known| known == role));
        (rank, endpoint.path.clone(), endpoint.method.to_string())
    });
    endpoints
}

/// Sends a request without parameters or a body, so that it changes nothing unless it needs none.
async fn status_of(
    client: &BrokerClient,
    endpoint: &Endpoint,
    token: Option<&str>,
) -> (u16, Value) {
    let path: Vec<_> = endpoint
        .path
        .split('/')
        .map(|part| match part {
            "{activity}" => "sync",
            part if part.starts_with('{') => "0000000000000000",
            part => part,
        })
        .collect();
    let mut request = client.request(endpoint.method.clone(), &path.join("/"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = client.send(request).await;
    let error =
        serde_json::from_str(&answer.text).map_or(Value::Null, |body: Value| body["error"].clone());
    (answer.status.as_u16(), error)
}

async fn token_of(client: &BrokerClient, role: &str) -> String {
    let request = client
        .request(Method::POST, "/v1/admin/tokens")
        .bearer_auth(ADMIN);
    let body = json!({ "name": format!("of-{role}"), "role": role });
    let answer = client.send(request.json(&body)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["secret"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_each_role_as_documented() {
    let pool = Pool::new().await;
    let limits = [
        ("RATE_LIMIT_PER_SEC", "100000"),
        ("RATE_LIMIT_BURST", "1000000"),
    ];
    let broker = pool.broker_with(&limits).await;
    let client = &broker.client;
    let mut tokens = BTreeMap::new();
    for role in ROLES {
        tokens.insert(role, token_of(client, role).await);
    }
    let endpoints = endpoints(client).await;
    assert!(endpoints.len() > 20, "{}", endpoints.len());
    for endpoint in &endpoints {
        let name = endpoint.name();
        for token in [None, Some(""), Some("garbage"), Some("sbt_garbage")] {
            let (status, error) = status_of(client, endpoint, token).await;
            let Some(role) = &endpoint.role else {
                assert_ne!(status, 401, "{name} {token:?}");
                continue;
            };
            assert_eq!(status, 401, "{name} {token:?}: {error}");
            assert_eq!(error["code"], "UNAUTHORIZED", "{name}");
            let message = error["message"].as_str().unwrap();
            let names_role = message.ends_with(&format!("This endpoint requires the role {role}."));
            assert!(names_role, "{name}: {message}");
        }
        for (role, token) in &tokens {
            let (status, error) = status_of(client, endpoint, Some(token)).await;
            if endpoint.permits(role) {
                assert!(
                    !matches!(status, 401 | 403),
                    "{name} with {role}: {status} {error}"
                );
                continue;
            }
            assert_eq!(status, 403, "{name} with {role}: {error}");
            assert_eq!(error["code"], "FORBIDDEN", "{name} with {role}");
            let required = format!("requires the role {};", endpoint.role.as_ref().unwrap());
            assert!(
                error["message"].as_str().unwrap().contains(&required),
                "{error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn table_of_roles_in_the_documents_is_that_of_the_broker() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let endpoints = endpoints(&broker.client).await;
    let open = endpoints.iter().filter(|endpoint| endpoint.role.is_none());
    for endpoint in open {
        let name = endpoint.name();
        assert!(
            OPEN.contains(&name.as_str()),
            "{name} requires no token; is that intended?"
        );
    }
    let mut table =
        String::from("| endpoint | track | viewer | operator | admin |\n|---|---|---|---|---|\n");
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.role.is_some()) {
        let cells = ROLES.map(|role| if endpoint.permits(role) { "yes" } else { "–" });
        writeln!(table, "| `{}` | {} |", endpoint.name(), cells.join(" | ")).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document
        .split_once(BEGIN)
        .expect("docs/api.md has no table of roles");
    let (documented, after) = rest.split_once(END).unwrap();
    let served = format!("\n{table}\n");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, [before, BEGIN, &served, END, after].concat()).unwrap();
        return;
    }
    assert!(
        documented == served,
        "the table in docs/api.md differs; run the tests with UPDATE_SNAPSHOTS=1 and review the difference:\n{table}"
    );
}
