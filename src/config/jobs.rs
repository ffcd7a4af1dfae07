//! The settings of jobs: intervals, pace of deletions, and NIOSXaaS.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::{URL, parse_url, reader::Reader};
use crate::{
    csp::{
        niosxaas::NiosxaasConfig,
        session::CspUser,
        throttle::{BreakerConfig, PaceConfig},
    },
    jobs::{CheckConfig, CheckMode, JobsConfig, RefillConfig, RefillMode, SyncConfig},
    store::Engine,
};

pub(super) fn read_sync(reader: &mut Reader<'_>) -> SyncConfig {
    SyncConfig {
        max_stale_fraction: reader.number("MAX_STALE_FRACTION", 0.5, 0.0..=1.0),
        tombstone_retry: reader.duration(
            "TOMBSTONE_RETRY_SEC",
            3600,
            60..=86_400,
            Duration::from_secs,
        ),
    }
}

pub(super) fn read_jobs(reader: &mut Reader<'_>, engine: Engine) -> JobsConfig {
    let mut interval =
        |variable, default| reader.duration(variable, default, 1..=604_800, Duration::from_secs);
    let (sync_interval, cleanup_interval) = (
        interval("SYNC_INTERVAL_SEC", 600),
        interval("CLEANUP_INTERVAL_SEC", 300),
    );
    let expiry_interval = interval("AUTO_EXPIRY_INTERVAL_SEC", 300);
    let stale_interval = interval("AUTO_DELETE_STALE_INTERVAL_SEC", 86_400);
    JobsConfig {
        run_in_serve: reader.flag("RUN_JOBS", engine == Engine::Embedded),
        sync_interval,
        cleanup_interval,
        expiry_interval,
        max_expire_fraction: reader.number("MAX_EXPIRE_FRACTION", 0.5, 0.0..=1.0),
        stale_interval,
        stale_grace: reader.duration(
            "STALE_GRACE_PERIOD_HOURS",
            24,
            0..=8760,
            Duration::from_hours,
        ),
        check: read_check(reader),
        refill: read_refill(reader),
        pace: PaceConfig {
            batch: reader.number("CLEANUP_BATCH_SIZE", 10, 1..=10_000),
            batch_delay: pause(reader, "CLEANUP_BATCH_DELAY_SEC", 2.0),
            item_delay: pause(reader, "CLEANUP_PER_SANDBOX_DELAY_SEC", 0.0),
        },
        cleanup_concurrency: reader.number("CLEANUP_CONCURRENCY", 1, 1..=25),
        pool_low_below: reader.number("POOL_LOW_THRESHOLD", 20, 0..=1_000_000),
        deletion_max_attempts: reader.number("DELETION_RETRY_MAX_ATTEMPTS", 8, 1..=100),
        breaker: BreakerConfig {
            threshold: reader.number("CIRCUIT_BREAKER_THRESHOLD", 5, 1..=1000),
            timeout: reader.duration(
                "CIRCUIT_BREAKER_TIMEOUT_SEC",
                60,
                1..=3600,
                Duration::from_secs,
            ),
        },
    }
}

fn read_check(reader: &mut Reader<'_>) -> CheckConfig {
    let modes = [
        ("off", CheckMode::Off),
        ("new", CheckMode::New),
        ("all", CheckMode::All),
    ];
    CheckConfig {
        mode: reader.choice("CHECK_MODE", CheckMode::Off, &modes),
        interval: reader.duration("CHECK_INTERVAL_SEC", 60, 1..=604_800, Duration::from_secs),
        recheck_after: reader.duration("RECHECK_HOURS", 24, 1..=8760, Duration::from_hours),
        provision_timeout: reader.duration(
            "PROVISION_TIMEOUT_MINUTES",
            30,
            1..=1440,
            Duration::from_mins,
        ),
        max_failures: reader.number("CHECK_MAX_FAILURES", 5, 1..=100),
        pace: PaceConfig {
            batch: reader.number("CHECK_BATCH_SIZE", 10, 1..=10_000),
            batch_delay: pause(reader, "CHECK_BATCH_DELAY_SEC", 2.0),
            item_delay: Duration::ZERO,
        },
    }
}

fn read_refill(reader: &mut Reader<'_>) -> RefillConfig {
    let modes = [
        ("off", RefillMode::Off),
        ("plan", RefillMode::Plan),
        ("on", RefillMode::On),
    ];
    RefillConfig {
        mode: reader.choice("REFILL_MODE", RefillMode::Off, &modes),
        interval: reader.duration("REFILL_INTERVAL_SEC", 60, 1..=604_800, Duration::from_secs),
        pace: PaceConfig {
            batch: reader.number("REFILL_BATCH", 5, 1..=1000),
            batch_delay: Duration::ZERO,
            item_delay: pause(reader, "REFILL_DELAY_SEC", 1.0),
        },
        settle: reader.duration("REFILL_SETTLE_SEC", 60, 0..=600, Duration::from_secs),
    }
}

/// Reads a pause of up to ten minutes, in seconds.
fn pause(reader: &mut Reader<'_>, variable: &'static str, default: f64) -> Duration {
    Duration::from_secs_f64(reader.number(variable, default, 0.0..=600.0))
}

pub(super) fn read_niosxaas(reader: &mut Reader<'_>) -> Option<NiosxaasConfig> {
    let enabled = reader.flag("NIOSXAAS_ENABLED", false);
    let config = NiosxaasConfig {
        base_url: reader.string(
            "NIOSXAAS_BASE_URL",
            "https://csp.infoblox.com",
            URL,
            parse_url,
        ),
        service_name: reader.text_or_empty("NIOSXAAS_SERVICE_NAME", "Instrqt-SaaS"),
        timeout: reader.duration("NIOSXAAS_TIMEOUT_SEC", 30, 1..=300, Duration::from_secs),
        shadow_mode: reader.flag("NIOSXAAS_SHADOW_MODE", true),
    };
    enabled.then_some(config)
}

/// Reads the user that deletes NIOSXaaS services and checks accounts.
pub(super) fn read_csp_user(reader: &mut Reader<'_>) -> CspUser {
    CspUser {
        email: reader.text("NIOSXAAS_EMAIL", "", "any text"),
        password: reader.secret("NIOSXAAS_PASSWORD").unwrap_or_default(),
    }
}

/// Rejects settings without a user if NIOSXaaS services are to be deleted, or accounts to be checked.
pub(super) fn require_csp_user(
    reader: &mut Reader<'_>,
    user: &CspUser,
    deletes_services: bool,
    checks_accounts: bool,
) {
    let needed_with = match (deletes_services, checks_accounts) {
        (true, _) => "NIOSXAAS_ENABLED=true",
        (false, true) => "CHECK_MODE=new or all",
        (false, false) => return,
    };
    for (variable, is_missing, what) in [
        (
            "NIOSXAAS_EMAIL",
            user.email.is_empty(),
            "the user's e-mail address",
        ),
        (
            "NIOSXAAS_PASSWORD",
            user.password.expose_secret().is_empty(),
            "the user's password",
        ),
    ] {
        if is_missing {
            let takes = format!("{what}, with {needed_with}; or set NIOSXAAS_SECRET_ID");
            reader.refuse(variable, "nothing", takes);
        }
    }
}
