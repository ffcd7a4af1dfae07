//! Answers in the form of CSP: errors, and lists in pages.

use axum::{
    Json,
    extract::{Query, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::FaultKind;

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": [{"message": message}]}))).into_response()
}

/// The query of a list.
#[derive(Default, Deserialize)]
struct Paging {
    #[serde(rename = "_limit")]
    limit: Option<usize>,
    #[serde(default, rename = "_offset")]
    offset: usize,
}

/// Answers the page of a list that a request asks for, in the form of CSP.
pub(super) fn paged(results: Vec<Value>, request: &Request) -> Response {
    let mut paging = Query::try_from_uri(request.uri())
        .map(|Query(paging): Query<Paging>| paging)
        .unwrap_or_default();
    match request.extensions().get() {
        Some(FaultKind::Paged { size }) => {
            paging.limit = Some(paging.limit.map_or(*size, |limit| limit.min(*size)));
        }
        Some(FaultKind::FirstPage { size }) => {
            paging = Paging {
                limit: Some(*size),
                offset: 0,
            };
        }
        _ => {}
    }
    let total = results.len();
    let Some(limit) = paging.limit else {
        return Json(json!({ "results": results })).into_response();
    };
    let page: Vec<_> = results
        .into_iter()
        .skip(paging.offset)
        .take(limit)
        .collect();
    // CSP sends 64-bit numbers as text.
    Json(json!({ "results": page, "page": { "total_size": total.to_string() } })).into_response()
}
