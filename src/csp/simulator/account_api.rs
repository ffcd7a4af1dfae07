//! The simulated API for accounts: list, create, find, delete.

use axum::{
    Json,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Inner, ListForm, NewAccount, SimulatedAccount, Simulator,
    answer::{Body, error, list, not_saved},
    filter,
    generated::ID_PREFIX,
};

/// Lists the accounts after their listing delay.
pub(super) async fn list_accounts(
    State(simulator): State<Simulator>,
    request: Request,
) -> Response {
    let inner = simulator.lock();
    let listed = inner.accounts.listed(&inner.settings);
    let entries = listed.map(|account| json!(account)).collect();
    list(entries, &request, ListForm::Results)
}

/// Creates an account, also if there is one of the same name: this is how CSP behaves.
pub(super) async fn create_account(
    State(simulator): State<Simulator>,
    Body(request): Body<NewAccount>,
) -> Response {
    let mut inner = simulator.lock();
    if let Some(rejection) = inner.rejection(&request) {
        return rejection;
    }
    match inner.accounts.create(request.clone()) {
        Ok(account) => (inner.success(), Json(created(&account, &request))).into_response(),
        Err(fault) => not_saved(&fault),
    }
}

impl Inner {
    /// Returns the answer to a creation that is rejected.
    fn rejection(&self, request: &NewAccount) -> Option<Response> {
        let name = &request.name;
        if name.trim().is_empty() {
            return Some(error(StatusCode::BAD_REQUEST, "name is required"));
        }
        let mut visible = self.accounts.visible();
        if self.settings.unique_names && visible.any(|account| account.name == *name) {
            let message = format!("an account with the name '{name}' exists");
            return Some(error(StatusCode::CONFLICT, &message));
        }
        let max = self.settings.max_accounts?;
        (self.accounts.all().len() >= max).then(|| {
            let message = format!("the quota of {max} accounts is exhausted");
            error(StatusCode::BAD_REQUEST, &message)
        })
    }
}

/// The answer to a creation, which does not contain the `csp_id`.
fn created(account: &SimulatedAccount, request: &NewAccount) -> Value {
    json!({ "result": {
        "id": account.id,
        "name": account.name,
        "description": request.description,
        "state": account.state,
        "tags": request.tags,
        "created_at": account.created_at,
        "admin_user": {
            "account_id": account.id,
            "email": request.admin_user.email,
            "name": request.admin_user.name,
        },
    }})
}

/// Lists the accounts of a name, or all, without any delay.
pub(super) async fn find_accounts(
    State(simulator): State<Simulator>,
    request: Request,
) -> Response {
    let name = match filter::wanted(request.uri(), "name") {
        Ok(name) => name,
        Err(message) => return error(StatusCode::BAD_REQUEST, &message),
    };
    let inner = simulator.lock();
    let found = inner
        .accounts
        .visible()
        .filter(|account| name.as_ref().is_none_or(|name| account.name == *name));
    let entries = found
        .map(|account| json!({ "id": account.id, "name": account.name }))
        .collect();
    list(entries, &request, inner.settings.lists)
}

pub(super) async fn delete_account(
    State(simulator): State<Simulator>,
    Path(uuid): Path<String>,
) -> Response {
    let accounts = &mut simulator.lock().accounts;
    let Some(account) = accounts.find(&format!("{ID_PREFIX}{uuid}")) else {
        return error(StatusCode::NOT_FOUND, "no such account");
    };
    let csp_id = account.csp_id;
    match accounts.delete(csp_id) {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => not_saved(&fault),
    }
}
