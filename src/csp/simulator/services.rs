//! The simulated NIOSXaaS API: list and delete the services of the account that a request concerns.
//!
//! Every second account has a service that a lab creates, and every fifth has one of another name.

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use serde_json::{Value, json};

use super::{
    Inner, ListForm, Simulator,
    answer::{error, list},
    sessions::unauthorized,
};

const SERVICES: &str = "/api/universalinfra/v1/universalservices";

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route(SERVICES, get(list_services))
        .route(&format!("{SERVICES}/{{uuid}}"), delete(delete_service))
}

impl Simulator {
    /// Returns the remaining services, each with the `csp_id` of its account and its name.
    #[must_use]
    pub fn services(&self) -> Vec<(u64, &'static str)> {
        let inner = self.lock();
        let all = inner
            .accounts
            .all()
            .iter()
            .flat_map(|account| of_account(&account.id, account.csp_id));
        all.filter(|service| !inner.deleted_services.contains(&service.id))
            .map(|service| (service.csp_id, service.name))
            .collect()
    }
}

impl Inner {
    /// Returns the services of the account that a request concerns.
    fn services_of_request(&self, headers: &HeaderMap) -> Option<Vec<Service>> {
        let account = self.account_of_request(headers)?;
        let mut services = of_account(&account.id, account.csp_id);
        services.retain(|service| !self.deleted_services.contains(&service.id));
        Some(services)
    }
}

struct Service {
    id: String,
    name: &'static str,
    csp_id: u64,
}

fn of_account(account: &str, csp_id: u64) -> Vec<Service> {
    let uuid = account.rsplit('/').next().unwrap_or_default();
    let service = |name, number| Service {
        id: format!("infra/universal_service/{number}-{uuid}"),
        name,
        csp_id,
    };
    let of_lab = csp_id.is_multiple_of(2).then(|| service("Instrqt-SaaS", 1));
    let other = csp_id
        .is_multiple_of(5)
        .then(|| service("another-service", 2));
    of_lab.into_iter().chain(other).collect()
}

async fn list_services(State(simulator): State<Simulator>, request: Request) -> Response {
    let Some(services) = simulator.lock().services_of_request(request.headers()) else {
        return unauthorized();
    };
    let entries: Vec<Value> = services
        .iter()
        .map(|service| json!({ "id": service.id, "name": service.name }))
        .collect();
    if entries.is_empty() {
        // As CSP answers an empty list.
        return Json(json!({ "results": null })).into_response();
    }
    list(entries, &request, ListForm::Results)
}

async fn delete_service(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Path(uuid): Path<String>,
) -> Response {
    let mut inner = simulator.lock();
    let Some(services) = inner.services_of_request(&headers) else {
        return unauthorized();
    };
    match services
        .into_iter()
        .find(|service| service.id.rsplit('/').next() == Some(&uuid))
    {
        None => error(StatusCode::NOT_FOUND, "no such service"),
        Some(service) => {
            inner.deleted_services.insert(service.id);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}
