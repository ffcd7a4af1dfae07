//! A stub of CSP that lists its accounts and accepts every deletion, at little cost.

use std::fmt::Write as _;

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    routing::{delete, get},
};
use tokio::net::TcpListener;

pub const CREATED_AT: &str = "2025-01-01T00:00:00Z";

/// One account of the pool.
pub struct Account {
    pub csp_id: usize,
    pub name: String,
    pub id: String,
}

/// Returns the account with this number. Names, ids and their lengths are like those of the simulator.
pub fn account(number: usize) -> Account {
    // Numbers that follow each other get names that do not.
    let place = number.wrapping_mul(7_919) % 1_000_000;
    Account {
        csp_id: 2_000_001 + number,
        name: format!("lab-adventure-{place:06}"),
        id: format!("identity/accounts/{number:08x}-8f0b-4a7e-9c1d-2b3a4c5d6e7f"),
    }
}

/// Serves `accounts` accounts and returns the `CSP_BASE_URL`.
pub async fn serve(accounts: usize) -> Result<String> {
    let mut list = String::from(r#"{"results":["#);
    for number in 0..accounts {
        let Account { csp_id, name, id } = account(number);
        let comma = if number == 0 { "" } else { "," };
        write!(
            list,
            r#"{comma}{{"id":"{id}","name":"{name}","csp_id":{csp_id},"account_type":"sandbox","state":"active","created_at":"{CREATED_AT}","sfdc_account_id":null}}"#
        )?;
    }
    list.push_str("]}");
    let list = Bytes::from(list);
    let router = Router::new()
        .route(
            "/v2/current_user/accounts",
            get(move || {
                let list = list.clone();
                async move { ([(header::CONTENT_TYPE, "application/json")], list) }
            }),
        )
        .route(
            "/v2/sandbox/accounts/{uuid}",
            delete(|| async { StatusCode::NO_CONTENT }),
        );
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/v2", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
