//! The admission of requests to handlers that require a token: authentication, rate limit of the caller, limits of the
//! body, limit of requests in progress.
//!
//! They are one layer, because axum clones everything inside of a layer for every request.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{auth, body, overload::InFlightLimit, rate_limit::RateLimits};
use crate::{
    auth::Authenticator,
    domain::Principal,
    http::{error::ApiError, request_context},
};

/// The state of the layer.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The valid tokens.
    pub auth: Authenticator,
    /// The rate limits.
    pub limits: RateLimits,
    /// The longest time that a client may take to send its body.
    pub body_timeout: Duration,
    /// The limit of requests in progress.
    pub in_flight: InFlightLimit,
}

/// The layer that admits a request to its handler, or answers it with an error. The [`Principal`] in the
/// extensions of the request is that of its token, which the limit by address has found valid already.
pub(crate) async fn admit(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let known: Option<Principal> = request.extensions().get().cloned();
    let principal = match known {
        Some(principal) => principal,
        None => match auth::principal_after_refresh(&admission.auth, request.headers()).await {
            Ok(principal) => principal,
            Err(error) => return error.into_response(),
        },
    };
    request_context::note_principal(&principal.name);
    let checked = admission.limits.check_caller(&request, &principal);
    request.extensions_mut().insert(principal);
    match checked {
        Ok(quota) => {
            let answer = admission.serve(request, next).await;
            quota.add_headers(answer.unwrap_or_else(IntoResponse::into_response))
        }
        Err(refusal) => refusal,
    }
}

impl Admission {
    async fn serve(&self, request: Request, next: Next) -> Result<Response, ApiError> {
        let request = body::read(request, self.body_timeout).await?;
        // After the body is read, so that slow clients occupy no slot.
        let _slot = self.in_flight.enter()?;
        Ok(next.run(request).await)
    }
}
