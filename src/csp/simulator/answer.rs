//! Requests and answers in the form of CSP: bodies, errors, and lists in pages.

use axum::{
    Json,
    extract::{FromRequest, Query, Request},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{FaultKind, ListForm};

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": [{"message": message}]}))).into_response()
}

/// The answer to a state that cannot be saved.
pub(super) fn not_saved(fault: &std::io::Error) -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, &fault.to_string())
}

/// A JSON body. An invalid one is answered with 400.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        Json::from_request(request, state)
            .await
            .map(|Json(body)| Self(body))
            .map_err(|fault| error(StatusCode::BAD_REQUEST, &fault.body_text()))
    }
}

/// The query of a list.
#[derive(Default, Deserialize)]
struct Paging {
    #[serde(rename = "_limit")]
    limit: Option<usize>,
    #[serde(default, rename = "_offset")]
    offset: usize,
}

/// Answers a list, as the fault of its request says.
pub(super) fn list(entries: Vec<Value>, request: &Request, form: ListForm) -> Response {
    let entries = match request.extensions().get() {
        Some(FaultKind::Duplicates) => entries
            .into_iter()
            .flat_map(|entry| [entry.clone(), entry])
            .collect(),
        Some(FaultKind::Broken) => broken(entries),
        Some(FaultKind::Empty) => Vec::new(),
        Some(FaultKind::Halved) => entries.into_iter().step_by(2).collect(),
        Some(FaultKind::Garbled) => return garbled(entries),
        _ => entries,
    };
    paged(entries, request, form)
}

/// Mixes invalid entries into a list, and makes its last one invalid.
fn broken(entries: Vec<Value>) -> Vec<Value> {
    let mut mixed = vec![
        json!(null),
        json!("nonsense"),
        json!({"csp_id": {}}),
        json!({"name": "no id"}),
    ];
    mixed.extend(entries);
    if let Some(last) = mixed.last_mut() {
        last["name"] = json!(null);
    }
    mixed
}

/// Answers a list whose first two names are not valid text.
fn garbled(mut entries: Vec<Value>) -> Response {
    const MARKS: [&str; 2] = ["<half a surrogate pair>", "<not UTF-8>"];
    for (entry, mark) in entries.iter_mut().zip(MARKS) {
        entry["name"] = json!(format!("lab {mark}"));
    }
    let list = json!({ "results": entries }).to_string();
    let (before, after) = list.split_once(MARKS[1]).unwrap_or((&list, ""));
    let before = before.replace(MARKS[0], r"\ud83d");
    let body = [before.as_bytes(), b"\xff", after.as_bytes()].concat();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Answers the page of a list that a request asks for.
fn paged(entries: Vec<Value>, request: &Request, form: ListForm) -> Response {
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
    let total = entries.len();
    let page = match paging.limit {
        None => entries,
        Some(limit) => entries
            .into_iter()
            .skip(paging.offset)
            .take(limit)
            .collect(),
    };
    let mut list = match form {
        ListForm::Results => json!({ "results": page }),
        ListForm::Result => json!({ "result": page }),
        ListForm::Bare => return Json(page).into_response(),
    };
    if paging.limit.is_some() {
        // CSP sends 64-bit numbers as text.
        list["page"] = json!({ "total_size": total.to_string() });
    }
    Json(list).into_response()
}
