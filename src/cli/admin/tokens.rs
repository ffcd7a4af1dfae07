//! `admin tokens`: named tokens.

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::session::Session;
use crate::{
    cli::{
        error::CommandError,
        output::{
            self, Cell, Table, confirm, notice,
            time::{Moment, show},
        },
        shell::command_line,
    },
    client::Call,
    clock::UnixSeconds,
    domain::Role,
};

/// The subcommands of `admin tokens`.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum TokensCommand {
    /// List the named tokens, also those that ended in the last 30 days.
    List,
    /// Create a token. Its secret is printed to stdout, only this once; everything else to stderr.
    Create(NewToken),
    /// Revoke a token. Its sandboxes stay allocated.
    Revoke {
        /// The id of the token.
        #[arg(value_name = "TOKEN_ID")]
        id: String,
        /// Do not ask for a confirmation.
        #[arg(long)]
        yes: bool,
    },
}

/// The arguments of `admin tokens create`.
#[derive(Clone, Debug, Args)]
pub(super) struct NewToken {
    /// The name of its principal in the audit, unique among live tokens.
    name: String,
    /// The role.
    #[arg(long, value_parser = PossibleValuesParser::new(Role::ALL.map(Role::as_str)))]
    role: String,
    /// A lab that the token is bound to, for the role track; may be repeated. Default: any lab.
    #[arg(long = "lab", value_name = "LAB")]
    labs: Vec<String>,
    /// A beginning of the name prefixes that the token is bound to, for the role track; may be repeated. Default: any.
    #[arg(long = "name-prefix", value_name = "PREFIX")]
    name_prefixes: Vec<String>,
    /// When it expires: a day in UTC, a time with an offset, or a duration from now (90d). Default: never.
    #[arg(long, value_name = "TIME")]
    expires: Option<Moment>,
}

/// A named token.
#[derive(Debug, Deserialize)]
struct Token {
    #[serde(rename = "token_id")]
    id: String,
    name: String,
    role: String,
    labs: Vec<String>,
    name_prefixes: Vec<String>,
    created_by: String,
    expires_at: Option<UnixSeconds>,
    revoked_at: Option<UnixSeconds>,
    last_used_at: Option<UnixSeconds>,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Created {
    token: Token,
    secret: String,
}

/// Runs a subcommand of `admin tokens`.
pub(super) async fn run(session: &Session, command: &TokensCommand) -> Result<(), CommandError> {
    match command {
        TokensCommand::List => list(session).await,
        TokensCommand::Create(token) => create(session, token).await,
        TokensCommand::Revoke { id, yes } => revoke(session, id, *yes).await,
    }
}

async fn list(session: &Session) -> Result<(), CommandError> {
    let answer = session.send(&Call::get(["admin", "tokens"])).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let Tokens { tokens } = answer.json()?;
    let mut table = table();
    for token in &tokens {
        table.row(row(session, token));
    }
    table.write()?;
    Ok(())
}

async fn create(session: &Session, token: &NewToken) -> Result<(), CommandError> {
    let expires = token.expires.map(|expires| expires.ahead(session.now));
    let body = json!({
        "name": token.name, "role": token.role, "labs": token.labs, "name_prefixes": token.name_prefixes,
        "expires_at": expires
    });
    let call = Call::post(["admin", "tokens"]).json(body);
    let answer = session.send(&call).await.map_err(|error| match error.code() {
        Some("TOKEN_NAME_TAKEN") => CommandError::hinted(
            error,
            "if the answer to an earlier attempt was lost, revoke that token (sandbox-broker admin tokens list) and \
             create another: its secret cannot be shown again",
        ),
        _ => error.into(),
    })?;
    let Created { token, secret } = answer.json()?;
    let written = if session.is_json() {
        output::write_json(&answer.json()?)
    } else {
        announce(session, &token);
        output::write_line(secret)
    };
    written.map_err(|error| {
        let command = command_line(["admin", "tokens", "revoke", &token.id]);
        CommandError::Failed(format!(
            "the secret cannot be written ({error}), and cannot be shown again; revoke the token: {command}"
        ))
    })
}

/// Says which token the secret that follows belongs to.
fn announce(session: &Session, token: &Token) {
    let end = match token.expires_at {
        Some(at) => format!("expires {}", show(at, session.now)),
        None => "does not expire".to_owned(),
    };
    notice(format_args!(
        "token {} of {} with the role {} {end}; its secret is shown only now:",
        token.id, token.name, token.role
    ));
}

async fn revoke(session: &Session, id: &str, yes: bool) -> Result<(), CommandError> {
    if !yes {
        let answer = session.send(&Call::get(["admin", "tokens"])).await?;
        let Tokens { tokens } = answer.json()?;
        let token = tokens.into_iter().find(|token| token.id == id);
        let described = token.map_or_else(
            || format!("Revoke the token {id}?"),
            |token| {
                let used = match token.last_used_at {
                    Some(at) => format!("last used {}", show(at, session.now)),
                    None => "never used".to_owned(),
                };
                format!(
                    "Revoke the token {id} of {} ({}, {used})?",
                    token.name, token.role
                )
            },
        );
        confirm(&described)?;
    }
    let call = Call::new(Method::DELETE, ["admin", "tokens", id]);
    let answer = session.send(&call).await?;
    if session.is_json() {
        return Session::write_json(&answer);
    }
    let mut table = table();
    table.row(row(session, &answer.json()?));
    table.write()?;
    Ok(())
}

fn table() -> Table {
    Table::new(&[
        "ID",
        "NAME",
        "ROLE",
        "STATE",
        "BOUND TO",
        "EXPIRES",
        "LAST USED",
        "CREATED BY",
    ])
}

fn row(session: &Session, token: &Token) -> [Cell; 8] {
    let state = match (token.revoked_at, token.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= session.now => "expired",
        (None, _) => "live",
    };
    let prefixes = token
        .name_prefixes
        .iter()
        .map(|prefix| format!("{prefix}*"));
    let bounds: Vec<_> = token.labs.iter().cloned().chain(prefixes).collect();
    [
        token.id.as_str().into(),
        token.name.as_str().into(),
        token.role.as_str().into(),
        Cell::status(state),
        bounds.join(" ").into(),
        session.time(token.expires_at).into(),
        session.time(token.last_used_at).into(),
        token.created_by.as_str().into(),
    ]
}
