//! How many sandboxes each lab holds, as operators see it.

use serde_json::json;

use super::set_labs;
use crate::support::Pool;

#[tokio::test(flavor = "multi_thread")]
async fn overview_and_metrics_have_the_sandboxes_that_labs_hold() {
    let pool = Pool::of(9).await;
    let broker = pool.broker().await;
    let labs = json!([
        { "id": "cloud-101", "max_held": 60 },
        { "id": "cloud-202" },
        { "id": "idle", "max_held": 5 },
        { "id": "team-*", "max_held": 1 },
    ]);
    set_labs(&broker.client, labs).await;
    for (lab, caller) in [
        ("cloud-101", "play-1"),
        ("cloud-101", "play-2"),
        ("cloud-202", "play-3"),
        ("team-a", "play-4"),
        ("unknown", "play-5"),
    ] {
        assert_eq!(broker.client.allocate_in(lab, caller).await.status, 201);
    }
    assert_eq!(broker.client.allocate("play-6").await.status, 201);
    // A count is at most ten seconds old, so this broker may have one of before.
    let fresh = pool.broker().await;
    let overview = fresh.client.overview().await;
    assert_eq!(
        overview["labs"],
        json!([
            { "lab": "cloud-101", "held": 2, "max_held": 60 },
            { "lab": "cloud-202", "held": 1, "max_held": null },
            { "lab": "idle", "held": 0, "max_held": 5 },
            { "lab": "team-a", "held": 1, "max_held": 1 },
            { "lab": "other", "held": 2, "max_held": null },
        ])
    );
    let metrics = fresh.client.plain("/metrics").await.text;
    let series: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("broker_lab_held{"))
        .collect();
    assert_eq!(
        series,
        [
            "broker_lab_held{lab=\"cloud-101\"} 2",
            "broker_lab_held{lab=\"cloud-202\"} 1",
            "broker_lab_held{lab=\"idle\"} 0",
            "broker_lab_held{lab=\"other\"} 2",
            "broker_lab_held{lab=\"team-a\"} 1",
        ]
    );
}
