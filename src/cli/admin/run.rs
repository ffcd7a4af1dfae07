//! `admin run`: starts a job and follows its run.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{
    run_record::{self, Run},
    session::Session,
};
use crate::{
    cli::{
        JobCommand,
        error::CommandError,
        output::{self, Progress, confirm, notice},
        shell::command_line,
    },
    client::{Answer, Call, ClientError},
    domain::{JobName, Status},
};

/// The time between the first two reads of a run. It doubles with each read.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest time between two reads of a run. Its record changes every 5 s, and at its end.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The exit code of a shell after SIGINT.
const INTERRUPTED: u8 = 130;

/// The arguments of `admin run`.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    #[command(subcommand)]
    job: RunJob,
    /// Start the run, print its id, and do not wait for its end.
    #[arg(long, global = true)]
    detach: bool,
    /// Do not ask for a confirmation.
    #[arg(long, global = true)]
    yes: bool,
}

/// The subcommands of `admin run`: those of `job`, and a job that only the API starts.
#[derive(Clone, Debug, Subcommand)]
enum RunJob {
    #[command(flatten)]
    Job(JobCommand),
    /// Remove all sandboxes of a status, stale or `deletion_failed`, from the table.
    BulkDelete {
        /// The status of the sandboxes.
        #[arg(long, value_parser = PossibleValuesParser::new([Status::Stale, Status::DeletionFailed].map(Status::as_str)))]
        status: String,
    },
}

#[derive(Deserialize)]
struct Accepted {
    run_id: String,
}

/// Starts a job, and follows its run unless it is detached.
pub(super) async fn run(
    session: &Session,
    arguments: &RunArguments,
) -> Result<ExitCode, CommandError> {
    let (name, call) = call_of(&arguments.job);
    if !arguments.yes
        && let Some(question) = question(session, &arguments.job).await?
    {
        confirm(&question)?;
    }
    let call = call.header("prefer", "respond-async")?;
    let answer = session.send(&call).await.map_err(started_already)?;
    let Accepted { run_id } = answer.json()?;
    if !arguments.detach {
        notice(format_args!("{name} has started: {run_id}"));
        return follow(session, &run_id).await;
    }
    if session.is_json() {
        Session::write_json(&answer)?;
    } else {
        output::write_line(run_id)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the name of a job, and the call that starts it.
fn call_of(job: &RunJob) -> (JobName, Call) {
    let flag = |name, is_set: bool| is_set.then(|| (name, "true".to_owned()));
    let (name, option) = match job {
        RunJob::Job(JobCommand::Sync { force }) => (JobName::Sync, flag("force", *force)),
        RunJob::Job(JobCommand::Cleanup { retry_failed }) => {
            (JobName::Cleanup, flag("retry_failed", *retry_failed))
        }
        RunJob::Job(JobCommand::AutoExpire { force }) => {
            (JobName::AutoExpire, flag("force", *force))
        }
        RunJob::Job(JobCommand::AutoDeleteStale { grace_period_hours }) => {
            let hours = grace_period_hours.map(|hours| ("grace_period_hours", hours.to_string()));
            (JobName::AutoDeleteStale, hours)
        }
        RunJob::Job(JobCommand::Check) => (JobName::Check, None),
        RunJob::Job(JobCommand::Refill { plan }) => (JobName::Refill, flag("plan", *plan)),
        RunJob::BulkDelete { status } => (JobName::BulkDelete, Some(("status", status.clone()))),
    };
    let call = Call::post(["admin", name.as_str()]);
    let call = match option {
        Some((option, value)) => call.query(option, Some(value)),
        None => call,
    };
    (name, call)
}

/// Returns the question that confirms a job which works without its limit or removes many sandboxes; `None` for others.
async fn question(session: &Session, job: &RunJob) -> Result<Option<String>, CommandError> {
    let question = match job {
        RunJob::Job(JobCommand::Sync { force: true }) => {
            "Mark every sandbox stale that CSP does not list, however many they are?".to_owned()
        }
        RunJob::Job(JobCommand::AutoExpire { force: true }) => {
            "Retire every overdue allocation, however many they are?".to_owned()
        }
        RunJob::BulkDelete { status } => {
            let stats: Value = session.send(&Call::get(["admin", "stats"])).await?.json()?;
            let count = &stats[status];
            format!("Remove {count} sandboxes with the status {status} from the table?")
        }
        RunJob::Job(_) => return Ok(None),
    };
    Ok(Some(question))
}

/// Adds a hint to the error of a job that is already running: how to follow its run.
fn started_already(error: ClientError) -> CommandError {
    if let ClientError::Rejected { code, detail, .. } = &error
        && code == "JOB_RUNNING"
        && let Some(id) = detail["run_id"].as_str()
    {
        let hint = follow_hint(id);
        return CommandError::hinted(error, hint);
    }
    error.into()
}

fn follow_hint(id: &str) -> String {
    let command = command_line(["admin", "jobs", id, "--follow"]);
    format!("follow it with: {command}")
}

/// Follows a run to its end, and writes its result.
///
/// # Errors
/// The run failed, or was stopped before it had done all its work.
pub(super) async fn follow(session: &Session, id: &str) -> Result<ExitCode, CommandError> {
    // Before the progress is shown, so that Ctrl-C during it never ends the command without the remark.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| CommandError::Failed(format!("cannot listen for Ctrl-C: {error}")))?;
    let answer = tokio::select! {
        answer = wait(session, id) => answer?,
        _ = interrupt.recv() => {
            notice(format_args!("the run goes on; {}", follow_hint(id)));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let run: Run = answer.json()?;
    let written = if session.is_json() {
        Session::write_json(&answer)
    } else {
        run_record::write(session, &run)
    };
    // The state counts, also if nobody reads the result.
    match run.state.as_str() {
        "succeeded" => written.map(|()| ExitCode::SUCCESS),
        "failed" => {
            let error = run.error.unwrap_or_default();
            Err(CommandError::Failed(format!("the run failed: {error}")))
        }
        state => Err(CommandError::TryAgain(format!(
            "the run was {state} before it had done all its work; a later run continues"
        ))),
    }
}

/// Waits for the end of a run, and shows its progress meanwhile.
async fn wait(session: &Session, id: &str) -> Result<Answer, CommandError> {
    let progress = Progress::start(id);
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = run_record::read(session, id).await.map_err(|error| {
            // The run goes on without this command.
            if error.is_transient() {
                CommandError::hinted(error, follow_hint(id))
            } else {
                error.into()
            }
        })?;
        let run: Run = answer.json()?;
        if run.state != "running" {
            return Ok(answer);
        }
        progress.update(&format!("{}: {}", run.job, run.result()), run.progress());
        sleep(pause).await;
        pause = MAX_PAUSE.min(pause * 2);
    }
}
