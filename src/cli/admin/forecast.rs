//! `admin forecast`: the available sandboxes of each pool at a time ahead.

use clap::Args;
use serde::Deserialize;

use super::session::Session;
use crate::{
    cli::{
        error::CommandError,
        output::{
            Cell, Table,
            time::{Moment, relative},
            write_line,
        },
    },
    client::Call,
    clock::UnixSeconds,
};

/// The arguments of `admin forecast`.
#[derive(Clone, Debug, Args)]
pub(super) struct ForecastArguments {
    /// The time, up to 90 days ahead: a time with an offset (2026-11-28T10:00:00+01:00), a day in UTC, or a duration from
    /// now (24h).
    #[arg(long, value_name = "TIME")]
    at: Moment,
}

#[derive(Deserialize)]
struct Forecast {
    at: UnixSeconds,
    assumptions: Vec<String>,
    pools: Vec<Pool>,
}

#[derive(Deserialize)]
struct Pool {
    name_prefix: String,
    target: u64,
    available: u64,
    available_now: u64,
    arriving: u64,
    created: u64,
    warming: u64,
    shortfall: Option<Shortfall>,
    assumptions: Vec<String>,
}

#[derive(Deserialize)]
struct Shortfall {
    missing: u64,
    reason: String,
    reached_at: Option<UnixSeconds>,
}

/// Shows the forecast.
pub(super) async fn show(
    session: &Session,
    arguments: &ForecastArguments,
) -> Result<(), CommandError> {
    let at = arguments.at.ahead(session.now);
    let call = Call::get(["admin", "forecast"]).query("at", Some(at));
    let answer = session.send(&call).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let forecast: Forecast = answer.json()?;
    write_line(format_args!("At {}:", session.time(Some(forecast.at))))?;
    if forecast.pools.is_empty() {
        write_line("The policy has no pools.")?;
    }
    let mut table = Table::new(&[
        "POOL",
        "TARGET",
        "AVAILABLE",
        "NOW",
        "ARRIVING",
        "CREATED",
        "WARMING",
        "MISSING",
        "REACHED",
        "REASON",
    ]);
    for pool in &forecast.pools {
        table.row(row(session, pool));
    }
    table.write()?;
    write_line("")?;
    write_line("Assumptions:")?;
    for assumption in &forecast.assumptions {
        write_line(format_args!("- {assumption}"))?;
    }
    for pool in &forecast.pools {
        for assumption in &pool.assumptions {
            write_line(format_args!("- {}: {assumption}", pool.name_prefix))?;
        }
    }
    Ok(())
}

fn row(session: &Session, pool: &Pool) -> [Cell; 10] {
    let (missing, reached, reason) = match &pool.shortfall {
        Some(Shortfall {
            missing,
            reason,
            reached_at,
        }) => {
            let reached = reached_at.map_or_else(
                || "not within a week".to_owned(),
                |at| relative(at, session.now),
            );
            (
                Cell::warning(&missing.to_string()),
                reached,
                reason.as_str(),
            )
        }
        None => (Cell::from(0_u64), String::new(), ""),
    };
    [
        pool.name_prefix.as_str().into(),
        pool.target.into(),
        pool.available.into(),
        pool.available_now.into(),
        pool.arriving.into(),
        pool.created.into(),
        pool.warming.into(),
        missing,
        reached.into(),
        reason.into(),
    ]
}
