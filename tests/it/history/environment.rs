//! Everything beside the clients and CSP: jobs, operators, crashes, clocks, and scans of the table.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use reqwest::Method;
use sandbox_broker::{clock::Clock, domain::Activity};
use serde_json::json;
use tokio::time::sleep;

use super::{
    accounts::{add_sandboxes, some},
    calls::{TIMEOUT, Wanted},
    event::{AllocateAnswer, EventKind, RELEASE_LISTED, ReleaseAnswer},
    filled_pool,
    memories::{CALLERS, Remembered},
    pool,
    world::World,
};
use crate::support::ADMIN;

/// The jobs with their relative frequencies.
const JOBS: [(&str, u32); 9] = [
    ("sync", 8),
    ("sync?force=true", 2),
    ("cleanup", 5),
    ("cleanup?retry_failed=true", 2),
    ("auto-expire", 2),
    ("auto-delete-stale?grace_period_hours=0", 1),
    ("auto-delete-stale?grace_period_hours=1", 1),
    ("bulk-delete?status=stale", 1),
    ("bulk-delete?status=deletion_failed", 1),
];

/// Longer than any answer to an order takes.
const ORDER_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts jobs at random on one broker.
pub(super) async fn jobs(world: Arc<World>, broker: usize, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        let (job, _) = JOBS
            .choose_weighted(&mut rng, |(_, weight)| *weight)
            .unwrap();
        if world.brokers[broker].is_up() {
            world.job(broker, job).await;
        }
        sleep(Duration::from_millis(rng.random_range(1..30))).await;
    }
}

/// The actions of operators with their relative frequencies.
const ACTIONS: [(&str, u32); 6] = [
    ("release", 2),
    (RELEASE_LISTED, 2),
    ("extend", 5),
    ("quarantine", 3),
    ("restore", 3),
    ("delete", 1),
];

/// Acts on single sandboxes: on those that callers remember, on new ones, and on those that it has set aside.
pub(super) async fn operators(world: Arc<World>, seed: u64) {
    const MINUTES: [u64; 4] = [1, 90, 200, 600];
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut aside: Vec<String> = Vec::new();
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(2..25))).await;
        let (action, _) = ACTIONS
            .choose_weighted(&mut rng, |(_, weight)| *weight)
            .unwrap();
        let of_a_caller = world
            .memories
            .some_of(rng.random_range(0..CALLERS), &mut rng);
        if *action == RELEASE_LISTED {
            if let Some(listed) = of_a_caller {
                release_listed(&world, &listed, &mut rng).await;
            }
            continue;
        }
        let is_back = matches!(*action, "restore" | "delete") && rng.random_bool(0.8);
        let sandbox = if is_back && !aside.is_empty() {
            Some(aside.swap_remove(rng.random_range(0..aside.len())))
        } else if rng.random_bool(0.6) {
            of_a_caller.map(|remembered| remembered.sandbox)
        } else {
            let accounts = world.simulator.accounts();
            some(&accounts, &mut rng).map(|account| account.csp_id.to_string())
        };
        let Some(sandbox) = sandbox else { continue };
        let mut body = json!({ "reason": "history" });
        if *action == "extend" {
            body["minutes"] = json!(MINUTES.choose(&mut rng));
        }
        if *action == "quarantine" && rng.random_bool(0.3) {
            body["until"] = json!(world.clock.now().0 + 1800);
        }
        let broker = rng.random_range(0..2);
        let other = rng.random_bool(0.3).then_some(1 - broker);
        let first = world.act(broker, &sandbox, action, &body);
        let is_done = match other {
            // Both brokers at once.
            Some(other) => {
                let (first, second) =
                    tokio::join!(first, world.act(other, &sandbox, action, &body));
                first || second
            }
            None => first.await,
        };
        if is_done && *action == "quarantine" {
            aside.push(sandbox);
        }
    }
}

/// Releases an allocation as it may have been listed, sometimes on both brokers at once.
async fn release_listed(world: &World, listed: &Remembered, rng: &mut SmallRng) {
    let broker = rng.random_range(0..2);
    let first = world.release_listed(broker, listed);
    if rng.random_bool(0.3) {
        tokio::join!(first, world.release_listed(1 - broker, listed));
    } else {
        first.await;
    }
}

/// Acts on sandboxes in each way, and lets an allocation expire. In a short history on a slow engine this may not have
/// happened by itself.
pub(super) async fn act_in_each_way(world: &World) {
    add_sandboxes(world).await;
    let reason = json!({ "reason": "history" });
    let newest = world.simulator.accounts().pop().unwrap();
    let newest = newest.csp_id.to_string();
    for action in ["quarantine", "restore", "quarantine", "delete"] {
        world.act(0, &newest, action, &reason).await;
    }
    let [released, aside, expiring, listed] = [1, 2, 3, 4].map(|number| async move {
        let caller = format!("operated-{number}");
        let pair = (caller.as_str(), caller.as_str());
        match world.allocate(0, pair, Wanted::default(), TIMEOUT).await {
            AllocateAnswer::New(grant) => Remembered::new(&grant, &caller),
            other => panic!("no sandbox in the calm phase: {other:?}"),
        }
    });
    let seen = released.await;
    let released = seen.sandbox.clone();
    let extension = json!({ "minutes": 600, "reason": "history" });
    world.act(0, &released, "extend", &extension).await;
    world.release_listed(0, &seen).await;
    for broker in 0..2 {
        world.act(broker, &released, "release", &reason).await;
    }
    let aside = aside.await.sandbox;
    for action in ["quarantine", "restore"] {
        world.act(0, &aside, action, &reason).await;
    }
    world.release_listed(0, &listed.await).await;
    let expiring = expiring.await.sandbox;
    world.advance(Duration::from_hours(3));
    // In a short history no caller may have released its sandbox between the end of its allocation and the expiry.
    let late = world.release(0, &expiring, "operated-3", TIMEOUT).await;
    assert_eq!(late, ReleaseAnswer::Expired);
    world.complete_job("auto-expire").await;
    // A sandbox whose quarantine has ended may have returned to `provisioning`.
    world.complete_job("check").await;
}

impl World {
    /// Runs a job to completion, once earlier runs or their leases have ended.
    pub(super) async fn complete_job(&self, job: &str) {
        const ATTEMPTS: u32 = 100;
        for _ in 0..ATTEMPTS {
            if self.job(0, job).await {
                return;
            }
            self.advance(Duration::from_mins(1));
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{job} does not succeed in the calm phase");
    }

    pub(super) fn advance(&self, span: Duration) {
        let began = self.recorder.now();
        let (from, to) = self.clock.advance(span);
        self.recorder
            .record(began, EventKind::ClockAdvanced { from, to });
    }

    /// Sets or ends a pause, and returns whether it did.
    async fn order(&self, broker: usize, method: Method, activity: Activity) -> bool {
        let base = self.brokers[broker].base();
        let url = format!("{base}/v1/admin/pauses/{activity}");
        let order = self.http.request(method, url).bearer_auth(ADMIN);
        let order = order.json(&serde_json::json!({ "reason": "history" }));
        let answer = order.timeout(ORDER_TIMEOUT).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Runs a job and returns whether it succeeded.
    pub(super) async fn job(&self, broker: usize, job: &str) -> bool {
        let began = self.recorder.now();
        let url = format!("{}/v1/admin/{job}", self.brokers[broker].base());
        let run = async {
            let answer = self.http.post(url).bearer_auth(ADMIN).send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.json().await?))
        };
        let report = run.await.ok();
        let report = report.and_then(|(status, report)| status.is_success().then_some(report));
        let has_succeeded = report.is_some();
        let name = job.to_owned();
        self.recorder.record(began, EventKind::Job { name, report });
        has_succeeded
    }
}

/// Kills brokers and restarts them.
pub(super) async fn crashes(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while world.plan.crashes && !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(2000..6000))).await;
        if world.is_over() {
            return;
        }
        let broker = rng.random_range(0..2);
        world.kill(broker).await;
        sleep(Duration::from_millis(rng.random_range(0..100))).await;
        world.start(broker).await;
    }
}

/// Pauses activities for a moment, one after the other.
pub(super) async fn pauses(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(500..3000))).await;
        let activity = *Activity::ALL.choose(&mut rng).unwrap();
        // Half of the pauses are of allocations.
        let activity = if rng.random_bool(0.5) {
            Activity::Allocations
        } else {
            activity
        };
        let began = world.recorder.now();
        let broker = rng.random_range(0..2);
        world.order(broker, Method::PUT, activity).await;
        let kind = EventKind::PauseOrdered {
            activity: activity.to_string(),
        };
        world.recorder.record(began, kind);
        sleep(Duration::from_millis(rng.random_range(50..500))).await;
        let broker = rng.random_range(0..2);
        world.order(broker, Method::DELETE, activity).await;
    }
}

/// Ends all pauses, and waits until both brokers know it. No fault is injected any more.
pub(super) async fn end_pauses(world: &World) {
    for activity in Activity::ALL {
        let ended = world.order(0, Method::DELETE, activity).await;
        assert!(ended, "{activity} stays paused");
    }
    for broker in &world.brokers {
        let url = format!("{}/v1/admin/pauses", broker.base());
        let listed = world.http.get(url).bearer_auth(ADMIN).send().await;
        let listed: serde_json::Value = listed.unwrap().json().await.unwrap();
        assert_eq!(listed["pauses"], serde_json::json!([]));
    }
}

/// Sets the clocks forward: leases expire, deletions become due, allocations become overdue.
pub(super) async fn clocks(world: Arc<World>, seed: u64) {
    const MINUTES: [u64; 5] = [1, 2, 10, 45, 60];
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(300..2500))).await;
        let span = Duration::from_mins(*MINUTES.choose(&mut rng).unwrap());
        world.advance(span);
        // Every lease of a job is over by then. Sometimes a run of refill may wait for requests of an earlier one.
        if rng.random_bool(0.1) {
            sleep(filled_pool::SETTLE + Duration::from_secs(2)).await;
        }
    }
}

/// Scans the table repeatedly.
pub(super) async fn scans(world: Arc<World>) {
    while !world.is_over() {
        sleep(world.plan.between_tables).await;
        let began = world.recorder.now();
        let table = pool::table(&world.pool).await;
        world.count_used(&table);
        world.recorder.record(began, table);
    }
}
