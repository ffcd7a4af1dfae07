//! The token in the header of the load balancer: its form, its fields and its signature.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{Deserialize, de::IgnoredAny};
use uuid::Uuid;

use super::{LoadBalancerConfig, SignInError, claims::Claims};
use crate::clock::UnixSeconds;

/// The longest header that is read, in bytes. An ALB accepts at most 11 KiB of claims and access token together, which
/// are 15 KiB in base64, besides some 500 bytes of other fields.
const MAX_LENGTH: usize = 16 * 1024;
/// The only algorithm that an ALB signs with.
const ALGORITHM: Algorithm = Algorithm::ES256;
/// Its name in the token.
const ALGORITHM_NAME: &str = "ES256";
/// How far the clocks of the broker and of the load balancer may differ. Until then an expired token is accepted.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// The longest session of an ALB (`SessionTimeout`). A token that is valid for longer is not one of a session.
const LONGEST_SESSION: Duration = Duration::from_hours(7 * 24);

/// Base64url with or without padding. An ALB pads, against RFC 7515, and signs the padded text.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The fields before the claims.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    signer: String,
    iss: String,
    client: String,
    exp: i64,
    /// Extensions that a reader has to know (RFC 7515, section 4.1.11). There are none for these tokens.
    crit: Option<IgnoredAny>,
}

/// A token whose fields are as expected. Its signature has not been verified.
#[derive(Debug)]
pub(super) struct UnverifiedToken<'a> {
    /// The key that has to have signed it. A UUID, so that it is safe in a URL.
    pub(super) key_id: Uuid,
    /// The part that is signed, as it was received.
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
}

impl<'a> UnverifiedToken<'a> {
    /// Reads a header, and compares its fields with `config` and `now`.
    ///
    /// # Errors
    /// [`SignInError`].
    pub(super) fn read(
        header: &'a [u8],
        config: &LoadBalancerConfig,
        now: UnixSeconds,
    ) -> Result<Self, SignInError> {
        if header.len() > MAX_LENGTH {
            return Err(SignInError::TooLong);
        }
        let text = str::from_utf8(header).map_err(|_| SignInError::Malformed)?;
        let parts = || {
            let (message, signature) = text.rsplit_once('.')?;
            let (fields, claims) = message.split_once('.')?;
            Some((message, fields, claims, signature))
        };
        let (message, fields, claims, signature) = parts().ok_or(SignInError::Malformed)?;
        let fields: Header = read_json(fields)?;
        let key_id = Uuid::try_parse(&fields.kid).map_err(|_| SignInError::Malformed)?;
        let is_other = |expected: &Option<String>, found: &str| {
            expected.as_ref().is_some_and(|expected| expected != found)
        };
        let expires = UnixSeconds(fields.exp);
        if fields.crit.is_some() {
            Err(SignInError::Malformed)
        } else if fields.alg != ALGORITHM_NAME {
            Err(SignInError::WrongAlgorithm)
        } else if fields.signer != config.signer {
            Err(SignInError::WrongSigner)
        } else if is_other(&config.issuer, &fields.iss) {
            Err(SignInError::WrongIssuer)
        } else if is_other(&config.client_id, &fields.client) {
            Err(SignInError::WrongClient)
        } else if now >= expires + CLOCK_SKEW {
            Err(SignInError::Expired)
        } else if expires > now + LONGEST_SESSION + CLOCK_SKEW {
            Err(SignInError::ExpiresTooLate)
        } else {
            Ok(Self {
                key_id,
                message,
                claims,
                signature,
            })
        }
    }

    /// Verifies the signature, and returns the claims. The algorithm is fixed; that in the token is not used.
    ///
    /// # Errors
    /// [`SignInError`].
    pub(super) fn verified_by(&self, key: &DecodingKey) -> Result<Claims, SignInError> {
        // The signature itself is not signed, so its padding may be removed.
        let signature = self.signature.trim_end_matches('=');
        let verified = crypto::verify(signature, self.message.as_bytes(), key, ALGORITHM);
        if !verified.unwrap_or(false) {
            return Err(SignInError::WrongSignature);
        }
        Claims::read(read_json(self.claims)?)
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, SignInError> {
    let bytes = BASE64.decode(part).map_err(|_| SignInError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| SignInError::Malformed)
}
