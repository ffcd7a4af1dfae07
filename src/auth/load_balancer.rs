//! Sign-in at the load balancer: the identity in the header that an AWS Application Load Balancer (ALB) adds to the
//! requests of a person whom it has signed in with an OpenID Connect provider.
//!
//! The header is a JSON Web Token of the ALB, not the provider's ID token. AWS describes it under "User claims encoding
//! and signature verification" in "Authenticate users using an Application Load Balancer". Every ALB of a region signs
//! with the keys of the region, those of other accounts too, so that the signature alone proves nothing: the ARN of the
//! signer has to be the expected one.

mod claims;
mod keys;
mod role_map;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use thiserror::Error;

use self::{claims::Claims, keys::Keys, token::UnverifiedToken};
pub(crate) use self::{
    keys::{is_load_balancer, public_keys_url},
    role_map::{ROLE_ENTRIES, RoleEntries, RoleMap},
};
use crate::{clock::Clock, domain::Principal, telemetry::metrics::Metrics};

/// The settings of sign-in at the load balancer.
#[derive(Clone, Debug)]
pub struct LoadBalancerConfig {
    /// `ALB_OIDC_SIGNER_ARN`: the ARN of the load balancer.
    pub signer: String,
    /// `ALB_OIDC_ISSUER`: the provider; any, if absent.
    pub issuer: Option<String>,
    /// `ALB_OIDC_CLIENT_ID`: the client of the load balancer at the provider; any, if absent.
    pub client_id: Option<String>,
    /// `ALB_OIDC_KEYS_URL`: where the public keys are, without a slash at the end.
    pub keys_url: String,
    /// `ALB_OIDC_GROUPS_CLAIM`: the claim with the groups of a person.
    pub groups_claim: String,
    /// `ALB_OIDC_ADMINS`, `ALB_OIDC_OPERATORS`, `ALB_OIDC_VIEWERS`: the entries of each role.
    pub roles: RoleMap,
}

/// The reason why a header is not the identity of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignInError {
    /// Not three parts of base64url with the fields that an ALB writes.
    #[error("it is not a token of a load balancer")]
    Malformed,
    /// Longer than any that an ALB sends.
    #[error("it is longer than that of any load balancer")]
    TooLong,
    /// Not signed with ES256.
    #[error("it is not signed with ES256")]
    WrongAlgorithm,
    /// Signed by another load balancer.
    #[error("it names another load balancer than ALB_OIDC_SIGNER_ARN")]
    WrongSigner,
    /// From another provider.
    #[error("it names another provider than ALB_OIDC_ISSUER")]
    WrongIssuer,
    /// For another client of the provider.
    #[error("it names another client than ALB_OIDC_CLIENT_ID")]
    WrongClient,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Valid for longer than any session of an ALB.
    #[error("it is valid for longer than any session")]
    ExpiresTooLate,
    /// There is no such key.
    #[error("it names a key that the load balancers of the region do not have")]
    UnknownKey,
    /// The signature is not one of the key over the token.
    #[error("its signature is wrong")]
    WrongSignature,
    /// Without a subject, or with one that is no short, printable text.
    #[error("it does not state who has signed in")]
    NoSubject,
    /// The key cannot be fetched now, so nothing is known about the header.
    #[error("the public key of the load balancer cannot be fetched")]
    KeyUnavailable,
}

/// The verification of headers of one load balancer.
#[derive(Debug)]
pub struct LoadBalancer {
    config: LoadBalancerConfig,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

impl LoadBalancer {
    /// Creates the verification.
    ///
    /// # Errors
    /// If TLS cannot be initialized.
    pub fn new(
        config: LoadBalancerConfig,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> reqwest::Result<Self> {
        Ok(Self {
            keys: Keys::new(config.keys_url.clone(), Arc::clone(&clock), metrics)?,
            config,
            clock,
        })
    }

    /// Verifies a header with the keys that are known. Returns `None` if its key has to be fetched first. Takes some
    /// 100 µs, almost all of it for the signature; a header that is refused for another reason takes less.
    #[must_use]
    pub fn verify_with_known_keys(&self, header: &[u8]) -> Option<Result<Principal, SignInError>> {
        let token = match self.accepted(header) {
            Ok(token) => token,
            Err(error) => return Some(Err(error)),
        };
        let key = self.keys.known(token.key_id)?;
        Some(
            token
                .verified_by(&key)
                .map(|claims| self.principal(&claims)),
        )
    }

    /// Verifies a header. Fetches its key if necessary.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn verify(&self, header: &[u8]) -> Result<Principal, SignInError> {
        let token = self.accepted(header)?;
        let key = self.keys.get(token.key_id).await?;
        token
            .verified_by(&key)
            .map(|claims| self.principal(&claims))
    }

    /// Checks everything but the signature, so that no key is fetched for a header that would be refused anyway.
    fn accepted<'a>(&self, header: &'a [u8]) -> Result<UnverifiedToken<'a>, SignInError> {
        UnverifiedToken::read(header, &self.config, self.clock.now())
    }

    /// Returns the person, named by their e-mail address, or else by `@` and their subject: no token and no job has such
    /// a name. The settings may give them no role.
    fn principal(&self, claims: &Claims) -> Principal {
        let groups = claims.texts(&self.config.groups_claim);
        let email = claims.email.as_deref();
        let roles = self.config.roles.roles_of(email, &groups);
        let name = email.map_or_else(|| format!("@{}", claims.subject), str::to_owned);
        Principal::new(name, roles)
    }
}
