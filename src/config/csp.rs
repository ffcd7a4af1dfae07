//! The settings of CSP: mode, address, token and time-outs.

use std::time::Duration;

use super::{URL, parse_url, reader::Reader};
use crate::{
    csp::{CspConfig, CspMode},
    store::{Engine, StoreConfig},
};

pub(super) fn read_csp(reader: &mut Reader<'_>, store: &StoreConfig) -> CspConfig {
    let simulated = cfg!(feature = "simulator") && store.engine == Engine::Embedded;
    CspConfig {
        mode: reader.choice(
            "CSP_MODE",
            if simulated {
                CspMode::Simulated
            } else {
                CspMode::Live
            },
            if cfg!(feature = "simulator") {
                &[("simulated", CspMode::Simulated), ("live", CspMode::Live)]
            } else {
                &[("live", CspMode::Live)]
            },
        ),
        base_url: reader.string(
            "CSP_BASE_URL",
            "https://csp.infoblox.com/v2",
            URL,
            parse_url,
        ),
        token: reader.secret("CSP_API_TOKEN"),
        connect_timeout: reader.duration(
            "CSP_TIMEOUT_CONNECT_SEC",
            5,
            1..=300,
            Duration::from_secs,
        ),
        read_timeout: reader.duration("CSP_TIMEOUT_READ_SEC", 15, 1..=300, Duration::from_secs),
        simulated_accounts: reader.number("SIMULATOR_ACCOUNTS", 200, 0..=1_000_000),
    }
}
