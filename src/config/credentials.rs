//! Who may call, as whom the broker calls, and where those secrets are kept.

use std::time::Duration;

use super::{parse_url, reader::Reader};
use crate::{
    auth::{AuthConfig, DEFAULT_ADMIN_TOKEN, DEFAULT_TRACK_TOKEN},
    secrets::SecretsConfig,
};

pub(super) fn read_secrets(reader: &mut Reader<'_>) -> SecretsConfig {
    let mut id = |variable| reader.optional(variable, parse_secret_id);
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
        endpoint: reader.optional("SECRETS_ENDPOINT_URL", parse_url),
    };
    for (in_environment, elsewhere, is_elsewhere) in [
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
        if is_elsewhere && reader.raw(in_environment).is_some() {
            reader.refuse(
                in_environment,
                format!("a value, as well as {elsewhere}"),
                "nothing if that is set: set only one of the two",
            );
        }
    }
    config
}

/// A name or an ARN, by Secrets Manager's own rule.
fn parse_secret_id(text: &str) -> Result<String, String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-:!".contains(&byte));
    (text.len() <= 2048 && plain)
        .then(|| text.to_owned())
        .ok_or_else(|| "the name or the ARN of a secret in Secrets Manager".to_owned())
}

pub(super) fn read_auth(reader: &mut Reader<'_>, secrets: &SecretsConfig) -> AuthConfig {
    let mut tokens = |variable, default, is_elsewhere| {
        if is_elsewhere {
            reader.show_secret(variable, false);
            return Vec::new();
        }
        reader.secrets(variable, default)
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
