//! The capacity units of refill, compared with the table in `docs/scaling.md`.

use serde_json::json;

use crate::support::{
    Pool, Proxy,
    proxy::meter::{Access, Consumption, INDEXES, Source, TABLES},
    simulated_csp,
};

const POOL: u64 = 100;
const BATCH: u64 = 10;

/// Returns the calls, and the units written and read on tables and indexes.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn figures(consumption: &Consumption, per: u64) -> [f64; 3] {
    let units = |access| -> f64 {
        let resources = [TABLES].into_iter().chain(INDEXES.map(|(index, _)| index));
        let units = resources.map(|resource| consumption.units(Source::Rules, access, resource));
        units.sum()
    };
    let all = [
        consumption.calls as f64,
        units(Access::Write),
        units(Access::Read),
    ];
    all.map(|figure| figure / per as f64)
}

/// Returns the documented figures of a row.
fn documented(document: &str, name: &str) -> Vec<f64> {
    let start = format!("| {name} |");
    let line = document.lines().find(|line| line.starts_with(&start));
    let cells = line.unwrap_or_default().split('|').skip(2);
    cells.filter_map(|cell| cell.trim().parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "belongs to scripts/measure-capacity"]
async fn refill_consumes_the_documented_units() {
    let pool = Pool::new().await;
    let (_simulator, base_url) = simulated_csp(POOL).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool
        .broker_with(&[
            ("DDB_ENDPOINT_URL", &proxy.endpoint()),
            ("CSP_BASE_URL", &base_url),
            ("REFILL_MODE", "on"),
            ("REFILL_DELAY_SEC", "0"),
            ("REFILL_BATCH", &BATCH.to_string()),
        ])
        .await;
    let client = &broker.client;
    client.job("sync").await;
    let policy = |target: u64| json!({ "pool": [{ "name_prefix": "class", "target_available": target, "create": {} }] });
    client.set_policy(0, &policy(0)).await;
    let mut rows = Vec::new();
    for (name, job, per, target) in [
        (
            format!("a run of refill that finds nothing, pool of {POOL}"),
            "refill",
            1,
            Some(0),
        ),
        (
            format!("refill of {BATCH} accounts, each"),
            "refill",
            BATCH,
            Some(BATCH),
        ),
        (
            format!("sync that adds these {BATCH}, each"),
            "sync",
            BATCH,
            None,
        ),
        (
            format!("refill that sees these {BATCH} available, each"),
            "refill",
            BATCH,
            None,
        ),
    ] {
        if target == Some(BATCH) {
            client.set_policy(1, &policy(BATCH)).await;
        }
        proxy.take_consumption().await;
        client.job(job).await;
        rows.push((name, figures(&proxy.take_consumption().await, per)));
    }
    let document = std::fs::read_to_string("docs/scaling.md").unwrap();
    let mut faults = Vec::new();
    for (name, measured) in rows {
        let [calls, written, read] = measured.map(|figure| format!("{figure:.2}"));
        println!("| {name} | {calls} | {written} | {read} |");
        let documented = documented(&document, &name);
        let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= f64::max(0.5, 0.05 * a.max(*b));
        if documented.len() != 3 || !measured.iter().zip(&documented).all(is_close) {
            faults.push(format!(
                "{name}: measured {measured:?}, documented {documented:?}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
