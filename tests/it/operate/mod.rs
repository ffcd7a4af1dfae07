//! The command line of operators, `sandbox-broker admin`: the binary against a broker, as its user types it.

mod acting;
mod fake;
mod leaks;
mod policy;
mod reading;
mod running;
mod terminal;
mod unread;
mod watching;

use std::{
    collections::BTreeMap,
    io::{Write, pipe},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::support::{ADMIN, Outcome, TestBroker, command};

/// An operator at a command line, with a token of the role admin.
struct Operator {
    directory: TempDir,
    variables: BTreeMap<String, String>,
}

impl Operator {
    fn of(broker: &TestBroker) -> Self {
        Self::at(&broker.client.base)
    }

    fn at(base: &str) -> Self {
        let variables = [("BROKER_API_URL", base), ("BROKER_ADMIN_TOKEN", ADMIN)];
        Self {
            directory: tempfile::tempdir().unwrap(),
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    /// Sets a variable of the environment.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.directory.path(), &self.variables);
        command.arg("admin").args(arguments);
        command
    }

    /// Runs a command without a terminal.
    async fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, "").await
    }

    /// Runs a command without a terminal and with this input.
    async fn run_with(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped());
        Self::output(command, input).await
    }

    /// Runs a command whose stdout is a pipe without a reader.
    async fn run_unread(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut command = self.command(arguments);
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        Self::output(command, input).await
    }

    async fn output(mut command: Command, input: &str) -> Outcome {
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        // The broker answers from this runtime, so its threads must stay free.
        let work = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // A command that does not read its input may have ended.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        });
        work.await.unwrap().into()
    }
}
