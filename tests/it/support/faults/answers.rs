//! Answers that the engine never gave.

use axum::{
    body::{Body, Bytes},
    http::{Response, StatusCode, header},
};
use futures_util::stream;
use serde_json::{Value, json};

use super::{Answer, Call, Fault, reset};

const DYNAMODB: &str = "com.amazonaws.dynamodb.v20120810";

fn error(status: StatusCode, kind: &str, more: &Value) -> Response<Body> {
    let mut body = json!({ "__type": kind, "message": "injected", "Message": "injected" });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/x-amz-json-1.0")
        .body(Body::from(body.to_string()))
        .unwrap()
}

/// The answer that refuses the call, if the fault is a refusal.
pub(super) fn refusal(fault: Fault, call: &Call, at: usize) -> Option<Response<Body>> {
    let (bad, none) = (StatusCode::BAD_REQUEST, Value::Null);
    let of = |name: &str| format!("{DYNAMODB}#{name}");
    Some(match fault {
        Fault::Throughput => error(bad, &of("ProvisionedThroughputExceededException"), &none),
        Fault::Throttling => error(
            bad,
            "com.amazon.coral.availability#ThrottlingException",
            &none,
        ),
        Fault::ServerError => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &of("InternalServerError"),
            &none,
        ),
        Fault::Conflict if call.operation == "TransactWriteItems" => {
            cancelled(call, at, "TransactionConflict")
        }
        Fault::Conflict => error(bad, &of("TransactionConflictException"), &none),
        Fault::ThrottledItem => {
            let codes = ["ThrottlingError", "ProvisionedThroughputExceeded"];
            cancelled(call, at, codes[at % 2])
        }
        _ => return None,
    })
}

/// A transaction that was cancelled on account of one of its actions.
fn cancelled(call: &Call, at: usize, code: &str) -> Response<Body> {
    let actions = call.json()["TransactItems"].as_array().map_or(1, Vec::len);
    let reasons: Vec<_> = (0..actions)
        .map(|n| {
            if n == at % actions {
                json!({ "Code": code, "Message": "injected" })
            } else {
                json!({ "Code": "None" })
            }
        })
        .collect();
    error(
        StatusCode::BAD_REQUEST,
        &format!("{DYNAMODB}#TransactionCanceledException"),
        &json!({ "CancellationReasons": reasons }),
    )
}

/// The answer's first half, and then a reset.
pub(super) fn cut(answer: Answer) -> Response<Body> {
    let length = answer.body.len();
    let half = answer.body.slice(..length / 2);
    let parts = stream::unfold(Some(half), |half| async {
        if let Some(half) = half {
            return Some((Ok::<Bytes, std::io::Error>(half), None));
        }
        // So that the first half has left.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        Some((Err(reset()), None))
    });
    let mut response = answer.into_response();
    *response.body_mut() = Body::from_stream(parts);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.max(1).into());
    response
}
