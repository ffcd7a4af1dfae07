//! The principal of the request.

use axum::{Extension, Json, http::Extensions};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{error_responses::error_set, extract::Viewer};
use crate::{
    clock::UnixSeconds,
    domain::{Principal, Role},
    http::{AppState, middleware::sign_in},
};

error_set! {
    /// The errors of every endpoint.
    MeErrors:
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(me))
}

/// The proof of the identity of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SignedInBy {
    /// A token.
    Token,
    /// A sign-in at the load balancer.
    LoadBalancer,
}

/// The principal of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "pool-operators", "role": "operator", "signed_in_by": "token",
    "token_id": "3f2a6c1e8f0b4a7e", "expires_at": 1_805_000_000
}))]
struct MeBody {
    /// The name, as in audit records: that of the token, or of the person; `env-admin` for a token of the environment.
    name: String,
    /// The administrative role.
    role: Option<Role>,
    /// The proof of the identity.
    signed_in_by: SignedInBy,
    /// The id of the named token.
    token_id: Option<String>,
    /// When the named token expires, in Unix seconds.
    expires_at: Option<UnixSeconds>,
}

/// Get the principal of the request
///
/// Its name and role.
#[utoipa::path(
    get,
    path = "/admin/me",
    tag = "Admin",
    responses((status = 200, description = "The principal", body = MeBody), MeErrors),
    security(("viewer_token" = [])),
)]
async fn me(
    Viewer(author): Viewer,
    Extension(principal): Extension<Principal>,
    extensions: Extensions,
) -> Json<MeBody> {
    let token = principal.token;
    let signed_in_by = if sign_in::is_signed_in(&extensions) {
        SignedInBy::LoadBalancer
    } else {
        SignedInBy::Token
    };
    Json(MeBody {
        name: author.name.to_string(),
        role: author.role,
        signed_in_by,
        token_id: token.as_ref().map(|token| token.id.to_string()),
        expires_at: token.and_then(|token| token.expires_at),
    })
}
