//! The read units and the time of a run of auto-expire among many allocations, none of which is overdue, compared with
//! the table in `docs/scaling.md`.

use std::{sync::Arc, time::Instant};

use aws_sdk_dynamodb::types::{AttributeValue::S, PutRequest, WriteRequest};
use futures_util::{StreamExt, TryStreamExt, stream};
use sandbox_broker::store::Item;

use crate::support::{
    Pool, Proxy,
    proxy::meter::{Access, INDEXES, Source},
};

/// The numbers of allocations if `EXPIRY_ALLOCATED` names no others, separated by commas.
const ALLOCATED: &str = "1000";

/// Writes copies of an allocated item under other ids.
async fn copy(pool: &Pool, item: &Item, copies: usize) {
    let text = |text: String| Some(S(text));
    let put = |n: usize| {
        let mut item = item.clone();
        for (name, value) in [
            ("PK", text(format!("SBX#{:07}", 3_000_000 + n))),
            ("sandbox_id", text(format!("{:07}", 3_000_000 + n))),
            ("name", text(format!("lab-adventure-{n:06}"))),
            (
                "external_id",
                text(format!("identity/accounts/3f2a6c1e-8f0b-4a7e-9c1d-{n:012}")),
            ),
            ("allocated_to_track", text(caller(n))),
            ("idempotency_key", text(caller(n))),
        ] {
            item.insert(name.to_owned(), value.unwrap());
        }
        let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
        WriteRequest::builder().put_request(put).build()
    };
    let all: Vec<_> = (0..copies).collect();
    stream::iter(all.chunks(25))
        .map(|chunk| {
            let requests = chunk.iter().map(|n| put(*n)).collect();
            let write = pool.client.batch_write_item();
            write.request_items(&pool.table, requests).send()
        })
        .buffer_unordered(8)
        .try_for_each(async |answer| {
            let left = answer.unprocessed_items.unwrap_or_default();
            assert!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
        .unwrap();
}

/// A caller as long as a participant id of Instruqt.
fn caller(number: usize) -> String {
    format!("participant-{number:06}-000000000000")
}

/// Returns the documented read units for this number of allocations.
fn documented(allocated: usize) -> Option<f64> {
    let document = std::fs::read_to_string("docs/scaling.md").unwrap();
    let start = format!("| auto-expire among {allocated} allocations, none overdue |");
    let line = document.lines().find(|line| line.starts_with(&start))?;
    line.split('|').nth(2)?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "belongs to scripts/measure-capacity; larger numbers with EXPIRY_ALLOCATED=20000,100000"]
async fn run_of_auto_expire_reads_the_documented_units() {
    let sizes = std::env::var("EXPIRY_ALLOCATED").unwrap_or_else(|_| ALLOCATED.to_owned());
    let mut faults = Vec::new();
    for allocated in sizes.split(',').map(|size| size.parse().unwrap()) {
        let pool = Pool::of(1).await;
        let direct = pool.broker().await;
        let answer = direct
            .client
            .allocate_in("cloud-security-101", &caller(0))
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let mut items = pool.items_of(&pool.table).await;
        let item = items.pop().unwrap();
        copy(&pool, &item, allocated - 1).await;
        // Booted now: its first count of the pool is a minute away.
        let proxy = Arc::new(Proxy::to(pool.engine.endpoint()).await);
        let metered = pool
            .broker_with(&[
                ("DDB_ENDPOINT_URL", &proxy.endpoint()),
                ("RUN_JOBS", "false"),
            ])
            .await;
        for broker in [&metered, &direct] {
            // Older than the shortest lease and its grace period, and so are read.
            broker.clock.advance(std::time::Duration::from_hours(2));
        }
        proxy.take_consumption().await;
        assert_eq!(metered.client.job("auto-expire").await["due"], 0);
        let consumption = proxy.take_consumption().await;
        let units = INDEXES.map(|(index, _)| consumption.units(Source::Rules, Access::Read, index));
        let units: f64 = units.iter().sum();
        let began = Instant::now();
        direct.client.job("auto-expire").await;
        let took = began.elapsed().as_millis();
        println!(
            "| auto-expire among {allocated} allocations, none overdue | {units} | {took} ms |"
        );
        let documented = documented(allocated).unwrap_or_default();
        if (units - documented).abs() > 0.05 * units {
            faults.push(format!(
                "{allocated}: measured {units}, documented {documented}"
            ));
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
}
