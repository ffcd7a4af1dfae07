//! The parts of the OpenAPI document that do not come from handlers.

use axum::http::Method;
use utoipa::{
    OpenApi,
    openapi::{
        Components, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi as Document, OpenApiBuilder,
        RefOr, SecurityRequirement, Server,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{header_docs::response_header, policy::PolicyBody, run_response::AcceptedBody};
use crate::{
    domain::{Role, Roles},
    http::{
        error::{ErrorBody, ErrorCode, ErrorDetail},
        middleware::{admission::RequiredRoles, request_log::Actions},
    },
};

const DESCRIPTION: &str = "Leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays.\n\n\
    Every answer has the header `X-Request-ID`; the same id is in the log and in every error. Every error has the \
    same body: `error.code` for programs, `error.message` for human readers. Answers with 429 and 503, and with a 409 \
    that a retry can overcome, have the header `Retry-After`. Times are Unix seconds.\n\n\
    Each caller has a rate limit. The headers `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` \
    describe its state; in answers with 401 they describe the limit of the client's address.\n\n\
    With single sign-on, a person whom the load balancer has signed in needs no token for admin endpoints.";

#[derive(OpenApi)]
#[openapi(components(schemas(AcceptedBody, PolicyBody, ErrorBody, ErrorDetail, ErrorCode)))]
struct Schemas;

/// Returns the document before any route is added.
#[must_use]
pub(crate) fn base() -> Document {
    let bearer = |description: &str| {
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(description.to_owned()))
                .build(),
        )
    };
    let mut components = Schemas::openapi()
        .components
        .unwrap_or_else(Components::new);
    components.add_security_scheme(
        "track_token",
        bearer("A token with the role `track`, such as `BROKER_API_TOKEN`."),
    );
    for (name, description) in [
        (
            "viewer_token",
            "A token with the role `viewer`, `operator` or `admin`.",
        ),
        (
            "operator_token",
            "A token with the role `operator` or `admin`.",
        ),
        (
            "admin_token",
            "A token with the role `admin`, such as `BROKER_ADMIN_TOKEN`.",
        ),
    ] {
        components.add_security_scheme(name, bearer(description));
    }
    let tag = |name: &str, description: &str| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    };
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Sandbox Broker")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(
                    LicenseBuilder::new()
                        .name("MIT")
                        .identifier(Some("MIT"))
                        .build(),
                )),
        )
        .components(Some(components))
        .tags(Some([
            tag(
                "Tracks",
                "Allocation and release, for the setup and cleanup scripts of lab plays.",
            ),
            tag(
                "Admin",
                "The state of the pool, the policy and the tokens, for operators.",
            ),
            tag(
                "Jobs",
                "The jobs that maintain the pool, for operators and schedulers.",
            ),
            tag("Health", "Health and metrics. No token required."),
        ]))
        .build()
}

fn operations(
    document: &mut Document,
) -> impl Iterator<Item = (&String, HttpMethod, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        [
            (HttpMethod::Get, item.get.as_mut()),
            (HttpMethod::Post, item.post.as_mut()),
            (HttpMethod::Put, item.put.as_mut()),
            (HttpMethod::Delete, item.delete.as_mut()),
        ]
        .into_iter()
        .filter_map(move |(method, operation)| operation.map(|operation| (path, method, operation)))
    })
}

/// The headers of answers under a rate limit.
const RATE_LIMIT: [(&str, &str); 3] = [
    (
        "X-RateLimit-Limit",
        "The size of the largest burst of requests.",
    ),
    (
        "X-RateLimit-Remaining",
        "The requests left in the current burst.",
    ),
    (
        "X-RateLimit-Reset",
        "Seconds until a burst of `X-RateLimit-Limit` requests is possible again.",
    ),
];

/// Adds the server, the tokens of higher roles, and the headers that every answer has.
///
/// The server is relative to the document, which is at `base_path`, so that it is right behind a proxy that strips the
/// beginning of the path.
pub(crate) fn complete(document: &mut Document, base_path: &str) {
    let to_root = "../".repeat(base_path.matches('/').count());
    document.servers = Some(vec![Server::new(format!("./{to_root}"))]);
    for (_, _, operation) in operations(document) {
        let is_limited = operation.security.is_some();
        if let Some(role) = lowest_role(operation) {
            operation.security = Some(sufficient_tokens(role));
        }
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                for (name, description) in RATE_LIMIT.into_iter().filter(|_| is_limited) {
                    let header = response_header(description, true);
                    response.headers.insert(name.to_owned(), header.into());
                }
                let description =
                    "The id of the request: the id that the client sent, or a new one.";
                response.headers.insert(
                    "X-Request-ID".to_owned(),
                    response_header(description, false).into(),
                );
            }
        }
    }
}

/// Returns the lowest role that suffices for each operation under `base_path`, as its security requires.
#[must_use]
pub(crate) fn required_roles(document: &mut Document, base_path: &str) -> RequiredRoles {
    operations(document)
        .filter_map(|(path, method, operation)| {
            let role = lowest_role(operation)?;
            Some(((as_method(&method), format!("{base_path}{path}")), role))
        })
        .collect()
}

/// Returns the role that the security of an operation names first.
fn lowest_role(operation: &Operation) -> Option<Role> {
    let security = serde_json::to_value(operation.security.as_ref()?).ok()?;
    let scheme = security[0].as_object()?.keys().next()?;
    scheme.strip_suffix("_token")?.parse().ok()
}

/// Returns the tokens that suffice where `role` is required, as alternatives: a client that knows only the token of a
/// higher role, such as the Swagger page, sends that one.
fn sufficient_tokens(role: Role) -> Vec<SecurityRequirement> {
    Role::ALL
        .into_iter()
        .filter(|other| Roles::from(*other).include(role))
        .map(|other| SecurityRequirement::new::<_, _, &str>(format!("{other}_token"), []))
        .collect()
}

fn as_method(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        _ => Method::GET,
    }
}

/// Returns the names of the operations, for the request log.
#[must_use]
pub(crate) fn actions(document: &mut Document) -> Actions {
    operations(document)
        .filter_map(|(path, method, operation)| {
            Some((
                (as_method(&method), path.clone()),
                operation.operation_id.clone()?,
            ))
        })
        .collect()
}
