//! The control of the simulator over HTTP: `/simulator/...`.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    Calls, CreatedAccount, Fault, Settings, SimulatedAccount, Simulator,
    answer::{Body, not_saved},
};

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/accounts", get(show_accounts).post(create_accounts))
        .route("/created", get(show_created))
        .route("/faults", get(show_faults).put(set_faults))
        .route("/settings", get(show_settings).put(set_settings))
        .route("/advance", post(advance))
        .route("/calls", get(show_calls))
}

async fn show_accounts(State(simulator): State<Simulator>) -> Json<Vec<SimulatedAccount>> {
    Json(simulator.accounts())
}

#[derive(Deserialize)]
struct CreateAccounts {
    count: u64,
}

async fn create_accounts(
    State(simulator): State<Simulator>,
    Body(body): Body<CreateAccounts>,
) -> Response {
    done(simulator.add_accounts(body.count.min(1_000_000)))
}

async fn show_created(State(simulator): State<Simulator>) -> Json<Vec<CreatedAccount>> {
    Json(simulator.created_accounts())
}

async fn show_faults(State(simulator): State<Simulator>) -> Json<Vec<Fault>> {
    Json(simulator.lock().faults.list())
}

async fn set_faults(
    State(simulator): State<Simulator>,
    Body(faults): Body<Vec<Fault>>,
) -> StatusCode {
    simulator.inject(faults);
    StatusCode::NO_CONTENT
}

async fn show_settings(State(simulator): State<Simulator>) -> Json<Settings> {
    Json(simulator.settings())
}

async fn set_settings(
    State(simulator): State<Simulator>,
    Body(settings): Body<Settings>,
) -> StatusCode {
    simulator.configure(settings);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Advance {
    seconds: u64,
}

async fn advance(State(simulator): State<Simulator>, Body(body): Body<Advance>) -> Response {
    done(simulator.advance(Duration::from_secs(body.seconds)))
}

async fn show_calls(State(simulator): State<Simulator>) -> Json<Calls> {
    Json(simulator.calls())
}

fn done(saved: std::io::Result<()>) -> Response {
    match saved {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => not_saved(&fault),
    }
}
