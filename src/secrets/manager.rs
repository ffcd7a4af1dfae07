//! The client of Secrets Manager.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::{
    Client, operation::get_secret_value::GetSecretValueError, primitives::DateTime,
};

use super::{SecretError, SecretsConfig};
use crate::{aws, clock::UnixSeconds};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The labels of Secrets Manager for the two versions that are read.
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// A version of a secret.
pub(super) struct Version {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) created_at: UnixSeconds,
}

/// Reads secrets from Secrets Manager.
#[derive(Debug)]
pub(super) struct SecretsManager(Client);

impl SecretsManager {
    /// Creates the client; it connects when it is used.
    pub(super) async fn new(config: &SecretsConfig, region: &str) -> Self {
        let settings = aws::settings(region, config.endpoint.as_deref()).timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_timeout(CALL_TIMEOUT)
                .build(),
        );
        let client_config = aws_sdk_secretsmanager::config::Builder::from(&settings.load().await)
            .interceptor(aws::CallTrace);
        Self(Client::from_conf(client_config.build()))
    }

    /// Returns the current version of a secret.
    pub(super) async fn current(&self, id: &str) -> Result<Version, SecretError> {
        self.get(id, CURRENT).await
    }

    /// Returns the previous version; `None` before the first rotation, and after an operator has removed the label.
    pub(super) async fn previous(&self, id: &str) -> Result<Option<Version>, SecretError> {
        match self.get(id, PREVIOUS).await {
            Ok(version) => Ok(Some(version)),
            Err(SecretError::Unreadable { source, .. })
                if source
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn get(&self, id: &str, label: &str) -> Result<Version, SecretError> {
        let answer = self
            .0
            .get_secret_value()
            .secret_id(id)
            .version_stage(label)
            .send()
            .await
            .map_err(|source| SecretError::Unreadable {
                id: id.to_owned(),
                source: Box::new(source),
            })?;
        Ok(Version {
            id: answer.version_id().unwrap_or_default().to_owned(),
            created_at: UnixSeconds(answer.created_date().map_or(0, DateTime::secs)),
            text: answer
                .secret_string
                .ok_or_else(|| SecretError::invalid(id, "a text, not bytes"))?,
        })
    }
}
