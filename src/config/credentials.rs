//! The settings of credentials: tokens in the environment, and secrets in Secrets Manager.

use std::time::Duration;

use super::{URL, parse_url, reader::Reader};
use crate::{
    auth::{AuthConfig, DEFAULT_ADMIN_TOKEN, DEFAULT_TRACK_TOKEN},
    secrets::SecretsConfig,
};

pub(super) fn read_secrets(reader: &mut Reader<'_>) -> SecretsConfig {
    let mut id = |variable| reader.optional(variable, SECRET_ID, parse_secret_id);
    let (track_tokens, admin_tokens) = (
        id("BROKER_API_TOKEN_SECRET_ID"),
        id("BROKER_ADMIN_TOKEN_SECRET_ID"),
    );
    let (csp_token, niosxaas) = (id("CSP_API_TOKEN_SECRET_ID"), id("NIOSXAAS_SECRET_ID"));
    let config = SecretsConfig {
        track_tokens,
        admin_tokens,
        csp_token,
        niosxaas,
        refresh: reader.duration("SECRETS_REFRESH_SEC", 300, 1..=86_400, Duration::from_secs),
        overlap: reader.duration(
            "SECRETS_OVERLAP_SEC",
            86_400,
            0..=31_536_000,
            Duration::from_secs,
        ),
        endpoint: reader.optional("SECRETS_ENDPOINT_URL", URL, parse_url),
    };
    for (variable, secret_variable, is_in_manager) in [
        (
            "BROKER_API_TOKEN",
            "BROKER_API_TOKEN_SECRET_ID",
            config.track_tokens.is_some(),
        ),
        (
            "BROKER_ADMIN_TOKEN",
            "BROKER_ADMIN_TOKEN_SECRET_ID",
            config.admin_tokens.is_some(),
        ),
        (
            "CSP_API_TOKEN",
            "CSP_API_TOKEN_SECRET_ID",
            config.csp_token.is_some(),
        ),
        (
            "NIOSXAAS_PASSWORD",
            "NIOSXAAS_SECRET_ID",
            config.niosxaas.is_some(),
        ),
    ] {
        if is_in_manager && reader.raw(variable).is_some() {
            reader.refuse(
                variable,
                format!("a value, as well as {secret_variable}"),
                "nothing if that is set: set only one of the two",
            );
        }
        // Otherwise a default token, or none, would silently replace the missing secret.
        if !is_in_manager && reader.raw(variable).is_none() {
            for empty in [variable, secret_variable] {
                if reader.is_empty(empty) {
                    reader.refuse(
                        empty,
                        "an empty text",
                        "a value; remove the variable if it is not meant to be set",
                    );
                }
            }
        }
    }
    config
}

const SECRET_ID: &str = "the name or the ARN of a secret in Secrets Manager";

/// Accepts names and ARNs by the rule of Secrets Manager.
fn parse_secret_id(text: &str) -> Option<String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-:!".contains(&byte));
    (text.len() <= 2048 && plain).then(|| text.to_owned())
}

pub(super) fn read_auth(reader: &mut Reader<'_>, secrets: &SecretsConfig) -> AuthConfig {
    let mut tokens = |variable, default, is_in_manager| {
        if is_in_manager {
            reader.no_tokens(variable);
            return Vec::new();
        }
        reader.tokens(variable, default)
    };
    AuthConfig {
        track_tokens: tokens(
            "BROKER_API_TOKEN",
            DEFAULT_TRACK_TOKEN,
            secrets.track_tokens.is_some(),
        ),
        admin_tokens: tokens(
            "BROKER_ADMIN_TOKEN",
            DEFAULT_ADMIN_TOKEN,
            secrets.admin_tokens.is_some(),
        ),
    }
}
