//! A signer of tokens like those in the header `x-amzn-oidc-data`, with a key of its own. Unit tests use it too.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

/// The ARN of the load balancer of the tests.
pub const SIGNER_ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/broker/0123456789abcdef";
pub const ISSUER: &str = "https://login.example.com";
pub const CLIENT_ID: &str = "sandbox-broker";

/// The beginning of a public key of P-256 in DER, before its point (RFC 5480).
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key of the load balancers of a region.
pub struct TokenSigner {
    pub key_id: String,
    key: EncodingKey,
    pem: String,
}

impl TokenSigner {
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = [&SPKI_P256, pair.public_key().as_ref()].concat();
        let text = STANDARD.encode(der);
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n",
            &text[..64],
            &text[64..]
        );
        Self {
            key_id: uuid::Uuid::new_v4().to_string(),
            key: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()),
            pem,
        }
    }

    /// Returns the public key as AWS publishes it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the fields of a token that expires at `exp`.
    pub fn fields(&self, exp: i64) -> Value {
        json!({
            "typ": "JWT",
            "kid": self.key_id,
            "alg": "ES256",
            "iss": ISSUER,
            "client": CLIENT_ID,
            "signer": SIGNER_ARN,
            "exp": exp,
        })
    }

    /// Signs a token as a load balancer does: with padding, which is signed as well.
    pub fn token(&self, fields: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE.encode(value.to_string());
        let message = format!("{}.{}", encode(fields), encode(claims));
        let signature = self.signature(&message);
        format!(
            "{message}.{signature}{}",
            "=".repeat((4 - signature.len() % 4) % 4)
        )
    }

    /// Signs a token as RFC 7515 requires it: without padding.
    pub fn token_without_padding(&self, fields: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(fields), encode(claims));
        format!("{message}.{}", self.signature(&message))
    }

    /// Returns the signature of a text in base64url without padding.
    pub fn signature(&self, message: &str) -> String {
        crypto::sign(message.as_bytes(), &self.key, Algorithm::ES256).unwrap()
    }
}
