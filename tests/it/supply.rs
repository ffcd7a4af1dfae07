//! Readings of the table that several requests wait for.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sandbox_broker::{
    broker::{
        candidates::Candidates,
        refresher::{CandidateRefresher, Refreshed},
    },
    config::Config,
    domain::{NamePrefix, SandboxId},
    store::PoolStore,
    telemetry::metrics::Metrics,
};
use tokio_util::task::TaskTracker;

use crate::support::{
    Pool,
    faults::{Call, FaultProxy, Gate, Script},
};

/// A proxy to the pool's engine that makes every sandbox a page of its own.
async fn one_a_page(pool: &Pool) -> FaultProxy {
    let proxy = FaultProxy::to(pool.engine.endpoint(), 1).await;
    proxy.play(Script {
        page_limit: Some(1),
        ..Script::default()
    });
    proxy
}

async fn supply_of(pool: &Pool, proxy: &FaultProxy, capacity: usize) -> CandidateRefresher {
    let config = Config::from_variables(&pool.variables(&[])).unwrap();
    let endpoint = proxy.endpoint();
    let store = PoolStore::connect(&config.store, Some(&endpoint), Metrics::new()).await;
    CandidateRefresher::new(store, Candidates::new(capacity, 1), TaskTracker::new())
}

/// Counts readings: their first pages.
fn count_readings(proxy: &FaultProxy) -> (Arc<AtomicUsize>, Gate) {
    let readings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&readings);
    let gate = proxy.hold(move |call| {
        counted.fetch_add(usize::from(is_first_page(call)), Ordering::SeqCst);
        false
    });
    (readings, gate)
}

fn is_first_page(call: &Call) -> bool {
    call.operation == "Query" && call.json()["ExclusiveStartKey"].is_null()
}

fn is_later_page(call: &Call) -> bool {
    call.operation == "Query" && call.json()["ExclusiveStartKey"].is_object()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_goes_on_for_the_others_when_who_began_it_is_gone() {
    let pool = Pool::of(3).await;
    let proxy = one_a_page(&pool).await;
    let supply = supply_of(&pool, &proxy, 10).await;
    let readings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&readings);
    let second_page = proxy.hold(move |call| {
        counted.fetch_add(usize::from(is_first_page(call)), Ordering::SeqCst);
        is_later_page(call)
    });
    let prefix = NamePrefix::parse("none-").unwrap();
    let mut first = Box::pin(supply.refresh(Some(&prefix)));
    let mut second = Box::pin(supply.refresh(Some(&prefix)));
    tokio::select! {
        biased;
        read = &mut first => panic!("{read:?}"),
        read = &mut second => panic!("{read:?}"),
        () = second_page.wait_for_one() => {}
    }
    drop(first);
    // Time for a second reading to begin, if there is one.
    let wait = tokio::time::timeout(Duration::from_millis(200), &mut second);
    assert!(wait.await.is_err());
    assert_eq!(readings.load(Ordering::SeqCst), 1);
    second_page.open();
    assert_eq!(second.await.unwrap(), Refreshed::Empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_takes_long_refuses_nobody_who_came_after_it_began() {
    let pool = Pool::of(2).await;
    let proxy = one_a_page(&pool).await;
    let broker = pool
        .broker_with(&[("DDB_ENDPOINT_URL", &proxy.endpoint())])
        .await;
    let second_page = proxy.hold(is_later_page);
    let client = &broker.client;
    let ask = |caller: &'static str| {
        let request = client
            .allocation(caller)
            .header("X-Sandbox-Name-Prefix", "a-new-");
        client.send(request)
    };
    let early = ask("early");
    let late = async {
        second_page.wait_for_one().await;
        // Longer than an empty reading may answer others.
        tokio::time::sleep(Duration::from_millis(300)).await;
        pool.add((0..20).map(|n| format!("a-new-{n}"))).await;
        tokio::join!(ask("late"), async { second_page.open() }).0
    };
    let (early, late) = tokio::join!(early, late);
    // Whether the early one saw them depends on where they stand in the index.
    assert!(matches!(early.status.as_u16(), 201 | 409), "{early:?}");
    assert_eq!(late.status, 201, "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_others_empty_is_read_anew_soon() {
    let pool = Pool::of(40).await;
    let proxy = FaultProxy::to(pool.engine.endpoint(), 1).await;
    let supply = supply_of(&pool, &proxy, 40).await;
    // A reading that took long would put the next one off.
    supply.fill().await.unwrap();
    let began = Instant::now();
    supply.fill().await.unwrap();
    let filled = Instant::now();
    let (readings, _gate) = count_readings(&proxy);
    for _ in 0..8 {
        supply.check_out(None).unwrap().lost();
    }
    while readings.load(Ordering::SeqCst) == 0 {
        // Sooner than an index that only runs low.
        assert!(filled.elapsed() < Duration::from_secs(2));
        supply.check_out(None).unwrap().put_back();
        tokio::task::yield_now().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(250));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_a_candidate_with_the_page_that_brings_it() {
    let pool = Pool::of(3).await;
    let proxy = one_a_page(&pool).await;
    let supply = supply_of(&pool, &proxy, 10).await;
    let later_page = |wanted| {
        let pages = AtomicUsize::new(0);
        move |call: &Call| is_later_page(call) && pages.fetch_add(1, Ordering::SeqCst) == wanted
    };
    let second_page = proxy.hold(later_page(0));
    let third_page = proxy.hold(later_page(1));
    let filling = tokio::spawn({
        let supply = supply.clone();
        async move { supply.fill().await }
    });
    second_page.wait_for_one().await;
    supply.check_out(None).unwrap().won();
    let refresh = supply.refresh(None);
    let refreshed = tokio::join!(refresh, async { second_page.open() }).0;
    assert_eq!(refreshed.unwrap(), Refreshed::Found);
    assert!(supply.check_out(None).is_some());
    assert!(!filling.is_finished());
    third_page.open();
    filling.await.unwrap().unwrap();
}

/// Waits until the index has so many; less long than it takes until a whole table is read again.
async fn wait_until_it_has(supply: &CandidateRefresher, wanted: usize) {
    let filled = async {
        while supply.candidates().len() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let filled = tokio::time::timeout(Duration::from_secs(1), filled).await;
    assert!(filled.is_ok(), "{}", supply.candidates().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_one_page_only_and_reads_the_rest_afterwards() {
    let pool = Pool::of(12).await;
    let proxy = one_a_page(&pool).await;
    let supply = supply_of(&pool, &proxy, 8).await;
    let rest = proxy.hold(is_later_page);
    supply.warm_up().await.unwrap();
    assert_eq!(supply.candidates().len(), 1);
    rest.open();
    wait_until_it_has(&supply, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_index_is_topped_up_at_once_if_the_table_has_more() {
    let pool = Pool::of(20).await;
    let proxy = one_a_page(&pool).await;
    let supply = supply_of(&pool, &proxy, 8).await;
    supply.fill().await.unwrap();
    while supply.candidates().len() > 1 {
        supply.check_out(None).unwrap().won();
    }
    supply.check_out(None).unwrap().put_back();
    wait_until_it_has(&supply, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_prefix_that_stops_early_does_not_call_for_more_readings() {
    let names = ["a-1", "a-2", "a-3", "b-1"];
    let pool = Pool::with_names(names).await;
    let proxy = one_a_page(&pool).await;
    let supply = supply_of(&pool, &proxy, 100).await;
    supply.fill().await.unwrap();
    let prefix = NamePrefix::parse("a-").unwrap();
    // As another broker's claims would leave it.
    let ids = names.map(|name| SandboxId::parse(name).unwrap());
    supply.candidates().remove(&HashSet::from(ids));
    assert_eq!(
        supply.refresh(Some(&prefix)).await.unwrap(),
        Refreshed::Found
    );
    let (readings, _gate) = count_readings(&proxy);
    supply.check_out(None).unwrap().put_back();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(readings.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_what_another_request_puts_back() {
    let pool = Pool::of(1).await;
    let proxy = one_a_page(&pool).await;
    let supply = supply_of(&pool, &proxy, 10).await;
    supply.fill().await.unwrap();
    let out = supply.check_out(None).unwrap();
    let reading = proxy.hold(is_first_page);
    let refresh = supply.refresh(None);
    let put_back = async {
        reading.wait_for_one().await;
        out.put_back();
    };
    let (refreshed, ()) = tokio::join!(refresh, put_back);
    assert_eq!(refreshed.unwrap(), Refreshed::Found);
    reading.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_grow_for_a_reading_that_somebody_waits_for() {
    let pool = Pool::of(1600).await;
    let proxy = FaultProxy::to(pool.engine.endpoint(), 1).await;
    let supply = supply_of(&pool, &proxy, 100).await;
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let _gate = proxy.hold(move |call| {
        if call.operation == "Query" {
            seen.lock().unwrap().push(call.json()["Limit"].as_u64());
        }
        false
    });
    let prefix = NamePrefix::parse("none-").unwrap();
    assert_eq!(
        supply.refresh(Some(&prefix)).await.unwrap(),
        Refreshed::Empty
    );
    assert_eq!(*sizes.lock().unwrap(), [Some(500), Some(1000), Some(2000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_index_is_not_read_again_and_again_if_the_table_has_no_more() {
    let pool = Pool::of(1).await;
    let proxy = one_a_page(&pool).await;
    let supply = supply_of(&pool, &proxy, 8).await;
    supply.fill().await.unwrap();
    let (readings, _gate) = count_readings(&proxy);
    for _ in 0..50 {
        supply.check_out(None).unwrap().put_back();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(readings.load(Ordering::SeqCst), 0);
}
