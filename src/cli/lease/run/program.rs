//! The command that `lease run` runs.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    io::{self, ErrorKind},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitCode, ExitStatus},
};

use rustix::fs::{Access, access};
use tokio::process::{Child, Command};

use super::{Sandbox, Session, say};
use crate::client::TokenKind;

/// The exit code of a shell for a program that exists, but cannot be started.
const NOT_EXECUTABLE: u8 = 126;
/// The exit code of a shell for a program that does not exist.
const NOT_FOUND: u8 = 127;

/// The command with the sandbox that it receives in its environment.
pub(super) struct Program<'a> {
    pub(super) arguments: &'a [OsString],
    pub(super) sandbox: &'a Sandbox,
    pub(super) session: &'a Session,
}

/// The error of a program that cannot be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StartFailure {
    code: u8,
    message: String,
}

impl StartFailure {
    fn new(code: u8, program: &OsStr, reason: impl fmt::Display) -> Self {
        let message = format!("{} cannot be started: {reason}", program.display());
        Self { code, message }
    }

    /// Prints the error, and returns its exit code.
    pub(super) fn report(&self) -> ExitCode {
        say(&self.message);
        ExitCode::from(self.code)
    }
}

impl Program<'_> {
    /// Starts the command in this process group, so that the terminal's keys and job control reach it.
    pub(super) fn start(&self) -> Result<Child, StartFailure> {
        let (program, arguments) = split(self.arguments);
        let sandbox = self.sandbox;
        let expires_at = sandbox.expires_at.map(|time| time.to_string());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("SANDBOX_ID", &sandbox.id)
            .env("SANDBOX_NAME", &sandbox.name)
            .env("SANDBOX_EXTERNAL_ID", &sandbox.external_id)
            .env("SANDBOX_ACCOUNT_ID", sandbox.account_id())
            .env("SANDBOX_EXPIRES_AT", expires_at.unwrap_or_default())
            // The command may run `lease` for the same caller and broker.
            .env("BROKER_CALLER", self.session.calls.caller());
        match &sandbox.sfdc_account_id {
            Some(id) => command.env("SANDBOX_SFDC_ACCOUNT_ID", id),
            None => command.env_remove("SANDBOX_SFDC_ACCOUNT_ID"),
        };
        let settings = &self.session.settings;
        match settings.context() {
            Some(name) => command
                .env("BROKER_CONTEXT", name)
                .env_remove("BROKER_API_URL"),
            None => command.env("BROKER_API_URL", settings.url.as_str()),
        };
        for kind in [TokenKind::Track, TokenKind::Admin] {
            command.env_remove(kind.variable());
        }
        command.spawn().map_err(|error| {
            let code = match error.kind() {
                ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            };
            StartFailure::new(code, program, error)
        })
    }
}

/// Checks whether a program can be found and may be executed.
pub(super) fn check(arguments: &[OsString]) -> Result<(), StartFailure> {
    let (program, _) = split(arguments);
    let is_executable = |file: &Path| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    let candidates = if program.as_encoded_bytes().contains(&b'/') {
        vec![program.into()]
    } else {
        // Without PATH, the system searches default folders, which are not known here.
        let Some(path) = env::var_os("PATH") else {
            return Ok(());
        };
        env::split_paths(&path)
            .map(|folder| folder.join(program))
            .collect()
    };
    if candidates.iter().any(|file| is_executable(file)) {
        Ok(())
    } else if candidates.iter().any(|file| file.exists()) {
        Err(StartFailure::new(
            NOT_EXECUTABLE,
            program,
            "it is not executable",
        ))
    } else {
        Err(StartFailure::new(NOT_FOUND, program, "it is not found"))
    }
}

/// Returns the program and its arguments. The parser of the command line requires a program.
fn split(arguments: &[OsString]) -> (&OsStr, &[OsString]) {
    arguments
        .split_first()
        .map_or((OsStr::new(""), &[]), |(program, arguments)| {
            (program, arguments)
        })
}

/// Returns the exit code of a command as a shell does.
pub(super) fn exit_code(status: io::Result<ExitStatus>) -> ExitCode {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => signal_code(signal.unwrap_or(0)),
        },
        Err(error) => {
            say(format_args!(
                "cannot wait for the end of the command: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

/// Returns the exit code of a shell for a command that a signal ended.
pub(super) fn signal_code(number: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
}
