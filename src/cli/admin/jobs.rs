//! `admin jobs`: the recent runs of the jobs.

use std::process::ExitCode;

use clap::{Args, builder::PossibleValuesParser};
use serde::Deserialize;
use serde_json::Value;

use super::{
    run,
    run_record::{self, Run},
    session::Session,
};
use crate::{
    cli::{error::CommandError, output},
    client::Call,
    domain::JobName,
};

/// The arguments of `admin jobs`.
#[derive(Clone, Debug, Args)]
pub(super) struct JobsArguments {
    /// The id of a run.
    #[arg(value_name = "RUN_ID")]
    id: Option<String>,
    /// Wait for the end of the run, and show its progress, as `admin run` does.
    #[arg(long, requires = "id")]
    follow: bool,
    /// Only runs of this job.
    #[arg(long, conflicts_with = "id", value_parser = PossibleValuesParser::new(JobName::ALL.map(JobName::as_str)))]
    job: Option<String>,
}

#[derive(Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

/// Lists the recent runs, or shows one.
pub(super) async fn show(
    session: &Session,
    arguments: &JobsArguments,
) -> Result<ExitCode, CommandError> {
    match &arguments.id {
        Some(id) if JobName::ALL.iter().any(|job| job.as_str() == id) => {
            let hint = format!("{id} is a job, not the id of a run; its runs: --job {id}");
            return Err(CommandError::Usage(hint));
        }
        Some(id) if arguments.follow => return run::follow(session, id).await,
        Some(id) => {
            let answer = run_record::read(session, id).await?;
            if session.is_json() {
                Session::write_json(&answer)?;
            } else {
                run_record::write(session, &answer.json()?)?;
            }
        }
        None => list(session, arguments.job.as_deref()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(session: &Session, job: Option<&str>) -> Result<(), CommandError> {
    let answer = session.send(&Call::get(["admin", "jobs"])).await?;
    let is_wanted = |name: Option<&str>| job.is_none() || name == job;
    if session.is_json() {
        let mut document: Value = answer.json()?;
        if let Some(runs) = document["runs"].as_array_mut() {
            runs.retain(|run| is_wanted(run["job"].as_str()));
        }
        output::write_json(&document)?;
        return Ok(());
    }
    let Runs { runs } = answer.json()?;
    let mut table = run_record::table();
    for run in runs.iter().filter(|run| is_wanted(Some(&run.job))) {
        table.row(run_record::row(session, run));
    }
    table.write()?;
    Ok(())
}
