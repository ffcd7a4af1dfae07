//! Quotas under bursts of requests, on two brokers, and while the policy changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use sandbox_broker::clock::{Clock, SystemClock};
use tokio::{sync::Semaphore, time::Instant};

use super::{LAB, allocate, allocated, assert_refused, held, set_quota, until_known};
use crate::support::{
    Answer, BrokerClient, BrokerProcess, Pool, Proxy, TestBroker, assert_each_has_one, proxy,
    run_alone,
};

/// The quota of the lab in the burst.
const QUOTA: usize = 60;

/// Boots a broker, sets the quota, and boots a second one, which knows it from its start.
async fn two_brokers(pool: &Pool, quota: usize) -> (TestBroker, TestBroker) {
    let a = pool.broker().await;
    set_quota(&a.client, quota.try_into().unwrap()).await;
    (a, pool.broker().await)
}

/// Sends a request of each caller, all concurrently, alternating between the brokers. Returns the sandboxes of those that
/// hold one. All others must be refused because of the quota.
async fn burst(
    brokers: [&BrokerClient; 2],
    callers: impl IntoIterator<Item = String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let requests = callers
        .into_iter()
        .enumerate()
        .map(|(n, caller)| async move {
            let answer = allocate(brokers[n % 2], &caller).await;
            (caller, answer)
        });
    holders(join_all(requests).await)
}

fn holders(answers: Vec<(String, Answer)>) -> BTreeMap<String, BTreeSet<String>> {
    let mut holders: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (caller, answer) in answers {
        if answer.status.is_success() {
            let sandboxes = holders.entry(caller).or_default();
            sandboxes.insert(answer.sandbox_id());
        } else {
            assert_eq!(answer.code(), "LAB_QUOTA_REACHED", "{caller}: {answer:?}");
        }
    }
    holders
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_callers_of_a_lab_get_exactly_its_quota() {
    let _alone = run_alone().await;
    let pool = Pool::of(200).await;
    let (a, b) = two_brokers(&pool, QUOTA).await;
    let brokers = [&a.client, &b.client];
    // A fifth of the requests repeat another one, on the other broker.
    let callers = (0..1000).map(|n| format!("play-{}", n % 801));
    let holders = burst(brokers, callers).await;
    assert_eq!(holders.len(), QUOTA);
    assert!(holders.values().all(|sandboxes| sandboxes.len() == 1));
    let holdings = pool.holdings().await;
    assert_eq!(assert_each_has_one(&holdings), QUOTA);
    assert!(
        holdings.keys().eq(holders.keys()),
        "answers agree with the table"
    );

    let released = holders.iter().take(10);
    join_all(released.map(async |(caller, sandboxes)| {
        let id = sandboxes.first().unwrap();
        assert_eq!(a.client.release(id, caller).await.status, 200);
    }))
    .await;
    let later = burst(brokers, (0..40).map(|n| format!("later-{n}"))).await;
    assert_eq!(later.len(), 10);
    assert_eq!(held(&pool).await.len(), QUOTA);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_share_a_quota_larger_than_their_bursts() {
    let _alone = run_alone().await;
    let pool = Pool::of(160).await;
    let (a, b) = two_brokers(&pool, 150).await;
    let callers = (0..150).map(|n| format!("play-{n}"));
    let holders = burst([&a.client, &b.client], callers).await;
    assert_eq!(holders.len(), 150, "no caller is refused below the quota");
    assert_refused(&b.client, "late").await;
    assert_eq!(held(&pool).await.len(), 150);
}

/// Measures the median time of allocations of another lab.
async fn median_of_another_lab(client: &BrokerClient, name: &str) -> Duration {
    let mut times = Vec::new();
    for n in 0..40 {
        let began = Instant::now();
        let answer = client
            .allocate_in("cloud-202", &format!("{name}-{n}"))
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn other_labs_are_not_slowed_by_a_lab_at_its_quota() {
    let _alone = run_alone().await;
    let pool = Pool::of(200).await;
    let broker = pool.broker().await;
    let client = &broker.client;
    set_quota(client, 5).await;
    let alone = median_of_another_lab(client, "alone").await;
    let storm = join_all((0..200).map(async |n| {
        let caller = format!("play-{n}");
        let mut requests: u32 = 0;
        loop {
            let answer = allocate(client, &caller).await;
            if answer.status.is_success() || n < 5 {
                return requests;
            }
            requests += 1;
            assert_eq!(answer.code(), "LAB_QUOTA_REACHED", "{answer:?}");
            if requests == 4 {
                return requests;
            }
        }
    }));
    let (beside, requests) = tokio::join!(median_of_another_lab(client, "beside"), storm);
    println!(
        "median of another lab: {alone:?} alone, {beside:?} beside {} refusals",
        requests.iter().sum::<u32>()
    );
    // The requests share the processors, but neither a queue of the database nor candidates.
    assert!(
        beside < alone * 10 + Duration::from_millis(100),
        "{alone:?}, {beside:?}"
    );
    assert_eq!(held(&pool).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_different_policies_keep_the_larger_quota() {
    let pool = Pool::of(60).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let a = pool.broker().await;
    set_quota(&a.client, 12).await;
    let b = pool.broker_behind(&proxy).await;
    // This broker does not see the change.
    let gate = proxy.hold(proxy::Call::reads_policy);
    set_quota(&a.client, 5).await;
    let brokers = [&a.client, &b.client];
    burst(brokers, (0..40).map(|n| format!("play-{n}"))).await;
    let both = held(&pool).await.len();
    assert!((5..=12).contains(&both), "{both}");
    assert_refused(&a.client, "late").await;
    gate.open();
    until_known(&b.client, &a.client).await;
    for sandbox in held(&pool).await.iter().skip(4) {
        let caller = &sandbox.holder.as_ref().unwrap().caller;
        let released = a
            .client
            .release(sandbox.id().as_str(), caller.as_str())
            .await;
        assert_eq!(released.status, 200);
    }
    let holders = burst(brokers, (0..20).map(|n| format!("new-{n}"))).await;
    assert_eq!(holders.len(), 1);
    assert_eq!(held(&pool).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_that_changes_during_a_burst_is_never_exceeded_by_more_than_the_largest() {
    let pool = Pool::of(120).await;
    let (a, b) = two_brokers(&pool, 10).await;
    let brokers = [&a.client, &b.client];
    let changes = async {
        for quota in [25, 0, 10, 20] {
            set_quota(&a.client, quota).await;
            tokio::task::yield_now().await;
        }
    };
    let (first, ()) = tokio::join!(
        burst(brokers, (0..100).map(|n| format!("play-{n}"))),
        changes
    );
    let count = held(&pool).await.len();
    assert!(count <= 25 && count == first.len(), "{count}");
    until_known(&b.client, &a.client).await;
    let second = burst(brokers, (0..60).map(|n| format!("new-{n}"))).await;
    assert_eq!(held(&pool).await.len(), 20.max(count));
    assert_eq!(second.len(), 20_usize.saturating_sub(count));
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_is_kept_and_used_after_a_broker_was_killed_in_a_burst() {
    let _alone = run_alone().await;
    let pool = Pool::of(100).await;
    let a = pool.broker().await;
    // That of the other process.
    a.clock.set(SystemClock.now());
    set_quota(&a.client, 30).await;
    let directory = tempfile::tempdir().unwrap();
    let killed = BrokerProcess::serve(directory.path(), &pool.variables(&[]));
    let answered = Arc::new(Semaphore::new(0));
    let requests: Vec<_> = (0..60)
        .map(|n| {
            let (client, answered) = (killed.client.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                let request = client.allocation_in(LAB, &format!("play-{n}"));
                let _ = client.try_send(request).await;
                answered.add_permits(1);
            })
        })
        .collect();
    let _ = answered.acquire_many(3).await.unwrap();
    killed.kill();
    join_all(requests).await;
    let before = held(&pool).await.len();
    println!("{before} held when the broker was killed");
    // Callers without an answer may hold a sandbox, and get it again.
    let callers = (0..60).map(|n| format!("play-{n}"));
    let holders = burst([&a.client, &a.client], callers).await;
    assert_eq!(holders.len(), 30);
    assert_eq!(assert_each_has_one(&pool.holdings().await), 30);
}

/// The last slot is taken by another broker between the read and the attempt.
#[tokio::test(flavor = "multi_thread")]
async fn caller_whose_slot_was_taken_meanwhile_is_refused_after_a_new_read() {
    let pool = Pool::of(9).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let a = pool.broker().await;
    set_quota(&a.client, 1).await;
    let b = pool.broker_behind(&proxy).await;
    let gate = proxy.hold_operation("TransactWriteItems");
    let late = allocate(&b.client, "late");
    let first = async {
        gate.wait_for_one().await;
        allocated(&a.client, "first").await;
        gate.open();
    };
    let (late, ()) = tokio::join!(late, first);
    assert_eq!(late.code(), "LAB_QUOTA_REACHED", "{late:?}");
    assert_eq!(held(&pool).await.len(), 1);
}
