//! `admin`: operates a broker, over the API.

mod actions;
mod audit;
mod forecast;
mod jobs;
mod leaks;
mod overview;
mod pages;
mod pauses;
mod policy;
mod run;
mod run_record;
mod sandboxes;
mod session;
mod timeline;
mod tokens;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::session::Session;
use super::{connection::ConnectionOptions, error::CommandError, output};
use crate::{
    client::{Call, TokenKind},
    clock::{Clock, SystemClock},
    config::Variables,
};

/// The arguments of `admin`.
#[derive(Clone, Debug, Args)]
pub struct Admin {
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(subcommand)]
    command: AdminCommand,
}

/// The subcommands of `admin`.
#[derive(Clone, Debug, Subcommand)]
enum AdminCommand {
    /// Show the state of the pool: counts, warnings, pauses, pools, labs, jobs.
    Stats,
    /// Show the state of the pool, and redraw it as it changes. Ctrl-C ends the command.
    ///
    /// On a pipe, a line is printed for each change; with `--output json`, the overview as one line of JSON each time.
    Watch(watch::WatchArguments),
    /// List sandboxes.
    Sandboxes(sandboxes::SandboxesArguments),
    /// Show one sandbox and its events, also if it has been deleted.
    Sandbox(timeline::TimelineArguments),
    /// Release a sandbox of any holder; the next cleanup deletes it.
    Release(actions::ActionArguments),
    /// Set a sandbox aside: it is neither allocated nor deleted until its quarantine ends. Its holder, if any, loses it.
    Quarantine(actions::QuarantineArguments),
    /// Bring a sandbox back from quarantine, if it never had a holder.
    Restore(actions::ActionArguments),
    /// Extend an allocation, also beyond the maximum of its lab.
    Extend(actions::ExtendArguments),
    /// Delete a sandbox that has no holder; the next cleanup deletes it.
    Delete(actions::ActionArguments),
    /// List the allocations whose play is likely over, and release them in one go.
    Leaks(leaks::LeaksArguments),
    /// List the recent runs of the jobs, or show one.
    Jobs(jobs::JobsArguments),
    /// Run a job, and show its progress. Ctrl-C leaves the run running.
    Run(run::RunArguments),
    /// Pause an activity on every broker and in every job.
    Pause(pauses::PauseArguments),
    /// End the pause of an activity.
    Resume(pauses::ResumeArguments),
    /// List, create and revoke named tokens.
    #[command(subcommand)]
    Tokens(tokens::TokensCommand),
    /// List audit records: actions of operators and refused requests, newest first.
    Audit(audit::AuditArguments),
    /// Show, check, compare and change the policy.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Show how many sandboxes each pool of the policy will have available at a time ahead.
    Forecast(forecast::ForecastArguments),
}

/// Runs a subcommand of `admin`.
///
/// # Errors
/// [`CommandError`].
pub async fn run(admin: &Admin, environment: &Variables) -> Result<ExitCode, CommandError> {
    let settings = admin.connection.settings(environment)?;
    let session = Session {
        client: admin.connection.client(&settings, TokenKind::Admin)?,
        output: admin.connection.output,
        now: SystemClock.now(),
    };
    match &admin.command {
        AdminCommand::Stats => stats(&session).await?,
        AdminCommand::Watch(arguments) => watch::run(&session, arguments).await?,
        AdminCommand::Sandboxes(arguments) => sandboxes::list(&session, arguments).await?,
        AdminCommand::Sandbox(arguments) => timeline::show(&session, arguments).await?,
        AdminCommand::Release(arguments) => actions::release(&session, arguments).await?,
        AdminCommand::Quarantine(arguments) => actions::quarantine(&session, arguments).await?,
        AdminCommand::Restore(arguments) => actions::restore(&session, arguments).await?,
        AdminCommand::Extend(arguments) => actions::extend(&session, arguments).await?,
        AdminCommand::Delete(arguments) => actions::delete(&session, arguments).await?,
        AdminCommand::Leaks(arguments) => leaks::run(&session, arguments).await?,
        AdminCommand::Jobs(arguments) => return jobs::show(&session, arguments).await,
        AdminCommand::Run(arguments) => return run::run(&session, arguments).await,
        AdminCommand::Pause(arguments) => pauses::pause(&session, arguments).await?,
        AdminCommand::Resume(arguments) => pauses::resume(&session, arguments).await?,
        AdminCommand::Tokens(command) => tokens::run(&session, command).await?,
        AdminCommand::Audit(arguments) => audit::list(&session, arguments).await?,
        AdminCommand::Policy(command) => policy::run(&session, command).await?,
        AdminCommand::Forecast(arguments) => forecast::show(&session, arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn stats(session: &Session) -> Result<(), CommandError> {
    let answer = session.send(&Call::get(["admin", "overview"])).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let overview: overview::Overview = answer.json()?;
    output::write_lines(&overview.lines(output::terminal_width()))?;
    Ok(())
}
