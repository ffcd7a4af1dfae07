//! The connector that hands the requests of an SDK to the engine in this process.

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
            http_client_fn,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;

use super::{EngineAnswer, EngineClient};

/// Returns an HTTP client whose requests are calls of the engine, whatever their address.
pub(super) fn http_client(engine: EngineClient) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(EngineConnector(engine));
    http_client_fn(move |_, _| connector.clone())
}

#[derive(Debug)]
struct EngineConnector(EngineClient);

impl HttpConnector for EngineConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let engine = self.0.clone();
        HttpConnectorFuture::new(async move {
            let operation = operation_of(&request)
                .ok_or_else(|| ConnectorError::user("not a request of the DynamoDB API".into()))?;
            let body = request.body().bytes().unwrap_or_default().to_vec();
            let answer = engine
                .call(operation, body)
                .await
                .ok_or_else(|| ConnectorError::io("the embedded engine has stopped".into()))?;
            let EngineAnswer { status, body } = answer;
            let status = StatusCode::try_from(status)
                .map_err(|fault| ConnectorError::other(fault.into(), None))?;
            Ok(HttpResponse::new(status, SdkBody::from(body)))
        })
    }
}

/// Returns the operation that the header `X-Amz-Target` names: `DynamoDB_20120810.GetItem`.
fn operation_of(request: &HttpRequest) -> Option<String> {
    let target = request.headers().get("x-amz-target")?;
    Some(target.rsplit_once('.')?.1.to_owned())
}
