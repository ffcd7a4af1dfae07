//! The forecast of a pool that refill fills.

use reqwest::Method;
use sandbox_broker::csp::simulator::{Call, Fault, FaultKind};
use serde_json::{Value, json};

use super::{Refilled, number};
use crate::support::START;

/// Returns the forecast of the pool for a time after the start.
async fn forecast(lab: &Refilled, seconds: i64) -> Value {
    whole_forecast(lab, seconds).await["pools"][0].clone()
}

/// Returns the forecast of all pools for a time after the start.
async fn whole_forecast(lab: &Refilled, seconds: i64) -> Value {
    let path = format!("/v1/admin/forecast?at={}", START.0 + seconds);
    let answer = lab.broker.client.admin(Method::GET, &path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn counts(forecast: &Value) -> [u64; 5] {
    super::counts(
        forecast,
        [
            "available_now",
            "available",
            "arriving",
            "created",
            "warming",
        ],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_under_way_are_expected_when_they_have_taken_their_time() {
    let lab = Refilled::new(8).await;
    assert_eq!(lab.refill().await["created"], 5);
    // Half an hour, as long as nothing has been measured. The other three are created by the next run.
    assert_eq!(counts(&forecast(&lab, 1799).await), [0, 0, 0, 0, 8]);
    assert_eq!(counts(&forecast(&lab, 1800).await), [0, 5, 5, 0, 3]);
    let ready = forecast(&lab, 1860).await;
    assert_eq!(counts(&ready), [0, 8, 5, 3, 0]);
    assert_eq!(
        (&ready["total"], &ready["shortfall"]),
        (&json!(8), &Value::Null)
    );
    // Each counts once, also when a sync has its sandbox.
    lab.sync().await;
    assert_eq!(counts(&forecast(&lab, 1860).await), [5, 8, 0, 3, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn measured_times_replace_the_assumption() {
    let lab = Refilled::new(3).await;
    let times = ["time_01", "time_02", "time_03", "time_04", "time_05"];
    let state: Vec<_> = times
        .into_iter()
        .zip([70, 60, 100, 90, 80])
        .map(|(name, seconds)| (name, Some(number(seconds))))
        .chain([("last_number", Some(number(5)))])
        .collect();
    lab.rewrite_state(&state).await;
    let expected = forecast(&lab, 3600).await;
    assert_eq!(expected["time_to_available_sec"], 100);
    let assumption = "A new sandbox is available after 100 s: the 95th percentile of the last 5.";
    assert_eq!(expected["assumptions"], json!([assumption]));
    assert_eq!(counts(&forecast(&lab, 159).await), [0, 0, 0, 0, 3]);
    assert_eq!(counts(&forecast(&lab, 160).await), [0, 3, 0, 3, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_pool_is_not_expected_to_get_more() {
    let lab = Refilled::new(2).await;
    lab.simulator.inject([Fault {
        on: Call::Create,
        ..Fault::always(FaultKind::Refuse {
            code: 403,
            message: "account quota exceeded".to_owned(),
        })
    }]);
    assert_eq!(lab.refill().await["failed"], 1);
    let reason = "Refill has stopped for this pool: CSP refuses the request (HTTP 403): account quota exceeded";
    let expected = forecast(&lab, 86_400).await;
    assert_eq!(counts(&expected), [0; 5]);
    let shortfall = json!({ "missing": 2, "reason": reason, "reached_at": null });
    assert_eq!(expected["shortfall"], shortfall);
    let of_refill = async || whole_forecast(&lab, 86_400).await["assumptions"][1].to_string();
    let stopped = of_refill().await;
    assert!(
        stopped.contains("It has stopped, and stays so."),
        "{stopped}"
    );
    assert!(!stopped.contains("CSP refuses"), "{stopped}");
    lab.simulator.inject([]);
    assert_eq!(lab.refill().await["created"], 2);
    let resumed = of_refill().await;
    assert!(resumed.contains("and CSP refuses none."), "{resumed}");
    assert_eq!(forecast(&lab, 1800).await["shortfall"], Value::Null);
}
