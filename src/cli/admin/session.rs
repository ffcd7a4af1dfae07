//! The connection and the output of all subcommands of `admin`.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    cli::{
        error::CommandError,
        output::{self, Format, time::show},
    },
    client::{Answer, Call, Client, ClientError},
    clock::UnixSeconds,
};

/// The connection to the broker, the form of the output, and the time at which the command started.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) output: Format,
    pub(super) now: UnixSeconds,
}

impl Session {
    /// Sends a call, with retries.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        self.client.send(call).await
    }

    /// Returns whether the output is JSON.
    pub(super) fn is_json(&self) -> bool {
        self.output == Format::Json
    }

    /// Writes the JSON of an answer.
    ///
    /// # Errors
    /// The answer is no JSON, or the output cannot be written.
    pub(super) fn write_json(answer: &Answer) -> Result<(), CommandError> {
        output::write_json(&answer.json()?)?;
        Ok(())
    }

    /// Returns a time of the API in human-readable form; an empty text if there is none.
    pub(super) fn time(&self, at: Option<UnixSeconds>) -> String {
        at.map_or_else(String::new, |at| show(at, self.now))
    }

    /// Reads a part of an answer.
    ///
    /// # Errors
    /// [`CommandError::Failed`] if it is not of the expected form.
    pub(super) fn part<T: DeserializeOwned>(document: &Value) -> Result<T, CommandError> {
        T::deserialize(document).map_err(|error| {
            CommandError::Failed(format!("the answer is not of the expected form ({error})"))
        })
    }

    /// Reads parts of an answer, as [`Self::part`] does.
    pub(super) fn parts<T: DeserializeOwned>(documents: &[Value]) -> Result<Vec<T>, CommandError> {
        documents.iter().map(Self::part).collect()
    }
}
