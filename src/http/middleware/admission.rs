//! What a request passes through before a handler that wants a token: authentication, the limit of the caller, the
//! body's bound, and room for one more.
//!
//! One layer, because axum copies everything inside of a layer for every request.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{auth, body, overload::InFlightLimit, rate_limit::RateLimits};
use crate::{auth::Authenticator, http::error::ApiError};

/// What the layer decides by.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Knows the tokens.
    pub auth: Authenticator,
    /// The limits of callers.
    pub limits: RateLimits,
    /// The longest that a client may take to send its body.
    pub body_timeout: Duration,
    /// The requests that may be under way at once.
    pub in_flight: InFlightLimit,
}

/// The layer.
pub(crate) async fn admit(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let role = match auth::authenticate(&admission.auth, request.headers()).await {
        Ok(role) => role,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(role);
    match admission.limits.check_caller(&request, role) {
        Ok(quota) => {
            let answer = admission.serve(request, next).await;
            quota.tell(answer.unwrap_or_else(IntoResponse::into_response))
        }
        Err(refusal) => refusal,
    }
}

impl Admission {
    async fn serve(&self, request: Request, next: Next) -> Result<Response, ApiError> {
        let request = body::read(request, self.body_timeout).await?;
        // Behind the reading of the body, so that slow clients take no room.
        let _slot = self.in_flight.enter()?;
        Ok(next.run(request).await)
    }
}
