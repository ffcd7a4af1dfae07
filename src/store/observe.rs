//! Metrics and traces of database calls.

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef},
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::Instant;
use tracing::{Span, field::Empty};

use crate::telemetry::{
    TRACE,
    metrics::{Metrics, observe_call},
};

/// An interceptor of the SDK that counts, times and traces every call.
#[derive(Debug)]
pub(super) struct Observer(pub(super) Metrics);

/// A call in progress.
#[derive(Debug)]
struct Call {
    began: Instant,
    span: Span,
}

impl Storable for Call {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Observer {
    fn name(&self) -> &'static str {
        "Observer"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let span = tracing::info_span!(
            target: TRACE, "store", otel.name = Empty, otel.kind = "client", db.system = "dynamodb",
            outcome = Empty
        );
        let began = Instant::now();
        config.interceptor_state().store_put(Call { began, span });
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if outcome(context) == "throttled" {
            self.0
                .store_throttles
                .with_label_values(&[operation(config)])
                .inc();
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(call) = config.load::<Call>() {
            let outcome = outcome(context);
            // The operation was unknown when the span started.
            call.span.record("otel.name", operation(config));
            call.span.record("outcome", outcome);
            observe_call(
                &self.0.store_calls,
                operation(config),
                outcome,
                call.began.elapsed(),
            );
        }
        // Dropping the call ends its span.
        config.interceptor_state().unset::<Call>();
        Ok(())
    }
}

fn operation(config: &ConfigBag) -> &str {
    config.load::<Metadata>().map_or("unknown", Metadata::name)
}

/// Classifies the outcome of a call or an attempt. The type of the error is erased here, so its name is taken from the
/// answer's body.
fn outcome(context: &FinalizerInterceptorContextRef<'_>) -> &'static str {
    if context
        .output_or_error()
        .is_some_and(|output| output.is_ok())
    {
        return "success";
    }
    let body = context
        .response()
        .and_then(|response| response.body().bytes())
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    let contains = |name: &str| body.contains(name);
    if contains("ThrottlingException")
        || contains("ProvisionedThroughputExceeded")
        || contains("RequestLimitExceeded")
        || contains("ThrottlingError")
    {
        "throttled"
    } else if contains("TransactionConflict") {
        "conflict"
    } else if contains("ConditionalCheckFailed") {
        "condition_failed"
    } else {
        "error"
    }
}
