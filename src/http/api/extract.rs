//! Extractors of handlers: their types declare the required role and the content of the request.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, request::Parts},
};
use serde::de::DeserializeOwned;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::header_docs::header_parameter;
use crate::{
    broker::AllocateRequest,
    domain::{
        Author, Bounds, CallerId, Holder, IdempotencyKey, InvalidText, LabId, NamePrefix,
        Principal, Role, SandboxId,
    },
    http::{
        error::{ApiError, ErrorCode},
        headers::{CALLER, KEY, LAB, LEGACY_CALLER, PREFIX},
        middleware::{client::ClientAddress, sign_in},
        request_context,
    },
};

/// Requires that the principal of the request has `role`.
fn require(parts: &Parts, role: Role) -> Result<&Principal, ApiError> {
    let principal: Option<&Principal> = parts.extensions.get();
    principal
        .filter(|principal| principal.roles.include(role))
        .ok_or_else(|| {
            let identity = if sign_in::is_signed_in(&parts.extensions) {
                "your sign-in"
            } else {
                "the token"
            };
            let message =
                format!("This endpoint requires the role {role}; {identity} has another one.");
            ApiError::new(ErrorCode::Forbidden, message)
        })
}

/// Requires that the principal of the request has the administrative `role`, and returns it as an author.
fn require_author(parts: &Parts, role: Role) -> Result<Author, ApiError> {
    let principal = require(parts, role)?;
    let address: Option<&ClientAddress> = parts.extensions.get();
    Ok(Author::of_request(
        principal,
        request_context::request_id(),
        address.map(|address| address.0.to_string()),
    ))
}

/// Returns the value of a header. A header that is present more than once with different values is an error, because a
/// proxy in front of the broker may have read another value.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, ApiError> {
    let mut values = headers
        .get_all(name)
        .iter()
        .map(|value| value.as_bytes().trim_ascii());
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != first) {
        let message =
            format!("The header {name} is present more than once, with different values.");
        return Err(ApiError::new(ErrorCode::InvalidHeader, message));
    }
    Ok(Some(first))
}

fn invalid(name: &str, fault: &InvalidText) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidHeader,
        format!("The header {name} {fault}."),
    )
}

/// Reads a header that may be absent. An empty header counts as absent: a script sends one if its variable is unset.
fn optional<T>(headers: &HeaderMap, name: &str) -> Result<Option<T>, ApiError>
where
    T: for<'a> TryFrom<&'a [u8], Error = InvalidText>,
{
    match single(headers, name)?.map(T::try_from) {
        None | Some(Err(InvalidText::Empty)) => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(fault)) => Err(invalid(name, &fault)),
    }
}

/// The caller of a request with a track token, and the bounds of the token.
#[derive(Clone, Debug)]
pub(crate) struct TrackCaller(pub CallerId, pub Arc<Bounds>);

impl<S: Sync> FromRequestParts<S> for TrackCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let bounds = Arc::clone(&require(parts, Role::Track)?.bounds);
        let headers = &parts.headers;
        let caller = match optional(headers, CALLER)? {
            Some(caller) => caller,
            None => optional(headers, LEGACY_CALLER)?.ok_or_else(|| missing_caller(headers))?,
        };
        request_context::note_caller(&caller);
        Ok(Self(caller, bounds))
    }
}

fn missing_caller(headers: &HeaderMap) -> ApiError {
    let empty = [CALLER, LEGACY_CALLER]
        .into_iter()
        .find(|name| headers.contains_key(*name));
    let message = match empty {
        Some(name) => format!(
            "The header {name} is empty; it identifies the caller, with one value for each student's play."
        ),
        None => format!(
            "The header {CALLER} (or {LEGACY_CALLER}) is missing; it identifies the caller, with one value for each \
             student's play."
        ),
    };
    ApiError::new(ErrorCode::MissingHeader, message)
}

impl IntoParams for TrackCaller {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            header_parameter(
                CALLER,
                "The caller: one value for each student's play, the same on every retry. 1 to 256 printable characters \
                 in UTF-8, or else in Latin-1; white space around them is ignored. A text that stands for a variable \
                 without a value, such as `null` or `${ID}`, is an error. Required, unless `X-Track-ID` is sent.",
                "play-7f3a91",
            ),
            header_parameter(
                LEGACY_CALLER,
                "The older name of `X-Instruqt-Sandbox-ID`, which has precedence if both are sent.",
                "play-7f3a91",
            ),
        ]
    }
}

/// The parts of an allocate request that are in its headers.
#[derive(Clone, Debug)]
pub(crate) struct AllocateHeaders(pub AllocateRequest);

impl<S: Sync> FromRequestParts<S> for AllocateHeaders {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let TrackCaller(caller, bounds) =
            <TrackCaller as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        let headers = &parts.headers;
        let key = optional(headers, KEY)?.unwrap_or_else(|| IdempotencyKey::from(&caller));
        let lab = optional::<LabId>(headers, LAB)?;
        if let Some(lab) = &lab {
            request_context::note_lab(lab);
        }
        let prefix = optional::<NamePrefix>(headers, PREFIX)?;
        Ok(Self(AllocateRequest {
            holder: Holder { caller, key, lab },
            prefix,
            duration: None,
            bounds,
        }))
    }
}

impl IntoParams for AllocateHeaders {
    fn into_params(location: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = TrackCaller::into_params(location);
        parameters.extend([
            header_parameter(LAB, "The lab; stored as `track_name`.", "cloud-security-101"),
            header_parameter(PREFIX, "Only sandboxes whose name begins with this text.", "lab-"),
            header_parameter(
                KEY,
                "Distinguishes several allocations of one caller; the caller's id if absent. A caller holds at most one \
                 sandbox for each key.",
                "play-7f3a91",
            ),
        ]);
        parameters
    }
}

macro_rules! administrative {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name(pub Author);

        impl<S: Sync> FromRequestParts<S> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
                require_author(parts, Role::$name).map(Self)
            }
        }
    };
}

administrative! {
    /// Requires the role `viewer`.
    Viewer
}
administrative! {
    /// Requires the role `operator`.
    Operator
}
administrative! {
    /// Requires the role `admin`.
    Admin
}

/// The sandbox id in the path. Text that cannot be an id is answered with [`ErrorCode::SandboxNotFound`].
#[derive(Clone, Debug)]
pub(crate) struct SandboxPath(pub SandboxId);

impl<S: Send + Sync> FromRequestParts<S> for SandboxPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(text)| SandboxId::parse(text).ok());
        let id = id.ok_or_else(|| ApiError::from(ErrorCode::SandboxNotFound))?;
        request_context::note_sandbox(&id);
        Ok(Self(id))
    }
}

/// The query. An invalid one is answered with [`ErrorCode::InvalidParameter`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::from_request_parts(parts, state)
            .await
            .map_err(|rejection| {
                ApiError::new(
                    ErrorCode::InvalidParameter,
                    format!("The query is invalid: {}.", rejection.body_text()),
                )
            })?;
        Ok(Self(query))
    }
}

/// The body, as JSON with any `Content-Type`. An invalid one is answered with [`ErrorCode::InvalidBody`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = read_body(request, state).await?;
        if body.is_empty() {
            return Err(ApiError::invalid_body("it is empty; send a JSON object"));
        }
        read_json(&body).map(Self).map_err(ApiError::invalid_body)
    }
}

/// Reads the body, of any content.
pub(super) async fn read_body<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| ApiError::invalid_body(rejection.body_text()))
}

/// Reads the fields of a JSON object, or returns the fault.
pub(super) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    // Serde would take its elements for the fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err("invalid type: sequence, expected an object".to_owned());
    }
    let Json(value) = Json::from_bytes(body).map_err(|rejection| {
        let text = rejection.body_text();
        // Without the constant beginning of the library's text.
        text.split_once(": ")
            .map_or_else(|| text.clone(), |(_, fault)| fault.to_owned())
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::header_value;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn repeated_header_with_one_value_counts_once() {
        let same = headers(&[("x-track-id", "a"), ("x-track-id", " a ")]);
        assert_eq!(single(&same, LEGACY_CALLER).unwrap(), Some(b"a".as_slice()));
        assert!(
            single(
                &headers(&[("x-track-id", "a"), ("x-track-id", "b")]),
                LEGACY_CALLER
            )
            .is_err()
        );
    }

    #[test]
    fn empty_optional_header_counts_as_absent() {
        let empty = headers(&[("idempotency-key", " ")]);
        assert_eq!(optional::<IdempotencyKey>(&empty, KEY).unwrap(), None);
    }

    fn parts(role: Role, names: &[&str], values: Vec<(usize, HeaderValue)>) -> Parts {
        let (mut parts, ()) = axum::http::Request::new(()).into_parts();
        parts.extensions.insert(Principal::new("test", role.into()));
        for (at, value) in values {
            let name = HeaderName::try_from(names[at % names.len()]).unwrap();
            parts.headers.append(name, value);
        }
        parts
    }

    proptest! {
        #[test]
        fn any_headers_are_a_valid_request_or_a_header_error(
            values in proptest::collection::vec((0_usize..5, header_value()), 0..6)
        ) {
            let names = [CALLER, LEGACY_CALLER, LAB, PREFIX, KEY];
            let mut parts = parts(Role::Track, &names, values);
            let read = AllocateHeaders::from_request_parts(&mut parts, &()).now_or_never().unwrap();
            match read {
                Ok(AllocateHeaders(AllocateRequest { holder, prefix, .. })) => {
                    let texts = [
                        Some(holder.caller.as_str()),
                        Some(holder.key.as_str()),
                        holder.lab.as_ref().map(LabId::as_str),
                        prefix.as_ref().map(NamePrefix::as_str),
                    ];
                    for text in texts.into_iter().flatten() {
                        prop_assert!((1..=crate::domain::MAX_TEXT).contains(&text.chars().count()));
                        prop_assert!(!text.chars().any(char::is_control));
                    }
                    if !parts.headers.contains_key(KEY) {
                        prop_assert_eq!(holder.key.as_str(), holder.caller.as_str());
                    }
                }
                Err(error) => {
                    let code = error.code();
                    prop_assert!(matches!(code, ErrorCode::MissingHeader | ErrorCode::InvalidHeader));
                }
            }
        }

        #[test]
        fn admin_token_is_forbidden_with_any_headers(value in header_value()) {
            let mut parts = parts(Role::Admin, &[CALLER], vec![(0, value)]);
            let read = TrackCaller::from_request_parts(&mut parts, &()).now_or_never().unwrap();
            prop_assert_eq!(read.unwrap_err().code(), ErrorCode::Forbidden);
        }

        #[test]
        fn any_query_is_read_or_rejected(query in "[!-~]{0,200}") {
            #[derive(serde::Deserialize)]
            struct Limit { limit: Option<usize> }

            let Ok(uri) = axum::http::Uri::try_from(format!("/?{query}")) else { return Ok(()) };
            let mut parts = parts(Role::Admin, &[], vec![]);
            parts.uri = uri;
            match ApiQuery::<Limit>::from_request_parts(&mut parts, &()).now_or_never().unwrap() {
                Ok(ApiQuery(Limit { limit })) => prop_assert!(limit.is_none() || query.contains("limit")),
                Err(error) => prop_assert_eq!(error.code(), ErrorCode::InvalidParameter),
            }
        }

        #[test]
        fn number_in_a_query_reads_back(limit in any::<usize>()) {
            #[derive(serde::Deserialize)]
            struct Limit { limit: usize }

            let mut parts = parts(Role::Admin, &[], vec![]);
            parts.uri = format!("/?limit={limit}").parse().unwrap();
            let read = ApiQuery::<Limit>::from_request_parts(&mut parts, &()).now_or_never().unwrap();
            prop_assert_eq!(read.unwrap().0.limit, limit);
        }
    }
}
