//! Named tokens: creation, list and revocation.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{Admin, ApiJson},
};
use crate::{
    clock::UnixSeconds,
    domain::{Role, Token, TokenGrant, TokenId},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
};

error_set! {
    /// The errors of listing tokens.
    ListErrors: StoreUnavailable
}
error_set! {
    /// The errors of creating a token.
    CreateErrors: InvalidBody, TokenNameTaken, TokenLimitReached, StoreUnavailable
}
error_set! {
    /// The errors of revoking a token.
    RevokeErrors: TokenNotFound, StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
}

/// A named token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = NamedToken, example = json!({
    "token_id": "3f2a6c1e8f0b4a7e", "name": "cloud-security-101", "role": "track", "labs": ["cloud-security-101"],
    "name_prefixes": ["lab-"], "created_by": "env-admin", "created_at": 1_774_000_000, "expires_at": 1_805_000_000,
    "revoked_at": null, "revoked_by": null, "last_used_at": 1_774_003_600
}))]
pub(crate) struct TokenBody {
    /// The id of the token, which is also part of its secret.
    pub token_id: String,
    /// The name of its principal, as in audit records.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The labs that a track token is bound to; empty for any.
    pub labs: Vec<String>,
    /// The beginnings of name prefixes that a track token is bound to; empty for any.
    pub name_prefixes: Vec<String>,
    /// The principal that created it.
    pub created_by: String,
    /// When it was created, in Unix seconds.
    pub created_at: UnixSeconds,
    /// When it expires, in Unix seconds.
    pub expires_at: Option<UnixSeconds>,
    /// When it was revoked, in Unix seconds.
    pub revoked_at: Option<UnixSeconds>,
    /// The principal that revoked it.
    pub revoked_by: Option<String>,
    /// When it was last used, in Unix seconds; up to an hour late.
    pub last_used_at: Option<UnixSeconds>,
}

impl From<Token> for TokenBody {
    fn from(token: Token) -> Self {
        let TokenGrant {
            name,
            role,
            bounds,
            expires_at,
        } = token.grant;
        Self {
            token_id: token.id.to_string(),
            name: name.to_string(),
            role,
            labs: bounds.labs,
            name_prefixes: bounds.name_prefixes,
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at,
            revoked_at: token.revoked_at,
            revoked_by: token.revoked_by,
            last_used_at: token.last_used_at,
        }
    }
}

/// The named tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "tokens": [{
        "token_id": "3f2a6c1e8f0b4a7e", "name": "cloud-security-101", "role": "track", "labs": ["cloud-security-101"],
        "name_prefixes": ["lab-"], "created_by": "env-admin", "created_at": 1_774_000_000, "expires_at": 1_805_000_000,
        "revoked_at": null, "revoked_by": null, "last_used_at": 1_774_003_600
    }]
}))]
struct TokensBody {
    /// The tokens, newest first. Revoked and expired ones are listed for 30 days.
    tokens: Vec<TokenBody>,
}

/// A token to create.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "cloud-security-101", "role": "track", "labs": ["cloud-security-101"], "name_prefixes": ["lab-"],
    "expires_at": 1_805_000_000
}))]
struct NewTokenBody {
    /// The name of its principal: 1 to 64 printable characters, unique among live tokens. It does not begin with `env-`,
    /// contains no `@`, and is no name of a job.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// The role.
    role: Role,
    /// The labs that a track token may allocate for (`X-Instruqt-Track-ID`); empty for any. At most 50.
    #[serde(default)]
    #[schema(required = false, max_items = 50)]
    labs: Vec<String>,
    /// Beginnings of the name prefixes that a track token may request (`X-Sandbox-Name-Prefix`); empty for any. At most
    /// 50.
    #[serde(default)]
    #[schema(required = false, max_items = 50)]
    name_prefixes: Vec<String>,
    /// When it expires, in Unix seconds: in the future, at most five years ahead. Without it, it does not expire.
    #[serde(default)]
    #[schema(required = false)]
    expires_at: Option<UnixSeconds>,
}

/// A token that was just created.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "token": {
        "token_id": "3f2a6c1e8f0b4a7e", "name": "cloud-security-101", "role": "track", "labs": ["cloud-security-101"],
        "name_prefixes": ["lab-"], "created_by": "env-admin", "created_at": 1_774_000_000, "expires_at": 1_805_000_000,
        "revoked_at": null, "revoked_by": null, "last_used_at": null
    },
    "secret": "sbt_3f2a6c1e8f0b4a7e_…"
}))]
struct CreatedTokenBody {
    /// The token.
    token: TokenBody,
    /// The text for `Authorization: Bearer …`. It is shown only here; the broker stores its SHA-256.
    secret: String,
}

/// List the named tokens
///
/// Also those that were revoked or have expired in the last 30 days. Secrets are not shown.
#[utoipa::path(
    get,
    path = "/admin/tokens",
    tag = "Admin",
    responses((status = 200, description = "The tokens", body = TokensBody), ListErrors),
    security(("admin_token" = [])),
)]
async fn list_tokens(
    State(state): State<AppState>,
    _: Admin,
) -> Result<Json<TokensBody>, ApiError> {
    let tokens = state.auth.named().list().await?;
    let tokens = tokens.into_iter().map(Into::into).collect();
    Ok(Json(TokensBody { tokens }))
}

/// Create a named token
///
/// An admin creates tokens of every role, also further admins. The token is valid at once on every broker; the first
/// request that uses it on another broker may wait some seconds. If the answer is lost, revoke the token and create
/// another one: its secret cannot be shown again.
#[utoipa::path(
    post,
    path = "/admin/tokens",
    tag = "Admin",
    request_body = NewTokenBody,
    responses(
        (status = 201, description = "The token and its secret", body = CreatedTokenBody),
        CreateErrors,
    ),
    security(("admin_token" = [])),
)]
async fn create_token(
    State(state): State<AppState>,
    Admin(author): Admin,
    ApiJson(body): ApiJson<NewTokenBody>,
) -> Result<(StatusCode, Json<CreatedTokenBody>), ApiError> {
    let NewTokenBody {
        name,
        role,
        labs,
        name_prefixes,
        expires_at,
    } = body;
    let now = state.clock.now();
    let grant = TokenGrant::parse(&name, role, &labs, &name_prefixes, expires_at, now)
        .map_err(ApiError::invalid_body)?;
    let created = state.auth.named().create(grant, &author).await?;
    let body = CreatedTokenBody {
        token: created.token.into(),
        secret: created.secret.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Revoke a named token
///
/// This broker refuses it at once, every other one within 30 seconds. Revoking it again changes nothing. Its sandboxes
/// stay allocated.
#[utoipa::path(
    delete,
    path = "/admin/tokens/{token_id}",
    tag = "Admin",
    params(("token_id" = String, Path, description = "The id of the token", example = "3f2a6c1e8f0b4a7e")),
    responses((status = 200, description = "The revoked token", body = TokenBody), RevokeErrors),
    security(("admin_token" = [])),
)]
async fn revoke_token(
    State(state): State<AppState>,
    Admin(author): Admin,
    TokenPath(id): TokenPath,
) -> Result<Json<TokenBody>, ApiError> {
    let token = state.auth.named().revoke(&id, &author).await?;
    Ok(Json(token.into()))
}

/// The token id in the path. Text that cannot be an id is answered with [`ErrorCode::TokenNotFound`].
#[derive(Clone, Debug)]
struct TokenPath(TokenId);

impl<S: Send + Sync> FromRequestParts<S> for TokenPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| TokenId::parse(&text));
        id.map(Self).ok_or_else(|| ErrorCode::TokenNotFound.into())
    }
}
