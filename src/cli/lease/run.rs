//! `lease run`: a command with a sandbox of its own.
//!
//! The lease is short, and extended while the command runs. So the sandbox of a `lease run` that was killed expires soon
//! without any cleanup. The command owns stdin, stdout and stderr; remarks go to stderr, with a prefix.

mod clock;
mod keeper;
mod program;
mod signals;

use std::{cell::Cell, ffi::OsString, fmt, pin::pin, process::ExitCode, time::Duration};

use clap::Args;
use tokio::{process::Child, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    keeper::Keeper,
    program::Program,
    signals::{Received, Signals},
};
use super::{
    AllocationOptions, Session,
    calls::{AWAITED, Sandbox},
    release::{ReleaseChain, is_not_held},
};
use crate::{
    cli::{connection::retry_remark, print_error},
    client::ClientError,
    domain::one_line,
};

/// The arguments of `lease run`.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    options: AllocationOptions,
    /// The command and its arguments. It finds its sandbox in the variables `SANDBOX_ID`, `SANDBOX_NAME`, `SANDBOX_EXTERNAL_ID`,
    /// `SANDBOX_ACCOUNT_ID`, `SANDBOX_SFDC_ACCOUNT_ID` and `SANDBOX_EXPIRES_AT`.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The duration of the lease unless another one is requested, in minutes.
const DEFAULT_MINUTES: u32 = 30;
/// How long a release is retried.
const RELEASE_WAIT: Duration = Duration::from_mins(1);

/// Runs a command with a sandbox, and returns the exit code: that of the command, 128 + n after signal n, 126 or 127 if it
/// cannot be started.
///
/// # Errors
/// There is no sandbox, so the command was not started.
pub(super) async fn run(
    session: &Session,
    arguments: &RunArguments,
) -> Result<ExitCode, ClientError> {
    // A mistyped command must not cost a sandbox.
    if let Err(failure) = program::check(&arguments.command) {
        return Ok(failure.report());
    }
    let mut signals = Signals::listen()
        .map_err(|error| ClientError::Usage(format!("cannot listen for signals: {error}")))?;
    let mut keeper = match allocate(session, &arguments.options, &mut signals).await? {
        Start::Held(keeper) => keeper,
        Start::Interrupted(signal) => return Ok(signal.exit_code()),
    };
    let program = Program {
        arguments: &arguments.command,
        sandbox: &keeper.sandbox,
        session,
    };
    let code = match program.start() {
        Ok(child) => supervise(child, &mut keeper, &mut signals).await,
        Err(failure) => failure.report(),
    };
    release(&keeper, &mut signals).await;
    Ok(code)
}

/// The outcome of the allocation.
enum Start<'a> {
    /// The sandbox is held.
    Held(Box<Keeper<'a>>),
    /// A signal arrived before the end of the allocation. No sandbox is known to be held.
    Interrupted(Received),
}

/// Allocates a sandbox under a random key, so that it is none that the caller already holds.
async fn allocate<'a>(
    session: &'a Session,
    options: &AllocationOptions,
    signals: &mut Signals,
) -> Result<Start<'a>, ClientError> {
    let minutes = options.duration.unwrap_or(DEFAULT_MINUTES);
    let key = format!("run-{}", Uuid::new_v4());
    let call = session
        .calls
        .allocation(options, Some(minutes), Some(&key))?;
    let stop = CancellationToken::new();
    // Whether an attempt may have allocated a sandbox although its answer was lost.
    let mut is_open = false;
    // When the first attempt was sent that may have allocated the sandbox.
    let mut sent = clock::now();
    let client = &session.client;
    let allocation = client.send_until(&call, client.wait(), &stop, |error, pause| {
        is_open = leaves_open(error, is_open);
        if !is_open {
            sent = clock::now() + pause;
        }
        say(retry_remark(error, pause));
    });
    let remark = "interrupted; the request in progress is completed first, so that no sandbox is left. Interrupt again to \
                  end at once";
    let (answer, signal) = match interruptible(allocation, &stop, signals, remark).await {
        Ok(done) => done,
        Err(signal) => {
            warn_of_unknown_sandbox(session, minutes);
            return Ok(Start::Interrupted(signal));
        }
    };
    let answer = match (answer, signal) {
        (Ok(answer), _) => answer,
        (Err(error), signal) => {
            if leaves_open(&error, is_open) {
                warn_of_unknown_sandbox(session, minutes);
            }
            return signal.map(Start::Interrupted).ok_or(error);
        }
    };
    let sandbox: Sandbox = answer
        .json()
        .inspect_err(|_| warn_of_unknown_sandbox(session, minutes))?;
    let keeper = Keeper::new(session, sandbox, minutes, sent);
    if let Some(signal) = signal.or_else(|| signals.try_next()) {
        release(&keeper, signals).await;
        return Ok(Start::Interrupted(signal));
    }
    say(format_args!("{keeper} {}", keeper.end()));
    Ok(Start::Held(Box::new(keeper)))
}

/// Waits for the end of the command, and returns its exit code. Meanwhile it extends the lease and forwards signals.
async fn supervise(mut child: Child, keeper: &mut Keeper<'_>, signals: &mut Signals) -> ExitCode {
    let mut keeping = pin!(keeper.keep());
    let mut is_held = true;
    loop {
        tokio::select! {
            biased;
            received = signals.next() => received.forward_to(&child),
            status = child.wait() => return program::exit_code(status),
            () = &mut keeping, if is_held => is_held = false,
        }
    }
}

/// Releases the sandbox. If that fails, prints how to release it later.
async fn release(keeper: &Keeper<'_>, signals: &mut Signals) {
    if keeper.is_lost() {
        return;
    }
    let (stop, deadline) = (CancellationToken::new(), Instant::now() + RELEASE_WAIT);
    let is_reported = Cell::new(false);
    let client = &keeper.session.client;
    let chain = ReleaseChain::run(&keeper.session.calls, keeper.id(), async |call| {
        let left = deadline.saturating_duration_since(Instant::now());
        let on_retry = |error: &ClientError, _| {
            if !is_reported.replace(true) {
                let wait = RELEASE_WAIT.as_secs();
                say(format_args!(
                    "{keeper} cannot be released yet: {error}; retrying for up to {wait} s"
                ));
            }
        };
        client.send_until(call, left, &stop, on_retry).await
    });
    let remark =
        "interrupted; the release in progress is completed first. Interrupt again to end at once";
    let Ok((chain, _)) = interruptible(chain, &stop, signals, remark).await else {
        return say(keeper.left_behind(keeper.id(), "the release was interrupted"));
    };
    for (_, released) in &chain.answers {
        if let Some(next) = &released.replaced_by {
            say(format_args!(
                "{} was replaced by {next}",
                released.sandbox_id
            ));
        }
    }
    match chain.failure {
        None => say(format_args!("{keeper} is released")),
        Some((_, error)) if is_not_held(&error) => {
            say(format_args!("{keeper} is not held any more: {error}"));
        }
        Some((id, error)) => say(keeper.left_behind(&id, &error.to_string())),
    }
}

/// Does work that signals cut short: the first one cancels `stop` and prints `remark`, the second one drops the work.
/// Returns the result with the first signal, if there was one, or the second signal as the error.
async fn interruptible<T>(
    work: impl Future<Output = T>,
    stop: &CancellationToken,
    signals: &mut Signals,
    remark: &str,
) -> Result<(T, Option<Received>), Received> {
    let mut work = pin!(work);
    let mut first = None;
    loop {
        tokio::select! {
            biased;
            result = &mut work => return Ok((result, first)),
            signal = signals.next() => {
                if first.is_some() {
                    return Err(signal);
                }
                first = Some(signal);
                stop.cancel();
                say(remark);
            }
        }
    }
}

/// Returns whether a sandbox may be held after a failed attempt, if `before` says whether one may have been before it.
fn leaves_open(error: &ClientError, before: bool) -> bool {
    // The broker refuses a sandbox only to a caller that holds none under the key.
    let is_refused = error.code().is_some_and(|code| AWAITED.contains(&code));
    !is_refused && (before || error.leaves_outcome_open())
}

/// Prints that a sandbox may be held although no answer named it.
fn warn_of_unknown_sandbox(session: &Session, minutes: u32) {
    let list = session.command(&["list"]);
    say(format_args!(
        "a sandbox may have been allocated although no answer named it: it expires by itself after its lease of {minutes} \
         minutes and the grace period. To see it: {list}"
    ));
}

/// Prints a remark to stderr, where the command prints as well.
fn say(text: impl fmt::Display) {
    let text = one_line(&text.to_string(), usize::MAX);
    print_error(format_args!("sandbox-broker: {text}"));
}
