//! Settings that name a pool or a CSP elsewhere, without `STORE` and `CSP_MODE`. They sufficed for the FastAPI service;
//! this broker, with the defaults of a laptop, would allocate made-up accounts instead.

use secrecy::ExposeSecret;

use super::reader::Reader;
use crate::{
    csp::{self, CspConfig, CspMode},
    store::{Engine, StoreConfig},
};

const TABLE: [&str; 6] = [
    "DDB_TABLE_NAME",
    "DDB_COMPANION_TABLE_NAME",
    "DDB_GSI1_NAME",
    "DDB_GSI2_NAME",
    "DDB_GSI3_NAME",
    "DDB_ENDPOINT_URL",
];

const CSP: [&str; 3] = ["CSP_BASE_URL", "CSP_API_TOKEN", "CSP_API_TOKEN_SECRET_ID"];

/// Rejects settings of a pool or a CSP elsewhere unless `STORE` and `CSP_MODE` say whether they are meant, and in live
/// mode those with which the FastAPI service simulated its CSP.
pub(super) fn refuse_ambiguous(reader: &mut Reader<'_>, store: &StoreConfig, csp: &CspConfig) {
    let set = |names: &[&'static str]| -> Vec<&'static str> {
        let is_meant = |text: &str| !csp::is_placeholder(text);
        names
            .iter()
            .copied()
            .filter(|name| reader.raw(name).is_some_and(is_meant))
            .collect()
    };
    let (mut table, mut csp_settings) = (set(&TABLE), set(&CSP));
    if store.engine != Engine::Embedded || reader.raw("STORE").is_some() {
        table.clear();
    }
    if csp.mode != CspMode::Simulated || reader.raw("CSP_MODE").is_some() {
        csp_settings.clear();
    }
    let list = [table, csp_settings].concat().join(", ");
    if !list.is_empty() && reader.raw("STORE").is_none() {
        reader.refuse(
            "STORE",
            format!("nothing, although {list} is set"),
            "dynamodb for the pool in that table and that CSP; or embedded, with CSP_MODE=simulated, for a pool of \
             made-up accounts on this machine",
        );
    } else if !list.is_empty() {
        reader.refuse(
            "CSP_MODE",
            format!("nothing, although {list} is set"),
            "live for that CSP, or simulated for made-up accounts",
        );
    }
    if csp.mode == CspMode::Simulated {
        return;
    }
    if reader.is_empty("CSP_BASE_URL") {
        reader.refuse(
            "CSP_BASE_URL",
            "an empty text, with which the FastAPI service simulated its CSP",
            "the URL of the CSP; remove the variable for https://csp.infoblox.com/v2, or set CSP_MODE=simulated",
        );
    }
    if let Some(token) = &csp.token
        && csp::is_placeholder(token.expose_secret())
    {
        reader.refuse(
            "CSP_API_TOKEN",
            "the placeholder with which the FastAPI service simulated its CSP",
            "the API token of the CSP account; or set CSP_MODE=simulated",
        );
    }
}
