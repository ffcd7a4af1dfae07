//! Combinations of settings that are valid by themselves, but unsafe together.

use secrecy::{ExposeSecret, SecretString};

use super::reader::Reader;
use crate::{
    auth::{AuthConfig, is_named, is_public},
    csp::{CspConfig, CspMode},
    http::HttpConfig,
    jobs::{RefillConfig, SHORTEST_SETTLE},
    secrets::SecretsConfig,
    store::{Engine, StoreConfig},
    url::is_loopback_url,
};

/// Rejects settings that would open a shared pool to everyone, or fill it with simulated sandboxes.
pub(super) fn refuse_unsafe(
    reader: &mut Reader<'_>,
    http: &HttpConfig,
    store: &StoreConfig,
    auth: &AuthConfig,
    secrets: &SecretsConfig,
    csp: &CspConfig,
) {
    let is_shared =
        store.engine == Engine::DynamoDb && !store.endpoint.as_deref().is_some_and(is_loopback_url);
    let takes_instead = if is_shared {
        Some("a token of your own with STORE=dynamodb")
    } else if !http.host.is_loopback() {
        Some("a token of your own unless HOST is a loopback address")
    } else if http.edge.trusted_hops > 0 {
        // Clients of the proxy are elsewhere, and it may name this machine as the host of their requests.
        Some("a token of your own with TRUSTED_PROXY_HOPS above 0")
    } else if csp.mode == CspMode::Live && !is_loopback_url(&csp.base_url) {
        Some("a token of your own with CSP_MODE=live")
    } else {
        None
    };
    let has_public_text = |token: &SecretString| is_public(token.expose_secret());
    let public: Vec<_> = [
        ("BROKER_API_TOKEN", &auth.track_tokens),
        ("BROKER_ADMIN_TOKEN", &auth.admin_tokens),
    ]
    .into_iter()
    .filter(|(_, tokens)| tokens.iter().any(has_public_text))
    .map(|(variable, _)| variable)
    .collect();
    if let Some(takes) = takes_instead {
        for variable in public {
            reader.refuse(variable, "a token that everybody knows", takes);
        }
    } else if !public.is_empty() {
        reader.warn(format!(
            "everybody knows the token in {}; it is accepted only because pool and CSP are on this machine, and nobody \
             else reaches them",
            public.join(" and in ")
        ));
    }
    for (variable, tokens, principal) in [
        ("BROKER_API_TOKEN", &auth.track_tokens, "env-track"),
        ("BROKER_ADMIN_TOKEN", &auth.admin_tokens, "env-admin"),
    ] {
        // The command line reads its token from the same variable.
        if tokens.iter().any(|token| is_named(token.expose_secret())) {
            reader.warn(format!(
                "{variable} has a token that begins with sbt_, as named tokens do: with it, the owner of a named token \
                 acts as {principal}",
            ));
        }
    }
    if store.table.companion == store.table.name {
        reader.refuse(
            "DDB_COMPANION_TABLE_NAME",
            "the name of the pool's table",
            "another name than DDB_TABLE_NAME",
        );
    }
    let [first, second, third] = [
        &store.table.status_index,
        &store.table.track_index,
        &store.table.idempotency_index,
    ];
    if first == second || first == third || second == third {
        reader.refuse(
            "DDB_GSI3_NAME",
            "the name of another index",
            "three different names for the three indexes",
        );
    }
    let track_tokens: Vec<_> = auth
        .track_tokens
        .iter()
        .map(ExposeSecret::expose_secret)
        .collect();
    if auth
        .admin_tokens
        .iter()
        .any(|token| track_tokens.contains(&token.expose_secret()))
    {
        reader.warn(
            "BROKER_ADMIN_TOKEN has a token that is also in BROKER_API_TOKEN: every lab script has the rights of an admin",
        );
    }
    if csp.mode == CspMode::Live && csp.token.is_none() && secrets.csp_token.is_none() {
        reader.refuse(
            "CSP_API_TOKEN",
            "nothing",
            "the API token of the CSP account, with CSP_MODE=live; or set CSP_API_TOKEN_SECRET_ID",
        );
    }
    if csp.mode == CspMode::Simulated && is_shared {
        reader.refuse(
            "CSP_MODE",
            "\"simulated\"",
            "\"live\" unless DDB_ENDPOINT_URL is a loopback address",
        );
    }
}

/// Rejects a time after which a request to create an account may still be on its way.
pub(super) fn refuse_short_settle(reader: &mut Reader<'_>, refill: &RefillConfig, csp: &CspConfig) {
    let is_elsewhere = csp.mode == CspMode::Live && !is_loopback_url(&csp.base_url);
    if is_elsewhere && refill.settle < SHORTEST_SETTLE {
        reader.refuse(
            "REFILL_SETTLE_SEC",
            refill.settle.as_secs().to_string(),
            "a number from 40 to 600, with a CSP that is not on this machine",
        );
    }
}
