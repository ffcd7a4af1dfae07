//! The admission of requests to handlers that require a token: authentication, rate limit of the caller, limits of the
//! body, limit of requests in progress. It also sees the answers, and records those that refuse a request in the audit.
//!
//! They are one layer, because axum clones everything inside of a layer for every request.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    auth, body::BodyReader, client::ClientAddress, overload::InFlightLimit, rate_limit::RateLimits,
    refusals::Attempt, sign_in,
};
use crate::{
    auth::{Authenticator, load_balancer::LoadBalancer},
    broker::RefusalLog,
    domain::{Principal, Role},
    http::{error::ApiError, request_context},
};

/// The lowest role that suffices for each operation, by method and route.
pub(crate) type RequiredRoles = HashMap<(Method, String), Role>;

/// The state of the layer.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The valid tokens.
    pub auth: Authenticator,
    /// Sign-in at the load balancer, if it is on.
    pub load_balancer: Option<Arc<LoadBalancer>>,
    /// The roles that the operations require, for answers without a valid token.
    pub required: RequiredRoles,
    /// The rate limits.
    pub limits: RateLimits,
    /// Reads the bodies.
    pub bodies: BodyReader,
    /// The limit of requests in progress.
    pub in_flight: InFlightLimit,
    /// The audit of refused requests.
    pub refusals: Arc<RefusalLog>,
}

/// The layer that admits a request to its handler, or answers it with an error. The [`Principal`] in the
/// extensions of the request is that of its token, which the limit by address has found valid already.
pub(crate) async fn admit(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let principal = match admission.identify(&mut request).await {
        Ok(principal) => principal,
        Err(refusal) => return refusal,
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
    /// Returns the principal of a request: that of its token or, without an `Authorization` header, the person whom the
    /// load balancer has signed in.
    async fn identify(&self, request: &mut Request) -> Result<Principal, Response> {
        let known: Option<Principal> = request.extensions().get().cloned();
        if let Some(principal) = known {
            return Ok(principal);
        }
        if let Some(load_balancer) = &self.load_balancer
            && sign_in::is_for_people(request.uri())
            && let Some(header) =
                sign_in::header_of(request.headers()).map_err(IntoResponse::into_response)?
        {
            let address = request.extensions().get().copied();
            let person = self.sign_in(load_balancer, header, address).await?;
            request_context::note_principal(&person.name);
            if let Err(error) = sign_in::check(&person, request.method(), request.headers()) {
                let answer = error.into_response();
                request.extensions_mut().insert(person);
                Attempt::of(request, Bytes::new()).record_refusal(&answer, &self.refusals);
                return Err(answer);
            }
            sign_in::mark(request.extensions_mut());
            return Ok(person);
        }
        auth::principal_after_refresh(&self.auth, request.headers())
            .await
            .map_err(|error| self.with_role(error, request).into_response())
    }

    /// Verifies the header of the load balancer. One that known keys do not prove is a guess, of which an address has
    /// only few: others could have made it up, and its key may have to be fetched.
    async fn sign_in(
        &self,
        load_balancer: &LoadBalancer,
        header: &[u8],
        address: Option<ClientAddress>,
    ) -> Result<Principal, Response> {
        let verified = match load_balancer.verify_with_known_keys(header) {
            Some(Ok(person)) => return Ok(person),
            Some(Err(error)) => {
                self.limits.check_guess(address)?;
                Err(error)
            }
            None => {
                self.limits.check_guess(address)?;
                load_balancer.verify(header).await
            }
        };
        verified.map_err(|error| sign_in::refusal(error).into_response())
    }

    /// Adds the role that the operation requires to an error about the token.
    fn with_role(&self, error: ApiError, request: &Request) -> ApiError {
        let route: Option<&MatchedPath> = request.extensions().get();
        let required = route.and_then(|route| {
            let operation = (request.method().clone(), route.as_str().to_owned());
            self.required.get(&operation)
        });
        match required {
            Some(role) => error.with_hint(format_args!("This endpoint requires the role {role}.")),
            None => error,
        }
    }

    async fn serve(&self, request: Request, next: Next) -> Result<Response, ApiError> {
        let (request, body) = self.bodies.read(request).await?;
        // After the body is read, so that slow clients occupy no slot.
        let _slot = self.in_flight.enter()?;
        let attempt = Attempt::of(&request, body.bytes.clone());
        let answer = next.run(request).await;
        attempt.record_refusal(&answer, &self.refusals);
        Ok(answer)
    }
}
