//! The OpenAPI document: what the handlers do not say themselves.

use axum::http::Method;
use utoipa::{
    OpenApi,
    openapi::{
        Components, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi as Document, OpenApiBuilder,
        RefOr,
        header::{Header, HeaderBuilder},
        path::Operation,
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::jobs::AcceptedBody;
use crate::http::{
    error::{ErrorBody, ErrorCode, ErrorDetail},
    middleware::request_log::Actions,
};

const DESCRIPTION: &str = "Leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays.\n\n\
    Every answer carries `X-Request-ID`, which also stands in the log and in every error. Every error has the same \
    body: `error.code` for programs, `error.message` for people. 409, 429 and 503 carry `Retry-After`. Times are Unix \
    seconds.\n\n\
    Each caller has a rate limit, which `X-RateLimit-Limit`, `-Remaining` and `-Reset` tell; 401 tells that of the \
    client's address.";

#[derive(OpenApi)]
#[openapi(components(schemas(AcceptedBody, ErrorBody, ErrorDetail, ErrorCode)))]
struct Schemas;

/// The document before any route is added.
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
        bearer("The token of Instruqt tracks (`BROKER_API_TOKEN`)."),
    );
    components.add_security_scheme(
        "admin_token",
        bearer("The token of admins (`BROKER_ADMIN_TOKEN`)."),
    );
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
            tag("Tracks", "For the setup and cleanup scripts of lab plays."),
            tag("Admin", "Looking at the pool, for admins."),
            tag(
                "Jobs",
                "What keeps the pool healthy, for admins and schedulers.",
            ),
            tag("Health", "For load balancers. No token needed."),
        ]))
        .build()
}

/// A header of an answer.
pub(super) fn response_header(description: &str, is_number: bool) -> Header {
    let kind = if is_number {
        Type::Integer
    } else {
        Type::String
    };
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
        .description(Some(description))
        .build()
}

fn operations(
    document: &mut Document,
) -> impl Iterator<Item = (&String, HttpMethod, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        [
            (HttpMethod::Get, item.get.as_mut()),
            (HttpMethod::Post, item.post.as_mut()),
        ]
        .into_iter()
        .filter_map(move |(method, operation)| operation.map(|operation| (path, method, operation)))
    })
}

/// What answers under a rate limit say of it.
const RATE_LIMIT: [(&str, &str); 3] = [
    (
        "X-RateLimit-Limit",
        "Requests that may come at once when none came for a while.",
    ),
    (
        "X-RateLimit-Remaining",
        "Requests that may still come at once.",
    ),
    (
        "X-RateLimit-Reset",
        "Seconds until as many as `X-RateLimit-Limit` may come at once again.",
    ),
];

/// Adds what holds for every answer.
pub(crate) fn complete(document: &mut Document) {
    for (_, _, operation) in operations(document) {
        let is_limited = operation.security.is_some();
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                for (name, description) in RATE_LIMIT.into_iter().filter(|_| is_limited) {
                    let header = response_header(description, true);
                    response.headers.insert(name.to_owned(), header.into());
                }
                let description = "The id of the request: the client's own, or a new one.";
                response.headers.insert(
                    "X-Request-ID".to_owned(),
                    response_header(description, false).into(),
                );
            }
        }
    }
}

/// The names of the operations, for the request log.
#[must_use]
pub(crate) fn actions(document: &mut Document) -> Actions {
    operations(document)
        .filter_map(|(path, method, operation)| {
            let method = if method == HttpMethod::Post {
                Method::POST
            } else {
                Method::GET
            };
            Some(((method, path.clone()), operation.operation_id.clone()?))
        })
        .collect()
}
