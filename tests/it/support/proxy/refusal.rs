//! Answers that the server never gave.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Response, StatusCode, header},
};
use futures_util::stream;
use serde_json::{Value, json};

use super::{
    call::{Answer, Call},
    script::Fault,
};

const DYNAMODB: &str = "com.amazonaws.dynamodb.v20120810";

/// The error that resets the connection.
pub(super) fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "injected")
}

/// Returns the error that `fault` answers the call with; `None` if the fault is of another kind.
pub(super) fn refusal(fault: Fault, call: &Call, variant: usize) -> Option<Response<Body>> {
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
            cancelled(call, variant, "TransactionConflict")
        }
        Fault::Conflict => error(bad, &of("TransactionConflictException"), &none),
        Fault::ThrottledItem => {
            let codes = ["ThrottlingError", "ProvisionedThroughputExceeded"];
            cancelled(call, variant, codes[variant % 2])
        }
        _ => return None,
    })
}

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

/// A transaction that was cancelled because of one of its actions.
fn cancelled(call: &Call, variant: usize, code: &str) -> Response<Body> {
    let actions = call.json()["TransactItems"].as_array().map_or(1, Vec::len);
    let reasons: Vec<_> = (0..actions)
        .map(|n| {
            if n == variant % actions {
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

/// The first half of the answer, then a reset.
pub(super) fn cut(answer: Answer) -> Response<Body> {
    let length = answer.body.len();
    let half = answer.body.slice(..length / 2);
    let parts = stream::unfold(Some(half), |half| async {
        if let Some(half) = half {
            return Some((Ok::<Bytes, io::Error>(half), None));
        }
        // By then the first half has been sent.
        tokio::time::sleep(Duration::from_millis(2)).await;
        Some((Err(reset()), None))
    });
    let mut response = Response::from(answer);
    *response.body_mut() = Body::from_stream(parts);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.max(1).into());
    response
}
