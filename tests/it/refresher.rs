//! Scans of the table that several requests share.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sandbox_broker::{
    broker::{
        candidates::{CandidateIndex, Outcome},
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
    proxy::{Call, Gate, Proxy, Script},
};

/// A proxy to the pool's engine whose pages hold one sandbox each.
async fn one_sandbox_per_page(pool: &Pool) -> Proxy {
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    proxy.play(Script {
        page_limit: Some(1),
        ..Script::default()
    });
    proxy
}

async fn refresher_of(pool: &Pool, proxy: &Proxy, capacity: usize) -> CandidateRefresher {
    let config = Config::from_variables(&pool.variables(&[])).unwrap();
    let endpoint = proxy.endpoint();
    let store = PoolStore::connect(&config.store, Some(&endpoint), Metrics::new()).await;
    CandidateRefresher::new(store, CandidateIndex::new(capacity, 1), TaskTracker::new())
}

/// Counts scans by their first pages.
fn count_scans(proxy: &Proxy) -> (Arc<AtomicUsize>, Gate) {
    let scans = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&scans);
    let gate = proxy.hold(move |call| {
        counted.fetch_add(usize::from(is_first_page(call)), Ordering::SeqCst);
        false
    });
    (scans, gate)
}

fn is_first_page(call: &Call) -> bool {
    call.operation == "Query" && call.json()["ExclusiveStartKey"].is_null()
}

fn is_later_page(call: &Call) -> bool {
    call.operation == "Query" && call.json()["ExclusiveStartKey"].is_object()
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_continues_for_other_requests_when_its_first_one_is_cancelled() {
    let pool = Pool::of(3).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let refresher = refresher_of(&pool, &proxy, 10).await;
    let scans = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&scans);
    let second_page = proxy.hold(move |call| {
        counted.fetch_add(usize::from(is_first_page(call)), Ordering::SeqCst);
        is_later_page(call)
    });
    let prefix = NamePrefix::parse("none-").unwrap();
    let mut first = Box::pin(refresher.refresh(Some(&prefix)));
    let mut second = Box::pin(refresher.refresh(Some(&prefix)));
    tokio::select! {
        biased;
        read = &mut first => panic!("{read:?}"),
        read = &mut second => panic!("{read:?}"),
        () = second_page.wait_for_one() => {}
    }
    drop(first);
    // Long enough for a second scan to begin.
    let wait = tokio::time::timeout(Duration::from_millis(200), &mut second);
    assert!(wait.await.is_err());
    assert_eq!(scans.load(Ordering::SeqCst), 1);
    second_page.open();
    assert_eq!(second.await.unwrap(), Refreshed::Empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_empty_scan_does_not_answer_requests_that_came_after_it_began() {
    let pool = Pool::of(2).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let broker = pool.broker_behind(&proxy).await;
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
        // Longer than an empty scan may answer other requests.
        tokio::time::sleep(Duration::from_millis(300)).await;
        pool.add((0..20).map(|n| format!("a-new-{n}"))).await;
        tokio::join!(ask("late"), async { second_page.open() }).0
    };
    let (early, late) = tokio::join!(early, late);
    // Whether the early request sees them depends on their position in the secondary index.
    assert!(matches!(early.status.as_u16(), 201 | 409), "{early:?}");
    assert_eq!(late.status, 201, "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn index_with_stale_candidates_is_refreshed_soon() {
    let pool = Pool::of(40).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let refresher = refresher_of(&pool, &proxy, 40).await;
    // Filled twice, because a slow first scan would postpone the next one.
    refresher.fill().await.unwrap();
    let began = Instant::now();
    refresher.fill().await.unwrap();
    let filled = Instant::now();
    let (scans, _gate) = count_scans(&proxy);
    for _ in 0..8 {
        refresher.reserve(None).unwrap().end(Outcome::TakenByOther);
    }
    while scans.load(Ordering::SeqCst) == 0 {
        // Sooner than an index that only runs low would be refreshed.
        assert!(filled.elapsed() < Duration::from_secs(2));
        refresher.reserve(None).unwrap().end(Outcome::Unused);
        tokio::task::yield_now().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(250));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_request_continues_with_the_page_that_brings_its_candidate() {
    let pool = Pool::of(3).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let refresher = refresher_of(&pool, &proxy, 10).await;
    let later_page = |wanted| {
        let pages = AtomicUsize::new(0);
        move |call: &Call| is_later_page(call) && pages.fetch_add(1, Ordering::SeqCst) == wanted
    };
    let second_page = proxy.hold(later_page(0));
    let third_page = proxy.hold(later_page(1));
    let filling = tokio::spawn({
        let refresher = refresher.clone();
        async move { refresher.fill().await }
    });
    second_page.wait_for_one().await;
    refresher.reserve(None).unwrap().end(Outcome::Consumed);
    let refresh = refresher.refresh(None);
    let found = tokio::join!(refresh, async { second_page.open() }).0;
    assert_eq!(found.unwrap(), Refreshed::Found);
    assert!(refresher.reserve(None).is_some());
    assert!(!filling.is_finished());
    third_page.open();
    filling.await.unwrap().unwrap();
}

/// Waits until the index has `wanted` candidates, for less time than the interval between background scans.
async fn wait_for_candidates(refresher: &CandidateRefresher, wanted: usize) {
    let filled = async {
        while refresher.candidates().len() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let filled = tokio::time::timeout(Duration::from_secs(1), filled).await;
    assert!(filled.is_ok(), "{}", refresher.candidates().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_up_waits_for_one_page_and_reads_the_rest_in_the_background() {
    let pool = Pool::of(12).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let refresher = refresher_of(&pool, &proxy, 8).await;
    let rest = proxy.hold(is_later_page);
    refresher.warm_up().await.unwrap();
    assert_eq!(refresher.candidates().len(), 1);
    rest.open();
    wait_for_candidates(&refresher, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn low_index_is_topped_up_immediately_if_the_table_has_more() {
    let pool = Pool::of(20).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let refresher = refresher_of(&pool, &proxy, 8).await;
    refresher.fill().await.unwrap();
    while refresher.candidates().len() > 1 {
        refresher.reserve(None).unwrap().end(Outcome::Consumed);
    }
    refresher.reserve(None).unwrap().end(Outcome::Unused);
    wait_for_candidates(&refresher, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_scan_that_stops_early_causes_no_background_scan() {
    let names = ["a-1", "a-2", "a-3", "b-1"];
    let pool = Pool::with_names(names).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let refresher = refresher_of(&pool, &proxy, 100).await;
    refresher.fill().await.unwrap();
    let prefix = NamePrefix::parse("a-").unwrap();
    // Another broker has allocated all of them.
    let ids = names.map(|name| SandboxId::parse(name).unwrap());
    refresher.candidates().remove(&HashSet::from(ids));
    assert_eq!(
        refresher.refresh(Some(&prefix)).await.unwrap(),
        Refreshed::Found
    );
    let (scans, _gate) = count_scans(&proxy);
    refresher.reserve(None).unwrap().end(Outcome::Unused);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scans.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_request_gets_a_candidate_that_another_request_returns() {
    let pool = Pool::of(1).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let refresher = refresher_of(&pool, &proxy, 10).await;
    refresher.fill().await.unwrap();
    let reservation = refresher.reserve(None).unwrap();
    let scan = proxy.hold(is_first_page);
    let refresh = refresher.refresh(None);
    let return_candidate = async {
        scan.wait_for_one().await;
        reservation.end(Outcome::Unused);
    };
    let (found, ()) = tokio::join!(refresh, return_candidate);
    assert_eq!(found.unwrap(), Refreshed::Found);
    scan.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_scan_with_waiting_requests_grow() {
    let pool = Pool::of(1600).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let refresher = refresher_of(&pool, &proxy, 100).await;
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
        refresher.refresh(Some(&prefix)).await.unwrap(),
        Refreshed::Empty
    );
    assert_eq!(*sizes.lock().unwrap(), [Some(500), Some(1000), Some(2000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn low_index_is_not_refreshed_repeatedly_if_the_table_has_no_more() {
    let pool = Pool::of(1).await;
    let proxy = one_sandbox_per_page(&pool).await;
    let refresher = refresher_of(&pool, &proxy, 8).await;
    refresher.fill().await.unwrap();
    let (scans, _gate) = count_scans(&proxy);
    for _ in 0..50 {
        refresher.reserve(None).unwrap().end(Outcome::Unused);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(scans.load(Ordering::SeqCst), 0);
}

/// Refreshes concurrently for `count` different absent prefixes. Returns the number of scans.
async fn scans_for_absent_prefixes(
    refresher: &CandidateRefresher,
    proxy: &Proxy,
    count: usize,
) -> usize {
    let (scans, _gate) = count_scans(proxy);
    let prefixes: Vec<_> = (0..count)
        .map(|n| NamePrefix::parse(format!("none-{n}-")).unwrap())
        .collect();
    let all = prefixes
        .iter()
        .map(|prefix| refresher.refresh(Some(prefix)));
    for result in join_all(all).await {
        assert_eq!(result.unwrap(), Refreshed::Empty);
    }
    scans.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_scan_answers_requests_for_many_absent_prefixes() {
    let pool = Pool::of(10).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let refresher = refresher_of(&pool, &proxy, 10).await;
    assert_eq!(scans_for_absent_prefixes(&refresher, &proxy, 50).await, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        scans_for_absent_prefixes(&refresher, &proxy, 50).await,
        1,
        "an empty scan does not answer requests that came 250 ms after it began"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_of_more_sandboxes_than_the_index_holds_answers_only_its_prefix() {
    let pool = Pool::of(10).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let refresher = refresher_of(&pool, &proxy, 9).await;
    assert_eq!(scans_for_absent_prefixes(&refresher, &proxy, 5).await, 5);
    let prefix = NamePrefix::parse("none-").unwrap();
    let (scans, _gate) = count_scans(&proxy);
    let all = (0..20).map(|_| refresher.refresh(Some(&prefix)));
    for result in join_all(all).await {
        assert_eq!(result.unwrap(), Refreshed::Empty);
    }
    assert_eq!(scans.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_of_a_cancelled_request_is_found_by_the_next_scan() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let refresher = refresher_of(&pool, &proxy, 10).await;
    refresher.fill().await.unwrap();
    drop(refresher.reserve(None).unwrap());
    let prefix = NamePrefix::parse("lab-adventure-").unwrap();
    assert_eq!(
        refresher.refresh(Some(&prefix)).await.unwrap(),
        Refreshed::Found,
        "the first scan does not rule it out"
    );
}
