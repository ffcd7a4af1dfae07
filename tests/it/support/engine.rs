//! The DynamoDB engine of a test: the embedded one, or the server at `BROKER_TEST_DYNAMODB_ENDPOINT`.

use sandbox_broker::store::embedded::EmbeddedEngine;

use super::engine_server;

/// The engine under test.
pub struct Engine {
    endpoint: String,
    /// Runs as long as it is owned.
    _embedded: Option<EmbeddedEngine>,
}

impl Engine {
    pub fn start() -> Self {
        if let Ok(endpoint) = std::env::var("BROKER_TEST_DYNAMODB_ENDPOINT") {
            return Self {
                endpoint,
                _embedded: None,
            };
        }
        let engine = EmbeddedEngine::in_memory().unwrap();
        Self {
            endpoint: engine_server::serve(engine.client()).unwrap(),
            _embedded: Some(engine),
        }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}
