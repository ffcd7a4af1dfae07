//! `admin pause` and `admin resume`.

use std::time::Duration;

use clap::{Args, builder::PossibleValuesParser};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::session::Session;
use crate::{
    cli::{
        error::CommandError,
        output::{self, time::Moment},
    },
    client::Call,
    clock::UnixSeconds,
    domain::Activity,
};

/// The options for the end of a pause or of a quarantine.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Ending {
    /// End automatically after this many minutes. Without --for and --until, it lasts until an operator ends it.
    #[arg(long = "for", value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=525_600))]
    minutes: Option<u32>,
    /// End automatically at this time: a time with an offset (2026-11-28T18:00:00Z), a day in UTC, or a duration from now.
    #[arg(long, value_name = "TIME", conflicts_with = "minutes")]
    until: Option<Moment>,
}

impl Ending {
    /// Returns the time of the end, if there is one.
    pub(super) fn until(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        let after = |minutes: u32| now + Duration::from_mins(minutes.into());
        let until = self.until.map(|until| until.ahead(now));
        self.minutes.map(after).or(until)
    }
}

/// The arguments of `admin pause`.
#[derive(Clone, Debug, Args)]
pub(super) struct PauseArguments {
    /// The activity.
    #[arg(value_parser = PossibleValuesParser::new(Activity::ALL.map(Activity::as_str)))]
    activity: String,
    /// Why, for operators and, with allocations, for the scripts of labs: 1 to 500 characters.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    ending: Ending,
}

/// The arguments of `admin resume`.
#[derive(Clone, Debug, Args)]
pub(super) struct ResumeArguments {
    /// The activity.
    #[arg(value_parser = PossibleValuesParser::new(Activity::ALL.map(Activity::as_str)))]
    activity: String,
}

/// A pause in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Pause {
    pub(super) activity: String,
    reason: String,
    author: String,
    since: UnixSeconds,
    until: Option<UnixSeconds>,
}

impl Pause {
    /// Returns a sentence about the pause.
    pub(super) fn sentence(&self, now: UnixSeconds) -> String {
        let Self {
            activity,
            reason,
            author,
            ..
        } = self;
        let since = output::time::show(self.since, now);
        let until = match self.until {
            Some(until) => format!("until {}", output::time::show(until, now)),
            None => "until an operator ends the pause".to_owned(),
        };
        format!("{activity} paused by {author} since {since}, {until}: {reason}")
    }
}

/// Pauses an activity.
pub(super) async fn pause(
    session: &Session,
    arguments: &PauseArguments,
) -> Result<(), CommandError> {
    let until = arguments.ending.until(session.now);
    let body = json!({ "reason": arguments.reason, "until": until });
    let call = Call::new(Method::PUT, ["admin", "pauses", &arguments.activity]).json(body);
    let answer = session.send(&call).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let pause: Pause = answer.json()?;
    output::write_line(pause.sentence(session.now))?;
    Ok(())
}

/// Ends a pause.
pub(super) async fn resume(
    session: &Session,
    arguments: &ResumeArguments,
) -> Result<(), CommandError> {
    let path = ["admin", "pauses", &arguments.activity];
    session.send(&Call::new(Method::DELETE, path)).await?;
    if session.is_json() {
        let answer = session.send(&Call::get(["admin", "pauses"])).await?;
        return Session::write_json(&answer);
    }
    output::write_line(format_args!("{} not paused", arguments.activity))?;
    Ok(())
}
