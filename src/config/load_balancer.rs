//! The settings of sign-in at the load balancer.

use super::{URL, parse_url, reader::Reader};
use crate::{
    auth::load_balancer::{
        LoadBalancerConfig, ROLE_ENTRIES, RoleEntries, RoleMap, is_load_balancer, public_keys_url,
    },
    tls::is_plain,
    url::is_loopback_url,
};

const SIGNER: &str = "ALB_OIDC_SIGNER_ARN";
const ARN: &str = "the ARN of an Application Load Balancer";
const WORD: &str = "a text without blanks";

/// Reads the settings; `None` if sign-in at the load balancer is off.
pub(super) fn read_load_balancer(reader: &mut Reader<'_>) -> Option<LoadBalancerConfig> {
    let signer = reader.optional(SIGNER, ARN, |text| {
        is_load_balancer(text).then(|| text.to_owned())
    });
    let issuer = reader.optional("ALB_OIDC_ISSUER", WORD, parse_word);
    let client_id = reader.optional("ALB_OIDC_CLIENT_ID", WORD, parse_word);
    let keys_url = reader.optional("ALB_OIDC_KEYS_URL", URL, parse_url);
    let groups_claim = reader.string("ALB_OIDC_GROUPS_CLAIM", "groups", WORD, parse_word);
    let mut entries = |variable| {
        reader.parsed(
            variable,
            RoleEntries::default(),
            RoleEntries::to_string,
            ROLE_ENTRIES,
            RoleEntries::parse,
        )
    };
    let roles = RoleMap {
        admins: entries("ALB_OIDC_ADMINS"),
        operators: entries("ALB_OIDC_OPERATORS"),
        viewers: entries("ALB_OIDC_VIEWERS"),
    };
    let Some(signer) = signer else {
        warn_of_unused(reader);
        return None;
    };
    if let Some(url) = &keys_url
        && is_plain(url)
        && !is_loopback_url(url)
    {
        reader.refuse(
            "ALB_OIDC_KEYS_URL",
            format!("{url:?}"),
            "an https URL: over http, anyone on the network path could forge the keys and sign in as any person",
        );
    }
    let keys_url = keys_url.or_else(|| public_keys_url(&signer));
    if keys_url.is_none() {
        reader.refuse(
            "ALB_OIDC_KEYS_URL",
            "nothing",
            "the URL of the public keys, which is not known for the partition in ALB_OIDC_SIGNER_ARN",
        );
    }
    if roles.is_empty() {
        reader.refuse(
            "ALB_OIDC_ADMINS",
            "nothing, like ALB_OIDC_OPERATORS and ALB_OIDC_VIEWERS, so that nobody who signs in has a role",
            ROLE_ENTRIES,
        );
    }
    Some(LoadBalancerConfig {
        signer,
        issuer,
        client_id,
        keys_url: keys_url.unwrap_or_default(),
        groups_claim,
        roles,
    })
}

fn parse_word(text: &str) -> Option<String> {
    let is_word = !text.contains(|char: char| char.is_whitespace() || char.is_control());
    is_word.then(|| text.to_owned())
}

fn warn_of_unused(reader: &mut Reader<'_>) {
    for variable in [
        "ALB_OIDC_ISSUER",
        "ALB_OIDC_CLIENT_ID",
        "ALB_OIDC_KEYS_URL",
        "ALB_OIDC_GROUPS_CLAIM",
        "ALB_OIDC_ADMINS",
        "ALB_OIDC_OPERATORS",
        "ALB_OIDC_VIEWERS",
    ] {
        if reader.raw(variable).is_some() {
            reader.warn(format!("{variable} has no effect without {SIGNER}"));
        }
    }
}
