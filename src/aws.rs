//! Settings that the clients of all AWS services share.

use aws_config::{AppName, BehaviorVersion, ConfigLoader, Region};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextRef},
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::Value;

use crate::{telemetry::CALLS, url::is_loopback_url};

/// Idle connections kept per host. The client's own default is unbounded: every connection ever opened stays open.
const MAX_IDLE: usize = 128;

/// Returns the settings of a client in `region`, which calls `endpoint` instead of AWS if there is one.
pub(crate) fn settings(region: &str, endpoint: Option<&str>) -> ConfigLoader {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.to_owned()));
    // Part of the User-Agent header, by which CloudTrail identifies the broker's calls.
    if let Ok(name) = AppName::new(env!("CARGO_PKG_NAME")) {
        loader = loader.app_name(name);
    }
    let Some(endpoint) = endpoint else {
        return loader;
    };
    loader = loader.endpoint_url(endpoint);
    if is_loopback_url(endpoint) && endpoint.starts_with("http://") {
        // The default client uses a proxy named in the environment, which cannot reach a loopback address of this
        // machine.
        let client = aws_smithy_http_client::Builder::new().pool_max_idle_per_host(MAX_IDLE);
        loader = loader.http_client(client.build_http());
    }
    loader
}

/// An interceptor that emits a `TRACE` event per call, before its first attempt: the service, the operation and, for
/// DynamoDB, the index and the actions of a transaction, but no values. IAM permissions are derived from these events.
#[derive(Debug)]
pub(crate) struct CallTrace;

impl Intercept for CallTrace {
    fn name(&self) -> &'static str {
        "CallTrace"
    }

    fn read_after_serialization(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if !tracing::enabled!(target: CALLS, tracing::Level::TRACE) {
            return Ok(());
        }
        let Some(metadata) = config.load::<Metadata>() else {
            return Ok(());
        };
        let body = context.request().body().bytes().unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let actions: Vec<&str> = body["TransactItems"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|action| Some(action.as_object()?.keys().next()?.as_str()))
            .collect();
        tracing::trace!(
            target: CALLS,
            service = metadata.service(),
            operation = metadata.name(),
            index = body["IndexName"].as_str(),
            actions = actions.join(" "),
            "AWS call"
        );
        Ok(())
    }
}
